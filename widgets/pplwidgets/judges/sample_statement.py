"""Exercises of chapter 2: what does a `sample` statement do?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

import pplkit
import pplkit.distributions as dist
from pplkit import errors
from pplkit.handlers import condition, seed, trace
from pplkit.trace import Trace

from ..judging import Answer, Mistake, as_number, described, exercise, listed, sample_sites

_SEEDS = range(1, 401)


# -- how often until it works ----------------------------------------------------------------------


@exercise("attempts", "p")
def _attempts(answer: Answer) -> str:
    """The number of Bernoulli(p) trials up to and including the first success."""
    for p in (0.25, 0.5):
        totals = []
        for k in _SEEDS:
            total, values = _attempts_run(answer, p, k)
            if total == len(values) - 1:
                raise Mistake(
                    f"in a run of {len(values)} trials `attempts` returned {total:g}: the "
                    "failures alone.",
                    "The trial that works counts too.",
                    "failures",
                )
            if total != len(values):
                raise Mistake(
                    f"in a run of {len(values)} trials `attempts` returned {total:g}.",
                    "Count each trial once.",
                    "count",
                )
            totals.append(total)
        mean, error = 1 / p, math.sqrt((1 - p) / p**2 / len(totals))
        found = sum(totals) / len(totals)
        if abs(found - mean) > 4.5 * error:
            raise Mistake(
                f"with p = {p:g} it took {found:.2f} trials on average over {len(totals)} runs, and "
                f"it should take {mean:.2f}.",
                "Each trial is a `Bernoulli(p)` draw; the first 1 ends the run.",
                "wrong-value",
            )
    return "every trial has a name of its own, and the first success ends the run."


def _attempts_run(answer: Answer, p: float, k: int) -> tuple[float, list[float]]:
    """What it returned, and the values of its trials."""
    try:
        run, returned = answer.traced(p, rng_seed=k)
    except Mistake as found:
        if isinstance(found.error, errors.ModelError):
            raise Mistake(
                "two trials of one run have the same name.\n"
                f"{type(found.error).__name__}: {found.error}",
                'Number them: `sample(f"trial_{i}", ...)`.',
                "same-name",
            ) from None
        raise
    total, sites = as_number(returned), sample_sites(run)
    if not sites:
        raise Mistake(
            "`attempts` ran no `sample` statement.",
            "Each trial is one; without it, the run has no trace.",
            "empty" if total is None else "no-sample",
        )
    values = [float(site.value.detach().sum()) for site in sites.values()]
    first = next(iter(sites.values()))
    if any(site.value.numel() > 1 for site in sites.values()):
        raise Mistake(
            "some trials are drawn together, in one statement.",
            "Whether there is a next trial depends on this one: draw them one by one.",
            "together",
        )
    chance = first.fn.log_prob(torch.tensor(1.0)).exp().item()
    if abs(chance - (1 - p)) < 1e-5 and p != 0.5:
        raise Mistake(
            f"with p = {p:g} a trial works with probability {chance:g}.",
            "`Bernoulli(p)` shows 1 with probability p; which value ends the loop?",
            "swapped",
        )
    if 0.0 in values[-1:] or 1.0 in values[:-1]:
        raise Mistake(
            f"a run showed {', '.join(f'{v:.0f}' for v in values[:8])}: it goes on after a "
            "success, or stops before one.",
            "Leave the loop as soon as a trial shows 1, and not earlier.",
            "stops-elsewhere",
        )
    if total is None:
        raise Mistake(
            f"`attempts` returned {described(returned)}.",
            "Return how many trials there were.",
            "no-return",
        )
    return total, values


# -- a program that draws, as one that scores ------------------------------------------------------


def _lengths():
    z = pplkit.sample("z", dist.Normal(1.0, 2.0))
    with pplkit.plate("rows", 3):
        pplkit.sample("y", dist.Normal(z, 0.5), obs=torch.tensor([0.4, 1.2, 0.9]))
    return z


def _two_scales():
    scale = pplkit.sample("scale", dist.LogNormal(0.0, 1.0))
    with pplkit.plate("pair", 2):
        return pplkit.sample("x", dist.Normal(0.0, scale))


@exercise("score", "model", "values")
def _score(answer: Answer) -> str:
    """The log joint density of a model's run at given values of its latent sites."""
    cases = [
        (_lengths, {"z": torch.tensor(0.7)}),
        (_two_scales, {"scale": torch.tensor(1.5), "x": torch.tensor([0.3, -2.0])}),
        (_lengths, {"z": torch.tensor(-1.0)}),
    ]
    for model, values in cases:
        run = trace(condition(model, data=values)).get_trace()
        truth = run.log_prob_sum().item()
        returned = answer(model, dict(values), rng_seed=3)
        found = as_number(returned)
        if found is None:
            _score_of_another_kind(returned)
        if abs(found - truth) > 1e-3 * (1 + abs(truth)):
            again = as_number(answer(model, dict(values), rng_seed=4))
            _known_wrong_score(run, list(values), found, truth, again)
    return "whatever the model, a run at your values gets its log-probability."


def _score_of_another_kind(returned) -> None:
    if returned is None or returned is ...:
        raise Mistake(
            "`score` returned nothing.",
            "Record a run in which the sites have these values, and return its log-probability.",
            "empty",
        )
    shape = f" of shape {tuple(returned.shape)}" if isinstance(returned, Tensor) else ""
    raise Mistake(
        f"`score` returned {described(returned)}{shape}, and one number is asked for.",
        "The log-probabilities of all sites, and of all rows of a plate, add up.",
        "not-summed",
    )


def _known_wrong_score(run: Trace, held: list, found: float, truth: float, again) -> None:
    sites = sample_sites(run)
    told = f"for {listed(sites)} the log joint density is {truth:.3f}, and `score` gave {found:.3f}"
    close = lambda value: abs(found - value) < 1e-3 * (1 + abs(value))
    parts = {name: site.log_prob.sum().item() for name, site in sites.items()}
    latent = sum(parts[name] for name in held)
    if again is not None and abs(again - found) > 1e-6:
        raise Mistake(
            f"two calls with the same values gave {found:.3f} and {again:.3f}: something was drawn "
            "afresh.",
            "`condition(model, data=values)` answers the sites with your values.",
            "drawn",
        )
    if close(math.exp(truth)):
        raise Mistake(f"{told}: the density itself.", "Return its logarithm.", "exp")
    if close(-truth):
        raise Mistake(f"{told}: the sign is turned.", "Leave the minus out.", "sign")
    if close(latent):
        raise Mistake(
            f"{told}: the observed sites are missing.",
            "Observed sites are scored too; `log_prob_sum()` adds them all.",
            "latent-only",
        )
    if close(truth - latent):
        raise Mistake(
            f"{told}: the latent sites are missing.",
            "The prior's terms belong to the joint density.",
            "observed-only",
        )
    if close(sum(site.log_prob.mean().item() for site in sites.values())):
        raise Mistake(
            f"{told}: the rows of the plate were averaged.",
            "Independent rows multiply, so their logarithms add: sum them.",
            "averaged",
        )
    raise Mistake(f"{told}.", "`trace(...).get_trace()` has `log_prob_sum()`.", "wrong-value")


# -- what if? --------------------------------------------------------------------------------------


def _chain():
    a = pplkit.sample("a", dist.Normal(0.0, 1.0))
    b = pplkit.sample("b", dist.Normal(a, 1.0))
    return pplkit.sample("c", dist.Normal(a + b, 1.0))


@exercise("redraw", "model", "run", "name")
def _redraw(answer: Answer) -> str:
    """The trace of a run that repeats `run`, except for one site, which is drawn afresh."""
    for name in ("a", "b", "c"):
        with seed(rng_seed=11):
            run = trace(_chain).get_trace()
        before = {n: site.value.item() for n, site in sample_sites(run).items()}
        drawn = []
        for k in (1, 2):
            new = answer(_chain, run, name, rng_seed=k)
            if sorted(sample_sites(run)) != sorted(before):
                raise Mistake(
                    "after the call, the trace that you were given is another: a site is gone.",
                    "Work on a copy: `run.copy()`.",
                    "changed-its-argument",
                )
            _redrawn_trace(new, name, before)
            drawn.append(new.nodes[name].value.item())
        if drawn[0] == drawn[1]:
            raise Mistake(
                f"`{name}` became {drawn[0]:.3f} under two different seeds.",
                "It should be drawn by the model, and no seed be fixed inside.",
                "constant",
            )
    return "one site is new, all others are as they were, and the run you were given is untouched."


def _redrawn_trace(new, name: str, before: dict[str, float]) -> None:
    if new is None or new is ...:
        raise Mistake(
            "`redraw` returned nothing.",
            "Return the trace of the new run.",
            "empty",
        )
    if not isinstance(new, Trace):
        raise Mistake(
            f"`redraw` returned {described(new)}.",
            "Record the new run, and return the trace: `trace(...).get_trace()`.",
            "not-a-trace",
        )
    now = {n: site.value.item() for n, site in sample_sites(new).items()}
    if set(now) != set(before):
        raise Mistake(
            f"the new run has the sites {listed(now)}, and the old one {listed(before)}.",
            "The model must run again as a whole, under `replay`.",
            "other-sites",
        )
    others = [n for n in before if n != name and now[n] != before[n]]
    if now[name] == before[name] and not others:
        raise Mistake(
            f"`{name}` has its old value, like everything else.",
            "`replay` answers every name that its trace has: take one out of the (copied) trace.",
            "same",
        )
    if now[name] == before[name]:
        raise Mistake(
            f"`{name}` is the only site with its old value.",
            "It is the other way round: one site is drawn, the others are replayed.",
            "inverted",
        )
    if others:
        raise Mistake(
            f"besides `{name}`, {listed(others)} changed too.",
            "Replay every other site from the run that was given.",
            "others-changed",
        )


# -- the probability of the data -------------------------------------------------------------------

_READINGS = torch.tensor([1.2, 0.8, 1.5])


def _readings():
    z = pplkit.sample("z", dist.Normal(0.0, 1.0))
    with pplkit.plate("rows", len(_READINGS)):
        pplkit.sample("y", dist.Normal(z, 0.5), obs=_READINGS)


def _log_evidence() -> float:
    covariance = torch.ones(3, 3) + 0.25 * torch.eye(3)
    return dist.MultivariateNormal(torch.zeros(3), covariance).log_prob(_READINGS).item()


def _prior_scores(n: int) -> tuple[Tensor, Tensor]:
    """Log-likelihoods and log joint densities of draws from the prior, by a generator of our own."""
    z = torch.randn(n, 1, generator=torch.Generator().manual_seed(1))
    likelihood = dist.Normal(z, 0.5).log_prob(_READINGS).sum(-1)
    return likelihood, likelihood + dist.Normal(0.0, 1.0).log_prob(z).squeeze(-1)


@exercise("log_evidence", "model", "n")
def _evidence(answer: Answer) -> str:
    """log p(data), as the log of the average likelihood over n draws from the prior."""
    n, truth = 200, _log_evidence()
    estimates = []
    for k in range(1, 9):
        returned = answer(_readings, n, rng_seed=k)
        number = as_number(returned)
        if number is None:
            nothing = returned is None or returned is ...
            raise Mistake(
                "`log_evidence` returned nothing."
                if nothing
                else f"`log_evidence` returned {described(returned)}, and one number is asked for.",
                "Average the likelihood of the data over runs of the model; return the logarithm.",
                "empty" if nothing else "not-a-number",
            )
        estimates.append(number)
    mean = sum(estimates) / len(estimates)
    spread = math.sqrt(sum((e - mean) ** 2 for e in estimates) / (len(estimates) - 1))
    likelihood, joint = _prior_scores(200_000)
    log_mean = lambda scores: (torch.logsumexp(scores, 0) - math.log(len(scores))).item()
    relative = ((likelihood - log_mean(likelihood)).exp().var() / n).sqrt().item()
    error = max(relative, spread) / math.sqrt(len(estimates))
    close = lambda value: abs(mean - value) <= 4.5 * error + relative**2
    if not math.isfinite(mean):
        raise Mistake(f"`log_evidence` returned {estimates[0]}.", "", "not-finite")
    if close(truth):
        return (
            f"over {len(estimates)} calls the estimates average to the exact log-probability "
            "within their Monte-Carlo error."
        )
    known = [
        (
            likelihood.mean().item(),
            "log-inside",
            "the average of the logarithms",
            "Average first, then take the logarithm: `torch.logsumexp` does it without underflow.",
        ),
        (
            log_mean(joint),
            "joint",
            "what the log *joint* densities average to",
            "The draws stand for the prior already: weigh them by the observed sites alone.",
        ),
        (
            truth + math.log(n),
            "not-divided",
            f"too large by log {n}: the sum, not the average",
            "Subtract `math.log(n)`.",
        ),
        (math.exp(truth), "exp", "the probability itself", "Return its logarithm."),
    ]
    for value, mistake, told, remedy in known:
        if abs(mean - value) <= 4.5 * error + 0.02 * (1 + abs(value)) and value != truth:
            raise Mistake(f"{mean:.2f} is {told}.", remedy, mistake)
    raise Mistake(
        f"over {len(estimates)} calls with {n} draws `log_evidence` averages to {mean:.2f}, and "
        f"the exact value is {truth:.2f}.",
        "Each run under `trace` tells the log-probability of its observed sites.",
        "wrong-value",
    )


# -- who hears what --------------------------------------------------------------------------------

_OUT = ["seed", "condition", "trace"]
_HEARD = {
    "out": 'the handlers by name, the first to hear first, as in `["trace", ...]`',
    "back": "the handlers by name, the first to hear first",
    "drawn": "the names of the sites that are drawn",
}


@exercise("heard")
def _heard(answer: Answer) -> str:
    """A dictionary: who hears a message out and back, and what is drawn, under three handlers."""
    found = answer()
    if not isinstance(found, Mapping):
        nothing = found is None or found is ...
        raise Mistake(
            "`heard` returned nothing."
            if nothing
            else f"`heard` returned {described(found)}, and a dictionary is asked for.",
            'Return `{"out": [...], "back": [...], "drawn": [...]}`.',
            "empty" if nothing else "not-a-dictionary",
        )
    given = {key: _names(found.get(key)) for key in _HEARD}
    for key, asked in _HEARD.items():
        if given[key] is None or (not given[key] and key != "drawn"):
            raise Mistake(f'nothing yet under `"{key}"`.', f"It is a list: {asked}.", "unanswered")
    for key in ("out", "back"):
        if sorted(given[key]) != sorted(_OUT):
            raise Mistake(
                f'`"{key}"` has {listed(given[key])}, and three handlers stand around the model.',
                f"Name each of {listed(_OUT)} once.",
                "other-names",
            )
    if given["out"] == _OUT[::-1]:
        raise Mistake(
            "on its way out the message does not meet the outermost handler first.",
            "It starts at the program. Which handler stands closest to that?",
            "outside-first",
        )
    if given["back"] == given["out"] == _OUT:
        raise Mistake(
            "the message comes back the way it went, and so meets the handlers the other way round.",
            "Who heard it last on its way out hears it first on its way back.",
            "same-way-back",
        )
    for key, right in (("out", _OUT), ("back", _OUT[::-1])):
        if given[key] != right:
            raise Mistake(
                f'`"{key}"` is not the order in which they stand.',
                "In nested calls the innermost stands next to the program: `trace(condition(seed("
                "model)))` has `seed` there.",
                "order",
            )
    if "rain" in given["drawn"]:
        raise Mistake(
            "`rain` is not drawn: `condition` put a value into its message.",
            "A draw is the default, for a message that nobody has answered.",
            "drawn-although-given",
        )
    if given["drawn"] != ["minutes"]:
        raise Mistake(
            f'`"drawn"` has {listed(given["drawn"]) or "no names"}, and the model has the sites '
            "`rain` and `minutes`.",
            "Go through both: has anybody put a value into the message by the end?",
            "not-drawn",
        )
    return "out from the program, back to it, and a draw only where nobody has answered."


def _names(value: Any) -> list[str] | None:
    """The names in a list, a tuple or a set; None if it is something else."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, (list, tuple, set, frozenset)):
        return None
    names = [str(getattr(entry, "__name__", entry)).strip().lower() for entry in value]
    return names if all(name not in ("ellipsis", "none") for name in names) else None
