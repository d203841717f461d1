"""Exercises of chapter 6: what if no formula gives the posterior?"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributions import constraints

import pplkit
import pplkit.distributions as dist
from pplkit import errors
from pplkit.handlers import trace
from pplkit.infer import SVI, Trace_ELBO
from pplkit.optim import ClippedAdam
from pplkit.params import ParamStore

from ..judging import (
    Answer,
    Mistake,
    as_number,
    described,
    exercise,
    listed,
    quoted,
    sample_sites,
    seed_everything,
)

# -- true or false ---------------------------------------------------------------------------------

# Letter: the truth, the mistake's name, and what to say to somebody who believes the contrary.
_STATEMENTS = {
    "a": (
        True,
        "needs-posterior",
        "the posterior is not needed: programs compute the two log-probabilities it is made of.",
    ),
    "b": (
        False,
        "exceeds",
        "the ELBO is the log evidence less a divergence, and a divergence is never negative.",
    ),
    "c": (
        True,
        "draw-bounded",
        "the bound holds for the average over draws; a single draw may lie above it.",
    ),
    "d": (
        True,
        "not-comparable",
        "the log evidence is the same, so what one ELBO is higher by, its divergence is lower by.",
    ),
    "e": (
        False,
        "family",
        "the best guide of a family may be far from the posterior, and there the loss stands too.",
    ),
    "f": (
        False,
        "particles",
        "particles make the slope less noisy; what the family can say stays what it is.",
    ),
    "g": (
        False,
        "observes",
        "a guide draws the latent sites; the data are observed in the model, once.",
    ),
}


@exercise("verdicts")
def _verdicts(answer: Answer) -> str:
    """A dictionary from letters to True or False."""
    found = answer()
    if not isinstance(found, Mapping):
        nothing = found is None or found is ...
        raise Mistake(
            "`verdicts` returned nothing."
            if nothing
            else f"`verdicts` returned {described(found)}, and a dictionary is asked for.",
            'Return `{"a": True, "b": False, ...}`, with a verdict on each statement.',
            "empty" if nothing else "not-a-dictionary",
        )
    given = {str(key).lower(): _plain(value) for key, value in found.items()}
    open_ = [letter for letter in _STATEMENTS if not isinstance(given.get(letter), bool)]
    if open_:
        raise Mistake(
            f"no verdict yet on {listed(open_)}.",
            "Give `True` or `False` for each letter.",
            "unanswered",
        )
    for letter, (truth, mistake, said) in _STATEMENTS.items():
        if given[letter] is not truth:
            raise Mistake(
                f"`{letter}` is {truth}: {said}",
                "Look at it in the chapter, then go through the others again.",
                mistake,
            )
    return "all seven, and each for a reason that the chapter gives."


def _plain(value):
    """NumPy's and torch's true and false are true and false."""
    return value.item() if str(getattr(value, "dtype", "")).endswith("bool") else value


# -- a guide for the bent coin ---------------------------------------------------------------------

_TOSSES = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0])


def _coin(tosses):
    p = pplkit.sample("p", dist.Beta(2.0, 2.0))
    with pplkit.plate("tosses", len(tosses)):
        pplkit.sample("toss", dist.Bernoulli(p), obs=tosses)


@exercise("coin_guide", "tosses")
def _coin_guide(answer: Answer) -> str:
    """A guide with a site `p` on (0, 1), whose parameters can make it Beta(9, 4)."""
    store = ParamStore()
    with store:
        run, _ = answer.traced(_TOSSES, rng_seed=1)
    _is_a_guide_of_p(run)
    _fit(answer, store)
    _kept_in_bounds(answer, store)
    seed_everything(3)
    with store, torch.no_grad(), pplkit.plate("draws", 4000, dim=-2), answer.blamed():
        drawn = trace(answer.function).get_trace(_TOSSES).nodes["p"].value
    mean, sd = drawn.mean().item(), drawn.std().item()
    exact = dist.Beta(2 + _TOSSES.sum(), 2 + (1 - _TOSSES).sum())
    truth, spread = exact.mean.item(), exact.stddev.item()
    found = f"fitted, it has mean {mean:.2f} and standard deviation {sd:.2f}"
    if sd < 1e-3:
        raise Mistake(
            f"{found}: a single point.",
            "Draw `p` from a distribution that has a width.",
            "point",
        )
    # Monte Carlo error of mean and sd, and what the last steps of a fit leave.
    if abs(mean - truth) > 0.25 * spread or not 0.8 < sd / spread < 1.25:
        raise Mistake(
            f"{found}; the posterior has {truth:.2f} and {spread:.2f}.",
            "Let mean and width move independently: two parameters, one for each number of the "
            "distribution.",
            "too-small-a-family",
        )
    return f"{found}: the posterior, and no formula was used."


def _is_a_guide_of_p(run) -> None:
    sites = sample_sites(run)
    if not sites:
        raise Mistake(
            "the guide runs no `sample` statement.",
            'Draw `p`: `sample("p", ...)`. What is returned does not matter.',
            "empty",
        )
    if any(site.is_observed for site in sites.values()):
        seen = [name for name, site in sites.items() if site.is_observed]
        raise Mistake(
            f"the guide observes {listed(seen)}.",
            "Leave the data to the model: a guide draws the latent sites only.",
            "observes",
        )
    if "p" not in sites:
        raise Mistake(
            f"the guide draws {listed(sites)}, and the model asks for `p`.",
            "Names are how the two find each other: letter for letter.",
            "site-name",
        )
    if not [site for site in run.nodes.values() if site.type == "param"]:
        raise Mistake(
            "there is no `param` in the guide: nothing can be fitted.",
            'Make the numbers of the distribution parameters: `param("a", torch.tensor(2.0), ...)`.',
            "no-params",
        )


def _fit(answer: Answer, store: ParamStore) -> None:
    seed_everything(2)
    elbo = Trace_ELBO(num_particles=4, vectorize_particles=True, max_plate_nesting=1)
    optim = ClippedAdam({"lr": 0.1, "lrd": 0.985})
    try:
        svi = SVI(_coin, answer.function, optim, elbo, params=store)
        svi.run(400, _TOSSES, compile=False, progress_bar=False)
    except errors.DistributionError as error:
        raise _unbounded(quoted(error)) from None
    except Exception as error:  # noqa: BLE001  whatever the answer raises
        if "outside the model's support" in str(error):
            raise Mistake(
                "it proposes values of `p` that the model rules out.\n" + quoted(error),
                "A probability lies between 0 and 1, and so do all draws of a `Beta`.",
                "support",
            ) from None
        raise answer.failure(error) from None


def _kept_in_bounds(answer: Answer, store: ParamStore) -> None:
    """A parameter that may be any number must not break the guide when it is negative."""
    for name in store:
        if store.constraint(name) is not constraints.real:
            continue
        trial = ParamStore()
        for other in store:
            trial.setdefault(other, store[other].detach(), store.constraint(other))
        trial[name] = torch.full_like(store[name].detach(), -3.0)
        try:
            with trial, torch.no_grad():
                trace(answer.function).get_trace(_TOSSES)
        except errors.DistributionError as error:
            raise _unbounded(quoted(error), name) from None


def _unbounded(said: str, name: str = "") -> Mistake:
    which = f"parameter `{name}`" if name else "a parameter"
    return Mistake(
        f"{which} may become negative in a fit, and the distribution refuses that.\n{said}",
        "Say which values are allowed: `param(..., constraint=dist.constraints.positive)`.",
        "unconstrained",
    )


# -- move the controls until -----------------------------------------------------------------------

_NEAR, _BY = 0.15, 40


@exercise("settled")
def _settled(answer: Answer) -> str:
    """A player of SVI whose run is near after 40 steps and stays so."""
    figure = answer()
    needed = ("learning_rate", "particles", "guide")
    if not all(hasattr(figure, name) for name in needed):
        nothing = figure is None or figure is ...
        raise Mistake(
            "`settled` returned nothing."
            if nothing
            else f"`settled` returned {described(figure)}, and the figure is asked for.",
            "Leave the line `return figure` as it was, and move the figure's controls.",
            "empty" if nothing else "not-a-figure",
        )
    if figure.guide != "Normal":
        raise Mistake(
            f"the guide family is {figure.guide}, and its best guide stays below the log evidence "
            "for ever.",
            "The posterior is normal: choose the family that contains it.",
            "family",
        )
    early, late = _distances(figure)
    setting = f"learning rate {figure.learning_rate:g} and {figure.particles} particles"
    slow = sum(gap > _NEAR for gap in early)
    if slow > len(early) / 2 and (figure.learning_rate <= 0.1 or min(early) > 1.0):
        raise Mistake(
            f"with {setting} the run is still {sorted(early)[len(early) // 2]:.2f} below the log "
            f"evidence after {_BY} steps.",
            "It has not had the time to get there: take longer steps.",
            "slow",
        )
    restless = sum(gap > _NEAR for gap in late)
    if restless > 1:
        raise Mistake(
            f"with {setting} {restless} of {len(late)} runs, each with draws of its own, stray "
            f"{_NEAR} or further from the log evidence after step {_BY}.",
            "Steps from noisy slopes jitter around the goal: more particles, or shorter steps.",
            "restless",
        )
    return f"{setting}: there by step {_BY}, and there to stay, with other draws as well."


def _distances(figure) -> tuple[list[float], list[float]]:
    """For runs of several seeds: the divergence at step 40, and its largest value from there on."""
    from ..course.player import _FAMILIES, _divergence, _run

    early, late = [], []
    data = torch.tensor([1.2, 0.8, 1.5, -0.3])
    _, variance, entropy = _FAMILIES["Normal"]
    for k in range(11, 17):
        seed_everything(k)
        with ParamStore():
            _, loc, scale = _run("Normal", figure.learning_rate, figure.particles, data)
        gaps = _divergence(loc, scale.log(), variance, entropy)
        early.append(gaps[_BY].item())
        late.append(gaps[_BY:].max().item())
    return early, late


# -- a fit of one's own ----------------------------------------------------------------------------


# Of the posterior's spread: what steps of one draw and a fixed length of 0.03 leave a fit off by.
_LEFT_BY_NOISE = 0.45


@exercise("fitted_rate", "calls")
def _fitted_rate(answer: Answer) -> str:
    """Mean and standard deviation of the posterior of a rate; prior Gamma(3, 1), Poisson counts."""
    cases = [torch.tensor([13.0, 9.0, 14.0]), torch.tensor([2.0, 0.0, 1.0, 1.0, 3.0, 2.0])]
    before = None
    for number, calls in enumerate(cases):
        mean, sd = _pair(answer(calls, rng_seed=number + 1))
        exact = dist.Gamma(3 + calls.sum(), torch.tensor(1.0 + len(calls)))
        truth, spread = exact.mean.item(), exact.stddev.item()
        near = abs(mean - truth) <= _LEFT_BY_NOISE * spread
        if not (near and 0.75 <= sd / spread <= 1.35):
            raise _known_wrong_rate(mean, sd, calls, truth, spread, before)
        before = truth, spread
    return "both fits are where the exact posteriors are, within what noisy steps leave."


def _pair(found) -> tuple[float, float]:
    if found is None or found is ...:
        raise Mistake("`fitted_rate` returned nothing.", "Return mean and spread.", "empty")
    try:
        mean, sd = (as_number(part) for part in found)
    except Exception:  # noqa: BLE001
        mean = sd = None
    if mean is None or sd is None or not math.isfinite(mean + sd):
        raise Mistake(
            f"`fitted_rate` returned {described(found)}, and two numbers are asked for.",
            "Return a pair: the mean of the rate, and its standard deviation.",
            "not-a-pair",
        )
    return mean, sd


def _known_wrong_rate(mean, sd, calls: Tensor, truth, spread, before) -> Mistake:
    near = lambda value, other: abs(value - other) <= 0.04 * (abs(other) + 0.1)
    found = f"for {calls.int().tolist()} you have {mean:.2f}, give or take {sd:.2f}"
    right = f"the posterior has {truth:.2f}, give or take {spread:.2f}"
    if sd <= 1e-3:
        return Mistake(
            f"{found}: a single point.", "A posterior has a width: fit that too.", "point"
        )
    if before is not None and near(mean, before[0]):
        return Mistake(
            f"{found}, which is what the calls before these said.",
            "Each fit needs a store of its own (`params=ParamStore()`), or "
            "`pplkit.clear_param_store()` before it.",
            "stale",
        )
    if near(mean, 3.0) and near(sd, 3**0.5):
        return Mistake(
            f"{found}: that is the prior.", "The data have to be observed: `obs=calls`.", "prior"
        )
    if near(mean, calls.mean().item()):
        return Mistake(
            f"{found}: the mean of the calls, as if there were no prior.",
            f"{right}: three calls in one hour were seen before, so to speak.",
            "no-prior",
        )
    if near(mean, math.log(truth)):
        return Mistake(
            f"{found}: the logarithm of a rate.",
            "An optimiser's unbounded number is not the parameter; look at draws of `rate`.",
            "log-scale",
        )
    if abs(mean - truth) <= _LEFT_BY_NOISE * spread:
        return _wrong_spread(found, right, sd, calls, truth, spread)
    return Mistake(
        f"{found}; {right}.",
        "More steps, longer at first and shorter towards the end? Look at the losses of the first "
        "and the last fifty.",
        "not-there",
    )


def _wrong_spread(found, right, sd, calls: Tensor, truth, spread) -> Mistake:
    known = [
        (spread**2, "variance", "the variance", "The standard deviation is its root."),
        (
            calls.std().item(),
            "spread-of-data",
            "the spread of the calls",
            "Asked for is how well the rate is known, and not how much the calls vary.",
        ),
        (
            (truth + spread**2) ** 0.5,
            "predictive",
            "the spread of the next count",
            "Asked for is the rate itself.",
        ),
    ]
    for value, mistake, what, remedy in known:
        if abs(sd - value) <= 0.08 * value:
            return Mistake(f"{found}: the right mean, and {what}.", remedy, mistake)
    return Mistake(
        f"{found}; {right}.",
        "The mean is right. Is the width a parameter of the guide, and had it the time to settle?",
        "wrong-spread",
    )


# -- the slope -------------------------------------------------------------------------------------


@exercise("slopes", "loc", "log_scale", "data")
def _slopes(answer: Answer) -> str:
    """One-draw estimates of the ELBO's derivatives by location and log scale."""
    data = torch.tensor([1.1, 0.2, 0.9])
    precision = 1 + 4.0 * len(data)
    for loc, log_scale in ((0.8, -1.6), (0.3, -1.2)):
        scale = math.exp(log_scale)
        by_loc = -precision * (loc - 4 * data.sum().item() / precision)
        path = -precision * scale**2
        rows = torch.tensor([_two(answer(loc, log_scale, data, rng_seed=k)) for k in range(1, 401)])
        mean, spread = rows.mean(0), rows.std(0)
        if not torch.isfinite(rows).all():
            raise Mistake("some slopes are not finite.", "", "not-finite")
        if torch.allclose(mean, torch.tensor([by_loc, path + 1]), atol=1e-3):
            continue  # worked out by hand: no draw is needed
        if (spread < 1e-9).all() and not torch.allclose(mean, torch.zeros(2), atol=1e-6):
            raise Mistake(
                "every call gave the same two numbers, and they are not the exact slopes.",
                "Draw afresh at each call, and fix no seed inside.",
                "constant",
            )
        error = 4.5 * spread.clamp(min=0.02) / len(rows) ** 0.5
        _judge_slopes(mean, error, by_loc, path, scale)
    return "averaged over draws, both slopes are the exact ones."


def _two(found) -> list[float]:
    if found is None or found is ...:
        raise Mistake("`slopes` returned nothing.", "Return the two slopes.", "empty")
    try:
        numbers = [as_number(part) for part in found]
    except Exception:  # noqa: BLE001
        numbers = []
    if len(numbers) != 2 or None in numbers:
        raise Mistake(
            f"`slopes` returned {described(found)}, and two numbers are asked for.",
            "Return the derivative by `loc` and that by `log_scale`.",
            "not-a-pair",
        )
    return numbers


def _judge_slopes(mean, error, by_loc: float, path: float, scale: float) -> None:
    right = torch.tensor([by_loc, path + 1])

    def like(*pair: float) -> bool:
        return bool(((mean - torch.tensor(pair)).abs() <= error).all())

    if like(*right):
        return
    found = (
        f"on average ({mean[0]:.1f}, {mean[1]:.1f}), and exactly ({right[0]:.1f}, {right[1]:.1f})"
    )
    if like(*-right):
        raise Mistake(
            f"{found}: the sign is turned.",
            "These are the slopes of the loss; the ELBO is to be raised.",
            "sign",
        )
    if like(0.0, 0.0):
        raise Mistake(
            f"{found}: on average there is no slope.",
            "The draw must depend on the parameters: `rsample`, or `loc + scale * noise`; "
            "`sample` of a distribution cuts the path.",
            "no-path",
        )
    if like(by_loc, path):
        raise Mistake(
            f"{found}: the second lacks the guide's own log-probability.",
            "Subtract log q(z). Without it nothing keeps the guide from shrinking to a point.",
            "no-guide",
        )
    if like(by_loc, (path + 1) / scale):
        raise Mistake(
            f"{found}: the second is the slope by the scale.",
            "Differentiate by its logarithm: let torch compute the scale from it.",
            "by-scale",
        )
    raise Mistake(
        f"{found}.",
        "Compare the two log-probabilities of the model and the one of the guide, term by term.",
        "wrong-value",
    )
