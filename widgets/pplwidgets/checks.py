"""Checks for the exercises of the book: they say what went wrong, not only that something did.

>>> from pplwidgets.checks import check
>>> check("rain", lambda probs: None)
not yet: `rain` ran no `sample` statement and returned nothing.
try: Start with one `sample("rain", ...)` statement, and return its value.

A check runs the answer and looks at the run: its trace, the log-probabilities it assigns, the
estimates it gives under several seeds. So any program that means the right thing passes, and one
lucky draw does not. The answer runs in a thread and a context of its own, with a time limit. The
reader's handlers, parameter store and random number generators are left as they were, whatever the
answer does. An answer may fail in any way at all, hence the blind `except`s below.
"""

from __future__ import annotations

import contextvars
import ctypes
import difflib
import html
import inspect
import math
import random
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import pplkit
import pplkit.distributions as dist
from pplkit import errors
from pplkit.checks import validation_enabled
from pplkit.handlers import condition, trace
from pplkit.infer import SVI, Trace_ELBO
from pplkit.optim import Adam

__all__ = ["Verdict", "check", "exercises"]

SECONDS = 30.0  # time limit of one check


# -- what the reader sees ----------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """The outcome of a check; true when the exercise is solved.

    Attributes:
        exercise: its short name.
        passed: whether the answer is right.
        message: what was found, in a sentence or two.
        remedy: what to do about it; empty when passed.
        mistake: a stable short name of a recognised mistake, such as "no-plate"; empty otherwise.
    """

    exercise: str
    passed: bool
    message: str
    remedy: str = ""
    mistake: str = ""

    def __bool__(self) -> bool:
        return self.passed

    @property
    def headline(self) -> str:
        return "passed" if self.passed else "not yet"

    def __repr__(self) -> str:
        lines = [f"{self.headline}: {self.message}"]
        if self.remedy:
            lines.append(f"try: {self.remedy}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        # Colours are taken from the page's own text, so that they hold in light and dark pages.
        bar = "#2e8b57" if self.passed else "#c77700"
        mark = "✓" if self.passed else "→"
        head = f"<strong>{mark} {self.headline.capitalize()}.</strong>"
        body = f"<p style='margin:0'>{head} {_as_html(self.message)}</p>"
        if self.remedy:
            body += f"<p style='margin:.4em 0 0'><strong>Try:</strong> {_as_html(self.remedy)}</p>"
        style = (
            f"border:1px solid {bar};border-left-width:.4em;border-radius:.3em;"
            "padding:.6em .9em;max-width:44em;overflow-wrap:anywhere;white-space:pre-wrap"
        )
        return f"<div class='pplkit-check' role='status' style='{style}'>{body}</div>"


def _as_html(text: str) -> str:
    # Line breaks and the indentation of quoted errors are kept by `white-space: pre-wrap`.
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def check(exercise: str, answer: Any, *, seconds: float = SECONDS) -> Verdict:
    """Check an answer to one exercise of the book.

    Args:
        exercise: the exercise's short name, as the notebook gives it.
        answer: the function that the exercise asks for.
        seconds: time limit; an answer that runs longer is stopped.

    Returns:
        A `Verdict`: true or false, and in words what was found. An answer that fails in whatever
        way is a verdict, not an exception.

    Raises:
        ValueError: there is no exercise of that name.
    """
    if exercise not in _JUDGES:
        close = difflib.get_close_matches(str(exercise), _JUDGES, n=1)
        hint = (
            f"did you mean {close[0]!r}?" if close else f"there are {', '.join(map(repr, _JUDGES))}"
        )
        raise ValueError(f"no exercise is called {exercise!r}: {hint}")
    try:
        arguments, judge = _JUDGES[exercise]
        _expect_function(exercise, answer, arguments)
        praise = _in_own_context(lambda: judge(Answer(exercise, answer)), seconds)
    except Mistake as found:
        return Verdict(exercise, False, found.message, found.remedy, found.mistake)
    except Exception as error:  # noqa: BLE001
        told = f"`{exercise}` could not be judged, for it did something unforeseen.\n{_told(error)}"
        return Verdict(
            exercise,
            False,
            told,
            "Compare with the hints; the simplest answer is the best.",
            "unforeseen",
        )
    return Verdict(exercise, True, praise)


def exercises() -> list[str]:
    """The short names of all exercises that have a check."""
    return list(_JUDGES)


# -- how an answer is run ----------------------------------------------------------------


class Mistake(Exception):
    """What is wrong with an answer, found by a judge."""

    def __init__(self, message: str, remedy: str = "", mistake: str = ""):
        self.message, self.remedy, self.mistake = message, remedy, mistake
        self.error: BaseException | None = None  # what the answer raised, if it did
        super().__init__(message)


class _TimeUp(BaseException):
    """Put into the answer's thread when its time is over; `except Exception` does not catch it."""


class Answer:
    """A reader's function, and the ways to run it."""

    def __init__(self, exercise: str, function: Callable):
        self.exercise, self.function = exercise, function

    def __call__(self, *args, rng_seed: int = 0) -> Any:
        """The plain result. The process's own generators are seeded, as a reader would seed them,
        so that an answer which fixes a seed inside is found out."""
        _seed_everything(rng_seed)
        with self._blamed():
            return contextvars.Context().run(self.function, *args)

    def traced(self, *args, rng_seed: int = 0, hold: dict[str, Tensor] | None = None):
        """The trace of one run and what it returned; sites in `hold` are given these values."""
        _seed_everything(rng_seed)
        returned = None

        def remember(*args):
            nonlocal returned
            returned = self.function(*args)
            return returned

        program = condition(remember, data=hold) if hold else remember
        with self._blamed():
            run = trace(program).get_trace(*args)
            run.log_prob_sum()
        return run, returned

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        """Turn whatever the function raises into a mistake that tells where."""
        try:
            yield
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001
            raise self.failure(error) from None

    def failure(self, error: BaseException) -> Mistake:
        where = "" if isinstance(error, errors.PplkitError) else _line_of(error, self.function)
        found = Mistake(
            f"`{self.exercise}` stopped with an error{where}.\n{_told(error)}",
            "Call the function yourself in a cell of its own to see the error, and mend that "
            "first.",
            "raised",
        )
        found.error = error
        return found


def _told(error: BaseException) -> str:
    """Type and message of an exception, whatever its class does when asked."""
    kind = type(error).__name__
    if isinstance(error, RecursionError):
        return f"{kind}: it calls itself without end"
    try:
        text = str(error).strip()
    except Exception:  # noqa: BLE001
        text = ""
    text = text if len(text) <= 800 else text[:800] + " ..."
    return f"{kind}: {text}" if text else kind


def _line_of(error: BaseException, function: Callable) -> str:
    """The innermost line of the reader's own cell or file that the error passed through."""
    home = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == home]
    return f" on line {lines[-1]}" if lines else ""


def _expect_function(exercise: str, answer: Any, arguments: tuple[str, ...]) -> None:
    call = f"{exercise}({', '.join(arguments)})"
    if answer is None or answer is ...:
        raise Mistake(
            f"there is no answer here yet, only `{'...' if answer is ... else answer}`.",
            f"Define `{call}` and check that.",
            "empty",
        )
    if isinstance(answer, type) or not callable(answer):
        raise Mistake(
            f"the check was given {_kind(answer)}, and it needs the function `{call}` itself.",
            f'Write `check("{exercise}", {exercise})`, without calling the function.',
            "not-a-function",
        )
    try:
        signature = inspect.signature(answer)
        signature.bind(*arguments)
    except Exception:  # noqa: BLE001
        raise Mistake(
            f"`{exercise}` cannot be called with {_count(len(arguments), 'argument')}.",
            f"Its first line should read `def {call}:`.",
            "signature",
        ) from None


def _kind(value: Any) -> str:
    """Its type with an article: "a Tensor", "an int"."""
    kind = "class" if isinstance(value, type) else type(value).__name__
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _in_own_context(judge: Callable[[], str], seconds: float) -> str:
    """Run the judge in a thread and a context of its own; stop it in time, restore global state."""
    outcome: dict[str, Any] = {}
    # Not `Thread.join`: interrupted from the keyboard, it takes a running thread for an ended one.
    ended = threading.Event()

    def work():
        try:
            with validation_enabled():
                outcome["praise"] = contextvars.Context().run(judge)
        except BaseException as error:  # noqa: BLE001
            outcome["error"] = error
        ended.set()

    worker = threading.Thread(target=work, name="pplwidgets check", daemon=True)
    with _global_state_kept():
        worker.start()
        try:
            ended.wait(seconds)
        finally:
            late = not ended.is_set()
            stopped = _stop(worker, ended)
    error = outcome.get("error")
    if late:
        more = "" if stopped else " It could not be stopped and still runs: restart the kernel."
        raise Mistake(
            f"the answer was still running after {seconds:g} seconds and was stopped.{more}",
            "Look for a loop that never ends, or for a Python loop where one statement in a "
            "plate would do.",
            "time",
        )
    if error is not None:
        raise error
    return outcome["praise"]


def _stop(worker: threading.Thread, ended: threading.Event) -> bool:
    """Ask the thread to end, again if the answer catches the request; tell whether it did."""
    for _ in range(40):
        if ended.is_set() or not worker.is_alive():
            worker.join(1.0)
            return True
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(worker.ident), ctypes.py_object(_TimeUp)
        )
        ended.wait(0.05)
    return ended.is_set()


@contextmanager
def _global_state_kept() -> Iterator[None]:
    """Put back what a process has only one of: random states, default dtype, validation."""
    numpy = sys.modules.get("numpy")
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    numpy_state = numpy.random.get_state() if numpy else None
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    dtype = torch.get_default_dtype()
    validation = torch.distributions.Distribution._validate_args
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        random.setstate(python_state)
        if numpy:
            numpy.random.set_state(numpy_state)
        if cuda_states is not None:
            torch.cuda.set_rng_state_all(cuda_states)
        torch.set_default_dtype(dtype)
        torch.distributions.Distribution.set_default_validate_args(validation)


def _seed_everything(rng_seed: int) -> None:
    torch.manual_seed(rng_seed)
    random.seed(rng_seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(rng_seed)


# -- reading a run -----------------------------------------------------------------------


def _draws(run) -> dict[str, Any]:
    """The sample sites of a trace, by name."""
    return {name: site for name, site in run.nodes.items() if site.type == "sample"}


def _scores(fn, values: Tensor) -> Tensor | None:
    """Log-probabilities of `values`, shape (k,), under every row of `fn`: shape (k, rows).

    None if the distribution refuses the values.
    """
    rows = fn.batch_shape
    try:
        given = values.reshape(-1, *[1] * len(rows)).expand(len(values), *rows)
        return fn.log_prob(given).reshape(len(values), -1)
    except Exception:  # noqa: BLE001
        return None


def _same(fn, reference, values: Tensor) -> bool:
    """Whether two distributions score these values alike, row by row."""
    ours, theirs = _scores(fn, values), _scores(reference, values)
    if ours is None or theirs is None:
        return False
    ours, theirs = (
        torch.broadcast_tensors(ours, theirs)
        if ours.shape[1] in (1, theirs.shape[1])
        else (ours, theirs)
    )
    return ours.shape == theirs.shape and torch.allclose(ours, theirs, atol=1e-4)


def _number(value: Any) -> float | None:
    """A plain number, from a number or a tensor of one element; None when it is not one."""
    if isinstance(value, Tensor):
        return float(value.detach()) if value.numel() == 1 and not value.is_complex() else None
    try:
        return float(value) if not isinstance(value, (str, bytes)) else None
    except Exception:  # noqa: BLE001
        return None


def _names(sites) -> str:
    return ", ".join(f"`{name}`" for name in sites)


def _one_vectorised_site(sites: dict, wanted: str, n: int, thing: str) -> Any:
    """The site called `wanted`, in one plate of size n; anything else is a mistake with a name."""
    others = [name for name in sites if name != wanted]
    if wanted not in sites or len(others) >= n > 1:
        looped = [
            name
            for name in sites
            if not sites[name].plates or all(p.dim is None for p in sites[name].plates)
        ]
        if n > 1 and len(looped) >= n:
            raise Mistake(
                f"a loop ran {_count(n, 'statement')}, one for each {thing} "
                f"({_names(looped[:3])}, ...).",
                f'One `sample("{wanted}", ...)` inside a plate of size `len(...)` does them '
                "all at once.",
                "loop",
            )
    if wanted not in sites:
        raise Mistake(
            f"there is no site called `{wanted}`; the run has {_names(sites)}.",
            f"Names are how others find a draw: call it `{wanted}`, letter for letter.",
            "site-name",
        )
    site = sites[wanted]
    if any(plate.dim is None for plate in site.plates):
        raise Mistake(
            f"the plate around `{wanted}` is walked through in a `for` loop, one {thing} at a "
            "time.",
            f"Use `with plate(...):` and one statement for all {thing}s.",
            "loop",
        )
    if not site.plates:
        shape = tuple(site.log_prob.shape)
        event = getattr(site.fn, "event_dim", 0)
        if event:
            raise Mistake(
                f"`.to_event({event})` declares the {thing}s one joint draw, with a single "
                "log-probability.",
                "They are independent: leave `.to_event` out and put the statement in a "
                f"plate of {n}.",
                "to-event",
            )
        told = (
            f"its {n} values have the right shape, but nothing says that they are independent "
            "copies"
            if shape == (n,)
            else f"so there is one draw where {n} are asked for"
        )
        raise Mistake(
            f"`{wanted}` stands in no plate: {told}.",
            f'Put the statement inside `with plate("{thing}s", len(...)):`.',
            "no-plate",
        )
    if len(site.plates) > 1:
        raise Mistake(
            f"`{wanted}` stands in {len(site.plates)} plates "
            f"({_names(p.name for p in site.plates)}).",
            "One plate is enough: the copies have one dimension.",
            "nested-plates",
        )
    if site.plates[0].size != n:
        raise Mistake(
            f"given {_count(n, thing)}, the plate `{site.plates[0].name}` has size "
            f"{site.plates[0].size}.",
            "Take the size from the argument with `len(...)`, so that it always fits.",
            "plate-size",
        )
    return site


def _plate_size_mistake(found: Mistake, error: BaseException | None, n: int, thing: str) -> Mistake:
    """An error about shapes is most often a plate of the wrong size: say so, then quote it."""
    if isinstance(error, (errors.ShapeError, errors.PlateError)):
        return Mistake(
            f"given {_count(n, thing)}, the sizes do not fit.\n{type(error).__name__}: {error}",
            "Give the plate the size `len(...)` of the argument: a number typed in fits one "
            "length only.",
            "plate-size",
        )
    return found


# -- the exercises -----------------------------------------------------------------------

_JUDGES: dict[str, tuple[tuple[str, ...], Callable[[Answer], str]]] = {}


def _exercise(name: str, *arguments: str):
    def register(judge):
        _JUDGES[name] = (arguments, judge)
        return judge

    return register


@_exercise("tail", "n")
def _tail(answer: Answer) -> str:
    """P(X > 3) for X normal with mean 1 and variance 4, estimated from n draws."""
    n, seeds = 4_000, range(1, 9)
    upper = lambda scale: 0.5 * math.erfc((3 - 1) / (scale * math.sqrt(2)))
    truth = upper(2.0)
    estimates = []
    for k in seeds:
        returned = answer(n, rng_seed=k)
        number = _number(returned)
        if returned is None or returned is ...:
            raise Mistake(
                "`tail` returned nothing.",
                "Draw, compare with 3, and `return` the share of draws above it.",
                "empty",
            )
        if number is None:
            shape = f" of shape {tuple(returned.shape)}" if hasattr(returned, "shape") else ""
            raise Mistake(
                f"`tail` returned {_kind(returned)}{shape}, and a single number is asked for.",
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


@_exercise("rain", "probs")
def _rain(answer: Answer) -> str:
    """Independent Bernoulli draws for any number of towns, in one statement."""
    for probs in (torch.tensor([0.1, 0.35, 0.8]), torch.tensor([0.9, 0.25, 0.6, 0.05, 0.45])):
        n = len(probs)
        site, returned = _rain_site(answer, probs, n)
        zero_one = torch.tensor([0.0, 1.0])
        if not _same(site.fn, dist.Bernoulli(probs), zero_one):
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
                f"`rain` draws correctly, but returns {_kind(returned)} that is not the value "
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
        raise _plate_size_mistake(found, error, n, "town") from None
    sites = _draws(run)
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
    return _one_vectorised_site(sites, "rain", n, "town"), returned


def _known_wrong_rain(fn, probs: Tensor, values: Tensor) -> None:
    if _same(fn, dist.Bernoulli(probs=1 - probs), values):
        raise Mistake(
            "zeros and ones are exchanged: rain falls with probability 1 − p.", "", "swapped"
        )
    if _same(fn, dist.Bernoulli(logits=probs), values):
        raise Mistake(
            "the probabilities were given as logits.",
            "Write `dist.Bernoulli(probs)`, or `probs=probs`.",
            "logits",
        )
    if _same(fn, dist.Bernoulli(probs[:1].expand(probs.shape)), values):
        raise Mistake(
            "every town has the first town's probability.",
            "Give `Bernoulli` the whole tensor.",
            "first-only",
        )
    scores = _scores(fn, values)
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


@_exercise("ruler", "readings")
def _ruler(answer: Answer) -> str:
    """length ~ Normal(10, 2); readings ~ Normal(length, 0.5) in a plate, observed."""
    for readings in (
        torch.tensor([11.2, 10.4, 12.1, 11.6]),
        torch.tensor([8.3, 9.1, 7.7, 8.8, 8.2, 9.4]),
    ):
        n = len(readings)
        run, returned = _ruler_run(answer, readings, n)
        sites = _draws(run)
        _ruler_structure(answer, sites, readings, returned, n)
        points = torch.tensor([4.0, 9.0, 10.0, 13.5])
        if not _same(sites["length"].fn, dist.Normal(*_PRIOR), points):
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
        raise _plate_size_mistake(found, error, n, "reading") from None


def _ruler_structure(answer: Answer, sites: dict, readings: Tensor, returned: Any, n: int) -> None:
    if not sites:
        raise Mistake(
            "`ruler` ran no `sample` statement.",
            "Two are needed: `length`, which nobody knows, and `reading`, which is observed.",
            "empty",
        )
    if "length" not in sites:
        raise Mistake(
            f"there is no site called `length`; the run has {_names(sites)}.",
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
    site = _one_vectorised_site(
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
    if _same(fn, dist.Normal(loc, scale**2), points):
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
    loc, scale = _number(getattr(fn, "loc", None)), _number(getattr(fn, "scale", None))
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


@_exercise("guide", "readings")
def _guide(answer: Answer) -> str:
    """A guide for the ruler model: fitted, then compared with the exact posterior."""
    readings = torch.tensor([11.2, 10.4, 12.1, 11.6, 11.0, 11.9])
    precision = _PRIOR[1] ** -2 + len(readings) / _NOISE**2
    mean = (_PRIOR[0] / _PRIOR[1] ** 2 + float(readings.sum()) / _NOISE**2) / precision
    sd = precision**-0.5

    run, _ = answer.traced(readings, rng_seed=1)
    _guide_structure(_draws(run), len(readings))
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
    return (
        "fitted by SVI, the guide agrees with the exact posterior in mean and standard deviation."
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
        has = f"has {_names(sites)}" if sites else "samples nothing"
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
            f"the guide samples {_names(extra)}, unknown to the model.",
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
    _seed_everything(5)
    means, sds = [], []
    with answer._blamed():
        svi = SVI(_ruler_model, answer.function, Adam({"lr": 0.05}), loss=Trace_ELBO())
        for step in range(steps):
            svi.step(readings)
            if step >= steps - last and step % 10 == 0:
                fn = trace(answer.function).get_trace(readings).nodes["length"].fn
                means.append(float(fn.mean.detach()))
                sds.append(float(fn.stddev.detach()))
    return sum(means) / len(means), sum(sds) / len(sds)
