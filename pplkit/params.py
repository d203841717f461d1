"""The parameter store: constrained outside, unconstrained inside.

An optimiser moves freely over the real line; a scale must stay positive. So each parameter is kept
as an unconstrained leaf tensor, and read through the transform that its constraint asks for.

The store belongs to a context: a new thread starts with an empty one, an asyncio task with a copy
of its creator's.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import constraints, transform_to
from torch.nn import Parameter

from . import checks, errors

# Set while draws are made that no step of a run counts as its own.
ASIDE: ContextVar[bool] = ContextVar("pplkit_aside", default=False)


@contextmanager
def aside() -> Iterator[None]:
    """In the block, what is drawn comes before a run's steps: start values, a look at a model."""
    token = ASIDE.set(True)
    try:
        yield
    finally:
        ASIDE.reset(token)


@dataclass(slots=True, eq=False)
class Entry:
    unconstrained: Tensor  # the leaf that an optimiser moves
    constraint: constraints.Constraint
    shape: torch.Size  # of the constrained value
    event_dim: int | None = None
    transform: Callable[[Tensor], Tensor] | None = None  # None: none is needed

    def __post_init__(self):
        if self.constraint is constraints.positive:
            self.transform = torch.exp  # torch's adds the bound 0 each time
        elif self.constraint is not constraints.real:
            self.transform = transform_to(self.constraint)

    def value(self) -> Tensor:
        leaf = self.unconstrained
        value = leaf if self.transform is None else self.transform(leaf)
        value.unconstrained = weakref.ref(leaf)  # Pyro's users call it, for a penalty, say
        return value


class ParamStore:
    """Named parameters of a context; behaves like a dictionary of constrained tensors.

    As a context manager it becomes the current store inside the block:

    >>> import torch, pplkit
    >>> with ParamStore() as store:
    ...     scale = pplkit.param("scale", torch.tensor(2.0), constraint=constraints.positive)
    >>> store["scale"].item(), store.unconstrained("scale").requires_grad
    (2.0, True)
    """

    def __init__(self):
        self._entries: dict[str, Entry] = {}
        self._fresh: dict[
            str, int
        ] = {}  # parameters no finished step has used yet: when each was made
        # Which guide's steps have moved a parameter since it was made or set.
        self._fitted: dict[str, Callable] = {}
        self._clock = 0
        self._tokens: list = []

    # -- reading ---------------------------------------------------------------------------------
    def __getitem__(self, name: str) -> Tensor:
        if name not in self._entries:
            raise errors.unknown_param(name, list(self._entries))
        return self._entries[name].value()

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def keys(self):
        return self._entries.keys()

    def values(self) -> list[Tensor]:
        return [self[name] for name in self]

    def items(self) -> list[tuple[str, Tensor]]:
        """Names and constrained values."""
        return [(name, self[name]) for name in self]

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        """Names and unconstrained leaves: what an optimiser moves."""
        return [(name, entry.unconstrained) for name, entry in self._entries.items()]

    def unconstrained(self, name: str) -> Tensor:
        """The leaf tensor behind a parameter, any real numbers."""
        if name not in self._entries:
            raise errors.unknown_param(name, list(self._entries))
        return self._entries[name].unconstrained

    def constraint(self, name: str) -> constraints.Constraint:
        return self._entries[name].constraint

    def __repr__(self) -> str:
        inside = ", ".join(
            f"{name}: {list(e.unconstrained.shape)}" for name, e in self._entries.items()
        )
        return f"ParamStore({inside})"

    # -- writing ---------------------------------------------------------------------------------
    def setdefault(
        self,
        name: str,
        init: Tensor | Callable[[], Tensor] | None,
        constraint: constraints.Constraint = constraints.real,
        event_dim: int | None = None,
        where=None,
    ) -> Tensor:
        """The parameter's value, made from `init` when there is none yet.

        A parameter that exists keeps its value; asking for it with another shape or constraint is
        an error, for a stale value would otherwise be used in silence.
        """
        known = self._entries.get(name)
        if known is None:
            if init is None:
                raise errors.param_without_value(name, list(self._entries), where)
            if not isinstance(constraint, constraints.Constraint):
                raise errors.wrong_argument(
                    "param", "constraint=", constraint, "a constraint", "write constraints.positive"
                )
            self._create(name, init, constraint, event_dim, where)
            self._clock += 1
            self._fresh[name] = self._clock
        elif init is not None:
            if self._is_stale(name, known, init, constraint, where):
                self._create(name, init, constraint, event_dim, where)
            elif isinstance(init, Parameter) and init is not known.unconstrained:
                with torch.no_grad():
                    init.copy_(known.unconstrained)
                self._entries[name] = Entry(init, known.constraint, known.shape, known.event_dim)
        return self._entries[name].value()

    def _is_stale(self, name: str, known: Entry, init, constraint, where) -> bool:
        """Raises if it is; where `check` looks for more, says so."""
        what = ""
        if known.constraint is not constraint and str(known.constraint) != str(constraint):
            what, old, new = "constraint", known.constraint, constraint
        elif not callable(init) and (shape := torch.as_tensor(init).shape) != known.shape:
            what, old, new = "shape", tuple(known.shape), tuple(shape)
        if what:
            errors.tell(errors.stale_param(name, what, old, new, where, name in self._fresh))
        return bool(what)

    def __setitem__(self, name: str, value: Tensor) -> None:
        constraint = self._entries[name].constraint if name in self._entries else constraints.real
        self._create(name, value, constraint)
        self._fitted.pop(name, None)

    def __delitem__(self, name: str) -> None:
        if name not in self._entries:
            raise errors.unknown_param(name, list(self._entries))
        del self._entries[name]
        self._fresh.pop(name, None)
        self._fitted.pop(name, None)

    def clear(self) -> None:
        """Forget every parameter."""
        self._entries.clear()
        self._fresh.clear()
        self._fitted.clear()

    def _create(self, name, init, constraint, event_dim=None, where=None) -> None:
        with aside():
            value = torch.as_tensor(init() if callable(init) else init)
        if value.grad_fn is not None:
            errors.warn(errors.init_needs_gradient(name, where))
        if not (value.is_floating_point() or value.is_complex()):
            errors.tell(errors.param_not_float(name, value, where))
            value = value.float()
        with torch.no_grad():
            if constraint is constraints.simplex and checks.holds((value > 0).all()):
                value = value / value.sum(-1, keepdim=True)  # weights will do for a start
            leaf = value
            if not checks.holds(constraint.check(value).all()):
                errors.tell(errors.param_outside_constraint(name, value, constraint, where))
                to_constraint = transform_to(constraint)
                value = to_constraint(torch.zeros_like(to_constraint.inv(value)))
            if constraint is not constraints.real:
                leaf = transform_to(constraint).inv(value)
        # A module computes with its own parameters, so those must be the leaves.
        if not (isinstance(leaf, Parameter) and leaf.requires_grad):
            leaf = leaf.detach().clone().contiguous().requires_grad_()
        self._entries[name] = Entry(leaf, constraint, value.shape, event_dim)

    # -- files -------------------------------------------------------------------------------
    def save(self, filename: str | os.PathLike) -> None:
        """Write every parameter, with its constraint, to a file of tensors and plain values.

        >>> import os, tempfile, pplkit
        >>> with ParamStore() as store, tempfile.TemporaryDirectory() as folder:
        ...     _ = pplkit.param("loc", torch.tensor(2.0))
        ...     store.save(os.path.join(folder, "fit.pt"))
        ...     store.clear()
        ...     store.load(os.path.join(folder, "fit.pt"))
        >>> store["loc"].item()
        2.0
        """
        torch.save(self.get_state(), filename)

    def load(self, filename: str | os.PathLike, map_location=None) -> None:
        """Read what `save` has written; parameters of the same names are replaced.

        Only tensors and plain values are read: a file that would run code is refused.

        Raises:
            ParamError: not such a file. The store is left as it was.
        """
        try:
            state = torch.load(filename, map_location=map_location, weights_only=True)
            self.set_state(dict(state))
        except (
            pickle.UnpicklingError,
            RuntimeError,
            KeyError,
            TypeError,
            ValueError,
            EOFError,
        ) as fault:
            raise errors.not_a_parameter_file(filename, fault) from fault

    def get_state(self) -> dict:
        """Unconstrained values and constraints, by name, as tensors and plain values."""
        return {
            name: {
                "unconstrained": e.unconstrained.detach().clone(),  # later steps write into it
                "constraint": _written(e.constraint),
                "shape": list(e.shape),
                "event_dim": e.event_dim,
            }
            for name, e in self._entries.items()
        }

    def set_state(self, state: dict) -> None:
        """Put back what `get_state` has given."""
        entries = {
            name: Entry(
                given["unconstrained"].detach().clone().requires_grad_(),
                _read(given["constraint"]),
                torch.Size(given["shape"]),
                given["event_dim"],
            )
            for name, given in state.items()
        }
        self._entries.update(entries)
        for name in entries:
            self._fresh.pop(name, None)
            self._fitted.pop(name, None)

    # -- runs and contexts -------------------------------------------------------------------------
    def mark(self) -> int:
        """A moment to which `roll_back` can return."""
        return self._clock

    def roll_back(self, mark: int) -> None:
        """The run that began at `mark` has failed: parameters that it made go."""
        for name in [name for name, made in self._fresh.items() if made > mark]:
            self._entries.pop(name, None)
            self._fitted.pop(name, None)
            del self._fresh[name]

    def settle(self) -> None:
        """A step has used the parameters that there are: they stay, whatever happens next."""
        self._fresh.clear()

    def fitted_by(self, names: Iterable[str], guide: Callable) -> list[str]:
        """A fit of `guide` begins. Which of these parameters had another guide's steps moved?

        Functions are told apart by their identity: defined again, a guide is another.
        """
        guide = getattr(guide, "__func__", guide)
        others = []
        for name in names:
            before = self._fitted.get(name)
            if before is not None and before() is not guide:
                others.append(name)
            self._fitted[name] = weakref.ref(guide)
        return others

    def fork(self) -> ParamStore:
        """A copy that shares nothing with this store."""
        twin = ParamStore()
        for name, e in self._entries.items():
            leaf = e.unconstrained.detach().clone().requires_grad_()
            twin._entries[name] = Entry(leaf, e.constraint, e.shape, e.event_dim)
        return twin

    def __enter__(self) -> ParamStore:
        self._tokens.append(_CURRENT.set((self, user_task())))
        return self

    def __exit__(self, *exc) -> None:
        _CURRENT.reset(self._tokens.pop())


class StandIn(ParamStore):
    """The current store while a program is captured: what runs in it will have run in none."""

    def __init__(self):
        super().__init__()
        self.guests: list = []  # guides that have run in it


def _written(constraint: constraints.Constraint) -> dict:
    """A constraint in plain values: its class, and what that was made with."""
    made_with = {
        key: _written(value) if isinstance(value, constraints.Constraint) else value
        for key, value in vars(constraint).items()
        if not key.startswith("_")
    }
    return {"class": type(constraint).__name__, "made_with": made_with}


def _read(written: dict) -> constraints.Constraint:
    from .distributions import constraints as known

    cls = getattr(known, written["class"], None) or getattr(constraints, written["class"], None)
    if not (isinstance(cls, type) and issubclass(cls, constraints.Constraint)):
        raise ValueError(f"unknown constraint {written['class']!r}")
    made_with = {
        key: _read(value) if isinstance(value, dict) else value
        for key, value in written["made_with"].items()
    }
    alike = [c for c in vars(known).values() if type(c) is cls]
    return alike[0] if alike and not made_with else cls(**made_with)


_CURRENT: ContextVar[tuple[ParamStore, object] | None] = ContextVar("pplkit_params", default=None)
_of_thread = threading.local()


def get_param_store() -> ParamStore:
    """The parameter store of this context.

    >>> import torch, pplkit
    >>> pplkit.clear_param_store()
    >>> _ = pplkit.param("loc", torch.zeros(2))
    >>> list(get_param_store())
    ['loc']
    """
    bound = _CURRENT.get()
    if bound is None:
        if not hasattr(_of_thread, "store"):
            _of_thread.store = ParamStore()
        bound = (_of_thread.store, None)
    store, task = bound
    here = user_task()
    if here is not task and here is not None:
        store = store.fork()
        _CURRENT.set((store, here))
    return store


def clear_param_store() -> None:
    """Forget every parameter of this context: start afresh.

    >>> clear_param_store()
    >>> len(get_param_store())
    0
    """
    get_param_store().clear()


def user_task():
    """The asyncio task that runs here, unless it is a notebook kernel's that runs a cell."""
    if asyncio._get_running_loop() is None:
        return None
    task = asyncio.current_task()
    code = getattr(task.get_coro(), "cr_code", None) if task is not None else None
    if code is not None and ("ipykernel" in code.co_filename or "IPython" in code.co_filename):
        return None
    return task
