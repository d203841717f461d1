"""Exercises of chapter 5: how can one program live in many worlds?"""

from __future__ import annotations

import math

import torch
from torch import Tensor

import pplkit
import pplkit.distributions as dist
from pplkit.handlers import seed, trace
from pplkit.trace import Trace

from ..judging import Answer, Mistake, as_number, described, exercise, listed, sample_sites

_DATA = torch.tensor([1.2, 0.8, 1.5])
_GUIDE = (1.077, 0.15)


def _model():
    z = pplkit.sample("z", dist.Normal(0.0, 1.0))
    with pplkit.plate("rows", len(_DATA)):
        pplkit.sample("y", dist.Normal(z, 0.5), obs=_DATA)


def _guide():
    pplkit.sample("z", dist.Normal(*_GUIDE))


# -- the ELBO by hand ------------------------------------------------------------------------------


@exercise("elbo", "model", "guide")
def _elbo(answer: Answer) -> str:
    """log p(z, y) - log q(z) for one z drawn from the guide."""
    loc, scale = _GUIDE
    expected_joint = (
        -0.5 * (loc**2 + scale**2)
        - 0.5 * math.log(2 * math.pi)
        + (dist.Normal(loc, 0.5).log_prob(_DATA).sum().item() - 3 * scale**2 / (2 * 0.25))
    )
    entropy = 0.5 * math.log(2 * math.pi * math.e) + math.log(scale)
    truth = expected_joint + entropy
    estimates = []
    for k in range(1, 401):
        returned = answer(_model, _guide, rng_seed=k)
        number = as_number(returned)
        if number is None:
            nothing = returned is None or returned is ...
            raise Mistake(
                "`elbo` returned nothing."
                if nothing
                else f"`elbo` returned {described(returned)}, and one number is asked for.",
                "Return the difference of two log-probabilities.",
                "empty" if nothing else "not-a-number",
            )
        estimates.append(number)
    mean = sum(estimates) / len(estimates)
    spread = math.sqrt(sum((e - mean) ** 2 for e in estimates) / (len(estimates) - 1))
    error = max(spread, 0.5) / math.sqrt(len(estimates))
    close = lambda value: abs(mean - value) <= 4.5 * error
    if spread < 1e-9:
        raise Mistake(
            f"every call gave {mean:.3f}: nothing was drawn from the guide, or a seed is fixed.",
            "Run the guide under `trace`, afresh at each call.",
            "constant",
        )
    if close(truth):
        return "averaged over draws of the guide, your difference is the ELBO."
    if close(-truth):
        raise Mistake(f"{mean:.2f} on average: the sign is turned.", "Model minus guide.", "sign")
    if close(expected_joint):
        raise Mistake(
            f"{mean:.2f} on average: the guide's own log-probability is missing.",
            "Subtract it: a guide that is sure of itself has to pay for that.",
            "no-guide",
        )
    if close(_elbo_of_two_draws(entropy)):
        raise Mistake(
            f"{mean:.2f} on average: model and guide were scored at different draws.",
            "`replay(model, trace=...)` puts the guide's values into the model.",
            "not-replayed",
        )
    raise Mistake(
        f"{mean:.2f} on average, and the ELBO is {truth:.2f}.",
        "The log joint density of the model at the guide's draw, minus the guide's log-probability "
        "of it.",
        "wrong-value",
    )


def _elbo_of_two_draws(entropy: float) -> float:
    """The model at a draw of its own prior, less the guide at another one of its own."""
    mean = dist.Normal(0.0, 0.5).log_prob(_DATA).sum().item() - 3 / (2 * 0.25)
    return -0.5 - 0.5 * math.log(2 * math.pi) + mean + entropy


# -- readings that got lost ------------------------------------------------------------------------


@exercise("with_gaps", "readings", "there")
def _with_gaps(answer: Answer) -> str:
    """A length, and readings of it that count only where they are there."""
    for readings, there in (
        (torch.tensor([11.2, 0.0, 12.1, 11.6]), torch.tensor([True, False, True, True])),
        (torch.tensor([8.3, 9.1, 0.0]), torch.tensor([True, True, False])),
    ):
        for at in (9.0, 10.5):
            hold = {"length": torch.tensor(at)}
            run, _ = answer.traced(readings, there, rng_seed=1, hold=hold)
            sites = sample_sites(run)
            if "reading_observed" in sites:  # `obs_mask=` makes two sites of one
                sites["reading"] = sites["reading_observed"]
            missing = [n for n in ("length", "reading") if n not in sites]
            if missing:
                raise Mistake(
                    f"there is no site called {listed(missing)}"
                    + (f"; the run has {listed(sites)}." if sites else "."),
                    "The model has two sites, `length` and `reading`.",
                    "site-name" if sites else "empty",
                )
            prior = dist.Normal(10.0, 2.0).log_prob(hold["length"])
            each = dist.Normal(at, 0.5).log_prob(readings)
            right = each[there].sum()
            found = sites["reading"].log_prob.sum()
            if not sites["reading"].is_observed:
                raise Mistake("`reading` is not observed.", "Give it `obs=readings`.", "no-obs")
            if torch.allclose(found, each.sum(), atol=1e-3):
                raise Mistake(
                    "the readings that got lost are counted as if they were there.",
                    "`with pplkit.handlers.mask(mask=there):` around the statement.",
                    "not-masked",
                )
            if torch.allclose(found, each[~there].sum(), atol=1e-3):
                raise Mistake(
                    "the readings that got lost are counted, and the others not.",
                    "The mask is true where a row counts.",
                    "inverted",
                )
            if not torch.allclose(found, right, atol=1e-3):
                raise Mistake(
                    f"given the length {at:g}, the readings that are there score {right:.2f}, and "
                    f"here they score {found:.2f}.",
                    "`dist.Normal(length, 0.5)`, masked.",
                    "likelihood",
                )
            counted = sites["length"].log_prob.sum()
            if not torch.allclose(counted, prior, atol=1e-3):
                raise Mistake(
                    f"the prior of `length` counts {counted / prior:.1f} times: the mask reaches "
                    "it too.",
                    "Put the mask around the readings alone.",
                    "prior-masked",
                )
    return "readings count where they are there, and the prior counts once."


# -- data sets that might have been ----------------------------------------------------------------


@exercise("replicated", "model", "n")
def _replicated(answer: Answer) -> str:
    """n data sets drawn from the model before it saw its data, shape (n, rows)."""
    n, rows = 4000, len(_DATA)
    draws = answer(_model, n, rng_seed=1)
    if draws is None or draws is ...:
        raise Mistake("`replicated` returned nothing.", "Return the values of `y`.", "empty")
    if not isinstance(draws, Tensor) or draws.shape != (n, rows):
        shape = f" of shape {tuple(draws.shape)}" if isinstance(draws, Tensor) else ""
        raise Mistake(
            f"`replicated` returned {described(draws)}{shape}, and shape ({n}, {rows}) is asked "
            "for.",
            "A plate of size n on dimension -2 around the model makes all runs at once.",
            "shape",
        )
    if torch.equal(draws[0], _DATA) or torch.equal(draws.mean(0), _DATA):
        raise Mistake(
            "every data set is the observed one.",
            "`uncondition(model)` draws what the model observes.",
            "observed",
        )
    mean, sd = draws.mean().item(), draws.std().item()
    truth = math.sqrt(1 + 0.25)
    pair = torch.corrcoef(draws.T)[0, 1].item()
    if abs(mean) > 4.5 * math.sqrt((1 + 0.25 / 3) / n) or abs(sd - truth) > 0.06:
        raise Mistake(
            f"the draws have mean {mean:.2f} and standard deviation {sd:.2f}; before any data they "
            f"should have 0 and {truth:.2f}.",
            "Nothing of the observed data should be left in them.",
            "wrong-value",
        )
    if abs(pair) < 0.15:
        raise Mistake(
            "the rows of a data set have nothing to do with each other, as if each had a z of its "
            "own.",
            "One run has one z, and three readings of it.",
            "independent",
        )
    if abs(pair - 0.8) > 0.05:
        raise Mistake(
            f"two readings of one run have correlation {pair:.2f}, and it should be 0.80.",
            "Each data set takes a z of its own: one run for each.",
            "one-z",
        )
    return "each data set comes from a run of its own, and none remembers the data."


# -- a handler of one's own ------------------------------------------------------------------------


def _chain():
    a = pplkit.sample("a", dist.Normal(1.0, 1.0))
    b = pplkit.sample("b", dist.Normal(3.0 * a, 2.0))
    pplkit.sample("c", dist.Normal(a + b, 1.0), obs=torch.tensor(2.0))


@exercise("mirrored", "model", "run")
def _mirrored(answer: Answer) -> str:
    """The trace of a run in which every drawn site is mirrored at its distribution's mean."""
    for k in (1, 2):
        with seed(rng_seed=k):
            run = trace(_chain).get_trace()
        old = {name: site.value.item() for name, site in sample_sites(run).items()}
        new = answer(_chain, run, rng_seed=k + 10)
        if new is None or new is ...:
            raise Mistake("`mirrored` returned nothing.", "Return the new run's trace.", "empty")
        if not isinstance(new, Trace):
            raise Mistake(
                f"`mirrored` returned {described(new)}.",
                "Record the run: `trace(...).get_trace()`.",
                "not-a-trace",
            )
        now = {name: site.value.item() for name, site in sample_sites(new).items()}
        if set(now) != set(old):
            raise Mistake(
                f"the new run has the sites {listed(now)}, and the old one {listed(old)}.",
                "The model must run as a whole.",
                "other-sites",
            )
        a = 2 * 1.0 - old["a"]
        b = 2 * 3.0 * a - old["b"]
        close = lambda x, y: abs(x - y) < 1e-4 * (1 + abs(y))
        if now["c"] != 2.0 or not new.nodes["c"].is_observed:
            raise Mistake(
                "the observed site `c` was changed.",
                "Answer only where no value is known: `msg.value is None`.",
                "observed-changed",
            )
        if close(now["a"], a) and close(now["b"], b):
            continue
        if close(now["a"], old["a"]) and close(now["b"], old["b"]):
            raise Mistake("the new run is the old one.", "2 × mean − old value.", "same")
        if close(now["a"], a) and close(now["b"], 2 * 3.0 * old["a"] - old["b"]):
            raise Mistake(
                "`b` is mirrored at the mean that it had in the old run; `a` has moved since.",
                "Take the mean from the message: `msg.fn.mean` knows the new `a`.",
                "old-mean",
            )
        if close(now["a"], -old["a"]):
            raise Mistake(
                "`a` is mirrored at 0.", "Mirror at the mean of its distribution.", "at-zero"
            )
        raise Mistake(
            f"in the old run `a` was {old['a']:.2f}; mirrored at its mean 1 it is {a:.2f}, and here "
            f"it is {now['a']:.2f}.",
            "A handler with `process_message` that sets `msg.value`.",
            "wrong-value",
        )
    return "every draw is on the other side of its mean, and what was seen stays seen."
