"""Common random numbers: places keep their numbers, and the numbers are random."""

from __future__ import annotations

import math

import pytest
import torch

import pplkit
import pplkit.distributions as dist
from pplwidgets.noise import common_random_numbers


def drawn(draw, n, seed=0):
    with common_random_numbers(seed):
        return draw(n)


def in_plate(family):
    def draw(n):
        with pplkit.plate("rows", n):
            return pplkit.sample("x", family())

    return draw


def in_two_plates(n):
    with pplkit.plate("outer", 3, dim=-2), pplkit.plate("rows", n, dim=-1):
        return pplkit.sample("x", dist.Normal(0.0, 1.0)).T


def by_hand(n):
    return dist.Normal(torch.zeros(n), torch.ones(n)).sample()


DRAWS = {
    "normal": in_plate(lambda: dist.Normal(0.0, 1.0)),
    "uniform": in_plate(lambda: dist.Uniform(-1.0, 2.0)),
    "log-normal": in_plate(lambda: dist.LogNormal(0.0, 1.0)),
    "bernoulli": in_plate(lambda: dist.Bernoulli(0.3)),
    "gamma": in_plate(lambda: dist.Gamma(2.0, 1.0)),
    "beta": in_plate(lambda: dist.Beta(2.0, 3.0)),
    "two plates": in_two_plates,
    "by hand": by_hand,
    "randn": lambda n: torch.randn(n),
    "randn with columns": lambda n: torch.randn(n, 2),
    "rand": lambda n: torch.rand(n),
    "rand_like": lambda n: torch.rand_like(torch.zeros(n)),
    "normal_": lambda n: torch.empty(n).normal_(1.0, 2.0),
    "uniform_": lambda n: torch.empty(n).uniform_(1.0, 2.0),
    "exponential_": lambda n: torch.empty(n).exponential_(2.0),
    "torch.normal": lambda n: torch.normal(torch.zeros(n), torch.ones(n)),
    "torch.bernoulli": lambda n: torch.bernoulli(torch.full((n,), 0.5)),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_growing_plate_appends(draw):
    most = drawn(draw, 300)
    for n in (1, 2, 7, 8, 15, 16, 17, 31, 64, 100, 299):
        assert torch.equal(drawn(draw, n), most[:n]), n


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_another_seed_draws_anew(draw):
    assert not torch.equal(drawn(draw, 300, seed=0), drawn(draw, 300, seed=1))


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_the_global_generator_is_left_alone(draw):
    before = torch.random.get_rng_state()
    drawn(draw, 20)
    assert torch.equal(before, torch.random.get_rng_state())


def test_one_draw_does_not_move_the_next():
    def both(n):
        with common_random_numbers(5):
            torch.randn(n)
            return torch.randn(3)

    assert torch.equal(both(2), both(200))


def test_parameters_only_transform_the_numbers():
    here, there = (drawn(lambda n: dist.Normal(mu, 2.0).sample((n,)), 50) for mu in (0.0, 3.0))
    assert torch.allclose(there - here, torch.tensor(3.0), atol=1e-5)


def test_a_seed_of_the_functions_own_is_respected():
    def own():
        with pplkit.handlers.seed(rng_seed=7):
            return pplkit.sample("x", dist.Normal(0.0, 1.0))

    with common_random_numbers(0):
        assert torch.equal(own(), own())


def test_gradients_flow_through_parameters():
    mu = torch.tensor(0.5, requires_grad=True)
    with common_random_numbers(0):
        dist.Normal(mu, 1.0).rsample((4,)).sum().backward()
    assert mu.grad == 4.0


N = 40_000
# Truths of each sampler: mean, variance.
TRUTHS = {
    "randn": (lambda: torch.randn(N), 0.0, 1.0),
    "rand": (lambda: torch.rand(N), 0.5, 1 / 12),
    "uniform(-1, 2)": (lambda: torch.empty(N).uniform_(-1.0, 2.0), 0.5, 9 / 12),
    "exponential(2)": (lambda: torch.empty(N).exponential_(2.0), 0.5, 0.25),
    "bernoulli": (lambda: torch.bernoulli(torch.full((N,), 0.3)), 0.3, 0.21),
    "gamma": (lambda: dist.Gamma(3.0, 2.0).sample((N,)), 1.5, 0.75),
    "poisson": (lambda: torch.poisson(torch.full((N,), 4.0)), 4.0, 4.0),
    "many short rows": (lambda: torch.randn(N // 4, 4).reshape(-1), 0.0, 1.0),
}


@pytest.mark.parametrize(("draw", "mean", "variance"), TRUTHS.values(), ids=TRUTHS)
def test_moments(draw, mean, variance):
    with common_random_numbers(11):
        x = draw().double()
    error = math.sqrt(variance / N)
    assert abs(x.mean() - mean) < 5 * error
    assert abs(x.var() / variance - 1) < 0.08
    assert abs(torch.corrcoef(torch.stack([x[:-1], x[1:]]))[0, 1]) < 5 / math.sqrt(N)


def test_neighbours_in_both_directions_are_unrelated():
    with common_random_numbers(3):
        x = torch.randn(200, 200).double()
    for rows in (x, x.T):
        related = torch.corrcoef(rows).fill_diagonal_(0).abs().max()
        assert related < 6 / math.sqrt(200)


def test_the_distribution_is_normal():
    from scipy import stats

    with common_random_numbers(1):
        x = torch.randn(N, dtype=torch.float64)
    assert stats.kstest(x.numpy(), "norm").pvalue > 1e-4
