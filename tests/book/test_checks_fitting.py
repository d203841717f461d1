"""The exercises of the chapter on fitting: right answers of several kinds, and the usual
mistakes.
"""

import math
from types import SimpleNamespace

import pytest
import torch
from pplwidgets.checks import check

import pplkit
import pplkit.distributions as dist
from pplkit import param, plate, sample

positive = dist.constraints.positive

# -- verdicts --------------------------------------------------------------------------------------

TRUE = {"a": True, "b": False, "c": True, "d": True, "e": False, "f": False, "g": False}
BELIEFS = {
    "a": "needs-posterior",
    "b": "exceeds",
    "c": "draw-bounded",
    "d": "not-comparable",
    "e": "family",
    "f": "particles",
    "g": "observes",
}


@pytest.mark.parametrize("letter, mistake", BELIEFS.items())
def test_a_wrong_belief_is_answered_by_name(letter, mistake):
    verdict = check("verdicts", lambda: {**TRUE, letter: not TRUE[letter]})
    assert verdict.mistake == mistake, verdict


# -- coin_guide ------------------------------------------------------------------------------------


def beta_guide(tosses):
    a = param("a", torch.tensor(2.0), constraint=positive)
    b = param("b", torch.tensor(2.0), constraint=positive)
    sample("p", dist.Beta(a, b))


def beta_of_logarithms(tosses):
    a, b = param("log_a", torch.tensor(1.0)), param("log_b", torch.tensor(1.0))
    sample("p", dist.Beta(a.exp(), b.exp()))


def normal_through_a_sigmoid(tosses):
    loc = param("loc", torch.tensor(0.0))
    scale = param("scale", torch.tensor(1.0), constraint=positive)
    squashed = [dist.transforms.SigmoidTransform()]
    sample("p", dist.TransformedDistribution(dist.Normal(loc, scale), squashed))


def unconstrained(tosses):
    sample("p", dist.Beta(param("a", torch.tensor(2.0)), param("b", torch.tensor(2.0))))


def symmetric(tosses):
    a = param("a", torch.tensor(2.0), constraint=positive)
    sample("p", dist.Beta(a, a))


def mean_alone(tosses):
    m = param("m", torch.tensor(0.5), constraint=dist.constraints.unit_interval)
    sample("p", dist.Beta(2 * m, 2 - 2 * m))


def normal_guide(tosses):
    loc = param("loc", torch.tensor(0.5))
    sample("p", dist.Normal(loc, 0.1))


def point(tosses):
    p = param("p_best", torch.tensor(0.5), constraint=dist.constraints.unit_interval)
    sample("p", dist.Delta(p))


def formula(tosses):
    sample("p", dist.Beta(2 + tosses.sum(), 2 + (1 - tosses).sum()))


def observing(tosses):
    beta_guide(tosses)
    with plate("tosses", len(tosses)):
        sample("toss", dist.Bernoulli(0.5), obs=tosses)


def other_name(tosses):
    a = param("a", torch.tensor(2.0), constraint=positive)
    sample("prob", dist.Beta(a, a))


# -- settled ---------------------------------------------------------------------------------------


def player(learning_rate, particles, guide="Normal"):
    """What the check reads of a figure."""
    return lambda: SimpleNamespace(learning_rate=learning_rate, particles=particles, guide=guide)


# -- fitted_rate -----------------------------------------------------------------------------------


def exact_rate(calls):
    fn = dist.Gamma(3 + calls.sum(), 1.0 + len(calls))
    return fn.mean, fn.stddev


def drawn_rate(calls):
    draws = dist.Gamma(3 + calls.sum(), 1.0 + len(calls)).sample((500,))
    return draws.mean().item(), draws.std().item()


def lognormal_rate(calls):
    """The nearest log-normal distribution; what `AutoNormal` would find."""
    fn = dist.Gamma(3 + calls.sum(), 1.0 + len(calls))
    scale = (fn.stddev / fn.mean).square().log1p().sqrt()
    return (fn.mean.log() - scale**2 / 2 + scale**2 / 2).exp(), fn.mean * scale


def stale_rate():
    first = []

    def fitted(calls):
        first.append(exact_rate(calls))
        return first[0]

    return fitted


# -- slopes ----------------------------------------------------------------------------------------


def slopes(loc, log_scale, data, guide_counts=True, particles=1):
    loc = torch.tensor(loc, requires_grad=True)
    log_scale = torch.tensor(log_scale, requires_grad=True)
    total = 0.0
    for _ in range(particles):
        q = dist.Normal(loc, log_scale.exp())
        z = q.rsample()
        total = total + dist.Normal(0.0, 1.0).log_prob(z)
        total = total + dist.Normal(z, 0.5).log_prob(data).sum()
        total = total - q.log_prob(z) if guide_counts else total
    return torch.autograd.grad(total / particles, [loc, log_scale])


def slopes_exactly(loc, log_scale, data):
    precision = 1 + 4.0 * len(data)
    by_loc = -precision * (loc - 4 * data.sum().item() / precision)
    return by_loc, 1 - precision * math.exp(2 * log_scale)


def slopes_with_sample(loc, log_scale, data):
    loc = torch.tensor(loc, requires_grad=True)
    log_scale = torch.tensor(log_scale, requires_grad=True)
    q = dist.Normal(loc, log_scale.exp())
    z = q.sample()
    return torch.autograd.grad(-q.log_prob(z), [loc, log_scale])


def slopes_by_scale(loc, log_scale, data):
    by_loc, by_log = slopes(loc, log_scale, data)
    return by_loc, by_log / math.exp(log_scale)


def slopes_with_a_seed(loc, log_scale, data):
    pplkit.set_rng_seed(3)
    return slopes(loc, log_scale, data)


RIGHT = [
    ("verdicts", lambda: TRUE),
    ("verdicts", lambda: {letter: torch.tensor(truth) for letter, truth in TRUE.items()}),
    ("coin_guide", beta_guide),
    ("coin_guide", beta_of_logarithms),
    ("coin_guide", normal_through_a_sigmoid),
    ("settled", player(0.1, 50)),
    ("settled", player(0.12, 40)),
    ("fitted_rate", exact_rate),
    ("fitted_rate", drawn_rate),
    ("fitted_rate", lognormal_rate),
    ("slopes", slopes),
    ("slopes", lambda *given: slopes(*given, particles=4)),
    ("slopes", slopes_exactly),
]
WRONG = [
    ("verdicts", "empty", lambda: None, "returned nothing"),
    ("verdicts", "unanswered", lambda: {**TRUE, "e": ...}, "`e`"),
    ("verdicts", "not-a-dictionary", lambda: [True] * 7, "a list"),
    ("coin_guide", "empty", lambda tosses: None, "no `sample`"),
    ("coin_guide", "site-name", other_name, "letter for letter"),
    ("coin_guide", "observes", observing, "`toss`"),
    ("coin_guide", "no-params", formula, "nothing can be fitted"),
    ("coin_guide", "unconstrained", unconstrained, "constraint=dist.constraints.positive"),
    ("coin_guide", "support", normal_guide, "between 0 and 1"),
    ("coin_guide", "too-small-a-family", symmetric, "two parameters"),
    ("coin_guide", "too-small-a-family", mean_alone, "two parameters"),
    ("coin_guide", "point", point, "a single point"),
    ("settled", "empty", lambda: None, "return figure"),
    ("settled", "not-a-figure", lambda: (0.1, 50), "a tuple"),
    ("settled", "family", player(0.1, 50, "Laplace"), "for ever"),
    ("settled", "slow", player(0.03, 50), "longer steps"),
    ("settled", "restless", player(0.4, 5), "jitter"),
    ("settled", "restless", player(0.15, 1), "jitter"),
    ("fitted_rate", "empty", lambda calls: None, "returned nothing"),
    ("fitted_rate", "not-a-pair", lambda calls: 4.0, "a float"),
    ("fitted_rate", "prior", lambda calls: (3.0, 1.73), "obs=calls"),
    ("fitted_rate", "no-prior", lambda c: (c.mean(), (c.mean() / len(c)) ** 0.5), "no prior"),
    ("fitted_rate", "point", lambda calls: (exact_rate(calls)[0], 0.0), "a width"),
    ("fitted_rate", "variance", lambda c: (exact_rate(c)[0], exact_rate(c)[1] ** 2), "its root"),
    ("fitted_rate", "spread-of-data", lambda c: (exact_rate(c)[0], c.std()), "vary"),
    (
        "fitted_rate",
        "predictive",
        lambda c: (exact_rate(c)[0], (exact_rate(c)[0] + exact_rate(c)[1] ** 2) ** 0.5),
        "next count",
    ),
    ("fitted_rate", "log-scale", lambda c: (exact_rate(c)[0].log(), 0.2), "logarithm"),
    ("fitted_rate", "stale", stale_rate(), "a store of its own"),
    ("fitted_rate", "not-there", lambda c: (exact_rate(c)[0] - 1.2, 1.5), "More steps"),
    ("fitted_rate", "wrong-spread", lambda c: (exact_rate(c)[0], 0.4), "settle"),
    ("slopes", "empty", lambda *given: None, "returned nothing"),
    ("slopes", "not-a-pair", lambda *given: 1.0, "a float"),
    ("slopes", "sign", lambda *given: [-part for part in slopes(*given)], "the loss"),
    ("slopes", "no-path", slopes_with_sample, "rsample"),
    ("slopes", "no-guide", lambda *given: slopes(*given, guide_counts=False), "to a point"),
    ("slopes", "by-scale", slopes_by_scale, "its logarithm"),
    ("slopes", "constant", slopes_with_a_seed, "fix no seed"),
    ("slopes", "wrong-value", lambda *given: [part + 1 for part in slopes(*given)], "term by term"),
]


@pytest.mark.parametrize("exercise, answer", RIGHT)
def test_right_answers_about_fitting_pass(exercise, answer):
    verdict = check(exercise, answer)
    assert verdict, verdict


@pytest.mark.parametrize("exercise, mistake, answer, phrase", WRONG)
def test_wrong_answers_about_fitting_are_told_what_is_wrong(exercise, mistake, answer, phrase):
    verdict = check(exercise, answer)
    assert verdict.mistake == mistake, verdict
    assert phrase in repr(verdict)
