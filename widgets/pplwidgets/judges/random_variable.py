"""Exercises of chapter 1: what is a random variable to a program?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import pplkit
import pplkit.distributions as dist
from pplkit import errors
from pplkit.handlers import trace
from pplkit.infer import SVI, Trace_ELBO
from pplkit.optim import Adam

from ..judging import (
    Answer,
    Mistake,
    as_number,
    described,
    exercise,
    listed,
    one_vectorised_site,
    plate_size_mistake,
    row_scores,
    same_scores,
    sample_sites,
    seed_everything,
)


@exercise("tail", "n")
def _tail(answer: Answer) -> str:
    """P(X > 3) for X normal with mean 1 and variance 4, estimated from n draws."""
    n, seeds = 4_000, range(1, 9)
    upper = lambda scale: 0.5 * math.erfc((3 - 1) / (scale * math.sqrt(2)))
    truth = upper(2.0)
    estimates = []
    for k in seeds:
        returned = answer(n, rng_seed=k)
        number = as_number(returned)
        if returned is None or returned is ...:
            raise Mistake(
                "`tail` returned nothing.",
                "Draw, compare with 3, and `return` the share of draws above it.",
                "empty",
            )
        if number is None:
            shape = f" of shape {tuple(returned.shape)}" if hasattr(returned, "shape") else ""
            raise Mistake(
                f"`tail` returned {described(returned)}{shape}, and a single number is asked for.",
                "Average the comparisons: `(x > 3).float().mean()`.",
                "not-averaged",
            )
        estimates.append(number)
    mean = sum(estimates) / len(estimates)
    spread = math.sqrt(sum((e - mean) ** 2 for e in estimates) / (len(estimates) - 1))
    if not math.isfinite(mean):
        raise Mistake(
            f"`tail` returned {estimates[0]}.",
            "A probability is a number from 0 to 1.",
            "not-finite",
        )

    def close(p: float) -> bool:
        # 4.5 standard errors of the average of all runs: a right answer fails once in 100,000.
        return abs(mean - p) <= 4.5 * math.sqrt(p * (1 - p) / (n * len(estimates)))

    expected = math.sqrt(truth * (1 - truth) / n)
    constant = spread < 1e-12
    if constant and abs(mean - truth) < 1e-6:
        return (
            f"`tail` gives {truth:.4f} without drawing at all: the closed form, and no estimate "
            "can beat it."
        )
    if constant and 0 < mean < 1:
        raise Mistake(
            f"`tail({n})` gave {mean:.4g} under {len(estimates)} different seeds, every time.",
            "An estimate varies from run to run: use fresh draws, and fix no seed inside the "
            "function.",
            "constant",
        )
    if spread > 3 * expected and abs(mean - truth) <= 4.5 * spread / math.sqrt(len(estimates)):
        used = max(1, round(truth * (1 - truth) / spread**2))
        raise Mistake(
            f"the estimates vary as if only about {used} of {n} draws were used.",
            "Let the plate, or the sample shape, have size `n`.",
            "n-unused",
        )
    if close(truth):
        return (
            f"over {len(estimates)} runs, `tail` averages to the true probability"
            " within its Monte-Carlo error."
        )
    if mean > 1.5:
        raise Mistake(
            f"`tail({n})` is about {mean:.0f}, and a probability is at most 1.",
            "Divide the count by `n`.",
            "count",
        )
    _known_wrong_tail(mean, close, truth, upper)
    z = abs(mean - truth) / math.sqrt(truth * (1 - truth) / (n * len(estimates)))
    raise Mistake(
        f"over {len(estimates)} runs of {n} draws `tail` averages to {mean:.3f},"
        f" {z:.0f} standard errors away from the true probability.",
        "Check the mean 1, the scale (the square root of the variance 4), and the comparison "
        "`x > 3`.",
        "wrong-value",
    )


def _known_wrong_tail(mean: float, close: Callable[[float], bool], truth: float, upper) -> None:
    if close(1 - truth):
        raise Mistake(
            f"{mean:.3f} is the probability of being below 3.",
            "Turn the comparison round.",
            "wrong-tail",
        )
    if close(upper(4.0)):
        raise Mistake(
            f"{mean:.3f} belongs to a scale of 4: the variance was given where `Normal` takes "
            "the standard deviation.",
            "The scale is the square root of the variance.",
            "variance-for-scale",
        )
    if close(upper(math.sqrt(2.0))):
        raise Mistake(
            f"{mean:.3f} belongs to a scale of √2, and the variance is 4.",
            "The scale is √4.",
            "root-twice",
        )
    if abs(mean - math.log(truth)) < 0.1:
        raise Mistake(
            f"{mean:.3f} is the logarithm of the probability.",
            "Return the probability itself.",
            "log",
        )


@exercise("rain", "probs")
def _rain(answer: Answer) -> str:
    """Independent Bernoulli draws for any number of towns, in one statement."""
    for probs in (torch.tensor([0.1, 0.35, 0.8]), torch.tensor([0.9, 0.25, 0.6, 0.05, 0.45])):
        n = len(probs)
        site, returned = _rain_site(answer, probs, n)
        zero_one = torch.tensor([0.0, 1.0])
        if not same_scores(site.fn, dist.Bernoulli(probs), zero_one):
            _known_wrong_rain(site.fn, probs, zero_one)
        if returned is None:
            raise Mistake(
                "`rain` draws correctly and returns nothing.",
                "Put `return` before `sample`.",
                "no-return",
            )
        matches = (
            isinstance(returned, Tensor)
            and returned.shape == (n,)
            and torch.equal(returned, site.value)
        )
        if not matches:
            raise Mistake(
                f"`rain` draws correctly, but returns {described(returned)} that is not the value "
                "of the site `rain`.",
                "Return what `sample` gave back.",
                "wrong-return",
            )
    return "one statement draws all towns, each with its own probability, however many there are."


def _rain_site(answer: Answer, probs: Tensor, n: int):
    try:
        run, returned = answer.traced(probs, rng_seed=1)
    except Mistake as found:
        error = found.error
        if isinstance(error, errors.ModelError):
            raise Mistake(
                "a loop used the same name more than once, and every draw of a run needs a "
                "name of its own.\n"
                f"{type(error).__name__}: {error}",
                'Leave the loop out: one `sample("rain", ...)` inside a plate draws all '
                "towns at once.",
                "loop",
            ) from None
        raise plate_size_mistake(found, error, n, "town") from None
    sites = sample_sites(run)
    if not sites:
        if returned is None or returned is ...:
            raise Mistake(
                "`rain` ran no `sample` statement and returned nothing.",
                'Start with one `sample("rain", ...)` statement, and return its value.',
                "empty",
            )
        raise Mistake(
            "`rain` returned something, but no `sample` statement was run: the trace of the "
            "run is empty.",
            "Numbers drawn in other ways have no name and no log-probability; draw with "
            '`sample("rain", ...)`.',
            "no-sample",
        )
    if sites.get("rain") is not None and sites["rain"].is_observed:
        raise Mistake(
            "`rain` is observed: its value was given.",
            "Leave `obs=` out; nothing is known yet.",
            "observed",
        )
    return one_vectorised_site(sites, "rain", n, "town"), returned


def _known_wrong_rain(fn, probs: Tensor, values: Tensor) -> None:
    if same_scores(fn, dist.Bernoulli(probs=1 - probs), values):
        raise Mistake(
            "zeros and ones are exchanged: rain falls with probability 1 − p.", "", "swapped"
        )
    if same_scores(fn, dist.Bernoulli(logits=probs), values):
        raise Mistake(
            "the probabilities were given as logits.",
            "Write `dist.Bernoulli(probs)`, or `probs=probs`.",
            "logits",
        )
    if same_scores(fn, dist.Bernoulli(probs[:1].expand(probs.shape)), values):
        raise Mistake(
            "every town has the first town's probability.",
            "Give `Bernoulli` the whole tensor.",
            "first-only",
        )
    scores = row_scores(fn, values)
    told = (
        ""
        if scores is None
        else f" In town 1 it should rain with probability {probs[0]:.2f}; here "
        f"{scores[1, 0].exp():.2f}."
    )
    raise Mistake(
        "the draws do not follow the given probabilities: the site's distribution is "
        f"`{type(fn).__name__}`.{told}",
        "One toss with probability p is a `Bernoulli(p)`.",
        "wrong-distribution",
    )


# The truth behind "ruler" and "guide": a length, and readings of it.
_PRIOR = (10.0, 2.0)
_NOISE = 0.5


def _ruler_model(readings: Tensor) -> None:
    length = pplkit.sample("length", dist.Normal(*_PRIOR))
    with pplkit.plate("readings", len(readings)):
        pplkit.sample("reading", dist.Normal(length, _NOISE), obs=readings)


@exercise("ruler", "readings")
def _ruler(answer: Answer) -> str:
    """length ~ Normal(10, 2); readings ~ Normal(length, 0.5) in a plate, observed."""
    for readings in (
        torch.tensor([11.2, 10.4, 12.1, 11.6]),
        torch.tensor([8.3, 9.1, 7.7, 8.8, 8.2, 9.4]),
    ):
        n = len(readings)
        run, returned = _ruler_run(answer, readings, n)
        sites = sample_sites(run)
        _ruler_structure(answer, sites, readings, returned, n)
        points = torch.tensor([4.0, 9.0, 10.0, 13.5])
        if not same_scores(sites["length"].fn, dist.Normal(*_PRIOR), points):
            _known_wrong_normal("length", sites["length"].fn, *_PRIOR, points)
        for at in (9.0, 11.5):
            run, _ = answer.traced(readings, rng_seed=2, hold={"length": torch.tensor(at)})
            site = run.nodes["reading"]
            right = dist.Normal(at, _NOISE).log_prob(readings)
            if site.log_prob.shape != right.shape or not torch.allclose(
                site.log_prob, right, atol=1e-4
            ):
                _known_wrong_likelihood(site, readings, at)
    return "the model believes, measures and observes as it should, for any number of readings."


def _ruler_run(answer: Answer, readings: Tensor, n: int):
    try:
        return answer.traced(readings, rng_seed=1)
    except Mistake as found:
        error = found.error
        if isinstance(error, errors.ModelError):
            raise Mistake(
                f"a name was used more than once.\n{type(error).__name__}: {error}",
                'Replace the loop by one `sample("reading", ...)` statement inside a plate.',
                "loop",
            ) from None
        raise plate_size_mistake(found, error, n, "reading") from None


def _ruler_structure(answer: Answer, sites: dict, readings: Tensor, returned: Any, n: int) -> None:
    if not sites:
        raise Mistake(
            "`ruler` ran no `sample` statement.",
            "Two are needed: `length`, which nobody knows, and `reading`, which is observed.",
            "empty",
        )
    if "length" not in sites:
        raise Mistake(
            f"there is no site called `length`; the run has {listed(sites)}.",
            "Sample the unknown length under that name, before the plate.",
            "site-name",
        )
    if sites["length"].is_observed:
        raise Mistake(
            "`length` is observed, and it is the unknown.",
            "Only the readings are known: move `obs=`.",
            "wrong-obs",
        )
    if sites["length"].plates:
        raise Mistake(
            f"`length` stands inside the plate `{sites['length'].plates[-1].name}`: a "
            "separate length for every reading.",
            "There is one length, measured several times: draw it before the plate opens.",
            "latent-in-plate",
        )
    if set(sites) == {"length"}:
        told = (
            " Returning them does not condition the model on them."
            if _is_data(returned, readings)
            else ""
        )
        raise Mistake(
            f"no statement speaks of the readings.{told}",
            'Add `sample("reading", ..., obs=readings)` inside a plate.',
            "returned-data" if told else "no-likelihood",
        )
    site = one_vectorised_site(
        {k: v for k, v in sites.items() if k != "length"}, "reading", n, "reading"
    )
    if not site.is_observed:
        told = (
            " Returning the data does not condition the model on them."
            if _is_data(returned, readings)
            else ""
        )
        raise Mistake(
            f"`reading` is drawn, not observed: the model never sees the data.{told}",
            'Give the site its values: `sample("reading", ..., obs=readings)`.',
            "returned-data" if told else "no-obs",
        )
    if not _is_data(site.value, readings):
        raise Mistake(
            "`reading` is observed, but not at the readings.", "Write `obs=readings`.", "wrong-obs"
        )


def _is_data(value: Any, data: Tensor) -> bool:
    return (
        isinstance(value, Tensor)
        and value.shape == data.shape
        and torch.allclose(value.to(data.dtype), data)
    )


def _known_wrong_normal(name: str, fn, loc: float, scale: float, points: Tensor) -> None:
    if same_scores(fn, dist.Normal(loc, scale**2), points):
        raise Mistake(
            f"`{name}` has scale {scale**2:g}, the square of what is asked for.",
            f"`Normal` takes the standard deviation, here {scale:g}; only a variance would be "
            "squared.",
            "variance-for-scale",
        )
    found = f"`{_plain(fn)}`"
    raise Mistake(
        f"`{name}` has the distribution {found}.",
        f"It should be `Normal({loc:g}, {scale:g})`.",
        "wrong-prior",
    )


def _plain(fn) -> str:
    loc, scale = as_number(getattr(fn, "loc", None)), as_number(getattr(fn, "scale", None))
    kind = type(getattr(fn, "base_dist", fn)).__name__
    return f"{kind}({loc:g}, {scale:g})" if loc is not None and scale is not None else kind


def _known_wrong_likelihood(site, readings: Tensor, at: float) -> None:
    def matches(scale: float) -> bool:
        right = dist.Normal(at, scale).log_prob(readings)
        return site.log_prob.shape == right.shape and torch.allclose(
            site.log_prob, right, atol=1e-4
        )

    if matches(_NOISE**2):
        raise Mistake(
            f"the noise has scale {_NOISE**2:g}: the variance was given where `Normal` takes "
            "the standard deviation.",
            f"The scale is the square root of the variance, √{_NOISE**2:g} = {_NOISE:g}.",
            "variance-for-scale",
        )
    if matches(math.sqrt(_NOISE)):
        raise Mistake(
            f"the noise has scale {math.sqrt(_NOISE):.3f}, and the variance is {_NOISE**2:g}.",
            f"The scale is √{_NOISE**2:g} = {_NOISE:g}.",
            "root-twice",
        )
    centre = getattr(site.fn, "mean", None)
    if isinstance(centre, Tensor) and not torch.allclose(centre, torch.tensor(at), atol=1e-3):
        raise Mistake(
            f"with `length` held at {at:g}, the readings scatter around "
            f"{float(centre.detach().mean()):.2f}.",
            "Each reading is the length plus an error: centre its distribution on `length`.",
            "ignores-latent",
        )
    raise Mistake(
        f"with `length` held at {at:g}, the readings have the distribution `{_plain(site.fn)}`"
        f" and the log-probability {float(site.log_prob.detach().sum()):.2f}.",
        f"It should be `Normal(length, {_NOISE:g})` for each of them.",
        "wrong-likelihood",
    )


@exercise("guide", "readings")
def _guide(answer: Answer) -> str:
    """A guide for the ruler model: fitted, then compared with the exact posterior."""
    readings = torch.tensor([11.2, 10.4, 12.1, 11.6, 11.0, 11.9])
    precision = _PRIOR[1] ** -2 + len(readings) / _NOISE**2
    mean = (_PRIOR[0] / _PRIOR[1] ** 2 + float(readings.sum()) / _NOISE**2) / precision
    sd = precision**-0.5

    run, _ = answer.traced(readings, rng_seed=1)
    _guide_structure(sample_sites(run), len(readings))
    if isinstance(run.nodes["length"].fn, dist.Delta):
        raise Mistake(
            "the guide is a single point (`Delta`): it can find the likeliest length, not "
            "how sure to be of it.",
            "Use a `Normal` whose location and scale are both parameters.",
            "point",
        )
    fitted_mean, fitted_sd = _fit_guide(answer, readings)
    if abs(fitted_mean - mean) > 0.35 * sd:
        raise Mistake(
            f"after fitting, the guide's mean is {fitted_mean:.2f}; the posterior's is {mean:.2f}.",
            "Let the distribution of `length` use a parameter for its location, and nothing "
            "else move it.",
            "wrong-mean",
        )
    if not 0.75 < fitted_sd / sd < 1.33:
        raise Mistake(
            f"after fitting, the guide's standard deviation is {fitted_sd:.2f}; the "
            f"posterior's is {sd:.2f}.",
            "Let the scale of `length` be a parameter, constrained to be positive.",
            "wrong-scale",
        )
    _scale_is_found(answer, readings[:2])
    return (
        "fitted by SVI, the guide agrees with the exact posterior in mean and standard deviation."
    )


def _scale_is_found(answer: Answer, few: Tensor) -> None:
    """A scale that no parameter moves must still be right for fewer readings: no lucky number."""
    run, _ = answer.traced(few, rng_seed=2)
    scale = run.nodes["length"].fn.stddev
    right = (_PRIOR[1] ** -2 + len(few) / _NOISE**2) ** -0.5
    if not scale.requires_grad and not 0.75 < float(scale) / right < 1.33:
        raise Mistake(
            f"the guide's standard deviation is {float(scale):.2f} whatever the readings: right for "
            f"the six readings of this check, and for {len(few)} of them it should be "
            f"{right:.2f}.",
            "Let the scale of `length` be a parameter, constrained to be positive.",
            "fixed-scale",
        )


def _guide_structure(sites: dict, n: int) -> None:
    store = pplkit.get_param_store()
    if not sites and not len(store):
        raise Mistake(
            "`guide` has no `param` and no `sample` statement.",
            'It needs two parameters, and one `sample("length", ...)` that uses them.',
            "empty",
        )
    if "reading" in sites:
        raise Mistake(
            "the guide contains `reading`, which the model observes.",
            "A guide proposes values for what is unknown: `length` alone.",
            "observed-in-guide",
        )
    if "length" not in sites:
        has = f"has {listed(sites)}" if sites else "samples nothing"
        raise Mistake(
            f"the model's unknown is called `length`, and the guide {has}.",
            "A guide's site must have the same name as the model's: that is how SVI pairs them.",
            "guide-site-name",
        )
    site = sites["length"]
    if site.is_observed:
        raise Mistake(
            "`length` is observed in the guide.",
            "Leave `obs=` out: the guide proposes values.",
            "wrong-obs",
        )
    if site.plates or site.value.numel() != 1:
        raise Mistake(
            f"the guide draws {site.value.numel()} lengths, and the model has one.",
            "No plate is needed, and both parameters are single numbers.",
            "latent-in-plate",
        )
    extra = [name for name in sites if name != "length"]
    if extra:
        raise Mistake(
            f"the guide samples {listed(extra)}, unknown to the model.",
            "Leave it out.",
            "extra-site",
        )
    if not len(store):
        raise Mistake(
            "the guide has no parameter, so there is nothing to fit.",
            'Make its location and scale with `param("loc", torch.tensor(...))` and so on.',
            "no-param",
        )
    scale = getattr(site.fn, "scale", None)
    for name in store:
        loose = str(store.constraint(name)) == str(dist.constraints.real)
        if loose and isinstance(scale, Tensor) and scale.numel() == 1 and scale is store[name]:
            raise Mistake(
                f"the scale is the parameter `{name}`, which may become negative while it is "
                "fitted.",
                f'Write `param("{name}", ..., constraint=dist.constraints.positive)`.',
                "no-constraint",
            )


def _fit_guide(
    answer: Answer, readings: Tensor, steps: int = 600, last: int = 200
) -> tuple[float, float]:
    """Mean and standard deviation of the fitted guide, averaged over the last steps."""
    pplkit.clear_param_store()
    seed_everything(5)
    means, sds = [], []
    with answer.blamed():
        svi = SVI(_ruler_model, answer.function, Adam({"lr": 0.05}), loss=Trace_ELBO())
        for step in range(steps):
            svi.step(readings)
            if step >= steps - last and step % 10 == 0:
                fn = trace(answer.function).get_trace(readings).nodes["length"].fn
                means.append(float(fn.mean.detach()))
                sds.append(float(fn.stddev.detach()))
    return sum(means) / len(means), sum(sds) / len(sds)
