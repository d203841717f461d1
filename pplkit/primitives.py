"""The statements of the language: what a model says.

Each writes a message and performs it; none of them knows which handlers listen.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import ref

import torch
from torch import Tensor
from torch.distributions import constraints

from . import checks, errors, mending
from .distributions import Distribution, Unit, adopt
from .effects import Handler, Message, PlateFrame, active_handlers, made_in, perform
from .params import get_param_store
from .randomness import drawing


def sample(
    name: str,
    fn: Distribution | None = None,
    *args,
    obs=None,
    obs_mask: Tensor | None = None,
    infer: dict | None = None,
    **kwargs,
) -> Tensor:
    """A random variable: draw it, or observe it, under a name.

    Args:
        name: unique in a run of the model.
        fn: its distribution.
        obs: data: a tensor, a NumPy array or a number, whose shape fits the distribution's inside
            its plates.
        obs_mask: booleans of the plates' shape: which rows are observed. The others are drawn, at
            the site `<name>_unobserved`.
        infer: advice to inference algorithms, for this site.

    Returns:
        Its value, drawn, observed, or put there by a handler, of the shape of the enclosing plates
        and then of the distribution's event.

    Raises:
        DistributionError: parameters or observation outside what the distribution allows.
        ShapeError: shapes that fit neither distribution nor plates.

    >>> import pplkit.distributions as dist
    >>> sample("x", dist.Normal(torch.zeros(2), 1.0)).shape
    torch.Size([2])
    >>> sample("y", dist.Bernoulli(0.5), obs=1.0)
    tensor(1.)
    """
    _check_name("sample", name)
    if not isinstance(fn, Distribution):
        if not isinstance(fn, torch.distributions.Distribution):
            raise errors.not_a_distribution(name, fn)
        fn = adopt(fn)
    if (args and not isinstance(args[0], (tuple, torch.Size))) or kwargs.keys() - {"sample_shape"}:
        raise errors.not_obs(name, args, kwargs)
    obs = None if obs is None else as_value(name, obs)

    def said(name, obs=None, mask=None):
        where, advice = errors.user_frame(), dict(infer or ())
        used = mending.usable(fn, name, where)  # before plates repeat its parameters
        return perform(
            Message(
                "sample",
                name,
                used,
                args,
                kwargs,
                obs,
                obs is not None,
                (),
                1.0,
                mask,
                advice,
                where=where,
            )
        )

    if obs is None or obs_mask is None:
        return said(name, obs)
    # Partly observed: two sites, each counted where it holds, and the rows of both put together.
    keep = errors.boolean_mask(name, obs_mask)
    seen, unseen = said(f"{name}_observed", obs, keep), said(f"{name}_unobserved", None, ~keep)
    rows = keep.reshape(keep.shape + (1,) * fn.event_dim)
    try:
        value = torch.where(rows, seen, unseen)
    except RuntimeError as fault:
        raise errors.invalid_obs_mask(name, keep, fn, unseen) from fault
    return deterministic(name, value, event_dim=fn.event_dim)


def as_value(name: str, value: Any) -> Tensor:
    """What a user gives as a site's value, as a tensor: numbers, lists and NumPy arrays will do."""
    if isinstance(value, Tensor):
        return value
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as fault:
        raise errors.value_not_tensor(name, value) from fault
    return tensor


def deterministic(name: str, value: Tensor, event_dim: int | None = None) -> Tensor:
    """Remember a computed value under a name; it has no probability of its own.

    Args:
        value: of any shape, batch dimensions on the left.
        event_dim: how many rightmost dimensions are one value; all, unless told.

    >>> deterministic("twice", torch.tensor(2.0))
    tensor(2.)
    """
    _check_name("deterministic", name)
    value, where = as_value(name, value), errors.user_frame()
    return perform(
        Message("deterministic", name, None, (), {"event_dim": event_dim}, value, where=where)
    )


def factor(name: str, log_factor: Tensor, *, has_rsample: bool | None = None) -> None:
    """Add a term to the log-probability of the model.

    Args:
        log_factor: shape: that of the enclosing plates.
        has_rsample: in a guide, whether the term is differentiable in the guide's draws.

    >>> from pplkit import handlers
    >>> tr = handlers.trace(lambda: factor("penalty", torch.tensor(-2.0))).get_trace()
    >>> tr.log_prob_sum()
    tensor(-2.)
    """
    unit = Unit(as_value(name, log_factor), has_rsample=has_rsample)
    sample(
        name,
        unit,
        obs=unit.log_factor.new_empty(unit.log_factor.shape + (0,)),
        infer={"is_auxiliary": True},
    )


def param(
    name: str,
    init_tensor: Tensor | Callable[[], Tensor] | None = None,
    constraint: constraints.Constraint = constraints.real,
    event_dim: int | None = None,
) -> Tensor:
    """A parameter to be optimised: made at first use, then read from the parameter store.

    Args:
        init_tensor: its first value, or a function that makes it; floating point, any shape.
        constraint: where it must stay, as `dist.constraints.positive`.
        event_dim: how many rightmost dimensions are one value; all, unless told.

    Returns:
        Its value. `.unconstrained()` of it is the leaf tensor that an optimiser moves.

    Raises:
        ParamError: no value yet; a value outside the constraint; a leftover of another shape or
            constraint.

    >>> from pplkit import clear_param_store
    >>> clear_param_store()
    >>> param("scale", torch.tensor(1.0), constraint=constraints.positive).item()
    1.0
    """
    _check_name("param", name)
    where = errors.user_frame()

    def read(init, constraint, event_dim):
        return get_param_store().setdefault(name, init, constraint, event_dim, where)

    kwargs = {"constraint": constraint, "event_dim": event_dim}
    return perform(Message("param", name, read, (init_tensor,), kwargs, where=where))


def _check_name(statement: str, name: Any) -> None:
    if not isinstance(name, str):
        raise errors.name_not_string(statement, name)
    if "tensor(" in name:
        errors.warn(errors.tensor_in_name(statement, name))


def module(name: str, nn_module: torch.nn.Module, update_module_params: bool = False):
    """Make the parameters of a neural network parameters of the program.

    Each is named `<name>$$$<its name in the module>`. Values that the store already has, from an
    earlier module of the same make, are copied into this one.

    Args:
        nn_module: its parameters that require gradients take part.
        update_module_params: accepted for Pyro's sake; the module always holds the parameters.

    Returns:
        The module.

    >>> from pplkit import clear_param_store, get_param_store
    >>> clear_param_store()
    >>> net = module("net", torch.nn.Linear(2, 1))
    >>> list(get_param_store())
    ['net$$$weight', 'net$$$bias']
    """
    _check_name("module", name)
    if not isinstance(nn_module, torch.nn.Module):
        raise errors.wrong_argument("module", "nn_module=", nn_module, "a torch.nn.Module")
    for inner, parameter in nn_module.named_parameters():
        if parameter.requires_grad:
            param(f"{name}$$${inner}", parameter)
    return nn_module


# -- plates ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Subsample:
    """Which rows of a plate take part: all of them, or some drawn without replacement."""

    size: int
    subsample_size: int
    device: torch.device | None = None

    def __call__(self) -> Tensor:
        if self.subsample_size == self.size:
            return torch.arange(self.size, device=self.device)
        with drawing():
            return torch.randperm(self.size, device=self.device)[: self.subsample_size]


class _Rows(Handler):
    """A plate in force: tells the statements inside it of the rows they have."""

    def __init__(self, frame: PlateFrame, indices: Tensor):
        super().__init__()
        self.frame, self.indices = frame, indices

    def process_message(self, msg: Message) -> None:
        if msg.type == "plate":
            return
        frame = self.frame
        msg.plates = (frame, *msg.plates)
        if frame.size != frame.full_size:  # of a parameter too: it may be lifted
            msg.scale = msg.scale * (frame.full_size / frame.size)
        if not frame.vectorized:
            return
        if msg.type == "sample":
            msg.fn = self._widened(msg)

    def postprocess_message(self, msg: Message) -> None:
        frame, event_dim = self.frame, msg.kwargs.get("event_dim")
        if msg.type not in ("param", "subsample") or not frame.vectorized or event_dim is None:
            return
        dim = frame.dim - event_dim
        if msg.value.dim() < -dim or msg.value.shape[dim] == 1:
            return
        if msg.value.shape[dim] != frame.full_size:
            return errors.tell(errors.rows_against_plate(msg, frame, msg.value.shape[dim]))
        if frame.size != frame.full_size:
            msg.value = msg.value.index_select(dim, self.indices.to(msg.value.device))

    def ended_by(self, fault: BaseException, tb) -> None:
        if (told := errors.one_number_of_rows(self.frame, fault, tb)) is not None:
            raise told from fault

    def _widened(self, msg: Message) -> Distribution:
        """The distribution, with this plate's rows at this plate's dimension."""
        frame, shape = self.frame, list(msg.fn.batch_shape)
        shape = [1] * (-frame.dim - len(shape)) + shape
        if shape[frame.dim] not in (1, frame.size):
            found = shape[frame.dim]
            errors.tell(errors.plate_against_distribution(msg, frame, found, open_plates()))
            shape[frame.dim] = frame.size
            return mending.stand_in(msg.fn, shape)
        shape[frame.dim] = frame.size
        if len(shape) == len(msg.fn.batch_shape) and tuple(shape) == msg.fn.batch_shape:
            return msg.fn
        wide = msg.fn.expand(torch.Size(shape))
        wide._parameters_checked = msg.fn._parameters_checked  # rows repeat, values do not change
        return wide


class plate(Handler):
    """Independent rows: a context in which each statement is made for all of them at once.

    `with plate("data", 3):` makes each statement inside three independent ones, in one call: three
    rows at the plate's dimension. `for i in plate("data", 3):` runs the block three times instead.

    Args:
        name: unique among the plates that are open together.
        size: how many rows; at least 1.
        subsample_size: how many of them take part in a run, drawn without replacement; log-
            probabilities
            are scaled up to the whole.
        subsample: the indices of those that take part, when they are chosen by the caller.
        dim: the batch dimension, negative; unless told, the rightmost that is free where the plate
            is first entered.
        device: of the indices.

    As a context manager it returns the indices of its rows, shape `(subsample_size,)`.

    Raises:
        PlateError: an impossible size, or a dimension already taken.

    >>> import pplkit.distributions as dist
    >>> with plate("data", 3):
    ...     sample("x", dist.Normal(0.0, 1.0)).shape
    torch.Size([3])
    >>> [sample(f"x_{i}", dist.Normal(0.0, 1.0)).shape for i in plate("loop", 2)]
    [torch.Size([]), torch.Size([])]
    """

    def __init__(self, name, size=None, subsample_size=None, subsample=None, dim=None, device=None):
        super().__init__()
        _check_name("plate", name)
        size = _whole(name, size, "size")
        if subsample is not None:
            subsample = torch.as_tensor(subsample, device=device)
            if (
                subsample.dim() != 1
                or subsample.is_floating_point()
                or subsample.dtype == torch.bool
            ):
                raise errors.subsample_not_rows(name, subsample)
            checks.rows(name, subsample, size)
            if subsample_size is not None and subsample_size != len(subsample):
                raise errors.subsample_mismatch(name, subsample_size, len(subsample))
            subsample_size = len(subsample)
        if subsample_size is not None:
            subsample_size = _whole(name, subsample_size, "subsample_size")
            if subsample_size > size:
                errors.tell(errors.subsample_too_large(name, size, subsample_size))
                subsample_size, subsample = size, None
        if dim is not None and (not isinstance(dim, int) or dim >= 0):
            raise errors.plate_dim_positive(name, dim)
        self.name, self.size, self.dim, self._given = name, size, dim, subsample
        self.subsample_size = size if subsample_size is None else subsample_size
        self.device, self._maker = device, made_in()
        self._drawn: Tensor | None = None
        self._run: list[ref] = []  # the traces under which they were drawn

    @property
    def indices(self) -> Tensor:
        """The rows that take part, shape `(subsample_size,)`."""
        run = [h.trace for h in active_handlers() if h.remembers_plates]
        if self._drawn is not None and [trace() for trace in self._run] == run:
            return self._drawn
        self._run = [ref(trace) for trace in run]
        rows = Subsample(self.size, self.subsample_size, self.device)
        # A trace remembers which rows a run has; without one this object does.
        message = Message("plate", self.name, rows, value=self._given, where=errors.user_frame())
        self._drawn = perform(message)
        return self._drawn

    def __enter__(self) -> Tensor:
        indices = self.indices
        frame = PlateFrame(self.name, self._free_dim(), len(indices), self.size)
        self._push(_Rows(frame, indices), sys._getframe(1))
        return indices

    def __iter__(self) -> Iterator[int]:
        indices, whole = self.indices, self._given is None and self.subsample_size == self.size
        for counter, i in enumerate(range(self.size) if whole else indices.tolist()):
            self._check_not_open()
            frame = PlateFrame(self.name, None, self.subsample_size, self.size, counter)
            self._push(_Rows(frame, self.indices), self._maker)
            try:
                yield i
            finally:
                self.__exit__(None, None, None)

    def __len__(self) -> int:
        raise errors.plate_has_no_len(self.name, self.size, self.subsample_size)

    def __bool__(self) -> bool:
        return True

    def __call__(self, fn: Callable) -> Callable:
        """As a decorator: the function runs inside the plate."""
        if not callable(fn):
            raise errors.decorator_needs_function("plate")

        @functools.wraps(fn)
        def inside(*args, **kwargs):
            with self:
                return fn(*args, **kwargs)

        return inside

    def _free_dim(self) -> int:
        taken = {frame.dim: frame for frame in self._check_not_open() if frame.vectorized}
        if self.dim is None:  # chosen once: the plate's rows stay at one dimension
            self.dim = next(dim for dim in range(-1, -len(taken) - 2, -1) if dim not in taken)
        if self.dim in taken:
            free = next(dim for dim in range(-1, -len(taken) - 2, -1) if dim not in taken)
            errors.tell(errors.plate_dim_taken(self.name, self.dim, taken[self.dim], free))
            return free
        for handler in active_handlers():
            first = handler.first_available_dim
            if first is not None and self.dim <= first:
                raise errors.plate_among_alternatives(self.name, self.dim, first)
        return self.dim

    def _check_not_open(self) -> list[PlateFrame]:
        open_frames = open_plates()
        if any(frame.name == self.name for frame in open_frames):
            raise errors.plate_inside_itself(self.name)
        return open_frames

    def __repr__(self) -> str:
        return f"plate({self.name!r}, {self.size})"


def open_plates() -> list[PlateFrame]:
    """The plates that a statement made here would stand in, outermost first."""
    return [handler.frame for handler in active_handlers() if isinstance(handler, _Rows)]


@contextmanager
def plate_stack(prefix: str, sizes: Sequence[int], rightmost_dim: int = -1) -> Iterator[None]:
    """Nested plates, one for each size; the last size stands at `rightmost_dim`.

    >>> import pplkit.distributions as dist
    >>> with plate_stack("rows", [3, 2]):
    ...     sample("x", dist.Normal(0.0, 1.0)).shape
    torch.Size([3, 2])
    """
    with ExitStack() as stack:
        for i, size in enumerate(reversed(sizes)):
            stack.enter_context(plate(f"{prefix}_{i}", size, dim=rightmost_dim - i))
        yield


def subsample(data: Tensor, event_dim: int) -> Tensor:
    """The rows of `data` that take part in this run of the plates around.

    Args:
        data: has a row for each of a plate's at that plate's dimension, left of the event's.
        event_dim: how many rightmost dimensions belong to one row.

    >>> with plate("data", 10, subsample_size=3):
    ...     subsample(torch.zeros(10, 2), event_dim=1).shape
    torch.Size([3, 2])
    """
    if not isinstance(event_dim, int) or event_dim < 0:
        raise errors.wrong_argument("subsample", "event_dim=", event_dim, "a whole number, from 0")
    where = errors.user_frame()
    return perform(
        Message("subsample", "data", None, (), {"event_dim": event_dim}, data, where=where)
    )


def _whole(name: str, size: Any, what: str) -> int:
    if isinstance(size, Tensor) and size.dim() == 0 and not size.is_floating_point():
        size = int(size)
    try:
        # While a program is captured, sizes are symbols; to ask for the number would fix it.
        whole = size if isinstance(size, torch.SymInt) else size.__index__()
    except (AttributeError, TypeError):
        raise errors.plate_size(name, size, what) from None
    if whole <= 0 or isinstance(size, bool):
        raise errors.plate_size(name, size, what)
    return whole


# -- loops that forget ----------------------------------------------------------------------


class markov(Handler):
    """Declare that a loop remembers only its last steps, so that inference may forget the others.

    Args:
        fn: what to loop over, as `for t in markov(range(10)):`; or a function to decorate; or
            nothing, for a `with`.
        history: how many steps back a variable may depend on.
        keep: whether steps that follow the block still see its variables.

    Each sample statement inside carries, in its `infer`, the names that it may depend on
    (`_markov_scope`) and how deep it stands in markov contexts (`_markov_depth`).

    >>> [t for t in markov(range(3))]
    [0, 1, 2]
    """

    def __init__(self, fn=None, history: int = 1, keep: bool = False):
        if not isinstance(history, int) or history < 0:
            raise errors.wrong_argument("markov", "history=", history, "a whole number, from 0")
        self.steps = None if fn is None or callable(fn) else fn
        super().__init__(fn if callable(fn) else None)
        self.history, self.keep = history, keep
        self.past: list[set[str]] = []
        self.depth, self._maker = 0, made_in()

    def __iter__(self) -> Iterator:
        if self.steps is None:
            raise errors.wrong_argument("markov", "fn=", self.fn, "steps, as range(10)")
        with ExitStack() as stack:
            for step in self.steps:
                stack.enter_context(self)
                yield step

    def __enter__(self):
        self.depth += 1
        if len(self.past) < self.depth:
            self.past.append(set())
        if self.depth == 1:  # steps deepen it, but one handler listens
            self._push(self, sys._getframe(1) if self.steps is None else self._maker)
        return self

    def __exit__(self, exc_type, exc, tb) -> None:
        if not self.keep:
            self.past.pop()
        self.depth -= 1
        if self.depth == 0:
            super().__exit__(exc_type, exc, tb)

    def process_message(self, msg: Message) -> None:
        if msg.type != "sample":
            return
        scope = msg.infer.setdefault("_markov_scope", Counter())
        for names in self.past[max(0, self.depth - 1 - self.history) : self.depth]:
            scope.update(names)
        msg.infer["_markov_depth"] = 1 + msg.infer.get("_markov_depth", 0)
        self.past[self.depth - 1].add(msg.name)
