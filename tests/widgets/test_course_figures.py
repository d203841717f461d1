"""The figures of the course: their numbers against closed forms and quadrature, every control at its
ends, and each of them captured.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pplwidgets
import pytest
import scipy.integrate
import scipy.optimize
import scipy.stats
import torch
from pplwidgets.charts import tables_read
from pplwidgets.course import explorer, gradients, player, predictive
from torch.utils._python_dispatch import TorchDispatchMode

import pplkit
import pplkit.distributions as dist
from pplkit.capture import capture

MAKERS = {
    "bernoulli_plate": {},
    "beta_bernoulli": {},
    "distribution_explorer": {},
    "gamma_poisson": {},
    "gradient_estimators": {},
    "plate_explorer": {},
    "posterior_predictive_check": {},
    "prior_over_functions": {},
    "svi_player": {},
}
FITTED = ("beta_bernoulli", "gamma_poisson", "svi_player")  # whose evaluation takes a while


@pytest.fixture(scope="module")
def made():
    """Figures by name, each made once."""
    figures = {}

    def make(name):
        if name not in figures:
            figures[name] = getattr(pplwidgets, name)()
        return figures[name]

    return make


def number(figure, table, column, **controls):
    return figure.evaluate(**controls)[table][column].double().item()


# -- the explorer ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", explorer.FAMILIES)
def test_density_distribution_function_and_moments_agree(made, name):
    family, figure = explorer.FAMILIES[name], made("distribution_explorer")
    for at in (0.1, 0.45, 0.8):
        found = figure.evaluate(family=name, pointer=at)
        table = found["mass" if family.whole else "density"]
        density, below = table["log_density"].double().exp(), table["below"].double()
        if family.whole:
            assert torch.allclose(density.cumsum(0), below, atol=2e-5)
        else:
            cell = (family.high - family.low) / len(density)
            by_sum = (
                density.cumsum(0) * cell - density * cell / 2 + below[0] - density[0] * cell / 2
            )
            assert torch.allclose(by_sum, below, atol=0.6 * cell * density.max().item() + 1e-3)
        share = family.low + at * (family.high - family.low)
        assert abs(found["pointer"]["x"].item() - share) <= (0.5 if family.whole else 1e-4)
        inside = table["below"].diff()
        assert (inside >= -1e-5).all() and 0 <= below.min() and below.max() <= 1 + 1e-5
        assert math.isclose(
            found["here"]["density"].item(), found["here"]["log_density"].exp().item()
        )


@pytest.mark.parametrize(
    "name", ["Normal", "Gamma", "Beta", "Poisson", "Binomial", "StudentT", "VonMises"]
)
def test_the_explorer_says_what_scipy_says(made, name):
    theirs = {
        "Normal": scipy.stats.norm(0.0, 1.0),
        "Gamma": scipy.stats.gamma(2.0, scale=1 / 1.5),
        "Beta": scipy.stats.beta(2.0, 3.0),
        "Poisson": scipy.stats.poisson(1.5),
        "Binomial": scipy.stats.binom(10, 0.3),
        "StudentT": scipy.stats.t(4.0),
        "VonMises": scipy.stats.vonmises(2.0),
    }[name]
    found = made("distribution_explorer").evaluate(family=name, pointer=0.55)
    x = found["pointer"]["x"].item()
    density = theirs.pmf(x) if explorer.FAMILIES[name].whole else theirs.pdf(x)
    assert math.isclose(found["here"]["density"].item(), density, rel_tol=1e-4)
    assert math.isclose(found["pointer"]["below"].item(), theirs.cdf(x), rel_tol=1e-4)
    assert math.isclose(found["moments"]["mean"].item(), theirs.mean(), abs_tol=1e-5)
    assert math.isclose(found["moments"]["variance"].item(), theirs.var(), rel_tol=1e-5)


@pytest.mark.parametrize("name", explorer.FAMILIES)
def test_the_explorer_at_the_ends_of_its_sliders(made, name):
    figure, family = made("distribution_explorer"), explorer.FAMILIES[name]
    for ends in itertools.product((0, 1), repeat=len(family.sliders)):
        picked = {s: explorer._SLIDERS[s][end] for s, end in zip(family.sliders, ends, strict=True)}
        for at in (0.0, 1.0):
            drawable(figure, family=name, pointer=at, **picked)


def test_the_explorer_shows_the_sliders_of_a_family_alone():
    figure = pplwidgets.distribution_explorer("Normal", "Gamma")
    when = {c["name"]: c.get("when") for c in figure._controls}
    assert when["loc"] == {"family": ["Normal"]} and when["rate"] == {"family": ["Gamma"]}
    assert when["pointer"] is None and "df" not in when
    with pytest.raises(ValueError, match="Gamma"):
        pplwidgets.distribution_explorer("Gama")


# -- plates ------------------------------------------------------------------------------------


def test_a_plates_log_probabilities_sum_up(made):
    found = made("plate_explorer").evaluate(plate_size=17, z=0.4)
    rows = found["rows"]
    truth = scipy.stats.norm(0.4, 1.0).logpdf(rows["x"].numpy())
    assert np.allclose(rows["log_prob"].numpy(), truth, atol=1e-5)
    assert np.allclose(rows["sum"].numpy(), truth.cumsum(), atol=1e-4)
    assert math.isclose(found["total"]["log_prob"].item(), truth.sum(), rel_tol=1e-5)


def test_operations_of_plate_and_loop_are_those_of_real_runs(made):
    class Counter(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            Counter.count += 1
            return func(*args, **(kwargs or {}))

    def loop():
        for i in range(9):
            pplkit.sample(f"x_{i}", dist.Normal(0.0, 1.0))

    def whole():
        with pplkit.plate("data", 9):
            pplkit.sample("x", dist.Normal(0.0, 1.0))

    counted = []
    for model in (whole, loop):
        Counter.count = 0
        quiet = pplkit.handlers.condition(model, data={})
        with Counter():
            seeded = pplkit.handlers.seed(quiet, rng_seed=0)
            pplkit.handlers.trace(seeded).get_trace().log_prob_sum()
        counted.append(Counter.count)
    work = made("plate_explorer").evaluate(plate_size=9)["work"]
    assert [work["plate"].item(), work["loop"].item()] == counted
    assert counted[1] > 3 * counted[0]


# -- prior to posterior ------------------------------------------------------------------------


@pytest.mark.parametrize(("heads", "tails", "size"), [(2.0, 2.0, 5), (8.0, 1.0, 30), (1.0, 5.0, 1)])
def test_beta_bernoulli(made, heads, tails, size):
    found = made("beta_bernoulli").evaluate(prior_heads=heads, prior_tails=tails, plate_size=size)
    seen = found["data"]["said"].item()
    exact = scipy.stats.beta(heads + seen, tails + size - seen)
    assert math.isclose(found["exact"]["mean"].item(), exact.mean(), rel_tol=1e-5)
    assert math.isclose(found["exact"]["sd"].item(), exact.std(), rel_tol=1e-5)
    z, weights = np.linspace(0.0005, 0.9995, 1000), None
    logit = np.log(z / (1 - z))
    weights = _best_normal(
        lambda x: exact.logpdf(1 / (1 + np.exp(-x))) - x - 2 * np.log1p(np.exp(-x))
    )
    density = scipy.stats.norm(*weights).pdf(logit) / (z * (1 - z))
    mean = (z * density).sum() / density.sum()
    assert abs(found["fitted"]["mean"].item() - mean) < 0.02
    assert abs(found["fitted"]["mean"].item() - exact.mean()) < 0.06


@pytest.mark.parametrize(("shape", "rate", "size"), [(2.0, 0.5, 4), (8.0, 3.0, 1), (1.0, 0.2, 60)])
def test_gamma_poisson(made, shape, rate, size):
    controls = {"concentration": shape, "rate": rate, "plate_size": size}
    found = made("gamma_poisson").evaluate(**controls)
    exact = scipy.stats.gamma(shape + found["data"]["said"].item(), scale=1 / (rate + size))
    assert math.isclose(found["exact"]["mean"].item(), exact.mean(), rel_tol=1e-5)
    assert math.isclose(found["exact"]["sd"].item(), exact.std(), rel_tol=1e-5)
    loc, scale = _best_normal(lambda x: exact.logpdf(np.exp(x)) + x)
    mean = math.exp(loc + scale**2 / 2)
    assert abs(found["fitted"]["mean"].item() - mean) < 0.06 * (1 + mean)


def _best_normal(log_density) -> tuple[float, float]:
    """The Normal closest to a density, by quadrature: what a perfect optimiser would find."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()

    def loss(at):
        loc, scale = at[0], math.exp(at[1])
        return -(weights * log_density(loc + scale * nodes)).sum() - at[1]

    found = scipy.optimize.minimize(loss, [0.0, -0.5], method="Nelder-Mead")
    return found.x[0], math.exp(found.x[1])


# -- coins -------------------------------------------------------------------------------------


def test_heads_turn_up_one_by_one(made):
    figure, before = made("bernoulli_plate"), None
    for p in (0.0, 0.2, 0.21, 0.8, 1.0):
        found = figure.evaluate(a=p, rows=100)
        heads = found["tosses"]["heads"].reshape(100, 5)[:, 0]
        assert found["a"]["heads"].item() == heads.sum().item()
        assert math.isclose(
            found["coins"]["frequency"][0].item(), heads.double().mean(), abs_tol=1e-6
        )
        if before is not None:
            assert (heads >= before).all()
        before = heads
    assert before.all() and number(figure, "a", "heads", a=0.0, rows=400) == 0


def test_a_growing_plate_of_tosses_keeps_its_rows(made):
    few, many = (made("bernoulli_plate").evaluate(rows=n)["tosses"]["heads"] for n in (7, 400))
    assert torch.equal(few, many[: 7 * 5])


# -- SVI ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("guide", player._FAMILIES)
def test_the_elbo_of_the_player_is_that_of_quadrature(made, guide):
    figure = made("svi_player")
    found = figure.evaluate(guide=guide, step=40, learning_rate=0.2)
    loc, scale = found["now"]["loc"].item(), found["now"]["scale"].item()
    theirs = {
        "Normal": scipy.stats.norm(loc, scale),
        "Laplace": scipy.stats.laplace(loc, scale),
        "Uniform": scipy.stats.uniform(loc - scale, 2 * scale),
    }[guide]
    data = np.array([1.2, 0.8, 1.5, -0.3])

    def integrand(z):
        joint = scipy.stats.norm(0, 1).logpdf(z) + scipy.stats.norm(z, 0.5).logpdf(data).sum()
        return theirs.pdf(z) * (joint - theirs.logpdf(z))

    low, high = theirs.ppf([1e-9, 1 - 1e-9])
    elbo = scipy.integrate.quad(integrand, low, high, limit=200, points=[loc])[0]
    assert math.isclose(found["now"]["elbo"].item(), elbo, abs_tol=1e-2)
    assert found["now"]["elbo"] <= found["best"]["elbo"] + 1e-4 <= found["best"]["evidence"] + 2e-4


def test_the_player_replays_one_run(made):
    figure = made("svi_player")
    early, late = (figure.evaluate(step=step) for step in (10, 150))
    assert torch.equal(early["losses"]["loss"], late["losses"]["loss"])
    assert torch.equal(early["path"]["loc"], late["path"]["loc"])
    assert early["path"]["past"].sum() == 11
    assert early["now"]["loc"] == early["path"]["loc"][10]
    assert late["now"]["elbo"] > early["now"]["elbo"]
    assert late["path"]["loc"][0].item() == pytest.approx(-1.8)


def test_more_particles_scatter_less(made):
    rough, calm = (
        made("svi_player").evaluate(particles=n)["losses"]["loss"][80:].std() for n in (1, 50)
    )
    assert calm < rough / 2


# -- gradients ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("particles", "location", "scale"), [(1, 0.0, 0.5), (16, 1.0, 0.3)])
def test_gradient_estimates_have_the_variance_that_they_must(particles, location, scale):
    figure = pplwidgets.gradient_estimators()
    controls = {"particles": particles, "location": location, "scale": scale}
    tries = [figure.evaluate(seed=s, **controls) for s in range(8)]
    precision, mean = gradients._PRECISION, gradients._MEAN
    true = -precision * (location - mean)
    eps = np.random.default_rng(0).standard_normal(400_000)
    z = location + scale * eps
    gap = (
        -0.5 * precision * (z - mean) ** 2
        + 0.5 * math.log(precision)
        + 0.5 * eps**2
        + math.log(scale)
    )
    by_hand = {
        "pathwise": -precision * (z - mean) + eps / scale - eps / scale,
        "score": gap * eps / scale,
    }
    for name, values in by_hand.items():
        drawn = torch.cat([t[name]["estimate"] for t in tries]).double()
        wanted = values.std() / math.sqrt(particles)
        assert abs(drawn.mean().item() - true) < 5 * wanted / math.sqrt(len(drawn))
        assert abs(drawn.std().item() / wanted - 1) < 0.15, name
    assert tries[0]["true"]["gradient"].item() == pytest.approx(true, rel=1e-4)


# -- predictive check --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_statistics_are_those_of_counting(made, seed):
    figure = made("posterior_predictive_check")
    for statistic in predictive._STATISTICS:
        found = figure.evaluate(statistic=statistic, memory=0.6, seed=seed)
        data = found["tosses"]["heads"].reshape(6, -1)[0].tolist()
        runs = [len(list(same)) for _, same in itertools.groupby(data)]
        wanted = {"heads": sum(data), "changes of side": len(runs) - 1, "longest run": max(runs)}
        assert found["seen"]["value"].item() == wanted[statistic]
        assert found["replicated"]["count"].sum() == 400
        below = found["replicated"]["count"][: wanted[statistic] + 1].sum().item()
        assert found["share"]["percent"].item() == pytest.approx(below / 4, abs=1e-3)


def test_memory_is_noticed_by_changes_and_not_by_heads(made):
    figure, seeds = made("posterior_predictive_check"), range(9)

    def share(memory, statistic):
        controls = {"memory": memory, "statistic": statistic}
        found = [number(figure, "share", "percent", seed=seed, **controls) for seed in seeds]
        return sorted(found)[len(found) // 2]

    assert share(0.7, "changes of side") < 2.5
    assert 20 < share(0.0, "changes of side") < 90
    assert 20 < share(0.7, "heads") < 90


# -- functions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [1, 4, 30])
def test_functions_are_those_of_bayesian_regression(made, points):
    found = made("prior_over_functions").evaluate(
        points=points, prior_scale=0.8, width=0.7, noise=0.3, x=1.0
    )
    centres = np.linspace(-3.5, 3.5, 8)
    bumps = lambda x: np.exp(-0.5 * ((x[:, None] - centres) / 0.7) ** 2)
    phi = bumps(found["points"]["x"].double().numpy())
    covariance = np.linalg.inv(np.eye(8) / 0.64 + phi.T @ phi / 0.09)
    mean = covariance @ phi.T @ found["points"]["y"].double().numpy() / 0.09
    here = bumps(np.array([1.0]))
    assert found["there"]["mean"].item() == pytest.approx((here @ mean).item(), abs=1e-3)
    sd = math.sqrt((here @ covariance @ here.T).item())
    assert found["there"]["sd"].item() == pytest.approx(sd, rel=1e-3)


def test_without_a_look_there_is_the_prior(made):
    figure = made("prior_over_functions")
    found = figure.evaluate(look=False, points=9)
    assert found["left"]["share"].item() == pytest.approx(100, abs=1e-3)
    assert found["band"]["mean"].abs().max() < 1e-6


def test_words_name_the_controls_that_are_seen(made):
    words = made("distribution_explorer").still().partition("Drawn at ")[2].partition(". ")[0]
    assert words == "family Normal, loc 0, scale 1, pointer 0.6"


# -- all ---------------------------------------------------------------------------------------


def drawable(figure, **controls):
    """Evaluates; whatever the chart reads is finite."""
    found = figure.evaluate(**controls)
    for name in tables_read(figure._spec) & found.keys():
        for column, values in found[name].items():
            assert torch.isfinite(values.double()).all(), (name, column, controls)


@pytest.mark.parametrize("name", [n for n in MAKERS if n != "distribution_explorer"])
def test_every_control_at_its_ends(made, name):
    figure = made(name)
    ends = {}
    for control in figure._by_name.values():
        if control.kind == "range":
            ends[control.name] = (control.low, control.high)
        else:
            ends[control.name] = (
                [False, True]
                if control.kind == "check"
                else [value for _, value in control.choices]
            )
    corners = [dict(zip(ends, values, strict=True)) for values in itertools.product(*ends.values())]
    for corner in corners[:: max(1, len(corners) // (6 if name in FITTED else 32))]:
        drawable(figure, **corner)


@pytest.mark.parametrize("name", MAKERS)
def test_each_is_captured(made, name):
    """One graph serves all settings of the numbers, on given noise as the function itself."""
    figure = made(name)
    now = {n: getattr(figure, n) for n in figure._by_name}
    moving = [n for n, c in figure._by_name.items() if c.kind == "range"]
    fixed = {n: value for n, value in now.items() if n not in moving}

    def columns(numbers):
        return figure._fn(**numbers, **fixed)

    captured = capture(columns, {n: now[n] for n in moving}, check=False)
    low = {n: figure._by_name[n].low for n in moving}
    other = {n: now[n] if figure._by_name[n].whole else 0.7 * now[n] + 0.3 * low[n] for n in moving}
    noise = captured.draw_noise(other, seed=1)
    found, wanted = captured(other, noise=noise), captured.eager(other, noise=noise)
    for table, columns_ in wanted.items():
        for column, values in columns_.items():
            ours = found[table][column].double()
            close = torch.allclose(
                ours, torch.as_tensor(values).double(), 1e-3, 1e-3, equal_nan=True
            )
            assert close, (table, column)
    assert len(captured.programs) == 1


@pytest.mark.parametrize("name", MAKERS)
def test_each_says_in_words_what_it_shows(made, name):
    figure = made(name)
    html = figure.still()
    assert figure._words["title"] in html and "not finite" not in html
    assert figure._words["alt"][:30] in html
    for control in figure._controls:
        assert control["label"] and "_" not in control["label"]
