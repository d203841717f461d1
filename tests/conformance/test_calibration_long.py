"""NUTS on data that models make themselves: five models of different shapes, and wrong ones."""

import functools

import pytest
import torch

import pplkit.distributions as dist
from pplkit import handlers, plate, sample
from pplkit.infer import NUTS, simulation_based_calibration
from pplkit.infer.reparam import LocScaleReparam

pytestmark = pytest.mark.long


def location_and_scale(y):
    mu = sample("mu", dist.Normal(0.0, 2.0))
    sigma = sample("sigma", dist.LogNormal(0.0, 0.5))
    with plate("data", len(y)):
        sample("y", dist.Normal(mu, sigma), obs=y)


def hierarchy(y):
    mu = sample("mu", dist.Normal(0.0, 3.0))
    tau = sample("tau", dist.LogNormal(0.0, 0.7))
    with plate("groups", len(y)):
        theta = sample("theta", dist.Normal(mu, tau))
        sample("y", dist.Normal(theta, 1.0), obs=y)


non_centred = handlers.reparam(hierarchy, config={"theta": LocScaleReparam(0.0)})


def logistic(x, y):
    b = sample("b", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with plate("data", len(x)):
        sample("y", dist.Bernoulli(logits=(x * b).sum(-1)), obs=y)


def rates(y):
    shape = sample("shape", dist.Gamma(4.0, 2.0))
    mean = sample("mean", dist.LogNormal(1.0, 0.5))
    with plate("units", len(y)):
        rate = sample("rate", dist.Gamma(shape, shape / mean))
        sample("y", dist.Poisson(rate), obs=y)


def shares(y):
    p = sample("p", dist.Dirichlet(torch.tensor([1.0, 2.0, 3.0])))
    with plate("data", len(y)):
        sample("y", dist.Categorical(p), obs=y)


X = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
MODELS = {
    "location and scale": (location_and_scale, (torch.zeros(8),)),
    "non-centred hierarchy": (non_centred, (torch.zeros(6),)),
    "logistic regression": (logistic, (X, torch.zeros(20))),
    "gamma-Poisson": (rates, (torch.zeros(6),)),
    "Dirichlet": (shares, (torch.zeros(15, dtype=torch.int64),)),
}


@pytest.mark.parametrize("name", MODELS)
def test_nuts_is_calibrated(name):
    model, args = MODELS[name]
    result = simulation_based_calibration(
        model, NUTS, *args, num_simulations=600, num_samples=300, seed=0, compile=True,
        level=0.05 / len(MODELS),  # one false alarm in twenty runs of all of them
    )  # fmt: skip
    assert result.is_calibrated, repr(result)
    assert result.num_samples >= 20


def test_nuts_on_a_likelihood_that_is_not_the_datas_is_flagged():
    """Chains of a model with twice the noise that data are made with."""

    class Misled(NUTS):
        def __init__(self, model, **settings):
            def softened(*args):
                with handlers.scale(scale=0.25):  # prior and likelihood count for less
                    return model(*args)

            super().__init__(softened, **settings)

    result = simulation_based_calibration(
        location_and_scale, functools.partial(Misled, target_accept_prob=0.9), torch.zeros(8),
        num_simulations=300, num_samples=300, seed=0,
    )  # fmt: skip
    assert not result.is_calibrated and result.finding("mu").startswith("too wide")
