"""What judges of exercises stand on: running a reader's answer safely, and reading its run.

An answer runs in a thread and a context of its own, with a time limit; the reader's handlers,
parameter store and random number generators are left as they were, whatever it does. It may fail in
any way at all, hence the blind `except`s below.
"""

from __future__ import annotations

import contextvars
import ctypes
import inspect
import random
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pplkit import errors
from pplkit.checks import validation_enabled
from pplkit.handlers import condition, trace

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

    def __init__(self, exercise: str, written: Callable):
        self.exercise, self.written = exercise, written
        self.time_is_up = False

    def function(self, *args, **kwargs) -> Any:
        """The reader's function as it is, on tensors of its own: what it does to them, the judge
        does not see. It is not called once more when its time is up."""
        try:
            own = [arg.clone() if isinstance(arg, Tensor) else arg for arg in args]
            return self.written(*own, **kwargs)
        finally:
            if self.time_is_up:  # the function may have caught the request to stop
                raise _TimeUp

    def __call__(self, *args, rng_seed: int = 0) -> Any:
        """The plain result. The process's own generators are seeded, as a reader would seed them,
        so that an answer which fixes a seed inside is found out."""
        seed_everything(rng_seed)
        with self.blamed():
            return contextvars.Context().run(self.function, *args)

    def traced(self, *args, rng_seed: int = 0, hold: dict[str, Tensor] | None = None):
        """The trace of one run and what it returned; sites in `hold` are given these values."""
        seed_everything(rng_seed)
        returned = None

        def remember(*args):
            nonlocal returned
            returned = self.function(*args)
            return returned

        program = condition(remember, data=hold) if hold else remember
        with self.blamed(), warnings.catch_warnings():
            warnings.simplefilter("ignore", errors.PplkitWarning)  # the verdict tells
            run = trace(program).get_trace(*args)
            run.log_prob_sum()
        return run, returned

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Turn whatever the function raises into a mistake that tells where."""
        try:
            yield
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001
            raise self.failure(error) from None

    def failure(self, error: BaseException) -> Mistake:
        where = "" if isinstance(error, errors.PplkitError) else _line_of(error, self.written)
        found = Mistake(
            f"`{self.exercise}` stopped with an error{where}.\n{quoted(error)}",
            "Call the function yourself in a cell of its own to see the error, and mend that "
            "first.",
            "raised",
        )
        found.error = error
        return found


def quoted(error: BaseException) -> str:
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


def expect_function(exercise: str, answer: Any, arguments: tuple[str, ...]) -> None:
    call = f"{exercise}({', '.join(arguments)})"
    if answer is None or answer is ...:
        raise Mistake(
            f"there is no answer here yet, only `{'...' if answer is ... else answer}`.",
            f"Define `{call}` and check that.",
            "empty",
        )
    if isinstance(answer, type) or not callable(answer):
        raise Mistake(
            f"the check was given {described(answer)}, and it needs the function `{call}` itself.",
            f'Write `check("{exercise}", {exercise})`, without calling the function.',
            "not-a-function",
        )
    try:
        signature = inspect.signature(answer)
        signature.bind(*arguments)
    except Exception:  # noqa: BLE001
        raise Mistake(
            f"`{exercise}` cannot be called with {counted(len(arguments), 'argument')}.",
            f"Its first line should read `def {call}:`.",
            "signature",
        ) from None


def described(value: Any) -> str:
    """Its type with an article: "a Tensor", "an int"."""
    kind = "class" if isinstance(value, type) else type(value).__name__
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"


def counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def in_own_context(judge: Callable[[Answer], str], answer: Answer, seconds: float) -> str:
    """Run the judge in a thread and a context of its own; stop it in time, restore global state."""
    outcome: dict[str, Any] = {}
    # Not `Thread.join`: interrupted from the keyboard, it takes a running thread for an ended one.
    ended = threading.Event()

    def work():
        try:
            with validation_enabled():
                outcome["praise"] = contextvars.Context().run(judge, answer)
        except BaseException as error:  # noqa: BLE001
            outcome["error"] = error
        ended.set()

    worker = threading.Thread(target=work, name="pplwidgets check", daemon=True)
    with _global_state_kept():
        worker.start()
        try:
            _wait(ended, seconds)
        finally:
            late = not ended.is_set()
            answer.time_is_up = True
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


def _wait(ended: threading.Event, seconds: float) -> None:
    """Until it has ended or had its time: on a busy machine it need not have got any by then, so
    it is processor time that counts, and four times as much on the clock."""
    begun, used = time.monotonic(), time.process_time()
    while not ended.wait(min(0.2, seconds / 10)):
        clock, busy = time.monotonic() - begun, time.process_time() - used
        if clock >= seconds and (busy >= seconds or clock >= 4 * seconds):
            return


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


def seed_everything(rng_seed: int) -> None:
    torch.manual_seed(rng_seed)
    random.seed(rng_seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(rng_seed)


# -- reading a run -----------------------------------------------------------------------


def sample_sites(run) -> dict[str, Any]:
    """The sample sites of a trace, by name."""
    return {name: site for name, site in run.nodes.items() if site.type == "sample"}


def row_scores(fn, values: Tensor) -> Tensor | None:
    """Log-probabilities of `values`, shape (k,), under every row of `fn`: shape (k, rows).

    None if the distribution refuses the values.
    """
    rows = fn.batch_shape
    try:
        given = values.reshape(-1, *[1] * len(rows)).expand(len(values), *rows)
        return fn.log_prob(given).reshape(len(values), -1)
    except Exception:  # noqa: BLE001
        return None


def same_scores(fn, reference, values: Tensor) -> bool:
    """Whether two distributions score these values alike, row by row."""
    ours, theirs = row_scores(fn, values), row_scores(reference, values)
    if ours is None or theirs is None:
        return False
    ours, theirs = (
        torch.broadcast_tensors(ours, theirs)
        if ours.shape[1] in (1, theirs.shape[1])
        else (ours, theirs)
    )
    return ours.shape == theirs.shape and torch.allclose(ours, theirs, atol=1e-4)


def as_number(value: Any) -> float | None:
    """A plain number, from a number or a tensor of one element; None when it is not one."""
    if isinstance(value, Tensor):
        return float(value.detach()) if value.numel() == 1 and not value.is_complex() else None
    try:
        return float(value) if not isinstance(value, (str, bytes)) else None
    except Exception:  # noqa: BLE001
        return None


def listed(sites) -> str:
    return ", ".join(f"`{name}`" for name in sites)


def one_vectorised_site(sites: dict, wanted: str, n: int, thing: str) -> Any:
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
                f"a loop ran {counted(n, 'statement')}, one for each {thing} "
                f"({listed(looped[:3])}, ...).",
                f'One `sample("{wanted}", ...)` inside a plate of size `len(...)` does them '
                "all at once.",
                "loop",
            )
    if wanted not in sites:
        raise Mistake(
            f"there is no site called `{wanted}`; the run has {listed(sites)}.",
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
            f"({listed(p.name for p in site.plates)}).",
            "One plate is enough: the copies have one dimension.",
            "nested-plates",
        )
    if site.plates[0].size != n:
        raise Mistake(
            f"given {counted(n, thing)}, the plate `{site.plates[0].name}` has size "
            f"{site.plates[0].size}.",
            "Take the size from the argument with `len(...)`, so that it always fits.",
            "plate-size",
        )
    return site


def plate_size_mistake(found: Mistake, error: BaseException | None, n: int, thing: str) -> Mistake:
    """An error about shapes is most often a plate of the wrong size: say so, then quote it."""
    if isinstance(error, (errors.ShapeError, errors.PlateError)):
        return Mistake(
            f"given {counted(n, thing)}, the sizes do not fit.\n{type(error).__name__}: {error}",
            "Give the plate the size `len(...)` of the argument: a number typed in fits one "
            "length only.",
            "plate-size",
        )
    return found


# -- the exercises there are -------------------------------------------------------------

JUDGES: dict[str, tuple[tuple[str, ...], Callable[[Answer], str]]] = {}


def exercise(name: str, *arguments: str):
    """Register the judge of an exercise whose answer takes these arguments.

    A judge is given the `Answer`; it raises `Mistake`, or returns what it says in praise.
    """

    def register(judge):
        JUDGES[name] = (arguments, judge)
        return judge

    return register
