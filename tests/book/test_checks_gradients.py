"""The exercises of the chapter on gradients: right answers of several kinds, and the usual
mistakes.
"""

import pplwidgets
import pytest
import torch
from pplwidgets.checks import check

import pplkit
import pplkit.distributions as dist

# -- which_way -------------------------------------------------------------------------------------

WAYS = {"a": "path", "b": "score", "c": "sum", "d": "path", "e": "score", "f": "score"}
BELIEFS = [
    ("a", "score", "noisy"),
    ("a", "sum", "no-values"),
    ("b", "path", "path-of-counts"),
    ("b", "sum", "endless"),
    ("c", "path", "path-of-counts"),
    ("c", "score", "noisy"),
    ("d", "score", "noisy"),
    ("d", "sum", "no-values"),
    ("e", "path", "path-of-counts"),
    ("e", "sum", "too-many"),
    ("f", "path", "flat-cost"),
    ("f", "sum", "no-values"),
]


@pytest.mark.parametrize("letter, way, mistake", BELIEFS)
def test_a_way_that_does_not_lead_there_is_answered_by_name(letter, way, mistake):
    verdict = check("which_way", lambda: {**WAYS, letter: way})
    assert verdict.mistake == mistake, verdict


# -- score_gradient --------------------------------------------------------------------------------


def by_score(rate, n, cost=torch.square, baseline=0.0):
    z = dist.Poisson(rate).sample((n,))
    return ((cost(z) - baseline) * (z / rate - 1)).mean()


def by_autograd(rate, n):
    rate = torch.tensor(rate, requires_grad=True)
    fn = dist.Poisson(rate)
    z = fn.sample((n,))
    (slope,) = torch.autograd.grad((z**2 * fn.log_prob(z)).mean(), [rate])
    return slope.item()


def without_the_rate(rate, n):
    z = dist.Poisson(rate).sample((n,))
    return (z**2 * z / rate).mean()


def with_a_seed(rate, n):
    pplkit.set_rng_seed(1)
    return by_score(rate, n)


def mean_cost(rate, n):
    return dist.Poisson(rate).sample((n,)).square().mean()


# -- weibull ---------------------------------------------------------------------------------------


def weibull(scale, shape, u):
    return scale * (-torch.log(u)) ** (1 / shape)


def of_its_own(scale, shape, u):
    return dist.Weibull(scale, shape).rsample(u.shape)


# -- quiet_score -----------------------------------------------------------------------------------


def figure(location, scale, particles=4):
    def moved():
        made = pplwidgets.gradient_estimators()
        made.location, made.scale, made.particles = location, scale, particles
        return made

    return moved


# -- with_baseline ---------------------------------------------------------------------------------


def leave_one_out(cost, score):
    others = (cost.sum() - cost) / (len(cost) - 1)
    return ((cost - others) * score).mean()


def leave_one_out_in_a_loop(cost, score):
    total = 0.0
    for i in range(len(cost)):
        others = torch.cat([cost[:i], cost[i + 1 :]]).mean()
        total += (cost[i] - others).item() * score[i].item()
    return total / len(cost)


# -- summed_out ------------------------------------------------------------------------------------


def summed_out(x, shares, centres):
    return torch.logsumexp(shares.log() + terms(x, centres), dim=-1)


def by_a_mixture(x, shares, centres):
    kinds = torch.distributions.Normal(centres, torch.ones(()))
    which = torch.distributions.Categorical(shares)
    return torch.distributions.MixtureSameFamily(which, kinds).log_prob(x)


def terms(x, centres):
    return dist.Normal(centres, 1.0).log_prob(x.unsqueeze(-1))


RIGHT = [
    ("which_way", lambda: WAYS),
    ("score_gradient", by_score),
    ("score_gradient", by_autograd),
    ("score_gradient", lambda rate, n: by_score(rate, n, baseline=rate**2 + rate)),
    ("score_gradient", lambda rate, n: 2 * rate + 1),
    ("weibull", weibull),
    ("weibull", lambda scale, shape, u: weibull(scale, shape, 1 - u)),
    ("quiet_score", figure(0.8, 0.25)),
    ("quiet_score", figure(0.7, 0.25, 20)),
    ("with_baseline", leave_one_out),
    ("with_baseline", leave_one_out_in_a_loop),
    ("with_baseline", lambda cost, score: ((cost - 14) * score).mean()),
    ("summed_out", summed_out),
    ("summed_out", by_a_mixture),
]
WRONG = [
    ("which_way", "empty", lambda: None, "returned nothing"),
    ("which_way", "unanswered", lambda: {**WAYS, "d": "dice"}, "`d`"),
    ("which_way", "not-a-dictionary", lambda: "path", "a str"),
    ("score_gradient", "empty", lambda rate, n: None, "returned nothing"),
    ("score_gradient", "not-a-number", lambda rate, n: torch.ones(n), "Average"),
    ("score_gradient", "sign", lambda rate, n: -by_score(rate, n), "turned"),
    ("score_gradient", "no-path", lambda rate, n: 0.0, "use the score"),
    ("score_gradient", "cost", mean_cost, "its score"),
    ("score_gradient", "not-averaged", lambda rate, n: n * by_score(rate, n), "Divide"),
    ("score_gradient", "half-a-score", without_the_rate, "z / rate - 1"),
    ("score_gradient", "constant", with_a_seed, "fix no seed"),
    ("score_gradient", "n-unused", lambda rate, n: by_score(rate, n // 25), "draws were used"),
    ("score_gradient", "of-the-mean", lambda rate, n: 2 * rate + 0.01 * torch.randn(()), "rate²"),
    ("score_gradient", "wrong-value", lambda rate, n: by_score(rate, n) + 20, "derivative"),
    ("weibull", "empty", lambda *given: None, "returned nothing"),
    ("weibull", "shape", lambda scale, shape, u: scale, "One draw for each"),
    ("weibull", "no-path", lambda *given: weibull(*given).detach(), "no `.detach()`"),
    (
        "weibull",
        "no-path",
        lambda scale, shape, u: weibull(scale.item(), shape, u),
        "one of the two",
    ),
    ("weibull", "own-noise", of_its_own, "`u` is the noise"),
    ("weibull", "power", lambda c, k, u: c * (-torch.log(u)) ** k, "1 / shape"),
    ("weibull", "rate", lambda c, k, u: (-torch.log(u)) ** (1 / k) / c, "Multiply"),
    ("weibull", "not-inverted", lambda c, k, u: torch.exp(-((u / c) ** k)), "Solve for z"),
    ("weibull", "negative", lambda c, k, u: c * torch.log(u) / k, "turn its sign"),
    ("weibull", "distribution", lambda c, k, u: 3 + c * u, "Solve u"),
    ("quiet_score", "empty", lambda: None, "return figure"),
    ("quiet_score", "not-a-figure", lambda: (0.8, 0.25), "a tuple"),
    ("quiet_score", "location", figure(0.0, 0.25, 100), "Particles do not"),
    ("quiet_score", "scale", figure(0.8, 0.6), "precision 17"),
    ("with_baseline", "empty", lambda cost, score: None, "returned nothing"),
    (
        "with_baseline",
        "own-cost",
        lambda cost, score: ((cost - cost.mean()) * score).mean(),
        "*other*",
    ),
    ("with_baseline", "no-baseline", lambda cost, score: (cost * score).mean(), "other draws"),
    (
        "with_baseline",
        "not-averaged",
        lambda cost, score: 4 * leave_one_out(cost, score),
        "Divide",
    ),
    ("with_baseline", "sign", lambda cost, score: -leave_one_out(cost, score), "turned"),
    ("with_baseline", "biased", lambda cost, score: 0.3 * leave_one_out(cost, score), "mean"),
    ("summed_out", "empty", lambda *given: None, "returned nothing"),
    ("summed_out", "total", lambda *given: summed_out(*given).sum(), "each row"),
    ("summed_out", "shape", lambda x, shares, centres: terms(x, centres), "sum over it"),
    ("summed_out", "average-of-logs", lambda x, s, c: (s * terms(x, c)).sum(-1), "logsumexp"),
    ("summed_out", "no-shares", lambda x, s, c: terms(x, c).logsumexp(-1), "in full"),
    ("summed_out", "probability", lambda *given: summed_out(*given).exp(), "logarithm"),
    (
        "summed_out",
        "underflow",
        lambda x, s, c: (s * terms(x, c).exp()).sum(-1).log(),
        "became zero",
    ),
    (
        "summed_out",
        "likeliest-kind",
        lambda x, s, c: (s.log() + terms(x, c)).max(-1).values,
        "The others",
    ),
    ("summed_out", "product", lambda x, s, c: (s.log() + terms(x, c)).sum(-1), "Sum"),
    ("summed_out", "wrong-value", lambda *given: summed_out(*given) + 1, "log of"),
]


@pytest.mark.parametrize("exercise, answer", RIGHT)
def test_right_answers_about_gradients_pass(exercise, answer):
    verdict = check(exercise, answer)
    assert verdict, verdict


@pytest.mark.parametrize("exercise, mistake, answer, phrase", WRONG)
def test_wrong_answers_about_gradients_are_told_what_is_wrong(exercise, mistake, answer, phrase):
    verdict = check(exercise, answer)
    assert verdict.mistake == mistake, verdict
    assert phrase in repr(verdict)
