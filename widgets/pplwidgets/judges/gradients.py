"""Exercises of chapter 7: how does a gradient get through a random draw?"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

import pplkit.distributions as dist

from ..judging import Answer, Mistake, as_number, described, exercise, listed, seed_everything

# -- which way -------------------------------------------------------------------------------------

_WAYS = ("path", "score", "sum")
# Letter: the way, and by way of answer to the others: the mistake's name, what to say.
_DRAWS = {
    "a": ("path", {"score": ("noisy", "a normal draw has a path, which is far quieter.")}),
    "b": (
        "score",
        {
            "path": ("path-of-counts", "a count has no path: it cannot grow by a little."),
            "sum": ("endless", "a count has no largest value, so a sum would not end."),
        },
    ),
    "c": (
        "sum",
        {
            "path": ("path-of-counts", "one of three kinds has no path."),
            "score": ("noisy", "three values for each row: a sum has no noise, and costs little."),
        },
    ),
    "d": (
        "path",
        {"score": ("noisy", "a gamma draw is smooth, and has a path although it is positive.")},
    ),
    "e": (
        "score",
        {
            "path": ("path-of-counts", "an order has no path."),
            "sum": ("too-many", "twelve cards have 479,001,600 orders."),
        },
    ),
    "f": (
        "score",
        {
            "path": (
                "flat-cost",
                "the draw has a path, and the cost's slope along it is zero almost everywhere.",
            )
        },
    ),
}


@exercise("which_way")
def _which_way(answer: Answer) -> str:
    """A dictionary from letters to "path", "score" or "sum"."""
    found = answer()
    if not isinstance(found, Mapping):
        nothing = found is None or found is ...
        raise Mistake(
            "`which_way` returned nothing."
            if nothing
            else f"`which_way` returned {described(found)}, and a dictionary is asked for.",
            'Return `{"a": "path", ...}`, with a way for each letter.',
            "empty" if nothing else "not-a-dictionary",
        )
    given = {str(key).lower(): value for key, value in found.items()}
    open_ = [letter for letter in _DRAWS if given.get(letter) not in _WAYS]
    if open_:
        raise Mistake(
            f"no way yet for {listed(open_)}.",
            'Say "path", "score" or "sum" for each letter.',
            "unanswered",
        )
    for letter, (right, wrong) in _DRAWS.items():
        if given[letter] != right:
            continuous = ("no-values", "its values cannot be listed: there is one beside each.")
            mistake, said = wrong.get(given[letter], continuous)
            raise Mistake(
                f'`{letter}`: not "{given[letter]}": {said}',
                "What can each way do, and what does it need? The table of the chapter says it.",
                mistake,
            )
    return "each draw by the quietest way that it allows."


# -- the score of a count --------------------------------------------------------------------------


@exercise("score_gradient", "rate", "n")
def _score_gradient(answer: Answer) -> str:
    """d/d rate of E[z^2], z Poisson(rate): 2 rate + 1."""
    n, calls = 2000, 40
    for rate in (1.5, 4.0):
        found = [
            _number(answer(rate, n, rng_seed=k), "score_gradient") for k in range(1, calls + 1)
        ]
        values = torch.tensor(found, dtype=torch.float64)
        mean, spread, truth = values.mean().item(), values.std().item(), 2 * rate + 1
        if abs(mean - truth) < 1e-4:
            continue  # worked out by hand, or summed
        if spread < 1e-9 and mean != 0:
            raise Mistake(
                f"every call gave {mean:.3f}.",
                "Draw afresh at each call, and fix no seed inside.",
                "constant",
            )
        # One estimate by n draws, as the moments of the Poisson distribution have it.
        k = torch.arange(120.0, dtype=torch.float64)
        p = dist.Poisson(torch.tensor(rate, dtype=torch.float64)).log_prob(k).exp()
        one = k**2 * (k / rate - 1)
        expected = ((p * one**2).sum() - truth**2).sqrt().item() / n**0.5
        error = 4.5 * max(min(spread, 3 * expected), 1e-3) / calls**0.5
        _judge_score(mean, error, rate, truth, n)
        if spread > 3 * expected:
            raise Mistake(
                f"right on average, and it varies as if only {n * (expected / spread) ** 2:.0f} of "
                f"{n} draws were used.",
                "Draw `n` counts, and average.",
                "n-unused",
            )
    return "right on average, within its Monte Carlo error, though a count has no path."


def _number(found, name: str) -> float:
    if found is None or found is ...:
        raise Mistake(f"`{name}` returned nothing.", "Return one number.", "empty")
    number = as_number(found)
    if number is None or not math.isfinite(number):
        shape = f" of shape {tuple(found.shape)}" if isinstance(found, Tensor) else ""
        raise Mistake(
            f"`{name}` returned {described(found)}{shape}, and one finite number is asked for.",
            "Average over the draws.",
            "not-a-number",
        )
    return number


def _judge_score(mean: float, error: float, rate: float, truth: float, n: int) -> None:
    if abs(mean - truth) <= error:
        return
    found = f"{mean:.2f} on average for rate {rate}, and exactly {truth:.2f}"
    z3 = rate**3 + 3 * rate**2 + rate
    known = [
        (-truth, "sign", "the sign is turned.", "Cost times score, both as they are."),
        (0.0, "no-path", "no slope at all.", "Through the draw there is no way: use the score."),
        (rate + rate**2, "cost", "that is the average cost.", "Multiply each cost by its score."),
        (
            n * truth,
            "not-averaged",
            "the draws were added up.",
            "Divide by their number.",
        ),
        (
            z3 / rate,
            "half-a-score",
            "the log-probability is z log(rate) - rate, and the last term was forgotten.",
            "The score is z / rate - 1; or let torch differentiate `log_prob`.",
        ),
        (2 * rate, "of-the-mean", "that is the slope of rate².", "E[z²] is not (E[z])²."),
    ]
    for value, mistake, said, remedy in known:
        if abs(mean - value) <= max(error, 1e-6) * max(1.0, abs(value / truth)):
            raise Mistake(f"{found}: {said}", remedy, mistake)
    raise Mistake(
        f"{found}.", "Average of: z² times the derivative of log p(z) by the rate.", "wrong-value"
    )


# -- a path for a draw -----------------------------------------------------------------------------


@exercise("weibull", "scale", "shape", "u")
def _weibull(answer: Answer) -> str:
    """Draws with P(z > t) = exp(-(t / scale)^shape), from uniform u, with a way back."""
    u = (torch.arange(2000.0) + 0.5) / 2000
    for scale, shape in ((1.0, 1.0), (2.0, 3.0), (0.7, 1.5)):
        by = [torch.tensor(value, requires_grad=True) for value in (scale, shape)]
        z = answer(*by, u.clone())
        if z is None or z is ...:
            raise Mistake("`weibull` returned nothing.", "Return the draws.", "empty")
        if not isinstance(z, Tensor) or z.shape != u.shape:
            shape_ = f" of shape {tuple(z.shape)}" if isinstance(z, Tensor) else ""
            raise Mistake(
                f"`weibull` returned {described(z)}{shape_}; there are {len(u)} numbers in `u`.",
                "One draw for each number in `u`.",
                "shape",
            )
        _is_weibull(z.detach(), u, scale, shape)
        found = [None, None]
        if z.requires_grad:
            found = torch.autograd.grad(z.sum(), by, allow_unused=True)
        if None in found:
            raise Mistake(
                "the draws are right, and torch does not know how they depend on "
                + ("scale and shape." if found == [None, None] else "one of the two numbers."),
                "Compute them from `u`, `scale` and `shape` by torch's functions only: no "
                "`.item()`, no `.detach()`, no `sample`.",
                "no-path",
            )
    return "right in distribution, and each draw has a slope by both numbers."


def _is_weibull(z: Tensor, u: Tensor, scale: float, shape: float) -> None:
    def like(candidate: Tensor) -> bool:
        return torch.allclose(z.sort().values, candidate.sort().values, rtol=1e-3, atol=1e-4)

    tail = -torch.log(u)
    if like(scale * tail ** (1 / shape)) or like(scale * (-torch.log1p(-u)) ** (1 / shape)):
        return
    if not torch.isfinite(z).all() or (z < 0).any():
        raise Mistake(
            "some draws are negative or not numbers.",
            "log(u) is negative: turn its sign before taking the root.",
            "negative",
        )
    rank = torch.corrcoef(torch.stack([z, u]))[0, 1].abs()
    if rank < 0.2:
        raise Mistake(
            "the draws do not depend on `u`: they bring noise of their own.",
            "The dice are thrown already: `u` is the noise.",
            "own-noise",
        )
    if like(scale * tail**shape):
        raise Mistake("the power is `shape`.", "It should be 1 / shape.", "power")
    if like(tail ** (1 / shape) / scale):
        raise Mistake("the draws are divided by the scale.", "Multiply by it.", "rate")
    if like(1 - torch.exp(-((u / scale) ** shape))) or like(torch.exp(-((u / scale) ** shape))):
        raise Mistake(
            "you computed the probability at `u`.",
            "Go the other way: for which z is the probability `u`? Solve for z.",
            "not-inverted",
        )
    raise Mistake(
        f"for scale {scale} and shape {shape} the draws have mean {z.mean():.2f}, and it should be "
        f"{scale * math.gamma(1 + 1 / shape):.2f}.",
        "Solve u = exp(-(z / scale)^shape) for z.",
        "distribution",
    )


# -- where the score is the quieter ----------------------------------------------------------------


@exercise("quiet_score")
def _quiet_score(answer: Answer) -> str:
    """A figure of gradient estimators at a place where the score's scatter less than half."""
    figure = answer()
    if not all(hasattr(figure, name) for name in ("location", "scale", "particles", "evaluate")):
        nothing = figure is None or figure is ...
        raise Mistake(
            "`quiet_score` returned nothing."
            if nothing
            else f"`quiet_score` returned {described(figure)}, and the figure is asked for.",
            "Leave the line `return figure` as it was, and move the figure's controls.",
            "empty" if nothing else "not-a-figure",
        )
    ratios = []
    for k in (21, 22, 23):
        found = figure.evaluate(seed=k)["found"]
        ratios.append((found["score"] / found["pathwise"]).item())
    ratio = sorted(ratios)[1]
    if max(ratios) <= 0.5:
        return (
            f"here the score's estimates scatter {ratio:.2f} times as widely as the path's. The "
            "guide is almost the posterior, so the cost is nearly the same for every draw, and "
            "nearly zero: where the cost is constant, a score has no noise."
        )
    where = f"at location {figure.location:g} and scale {figure.scale:g}"
    found = f"{where} the score's estimates scatter {ratio:.1f} times as widely as the path's."
    if abs(figure.location - 12.8 / 17) > 0.3:
        raise Mistake(
            found,
            "Particles do not change the ratio. Where would the cost, log q(z) - log p(z), be "
            "nearly the same for all draws?",
            "location",
        )
    raise Mistake(
        found,
        "The location is near. The cost is constant only if the width fits as well: the posterior "
        "of the chapter's program 3 has precision 17.",
        "scale",
    )


# -- a baseline from the other draws ---------------------------------------------------------------


@exercise("with_baseline", "cost", "score")
def _with_baseline(answer: Answer) -> str:
    """An estimate of E[cost * score] from a few draws, by a baseline that keeps the mean."""
    n, calls = 4, 4000
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(calls, n, generator=generator)
    cost, score = (z - 1) ** 2 + 10, z  # of a normal's mean, at 0; the truth is -2
    seed_everything(1)
    with answer.blamed():
        found = [answer.function(c.clone(), s.clone()) for c, s in zip(cost, score, strict=True)]
    values = torch.tensor([_number(value, "with_baseline") for value in found])
    mean, spread = values.mean().item(), values.std().item()
    plain = (cost * score).mean(-1).std().item()
    error = 4.5 * spread / calls**0.5
    if abs(mean + 2) > error:
        own = (n - 1) / n
        if abs(mean + 2 * own) <= error:
            raise Mistake(
                f"on average {mean:.2f}, and exactly -2: the baseline of each draw contains the "
                "draw's own cost.",
                f"With {n} draws that makes the slope {own:.2f} times too small. Average the costs "
                "of the *other* draws.",
                "own-cost",
            )
        if abs(mean + 2 * n) <= 4.5 * spread / calls**0.5:
            raise Mistake(
                f"on average {mean:.2f}, and exactly -2: the draws are added up.",
                f"Divide by their number, {n}.",
                "not-averaged",
            )
        if abs(mean - 2) <= error:
            raise Mistake(
                f"on average {mean:.2f}: the sign is turned.", "Cost less baseline.", "sign"
            )
        raise Mistake(
            f"on average {mean:.2f}, and exactly -2: this baseline changes the mean.",
            "It may depend on the other draws, but not on the draw whose cost it is taken from.",
            "biased",
        )
    if spread > 0.7 * plain:
        raise Mistake(
            f"right on average, with spread {spread:.1f}; without any baseline it is {plain:.1f}.",
            "Subtract from each cost what the other draws cost on average.",
            "no-baseline",
        )
    return f"the mean is where it was, and the spread is {spread:.1f} instead of {plain:.1f}."


# -- a sum over what was not seen ------------------------------------------------------------------


@exercise("summed_out", "x", "shares", "centres")
def _summed_out(answer: Answer) -> str:
    """log of sum_k shares[k] Normal(x; centres[k], 1), for each x."""
    cases = [
        (torch.tensor([0.3, 3.9, 1.8]), torch.tensor([0.7, 0.3]), torch.tensor([0.0, 4.0])),
        (torch.tensor([-1.0, 0.2]), torch.tensor([0.2, 0.5, 0.3]), torch.tensor([-2.0, 0.0, 1.0])),
        (torch.tensor([60.0, -40.0, 0.0]), torch.tensor([0.5, 0.5]), torch.tensor([0.0, 1.0])),
    ]
    for number, (x, shares, centres) in enumerate(cases):
        found = answer(x.clone(), shares.clone(), centres.clone(), rng_seed=number)
        terms = dist.Normal(centres, 1.0).log_prob(x.unsqueeze(-1))
        _judge_sum(found, terms, shares, x, last=number == len(cases) - 1)
    return "every kind with its share, inside the logarithm, and far from all of them too."


def _judge_sum(found, terms: Tensor, shares: Tensor, x: Tensor, last: bool) -> None:
    right = torch.logsumexp(terms + shares.log(), dim=-1)
    if found is None or found is ...:
        raise Mistake("`summed_out` returned nothing.", "Return the log-probabilities.", "empty")
    if isinstance(found, Tensor) and found.dim() == 0 and torch.allclose(found, right.sum()):
        raise Mistake(
            "you returned the sum over all rows.", "Return one number for each row.", "total"
        )
    if not isinstance(found, Tensor) or found.shape != x.shape:
        shape = f" of shape {tuple(found.shape)}" if isinstance(found, Tensor) else ""
        raise Mistake(
            f"`summed_out` returned {described(found)}{shape}; there are {len(x)} rows.",
            "Give the kinds a dimension of their own, and sum over it.",
            "shape",
        )
    if torch.allclose(found, right, rtol=1e-4, atol=1e-4):
        return
    if last and not torch.isfinite(found).all():
        raise Mistake(
            f"at x = {x[0]:.0f} the result is {found[0]:.0f}: the probabilities are so small that "
            "they became zero before the logarithm was taken.",
            "Stay with logarithms: `torch.logsumexp(log_shares + log_probs, dim=-1)`.",
            "underflow",
        )
    known = [
        (
            (shares * terms).sum(-1),
            "average-of-logs",
            "the average of the logarithms, and not the logarithm of the average.",
            "Sum the probabilities first: that is what `logsumexp` does.",
        ),
        (
            torch.logsumexp(terms, -1),
            "no-shares",
            "every kind counts in full.",
            "Add the logarithm of its share to each kind's log-probability.",
        ),
        (right.exp(), "probability", "the probability.", "Its logarithm is asked for."),
        (
            (terms + shares.log()).max(-1).values,
            "likeliest-kind",
            "the likeliest kind alone.",
            "The others contribute as well.",
        ),
        (terms.sum(-1) + shares.log().sum(), "product", "a product over the kinds.", "Sum."),
    ]
    for value, mistake, said, remedy in known:
        if torch.allclose(found, value, rtol=1e-3, atol=1e-3):
            raise Mistake(f"you returned {said}", remedy, mistake)
    raise Mistake(
        f"at x = {x[0]:.1f} you have {found[0]:.3f}, and it is {right[0]:.3f}.",
        "log of: the sum over kinds of share times density.",
        "wrong-value",
    )
