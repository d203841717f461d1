"""Importance sampling: weights, evidence and predictions against closed forms and Pyro's."""

import math
import warnings

import pyro
import pyro.infer
import pytest
import torch

import pplkit
import pplkit.distributions as dist
from pplkit import errors, factor, handlers, param, plate, sample
from pplkit.infer import (
    EmpiricalMarginal,
    Importance,
    Predictive,
    WeighedPredictive,
    psis_diagnostic,
    vectorized_importance_weights,
)
from pplkit.infer.autoguide import AutoNormal
from pplkit.infer.weights import LogWeights, systematic

DATA = torch.tensor([1.2, 0.8, 1.5, -0.3])
MEAN, SD = 0.7529, 0.2425  # of the posterior: precision 1 + 4 / 0.25
EVIDENCE = (
    dist.MultivariateNormal(torch.zeros(4), 0.25 * torch.eye(4) + torch.ones(4, 4))
    .log_prob(DATA)
    .item()
)


def model(data=DATA):
    z = sample("z", dist.Normal(0.0, 1.0))
    with plate("data", len(data)):
        sample("x", dist.Normal(z, 0.5), obs=data)
    return 2 * z


def near(data=DATA):
    sample("z", dist.Normal(0.6, 0.35))


def exact(data=DATA):
    sample("z", dist.Normal(12.8 / 17, 17**-0.5))


@pytest.mark.parametrize("guide", [None, near])
@pytest.mark.parametrize("parallel", [True, False, None])
def test_evidence_and_posterior_are_the_closed_forms(guide, parallel):
    number = 600 if parallel is False else 20_000
    with handlers.seed(rng_seed=0):
        posterior = Importance(model, guide, number, parallel=parallel).run()
    assert posterior.is_vectorized is (parallel is not False)
    value, error = posterior.get_log_evidence()
    assert 0 < error < 0.1 and abs(value - EVIDENCE) < 4 * error
    assert value == posterior.get_log_normalizer()
    marginal, ess = EmpiricalMarginal(posterior, "z"), posterior.get_ESS()
    assert 0.05 * number < ess < number
    assert abs(marginal.mean - MEAN) < 4 * SD / ess**0.5
    assert abs(marginal.variance.sqrt() - SD) < 4 * SD / ess**0.5
    assert abs(EmpiricalMarginal(posterior).mean - 2 * MEAN) < 8 * SD / ess**0.5


def test_the_error_of_the_evidence_is_the_spread_of_repeated_estimates():
    with handlers.seed(rng_seed=1):
        found = [Importance(model, num_samples=400).run().get_log_evidence() for _ in range(60)]
    values = torch.stack([f.value for f in found])
    errors_ = torch.stack([f.error for f in found])
    assert 0.6 < values.std() / errors_.mean() < 1.5


def test_the_posterior_itself_is_worth_every_draw():
    posterior = Importance(model, exact, 50).run()
    assert torch.allclose(posterior.log_weights, torch.tensor(EVIDENCE), atol=1e-4)
    assert abs(posterior.get_ESS() - 50) < 1e-3 and posterior.get_pareto_k() == -math.inf
    assert abs(posterior.get_log_evidence().error) < 1e-3
    assert repr(posterior) == (
        f"Importance(num_samples=50): ESS 50.0, log-evidence {EVIDENCE:.2f} ± 0.00"
    )


@pytest.mark.parametrize("normalized", [False, True])
def test_weights_are_pyros(normalized):
    """The same values in both engines."""
    z = torch.linspace(-1, 2, 7)

    def program(ppl, dist):
        def model():
            z = ppl.sample("z", dist.Normal(0.0, 1.0))
            with ppl.plate("data", 4):
                k = ppl.sample("k", dist.Bernoulli(torch.tensor(0.3)))
                ppl.sample("x", dist.Normal(z + k, 0.5), obs=DATA)

        def guide():
            ppl.sample(
                "z", dist.Delta(z[:, None], log_density=dist.Normal(0.0, 2.0).log_prob(z[:, None]))
            )
            with ppl.plate("data", 4):
                ppl.sample("k", dist.Delta(torch.tensor([1.0, 0.0, 1.0, 0.0]), log_density=-0.3))

        return model, guide

    ours = vectorized_importance_weights(
        *program(pplkit, dist), num_samples=7, max_plate_nesting=1
    )[0]
    theirs = pyro.infer.importance.vectorized_importance_weights(
        *program(pyro, pyro.distributions), num_samples=7, max_plate_nesting=1
    )[0]
    assert ours.shape == (7,) and torch.allclose(ours, theirs, atol=1e-5)
    summary = type("Theirs", (pyro.infer.importance.LogWeightsMixin,), {"log_weights": theirs})()
    mine = type("Ours", (LogWeights,), {"log_weights": ours})()
    assert torch.allclose(mine.get_ESS(), summary.get_ESS())
    assert torch.allclose(mine.get_log_normalizer(), summary.get_log_normalizer())
    for log_scale in (False, True):
        assert torch.allclose(
            mine.get_normalized_weights(log_scale), summary.get_normalized_weights(log_scale)
        )
    if normalized:
        unit = vectorized_importance_weights(
            *program(pplkit, dist), num_samples=7, max_plate_nesting=1, normalized=True
        )[0]
        assert abs(unit.logsumexp(0)) < 1e-5


def test_weights_have_gradients_outside_of_importance():
    loc = torch.tensor(0.3, requires_grad=True)

    def guide():
        sample("z", dist.Normal(loc, 1.0))

    vectorized_importance_weights(model, guide, num_samples=4)[0].sum().backward()
    assert loc.grad is not None and torch.isfinite(loc.grad)


# -- where all draws in one run would be wrong -----------------------------------------------------


def test_a_model_that_sums_over_draws_is_run_one_by_one():
    def wrong_in_a_plate():
        with plate("rows", 3):
            w = sample("w", dist.Normal(0.0, 1.0))
        sample("y", dist.Normal(w.sum(), 1.0), obs=torch.tensor(2.0))

    with handlers.seed(rng_seed=0):
        posterior = Importance(wrong_in_a_plate, num_samples=800).run()
    assert posterior.is_vectorized is False
    value, error = posterior.get_log_evidence()
    assert abs(value - dist.Normal(0.0, 2.0).log_prob(torch.tensor(2.0))) < 4 * error


def test_a_model_that_branches_is_run_one_by_one():
    def branching():
        z = sample("z", dist.Bernoulli(torch.tensor(0.5)))
        if z:
            sample("only_here", dist.Normal(0.0, 1.0))
        sample("y", dist.Normal(z, 1.0), obs=torch.tensor(1.0))

    with handlers.seed(rng_seed=0):
        posterior = Importance(branching, num_samples=400).run()
    assert posterior.is_vectorized is False and list(posterior.get_samples()) == ["z"]
    odds = math.exp(0.5)  # of z = 1
    assert abs(EmpiricalMarginal(posterior, "z").mean - odds / (1 + odds)) < 0.1


def test_draws_have_the_shapes_of_their_sites():
    def wide():
        scale = sample("scale", dist.LogNormal(0.0, 1.0))
        with plate("columns", 3, dim=-2):
            v = sample("v", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            with plate("rows", 4, dim=-1):
                k = sample("k", dist.Categorical(torch.ones(5)))
                loc = v.sum(-1) + k
                sample("y", dist.Normal(loc, scale), obs=torch.zeros(3, 4))

    guide = AutoNormal(handlers.block(wide, hide=["k"]))
    for parallel in (True, False):
        posterior = Importance(wide, num_samples=7, parallel=parallel).run()
        shapes = {name: tuple(value.shape) for name, value in posterior.get_samples().items()}
        assert shapes == {"scale": (7,), "v": (7, 3, 1, 2), "k": (7, 3, 4)}
        assert posterior.log_weights.shape == (7,) and len(posterior.log_weights.unique()) == 7

    def both(*args):
        guide()
        with plate("columns", 3, dim=-2), plate("rows", 4, dim=-1):
            sample("k", dist.Categorical(torch.ones(5)))

    assert Importance(wide, both, num_samples=7).run().is_vectorized is True


def test_automatic_guides_are_weighed_with_their_auxiliary_variables():
    def positive(data=DATA):
        scale = sample("scale", dist.LogNormal(0.0, 1.0))
        with plate("data", len(data)):
            sample("x", dist.Normal(0.0, scale), obs=data)

    guide = AutoNormal(positive, init_scale=0.7)
    guide()
    with handlers.seed(rng_seed=0):
        mine = Importance(positive, guide, num_samples=20_000).run()
        prior = Importance(positive, num_samples=20_000).run()
    assert mine.is_vectorized and list(mine.get_samples()) == ["scale"]
    (a, da), (b, db) = mine.get_log_evidence(), prior.get_log_evidence()
    assert abs(a - b) < 4 * (da**2 + db**2) ** 0.5


# -- the tail ------------------------------------------------------------------------------------


def test_the_tail_index_tells_a_good_guide_from_one_that_is_too_narrow():
    def narrow(data=DATA):
        sample("z", dist.Normal(0.75, 0.04))

    with handlers.seed(rng_seed=0):
        assert Importance(model, near, 4000).run().get_pareto_k() < 0.5
        bad = Importance(model, narrow, 4000).run()
        assert psis_diagnostic(model, near, num_particles=2000) < 0.5
        several = psis_diagnostic(model, narrow, num_particles=2000, max_simultaneous_particles=700)
    assert bad.get_pareto_k() > 0.7 and several > 0.7
    smooth = bad.get_smoothed_weights()
    assert abs(smooth.sum() - 1) < 1e-5 and smooth.max() < bad.get_normalized_weights().max()


def test_the_tail_index_leaves_impossible_draws_out():
    class Draws(LogWeights):
        log_weights = torch.randn(500)

    plain = Draws().get_pareto_k()
    Draws.log_weights = torch.cat([Draws.log_weights, torch.full((50,), -math.inf)])
    assert Draws().get_pareto_k() == plain and (Draws().get_smoothed_weights()[500:] == 0).all()


# -- equal weights ---------------------------------------------------------------------------------


def test_a_comb_takes_each_draw_as_often_as_its_weight_says():
    weights = torch.tensor([0.1, 0.0, 0.45, 0.25, 0.2])
    for seed in range(20):
        with handlers.seed(rng_seed=seed):
            counts = torch.bincount(systematic(weights.log(), 40), minlength=5)
        assert (counts - 40 * weights).abs().max() < 1 and counts[1] == 0 and counts.sum() == 40
    assert systematic(torch.tensor([0.0, -math.inf]), 3).tolist() == [0, 0, 0]


def test_resampled_draws_and_predictions_follow_the_posterior():
    with handlers.seed(rng_seed=0):
        posterior = Importance(model, num_samples=20_000).run()
        equal = posterior.resample(5000)["z"]
        smooth = posterior.resample(5000, smooth=True)["z"]
        weighted = Predictive(
            handlers.uncondition(model),
            posterior.get_samples(),
            log_weights=posterior.log_weights,
            num_samples=5000,
            parallel=True,
        )()["x"]
    for draws in (equal, smooth):
        assert draws.shape == (5000,)
        assert abs(draws.mean() - MEAN) < 0.03 and abs(draws.std() - SD) < 0.03
        assert abs(torch.corrcoef(torch.stack([draws[1:], draws[:-1]]))[0, 1]) < 0.06
    assert weighted.shape == (5000, 4)
    assert abs(weighted.mean() - MEAN) < 0.03
    assert abs(weighted.std() - (SD**2 + 0.25) ** 0.5) < 0.03


@pytest.mark.parametrize("parallel", [True, False])
def test_weighed_predictions(parallel):
    number = 5000 if parallel else 500
    seen = handlers.condition(handlers.uncondition(model), data={"x": DATA})
    predictive = WeighedPredictive(
        handlers.uncondition(model), guide=near, num_samples=number, parallel=parallel
    )
    with handlers.seed(rng_seed=0):
        result = predictive(model_guide=seen)
        equal = result.resample()["x"]
    assert set(result.samples) == {"z", "x"} and result.samples["x"].shape == (number, 4)
    assert torch.equal(result.log_weights, result.model_log_prob - result.guide_log_prob)
    weights = result.get_normalized_weights()
    mean = (weights[:, None] * result.samples["x"]).sum(0).mean()
    assert abs(mean - MEAN) < 4 * 0.4 / result.get_ESS() ** 0.5
    assert abs(equal.mean() - MEAN) < 4 * 0.4 / result.get_ESS() ** 0.5


def test_the_seed_decides():
    with handlers.seed(rng_seed=3):
        first = Importance(model, num_samples=9).run()
    with handlers.seed(rng_seed=3):
        again = Importance(model, num_samples=9).run()
    assert torch.equal(first.log_weights, again.log_weights)


# -- mistakes --------------------------------------------------------------------------------------


def impossible():
    sample("z", dist.Normal(0.0, 1.0))
    factor("never", torch.tensor(-math.inf))


def undefined():
    z = sample("z", dist.Normal(0.0, 1.0))
    factor("broken", (z - z) / (z - z))


def other(data=DATA):
    sample("zz", dist.Normal(0.0, 1.0))


def learnt(data=DATA):
    sample("z", dist.Normal(param("loc", torch.tensor(0.0)), torch.ones(2)).to_event(1))


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda: Importance(3), errors.UsageError, "model="),
        (lambda: Importance(model, 3), errors.UsageError, "guide="),
        (lambda: Importance(model, num_samples=0), errors.UsageError, "at least 1"),
        (lambda: Importance(model, num_samples=2.5), errors.UsageError, "num_samples"),
        (lambda: Importance(model, parallel="yes"), errors.UsageError, "parallel"),
        (lambda: Importance(model).log_weights, errors.UsageError, "not been run"),
        (lambda: Importance(model).resample(), errors.UsageError, "not been run"),
        (lambda: Importance(model, other).run(), errors.ModelError, "zz"),
        (lambda: Importance(model, learnt).run(), errors.ShapeError, "disagree at site 'z'"),
        (lambda: Importance(model).run(DATA, 1), errors.UsageError, "argument"),
        (
            lambda: Importance(impossible, num_samples=5).run(),
            errors.InferenceError,
            "(?s)all weights are zero.*-inf for all 5 draws.*'never'",
        ),
        (
            lambda: Importance(impossible, num_samples=5, parallel=False).run(),
            errors.InferenceError,
            "(?s)all weights are zero.*'never'",
        ),
        (
            lambda: Importance(undefined, num_samples=5).run(),
            errors.InferenceError,
            "(?s)not finite.*5 NaN",
        ),
        (lambda: psis_diagnostic(impossible, near), errors.PplkitError, "."),
        (lambda: psis_diagnostic(model, near, num_particles=0), errors.UsageError, "num_particles"),
        (lambda: EmpiricalMarginal(3), errors.UsageError, "Importance"),
        (
            lambda: EmpiricalMarginal(Importance(model, num_samples=2).run(), "zz"),
            errors.UsageError,
            "(?s)no draws of 'zz'.*did you mean 'z'",
        ),
        (lambda: WeighedPredictive(model, num_samples=3), errors.UsageError, "guide="),
        (
            lambda: Predictive(model, num_samples=3, log_weights=torch.zeros(3)),
            errors.UsageError,
            "no draws",
        ),
        (
            lambda: Predictive(model, {"z": torch.zeros(3)}, log_weights=torch.zeros(4)),
            errors.ShapeError,
            "4 log-weights for 3 draws",
        ),
        (
            lambda: Predictive(model, {"z": torch.zeros(3)}, log_weights=[0.0] * 3),
            errors.UsageError,
            "log_weights",
        ),
        (
            lambda: Predictive(
                model, {"z": torch.zeros(3)}, log_weights=torch.full((3,), -math.inf)
            ),
            errors.InferenceError,
            "all weights are zero",
        ),
        (
            lambda: Predictive(
                model, {"z": torch.zeros(2)}, log_weights=torch.tensor([0.0, math.nan])
            ),
            errors.InferenceError,
            "1 NaN",
        ),
    ],
)
def test_mistakes_are_told(run, error, message):
    with pytest.raises(error, match=message), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run()


def test_a_missing_arviz_is_told(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "arviz", None)
    posterior = Importance(model, num_samples=30).run()
    with pytest.raises(
        ImportError, match="(?s)get_pareto_k needs the package 'arviz'.*pip install"
    ):
        posterior.get_pareto_k()
