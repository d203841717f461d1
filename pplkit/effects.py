"""How a statement becomes an effect.

A statement (`sample`, `param`, `plate`, ...) does nothing by itself: it writes a `Message` and
hands it to `perform`. The message travels *down* the stack of handlers, innermost first, each free
to change it; what no handler has answered is answered by the default behaviour; then it travels
back *up*, each handler seeing the outcome. Everything else in the engine (tracing, conditioning,
inference) is a handler.

The stack belongs to a context (`contextvars`): threads and asyncio tasks never meet each other's
handlers.
"""

from __future__ import annotations

import copy
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from operator import attrgetter
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import checks, errors
from .errors import Where
from .params import get_param_store


class PlateFrame(NamedTuple):
    """A plate that a statement stands in: which dimension it has, and how many rows."""

    name: str
    dim: int | None  # negative, counted from the right; None while a plate is looped over
    size: int  # rows present (the subsample's size, when there is one)
    full_size: int  # rows in the whole population
    counter: int = 0  # which row, while a plate is looped over

    @property
    def vectorized(self) -> bool:
        return self.dim is not None


@dataclass(slots=True, eq=False)
class Message:
    """What one statement says, and what became of it; a trace keeps it as the statement's site.

    Fields can also be read by the keys that Pyro gives them: `site["value"]`,
    `site["cond_indep_stack"]`.
    """

    type: str  # sample, param, plate, deterministic, subsample
    name: str
    fn: Any  # a distribution; for other statements, what computes the default value
    args: tuple = ()
    kwargs: dict = field(default_factory=dict)
    value: Any = None
    is_observed: bool = False
    plates: tuple[PlateFrame, ...] = ()  # outermost first
    scale: Any = 1.0  # multiplies the log-probability
    mask: Any = None  # where the log-probability counts
    infer: dict = field(default_factory=dict)  # advice to inference algorithms
    done: bool = False  # the value stands: handlers must not replace it
    stop: bool = False  # handlers further out must not see this message
    where: Where | None = None  # the user's file and line
    given_by: Any = None  # the handler, or the replayed site, that the value comes from
    _log_prob: Tensor | None = None

    @property
    def log_prob(self) -> Tensor:
        """Log-probability of a sample site's value, masked and scaled; shape: its plates'."""
        if self._log_prob is None:
            log_prob = self.unscaled_log_prob
            try:
                self._log_prob = scale_and_mask(log_prob, self.scale, self.mask)
            except RuntimeError as fault:
                raise errors.weights_against_site(self, log_prob.shape) from fault
        return self._log_prob

    @property
    def unscaled_log_prob(self) -> Tensor:
        """Log-probability of a sample site's value, by its distribution alone."""
        return checks.density(self)

    @property
    def score_parts(self) -> ScoreParts:
        """`log_prob`, as the parts that estimate a gradient."""
        if self.fn.has_rsample:
            return ScoreParts(self.log_prob, torch.zeros_like(self.log_prob), self.log_prob)
        score = checks.density(self, drawn=True)
        return ScoreParts(self.log_prob, score, torch.zeros_like(self.log_prob))

    @property
    def log_prob_sum(self) -> Tensor:
        """`log_prob`, summed: a scalar."""
        log_prob = self.log_prob
        return log_prob.sum() if log_prob.dim() else log_prob

    def __copy__(self) -> Message:
        return Message(*_fields(self))

    def __getitem__(self, key: str) -> Any:
        return getattr(self, _PYRO_KEYS.get(key, key))

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self, _PYRO_KEYS.get(key, key), value)

    def get(self, key: str, default: Any = None) -> Any:
        return getattr(self, _PYRO_KEYS.get(key, key), default)


class ScoreParts(NamedTuple):
    """What a guide's site adds to a gradient estimate; each of the shape of its plates."""

    log_prob: Tensor
    score_function: Tensor  # multiplies the terms that it influences; neither scaled nor masked
    entropy_term: Tensor  # differentiated through the draw


_fields = attrgetter(*Message.__slots__)
_PYRO_KEYS = {"cond_indep_stack": "plates"}


def scale_and_mask(log_prob: Tensor, scale: Any = 1.0, mask: Any = None) -> Tensor:
    """A log-probability where `mask` is true, zero elsewhere, times `scale`."""
    if mask is not None:
        if mask is False:
            return torch.zeros_like(log_prob)
        if isinstance(mask, Tensor):
            log_prob = torch.where(mask, log_prob, log_prob.new_zeros(()))
    return log_prob if isinstance(scale, float) and scale == 1.0 else log_prob * scale


class Entry(NamedTuple):
    """A handler's place on the stack."""

    handler: Handler  # what acts
    owner: Handler  # the object whose `with` put it there
    generator: FrameType | None  # the generator that holds that `with` open, if it is one
    mark: int  # the parameter store's, when it was put there
    down: Callable[[Message], None]  # the handler's two methods; a recorder has its own around them
    up: Callable[[Message], None]


_STACK: ContextVar[tuple[Entry, ...]] = ContextVar("pplkit_handlers", default=())


def active_handlers() -> list[Handler]:
    """The handlers in force here, outermost first."""
    return [entry.handler for entry in _in_force()]


def _in_force() -> tuple[Entry, ...]:
    stack = _STACK.get()
    if any(entry.generator is not None for entry in stack):
        running = set(_frames(sys._getframe()))
        stack = tuple(e for e in stack if e.generator is None or e.generator in running)
    return stack


def perform(msg: Message, outside: Handler | None = None) -> Any:
    """Send a message down the stack and back up; return its value.

    With `outside`, only the handlers further out than that one see it.
    """
    stack = _in_force()
    if outside is not None:
        stack = stack[: max(i for i, entry in enumerate(stack) if entry.handler is outside)]
    reached = []
    for entry in reversed(stack):
        reached.append(entry)
        entry.down(msg)
        if msg.stop:
            for outer in stack[: -len(reached)]:
                if outer.handler.given_names is not None:
                    outer.handler.given_names.hide(msg, entry.handler)
            break
    _answer(msg)
    for entry in reversed(reached):
        entry.up(msg)
    return msg.value


def _answer(msg: Message) -> None:
    """The default behaviour: what no handler has decided is drawn, or computed."""
    given = msg.value is not None
    if msg.type == "sample":
        if errors.is_noting():
            from .mending import answer  # it stands above this module

            return answer(msg)
        checks.parameters(msg.fn, msg.name, msg.where)
        if given:
            checks.sample_shapes(msg)
            checks.sample_value(msg)
    if not given:
        try:
            msg.value = msg.fn(*msg.args, **msg.kwargs)
        except (RuntimeError, ValueError) as fault:
            if msg.type != "sample" or isinstance(fault, errors.PplkitError):
                raise
            raise errors.failed_draw(msg, fault) from fault
    msg.done = True


class _HandlerType(type):
    def __call__(cls, *args, **kwargs):
        try:
            return super().__call__(*args, **kwargs)
        except TypeError as fault:
            told = isinstance(fault, errors.PplkitError)
            if told or (wrong := errors.wrong_call(cls, args, kwargs)) is None:
                raise
            raise wrong from fault


class Handler(metaclass=_HandlerType):
    """Reinterprets the statements made while it is in force.

    Use it as a context manager, around a function, or as a decorator: `with h(...):`, `h(model,
    ...)`, `@h(...)`. An exception inside takes the handler off the stack, and with it the
    parameters that the failed run has added. Subclasses override `process_message` (on the way
    down, innermost handler first) and `postprocess_message` (on the way up); both receive the
    `Message` and change it in place.

    >>> class shout(Handler):
    ...     def postprocess_message(self, msg):
    ...         print(msg.type, msg.name.upper())
    >>> from pplkit import deterministic
    >>> with shout():
    ...     _ = deterministic("x", torch.tensor(1.0))
    deterministic X
    """

    watch: Callable[[Entry], Entry] | None = None  # how a recorder sees what is entered above it
    given_names = None  # a `names.Names`: those that a user gave it, until they are met
    generators = None  # the random streams of a `seed`
    first_available_dim: int | None = None  # from here to the left, dimensions are not for plates
    remembers_plates = False  # whether a plate entered twice in a run finds its rows again

    def __init__(self, fn: Callable | None = None):
        if fn is not None and not callable(fn):
            raise errors.not_callable(type(self).__name__, fn)
        self.fn = fn
        if fn is not None:
            functools.update_wrapper(self, fn, updated=())

    def process_message(self, msg: Message) -> None:
        """See, or change, a statement before it has a value."""

    def postprocess_message(self, msg: Message) -> None:
        """See, or change, a statement once it has one."""

    def _note(self, msg: Message) -> None:
        """Cross a statement off the names that a user gave this handler."""
        if self.given_names is not None and self.given_names.open:
            self.given_names.note(msg)

    def ended_by(self, fault: BaseException, tb) -> None:
        """See an exception that ends the block; raise another one that tells more."""

    def activation(self) -> Handler:
        """What goes onto the stack: itself, or a fresh copy where a run has state of its own."""
        return self

    def __enter__(self):
        self._push(self.activation(), sys._getframe(1))
        return self

    def _push(self, handler: Handler, caller: FrameType | None) -> None:
        generator = caller if caller is not None and _is_loose_generator(caller) else None
        mark = get_param_store().mark()
        methods = handler.process_message, handler.postprocess_message
        stack, entry = _STACK.get(), Entry(handler, self, generator, mark, *methods)
        if stack and stack[0].handler.watch is not None:
            entry = stack[0].handler.watch(entry)
        _STACK.set((*stack, entry))

    def __exit__(self, exc_type, exc, tb) -> None:
        stack = _STACK.get()
        at = len(stack) - 1
        if at < 0 or stack[at].owner is not self or stack[at].generator is not None:
            at = self._place(stack, sys._getframe(1))
        if at >= 0:
            # What is still above was left behind by an interrupt, unless a generator is concerned.
            above = [e for e in stack[at + 1 :] if e.generator or stack[at].generator]
            _STACK.set((*stack[:at], *above))
            if exc_type is not None:
                get_param_store().roll_back(stack[at].mark)
                stack[at].handler.ended_by(exc, tb)
            elif self.given_names is not None and self.given_names.open:
                if self._place(_STACK.get(), sys._getframe(1)) < 0:  # the outermost of its blocks
                    self.given_names.tell()

    def _place(self, stack: tuple[Entry, ...], caller: FrameType) -> int:
        """Where on the stack the `with` that now ends has put this handler; -1: nowhere."""
        mine = [i for i, entry in enumerate(stack) if entry.owner is self]
        own = [i for i in mine if stack[i].generator is caller]
        return (own or mine or [-1])[-1]

    def __call__(self, *args, **kwargs):
        if self.fn is None:
            if len(args) != 1 or kwargs or not callable(args[0]):
                raise errors.decorator_needs_function(type(self).__name__)
            wrapped = copy.copy(self)
            if self.given_names is not None:
                wrapped.given_names = self.given_names.fresh()
            functools.update_wrapper(wrapped, args[0], updated=())
            wrapped.fn = args[0]
            return wrapped
        with self:
            return self.fn(*args, **kwargs)

    def __get__(self, instance, owner=None):
        # A decorated method is bound like any other.
        return self if instance is None else functools.partial(self.__call__, instance)

    def __repr__(self) -> str:
        inner = getattr(self.fn, "__name__", "") if self.fn is not None else ""
        return f"<{type(self).__name__}({inner})>"


_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def _is_loose_generator(frame: FrameType) -> bool:
    """Whether a `with` in this frame can be left hanging by whoever drives the generator.

    A generator that waits at a `yield` inside `with plate(...)` may be abandoned there; its
    handlers are in force only while it runs. Not so one driven by `contextlib` or a pytest fixture:
    these wait at their `yield` just *because* the block around it is running. Nor is one that does
    not run: it made a loop for others.
    """
    if not frame.f_code.co_flags & _GENERATOR:
        return False
    driver = frame.f_back
    while driver is not None and driver.f_code.co_flags & inspect.CO_GENERATOR:
        driver = driver.f_back
    home = driver.f_globals.get("__name__", "") if driver is not None else "contextlib"
    return not home.startswith(("contextlib", "_pytest", "pytest"))


def made_in() -> FrameType | None:
    """The generator that a handler's constructor, which asks this, is called from, if it is one.

    A loop over the handler belongs to it: what drives the loop, such as a progress bar, may be
    another generator.
    """
    frame = sys._getframe(3)  # the constructor is called by the handlers' metaclass
    return frame if frame.f_code.co_flags & _GENERATOR else None


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
