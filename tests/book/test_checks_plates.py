"""The exercises of the chapter on plates: right answers of several kinds, and the usual mistakes."""

import pytest
import torch
from pplwidgets.checks import check

import pplkit.distributions as dist
from pplkit import plate, sample
from pplkit.handlers import scale

# -- school_scores ---------------------------------------------------------------------------------


def school_scores(scores, prior=(50.0, 10.0), spread=5.0, obs=True):
    schools, pupils = scores.shape
    with plate("schools", schools, dim=-2):
        level = sample("level", dist.Normal(*prior))
        with plate("pupils", pupils, dim=-1):
            sample("score", dist.Normal(level, spread), obs=scores if obs else None)


def plates_made_beforehand(scores):
    schools = plate("s", scores.shape[0], dim=-2)
    pupils = plate("p", scores.shape[1], dim=-1)
    with schools:
        level = sample("level", dist.Normal(torch.tensor(50.0), 10.0))
    with schools, pupils:
        sample("score", dist.Normal(level, 5.0), obs=scores)


def one_level(scores):
    level = sample("level", dist.Normal(50.0, 10.0))
    with plate("schools", scores.shape[0], dim=-2), plate("pupils", scores.shape[1], dim=-1):
        sample("score", dist.Normal(level, 5.0), obs=scores)


def level_of_each_pupil(scores):
    with plate("schools", scores.shape[0], dim=-2), plate("pupils", scores.shape[1], dim=-1):
        level = sample("level", dist.Normal(50.0, 10.0))
        sample("score", dist.Normal(level, 5.0), obs=scores)


def dims_exchanged(scores):
    with plate("schools", scores.shape[0], dim=-1):
        level = sample("level", dist.Normal(50.0, 10.0))
        with plate("pupils", scores.shape[1], dim=-2):
            sample("score", dist.Normal(level, 5.0), obs=scores)


def pupils_as_event(scores):
    with plate("schools", scores.shape[0], dim=-1):
        level = sample("level", dist.Normal(50.0, 10.0))
        fn = dist.Normal(level.unsqueeze(-1), 5.0).expand(scores.shape).to_event(1)
        sample("score", fn, obs=scores)


# -- darts -----------------------------------------------------------------------------------------


def darts(n, sd=3.0):
    with plate("darts", n):
        return sample("dart", dist.Normal(torch.zeros(2), sd).to_event(1))


def darts_of_a_joint_normal(n):
    with plate("darts", n):
        return sample("dart", dist.MultivariateNormal(torch.zeros(2), 9.0 * torch.eye(2)))


def coordinates_in_a_plate(n):
    with plate("darts", n, dim=-2), plate("coordinates", 2, dim=-1):
        return sample("dart", dist.Normal(0.0, 3.0))


def turned(n):
    with plate("coordinates", 2):
        return sample("dart", dist.Normal(torch.zeros(n), 3.0).to_event(1))


# -- commutes --------------------------------------------------------------------------------------


def commutes(n, p=0.3, wet=30.0, dry=20.0, sd=2.0):
    with plate("days", n):
        rain = sample("rain", dist.Bernoulli(p))
        return sample("minutes", dist.Normal(torch.where(rain == 1, wet, dry), sd))


def commutes_by_arithmetic(n):
    with plate("days", n):
        rain = sample("rain", dist.Bernoulli(0.3))
        return sample("minutes", dist.Normal(20.0 + 10.0 * rain, 2.0))


def commutes_by_an_index(n):
    with plate("days", n):
        rain = sample("rain", dist.Categorical(torch.tensor([0.7, 0.3])))
        return sample("minutes", dist.Normal(torch.tensor([20.0, 30.0])[rain], 2.0))


def schools_as_columns(scores):
    schools, pupils = scores.shape
    with plate("schools", schools):
        level = sample("level", dist.Normal(50.0, 10.0))
        with plate("pupils", pupils):
            sample("score", dist.Normal(level, 5.0), obs=scores.T)


def commutes_with_an_if(n):
    with plate("days", n):
        rain = sample("rain", dist.Bernoulli(0.3))
        return sample("minutes", dist.Normal(30.0 if rain else 20.0, 2.0))


def one_weather(n):
    rain = sample("rain", dist.Bernoulli(0.3))
    with plate("days", n):
        return sample("minutes", dist.Normal(20.0 + 10.0 * rain, 2.0))


# -- minibatch -------------------------------------------------------------------------------------


def minibatch(data, size):
    z = sample("z", dist.Normal(0.0, 10.0))
    with plate("data", len(data), subsample_size=size) as index:
        sample("x", dist.Normal(z, 1.0), obs=data[index])


def minibatch_by_subsample(data, size):
    z = sample("z", dist.Normal(0.0, 10.0))
    with plate("rows", data.shape[0], subsample=torch.randperm(len(data))[:size]) as rows:
        sample("x", dist.Normal(z, 1.0), obs=data[rows])


def minibatch_unweighed(data, size):
    z = sample("z", dist.Normal(0.0, 10.0))
    with plate("data", size):
        sample("x", dist.Normal(z, 1.0), obs=data[torch.randperm(len(data))[:size]])


def minibatch_of_the_first(data, size):
    z = sample("z", dist.Normal(0.0, 10.0))
    with scale(scale=len(data) / size), plate("data", size):
        sample("x", dist.Normal(z, 1.0), obs=data[:size])


def minibatch_not_indexed(data, size):
    z = sample("z", dist.Normal(0.0, 10.0))
    with plate("data", len(data), subsample_size=size):
        sample("x", dist.Normal(z, 1.0), obs=data)


def no_minibatch(data, size):
    minibatch(data, len(data))


def z_in_the_plate(data, size):
    with plate("data", len(data), subsample_size=size) as index:
        z = sample("z", dist.Normal(0.0, 10.0))
        sample("x", dist.Normal(z, 1.0), obs=data[index])


RIGHT = [
    ("school_scores", school_scores),
    ("school_scores", plates_made_beforehand),
    ("school_scores", schools_as_columns),
    ("darts", darts),
    ("darts", darts_of_a_joint_normal),
    ("commutes", commutes),
    ("commutes", commutes_by_arithmetic),
    ("commutes", commutes_by_an_index),
    ("minibatch", minibatch),
    ("minibatch", minibatch_by_subsample),
]
WRONG = [
    ("school_scores", "shared", one_level, "one level for all schools"),
    ("school_scores", "not-shared", level_of_each_pupil, "every pupil"),
    ("school_scores", "dims", dims_exchanged, "dim -2"),
    ("school_scores", "to-event", pupils_as_event, "one joint value"),
    ("school_scores", "no-obs", lambda s: school_scores(s, obs=False), "obs=scores"),
    ("school_scores", "level-distribution", lambda s: school_scores(s, (50.0, 100.0)), "10"),
    ("school_scores", "score-distribution", lambda s: school_scores(s, spread=25.0), "own school"),
    ("school_scores", "empty", lambda s: None, "`level`"),
    ("darts", "coordinates-in-a-plate", coordinates_in_a_plate, "to_event(1)"),
    ("darts", "turned", turned, "two rows of 4"),
    ("darts", "shape", lambda n: sample("dart", dist.Normal(torch.zeros(2), 3.0)), "(4, 2)"),
    (
        "darts",
        "all-in-the-event",
        lambda n: sample("dart", dist.Normal(torch.zeros(n, 2), 3.0).to_event(2)),
        "one value",
    ),
    (
        "darts",
        "no-plate",
        lambda n: sample("dart", dist.Normal(torch.zeros(n, 2), 3.0).to_event(1)),
        "in a plate",
    ),
    ("darts", "distribution", lambda n: darts(n, 9.0), "deviation 3"),
    ("darts", "empty", lambda n: None, "`dart`"),
    ("commutes", "if-on-a-batch", commutes_with_an_if, "torch.where"),
    ("commutes", "no-plate", one_weather, "one draw"),
    ("commutes", "swapped", lambda n: commutes(n, wet=20.0, dry=30.0), "longer"),
    ("commutes", "same-for-all", lambda n: commutes(n, wet=23.0, dry=23.0), "23.0"),
    ("commutes", "rain", lambda n: commutes(n, p=0.7), "0.3"),
    ("commutes", "minutes", lambda n: commutes(n, sd=4.0), "deviation 2"),
    ("commutes", "wrong-return", lambda n: [commutes(n), None][1], "Return the minutes"),
    ("minibatch", "no-scale", minibatch_unweighed, "without the plate's scale"),
    ("minibatch", "same-rows", minibatch_of_the_first, "the same rows"),
    ("minibatch", "not-indexed", minibatch_not_indexed, "data[index]"),
    ("minibatch", "all-rows", no_minibatch, "subsample_size"),
    ("minibatch", "z-in-the-plate", z_in_the_plate, "shared by all rows"),
    ("minibatch", "empty", lambda data, size: None, "`z`"),
]


@pytest.mark.parametrize("exercise, answer", RIGHT)
def test_right_answers_about_plates_pass(exercise, answer):
    verdict = check(exercise, answer)
    assert verdict, verdict


@pytest.mark.parametrize("exercise, mistake, answer, phrase", WRONG)
def test_wrong_answers_about_plates_are_told_what_is_wrong(exercise, mistake, answer, phrase):
    verdict = check(exercise, answer)
    assert verdict.mistake == mistake, verdict
    assert phrase in repr(verdict)
