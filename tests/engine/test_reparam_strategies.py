"""Strategies that choose how sites are rewritten: Pyro's choices; the model's meaning stays."""

import pyro
import pyro.distributions
import pyro.infer.reparam
import pytest
import torch

import pplkit
import pplkit.distributions as dist
from pplkit import errors, handlers, plate, sample
from pplkit.infer import reparam
from pplkit.infer.reparam import (
    AutoReparam,
    GumbelSoftmaxReparam,
    LocScaleReparam,
    MinimalReparam,
    ProjectedNormalReparam,
    Strategy,
)


def program(ppl, dist):
    def model():
        mu = ppl.sample("mu", dist.Normal(0.0, 5.0))
        tau = ppl.sample("tau", dist.HalfCauchy(5.0))
        s = ppl.sample("s", dist.LogNormal(0.0, 1.0))
        ppl.sample("t", dist.StudentT(3.0, mu, tau))
        ppl.sample("r", dist.RelaxedOneHotCategorical(torch.tensor(0.5), logits=torch.zeros(3)))
        ppl.sample("p", dist.ProjectedNormal(torch.ones(2)))
        ppl.sample("laplace", dist.Laplace(mu, s))
        ppl.sample("b", dist.Beta(1.0, 2.0))
        ppl.sample("folded", dist.HalfNormal(2.0))
        with ppl.plate("data", 3):
            x = ppl.sample("x", dist.Normal(torch.zeros(2) + mu, tau).to_event(1))
            ppl.sample("y", dist.Normal(x.sum(-1), 1.0), obs=torch.zeros(3))

    return model


@pytest.mark.parametrize("name", ["AutoReparam", "MinimalReparam"])
def test_choices_are_pyros(name):
    settings = {"centered": 0.0} if name == "AutoReparam" else {}
    ours = getattr(reparam, name)(**settings)
    theirs = getattr(pyro.infer.reparam.strategies, name)(**settings)
    run = handlers.trace(ours(program(pplkit, dist))).get_trace()
    expected = pyro.poutine.trace(theirs(program(pyro, pyro.distributions))).get_trace()
    shapes = {
        n: tuple(site["value"].shape)
        for n, site in expected.nodes.items()
        if site["type"] == "sample" and not site["is_observed"] and n not in ("data",)
    }
    assert {n: tuple(run.nodes[n].value.shape) for n in run.stochastic_nodes} == shapes
    assert {k for k, v in ours.config.items() if v is not None} == {
        k for k, v in theirs.config.items() if v is not None
    }


def test_what_was_chosen_can_be_kept():
    strategy = AutoReparam(centered=0.0)
    model = program(pplkit, dist)
    first = handlers.trace(strategy(model)).get_trace()
    kept = {name: how for name, how in strategy.config.items() if how is not None}
    again = handlers.trace(handlers.reparam(model, config=kept)).get_trace()
    assert first.stochastic_nodes == again.stochastic_nodes
    assert type(kept["t"]) is LocScaleReparam and kept["t"].shape_params == ("df",)


def test_centring_is_learnt_unless_told():
    run = handlers.trace(AutoReparam()(program(pplkit, dist))).get_trace()
    assert "x_centered" in run.param_nodes and "laplace_centered" in run.param_nodes
    assert (
        handlers.trace(AutoReparam(centered=0.5)(program(pplkit, dist))).get_trace().param_nodes
        == []
    )


@pytest.mark.parametrize(
    ("fn", "how"),
    [
        (lambda: dist.ProjectedNormal(torch.tensor([1.0, -0.5, 2.0])), ProjectedNormalReparam()),
        (
            lambda: dist.RelaxedOneHotCategorical(
                torch.tensor(0.7), logits=torch.tensor([0.0, 1.0, -1.0])
            ),
            GumbelSoftmaxReparam(),
        ),
        (lambda: dist.StudentT(5.0, 1.0, 2.0), LocScaleReparam(0.3, ["df"])),
    ],
)
def test_the_law_of_the_rewritten_site_is_the_same(fn, how):
    """Quantiles of each part of the value, and of products of two, by two samples."""

    def model():
        with plate("draws", 40_000):
            return sample("x", fn())

    with handlers.seed(rng_seed=0):
        plain = model()
        written = handlers.reparam(model, config={"x": how})()
    assert plain.shape == written.shape
    for statistic in (lambda x: x, lambda x: (x.T * x.T.roll(1, 0)).T):
        a, b = statistic(plain).reshape(40_000, -1), statistic(written).reshape(40_000, -1)
        for q in (0.1, 0.5, 0.9):
            below = (b <= a.quantile(q, 0)).double().mean(0)
            assert (below - q).abs().max() < 5 * (2 * q * (1 - q) / 40_000) ** 0.5


def test_the_density_of_rewritten_directions_has_gradients():
    loc = torch.tensor([1.0, 0.5], requires_grad=True)
    model = handlers.reparam(
        lambda: sample("x", dist.ProjectedNormal(loc)), config={"x": ProjectedNormalReparam()}
    )
    model().sum().backward()
    assert torch.isfinite(loc.grad).all() and loc.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ({"x": ProjectedNormalReparam()}, dist.Normal(0.0, 1.0), None), "ProjectedNormal"),
        (lambda: ({"x": GumbelSoftmaxReparam()}, dist.Normal(0.0, 1.0), None), "RelaxedOneHot"),
        (
            lambda: (
                {"x": ProjectedNormalReparam()},
                dist.ProjectedNormal(torch.ones(2)),
                torch.tensor([1.0, 0.0]),
            ),
            "is observed",
        ),
    ],
)
def test_families_that_do_not_fit_are_told(make, message):
    config, fn, obs = make()
    with pytest.raises(errors.ModelError, match=message):
        handlers.reparam(lambda: sample("x", fn, obs=obs), config=config)()


def test_arguments_are_looked_at():
    with pytest.raises(errors.UsageError, match="between 0 and 1"):
        AutoReparam(centered=2.0)
    with pytest.raises(NotImplementedError):
        Strategy()(lambda: sample("x", dist.Normal(0.0, 1.0)))()
    assert MinimalReparam().config == {}
