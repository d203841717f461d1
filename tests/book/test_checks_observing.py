"""The exercises of the chapter on observing: right answers, and the usual mistakes."""

import pytest
import torch
from pplwidgets.checks import check

import pplkit.distributions as dist
from pplkit import plate, sample
from pplkit.handlers import do, seed, trace


def coin_posterior(tosses, a, b):
    return dist.Beta(a + tosses.sum(), b + len(tosses) - tosses.sum())


def emissions(counts, seconds, prior=(2.0, 1.0), exposure=lambda r, s: r * s):
    rate = sample("rate", dist.Gamma(*prior))
    with plate("measurements", len(counts)):
        sample("count", dist.Poisson(exposure(rate, seconds)), obs=counts)


def emissions_each_its_rate(counts, seconds):
    with plate("measurements", len(counts)):
        rate = sample("rate", dist.Gamma(2.0, 1.0))
        sample("count", dist.Poisson(rate * seconds), obs=counts)


def mean_days(model, drug, n):
    with plate("runs", n):
        run = trace(do(model, data={"drug": torch.tensor(drug)})).get_trace()
    return run.nodes["days"].value.mean()


def effect(model, n):
    return mean_days(model, 1.0, n) - mean_days(model, 0.0, n)


def effect_in_a_loop(model, n):
    held = [do(model, data={"drug": torch.tensor(drug)}) for drug in (1.0, 0.0)]
    days = [[trace(one).get_trace().nodes["days"].value for _ in range(n)] for one in held]
    return sum(days[0]) / n - sum(days[1]) / n


def effect_seen(model, n):
    with plate("runs", n):
        run = trace(model).get_trace()
    drug, days = run.nodes["drug"].value, run.nodes["days"].value
    return days[drug == 1].mean() - days[drug == 0].mean()


def next_count(counts, n):
    with plate("futures", n):
        rate = sample("rate", dist.Gamma(2.0 + counts.sum(), 1.0 + len(counts)))
        return sample("count", dist.Poisson(rate))


def next_count_in_one(counts, n):
    fn = dist.GammaPoisson(2.0 + counts.sum(), 1.0 + len(counts))
    return fn.sample((n,))


def rate_known(counts, n):
    with plate("futures", n):
        return sample("count", dist.Poisson((2.0 + counts.sum()) / (1.0 + len(counts))))


def from_the_prior(counts, n):
    with plate("futures", n):
        return sample("count", dist.Poisson(sample("rate", dist.Gamma(2.0, 1.0))))


def one_rate_for_all(counts, n):
    rate = sample("rate", dist.Gamma(2.0 + 100 * counts.sum(), 1.0 + len(counts)))
    with plate("futures", n):
        return sample("count", dist.Poisson(rate))


def rates_alone(counts, n):
    return dist.Gamma(2.0 + counts.sum(), 1.0 + len(counts)).sample((n,))


def seeded(counts, n):
    with seed(rng_seed=0):
        return next_count(counts, n)


RIGHT = [
    ("coin_posterior", coin_posterior),
    ("emissions", emissions),
    ("effect", effect),
    ("effect", effect_in_a_loop),
    ("next_count", next_count),
    ("next_count", next_count_in_one),
]
WRONG = [
    ("coin_posterior", "prior", lambda t, a, b: dist.Beta(a, b), "the prior"),
    ("coin_posterior", "flat", lambda t, a, b: coin_posterior(t, 1.0, 1.0), "flat"),
    ("coin_posterior", "swapped", lambda t, a, b: coin_posterior(1 - t, a, b), "exchanged"),
    (
        "coin_posterior",
        "n-for-tails",
        lambda t, a, b: dist.Beta(a + t.sum(), b + len(t)),
        "tails alone",
    ),
    ("coin_posterior", "wrong-value", lambda t, a, b: dist.Beta(9.0, 9.0), "another"),
    (
        "coin_posterior",
        "not-a-distribution",
        lambda t, a, b: coin_posterior(t, a, b).mean,
        "itself",
    ),
    ("coin_posterior", "empty", lambda t, a, b: None, "nothing"),
    ("emissions", "no-exposure", lambda c, s: emissions(c, s, exposure=lambda r, s: r), "second"),
    ("emissions", "divided", lambda c, s: emissions(c, s, exposure=lambda r, s: r / s), "longer"),
    ("emissions", "likelihood", lambda c, s: emissions(c, s + 1.0), "Poisson"),
    ("emissions", "prior", lambda c, s: emissions(c, s, (1.0, 2.0)), "Gamma(2, 1)"),
    ("emissions", "rate-in-the-plate", emissions_each_its_rate, "outside the plate"),
    ("emissions", "no-obs", lambda c, s: emissions(c + 1, s), "obs=counts"),
    ("emissions", "empty", lambda c, s: None, "no `sample` statement"),
    ("effect", "seen-not-set", effect_seen, "*seen*"),
    ("effect", "sign", lambda m, n: -effect(m, n), "sign"),
    ("effect", "wrong-value", lambda m, n: mean_days(m, 1.0, n), "-2"),
    ("effect", "empty", lambda m, n: None, "nothing"),
    ("next_count", "rate-known", rate_known, "as if the rate were known"),
    ("next_count", "prior", from_the_prior, "*prior* predictive"),
    ("next_count", "rates", rates_alone, "whole numbers"),
    ("next_count", "constant", seeded, "the same draws"),
    ("next_count", "wrong-value", one_rate_for_all, "posterior"),
    ("next_count", "shape", lambda c, n: next_count(c, n)[:5], "(5,)"),
    ("next_count", "empty", lambda c, n: None, "nothing"),
]


@pytest.mark.parametrize("exercise, answer", RIGHT)
def test_right_answers_about_observing_pass(exercise, answer):
    verdict = check(exercise, answer)
    assert verdict, verdict


@pytest.mark.parametrize("exercise, mistake, answer, phrase", WRONG)
def test_wrong_answers_about_observing_are_told_what_is_wrong(exercise, mistake, answer, phrase):
    verdict = check(exercise, answer)
    assert verdict.mistake == mistake, verdict
    assert phrase in repr(verdict)
