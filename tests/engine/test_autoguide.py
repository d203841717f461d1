"""Automatic guides: against exact posteriors, and against Pyro's with the same draws."""

import math

import pyro
import pyro.distributions
import pyro.infer.autoguide
import pytest
import torch

import pplkit
import pplkit.distributions as dist
from pplkit import errors, handlers, plate, sample
from pplkit.infer import SVI, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO, autoguide
from pplkit.infer.autoguide import (
    AutoCallable,
    AutoDelta,
    AutoDiagonalNormal,
    AutoGuideList,
    AutoLaplaceApproximation,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
    init_to_feasible,
    init_to_generated,
    init_to_mean,
    init_to_median,
    init_to_sample,
    init_to_uniform,
    init_to_value,
)
from pplkit.optim import Adam

DATA = torch.tensor([1.2, 0.8, 1.5, -0.3])
GUIDES = [
    AutoDelta,
    AutoNormal,
    AutoDiagonalNormal,
    AutoMultivariateNormal,
    AutoLowRankMultivariateNormal,
    AutoLaplaceApproximation,
]
NORMAL = GUIDES[1:5]


@pytest.fixture(autouse=True)
def pyros_store():
    pyro.clear_param_store()


def normal_mean(data=DATA):
    z = sample("z", dist.Normal(0.0, 1.0))
    with plate("data", len(data)):
        sample("obs", dist.Normal(z, 0.5), obs=data)


def many_supports(ppl=pplkit, dist=dist):
    """Each kind of support; one inside two plates, one that is a vector, one that is a matrix."""
    ppl.sample("real", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    ppl.sample("positive", dist.Gamma(2.0, 1.0))
    ppl.sample("simplex", dist.Dirichlet(torch.tensor([1.0, 2.0, 3.0])))
    ppl.sample("interval", dist.Uniform(-1.0, 3.0))
    ppl.sample("chol", dist.LKJCholesky(3, 1.0))
    with ppl.plate("columns", 3, dim=-1):
        ppl.sample("inner", dist.Beta(2.0, 2.0))
        with ppl.plate("rows", 2, dim=-2):
            ppl.sample("both", dist.LogNormal(0.0, 1.0))


SHAPES = {
    "real": (2,),
    "positive": (),
    "simplex": (3,),
    "interval": (),
    "chol": (3, 3),
    "inner": (3,),
    "both": (2, 3),
}


def fitted(guide, model=normal_mean, steps=400, lr=0.05, loss=None, args=()):
    with handlers.seed(rng_seed=0):
        loss = loss or Trace_ELBO(num_particles=30, vectorize_particles=True)
        SVI(model, guide, Adam({"lr": lr}), loss).run(steps, *args)
        SVI(model, guide, Adam({"lr": lr / 20}), loss).run(steps // 3, *args)
    return guide


# -- values and shapes -------------------------------------------------------------------------


@pytest.mark.parametrize("make", GUIDES)
def test_draws_lie_in_the_supports(make):
    guide = make(many_supports)
    values = guide()
    assert {name: tuple(value.shape) for name, value in values.items()} == SHAPES
    model = handlers.trace(handlers.condition(many_supports, data=values)).get_trace()
    assert torch.isfinite(model.log_prob_sum())
    median, quantiles = guide.median(), guide.quantiles([0.25, 0.5, 0.75])
    for name, shape in SHAPES.items():
        assert median[name].shape == shape and not median[name].requires_grad
        assert quantiles[name].shape == (3, *shape)
        torch.testing.assert_close(quantiles[name][1], median[name], rtol=1e-4, atol=1e-5)
        assert guide.quantiles(0.5)[name].shape == shape


@pytest.mark.parametrize("make", GUIDES)
@pytest.mark.parametrize("loss", [Trace_ELBO, TraceMeanField_ELBO, RenyiELBO])
def test_all_guides_with_all_losses_and_particles(make, loss):
    guide = make(many_supports)
    for settings in ({}, {"num_particles": 2, "vectorize_particles": True}):
        svi = SVI(
            many_supports, guide, Adam({"lr": 0.01}), loss(**{"num_particles": 2, **settings})
        )
        assert all(math.isfinite(svi.step()) for _ in range(2))


@pytest.mark.parametrize("make", GUIDES)
def test_same_loss_and_gradients_as_pyro(make):
    """Where draws are the same: float64, the same first values, the same seed."""
    name = make.__name__

    def program(ppl, dist):
        def model():
            b = ppl.sample("b", dist.Gamma(torch.tensor(3.0).double(), 2.0))
            with ppl.plate("rows", 4):
                x = ppl.sample("x", dist.Beta(1.0 + b, 2.0))
                ppl.sample("y", dist.Normal(x, 0.5), obs=DATA.double())

        return model

    start = {"b": torch.tensor(0.7).double(), "x": torch.tensor([0.1, 0.3, 0.5, 0.8]).double()}
    results = []
    for ppl in (pplkit, pyro):
        home = autoguide if ppl is pplkit else pyro.infer.autoguide
        model = program(ppl, ppl.distributions)
        guide = getattr(home, name)(model, init_loc_fn=home.init_to_value(values=start))
        torch.manual_seed(7)
        guide()
        store = ppl.get_param_store()
        factor = "AutoLowRankMultivariateNormal.cov_factor"
        if factor in store:  # its first value is random
            known = torch.linspace(-1, 1, 10).double().reshape(5, 2)
            dict(store.named_parameters())[factor].data.copy_(known)
        torch.manual_seed(1)
        loss = ppl.infer.Trace_ELBO().differentiable_loss(model, guide)
        leaves = dict(store.named_parameters())
        grads = torch.autograd.grad(loss, list(leaves.values()))
        results.append((loss, dict(zip(leaves, grads, strict=True))))
    (ours, our_grads), (theirs, their_grads) = results
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    assert our_grads.keys() == their_grads.keys()
    for key, grad in our_grads.items():
        torch.testing.assert_close(grad, their_grads[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", GUIDES)
def test_names_are_pyros(make):
    make(normal_mean)()
    home = getattr(pyro.infer.autoguide, make.__name__)

    def model():
        z = pyro.sample("z", pyro.distributions.Normal(0.0, 1.0))
        with pyro.plate("data", 4):
            pyro.sample("obs", pyro.distributions.Normal(z, 0.5), obs=DATA)

    theirs = home(model)
    pyros = pyro.poutine.trace(theirs).get_trace()
    assert set(pplkit.get_param_store()) == set(pyro.get_param_store())
    ours = handlers.trace(make(normal_mean)).get_trace()
    assert ours.stochastic_nodes == pyros.stochastic_nodes


# -- what they reach ---------------------------------------------------------------------------

EXACT_MEAN, EXACT_SCALE = 12.8 / 17, 17**-0.5


@pytest.mark.parametrize("make", NORMAL)
def test_the_exact_posterior_is_reached(make):
    guide = fitted(make(normal_mean))
    assert abs(guide.median()["z"] - EXACT_MEAN) < 0.02
    low, high = guide.quantiles([0.1586553, 0.8413447])["z"]
    assert abs((high - low) / 2 - EXACT_SCALE) < 0.02


def test_the_mode_is_reached():
    guide = fitted(AutoDelta(normal_mean), loss=Trace_ELBO(), steps=300)
    assert abs(guide.median()["z"] - EXACT_MEAN) < 0.005
    torch.testing.assert_close(guide.quantiles([0.1, 0.9])["z"], guide.median()["z"].expand(2))


def correlated():
    """Two variables of which the sum alone is observed."""
    x = sample("x", dist.Normal(0.0, 1.0))
    y = sample("y", dist.Normal(0.0, 1.0))
    sample("sum", dist.Normal(x + y, 0.5), obs=torch.tensor(1.0))


def exact_correlated():
    precision = torch.eye(2) + 4.0 * torch.ones(2, 2)
    covariance = torch.linalg.inv(precision)
    return covariance @ torch.tensor([4.0, 4.0]), covariance


@pytest.mark.parametrize("make", [AutoMultivariateNormal, AutoLowRankMultivariateNormal])
def test_correlation_is_reached(make):
    guide = make(correlated) if make is AutoMultivariateNormal else make(correlated, rank=1)
    posterior = fitted(guide, correlated).get_posterior()
    mean, covariance = exact_correlated()
    torch.testing.assert_close(posterior.mean.detach(), mean, rtol=0, atol=0.05)
    torch.testing.assert_close(posterior.covariance_matrix.detach(), covariance, rtol=0, atol=0.05)


def test_laplace_is_exact_for_a_normal_posterior():
    guide = fitted(AutoLaplaceApproximation(correlated), correlated, loss=Trace_ELBO())
    normal = guide.laplace_approximation()
    mean, covariance = exact_correlated()
    posterior = normal.get_posterior()
    torch.testing.assert_close(posterior.mean, mean, rtol=0, atol=0.01)
    torch.testing.assert_close(posterior.covariance_matrix, covariance, rtol=1e-4, atol=1e-4)
    assert normal()["x"].shape == () and set(normal.quantiles([0.5])) == {"x", "y"}
    assert math.isfinite(Trace_ELBO().loss(correlated, normal))


def test_laplace_counts_the_jacobian():
    """Gamma(3, 2) in log space: mode log(3/2), curvature 3."""

    def model():
        sample("rate", dist.Gamma(3.0, 2.0))

    guide = fitted(AutoLaplaceApproximation(model), model, loss=Trace_ELBO(), steps=400)
    normal = guide.laplace_approximation().get_posterior()
    torch.testing.assert_close(normal.mean, torch.tensor([1.5]).log(), rtol=0, atol=1e-3)
    torch.testing.assert_close(normal.covariance_matrix, torch.tensor([[1 / 3]]), rtol=0, atol=1e-3)


def test_the_density_counts_the_jacobian():
    """The guide's own density of its draw: log-normal, checked by torch's LogNormal."""

    def model():
        sample("rate", dist.Gamma(3.0, 2.0))

    for make in (AutoNormal, AutoDiagonalNormal):
        pplkit.clear_param_store()
        guide = make(model, init_loc_fn=init_to_mean, init_scale=0.4)
        run = handlers.trace(guide).get_trace()
        log_normal = torch.distributions.LogNormal(math.log(1.5), 0.4)
        expected = log_normal.log_prob(run.nodes["rate"].value)
        torch.testing.assert_close(run.log_prob_sum(), expected)


# -- plates ------------------------------------------------------------------------------------


def subsampled(data):
    with plate("rows", 20, subsample_size=5, dim=-1) as i:
        with plate("columns", 2, dim=-2):
            x = sample("x", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        sample("y", dist.Normal(x.sum((0, -1)), 0.5), obs=data[i])


@pytest.mark.parametrize("make", GUIDES)
def test_subsampled_plates_have_parameters_for_all_rows(make):
    data, guide = torch.linspace(-1, 1, 20), make(subsampled)
    with handlers.seed(rng_seed=0):
        svi = SVI(subsampled, guide, Adam({"lr": 0.1}), Trace_ELBO())
        svi.step(data)
        run = handlers.trace(guide).get_trace(data)
        first = guide.median()["x"]
        svi.run(30, data)
    assert run.nodes["x"].value.shape == (2, 5, 3)
    assert first.shape == (2, 20, 3)
    moved = (guide.median()["x"] != first).any(-1).any(0)
    assert moved.all()  # each row in its turn


def test_a_subsample_is_the_models():
    """Rows that guide and model draw are the same, and the right rows of the parameters."""
    guide = AutoDelta(subsampled, init_loc_fn=init_to_sample)
    data = torch.arange(20.0)
    with handlers.seed(rng_seed=2):
        guide(data)
        run = handlers.trace(guide).get_trace(data)
    rows = run.nodes["rows"].value
    whole = pplkit.get_param_store()["AutoDelta.x"]
    assert torch.equal(run.nodes["x"].value, whole[:, rows])
    model = handlers.trace(handlers.replay(subsampled, trace=run)).get_trace(data)
    assert torch.equal(model.nodes["y"].value, data[rows])


def test_plates_of_the_callers_own():
    chosen = torch.tensor([3, 1, 4, 0, 5])
    guide = AutoNormal(
        subsampled, create_plates=lambda data: plate("rows", 20, subsample=chosen, dim=-1)
    )
    guide(torch.zeros(20))
    run = handlers.trace(guide).get_trace(torch.zeros(20))
    assert torch.equal(run.nodes["rows"].value, chosen)
    assert run.nodes["x"].value.shape == (2, 5, 3)


# -- lists -------------------------------------------------------------------------------------


def test_a_list_of_parts():
    def model():
        x = sample("x", dist.Normal(0.0, 1.0))
        k = sample("k", dist.Bernoulli(0.5))
        sample("y", dist.Normal(x + k, 0.5), obs=torch.tensor(1.0))

    def coin():
        q = pplkit.param("q", torch.tensor(0.5), constraint=dist.constraints.unit_interval)
        return {"k": sample("k", dist.Bernoulli(q))}

    guide = AutoGuideList(model)
    guide.append(AutoNormal(handlers.block(model, hide=["k"])))
    guide.append(AutoCallable(model, coin, lambda: {"k": torch.tensor(1.0)}))
    svi = SVI(model, guide, Adam({"lr": 0.01}), Trace_ELBO())
    assert math.isfinite(svi.step())
    assert set(guide.median()) == {"x", "k"} and set(guide.quantiles([0.5])) == {"x"}
    assert len(guide) == 2 and guide[0] is list(guide)[0]
    guide.append(coin)
    with pytest.raises(errors.ModelError, match="(?s)two parts sample the same sites.*'k'"):
        guide()


def test_its_own_name_keeps_two_guides_apart():
    AutoNormal(normal_mean, name="left")()
    AutoNormal(normal_mean, name="right")()
    assert "left.locs.z" in pplkit.get_param_store()
    assert "right.locs.z" in pplkit.get_param_store()


def test_medians_come_from_the_store_that_was_fitted():
    guide, own = AutoNormal(normal_mean), pplkit.ParamStore()
    svi = SVI(normal_mean, guide, Adam({"lr": 0.1}), Trace_ELBO(), params=own)
    svi.run(20)
    assert guide.median()["z"] == own["AutoNormal.locs.z"]
    assert len(pplkit.get_param_store()) == 0


# -- first values ------------------------------------------------------------------------------


def site_of(fn, name="x"):
    run = handlers.trace(lambda: sample(name, fn)).get_trace()
    return run.nodes[name]


@pytest.mark.parametrize(
    ("strategy", "fn", "expected"),
    [
        (init_to_mean, dist.Gamma(3.0, 2.0), 1.5),
        (init_to_feasible, dist.Gamma(3.0, 2.0), 1.0),
        (init_to_feasible, dist.Normal(5.0, 1.0), 0.0),
        (init_to_feasible, dist.Uniform(2.0, 4.0), 3.0),
        (init_to_median(num_samples=20_000), dist.LogNormal(1.0, 1.0), math.e),
        (init_to_median(num_samples=5), dist.Delta(torch.tensor(2.0)), 2.0),
        (init_to_uniform(radius=1e-6), dist.Normal(5.0, 1.0), 0.0),
        (init_to_value(values={"x": torch.tensor(7.0)}), dist.Normal(5.0, 1.0), 7.0),
        (init_to_value(values={}, fallback=init_to_mean), dist.Normal(5.0, 1.0), 5.0),
        (init_to_mean, dist.Cauchy(torch.zeros(3), 1.0), None),
        (init_to_median, dist.Dirichlet(torch.ones(3)), 1 / 3),
    ],
)
def test_strategies(strategy, fn, expected):
    site = site_of(fn)
    with handlers.seed(rng_seed=0):
        value = strategy(site)
    assert value.shape == fn.shape()
    assert fn.support.check(value).all()
    if expected is not None:
        torch.testing.assert_close(value, torch.full_like(value, expected), rtol=0.03, atol=1e-5)


def test_a_strategy_without_settings_is_itself():
    site = site_of(dist.Gamma(3.0, 2.0))
    assert init_to_mean()(site) == init_to_mean(site)


def test_generated_strategies_change_from_run_to_run():
    made = []

    def generate():
        made.append(torch.rand(()))
        return init_to_value(values={"x": made[-1], "y": made[-1]})

    start = init_to_generated(generate=generate)
    x, y = site_of(dist.Normal(0.0, 1.0)), site_of(dist.Normal(0.0, 1.0), "y")
    assert start(x) == start(y) != start(x)
    assert len(made) == 2


def test_strategies_draw_from_the_seed():
    def values():
        with handlers.seed(rng_seed=3):
            guide = AutoNormal(many_supports, init_loc_fn=init_to_uniform)
            guide()
            drawn = guide.median()
        pplkit.clear_param_store()
        return drawn

    first, second = values(), values()
    assert all(torch.equal(first[name], second[name]) for name in SHAPES)


# -- errors ------------------------------------------------------------------------------------


def discrete():
    sample("k", dist.Bernoulli(0.5))


def looped():
    for i in plate("rows", 2):
        sample(f"x_{i}", dist.Normal(0.0, 1.0))


def observed():
    sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(1.0))


@pytest.mark.parametrize("make", GUIDES)
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (discrete, r"(?s)cannot handle discrete sample site 'k'.*block\(model, hide=\['k'\]\)"),
        (looped, r"(?s)does not support sequential plates: 'rows' around site 'x_0'"),
    ],
)
def test_models_that_no_guide_can_take(make, model, message):
    with pytest.raises(errors.ModelError, match=message):
        make(model)()
    assert len(pplkit.get_param_store()) == 0


@pytest.mark.parametrize("make", GUIDES[2:])
def test_nothing_to_infer(make):
    with pytest.raises(errors.ModelError, match="found no latent variables"):
        make(observed)()


@pytest.mark.parametrize("make", [AutoDelta, AutoNormal])
def test_nothing_to_infer_is_an_empty_guide(make):
    assert make(observed)() == {}


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: AutoNormal(3), errors.UsageError, "AutoNormal cannot use this model"),
        (lambda: AutoNormal(normal_mean, init_scale=0.0), errors.UsageError, "init_scale"),
        (lambda: AutoNormal(normal_mean, init_loc_fn=1.0), errors.UsageError, "init_loc_fn"),
        (
            lambda: AutoLowRankMultivariateNormal(normal_mean, rank=0),
            errors.UsageError,
            "rank",
        ),
        (lambda: AutoNormal(normal_mean).median(), errors.UsageError, "not seen the model yet"),
        (
            lambda: AutoNormal(normal_mean, init_loc_fn=lambda site: torch.zeros(3))(),
            errors.ShapeError,
            "(?s)initial value of site 'z' has another shape",
        ),
        (
            lambda: AutoNormal(many_supports, init_loc_fn=lambda s: -torch.ones(s.fn.shape()))(),
            errors.DistributionError,
            "initial value of site 'positive' is outside the support",
        ),
        (
            lambda: AutoDelta(normal_mean, init_loc_fn=init_to_value(values={}, fallback=None))(),
            errors.ModelError,
            "No init strategy specified for site 'z'",
        ),
        (
            lambda: AutoNormal(normal_mean, create_plates=lambda: ["data"])(),
            errors.UsageError,
            "create_plates",
        ),
    ],
)
def test_wrong_settings(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize("quantiles", [[0.0], [1.5], 1.0, [[0.5]]])
def test_impossible_quantiles(quantiles):
    for make in (AutoNormal, AutoDiagonalNormal, AutoDelta):
        guide = make(normal_mean)
        guide()
        with pytest.raises(errors.UsageError, match="numbers between 0 and 1"):
            guide.quantiles(quantiles)


def test_laplace_away_from_a_maximum():
    def model():
        z = sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pplkit.factor("hill", 2 * (z**2).sum())

    guide = AutoLaplaceApproximation(model)
    guide()
    with pytest.raises(errors.InferenceError, match="does not fall away in every direction"):
        guide.laplace_approximation()
