"""Exercises of chapter 8: when may you believe a model?"""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch
from torch import Tensor

import pplkit
import pplkit.distributions as dist

from ..judging import (
    Answer,
    Mistake,
    as_number,
    described,
    exercise,
    listed,
    plate_size_mistake,
    same_scores,
    sample_sites,
)


def _number(exercise: str, returned, remedy: str) -> float:
    number = as_number(returned)
    if number is None:
        nothing = returned is None or returned is ...
        told = "nothing" if nothing else f"{described(returned)}, and one number is asked for"
        mistake = "empty" if nothing else "not-a-number"
        raise Mistake(f"`{exercise}` returned {told}.", remedy, mistake)
    return number


# -- who is to blame -------------------------------------------------------------------------------

_FINDINGS = {
    "A": (
        "prior",
        {
            "model": "no data have been seen yet, so nothing was compared with the world.",
            "inference": "nothing has been inferred yet: these are draws from before the data.",
            "nothing": "a prior that expects people of forty metres says something, and loudly.",
        },
    ),
    "B": (
        "inference",
        {
            "prior": "the truths were drawn from this very prior, so it cannot be wrong here.",
            "model": "the data were made by this very model, so it cannot be wrong here.",
            "nothing": "ranks heaped at both ends are the mark of posteriors that are too narrow.",
        },
    ),
    "C": (
        "model",
        {
            "prior": "with thousands of days the prior has little say in the replicates.",
            "inference": "that was checked: the posterior is the model's own, and still its "
            "replicates have no such days.",
            "nothing": "none of a thousand replicates comes near the data.",
        },
    ),
    "D": (
        "nothing",
        {
            "prior": "a share near one half is what a good model gives.",
            "model": "a share near one half is what a good model gives.",
            "inference": "a share near one half is what a good model gives.",
        },
    ),
}


@exercise("blame", "finding")
def _blame(answer: Answer) -> str:
    """For each of four findings: "prior", "model", "inference" or "nothing"."""
    words = list(next(iter(_FINDINGS.values()))[1]) + ["prior"]
    given = {}
    for finding in _FINDINGS:
        said = answer(finding)
        if said is None or said is ...:
            raise Mistake(
                f'`blame("{finding}")` returned nothing.',
                "Return one word for each of the four findings.",
                "empty",
            )
        if not isinstance(said, str) or said.strip().lower() not in words:
            raise Mistake(
                f'`blame("{finding}")` returned {described(said)} that is none of the four words.',
                'Return "prior", "model", "inference" or "nothing".',
                "not-a-word",
            )
        given[finding] = said.strip().lower()
    if len(set(given.values())) == 1:
        raise Mistake(
            "all four findings got the same word.", "They are four different cases.", "one-word"
        )
    for finding, (right, misled) in _FINDINGS.items():
        if given[finding] != right:
            raise Mistake(
                f"finding {finding} does not speak against the {given[finding]}: {misled[given[finding]]}"
                if given[finding] != "nothing"
                else f"finding {finding} does speak against something: {misled['nothing']}",
                "Ask what was compared with what, and what was known to be right.",
                f"{finding}-{given[finding]}",
            )
    return "each check looks at one thing, and takes the others for granted."


# -- before the data -------------------------------------------------------------------------------


def _rainy():
    """A rate that is shared by three days, and counts that the model observes."""
    rate = pplkit.sample("rate", dist.Gamma(2.0, 1.0))
    with pplkit.plate("days", 3):
        pplkit.sample("y", dist.Poisson(rate), obs=torch.full((3,), 3.0))


def _levels():
    """A level that is shared by four readings."""
    level = pplkit.sample("level", dist.Normal(0.0, 2.0))
    with pplkit.plate("readings", 4):
        pplkit.sample("y", dist.Normal(level, 1.0), obs=torch.tensor([5.0, 6.0, 5.5, 5.2]))


def _none_at_all(y: Tensor) -> Tensor:
    return (y == 0).all(-1)


def _all_high(y: Tensor) -> Tensor:
    return (y > 1.0).all(-1)


_NODES = torch.linspace(-6.0, 6.0, 4001, dtype=torch.float64)
_WEIGHTS = torch.softmax(-0.5 * _NODES**2, 0)


def _high_together(level: Tensor) -> Tensor:
    return 1 - dist.Normal(level, 1.0).cdf(torch.tensor(1.0, dtype=torch.float64))


@exercise("chance", "model", "event", "n")
def _chance(answer: Answer) -> str:
    """The prior predictive probability of an event, by n data sets of the model."""
    n, constant = 400, True
    truth_levels = (_WEIGHTS * _high_together(2 * _NODES) ** 4).sum().item()
    cases = (
        (_levels, _all_high, truth_levels, 1.0, (_WEIGHTS * _high_together(2 * _NODES)).sum() ** 4),
        # Gamma's Laplace transform: E exp(-3 rate) = (1 + 3)^-2; each day with a rate of its own,
        # ((1 / 2)^2)^3.
        (_rainy, _none_at_all, 4.0**-2, 0.0, 0.5**6),
    )
    for model, event, truth, of_data, apart in cases:
        found = [
            _number("chance", answer(model, event, n, rng_seed=k), "Return the share of data sets.")
            for k in (1, 2, 3)
        ]
        mean = sum(found) / len(found)
        error = math.sqrt(truth * (1 - truth) / n / len(found))
        if abs(mean - of_data) < 1e-9 and len(set(found)) == 1:
            raise Mistake(
                f"every run gave {of_data:g}: the event was asked of the *data*, n times.",
                "What a model observes is handed back as it is. `uncondition(model)` draws it.",
                "data-returned",
            )
        if abs(mean - truth) <= 4.5 * error:
            constant = constant and len(set(found)) == 1
            continue
        if not all(0 <= value <= 1 for value in found):
            raise Mistake(
                f"{found[0]:g} is no probability.", "Divide the count by n.", "not-a-share"
            )
        if all(value in (0.0, 1.0) for value in found):
            raise Mistake(
                "each call gave 0 or 1, so one data set was looked at.",
                "Make n of them, and return the share in which the event happened.",
                "one-data-set",
            )
        if abs(mean - float(apart)) <= 4.5 * math.sqrt(float(apart) / n) and apart != truth:
            raise Mistake(
                f"{mean:.3f} is what comes out if every observation has a latent value of its own; "
                f"it should be {truth:.3f}.",
                "One run of the whole model for each data set: a latent value that stands outside "
                "the plate is shared.",
                "apart",
            )
        raise Mistake(
            f"`chance` averages to {mean:.3f} where the prior predictive probability is "
            f"{truth:.3f}, {abs(mean - truth) / error:.0f} standard errors away.",
            '`Predictive(uncondition(model), num_samples=n)()["y"]` has a data set in each row.',
            "wrong-value",
        )
    if constant:
        raise Mistake("three calls gave the same number.", "Fix no seed inside.", "constant")
    return "what the model holds possible, before it has seen anything."


# -- after the data --------------------------------------------------------------------------------


@exercise("p_value", "data", "replicates", "statistic")
def _p_value(answer: Answer) -> str:
    """The share of replicates (rows) whose statistic is at least that of the data."""
    generator = torch.Generator().manual_seed(3)
    rows = torch.poisson(torch.full((200, 12), 2.0), generator=generator)
    biggest, total = (lambda y: y.amax(-1)), (lambda y: y.sum(-1))
    data = torch.tensor([2.0, 1, 0, 5, 3, 2, 2, 1, 4, 0, 2, 3])
    for statistic in (biggest, total, lambda y: y[..., 0] - y[..., -1]):
        seen, values = statistic(data), statistic(rows)
        truth = (values >= seen).double().mean().item()
        returned = answer(data, rows, statistic)
        if isinstance(returned, Tensor) and returned.numel() == len(rows):
            raise Mistake(
                "an answer for each replicate was returned.", "Average them.", "not-averaged"
            )
        found = _number("p_value", returned, "Return the share of replicates, one number.")
        if abs(found - truth) < 1e-5:
            continue
        known = [
            (
                (values > seen).double().mean().item(),
                "strict",
                "ties were left out: a replicate with just as much as the data counts as well",
                "Use `>=`. With counts, ties are frequent.",
            ),
            (
                (values <= seen).double().mean().item(),
                "other-tail",
                "that is the share with as little or less",
                "Replicates on the left of the sign, the data on its right.",
            ),
            (
                (values < seen).double().mean().item(),
                "other-tail",
                "that is the share with less",
                "The share with as much or more is asked for.",
            ),
            (
                (values >= seen).double().sum().item(),
                "count",
                f"{found:.0f} is a number of replicates",
                "Divide by how many there are.",
            ),
            (
                (rows >= seen).double().mean().item(),
                "no-statistic",
                "single observations of the replicates were compared with the data's statistic",
                "Apply the statistic to the replicates too.",
            ),
            (
                float(statistic(rows.mean(0)) >= seen),
                "averaged-first",
                "the replicates were averaged before the statistic was applied",
                "A statistic for each replicate first.",
            ),
        ]
        for value, mistake, told, remedy in known:
            if abs(found - value) < 1e-5:
                raise Mistake(f"{told}.", remedy, mistake)
        raise Mistake(
            f"`p_value` gave {found:g}, and {truth:g} of the replicates have as much or more.",
            "`statistic(replicates)` has one number for each row.",
            "wrong-value",
        )
    return "the share of replicates with as much as the data, or more."


# -- how much it takes -----------------------------------------------------------------------------

_SEEDS = range(1, 61)
_WANTED = 0.5


def _power(figure, memory: float) -> float:
    """The share of new draws in which the check notices."""
    shares = [figure.evaluate(seed=k, memory=memory)["share"] for k in _SEEDS]
    noticed = [min(share["percent"].item(), share["above"].item()) <= 2.5 for share in shares]
    return sum(noticed) / len(noticed)


@exercise("noticed", "figure")
def _noticed(answer: Answer) -> str:
    """Statistic and smallest memory with which the check notices every other time."""
    controls = SimpleNamespace(memory=0.0, heads=0.5, statistic="changes of side")
    answer(controls)
    memory = as_number(controls.memory)
    if memory is None or not 0.0 <= memory <= 0.95:
        raise Mistake("`memory` is no place on its slider.", "From 0 to 0.95.", "not-a-setting")
    if controls.statistic not in ("changes of side", "heads", "longest run"):
        raise Mistake(
            f"there is no statistic {controls.statistic!r}.", "As in its list.", "not-a-setting"
        )
    if as_number(controls.heads) != 0.5:
        raise Mistake("`heads` was moved.", "Leave it at 0.5.", "heads-moved")
    return _judged_power(memory, controls.statistic)


def _judged_power(memory: float, statistic: str) -> str:
    if statistic == "heads":
        raise Mistake(
            "the number of heads was fitted: replicates match it, whatever the memory.",
            "Choose a statistic that the model did not see.",
            "blind",
        )
    if memory == 0.0:
        raise Mistake(
            "`memory` still stands at 0.",
            "`figure.memory = 0.3` moves it, as the slider does.",
            "empty",
        )
    if statistic != "changes of side":
        raise Mistake(
            "the longest run notices too, and later than another statistic.",
            "Compare the two at one memory, with a few new draws each.",
            "dull",
        )
    # Imported late: an answer that is stopped in time must not stop an import half-way.
    from ..course import posterior_predictive_check

    figure = posterior_predictive_check()
    try:
        power, below = (_power(figure, max(0.0, m)) for m in (memory, memory - 0.1))
    finally:
        figure.close()
    # 60 draws at power 0.5 have a standard error of 0.065.
    if power < _WANTED - 0.13:
        raise Mistake(
            f"at memory {memory:.2f} the check notices in {power:.0%} of 60 new draws.",
            "One lucky draw does not count. More memory.",
            "too-little",
        )
    if below > _WANTED:
        raise Mistake(
            f"at memory {memory:.2f} it notices, and at {memory - 0.1:.2f} still in {below:.0%} of "
            "60 new draws.",
            "The smallest memory is asked for.",
            "too-much",
        )
    return (
        f"at memory {memory:.2f} the check notices in about {10 * power:.0f} of ten new draws; forty "
        "tosses may well hide a weaker one."
    )


# -- ranks -----------------------------------------------------------------------------------------

_ROUNDS, _DRAWS = 400, 9


def _right(x: Tensor, n: int) -> Tensor:
    return dist.Normal(0.8 * x, 0.2**0.5).sample((n,))


def _narrow(x: Tensor, n: int) -> Tensor:
    return dist.Normal(0.8 * x, 0.15).sample((n,))


def _high(x: Tensor, n: int) -> Tensor:
    return dist.Normal(0.8 * x + 0.45, 0.2**0.5).sample((n,))


@exercise("one_rank", "infer")
def _one_rank(answer: Answer) -> str:
    """One round of calibration of z ~ Normal(0, 1), x ~ Normal(z, 0.5) with nine draws."""
    right, calls = _ranks(answer, _right)
    _checked_calls(calls)
    expected = _ROUNDS / (_DRAWS + 1)
    distance = ((right - expected) ** 2 / expected).sum().item()
    # Chi-squared with 9 degrees of freedom: above 37 with probability 3e-5.
    if distance > 37:
        raise Mistake(
            "with the exact posterior the ranks are not uniform: "
            f"{[int(c) for c in right]} of {_ROUNDS}.",
            "Is it the truth that is ranked, and was it drawn from the prior, then the data from "
            "the truth?",
            "not-uniform",
        )
    narrow, _ = _ranks(answer, _narrow)
    ends = (narrow[0] + narrow[-1]).item()
    if ends < 2.5 * 2 * expected:
        raise Mistake(
            "with a posterior that is three times too narrow the ranks look uniform all the same.",
            "The draws that are counted must come from `infer`.",
            "not-sensitive",
        )
    high, _ = _ranks(answer, _high)
    if high[:3].sum() < high[-3:].sum():
        raise Mistake(
            "with draws that are too high, the rank of the truth came out high.",
            "Count the draws *below* the truth.",
            "above",
        )
    return "uniform for the exact posterior, heaped at both ends for one that is too narrow."


def _ranks(answer: Answer, infer) -> tuple[Tensor, list]:
    """How often each rank came, and what `infer` was called with."""
    calls = []

    def watched(x, n):
        x = torch.as_tensor(x, dtype=torch.float32)
        calls.append((x, n))
        return infer(x, n)

    found = []
    for k in range(_ROUNDS):
        rank = _number("one_rank", answer(watched, rng_seed=k), "Return one whole number.")
        if 0 < rank < 1:
            raise Mistake(
                f"{rank:g} is a share.", "Return the *number* of draws below the truth.", "share"
            )
        if rank != round(rank) or not 0 <= rank <= _DRAWS:
            raise Mistake(
                f"{rank:g} is no rank among nine draws.",
                "Count how many of them are below the truth: from 0 to 9.",
                "no-rank",
            )
        found.append(int(rank))
    return torch.bincount(torch.tensor(found), minlength=_DRAWS + 1).float(), calls


def _checked_calls(calls: list) -> None:
    if not calls:
        raise Mistake(
            "`infer` was never called.", "Draw nine times from `infer(x, 9)`.", "infer-unused"
        )
    if any(x.numel() != 1 or n != _DRAWS for x, n in calls):
        raise Mistake(
            "`infer` was not asked for nine draws, given one x.", "`infer(x, 9)`.", "infer-call"
        )
    x = torch.stack([x.reshape(()) for x, _ in calls])
    if (x == x[0]).all():
        raise Mistake(
            "every round had the same data.",
            "Draw a new truth and new data in each; fix no seed.",
            "constant",
        )
    # The data have variance 1.25; the variance of 400 of them has standard error 0.09.
    variance = x.var().item()
    if variance < 0.5:
        raise Mistake(
            f"the data have variance {variance:.2f}: as if the truth were always the same.",
            "z from the prior, then x from `Normal(z, 0.5)`: the variance of x is 1.25.",
            "one-truth",
        )
    if abs(variance - 1.25) > 0.42:
        raise Mistake(
            f"the data have variance {variance:.2f}, and should have 1.25.",
            "z ~ Normal(0, 1), then x ~ Normal(z, 0.5).",
            "data",
        )


# -- other variables -------------------------------------------------------------------------------


@exercise("centred_line", "x", "y")
def _centred_line(answer: Answer) -> str:
    """A line whose latent variables are uncorrelated in the posterior, and its intercept."""
    for seed, n in ((1, 6), (2, 9)):
        generator = torch.Generator().manual_seed(seed)
        x = 20 + torch.arange(n, dtype=torch.float32) ** 1.3
        y = 3 + 0.5 * x + torch.randn(n, generator=generator)
        run, _ = _line_run(answer, x, y)
        sites = sample_sites(run)
        if not sites:
            raise Mistake("no `sample` statement was run.", "Three are needed.", "empty")
        missing = [name for name in ("height", "slope", "y") if name not in sites]
        if missing:
            raise Mistake(
                f"there is no site called {listed(missing)}; the run has {listed(sites)}.",
                "Names are how others find a draw: letter for letter.",
                "site-name",
            )
        _checked_line(sites, y)
        held = {"height": torch.tensor(7.0), "slope": torch.tensor(0.4)}
        run, _ = answer.traced(x, y, rng_seed=2, hold=held)
        _checked_mean(run.nodes["y"].fn, x, held, n)
        _checked_intercept(run, x, held)
    return "height and slope know nothing of each other, and a mean-field guide fits."


def _line_run(answer: Answer, x: Tensor, y: Tensor):
    try:
        return answer.traced(x, y, rng_seed=1)
    except Mistake as found:
        raise plate_size_mistake(found, found.error, len(x), "point") from None


def _checked_line(sites: dict, y: Tensor) -> None:
    at = torch.tensor([-3.0, 0.0, 2.0])
    if not sites["y"].is_observed or not torch.equal(sites["y"].value, y):
        raise Mistake("`y` is not observed at `y`.", "Give it `obs=y`.", "no-obs")
    if [frame.size for frame in sites["y"].plates] != [len(y)]:
        raise Mistake("`y` stands in no plate of points.", "Put it in a plate.", "no-plate")
    for name in ("height", "slope"):
        if sites[name].plates:
            raise Mistake(
                f"there is a {name} for each point.",
                "Draw it outside the plate.",
                "latent-in-plate",
            )
        if not same_scores(sites[name].fn, dist.Normal(0.0, 10.0), at):
            raise Mistake(f"the prior of `{name}` is not `Normal(0, 10)`.", "", "prior")


def _checked_mean(fn, x: Tensor, held: dict, n: int) -> None:
    height, slope = held["height"], held["slope"]
    mean = fn.mean.expand(n)
    if torch.allclose(mean, height + slope * (x - x.mean()), atol=1e-3):
        if not torch.allclose(fn.stddev.expand(n), torch.ones(n), atol=1e-4):
            raise Mistake("the standard deviation of `y` is not 1.", "", "noise")
        return
    known = [
        (height + slope * x, "not-centred", "the height is that at x = 0, far from the data"),
        (height + slope * (x.mean() - x), "turned", "the line goes down where it should go up"),
        (height + slope * (x - x[0]), "first", "the height is that at the first point"),
        (
            height + slope * (x - (x.min() + x.max()) / 2),
            "midrange",
            "the height is that half-way between the first and the last point",
        ),
    ]
    for wrong, mistake, told in known:
        if torch.allclose(mean, wrong, atol=1e-3):
            raise Mistake(
                f"{told}.",
                "Take the *mean* of x away from x: `slope * (x - x.mean())`.",
                mistake,
            )
    raise Mistake(
        "the mean of `y` is not the height in the middle, plus slope times distance from there.",
        "`height + slope * (x - x.mean())`.",
        "mean",
    )


def _checked_intercept(run, x: Tensor, held: dict) -> None:
    site = run.nodes.get("intercept")
    if site is None:
        raise Mistake(
            "nothing is recorded under the name `intercept`.",
            'End with `pplkit.deterministic("intercept", ...)`: the height of the line at 0.',
            "no-intercept",
        )
    if site.type == "sample":
        raise Mistake(
            "`intercept` is drawn: a third unknown, beside height and slope.",
            "It follows from the two: `deterministic`.",
            "drawn",
        )
    found = as_number(site.value)
    right = (held["height"] - held["slope"] * x.mean()).item()
    if found is None or abs(found - right) > 1e-3:
        raise Mistake(
            "`intercept` is not the height of the line at x = 0.",
            "From the middle of the data go back to 0: `height - slope * x.mean()`.",
            "intercept",
        )
