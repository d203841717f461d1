"""MCMC: closed forms, what chains have in common, and what is refused."""

import math
import warnings

import arviz
import pytest
import torch
from torch.distributions import constraints

import pplkit
import pplkit.distributions as dist
from pplkit import errors
from pplkit.infer import HMC, MCMC, NUTS, Predictive, config_enumerate
from pplkit.infer.adaptation import DualAveraging, Metric, Spread
from pplkit.infer.autoguide.initialization import init_to_value
from pplkit.infer.hmc import hashed, uniforms
from pplkit.infer.potential import Density, Potential

pytestmark = pytest.mark.filterwarnings("ignore:.*diverged")


def f64(value):
    return torch.tensor(value, dtype=torch.float64)


def sampled(model, *args, kernel=NUTS, chains=16, draws=100, warmup=120, **more):
    settings = {k: more.pop(k) for k in list(more) if k not in ("seed", "initial_params")}
    mcmc = MCMC(
        kernel(model, **settings), draws, warmup, num_chains=chains, compile=False,
        **({"seed": 3} | more),
    )  # fmt: skip
    mcmc.run(*args)
    return mcmc


def check(x, mean, sd):
    """Draws `(chains, draws)` have this mean and standard deviation, to four standard errors."""
    x = x.double().numpy()
    assert arviz.rhat(x) < 1.05
    assert abs(x.mean() - mean) < 4 * arviz.mcse(x, method="mean")
    assert abs(x.std() - sd) < 4 * arviz.mcse(x, method="sd")


# -- closed forms ----------------------------------------------------------------------------------


def beta_bernoulli(heads):
    p = pplkit.sample("p", dist.Beta(f64(2.0), f64(3.0)))
    with pplkit.plate("throws", len(heads)):
        pplkit.sample("heads", dist.Bernoulli(p), obs=heads)


def test_a_beta_posterior():
    draws = sampled(beta_bernoulli, f64([1, 1, 0, 1, 0, 1, 1])).get_samples(group_by_chain=True)
    exact = torch.distributions.Beta(7.0, 5.0)
    check(draws["p"], exact.mean, exact.stddev)


@pytest.mark.long
@pytest.mark.parametrize("kernel", [HMC, NUTS])
def test_a_gamma_posterior_by_both_kernels(kernel):
    def model(counts):
        rate = pplkit.sample("rate", dist.Gamma(f64(2.0), f64(1.0)))
        with pplkit.plate("data", len(counts)):
            pplkit.sample("counts", dist.Poisson(rate), obs=counts)

    more = {"trajectory_length": 2.0} if kernel is HMC else {}
    mcmc = sampled(model, f64([3, 1, 4, 1, 5]), kernel=kernel, **more)
    check(mcmc.get_samples(group_by_chain=True)["rate"], 16 / 6, 4 / 6)


@pytest.mark.long
def test_a_dirichlet_posterior():
    def model(counts):
        p = pplkit.sample("p", dist.Dirichlet(torch.ones(3, dtype=torch.float64)))
        pplkit.sample("counts", dist.Multinomial(10, p), obs=counts)

    draws = sampled(model, f64([5, 3, 2])).get_samples(group_by_chain=True)["p"]
    exact = torch.distributions.Dirichlet(f64([6, 4, 3]))
    torch.testing.assert_close(draws.sum(-1), torch.ones_like(draws[..., 0]))
    for i in range(3):
        check(draws[..., i], exact.mean[i], exact.stddev[i])


def correlated(size):
    """A covariance with scales from 0.1 to 10, and correlations."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(size, size, generator=generator, dtype=torch.float64) / math.sqrt(size)
    mixed = torch.eye(size, dtype=torch.float64) + 0.7 * noise
    scales = torch.logspace(-1, 1, size, dtype=torch.float64)
    covariance = mixed @ mixed.T
    return scales[:, None] * covariance * scales


@pytest.mark.long
@pytest.mark.parametrize("full_mass", [False, True])
def test_a_gaussian_of_fifty_dimensions(full_mass):
    covariance = correlated(50)
    root = torch.linalg.cholesky(covariance)

    def model():
        zero = torch.zeros(50, dtype=torch.float64)
        pplkit.sample("x", dist.MultivariateNormal(zero, scale_tril=root))

    # A chain learns 1,275 covariances by itself: from 50 transitions, as 200 of warm-up leave, it cannot.
    mcmc = sampled(model, full_mass=full_mass, draws=80, warmup=500 if full_mass else 200)
    x = mcmc.get_samples(group_by_chain=True)["x"]
    for i in (0, 7, 24, 42, 49):
        check(x[..., i], 0.0, covariance[i, i].sqrt())
    standard = torch.linalg.solve_triangular(root, x.flatten(0, 1).T, upper=False).T
    assert abs(standard.T @ standard / len(standard) - torch.eye(50)).max() < 0.35
    if full_mass:  # a metric that fits makes a round Gaussian of it: short paths
        assert mcmc.get_extra_fields()["num_steps"].double().mean() < 16


def test_a_mixture_with_its_labels_summed_out():
    y = f64([-1.2, 2.9, 3.4, -0.4, 3.1])

    def model(y):
        loc = pplkit.sample("loc", dist.Normal(f64(0.0), 3.0))
        with pplkit.plate("data", len(y)):
            label = pplkit.sample(
                "label", dist.Bernoulli(f64(0.4)), infer={"enumerate": "parallel"}
            )
            pplkit.sample("y", dist.Normal(label * loc, 1.0), obs=y)

    def density(loc):
        each = torch.logaddexp(
            dist.Normal(0.0, 1.0).log_prob(y) + math.log(0.6),
            dist.Normal(loc[:, None], 1.0).log_prob(y) + math.log(0.4),
        )
        return each.sum(-1) + dist.Normal(0.0, 3.0).log_prob(loc)

    grid = torch.linspace(-15, 15, 6001, dtype=torch.float64)
    weights = (density(grid) - density(grid).max()).exp()
    mean = (weights * grid).sum() / weights.sum()
    sd = ((weights * (grid - mean) ** 2).sum() / weights.sum()).sqrt()
    # One mode of the posterior is far above all others.
    mcmc = sampled(model, y)
    check(mcmc.get_samples(group_by_chain=True)["loc"], mean, sd)


@pytest.mark.long
def test_a_hidden_markov_model_with_its_states_summed_out():
    y = f64([0.1, 0.3, 2.2, 1.9, 2.4, -0.2])
    stay = f64(0.8)

    def model(y):
        gap = pplkit.sample("gap", dist.LogNormal(f64(0.5), f64(0.5)))
        state = 0
        for t in pplkit.markov(range(len(y))):
            p = torch.where(torch.as_tensor(state) == 1, stay, 1 - stay)
            state = pplkit.sample(f"state_{t}", dist.Bernoulli(p))
            pplkit.sample(f"y_{t}", dist.Normal(state * gap, 0.7), obs=y[t])

    def density(gap):
        forward = None
        for t in range(len(y)):
            emit = torch.stack([dist.Normal(s * gap, 0.7).log_prob(y[t]) for s in (0.0, 1.0)])
            if forward is None:
                forward = emit + torch.stack([stay.log(), (1 - stay).log()])[:, None]
                continue
            same, other = forward + stay.log(), forward + (1 - stay).log()
            forward = emit + torch.stack([torch.logaddexp(same[s], other[1 - s]) for s in (0, 1)])
        return forward.logsumexp(0) + dist.LogNormal(0.5, 0.5).log_prob(gap)

    grid = torch.linspace(1e-3, 15, 6001, dtype=torch.float64)
    weights = (density(grid) - density(grid).max()).exp()
    mean = (weights * grid).sum() / weights.sum()
    sd = ((weights * (grid - mean) ** 2).sum() / weights.sum()).sqrt()
    mcmc = sampled(config_enumerate(model), y)
    check(mcmc.get_samples(group_by_chain=True)["gap"], mean, sd)


@pytest.mark.long
def test_a_support_that_depends_on_another_variable():
    def model():
        top = pplkit.sample("top", dist.Uniform(f64(1.0), f64(3.0)))
        pplkit.sample("x", dist.Uniform(f64(0.0), top))

    draws = sampled(model, draws=100).get_samples(group_by_chain=True)
    assert (draws["x"] < draws["top"]).all() and (draws["x"] > 0).all()
    check(draws["top"], 2.0, math.sqrt(1 / 3))
    # x given top has mean top/2 and variance top^2/12.
    check(draws["x"], 1.0, math.sqrt((13 / 3) / 12 + (1 / 3) / 4))


def test_a_potential_function():
    mcmc = MCMC(
        NUTS(potential_fn=lambda z: 0.5 * ((z["x"] - 1.0) / 2.0).square().sum()), 150, 120,
        num_chains=8, initial_params={"x": torch.zeros(8, 2, dtype=torch.float64)}, seed=0,
        compile=False,
    )  # fmt: skip
    mcmc.run()
    check(mcmc.get_samples(group_by_chain=True)["x"][..., 0], 1.0, 2.0)


# -- the parts -------------------------------------------------------------------------------------


def test_the_potential_is_the_negative_log_joint_with_volumes():
    def model(y):
        scale = pplkit.sample("scale", dist.Gamma(f64(2.0), f64(1.0)))
        p = pplkit.sample("p", dist.Dirichlet(f64([1.0, 2.0, 3.0])))
        pplkit.sample("y", dist.Normal(p[0], scale), obs=y)

    y, rows = f64(0.4), torch.randn(3, 3, dtype=torch.float64)
    potential = Potential(Density(model, (y,), {}), (y,), {})
    assert potential.captured is not None
    value, grad = potential(rows)
    stick = torch.distributions.biject_to(constraints.simplex)
    for row, found in zip(rows, value, strict=True):
        p = stick(row[1:])
        expected = (
            dist.Gamma(2.0, 1.0).log_prob(row[0].exp())
            + row[0]
            + dist.Dirichlet(f64([1.0, 2.0, 3.0])).log_prob(p)
            + stick.log_abs_det_jacobian(row[1:], p)
            + dist.Normal(p[0], row[0].exp()).log_prob(y)
        )
        torch.testing.assert_close(-found, expected)
    small = 1e-6 * torch.eye(3, dtype=torch.float64)
    for i in range(3):
        slope = (potential(rows + small[i])[0] - potential(rows - small[i])[0]) / 2e-6
        torch.testing.assert_close(grad[:, i], slope, atol=1e-7, rtol=1e-6)


def test_what_cannot_be_captured_runs_in_python_with_the_same_numbers():
    def model(branching):
        x = pplkit.sample("x", dist.Normal(f64(0.0), 1.0))
        doubled = 2 * x if branching and x > -100 else x + x
        pplkit.sample("y", dist.Normal(doubled, 1.0), obs=f64(1.0))

    plain, branching = (sampled(model, flag, chains=2, draws=20, warmup=20) for flag in (0, 1))
    assert branching.chains.potential.captured is None
    assert "asking a tensor for its number" in branching.chains.potential.why
    torch.testing.assert_close(plain.get_samples()["x"], branching.get_samples()["x"])


def test_random_bits_are_those_of_splitmix64():
    # The first numbers of Vigna's reference implementation from seed 1234567.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    found = hashed(torch.tensor([1234567]), torch.arange(3))
    assert [x & ((1 << 64) - 1) for x in found.tolist()] == expected
    uniform = uniforms(torch.arange(1000)[:, None], torch.arange(100))
    assert uniform.min() >= 0 and uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 4 * math.sqrt(1 / 12 / 1e5)


def test_the_covariance_of_a_window():
    rows = torch.randn(40, 2, 3, dtype=torch.float64)
    for dense in (False, True):
        spread = Spread.empty(Metric.unit(2, 3, dense))
        for number, row in enumerate(rows, 1):
            spread.add(row, number)
        for chain in range(2):
            covariance = torch.cov(rows[:, chain].T) * (40 / 45)
            shrunk = covariance + 1e-3 * 5 / 45 * torch.eye(3)
            found = spread.metric(40).covariance[chain]
            torch.testing.assert_close(found, shrunk if dense else shrunk.diagonal())


def test_momenta_have_the_mass_matrix_as_covariance():
    covariance = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    metric = Metric.of(covariance.expand(200_000, 2, 2))
    momenta = metric.momentum(torch.randn(200_000, 2, dtype=torch.float64))
    torch.testing.assert_close(torch.cov(momenta.T), covariance.inverse(), atol=0.01, rtol=0.02)


def test_step_sizes_reach_the_acceptance_asked_for():
    averaging = DualAveraging.around(f64([1.0]))
    for _ in range(2000):  # acceptance that falls with the step
        averaging.update((-averaging.log_step.exp()).exp(), 0.7)
    torch.testing.assert_close(averaging.log_mean.exp(), f64([-math.log(0.7)]), rtol=0.02, atol=0)
    mcmc = sampled(beta_bernoulli, f64([1, 0]), target_accept_prob=0.6, draws=200)
    assert abs(mcmc.get_extra_fields()["accept_prob"].mean() - 0.6) < 0.1


# -- what chains are told --------------------------------------------------------------------------


def simple(y):
    x = pplkit.sample("x", dist.Normal(f64(0.0), 1.0))
    with pplkit.plate("two", 2):
        pplkit.sample("z", dist.Gamma(f64(2.0), 1.0))
    pplkit.sample("y", dist.Normal(x, 1.0), obs=y)


def test_shapes_and_fields():
    mcmc = sampled(simple, f64(0.5), chains=3, draws=10, warmup=10)
    grouped, flat = mcmc.get_samples(group_by_chain=True), mcmc.get_samples()
    assert {name: tuple(x.shape) for name, x in grouped.items()} == {"x": (3, 10), "z": (3, 10, 2)}
    assert torch.equal(flat["z"], grouped["z"].reshape(30, 2))
    assert mcmc.get_samples(5)["z"].shape == (5, 2)
    fields = mcmc.get_extra_fields(group_by_chain=True)
    assert set(fields) == {"diverging", "energy", "accept_prob", "num_steps", "potential_energy"}
    assert all(x.shape == (3, 10) for x in fields.values())
    assert (fields["energy"] >= fields["potential_energy"]).all()
    at = Density(simple, (f64(0.5),), {})
    row = at.joined({"x": grouped["x"], "z": grouped["z"].log()}, 2)[1, 4]
    value = at.potential(at.split(row), (f64(0.5),), {})
    torch.testing.assert_close(fields["potential_energy"][1, 4], value)


def test_the_dtype_of_draws_is_the_model_s():
    def model():
        pplkit.sample("x", dist.Normal(0.0, 1.0))

    assert sampled(model, chains=1, draws=3, warmup=0).get_samples()["x"].dtype == torch.float32


def test_a_seed_makes_a_run_again():
    runs = [sampled(simple, f64(0.5), chains=2, draws=8, warmup=8, seed=s) for s in (7, 7, 8)]
    first, again, other = (run.get_samples()["x"] for run in runs)
    assert torch.equal(first, again) and not torch.equal(first, other)
    drawn = []
    for _ in range(2):
        with pplkit.handlers.seed(rng_seed=3):
            run = sampled(simple, f64(0.5), chains=2, draws=8, warmup=8, seed=None)
            drawn.append(run.get_samples()["x"])
    assert torch.equal(*drawn)


def test_predictions_from_draws():
    mcmc = sampled(simple, f64(0.5), chains=2, draws=50, warmup=50)
    y = Predictive(simple, mcmc.get_samples())(None)["y"]
    assert y.shape == (100, 1) and y.std() > 1.0  # the model's plate has a dimension


def test_an_interrupt_keeps_the_draws(monkeypatch):
    calls = []

    def stop_at(kernel, values, stage, i):
        calls.append((stage, i, sorted(values), values["z"].shape))
        if stage == "Sample" and i == 4:
            raise KeyboardInterrupt

    mcmc = MCMC(NUTS(simple), 20, 10, num_chains=2, seed=0, hook_fn=stop_at, compile=False)
    with pytest.raises(KeyboardInterrupt):
        mcmc.run(f64(0.5))
    whole = sampled(simple, f64(0.5), chains=2, draws=20, warmup=10, seed=0)
    kept = mcmc.get_samples(group_by_chain=True)["x"]
    assert torch.equal(kept, whole.get_samples(group_by_chain=True)["x"][:, :5])
    assert calls[0] == ("Warmup", 0, ["x", "z"], (2, 2)) and calls[10][:2] == ("Sample", 0)


def test_the_progress_bar_tells_acceptance_and_divergences(capsys):
    mcmc = MCMC(NUTS(simple), 5, 5, num_chains=2, seed=0, progress_bar=True, compile=False)
    mcmc.run(f64(0.5))
    told = capsys.readouterr().err
    assert "10/10" in told and "accept=" in told and "diverging=0" in told


def test_summary_and_diagnostics():
    mcmc = sampled(simple, f64(0.5), chains=4, draws=200)
    table = mcmc.summary()
    x = mcmc.get_samples(group_by_chain=True)
    assert float(table["x"]["r_hat"]) == arviz.rhat(x["x"].numpy())
    assert float(table["z"]["ess_tail"][1]) == arviz.ess(x["z"][..., 1].numpy(), method="tail")
    torch.testing.assert_close(table["z"]["5.0%"], x["z"].flatten(0, 1).quantile(0.05, 0))
    lines = str(table).splitlines()
    assert lines[0].split()[:3] == ["mean", "sd", "median"]
    assert [line.split()[0] for line in lines[1:]] == ["x", "z[0]", "z[1]", "divergences:"]
    found = mcmc.diagnostics()
    assert found["z"]["n_eff"].shape == (2,) and found["divergences"]["chain 0"] == []
    assert 0.5 < found["acceptance rate"]["chain 3"] <= 1.0


def test_divergences_are_told():
    def narrow():
        pplkit.sample("x", dist.Normal(f64(0.0), 0.01))

    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        stride = {"step_size": 1.0, "adapt_step_size": False}  # a hundred widths at once
        mcmc = sampled(narrow, chains=4, draws=20, warmup=5, **stride)
    diverged = int(mcmc.get_extra_fields()["diverging"].sum())
    assert diverged > 0
    assert str(shown[-1].message).startswith(f"{diverged} of 80 draws diverged")


def test_whole_numbers_among_the_arguments_are_sizes():
    def model(y, unseen, number):
        p = pplkit.sample("p", dist.Uniform(f64(0.0), 1.0))
        counts = torch.cat([y, y.new_zeros(unseen)])
        with pplkit.plate("data", len(counts)):
            pplkit.sample("y", dist.Binomial(number, p), obs=counts)

    given = f64([1.0, 3.0]), 4, 3
    density = Density(model, given, {})
    potential = Potential(density, given, {})
    assert potential.captured is not None, potential.why
    rows = f64([[0.3], [-1.0]])
    expected = [density.with_gradient({"p": row[0]}, given, {})[0] for row in rows]
    torch.testing.assert_close(potential(rows)[0], torch.stack(expected))


# -- what is refused -------------------------------------------------------------------------------


def flat():
    pplkit.sample("x", dist.ImproperUniform(constraints.real, (), ()))


def flat_above(y):
    scale = pplkit.sample("scale", dist.ImproperUniform(constraints.positive, (), ()))
    pplkit.sample("y", dist.Normal(0.0, scale), obs=y)


def separated(x):
    slope = pplkit.sample("slope", dist.ImproperUniform(constraints.real, (), ()))
    with pplkit.plate("data", len(x)):
        pplkit.sample("y", dist.Bernoulli(logits=slope * x), obs=(x > 0).to(x))


def unseen(y):
    with pplkit.handlers.mask(mask=False):
        pplkit.sample("x", dist.Normal(0.0, 1.0))
    pplkit.sample("z", dist.Normal(0.0, 1.0), obs=y)


@pytest.mark.parametrize(
    ("model", "args", "name"),
    [
        (flat, (), "x"),
        (flat_above, (torch.tensor(0.3),), "scale"),
        (separated, (torch.tensor([-1.0, 2.0, 0.5]),), "slope"),
        (unseen, (torch.tensor(0.0),), "x"),
    ],
)
def test_an_improper_posterior(model, args, name):
    with pytest.raises(errors.InferenceError, match="posterior is improper") as told:
        sampled(model, *args, chains=1, draws=5, warmup=5)
    assert told.value.site == name


def only_their_sum(y):
    a = pplkit.sample("a", dist.ImproperUniform(constraints.real, (), ()))
    b = pplkit.sample("b", dist.ImproperUniform(constraints.real, (), ()))
    c = pplkit.sample("c", dist.Normal(0.0, 1.0))
    with pplkit.plate("data", len(y)):
        pplkit.sample("y", dist.Normal(a - 2 * b + c, 1.0), obs=y)


def columns_that_say_the_same(x, y):
    slopes = pplkit.sample("slopes", dist.ImproperUniform(constraints.real, (), (2,))).to(x)
    with pplkit.plate("data", len(y)):
        pplkit.sample("y", dist.Normal(torch.stack([x, 3 * x], -1) @ slopes, 0.1), obs=y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("model", "columns", "found"),
    [
        (only_their_sum, 1, "as 'a', 'b' move together without end"),
        (columns_that_say_the_same, 2, "as 'slopes' moves without end"),
    ],
)
def test_a_posterior_without_end_along_no_axis(model, columns, found, dtype):
    data = [torch.linspace(-1, 2, 9, dtype=dtype) for _ in range(columns)]
    with pytest.raises(errors.InferenceError, match="posterior is improper") as told:
        sampled(model, *data, chains=1, draws=5, warmup=5)
    assert told.value.found.endswith(found)


def test_chains_that_run_away():
    """Into a cone that contains no axis, and with curvature wherever they start."""
    x = torch.tensor([[1.0, -0.5], [-0.5, 1.0]])

    def model():
        slopes = pplkit.sample("slopes", dist.ImproperUniform(constraints.real, (), (2,)))
        with pplkit.plate("data", 2):
            pplkit.sample("y", dist.Bernoulli(logits=x @ slopes), obs=torch.ones(2))

    with pytest.raises(errors.InferenceError, match="as 'slopes' moves without end"):
        sampled(model, chains=2, draws=20, warmup=20)


def vague_sum(y):
    a = pplkit.sample("a", dist.Normal(0.0, 1e4))
    b = pplkit.sample("b", dist.ImproperUniform(constraints.real, (), ()))
    with pplkit.plate("data", len(y)):
        pplkit.sample("y", dist.Normal(a + b, 1.0), obs=y)


def proper_normal(y):
    z = pplkit.sample("z", dist.ImproperUniform(constraints.real, (), ()))
    with pplkit.plate("data", len(y)):
        pplkit.sample("y", dist.Normal(z, 1.0), obs=y)


@pytest.mark.parametrize(
    ("model", "args"),
    [
        (proper_normal, (torch.randn(3),)),
        (lambda: pplkit.sample("x", dist.Cauchy(0.0, 1.0)), ()),
        (lambda: pplkit.sample("x", dist.Normal(0.0, 1e6)), ()),
        (lambda: pplkit.sample("x", dist.Gamma(0.01, 0.01)), ()),
        (lambda: pplkit.sample("x", dist.Beta(0.1, 0.1)), ()),
        (lambda: pplkit.sample("x", dist.Dirichlet(torch.full((4,), 0.1))), ()),
        (lambda: pplkit.sample("x", dist.LKJCholesky(3, 1.0)), ()),
        (lambda: pplkit.sample("x", dist.HalfCauchy(1.0)), ()),
        (lambda: pplkit.sample("x", dist.VonMises(0.0, 2.0)), ()),
    ],
)
def test_proper_posteriors_are_not_taken_for_improper_ones(model, args):
    with pplkit.handlers.block():  # not captured: that would take longer than the rest
        mcmc = sampled(model, *args, chains=2, draws=3, warmup=0)
    assert mcmc.chains.potential.captured is None
    assert all(x.isfinite().all() for x in mcmc.get_samples().values())


def test_a_vague_prior_holds_what_the_data_leave_open():
    mcmc = MCMC(NUTS(vague_sum, max_tree_depth=1), 3, warmup_steps=0, seed=0, compile=False)
    mcmc.run(torch.ones(3))
    assert mcmc.chains.potential.density.partly_improper


def test_a_start_where_the_density_is_zero():
    def model(y):
        width = pplkit.sample("width", dist.Uniform(0.0, 1.0))
        pplkit.sample("y", dist.Uniform(0.0, width), obs=y)

    with pytest.raises(errors.PplkitError, match="Cannot find valid initial") as told:
        sampled(model, torch.tensor(1.5), chains=1, draws=5, warmup=5)
    assert told.value.site == "y" and "1.5" in told.value.found
    with pytest.raises(errors.InferenceError, match="at initial_params"):
        sampled(
            model, torch.tensor(0.5), chains=1, draws=5, warmup=5,
            initial_params={"width": torch.tensor(-3.0)},
        )  # fmt: skip
    there = init_to_value(values={"width": torch.tensor(0.9)})
    mcmc = sampled(model, torch.tensor(0.5), chains=1, draws=5, warmup=0, init_strategy=there)
    assert (mcmc.get_samples()["width"] > 0.5).all()


def test_data_that_are_not_numbers():
    with pytest.raises(errors.PplkitError) as told:
        sampled(simple, f64(math.nan), chains=1, draws=5, warmup=5)
    assert told.value.site == "y" and "nan" in str(told.value)


def test_a_model_without_latent_variables():
    def model():
        pplkit.param("p", torch.tensor(1.0))
        pplkit.sample("y", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))

    with pytest.raises(errors.ModelError, match="no latent variables") as told:
        sampled(model)
    assert "'p'" in told.value.remedy


def test_a_model_of_discrete_variables_alone():
    with pytest.raises(errors.ModelError, match="no latent variables") as told:
        sampled(config_enumerate(lambda: pplkit.sample("z", dist.Bernoulli(0.5))))
    assert "'z'" in told.value.found and "compute_marginals" in told.value.remedy


@pytest.mark.parametrize("family", [dist.Bernoulli(0.5), dist.Poisson(2.0)])
def test_a_discrete_variable_without_enumeration(family):
    def model():
        x = pplkit.sample("x", dist.Normal(0.0, 1.0))
        z = pplkit.sample("z", family)
        pplkit.sample("y", dist.Normal(x + z, 1.0), obs=torch.tensor(0.0))

    with pytest.raises(errors.ModelError, match="discrete sample site 'z'") as told:
        sampled(model)
    assert ("enumerate" in told.value.remedy) == family.has_enumerate_support
    assert told.value.where is not None


def test_a_subsampled_plate():
    def model(y):
        x = pplkit.sample("x", dist.Normal(0.0, 1.0))
        with pplkit.plate("data", len(y), subsample_size=2) as rows:
            pplkit.sample("y", dist.Normal(x, 1.0), obs=y[rows])

    with pytest.raises(errors.ModelError, match="subsampling: plate 'data'") as told:
        sampled(model, torch.zeros(5))
    assert "2 of 5" in told.value.found


@pytest.mark.parametrize("first", [True, False])
def test_a_variable_that_comes_and_goes(first):
    def model():
        x = pplkit.sample("x", dist.Normal(0.0, 1.0))
        if (x > met[0]) == first:
            pplkit.sample("w", dist.Normal(0.0, 1.0))

    met = [torch.tensor(-100.0)]
    density = Density(model, (), {})
    met = [torch.tensor(100.0)]
    free = {variable.name: torch.zeros(()) for variable in density.variables}
    with pytest.raises(errors.ModelError, match="'w' is not in every run of the model") as told:
        density.potential(free, (), {})
    assert (told.value.where is not None) and ("has it not" in told.value.found) == first


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_chains": 0}, "num_chains"),
        ({"num_chains": 1.5}, "num_chains"),
        ({"num_samples": 0}, "num_samples"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"seed": "x"}, "seed"),
        ({"compile": "yes"}, "compile"),
        ({"kernel": simple}, "kernel"),
        ({"kernel": NUTS}, "kernel"),
    ],
)
def test_settings_that_make_no_sense(settings, said):
    with pytest.raises(errors.UsageError, match=f"MCMC cannot use this {said}"):
        MCMC(**({"kernel": NUTS(simple), "num_samples": 10} | settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"step_size": 0.0}, {"step_size": math.nan}, {"target_accept_prob": 1.0},
        {"max_tree_depth": 0}, {"init_strategy": 3}, {"use_multinomial_sampling": False},
        {"full_mass": "yes"}, {"full_mass": ["x"]}, {"full_mass": [("x",), ("z", "x")]},
    ],
)  # fmt: skip
def test_settings_of_a_kernel_that_make_no_sense(settings):
    with pytest.raises(errors.UsageError, match=f"NUTS cannot use this {next(iter(settings))}"):
        NUTS(simple, **settings)


def test_a_kernel_needs_a_model():
    with pytest.raises(errors.UsageError, match="needs a model"):
        NUTS()
    with pytest.raises(errors.UsageError, match="cannot use this model"):
        HMC(torch.zeros(3))
    with pytest.raises(errors.UsageError, match="needs initial_params"):
        MCMC(NUTS(potential_fn=lambda z: z["x"].sum()), 10)


def test_starts_of_another_shape():
    with pytest.raises(errors.UsageError, match="initial_params do not fit") as told:
        sampled(simple, f64(0.0), chains=2, initial_params={"x": torch.zeros(3)})
    assert "(2,)" in told.value.expected
    with pytest.raises(errors.UsageError, match="initial_params do not fit") as told:
        sampled(simple, f64(0.0), chains=2, initial_params={"x": torch.zeros(2)})
    assert told.value.expected == "'x', 'z'"
    with pytest.raises(errors.UsageError, match="initial_params do not fit") as told:
        sampled(simple, f64(0.0), chains=2, initial_params={"x": "one"})
    assert "'x': str" in told.value.found
    with pytest.raises(errors.UsageError, match="cannot use this initial_params"):
        sampled(simple, f64(0.0), chains=2, initial_params=torch.zeros(2))


@pytest.mark.parametrize(
    "settings",
    [{"full_mass": [("x", "zz")]}, {"transforms": {"zz": dist.transforms.ExpTransform()}}],
)
def test_settings_for_a_variable_that_there_is_not(settings):
    with pytest.raises(errors.UsageError, match="no latent variable named 'zz'") as told:
        sampled(simple, f64(0.0), chains=1, draws=5, warmup=5, **settings)
    assert next(iter(settings)) in told.value.found and "'z'" in told.value.remedy


def test_correlations_within_blocks_of_variables():
    def model():
        pplkit.sample("a", dist.Normal(torch.zeros(2, dtype=torch.float64), 1.0).to_event(1))
        b = pplkit.sample("b", dist.Normal(f64(0.0), 1.0))
        c = pplkit.sample("c", dist.Normal(f64(0.0), 1.0))
        pplkit.sample("d", dist.Normal(b + c, 0.5))

    mcmc = sampled(model, full_mass=[("d", "b"), ("a",)], chains=2, draws=5, warmup=40)
    apart = (mcmc.chains.metric.covariance == 0).double()
    inside = torch.eye(5, dtype=torch.float64)
    inside[:2, :2] = inside[2, 4] = inside[4, 2] = 1
    assert torch.equal(apart, (1 - inside).expand(2, 5, 5))
    root = mcmc.chains.metric.root
    torch.testing.assert_close(root @ root.mT, mcmc.chains.metric.covariance)


def test_a_short_warmup_leaves_steps_of_a_sensible_size():
    def model():
        scale = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
        pplkit.sample("x", dist.Normal(torch.zeros_like(scale), scale).to_event(1))

    fields = sampled(model, chains=100, draws=10, warmup=20).get_extra_fields(group_by_chain=True)
    assert int(fields["diverging"].any(1).sum()) <= 5
    assert float(fields["accept_prob"].mean()) > 0.7


def test_draws_before_a_run():
    with pytest.raises(errors.UsageError, match="no draws yet"):
        MCMC(NUTS(simple), 10).get_samples()
