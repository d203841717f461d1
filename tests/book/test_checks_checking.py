"""The exercises of the chapter on checking: right answers, and the usual mistakes."""

import pytest
import torch
from pplwidgets.checks import check

import pplkit.distributions as dist
from pplkit import deterministic, plate, sample
from pplkit.handlers import seed, trace, uncondition
from pplkit.infer import Predictive

WORDS = {"A": "prior", "B": "inference", "C": "model", "D": "nothing"}


def blame(finding, **other):
    return {**WORDS, **other}[finding]


def chance(model, event, n):
    return event(Predictive(uncondition(model), num_samples=n)()["y"]).float().mean()


def chance_in_a_loop(model, event, n):
    runs = [trace(uncondition(model)).get_trace().nodes["y"].value for _ in range(n)]
    return sum(bool(event(run)) for run in runs) / n


def chance_of_the_data(model, event, n):
    return event(Predictive(model, num_samples=n, return_sites=["y"])()["y"]).float().mean()


def chance_apart(model, event, n):
    size = trace(model).get_trace().nodes["y"].value.shape[-1]
    draw = Predictive(uncondition(model), num_samples=n * size)()["y"]
    return event(draw[:, 0].reshape(n, size)).float().mean()


def chance_once(model, event, n):
    return event(trace(uncondition(model)).get_trace().nodes["y"].value)


def chance_seeded(model, event, n):
    with seed(rng_seed=0):
        return chance(model, event, n)


def p_value(data, replicates, statistic):
    return (statistic(replicates) >= statistic(data)).float().mean()


def p_value_in_a_loop(data, replicates, statistic):
    return sum(float(statistic(row) >= statistic(data)) for row in replicates) / len(replicates)


def noticed(figure, statistic="changes of side", memory=0.5, heads=0.5):
    figure.statistic, figure.memory, figure.heads = statistic, memory, heads


def round_of(infer, n=9, truth=None, data=lambda z: sample("x", dist.Normal(z, 0.5))):
    z = sample("z", dist.Normal(0.0, 1.0)) if truth is None else torch.tensor(truth)
    return z, infer(data(z), n)


def one_rank(infer, **other):
    z, draws = round_of(infer, **other)
    return (draws < z).sum()


def one_rank_by_torch(infer):
    z = torch.randn(())
    draws = infer(z + 0.5 * torch.randn(()), 9)
    return int(torch.searchsorted(draws.sort().values, z))


def one_rank_above(infer):
    z, draws = round_of(infer)
    return (draws > z).sum()


def one_rank_of_data(infer):
    x = sample("x", dist.Normal(sample("z", dist.Normal(0.0, 1.0)), 0.5))
    return (infer(x, 9) < x).sum()


def one_rank_share(infer):
    z, draws = round_of(infer)
    return (draws < z).float().mean()


def one_rank_of_draws_of_its_own(infer):
    z, _ = round_of(infer)
    return (torch.randn(9) < z).sum()


def one_rank_seeded(infer):
    with seed(rng_seed=0):
        return one_rank(infer)


def line(x, y, mean=lambda h, s, x: h + s * (x - x.mean()), **other):
    height = sample("height", dist.Normal(0.0, other.get("prior", 10.0)))
    slope = sample("slope", dist.Normal(0.0, 10.0))
    intercept = other.get("intercept", lambda h, s, x: h - s * x.mean())
    if intercept:
        deterministic("intercept", intercept(height, slope, x))
    with plate("points", len(x)):
        sample("y", dist.Normal(mean(height, slope, x), other.get("noise", 1.0)), obs=y)


def line_drawn(x, y):
    sample("intercept", dist.Normal(0.0, 10.0))
    line(x, y, intercept=None)


def line_of_other_words(x, y):
    slope = sample("slope", dist.Normal(torch.tensor(0.0), 10.0))
    height = sample("height", dist.Normal(0.0, 100.0**0.5))
    intercept = deterministic("intercept", height - slope * x.mean())
    with plate("data", x.numel(), dim=-1):
        sample("y", dist.Normal(intercept + slope * x, torch.ones(len(x))), obs=y)


def line_in_the_plate(x, y):
    with plate("points", len(x)):
        height = sample("height", dist.Normal(0.0, 10.0))
        slope = sample("slope", dist.Normal(0.0, 10.0))
        sample("y", dist.Normal(height + slope * (x - x.mean()), 1.0), obs=y)


def line_without_a_plate(x, y):
    height = sample("height", dist.Normal(0.0, 10.0))
    slope = sample("slope", dist.Normal(0.0, 10.0))
    sample("y", dist.Normal(height + slope * (x - x.mean()), 1.0), obs=y)


RIGHT = [
    ("blame", blame),
    ("blame", lambda finding: WORDS[finding].upper()),
    ("chance", chance),
    ("chance", chance_in_a_loop),
    ("p_value", p_value),
    ("p_value", p_value_in_a_loop),
    ("noticed", noticed),
    ("noticed", lambda figure: noticed(figure, memory=0.45)),
    ("one_rank", one_rank),
    ("one_rank", one_rank_by_torch),
    ("centred_line", line),
    ("centred_line", line_of_other_words),
]
WRONG = [
    ("blame", "A-nothing", lambda f: blame(f, A="nothing"), "forty metres"),
    ("blame", "A-inference", lambda f: blame(f, A="inference"), "nothing has been inferred"),
    ("blame", "B-model", lambda f: blame(f, B="model"), "by this very model"),
    ("blame", "B-prior", lambda f: blame(f, B="prior"), "this very prior"),
    ("blame", "C-inference", lambda f: blame(f, C="inference"), "that was checked"),
    ("blame", "C-prior", lambda f: blame(f, C="prior"), "little say"),
    ("blame", "D-model", lambda f: blame(f, D="model"), "one half"),
    ("blame", "one-word", lambda f: "model", "the same word"),
    ("blame", "not-a-word", lambda f: "guide", "none of the four words"),
    ("blame", "empty", lambda f: None, "nothing"),
    ("chance", "data-returned", chance_of_the_data, "asked of the *data*"),
    ("chance", "apart", chance_apart, "a latent value of its own"),
    ("chance", "one-data-set", chance_once, "one data set"),
    ("chance", "not-a-share", lambda m, e, n: chance(m, e, n) * n, "Divide"),
    ("chance", "constant", chance_seeded, "no seed"),
    ("chance", "wrong-value", lambda m, e, n: chance(m, e, n) / 2, "standard errors"),
    ("chance", "empty", lambda m, e, n: None, "nothing"),
    ("p_value", "strict", lambda d, r, s: (s(r) > s(d)).float().mean(), "ties"),
    ("p_value", "other-tail", lambda d, r, s: (s(r) <= s(d)).float().mean(), "as little"),
    ("p_value", "other-tail", lambda d, r, s: (s(r) < s(d)).float().mean(), "with less"),
    ("p_value", "count", lambda d, r, s: (s(r) >= s(d)).sum(), "Divide"),
    ("p_value", "not-averaged", lambda d, r, s: s(r) >= s(d), "Average"),
    ("p_value", "no-statistic", lambda d, r, s: (r >= s(d)).float().mean(), "to the replicates"),
    ("p_value", "averaged-first", lambda d, r, s: float(s(r.mean(0)) >= s(d)), "averaged before"),
    ("p_value", "wrong-value", lambda d, r, s: 0.123, "as much or more"),
    ("p_value", "empty", lambda d, r, s: None, "nothing"),
    ("noticed", "blind", lambda f: noticed(f, "heads", 0.9), "was fitted"),
    ("noticed", "dull", lambda f: noticed(f, "longest run", 0.8), "later"),
    ("noticed", "too-little", lambda f: noticed(f, memory=0.3), "lucky draw"),
    ("noticed", "too-much", lambda f: noticed(f, memory=0.8), "smallest"),
    ("noticed", "heads-moved", lambda f: noticed(f, heads=0.8), "0.5"),
    ("noticed", "not-a-setting", lambda f: noticed(f, memory=50), "slider"),
    ("noticed", "not-a-setting", lambda f: noticed(f, "change"), "no statistic"),
    ("noticed", "empty", lambda f: None, "still stands at 0"),
    ("one_rank", "above", one_rank_above, "*below* the truth"),
    ("one_rank", "not-uniform", one_rank_of_data, "the truth that is ranked"),
    ("one_rank", "share", one_rank_share, "*number* of draws"),
    ("one_rank", "one-truth", lambda i: one_rank(i, truth=0.0), "always the same"),
    ("one_rank", "not-uniform", lambda i: one_rank(i, data=lambda z: z), "data from the truth"),
    ("one_rank", "data", lambda i: one_rank(i, data=lambda z: 2 * z), "variance"),
    ("one_rank", "not-sensitive", lambda i: one_rank_of_draws_of_its_own(i), "from `infer`"),
    ("one_rank", "infer-call", lambda i: one_rank(i, n=8), "nine draws"),
    ("one_rank", "infer-unused", lambda i: 3, "never called"),
    ("one_rank", "constant", one_rank_seeded, "the same data"),
    ("one_rank", "no-rank", lambda i: -1, "from 0 to 9"),
    ("one_rank", "empty", lambda i: None, "nothing"),
    ("centred_line", "not-centred", lambda x, y: line(x, y, lambda h, s, x: h + s * x), "x = 0"),
    (
        "centred_line",
        "turned",
        lambda x, y: line(x, y, lambda h, s, x: h + s * (x.mean() - x)),
        "goes down",
    ),
    ("centred_line", "first", lambda x, y: line(x, y, lambda h, s, x: h + s * (x - x[0])), "first"),
    (
        "centred_line",
        "midrange",
        lambda x, y: line(x, y, lambda h, s, x: h + s * (x - (x.min() + x.max()) / 2)),
        "half-way",
    ),
    ("centred_line", "mean", lambda x, y: line(x, y, lambda h, s, x: h + 0 * x), "middle"),
    ("centred_line", "noise", lambda x, y: line(x, y, noise=2.0), "not 1"),
    ("centred_line", "prior", lambda x, y: line(x, y, prior=1.0), "Normal(0, 10)"),
    ("centred_line", "no-intercept", lambda x, y: line(x, y, intercept=None), "deterministic"),
    ("centred_line", "drawn", line_drawn, "third unknown"),
    ("centred_line", "intercept", lambda x, y: line(x, y, intercept=lambda h, s, x: h), "at x = 0"),
    ("centred_line", "latent-in-plate", line_in_the_plate, "for each point"),
    ("centred_line", "no-plate", line_without_a_plate, "plate"),
    ("centred_line", "no-obs", lambda x, y: line(x, y + 1), "obs=y"),
    ("centred_line", "empty", lambda x, y: None, "no `sample` statement"),
]


@pytest.mark.parametrize("exercise, answer", RIGHT)
def test_right_answers_about_checking_pass(exercise, answer):
    verdict = check(exercise, answer)
    assert verdict, verdict


@pytest.mark.parametrize("exercise, mistake, answer, phrase", WRONG)
def test_wrong_answers_about_checking_are_told_what_is_wrong(exercise, mistake, answer, phrase):
    verdict = check(exercise, answer)
    assert verdict.mistake == mistake, verdict
    assert phrase in repr(verdict)
