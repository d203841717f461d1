"""Simulation-based calibration: the test of uniformity itself, and what it says of inferences that
are right, and wrong in known ways.
"""

import functools
import itertools
import sys
import warnings

import pytest
import torch

import pplkit.distributions as dist
from pplkit import errors, factor, param, plate, sample
from pplkit.distributions import constraints
from pplkit.infer import NUTS, Calibration, Importance, simulation_based_calibration, uniformity
from pplkit.infer.autoguide import AutoMultivariateNormal, AutoNormal
from pplkit.optim import Adam

ZEROS = torch.zeros(5)


def model(x):
    z = sample("z", dist.Normal(0.0, 1.0))
    with plate("data", len(x)):
        sample("x", dist.Normal(z, 1.0), obs=x)


def guide(scale=6**-0.5, shift=0.0, share=1.0):
    """The exact posterior, unless told otherwise."""

    def made(x):
        sample("z", dist.Normal(share * x.sum() / 6 + shift, scale))

    return made


# -- uniformity ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "number"), [(4, 1), (5, 2), (4, 3)])
def test_p_values_are_those_of_all_possible_ranks(size, number):
    """By listing every combination of ranks; all are equally probable."""
    ranks = torch.tensor(list(itertools.product(range(number + 1), repeat=size)))
    counts = torch.stack([uniformity.below(row, number) for row in ranks])
    found = uniformity.p_values(counts, size, number)
    at = torch.arange(1, number + 1).double() / (number + 1)
    mass = torch.distributions.Binomial(size, at[:, None]).log_prob(torch.arange(size + 1.0)).exp()
    tails = [
        [2 * min(float(row[: k + 1].sum()), float(row[k:].sum())) for k in range(size + 1)]
        for row in mass
    ]
    least = [min(1.0, *(tails[i][int(k)] for i, k in enumerate(row))) for row in counts]
    by_hand = [sum(x <= mine + 1e-5 for x in least) / len(least) for mine in least]
    assert torch.allclose(found, torch.tensor(by_hand, dtype=torch.float64), atol=1e-9)


def test_uniform_ranks_fail_as_often_as_the_level_says():
    torch.manual_seed(0)
    ranks = torch.randint(0, 40, (1000, 80))
    counts = torch.stack([uniformity.below(row, 39) for row in ranks])
    found = uniformity.p_values(counts, 80, 39)
    for level in (0.05, 0.2):
        failed = (found <= level).double().mean()
        assert 0.5 * level < failed < level + 3 * (level / 1000) ** 0.5
    _, low, high = uniformity.band(39, 80, 0.2)
    left = ((counts < low) | (counts > high)).any(1)
    assert torch.equal(left, found <= 0.2) or abs(left.double().mean() - 0.2) < 0.06


def test_places_are_few_where_draws_are_many():
    assert len(uniformity.places(5000)) == 100 and uniformity.places(5000).max() == 5000


# -- verdicts --------------------------------------------------------------------------------------


def test_the_exact_posterior_passes():
    result = simulation_based_calibration(model, guide(), ZEROS, seed=0)
    assert result.is_calibrated and set(result.ranks) == {"z", "log_likelihood"}
    assert result.finding("z") == "calibrated" and min(result.p_values.values()) > 0.025
    assert result.num_samples == 200 and result.ranks["z"].shape == (100,)


@pytest.mark.parametrize(
    ("wrong", "quantity", "finding"),
    [
        (guide(scale=0.2), "z", "too narrow: the truth lies too often beyond all draws"),
        (guide(scale=0.9), "z", "too wide: the truth lies too often in the middle of the draws"),
        (guide(shift=0.3), "z", "draws are too high"),
        (guide(shift=-0.3), "z", "draws are too low"),
        # The prior itself: all parameters' ranks are uniform.
        (
            guide(scale=1.0, share=0.0),
            "log_likelihood",
            "too low: the draws fit the data worse than they should",
        ),
    ],
)
def test_wrong_guides_are_flagged_with_what_is_wrong(wrong, quantity, finding):
    result = simulation_based_calibration(model, wrong, ZEROS, seed=0, num_samples=100)
    assert not result.is_calibrated and result.finding(quantity) == finding
    assert "Verdict: not calibrated." in repr(result) and finding in repr(result)
    if quantity == "log_likelihood":
        assert result.finding("z") == "calibrated"


def mixed(x, y):
    """An event, a discrete variable, two plates and two observed sites."""
    w = sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    k = sample("k", dist.Bernoulli(torch.tensor(0.4)))
    with plate("columns", 2, dim=-2), plate("rows", 3, dim=-1):
        sample("x", dist.Normal(w.sum(-1) + k, 1.0), obs=x)
    sample("y", dist.Poisson((w[..., 0]).exp()), obs=y)


def test_importance_sampling_passes_on_events_and_discrete_variables():
    sampler = functools.partial(Importance, num_samples=3000)
    result = simulation_based_calibration(
        mixed, sampler, torch.zeros(2, 3), y=torch.tensor(0.0),
        num_simulations=60, num_samples=20, seed=0,
    )  # fmt: skip
    assert result.is_calibrated and result.sampler == "Importance"
    assert list(result.ranks) == ["w[0]", "w[1]", "k", "log_likelihood"]
    # Draws from the prior, called a posterior.
    lazy = functools.partial(Importance, num_samples=20)
    worse = simulation_based_calibration(
        mixed, lazy, torch.zeros(2, 3), y=torch.tensor(0.0),
        num_simulations=60, num_samples=20, seed=0,
    )  # fmt: skip
    assert any("effective sample size" in note for note in worse.notes)


@pytest.mark.long
def test_a_guide_is_fitted_to_each_simulation():
    """Of 30 steps each: far from the posterior, and told."""

    def mean_field(x):
        loc = param("loc", torch.tensor(0.0))
        scale = param("scale", torch.tensor(1.0), constraint=constraints.positive)
        sample("z", dist.Normal(loc, scale))

    few = {"num_simulations": 20, "num_samples": 20, "seed": 0, "optim": Adam({"lr": 0.1})}
    fitted = simulation_based_calibration(model, mean_field, ZEROS, num_steps=60, **few)
    assert fitted.is_calibrated
    joint = simulation_based_calibration(model, AutoMultivariateNormal, ZEROS, num_steps=60, **few)
    assert joint.is_calibrated and joint.sampler == "AutoMultivariateNormal"


def test_site_by_site_guides_are_fitted_together():
    settings = {"num_simulations": 60, "seed": 0, "optim": Adam({"lr": 0.05})}
    result = simulation_based_calibration(model, AutoNormal, ZEROS, num_steps=300, **settings)
    assert result.is_calibrated
    # Left at its start, N(0, 0.1), it fails.
    early = simulation_based_calibration(model, AutoNormal, ZEROS, num_steps=1, **settings)
    assert early.finding("z").startswith("too narrow")


def test_chains_pass_in_one_vectorised_run():
    def scaled(x):
        z = sample("z", dist.Normal(0.0, 1.0))
        s = sample("s", dist.LogNormal(0.0, 0.5))
        with plate("data", len(x)):
            sample("x", dist.Normal(z, s), obs=x)

    settings = {"num_simulations": 100, "num_samples": 100, "warmup_steps": 150, "seed": 0}
    result = simulation_based_calibration(scaled, NUTS, ZEROS, compile=True, **settings)
    assert result.is_calibrated and list(result.ranks) == ["z", "s", "log_likelihood"]
    assert 10 <= result.num_samples < 100  # thinned


def test_the_seed_decides():
    runs = [
        simulation_based_calibration(model, guide(), ZEROS, seed=s, num_simulations=20)
        for s in (1, 1, 2)
    ]
    assert torch.equal(runs[0].ranks["z"], runs[1].ranks["z"])
    assert not torch.equal(runs[0].ranks["z"], runs[2].ranks["z"])


# -- the result ------------------------------------------------------------------------------------


def test_ties_are_broken_by_lot():
    def coin(x):
        p = sample("k", dist.Bernoulli(torch.tensor(0.5)))
        sample("x", dist.Normal(p, 100.0), obs=x)

    def prior(x):
        sample("k", dist.Bernoulli(torch.tensor(0.5)))

    result = simulation_based_calibration(coin, prior, torch.tensor(0.0), seed=0, num_samples=20)
    assert result.is_calibrated and len(result.ranks["k"].unique()) > 15


def test_the_level_is_shared_among_quantities():
    good = torch.arange(200) % 10
    bad = torch.where(torch.arange(200) < 18, 0, good)
    alone = Calibration({"bad": bad}, 9)
    assert 0.001 < alone.p_values["bad"] < 0.05 and not alone.is_calibrated
    among = Calibration({"bad": bad} | {f"q{i}": good for i in range(60)}, 9)
    assert among.is_calibrated and among.p_values["bad"] == alone.p_values["bad"]


def test_the_plot_draws_each_quantity_and_its_band():
    result = simulation_based_calibration(
        model, guide(scale=0.2), ZEROS, seed=0, num_simulations=40, num_samples=30
    )
    figure = result.plot()
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in shown] == ["z: too narrow", "log_likelihood: too high"]
    line = shown[0].lines[-1].get_ydata()
    below = uniformity.below(result.ranks["z"], 30) / 40 - torch.arange(1, 31) / 31
    assert torch.allclose(torch.as_tensor(line), below.double(), atol=1e-6)
    assert len(result.plot(["z"]).axes) == 1
    with pytest.raises(errors.UsageError, match="(?s)no draws of 'zz'.*did you mean 'z'"):
        result.plot(["zz"])


# -- mistakes --------------------------------------------------------------------------------------


def silent(x):
    sample("z", dist.Normal(0.0, 1.0))


def partly(x):
    z = sample("z", dist.Normal(0.0, 1.0))
    with plate("data", 5, subsample_size=2) as rows:
        sample("x", dist.Normal(z, 1.0), obs=x[rows])


def weighted(x):
    model(x)
    factor("more", torch.tensor(1.0))


def varying(x):
    k = sample("k", dist.Bernoulli(torch.tensor(0.5)))
    if k:
        sample("z", dist.Normal(0.0, 1.0))
    sample("x", dist.Normal(0.0, 1.0), obs=x)


def sbc(model=model, sampler=None, **settings):
    return simulation_based_calibration(model, sampler or guide(), ZEROS, **settings)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sbc(model=3), errors.UsageError, "model="),
        (lambda: sbc(sampler=3), errors.UsageError, "(?s)sampler=.*NUTS"),
        (lambda: sbc(num_simulations=5), errors.UsageError, "at least 20"),
        (lambda: sbc(num_samples=0), errors.UsageError, "at least 10"),
        (lambda: sbc(warmup_steps=-1), errors.UsageError, "warmup_steps"),
        (lambda: sbc(num_steps=-1), errors.UsageError, "num_steps"),
        (lambda: sbc(optim="adam"), errors.UsageError, "optim="),
        (lambda: sbc(level=2.0), errors.UsageError, "level="),
        (lambda: sbc(model=silent), errors.UsageError, "(?s)no observed site"),
        (lambda: sbc(model=partly), errors.UsageError, "(?s)'x'.*part of its rows"),
        (lambda: sbc(model=weighted), errors.UsageError, "(?s)'more'.*factor"),
        (lambda: sbc(model=varying), errors.ModelError, "'z' is not in every simulation"),
        (lambda: sbc(sampler=NUTS(model)), errors.UsageError, "(?s)has its model already.*partial"),
        (lambda: sbc(sampler=silent, model=lambda x, y: None), errors.PplkitError, "."),
    ],
)
def test_mistakes_are_told(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_guide_that_sees_no_data_is_told_of():
    def closed():
        model(ZEROS)

    def blind():
        sample("z", dist.Normal(0.0, 6**-0.5))

    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        result = simulation_based_calibration(closed, blind, num_simulations=60, seed=0)
    assert any("cannot see the simulated data" in str(w.message) for w in shown)
    assert not result.is_calibrated


def test_a_missing_arviz_is_told_before_chains_are_run(monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match="needs the package 'arviz'"):
        sbc(sampler=NUTS)
