"""Exercises of chapter 4: what do data say about a number nobody saw?"""

from __future__ import annotations

import math

import torch
from torch import Tensor

import pplkit
import pplkit.distributions as dist
from pplkit.handlers import seed, trace

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

# -- a posterior in closed form --------------------------------------------------------------------


@exercise("coin_posterior", "tosses", "a", "b")
def _coin_posterior(answer: Answer) -> str:
    """Beta(a + heads, b + tails), as a distribution."""
    at = torch.tensor([0.1, 0.4, 0.6, 0.9])
    for tosses, a, b in (
        (torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0]), 2.0, 3.0),
        (torch.tensor([0.0, 0.0, 1.0]), 0.5, 4.0),
    ):
        found = answer(tosses, a, b)
        if found is None or found is ...:
            raise Mistake("`coin_posterior` returned nothing.", "Return a `dist.Beta`.", "empty")
        if not hasattr(found, "log_prob"):
            raise Mistake(
                f"`coin_posterior` returned {described(found)}, and a distribution is asked for.",
                "Return the `dist.Beta(...)` itself, not its mean or a draw.",
                "not-a-distribution",
            )
        n, heads = len(tosses), tosses.sum().item()
        tails = n - heads
        if same_scores(found, dist.Beta(a + heads, b + tails), at):
            continue
        known = [
            ((a, b), "prior", "the prior", "Add the tosses to its two numbers."),
            ((1 + heads, 1 + tails), "flat", "what a flat prior leads to", "Use a and b."),
            ((a + tails, b + heads), "swapped", "heads and tails exchanged", "a goes with heads."),
            (
                (a + heads, b + n),
                "n-for-tails",
                "all tosses added to b",
                "b grows by the tails alone; with n grows the gamma prior of a rate.",
            ),
            (
                (heads + 1e-9, tails + 1e-9),
                "no-prior",
                "the counts without the prior",
                "Add them to a and b.",
            ),
        ]
        for (p, q), mistake, told, remedy in known:
            if same_scores(found, dist.Beta(p, q), at):
                raise Mistake(f"that is {told}.", remedy, mistake)
        raise Mistake(
            f"after {heads:.0f} heads and {tails:.0f} tails, with a = {a:g} and b = {b:g}, the "
            "posterior is another distribution.",
            "Multiply prior and likelihood: which powers of p and of 1 − p are there?",
            "wrong-value",
        )
    return "counts are added to the prior's two numbers, whatever these are."


# -- counts ----------------------------------------------------------------------------------------


@exercise("emissions", "counts", "seconds")
def _emissions(answer: Answer) -> str:
    """rate ~ Gamma(2, 1); counts ~ Poisson(rate * seconds), observed in a plate."""
    for counts, seconds in (
        (torch.tensor([3.0, 11.0, 5.0]), torch.tensor([1.0, 4.0, 2.5])),
        (torch.tensor([0.0, 2.0, 9.0, 30.0, 4.0]), torch.tensor([0.5, 1.0, 5.0, 12.0, 2.0])),
    ):
        try:
            run, _ = answer.traced(counts, seconds, rng_seed=1)
        except Mistake as found:
            raise plate_size_mistake(found, found.error, len(counts), "measurement") from None
        sites = sample_sites(run)
        if not sites:
            raise Mistake("`emissions` ran no `sample` statement.", "Two are needed.", "empty")
        missing = [name for name in ("rate", "count") if name not in sites]
        if missing:
            raise Mistake(
                f"there is no site called {listed(missing)}; the run has {listed(sites)}.",
                "Names are how others find a draw.",
                "site-name",
            )
        rate, count = sites["rate"], sites["count"]
        if rate.plates:
            raise Mistake(
                "there is a rate for each measurement.",
                "One sample has one rate: draw it outside the plate.",
                "rate-in-the-plate",
            )
        if not count.is_observed or not torch.equal(count.value, counts):
            raise Mistake("`count` is not observed at `counts`.", "Give it `obs=counts`.", "no-obs")
        if [frame.size for frame in count.plates] != [len(counts)]:
            raise Mistake(
                f"`count` does not stand in a plate of size {len(counts)}.",
                "Measurements are independent, given the rate.",
                "no-plate",
            )
        if not same_scores(rate.fn, dist.Gamma(2.0, 1.0), torch.tensor([0.5, 1.0, 4.0])):
            raise Mistake("the prior of `rate` is not `Gamma(2, 1)`.", "", "prior")
        _emission_scores(answer, counts, seconds)
    return "one rate, and each count at the rate times its own time."


def _emission_scores(answer: Answer, counts: Tensor, seconds: Tensor) -> None:
    held = torch.tensor(1.7)
    run, _ = answer.traced(counts, seconds, rng_seed=2, hold={"rate": held})
    found = run.nodes["count"].log_prob
    scores = lambda rates: dist.Poisson(rates).log_prob(counts)
    if torch.allclose(found, scores(held * seconds), atol=1e-3):
        return
    if torch.allclose(found, scores(held.expand(len(counts))), atol=1e-3):
        raise Mistake(
            "every count is expected at the rate itself, as if each took one second.",
            "In twice the time there are twice as many: `rate * seconds`.",
            "no-exposure",
        )
    if torch.allclose(found, scores(held / seconds), atol=1e-3):
        raise Mistake(
            "the rate is divided by the time: the longer one waits, the less one expects.",
            "`rate * seconds`.",
            "divided",
        )
    raise Mistake(
        "given the rate, the counts do not have the distribution `Poisson(rate * seconds)`.",
        "",
        "likelihood",
    )


# -- seeing and doing ------------------------------------------------------------------------------


def _clinic():
    ill = pplkit.sample("ill", dist.Bernoulli(0.4))
    drug = pplkit.sample("drug", dist.Bernoulli(0.1 + 0.8 * ill))
    return pplkit.sample("days", dist.Normal(3.0 + 6.0 * ill - 2.0 * drug, 1.0))


def _farm():
    sun = pplkit.sample("sun", dist.Normal(0.0, 1.0))
    drug = pplkit.sample("drug", dist.Bernoulli(logits=2.0 * sun))
    return pplkit.sample("days", dist.Normal(10.0 - 3.0 * sun + 1.5 * drug, 1.0))


@exercise("effect", "model", "n")
def _effect(answer: Answer) -> str:
    """The mean of `days` when `drug` is set to 1, minus that when it is set to 0."""
    n = 600  # few enough for runs in a loop
    for model, truth in ((_clinic, -2.0), (_farm, 1.5)):
        seen = _difference_seen(model)
        estimates = []
        for k in (1, 2, 3, 4):
            number = as_number(returned := answer(model, n, rng_seed=k))
            if number is None:
                nothing = returned is None or returned is ...
                raise Mistake(
                    "`effect` returned nothing."
                    if nothing
                    else f"`effect` returned {described(returned)}, and one number is asked for.",
                    "Average `days` over n runs in each case, and return the difference.",
                    "empty" if nothing else "not-a-number",
                )
            estimates.append(number)
        mean = sum(estimates) / len(estimates)
        # The spread of `days` within one case is below 3.5, and there are two cases.
        error = 3.5 * math.sqrt(2 / n / len(estimates))
        if abs(mean - truth) <= 4.5 * error:
            continue
        if abs(mean + truth) <= 4.5 * error:
            raise Mistake(
                f"{mean:.2f} is the difference with its sign turned.", "Set to 1 first.", "sign"
            )
        if abs(mean - seen) <= 4.5 * error + 0.1:
            raise Mistake(
                f"{mean:.2f} is the difference between those who are *seen* with and without the "
                f"drug; when it is *set*, the difference is {truth:g}.",
                "Those who take it differ from those who do not. Use `do`, not a comparison of "
                "what happened, and not `condition` with weights.",
                "seen-not-set",
            )
        raise Mistake(
            f"`effect` averages to {mean:.2f}, and the difference is {truth:g}.",
            'Under `do(model, data={"drug": ...})` average `days` over many runs.',
            "wrong-value",
        )
    return "set, not seen: the difference is the drug's own."


def _difference_seen(model) -> float:
    with seed(rng_seed=0), pplkit.plate("runs", 100_000):
        run = trace(model).get_trace()
    drug, days = run.nodes["drug"].value, run.nodes["days"].value
    return (days[drug == 1].mean() - days[drug == 0].mean()).item()


# -- what comes next -------------------------------------------------------------------------------


@exercise("next_count", "counts", "n")
def _next_count(answer: Answer) -> str:
    """n draws from the posterior predictive of a Poisson count under a Gamma(2, 1) prior."""
    counts, n = torch.tensor([4.0, 7.0, 3.0]), 6000
    a, b = 2.0 + counts.sum().item(), 1.0 + len(counts)
    mean, variance = a / b, a / b + a / b**2
    draws = answer(counts, n, rng_seed=1)
    if draws is None or draws is ...:
        raise Mistake("`next_count` returned nothing.", "Return a tensor of n counts.", "empty")
    if not isinstance(draws, Tensor) or draws.shape != (n,):
        shape = f" of shape {tuple(draws.shape)}" if isinstance(draws, Tensor) else ""
        raise Mistake(
            f"`next_count` returned {described(draws)}{shape}, and {n} counts are asked for.",
            "Draw in a plate of size n, and return its values.",
            "shape",
        )
    draws = draws.float()
    if not torch.equal(draws, draws.round()):
        raise Mistake(
            "the draws are not whole numbers: rates, perhaps, and counts are asked for.",
            "Draw a rate, then a count given the rate.",
            "rates",
        )
    if torch.equal(draws, answer(counts, n, rng_seed=2).float()):
        raise Mistake("two calls gave the same draws.", "Fix no seed inside.", "constant")
    found, spread = draws.mean().item(), draws.var().item()
    error = math.sqrt(variance / n)
    # The variance of the sample variance, of a gamma-Poisson count, is below 3.5 var² / n here.
    wide = 4.5 * math.sqrt(3.5 / n) * variance
    if abs(found - mean) <= 4.5 * error and abs(spread - variance) <= wide:
        return "both doubts are in the draws: about the rate, and about the count given the rate."
    if abs(found - 2.0) <= 4.5 * math.sqrt(4.0 / n):
        raise Mistake(
            f"the mean of the draws is {found:.2f}: that is the *prior* predictive.",
            "Draw the rate from the posterior, `Gamma(2 + total, 1 + number)`.",
            "prior",
        )
    if abs(found - mean) <= 0.1 and abs(spread - a / b) <= wide:
        raise Mistake(
            f"the draws have variance {spread:.2f}: as if the rate were known to be {a / b:.2f}.",
            "Draw a rate for each count, in the same plate.",
            "rate-known",
        )
    if abs(found - mean) <= 4.5 * error:
        raise Mistake(
            f"the draws have mean {found:.2f} and variance {spread:.2f}; they should have "
            f"{mean:.2f} and {variance:.2f}.",
            "For each draw a rate of its own, then one count.",
            "spread",
        )
    raise Mistake(
        f"the draws have mean {found:.2f}, and the posterior predictive has {mean:.2f}.",
        "The posterior of the rate is `Gamma(2 + total, 1 + number)`.",
        "wrong-value",
    )
