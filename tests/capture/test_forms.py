"""Draws that are functions of base noise come from the distributions whose names they bear.

The battery is that of the engine's own draws, run on given noise.
"""

import math

import numpy as np
import pytest
import scipy.stats as st
import torch

import pplkit.distributions as dist
from pplkit.capture import GivenNoise
from pplkit.errors import CaptureError
from tests.engine import test_distributions_draws as battery
from tests.engine.distribution_cases import F64, REFERENCES

LEAST_P = battery.LEAST_P


def given_noise(seed=0):
    """A context in which samplers draw from noise of this seed."""
    stream = torch.Generator().manual_seed(seed)
    make = {"normal": torch.randn, "uniform": torch.rand}

    def take(kind, shape, dtype, device):
        return make[kind](shape, dtype=dtype, generator=stream)

    return GivenNoise(take)


def draws(d, n=battery.N, seed=0):
    state = torch.get_rng_state()
    with given_noise(seed):
        value = d.sample((n,))
    assert torch.equal(torch.get_rng_state(), state)  # torch's own stream is not touched
    return value


@pytest.fixture
def on_given_noise(monkeypatch):
    monkeypatch.setattr(battery, "draws", draws)


@pytest.mark.parametrize("case", REFERENCES, ids=repr)
def test_numbers(case, on_given_noise):
    battery.test_numbers(case)


OTHERS = [
    "categories",
    "softened_coins",
    "extra_zeros",
    "mixtures",
    "vectors",
    "directions",
    "matrices",
]


@pytest.mark.parametrize("name", OTHERS)
def test_other_families(name, on_given_noise):
    getattr(battery, f"test_{name}")()


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
@pytest.mark.parametrize("small", [1e-4, 0.01, 0.05])
def test_small_concentrations(small, dtype, on_given_noise):
    battery.test_beta_and_dirichlet_with_small_concentrations(dtype, small)


@pytest.mark.parametrize(
    "n, p", [(1, 0.3), (10, 0.5), (60, 0.1), (60, 0.95), (1000, 0.4), (7, 0.0)]
)
def test_binomial_counts(n, p):
    x = draws(dist.Binomial(n, torch.tensor(p, dtype=F64))).numpy()
    assert battery.counts_fit(x, st.binom(n, p).pmf, np.arange(n + 1)) > LEAST_P


@pytest.mark.parametrize("rate", [0.0, 0.02, 1.0, 30.0, 400.0])
def test_poisson_counts(rate):
    x = draws(dist.Poisson(torch.tensor(rate, dtype=F64))).numpy()
    values = np.arange(int(rate + 12 * math.sqrt(rate) + 12))
    assert battery.counts_fit(x, st.poisson(rate).pmf, values) > LEAST_P


def test_counts_of_a_large_rate():
    x = draws(dist.Poisson(torch.tensor(1e7, dtype=F64)))
    assert abs(x.mean() - 1e7) < 4 * math.sqrt(1e7 / len(x))
    assert abs(x.std() / math.sqrt(1e7) - 1) < 0.03


def test_a_weight_of_zero_is_never_drawn():
    x = draws(dist.Categorical(torch.tensor([0.0, 0.3, 0.0, 0.7, 0.0])))
    assert set(x.tolist()) == {1, 3}


def test_draws_without_replacement():
    weights = torch.tensor([1.0, 2.0, 5.0]).expand(20_000, 3)
    with given_noise():
        pairs = torch.multinomial(weights, 2)
    first = torch.bincount(pairs[:, 0], minlength=3).numpy()
    assert st.chisquare(first, 20_000 * np.array([1, 2, 5]) / 8).pvalue > LEAST_P
    assert (pairs[:, 0] != pairs[:, 1]).all()
    after = torch.bincount(pairs[pairs[:, 0] == 2, 1], minlength=3).numpy()
    assert st.chisquare(after[:2], after.sum() * np.array([1, 2]) / 3).pvalue > LEAST_P


def test_orders_and_whole_numbers():
    with given_noise():
        orders = torch.stack([torch.randperm(3) for _ in range(6000)])
        whole = torch.randint(-2, 3, (6000,))
        switched = torch.nn.functional.dropout(torch.ones(6000), 0.25)
    ranks = (orders * torch.tensor([9, 3, 1])).sum(-1)
    assert st.chisquare(np.unique(ranks, return_counts=True)[1]).pvalue > LEAST_P
    assert len(np.unique(ranks)) == 6
    assert st.chisquare(np.unique(whole, return_counts=True)[1]).pvalue > LEAST_P
    assert set(whole.tolist()) == {-2, -1, 0, 1, 2}
    kept = int((switched > 0).sum())
    assert st.binomtest(kept, 6000, 0.75).pvalue > LEAST_P
    assert torch.equal(switched.unique(), torch.tensor([0.0, 1 / 0.75]))


def test_samplers_that_fill_a_tensor():
    x = torch.empty(10_000)
    with given_noise():
        for fill, cdf in (
            (lambda: x.normal_(1.0, 2.0), st.norm(1, 2).cdf),
            (lambda: x.uniform_(-1.0, 3.0), st.uniform(-1, 4).cdf),
            (lambda: x.exponential_(2.0), st.expon(scale=0.5).cdf),
            (lambda: x.cauchy_(1.0, 2.0), st.cauchy(1, 2).cdf),
            (lambda: x.log_normal_(0.0, 0.5), st.lognorm(0.5).cdf),
        ):
            assert fill() is x
            assert battery.fits(x.numpy(), cdf) > LEAST_P
        x.geometric_(0.3)
        assert battery.counts_fit(x.numpy(), st.geom(0.3).pmf, np.arange(1, 40)) > LEAST_P
        x.bernoulli_(0.3)
    assert st.binomtest(int(x.sum()), 10_000, 0.3).pvalue > LEAST_P


@pytest.mark.parametrize("a", [0.05, 0.7, 1.0, 3.0, 200.0])
def test_a_gamma_draw_has_the_slope_that_torch_gives_it(a):
    a = torch.full((500,), a, dtype=F64, requires_grad=True)
    with given_noise():
        x = dist.Gamma(a, 1.0).rsample()
    (slope,) = torch.autograd.grad(x.sum(), a)
    torch.testing.assert_close(slope, torch._standard_gamma_grad(a.detach(), x.detach()))
    with given_noise():
        also = torch.func.grad(lambda a: dist.Gamma(a, 1.0).rsample().sum())(a.detach())
    torch.testing.assert_close(slope, also)


def test_the_slopes_of_beta_and_dirichlet_draws_average_to_the_means():
    conc = torch.tensor([0.7, 2.0], dtype=F64).expand(20_000, 2)
    for draw in (
        lambda c: dist.Beta(c[:, 0], c[:, 1]).rsample(),
        lambda c: dist.Dirichlet(c).rsample()[:, 0],
    ):
        with given_noise():
            slope = torch.func.grad(lambda c, draw=draw: draw(c).sum())(conc)
        expected = torch.tensor([2.0, -0.7], dtype=F64) / 2.7**2
        error = slope.std(0) / math.sqrt(len(slope))
        assert ((slope.mean(0) - expected).abs() < 4.5 * error).all()


def test_a_sampler_without_a_form_is_refused():
    with given_noise(), pytest.raises(CaptureError, match="rrelu_with_noise") as told:
        torch.nn.functional.rrelu(torch.ones(3), training=True)
    assert "test_forms.py" in str(told.value)
