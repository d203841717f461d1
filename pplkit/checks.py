"""When numbers and shapes are checked.

Shapes are compared at once: it costs nothing. Looking at numbers costs a wait for the device, so an
inference step collects its questions and asks them together, once; outside a step each is asked on
the spot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple
from weakref import ref

from torch import Tensor
from torch._C import _functorch
from torch.distributions import constraints

from . import errors

if TYPE_CHECKING:
    from .effects import Message


class Question(NamedTuple):
    """A check whose answer has not been waited for."""

    ask: Callable[[], Tensor]  # a boolean scalar: whether it holds
    error: Callable[[], Exception]  # what to raise when it does not
    told_by_loss: bool  # it asks for no more than a number, and NaN shows in the loss
    moves: bool  # what it is about depends on what a gradient is taken by

    @property
    def holds(self) -> Tensor:
        held = self.ask()
        return unwrapped(held).all() if _functorch.is_functorch_wrapped_tensor(held) else held


_PENDING: ContextVar[list[Question] | None] = ContextVar("pplkit_pending_checks", default=None)
_enabled = True


def enable_validation(is_validate: bool = True) -> None:
    """Switch the engine's checks of shapes, parameters and supports on or off.

    >>> enable_validation(False)
    >>> enable_validation(True)
    """
    global _enabled
    _enabled = bool(is_validate)


@contextmanager
def validation_enabled(is_validate: bool = True) -> Iterator[None]:
    """As `enable_validation`, for the block only.

    >>> import pplkit, pplkit.distributions as dist
    >>> with validation_enabled(False):
    ...     pplkit.sample("x", dist.Bernoulli(0.5), obs=torch.tensor(2.0))
    tensor(2.)
    """
    before = _enabled
    enable_validation(is_validate)
    try:
        yield
    finally:
        enable_validation(before)


@contextmanager
def asked_together() -> Iterator[list[Question]]:
    """Collect the questions of the block, for whoever runs it to ask together."""
    questions: list[Question] = []
    token = _PENDING.set(questions)
    try:
        yield questions
    except (RuntimeError, ValueError, IndexError) as fault:
        told = isinstance(fault, errors.PplkitError)
        if not told or isinstance(fault, errors.DistributionError):
            # A number that was wrong from the start may be what brought torch to fall.
            broken = None
            with suppress(RuntimeError):  # while a program is captured, no number can be asked for
                broken = next((q for q in questions if not bool(q.holds)), None)
            if broken is not None:
                raise broken.error() from fault
        raise
    finally:
        _PENDING.reset(token)


def holds(condition: Tensor) -> bool:
    """Whether it does; taken for granted while a program is captured, when no number is known."""
    try:
        return bool(condition)
    except errors.CaptureError:
        return True


def _ask(constraint: constraints.Constraint, value: Tensor, error) -> None:
    question = Question(
        lambda: constraint.check(value).all(),
        error,
        _only_a_number(constraint),
        value.requires_grad or _moves(constraint),
    )
    pending = _PENDING.get()
    if pending is not None:
        pending.append(question)
    elif not bool(question.holds):
        raise error()


def _moves(constraint: constraints.Constraint) -> bool:
    """Whether a bound of it depends on what a gradient is taken by."""
    return any(
        _moves(part) if isinstance(part, constraints.Constraint) else part.requires_grad
        for part in vars(constraint).values()
        if isinstance(part, (constraints.Constraint, Tensor))
    )


def _only_a_number(constraint: constraints.Constraint) -> bool:
    while isinstance(constraint, constraints.independent):
        constraint = constraint.base_constraint
    return constraint is constraints.real


def unwrapped(tensor: Tensor) -> Tensor:
    """The plain tensor, rows of `vmap` included, behind one that `torch.func` wraps."""
    while _functorch.is_functorch_wrapped_tensor(tensor):
        tensor = _functorch.get_unwrapped(tensor)
    return tensor


def parameters(fn, name: str | None = None, where=None) -> None:
    """Are a distribution's parameters what its family allows?"""
    if not _enabled or getattr(fn, "_parameters_checked", False):
        return
    for part, parameter, value, constraint in _constrained(fn):
        try:
            _ask(
                constraint,
                value,
                lambda part=part, p=parameter, v=value, c=constraint: errors.bad_parameter(
                    name, where or errors.user_frame(), part, p, v, c
                ),
            )
        except RuntimeError as fault:
            told = errors.two_devices(fault, fn, name, where)
            if told is fault:
                raise
            raise told from fault
    fn._parameters_checked = True


def _constrained(fn) -> Iterator[tuple]:
    for parameter in fn.stated():
        constraint = fn.arg_constraints[parameter]
        if constraints.is_dependent(constraint):
            continue
        if parameter in fn._numbers and _number_holds(constraint, fn._numbers[parameter]):
            continue
        yield fn, parameter, getattr(fn, parameter), constraint
    for parameter, value, constraint in fn.relations():
        yield fn, parameter, value, constraint
    for part in fn.parts():
        yield from _constrained(part)


def _number_holds(constraint: constraints.Constraint, number: float) -> bool:
    """Whether a plain number is known to satisfy a constraint, without a tensor."""
    if constraint is constraints.real:
        return number == number
    if constraint is constraints.positive:
        return number > 0
    return constraint is constraints.unit_interval and 0 <= number <= 1


def rows(name: str, given: Tensor, size: int) -> None:
    """Does a plate have the rows that its user has chosen?"""
    if not _enabled:
        return
    where = errors.user_frame()
    question = Question(
        lambda: ((given >= 0) & (given < size)).all(),
        lambda: errors.subsample_outside(name, given, size, where),
        False,
        False,
    )
    pending = _PENDING.get()
    if pending is not None:
        pending.append(question)
    elif not bool(question.holds):
        raise question.error()


def sample_shapes(msg: Message) -> None:
    """Does a value that was given fit its distribution and its plates?"""
    if not _enabled:
        return
    fn, value = msg.fn, msg.value
    event_dim = len(fn.event_shape)
    batch = value.shape[: value.dim() - event_dim]
    if value.shape[value.dim() - event_dim :] != fn.event_shape or value.dim() < event_dim:
        raise errors.value_against_distribution(msg)
    for frame in msg.plates:
        if (
            frame.vectorized
            and len(batch) >= -frame.dim
            and batch[frame.dim] not in (1, frame.size)
        ):
            raise errors.plate_against_value(msg, frame, batch[frame.dim])
    for ours, theirs in zip(reversed(batch), reversed(fn.batch_shape), strict=False):
        if ours != theirs and 1 not in (ours, theirs):
            raise errors.value_against_distribution(msg)


def sample_value(msg: Message) -> None:
    """Is a value that was given inside the support?"""
    value(msg.fn, msg.value, msg.name, msg.where, msg)


def value(fn, value: Tensor, name: str | None = None, where=None, origin="given") -> None:
    """Is a value inside the support? What `fn` has drawn, or was asked about last, is."""
    if not _enabled or (fn._seen is not None and fn._seen() is value):
        return
    support = fn.support
    if not constraints.is_dependent(support):
        try:
            _ask(
                support,
                value,
                lambda: errors.outside_support(
                    name, where or errors.user_frame(), fn, value, origin
                ),
            )
        except RuntimeError as fault:
            told = errors.two_devices(fault, fn, name, where, value)
            if told is fault:
                raise
            raise told from fault
    fn._seen = ref(value)


def density(site: Message, drawn: bool = False) -> Tensor:
    """A site's log-probability by its distribution alone, if all is on one device.

    With `drawn`, that of the draw: of the distribution without its own masks.
    """
    try:
        return (site.fn._unmasked() if drawn else site.fn).log_prob(site.value)
    except RuntimeError as fault:
        told = errors.two_devices(fault, site.fn, site.name, site.where, site.value)
        if told is fault:
            raise
        raise told from fault


def plated(site: Message) -> None:
    """Does every dimension of a site's log-probability belong to a plate?"""
    if not _enabled:
        return
    shape = site.log_prob.shape
    sizes = {frame.dim: frame.size for frame in site.plates if frame.vectorized}
    for dim in range(-1, -len(shape) - 1, -1):
        if shape[dim] > 1 and sizes.get(dim) != shape[dim]:
            raise errors.not_in_a_plate(site, dim, shape[dim], shape)
