"""Exercises of chapter 3: what does a plate know that a loop does not?"""

from __future__ import annotations

import torch
from torch import Tensor

import pplkit.distributions as dist
from pplkit import errors

from ..judging import (
    Answer,
    Mistake,
    described,
    exercise,
    listed,
    one_vectorised_site,
    plate_size_mistake,
    quoted,
    same_scores,
    sample_sites,
)


def _expected(sites: dict, *names: str) -> None:
    """The run has these sites."""
    if not sites:
        raise Mistake(
            "no `sample` statement was run.",
            f"The run should have {listed(names)}.",
            "empty",
        )
    missing = [name for name in names if name not in sites]
    if missing:
        raise Mistake(
            f"there is no site called {listed(missing)}; the run has {listed(sites)}.",
            "Names are how others find a draw: letter for letter.",
            "site-name",
        )


def _sizes(site) -> list[int]:
    return sorted(frame.size for frame in site.plates)


# -- plates in plates ------------------------------------------------------------------------------


@exercise("school_scores", "scores")
def _school_scores(answer: Answer) -> str:
    """A level for each school, and a score for each pupil, observed."""
    for schools, pupils in ((3, 4), (5, 2)):
        generator = torch.Generator().manual_seed(schools)
        scores = 50 + 10 * torch.randn(schools, pupils, generator=generator)
        try:
            run, _ = answer.traced(scores, rng_seed=1)
        except Mistake as found:
            raise _crossed(found, schools, pupils) from None
        sites = sample_sites(run)
        _expected(sites, "level", "score")
        _level_where_it_belongs(sites["level"], schools, pupils)
        _score_where_it_belongs(sites["score"], schools, pupils, scores)
        at = torch.tensor([30.0, 50.0, 63.0])
        rows = sites["level"].value.shape
        if not same_scores(sites["level"].fn, dist.Normal(50.0, 10.0).expand(rows), at):
            raise Mistake(
                "a school's level is not normal with mean 50 and standard deviation 10.",
                "`dist.Normal(50.0, 10.0)`: the second number is the standard deviation.",
                "level-distribution",
            )
        level = torch.linspace(40.0, 60.0, schools).reshape(rows)
        run, _ = answer.traced(scores, rng_seed=2, hold={"level": level})
        right = dist.Normal(level, 5.0).log_prob(run.nodes["score"].value)
        if not torch.allclose(run.nodes["score"].log_prob, right, atol=1e-3):
            raise Mistake(
                "the pupils' scores do not scatter by 5 around the level of their own school.",
                "`dist.Normal(level, 5.0)`: a level of shape (schools, 1) fits every pupil.",
                "score-distribution",
            )
    return "one level for each school, one score for each pupil, each in its plates."


def _crossed(found: Mistake, schools: int, pupils: int) -> Mistake:
    if isinstance(found.error, (errors.ShapeError, errors.PlateError)):
        return Mistake(
            f"given {schools} schools of {pupils} pupils, the sizes do not fit.\n"
            f"{type(found.error).__name__}: {found.error}",
            "`scores` has schools as rows and pupils as columns: the plate of schools is on dim "
            "-2, the plate of pupils on dim -1.",
            "dims",
        )
    return found


def _level_where_it_belongs(level, schools: int, pupils: int) -> None:
    found = _sizes(level)
    if found == [schools]:
        return
    if not found and level.value.numel() == schools:
        raise Mistake(
            "the levels have the right number and stand in no plate.",
            "Schools are independent copies: put the statement in a plate.",
            "no-plate",
        )
    if not found:
        raise Mistake(
            "there is one level for all schools: it stands outside the plate.",
            "Move the statement into the plate of the schools.",
            "shared",
        )
    if found == sorted([schools, pupils]):
        raise Mistake(
            "every pupil has a level of their own: it stands in both plates.",
            "Draw it in the plate of the schools, before the plate of the pupils begins.",
            "not-shared",
        )
    raise Mistake(
        f"`level` stands in plates of size {found}, and there are {schools} schools.",
        "Take the sizes from `scores.shape`.",
        "plate-size",
    )


def _score_where_it_belongs(site, schools: int, pupils: int, scores: Tensor) -> None:
    turned = torch.equal(site.value, scores.T)  # as good, if the plates are turned too
    if not site.is_observed or not (turned or torch.equal(site.value, scores)):
        raise Mistake("`score` is not observed at `scores`.", "Give it `obs=scores`.", "no-obs")
    if getattr(site.fn, "event_dim", 0):
        raise Mistake(
            "`.to_event` makes several pupils one joint value.",
            "Pupils are independent, given their school's level: use a plate.",
            "to-event",
        )
    if _sizes(site) != sorted([schools, pupils]):
        raise Mistake(
            f"`score` stands in plates of size {_sizes(site)}; there are {schools} schools of "
            f"{pupils} pupils.",
            "It belongs in both plates, one inside the other.",
            "plates",
        )


# -- an event --------------------------------------------------------------------------------------


@exercise("darts", "n")
def _darts(answer: Answer) -> str:
    """n points in the plane, each one value of two coordinates."""
    for n in (4, 7):
        try:
            run, _ = answer.traced(n, rng_seed=1)
        except Mistake as found:
            raise plate_size_mistake(found, found.error, n, "dart") from None
        sites = sample_sites(run)
        _expected(sites, "dart")
        site = sites["dart"]
        shape = tuple(site.value.shape)
        if len(site.plates) == 2 and _sizes(site) == sorted([2, n]):
            raise Mistake(
                "the two coordinates are rows of a plate: each has a log-probability of its own.",
                "A dart is one value: make its coordinates the event, with `.to_event(1)`.",
                "coordinates-in-a-plate",
            )
        if shape == (2, n):
            raise Mistake(
                f"the value has shape {shape}: two rows of {n}.",
                "The event is the last dimension; the plate's is to its left.",
                "turned",
            )
        if shape != (n, 2):
            raise Mistake(
                f"for {n} darts the value has shape {shape}, and it should be ({n}, 2).",
                "A plate of `n`, and in it a distribution of two coordinates.",
                "shape",
            )
        if site.fn.event_dim == 2:
            raise Mistake(
                "all darts together are one value, with one log-probability.",
                "Only the coordinates go into the event; the darts belong in a plate.",
                "all-in-the-event",
            )
        if site.fn.event_dim != 1 or _sizes(site) != [n]:
            raise Mistake(
                f"the log-probability has shape {tuple(site.log_prob.shape)}.",
                f"Put the statement in a plate of size {n}, with an event of one dimension.",
                "no-plate",
            )
        right = dist.Normal(0.0, 3.0).log_prob(site.value).sum(-1)
        if not torch.allclose(site.log_prob, right, atol=1e-4):
            raise Mistake(
                "the coordinates are not normal with mean 0 and standard deviation 3.",
                "`dist.Normal(torch.zeros(2), 3.0)`.",
                "distribution",
            )
    return "every dart is one value of two coordinates, and the darts are a plate."


# -- row by row ------------------------------------------------------------------------------------


@exercise("commutes", "n")
def _commutes(answer: Answer) -> str:
    """Rain on each of n days, and the minutes of each, which depend on that day's rain."""
    for n in (6, 9):
        run, returned = _commutes_run(answer, n)
        sites = sample_sites(run)
        _expected(sites, "rain", "minutes")
        for name in ("rain", "minutes"):
            one_vectorised_site({name: sites[name]}, name, n, "day")
        if not same_scores(
            sites["rain"].fn, dist.Bernoulli(torch.full((n,), 0.3)), torch.tensor([0.0, 1.0])
        ):
            raise Mistake("rain does not have probability 0.3.", "", "rain")
        rain = (torch.arange(n) % 3 == 0).to(sites["rain"].value.dtype)
        run, returned = answer.traced(n, rng_seed=2, hold={"rain": rain})
        fn = run.nodes["minutes"].fn
        means = fn.mean.expand(n)
        if means.unique().numel() == 1:
            raise Mistake(
                f"on dry and on wet days alike the mean is {means[0]:.1f} minutes.",
                "Choose row by row: `torch.where(rain == 1, 30.0, 20.0)`.",
                "same-for-all",
            )
        if torch.allclose(means, torch.where(rain == 1, 20.0, 30.0)):
            raise Mistake("dry days take longer than wet ones.", "Exchange the two.", "swapped")
        right = dist.Normal(torch.where(rain == 1, 30.0, 20.0), 2.0)
        if not same_scores(fn, right, torch.tensor([19.0, 25.0, 31.0])):
            raise Mistake(
                "the minutes are not normal around 30 in rain and 20 otherwise, with standard "
                "deviation 2.",
                "",
                "minutes",
            )
        if not isinstance(returned, Tensor) or not torch.equal(
            returned, run.nodes["minutes"].value
        ):
            raise Mistake(
                f"`commutes` draws correctly and returns {described(returned)}.",
                "Return the minutes.",
                "wrong-return",
            )
    return "each day has its own weather, and its minutes follow from it."


def _commutes_run(answer: Answer, n: int):
    try:
        return answer.traced(n, rng_seed=1)
    except Mistake as found:
        if found.error is not None and "ambiguous" in quoted(found.error):
            raise Mistake(
                "`if` wants one answer, and there is one for each day.\n"
                f"{type(found.error).__name__}: {found.error}",
                "Choose row by row: `torch.where(rain == 1, 30.0, 20.0)`.",
                "if-on-a-batch",
            ) from None
        raise plate_size_mistake(found, found.error, n, "day") from None


# -- a part for the whole --------------------------------------------------------------------------


@exercise("minibatch", "data", "size")
def _minibatch(answer: Answer) -> str:
    """z ~ Normal(0, 10); x ~ Normal(z, 1) for `size` random rows of the data, weighed."""
    n, size = 600, 40
    data = torch.linspace(-2.0, 5.0, n)
    seen = []
    for k in (1, 2):
        try:
            run, _ = answer.traced(data, size, rng_seed=k)
        except Mistake as found:
            if isinstance(found.error, (errors.ShapeError, errors.PlateError)):
                raise Mistake(
                    "the plate looks at some rows, and the observed value has another number.\n"
                    f"{type(found.error).__name__}: {found.error}",
                    "`with plate(...) as index:` hands out the rows; observe `data[index]`.",
                    "not-indexed",
                ) from None
            raise
        sites = sample_sites(run)
        _expected(sites, "z", "x")
        seen.append(_minibatch_site(sites["x"], data, size))
        z = sites["z"].value
        right = dist.Normal(z, 1.0).log_prob(sites["x"].value)
        if not torch.allclose(sites["x"].unscaled_log_prob, right, atol=1e-4):
            raise Mistake("`x` is not normal around z with standard deviation 1.", "", "likelihood")
        if sites["z"].plates:
            raise Mistake(
                "`z` stands in the plate: there is one for each row.",
                "It is shared by all rows: draw it before the plate.",
                "z-in-the-plate",
            )
        if not torch.allclose(sites["z"].log_prob, dist.Normal(0.0, 10.0).log_prob(z)):
            raise Mistake("`z` is not normal with mean 0 and standard deviation 10.", "", "prior")
    if torch.equal(*seen):
        raise Mistake(
            "two runs looked at the same rows.",
            "Let the plate choose: `plate(..., subsample_size=size)`.",
            "same-rows",
        )
    return "random rows, each weighed so that together they stand for all the data."


def _minibatch_site(site, data: Tensor, size: int) -> Tensor:
    """The rows it looked at."""
    n, count, scale = len(data), site.value.numel(), float(site.scale)
    if not site.is_observed:
        raise Mistake("`x` is not observed.", "Give it `obs=data[index]`.", "no-obs")
    if count == n:
        raise Mistake(
            f"all {n} rows were looked at.",
            "`plate(..., subsample_size=size)` looks at some of them.",
            "all-rows",
        )
    if count != size:
        raise Mistake(f"{count} rows were looked at, and {size} were asked for.", "", "size")
    if not torch.isin(site.value, data).all():
        raise Mistake("the values are not rows of the data.", "Observe `data[index]`.", "rows")
    if abs(scale - 1.0) < 1e-9:
        raise Mistake(
            f"you summed the log-probabilities of {size} rows without the plate's scale: the model "
            "believes that there are no others.",
            "Give the plate the full size and `subsample_size=size`: it weighs each row by "
            f"{n}/{size}.",
            "no-scale",
        )
    if abs(scale - n / size) > 1e-6:
        raise Mistake(
            f"each row has weight {scale:g}, and {size} rows of {n} should weigh {n / size:g}.",
            "",
            "scale",
        )
    return site.value.sort().values
