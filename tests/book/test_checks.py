"""The exercise checks: right, wrong, empty, hostile and unusual answers, and what each is told."""

import asyncio
import contextlib
import inspect
import random
import signal
import threading

import pytest
import torch
from pplwidgets.checks import check, exercises
from pplwidgets.judging import JUDGES

import pplkit
import pplkit.distributions as dist
from pplkit import param, plate, sample
from pplkit.effects import active_handlers
from pplkit.handlers import seed, trace

# -- answers to "tail": P(X > 3), X normal with mean 1 and variance 4 ------------------------------


def tail(n, scale=2.0):
    with plate("draws", n):
        x = sample("x", dist.Normal(1.0, scale))
    return (x > 3).float().mean()


def tail_by_torch(n):
    return (1 + 2 * torch.randn(n) > 3).double().mean().item()


def tail_by_python(n):
    return sum(random.gauss(1, 2) > 3 for _ in range(n)) / n


def tail_antithetic(n):
    noise = torch.randn(n // 2)
    return (torch.cat([1 + 2 * noise, 1 - 2 * noise]) > 3).float().mean()


def tail_exact(n):
    return 1 - dist.Normal(1.0, 2.0).cdf(torch.tensor(3.0))


def tail_fixed_seed(n):
    pplkit.set_rng_seed(1)
    return tail(n)


def tail_seed_handler(n):
    with seed(rng_seed=1):
        return tail(n)


def tail_torch_seed(n):
    torch.manual_seed(3)
    return tail(n)


TAIL_RIGHT = [tail, tail_by_torch, tail_by_python, tail_antithetic, tail_exact]
TAIL_WRONG = [
    ("variance-for-scale", lambda n: tail(n, 4.0), "standard deviation"),
    ("root-twice", lambda n: tail(n, 2**0.5), "√4"),
    ("constant", tail_fixed_seed, "fix no seed"),
    ("constant", tail_seed_handler, "fix no seed"),
    ("constant", tail_torch_seed, "fix no seed"),
    ("constant", lambda n: 0.16, "fresh draws"),
    ("wrong-tail", lambda n: 1 - tail(n), "below 3"),
    ("log", lambda n: tail(n).log(), "logarithm"),
    ("count", lambda n: tail(n) * n, "Divide the count"),
    ("not-averaged", lambda n: torch.randn(n) > 3, "Average"),
    ("not-averaged", lambda n: "0.16", "a str"),
    ("n-unused", lambda n: tail(50), "of 4000 draws"),
    ("n-unused", lambda n: tail(10), "of 4000 draws"),
    ("wrong-value", lambda n: tail(n) + 0.02, "standard errors"),
    ("not-finite", lambda n: float("nan"), "from 0 to 1"),
    ("empty", lambda n: None, "returned nothing"),
    ("empty", lambda n: ..., "returned nothing"),
]

# -- answers to "rain" -----------------------------------------------------------------------------


def rain(probs, distribution=dist.Bernoulli, name="rain", size=None):
    with plate("towns", size or len(probs)):
        return sample(name, distribution(probs))


def rain_with_a_dim(probs):
    with plate("any name", size=probs.shape[0], dim=-1):
        wet = sample("rain", dist.Bernoulli(logits=torch.logit(probs)))
    return wet


def rain_by_categories(probs):
    return rain(probs, lambda p: dist.Categorical(torch.stack([1 - p, p], dim=-1)))


def rain_no_plate(probs):
    return sample("rain", dist.Bernoulli(probs))


def rain_one_draw(probs):
    return sample("rain", dist.Bernoulli(probs[0]))


def rain_loop(probs):
    return torch.stack([sample(f"rain_{i}", dist.Bernoulli(p)) for i, p in enumerate(probs)])


def rain_loop_one_name(probs):
    return torch.stack([sample("rain", dist.Bernoulli(p)) for p in probs])


def rain_plate_as_loop(probs):
    draws = [sample(f"r{i}", dist.Bernoulli(probs[i])) for i in plate("towns", len(probs))]
    return torch.stack(draws)


def rain_to_event(probs):
    return sample("rain", dist.Bernoulli(probs).to_event(1))


def rain_two_plates(probs):
    with plate("a", 2, dim=-2):
        return rain(probs)


def rain_no_return(probs):
    rain(probs)


def rain_observed(probs):
    with plate("towns", len(probs)):
        return sample("rain", dist.Bernoulli(probs), obs=torch.ones(len(probs)))


RAIN_RIGHT = [rain, rain_with_a_dim, rain_by_categories]
RAIN_WRONG = [
    ("no-plate", rain_no_plate, "independent copies"),
    ("no-plate", rain_one_draw, "one draw"),
    ("plate-size", lambda probs: rain(probs, size=3), "given 5 towns"),
    ("plate-size", lambda probs: rain(probs, size=4), "len(...)"),
    ("plate-size", lambda probs: rain(probs, lambda p: dist.Bernoulli(0.5), size=2), "size 2"),
    ("loop", rain_loop, "a loop ran 3 statements"),
    ("loop", rain_loop_one_name, "Multiple sample sites named 'rain'"),
    ("loop", rain_plate_as_loop, "a loop ran 3 statements"),
    ("to-event", rain_to_event, ".to_event"),
    ("nested-plates", rain_two_plates, "2 plates"),
    ("site-name", lambda probs: rain(probs, name="regen"), "`regen`"),
    ("logits", lambda probs: rain(probs, lambda p: dist.Bernoulli(logits=p)), "logits"),
    ("swapped", lambda probs: rain(1 - probs), "exchanged"),
    (
        "first-only",
        lambda probs: rain(probs, lambda p: dist.Bernoulli(p[0])),
        "first town's probability",
    ),
    ("wrong-distribution", lambda probs: rain(probs, lambda p: dist.Bernoulli(0.5)), "0.10"),
    ("wrong-distribution", lambda probs: rain(probs, lambda p: dist.Normal(p, 1.0)), "`Normal`"),
    ("no-return", rain_no_return, "returns nothing"),
    ("wrong-return", lambda probs: rain(probs).tolist(), "a list"),
    ("wrong-return", lambda probs: [rain(probs), torch.zeros(len(probs))][1], "a Tensor"),
    ("observed", rain_observed, "Leave `obs=` out"),
    ("no-sample", lambda probs: torch.bernoulli(probs), "no `sample` statement"),
    ("empty", lambda probs: None, "no `sample` statement"),
]

# -- answers to "ruler" ----------------------------------------------------------------------------


def ruler(readings, prior=2.0, noise=0.5, name="reading", data=None, size=None):
    length = sample("length", dist.Normal(10.0, prior))
    with plate("readings", size or len(readings)):
        sample(name, dist.Normal(length, noise), obs=readings if data is None else data)


def ruler_other_words(readings):
    length = sample("length", dist.Normal(torch.tensor(10.0), torch.tensor(4.0).sqrt()))
    with plate("measurements", size=readings.numel(), dim=-1):
        error = dist.Normal(0.0, 0.25**0.5)
        moved = dist.Normal(length + error.mean, error.stddev)
        return sample("reading", moved.expand([len(readings)]), obs=readings)


def ruler_no_obs(readings):
    length = sample("length", dist.Normal(10.0, 2.0))
    with plate("readings", len(readings)):
        return sample("reading", dist.Normal(length, 0.5))


def ruler_returns_data(readings):
    ruler_no_obs(readings)
    return readings


def ruler_only_returns_data(readings):
    sample("length", dist.Normal(10.0, 2.0))
    return readings


def ruler_no_reading(readings):
    sample("length", dist.Normal(10.0, 2.0))


def ruler_no_plate(readings):
    length = sample("length", dist.Normal(10.0, 2.0))
    sample("reading", dist.Normal(length, 0.5), obs=readings)


def ruler_latent_in_plate(readings):
    with plate("readings", len(readings)):
        length = sample("length", dist.Normal(10.0, 2.0))
        sample("reading", dist.Normal(length, 0.5), obs=readings)


def ruler_loop(readings):
    length = sample("length", dist.Normal(10.0, 2.0))
    for i, value in enumerate(readings):
        sample(f"reading_{i}", dist.Normal(length, 0.5), obs=value)


def ruler_loop_one_name(readings):
    length = sample("length", dist.Normal(10.0, 2.0))
    for value in readings:
        sample("reading", dist.Normal(length, 0.5), obs=value)


def ruler_plate_loop(readings):
    length = sample("length", dist.Normal(10.0, 2.0))
    for i in plate("readings", len(readings)):
        sample(f"reading_{i}", dist.Normal(length, 0.5), obs=readings[i])


def ruler_ignores_length(readings):
    sample("length", dist.Normal(10.0, 2.0))
    with plate("readings", len(readings)):
        sample("reading", dist.Normal(10.0, 0.5), obs=readings)


def ruler_observes_length(readings):
    sample("length", dist.Normal(10.0, 2.0), obs=readings.mean())


def ruler_wrong_name(readings):
    sample("lenght", dist.Normal(10.0, 2.0))


RULER_RIGHT = [ruler, ruler_other_words]
RULER_WRONG = [
    ("no-obs", ruler_no_obs, "never sees the data"),
    ("returned-data", ruler_returns_data, "Returning the data"),
    ("returned-data", ruler_only_returns_data, "does not condition"),
    ("no-likelihood", ruler_no_reading, "no statement"),
    ("no-plate", ruler_no_plate, "in no plate"),
    ("latent-in-plate", ruler_latent_in_plate, "a separate length for every reading"),
    ("loop", ruler_loop, "a loop ran 4 statements"),
    ("loop", ruler_loop_one_name, "Multiple sample sites named 'reading'"),
    ("loop", ruler_plate_loop, "a loop ran 4 statements"),
    ("plate-size", lambda r: ruler(r, size=4), "given 6 readings"),
    ("plate-size", lambda r: ruler(r, size=10), "given 4 readings"),
    ("variance-for-scale", lambda r: ruler(r, prior=4.0), "`length` has scale 4"),
    ("variance-for-scale", lambda r: ruler(r, noise=0.25), "the noise has scale 0.25"),
    ("root-twice", lambda r: ruler(r, noise=0.5**0.5), "0.707"),
    ("wrong-prior", lambda r: ruler(r, prior=3.0), "`Normal(10, 3)`"),
    ("wrong-likelihood", lambda r: ruler(r, noise=0.6), "Normal(length, 0.5)"),
    ("ignores-latent", ruler_ignores_length, "centre its distribution on `length`"),
    ("wrong-obs", ruler_observes_length, "it is the unknown"),
    ("wrong-obs", lambda r: ruler(r, data=r + 1), "not at the readings"),
    ("site-name", lambda r: ruler(r, name="readin"), "`readin`"),
    ("site-name", ruler_wrong_name, "`lenght`"),
    ("empty", lambda r: None, "no `sample` statement"),
]

# -- answers to "guide" ----------------------------------------------------------------------------

positive = dist.constraints.positive


def guide(readings, name="length"):
    loc = param("loc", torch.tensor(10.0))
    scale = param("scale", torch.tensor(1.0), constraint=positive)
    return sample(name, dist.Normal(loc, scale))


def guide_by_log_scale(readings):
    loc, log_scale = param("m", torch.tensor(9.0)), param("s", torch.tensor(0.0))
    sample("length", dist.Normal(loc, log_scale.exp()))


def guide_from_data(readings):
    shift = param("shift", torch.tensor(0.0))
    scale = param("scale", lambda: torch.tensor(0.5), constraint=positive)
    sample("length", dist.Normal(readings.mean() + shift, scale))


def guide_unconstrained(readings):
    scale = param("scale", torch.tensor(1.0))
    sample("length", dist.Normal(param("loc", torch.tensor(10.0)), scale))


def guide_no_param(readings):
    sample("length", dist.Normal(11.0, 0.2))


def guide_fixed_mean(readings):
    scale = param("scale", torch.tensor(1.0), constraint=positive)
    sample("length", dist.Normal(10.0, scale))


def guide_fixed_scale(readings, scale=1.0):
    sample("length", dist.Normal(param("loc", torch.tensor(10.0)), scale))


def guide_with_reading(readings):
    length = guide(readings)
    with plate("readings", len(readings)):
        sample("reading", dist.Normal(length, 0.5), obs=readings)


def guide_in_plate(readings):
    with plate("readings", len(readings)):
        guide(readings)


def guide_point(readings):
    sample("length", dist.Delta(param("loc", torch.tensor(10.0))))


def guide_extra(readings):
    guide(readings)
    sample("noise", dist.Normal(0.0, 1.0))


def guide_observed(readings):
    loc = param("loc", torch.tensor(10.0))
    sample("length", dist.Normal(loc, 1.0), obs=torch.tensor(10.0))


def guide_no_sample(readings):
    param("loc", torch.tensor(10.0))


GUIDE_RIGHT = [guide, guide_by_log_scale, guide_from_data]
GUIDE_WRONG = [
    ("guide-site-name", lambda r: guide(r, name="z"), "`length`, and the guide has `z`"),
    ("guide-site-name", guide_no_sample, "samples nothing"),
    ("no-constraint", guide_unconstrained, "constraint=dist.constraints.positive"),
    ("no-param", guide_no_param, "nothing to fit"),
    ("wrong-mean", guide_fixed_mean, "mean"),
    ("wrong-scale", guide_fixed_scale, "standard deviation"),
    ("fixed-scale", lambda r: guide_fixed_scale(r, 0.2), "whatever the readings"),
    ("observed-in-guide", guide_with_reading, "which the model observes"),
    ("latent-in-plate", guide_in_plate, "draws 6 lengths"),
    ("point", guide_point, "single point"),
    ("extra-site", guide_extra, "`noise`"),
    ("wrong-obs", guide_observed, "proposes values"),
    ("empty", lambda r: None, "no `param` and no `sample`"),
]

RIGHT = [
    pytest.param(exercise, answer, id=f"{exercise}-{answer.__name__}")
    for exercise, answers in [
        ("tail", TAIL_RIGHT),
        ("rain", RAIN_RIGHT),
        ("ruler", RULER_RIGHT),
        ("guide", GUIDE_RIGHT),
    ]
    for answer in answers
]
WRONG = [
    pytest.param(exercise, *case, id=f"{exercise}-{number}-{case[0]}")
    for exercise, cases in [
        ("tail", TAIL_WRONG),
        ("rain", RAIN_WRONG),
        ("ruler", RULER_WRONG),
        ("guide", GUIDE_WRONG),
    ]
    for number, case in enumerate(cases)
]


@pytest.mark.parametrize("exercise, answer", RIGHT)
def test_right_answers_pass(exercise, answer):
    verdict = check(exercise, answer)
    assert verdict, verdict
    assert repr(verdict).startswith("passed: ")
    assert verdict.remedy == verdict.mistake == ""


@pytest.mark.parametrize("exercise, mistake, answer, phrase", WRONG)
def test_wrong_answers_are_told_what_is_wrong(exercise, mistake, answer, phrase):
    verdict = check(exercise, answer)
    assert not verdict
    assert verdict.mistake == mistake, verdict
    assert phrase in repr(verdict)
    assert repr(verdict).startswith("not yet: ")


def test_a_right_estimate_passes_whatever_the_readers_seed():
    for rng_seed in range(5):
        pplkit.set_rng_seed(rng_seed)
        assert check("tail", tail)


# -- hostile answers -------------------------------------------------------------------------------


def loops(*arguments):
    while True:
        pass


def loops_and_refuses_to_stop(*arguments):
    for _ in range(3):
        with contextlib.suppress(BaseException):
            loops()


def raises_an_exception_that_cannot_be_printed(*arguments):
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError("no")

    raise Odd


def calls_itself(*arguments):
    return calls_itself(*arguments)


def exits(*arguments):
    raise SystemExit(3)


def interrupts(*arguments):
    raise KeyboardInterrupt


class Contrary:
    """Answers every question with an error."""

    def __getattr__(self, name):
        raise ValueError(name)

    __float__ = __bool__ = __eq__ = lambda *args: 1 / 0


@pytest.mark.parametrize("exercise", exercises())
@pytest.mark.parametrize("answer", [loops, loops_and_refuses_to_stop])
def test_an_endless_loop_is_stopped(exercise, answer):
    verdict = check(exercise, answer, seconds=0.3)
    assert verdict.mistake == "time"
    assert "still running after 0.3 seconds" in repr(verdict)
    assert not [t for t in threading.enumerate() if t.name == "pplwidgets check"]


def test_the_time_limit_holds_away_from_the_main_thread():
    verdicts = []
    thread = threading.Thread(target=lambda: verdicts.append(check("tail", loops, seconds=0.3)))
    thread.start()
    thread.join()
    assert verdicts[0].mistake == "time"


def test_the_time_limit_holds_inside_a_running_event_loop():
    async def main():
        return check("tail", loops, seconds=0.3), check("rain", rain)

    late, right = asyncio.run(main())
    assert late.mistake == "time"
    assert right


@pytest.mark.parametrize("exercise", exercises())
@pytest.mark.parametrize(
    "answer",
    [raises_an_exception_that_cannot_be_printed, calls_itself, exits, interrupts],
)
def test_whatever_is_raised_becomes_a_verdict(exercise, answer):
    verdict = check(exercise, answer)
    assert verdict.mistake == "raised"
    assert f"`{exercise}` stopped with an error" in verdict.message


def test_an_error_is_quoted_with_its_line():
    def answer(n):
        return n / 0

    line = answer.__code__.co_firstlineno + 1
    assert f"on line {line}.\nZeroDivisionError" in check("tail", answer).message


@pytest.mark.parametrize("exercise", exercises())
@pytest.mark.parametrize(
    "returned",
    [Contrary(), [], {}, object(), torch.zeros(0), "yes", True],
    ids=["contrary", "list", "dict", "object", "no numbers", "string", "bool"],
)
def test_odd_results_become_a_verdict(exercise, returned):
    assert not check(exercise, lambda *arguments: returned)


@pytest.mark.parametrize("exercise", exercises())
@pytest.mark.parametrize(
    "answer, mistake",
    [
        (None, "empty"),
        (..., "empty"),
        (3, "not-a-function"),
        ("rain", "not-a-function"),
        (torch.zeros(3), "not-a-function"),
        (int, "not-a-function"),
        (Contrary(), "not-a-function"),
        (lambda: 0, "signature"),
        (lambda a, b, c, d: 0, "signature"),
    ],
    ids=["none", "dots", "int", "str", "tensor", "class", "contrary", "no argument", "four"],
)
def test_what_is_no_answer_at_all(exercise, answer, mistake):
    verdict = check(exercise, answer)
    arguments, _ = JUDGES[exercise]
    callable_so = callable(answer) and not isinstance(answer, type)
    if callable_so and len(inspect.signature(answer).parameters) == len(arguments):
        assert not verdict  # nothing to say of the first line: the judge itself refuses
    else:
        assert verdict.mistake == mistake


def test_an_unknown_exercise_is_an_error_with_a_suggestion():
    with pytest.raises(ValueError, match="did you mean 'rain'"):
        check("rian", rain)


def test_a_check_is_not_fooled_by_what_the_answer_overwrites():
    def answer(probs):
        dist.Bernoulli.log_prob, kept = (
            lambda self, value: torch.zeros(len(probs)),
            dist.Bernoulli.log_prob,
        )
        try:
            return rain(probs * 0 + 0.5)
        finally:
            dist.Bernoulli.log_prob = kept

    assert not check("rain", answer)


# -- the reader's state ----------------------------------------------------------------------------


def meddles(*arguments):
    """Changes everything that it can reach, then answers rightly."""
    pplkit.clear_param_store()
    pplkit.set_rng_seed(99)
    torch.manual_seed(99)
    random.seed(99)
    torch.set_default_dtype(torch.float64)
    torch.distributions.Distribution.set_default_validate_args(False)
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(False)
    seed(rng_seed=1).__enter__()  # and never leaves
    plate("left open", 2, dim=-3).__enter__()
    param("leak", torch.tensor(1.0))
    torch.set_default_dtype(torch.float64)


@pytest.mark.parametrize("exercise", exercises())
@pytest.mark.parametrize("answer", [meddles, loops, exits, guide])
def test_the_readers_state_is_left_alone(exercise, answer):
    pplkit.clear_param_store()
    param("mine", torch.tensor(3.0))
    torch.manual_seed(5)
    random.seed(5)
    before = torch.get_rng_state(), random.getstate()
    validation = torch.distributions.Distribution._validate_args
    with trace() as recorder, plate("mine too", 2):
        check(exercise, answer, seconds=0.3 if answer is loops else 30)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert random.getstate() == before[1]
        assert sample("x", dist.Normal(0.0, 1.0)).shape == (2,)
    assert [site.name for site in recorder.trace.sites("sample", "param")] == ["x"]
    assert [(name, value.item()) for name, value in pplkit.get_param_store().items()] == [
        ("mine", 3.0)
    ]
    assert torch.get_default_dtype() is torch.float32
    assert torch.is_grad_enabled()
    assert torch.distributions.Distribution._validate_args is validation
    assert active_handlers() == []
    pplkit.clear_param_store()


def test_an_interrupt_from_the_keyboard_passes_through_and_leaves_no_thread():
    main = threading.main_thread().ident
    timer = threading.Timer(0.3, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        check("tail", loops, seconds=30)
    timer.join()
    assert not [t for t in threading.enumerate() if t.name == "pplwidgets check"]


# -- how a verdict looks ---------------------------------------------------------------------------


def test_a_verdict_is_the_same_text_every_time():
    answers = [("tail", lambda n: tail(n) + 0.02), ("guide", guide_fixed_scale)]
    for exercise, answer in answers:
        assert len({repr(check(exercise, answer)) for _ in range(2)}) == 1


def test_the_html_says_the_same_escaped_and_not_by_colour_alone():
    verdict = check("rain", lambda probs: rain(probs, name="<b>&"))
    page = verdict._repr_html_()
    assert "<b>&" not in page
    assert "&lt;b&gt;&amp;" in page
    assert "role='status'" in page
    assert "Not yet." in page
    assert "<code>" in page
    assert "Passed." in check("rain", rain)._repr_html_()
