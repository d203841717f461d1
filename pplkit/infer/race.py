"""Where the steps of a run are taken: in Python, or as native code that is made on the side."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor

from .. import checks, errors
from ..capture import folder
from ..capture.folder import NotCompiled
from ..effects import active_handlers
from ..optim import Optimizer
from ..params import ParamStore
from .feed import Feed
from .identity import Identity, Unknown

if TYPE_CHECKING:
    from .compiled import Native, Remembered
    from .svi import SVI

# Seconds of steps in Python that are worth compiling for; worth capturing for, when the native code
# is likely to be on disk; worth a look at whether the program is one that is known.
_WORTH_IT, _WORTH_CAPTURING, _WORTH_LOOKING = 5.0, 2.0, 0.02
_SLOW = 1.2  # native code that takes so many times what Python takes is left again


class Race:
    """Decides where the steps of a run are taken.

    Args:
        patient: whether to wait for the native code; otherwise it is made on the side, when the
            steps left would take long enough in Python.
        called_back: whether somebody's function runs between the steps.
    """

    def __init__(
        self, svi: SVI, store: ParamStore, feed: Feed, given: tuple, *, patient, called_back
    ):
        self._svi, self._store, self._feed, self._given = svi, store, feed, given
        self.patient, self._called_back = patient, called_back
        self._native: Native | None = None
        self._identity: Identity | None = None
        self._lost = self._looked = self._watched = self._doubted = self._noted = False
        self._python, self._natively = _Pace(), _Pace()

    # -- what takes the next steps ---------------------------------------------------------------
    def native(self, done: int, left: int) -> Native | None:
        """What takes the next steps, when so many are done and left in all; None: Python does."""
        if self._lost or not done:
            return None
        try:
            if self._doubted:
                self._look_again()
            if self._native is None:
                self._decide(left)
            if self._native is not None and (self.patient or self._native.ready()):
                return self._checked()
        except (NotCompiled, OSError) as fault:  # a full disk, say, or a folder that runs nothing
            self._give_up(str(fault), left)
        except Exception as fault:  # nothing of this may end a run that Python can take
            self._give_up(f"{type(fault).__name__}: {str(fault).partition(chr(10))[0]}", left)
        return None

    def _checked(self) -> Native | None:
        if self._native.failed:
            step = self._svi._steps + 1
            raise NotCompiled(f"its native code has come upon an error at step {step}")
        known = self._natively.known and self._python.known
        if known and not self.patient and self._natively.seconds > _SLOW * self._python.seconds:
            self._lost = True
            return None
        self._native.wait()
        if self._identity is not None and not self._noted:
            self._noted = True
            folder.note(self._identity.digest)
        return self._native

    def took(self, native: bool, steps: int, seconds: float) -> None:
        """So many steps have been taken in so many seconds."""
        (self._natively if native else self._python).note(steps, seconds)

    def called(self) -> None:
        """Somebody's function has run, and may have changed anything."""
        self._doubted = True

    def stop(self, interrupted: bool) -> None:
        """The run is over. What is being compiled will serve the next one, unless it was ended."""
        if self._native is not None and (interrupted or self.patient):
            self._native.stop()

    # -- deciding --------------------------------------------------------------------------------
    def _decide(self, left: int) -> None:
        if not self.patient and not self._python.known:
            return
        seconds = self._python.seconds * left
        if self.patient or seconds > _WORTH_IT:
            if self._is_in_line():
                return
            self._refuse()
            if not self.patient and not self._watched:  # what does a stretch of steps change?
                self._watched, self._identity = True, self._identified_now()
                return
            self._check_unchanged()
            self._bind(capturing=True)
            self._native.start()
        elif seconds > _WORTH_LOOKING and not self._looked:
            self._looked = True
            likely = seconds > _WORTH_CAPTURING + (0 if "sympy" in sys.modules else 1)
            if (likely or _MEMORY) and self._identified():
                seen = likely and folder.noted(self._identity.digest)
                if seen or recall(self._identity) is not None:
                    self._refuse()
                    self._bind(capturing=seen)
        found = self._native
        if found is not None and not (self.patient or seconds > _WORTH_IT or found.ready()):
            self._native = None  # not worth compiling

    def _is_in_line(self) -> bool:
        """Whether this run goes on in Python while something else is compiled on the side: a figure
        that fits a model at each move of a control has many programs, a machine few processors.
        """
        if self.patient or not folder.Compiler.at_work():
            return False
        return not (self._identified() and recall(self._identity) is not None)

    def _bind(self, capturing: bool) -> None:
        """Find the program's graph, or capture it, and put this run's tensors into it."""
        svi, store, (args, kwargs) = self._svi, self._store, self._given
        known = recall(self._identity) if self._identified() else None
        if isinstance(known, str):
            raise NotCompiled(known)
        if self._called_back and self._identity is None:
            why = f"a callback may change what the program reaches, and {self._unknown}"
            raise NotCompiled(why)
        bound, compiler = known and known.bound(svi, store, args, kwargs), None
        if bound is None and capturing:
            if self._identity is None or not folder.noted(self._identity.digest):
                compiler = folder.Compiler()  # what it imports takes as long as a capture
            try:
                from .compiled import Remembered  # takes two seconds to import

                known = Remembered() if known is None else known
                self._capture(known, args, kwargs)
                bound = known.bound(svi, store, args, kwargs)
                if bound is None:
                    raise NotCompiled("the sizes of its arguments are fixed in the program")
            except BaseException:
                if compiler is not None:
                    compiler.stop()
                raise
        if bound is not None:
            from .compiled import Native

            self._native = Native(svi, bound, compiler)

    def _capture(self, known: Remembered, args: tuple, kwargs: dict) -> None:
        fault, before = None, self._identity
        try:
            known.captured(self._svi, args, kwargs)
        except NotCompiled as problem:
            fault = problem
        try:
            self._check_unchanged()  # capturing has run the program
        except NotCompiled as problem:
            fault = problem
        if before is not None:
            remember(before, known if fault is None else str(fault))
        if fault is not None:
            raise fault

    def _check_unchanged(self) -> None:
        """Raise if the program changes what it reaches: in Python each step would see that."""
        before = self._identity
        now = None if before is None else self._identified_now()
        if now is not None and now.told != before.told:
            what = now.difference(before)
            raise NotCompiled(f"{what}, which the program reaches, changes from step to step")

    def _refuse(self) -> None:
        """Raise if this run is one for Python, whatever the graph is."""
        if self._feed.seeded:
            raise NotCompiled("a seed inside the program makes its draws the same in every step")
        if any(handler.generators is None for handler in active_handlers()):
            raise NotCompiled("handlers are in force around it; put them around the model")
        folder.compiler()

    def _look_again(self) -> None:
        """After somebody's function has run: is the program the same, are the tensors?"""
        self._doubted = False
        if self._native is None:
            self._identity = None
            return
        before, now = self._identity, self._identified_now()
        self._native, ready, self._identity = None, self._native, now
        if now is None or before is None or not now.same(before):
            ready.stop()
            return
        self._bind(capturing=False)
        if self._native is not None:
            self._native.start()

    # -- what the program is -----------------------------------------------------------------------
    def _identified(self) -> bool:
        if self._identity is None:
            self._identity = self._identified_now()
        return self._identity is not None

    def _identified_now(self) -> Identity | None:
        args, kwargs = self._given
        try:
            return identity(self._svi, self._store, args, kwargs)
        except Unknown as fault:
            self._unknown = str(fault)
        except Exception as fault:  # an object may do anything when it is looked at
            self._unknown = f"looking through it ends in {type(fault).__name__}"
        return None

    def _give_up(self, why: str, left: int) -> None:
        """The run goes on in Python; say why, once for each program where nobody has asked."""
        self._lost = True
        self.stop(interrupted=True)
        if not self.patient:
            if self._python.seconds * left <= _WORTH_IT:
                return
            told = why if self._identity is None else f"{self._identity.digest} {why}"
            if told in _TOLD:
                return
            _TOLD.add(told)
        errors.warn(errors.not_compiled(why))


class _Pace:
    """How long a step takes: the best stretch counts, for others may have been disturbed."""

    def __init__(self):
        self.seconds, self._stretches = 0.0, 0

    @property
    def known(self) -> bool:
        return self._stretches > 1  # the first one has also made what all steps share

    def note(self, steps: int, seconds: float) -> None:
        self._stretches += bool(steps)
        if self._stretches > 1 and steps:
            each = seconds / steps
            self.seconds = min(self.seconds, each) if self._stretches > 2 else each


# -- programs that are known -----------------------------------------------------------------------

_MOST = 16
_MEMORY: OrderedDict[str, tuple[Identity, Any]] = OrderedDict()
_LOCK = threading.Lock()
_TOLD: set[str] = set()  # what runs that nobody asked to be compiled have said


def recall(identity: Identity) -> Any:
    """What this process remembers of a program: graphs, or why it has none; None: nothing."""
    with _LOCK:
        before, known = _MEMORY.get(identity.digest, (None, None))
        if before is None or not identity.same(before):
            return None
        _MEMORY.move_to_end(identity.digest)
        return known


def remember(identity: Identity, known: Any) -> None:
    """Keep what is known of a program, and forget what has not been asked for longest."""
    with _LOCK:
        _MEMORY[identity.digest] = identity, known
        _MEMORY.move_to_end(identity.digest)
        while len(_MEMORY) > _MOST:
            _MEMORY.popitem(last=False)


def forget() -> None:
    """Forget all programs, and what has been said of them."""
    with _LOCK:
        _MEMORY.clear()
        _TOLD.clear()


def identity(svi: SVI, store: ParamStore, args: tuple, kwargs: dict) -> Identity:
    """What a captured step of this inference depends on, but for what are its inputs.

    Raises:
        Unknown: what cannot be told.
    """
    leaves, spec = pytree.tree_flatten((args, kwargs))
    if torch.overrides._len_torch_function_stack():
        raise Unknown("a mode of torch is in force")
    return Identity(
        {
            "the model": svi.model,
            "the guide": svi.guide,
            "the loss": svi.loss,
            "the optimiser": _settings(svi.optim, svi._names),
            "an argument": [str(spec), *map(_as_input, leaves)],
            "a parameter": [_entry(name, store) for name in store],
            "torch": _surroundings(),
        },
        apart=[store],  # an automatic guide knows it; its entries are told above
    )


def _as_input(leaf: Any) -> Any:
    """Of an input what is no input of the graph: not its numbers, nor its sizes."""
    if isinstance(leaf, Tensor):
        kind = type(leaf).__name__
        return (kind, leaf.dtype, leaf.device, leaf.dim(), leaf.requires_grad, leaf.layout)
    if type(leaf) in (int, float):
        return type(leaf).__name__
    if hasattr(leaf, "__array__"):
        return (type(leaf).__name__, str(leaf.dtype), leaf.ndim)
    return leaf


def _entry(name: str, store: ParamStore) -> tuple:
    entry = store._entries[name]
    leaf = entry.unconstrained
    made = leaf if isinstance(leaf, torch.nn.Parameter) else None
    kind = (str(leaf.dtype), str(leaf.device), leaf.dim(), leaf.requires_grad)
    return (name, entry.constraint, entry.event_dim, kind, len(entry.shape), made)


def _settings(optim: Optimizer, names: Any) -> list:
    inner = getattr(optim, "inner", optim)
    own = {k: v for k, v in vars(inner).items() if k not in _NO_SETTINGS}
    schedules = vars(optim).get("_schedules", {}).values()
    cycles = any(getattr(schedule, "cycle_momentum", False) for schedule in schedules)
    rates = {"lr", "momentum", "betas"} if cycles else {"lr"}
    found = [type(optim), type(inner), own]
    for name in names:
        options = {k: v for k, v in inner.options(name).items() if k not in rates}
        found.append((name, options, inner._clip_options(name)))
    return [*found, cycles]


_NO_SETTINGS = {"optim_args", "clip_args", "_options", "_clipping", "_leaves", "state"}
_NO_SETTINGS |= {"_optimisers"}


def _surroundings() -> list:
    """What the whole process has set, and a graph holds."""
    from torch.distributions import kl, transforms

    registered = (kl._KL_REGISTRY, torch.distributions.biject_to._registry)
    return [
        str(torch.__version__),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.are_deterministic_algorithms_enabled(),
        checks._enabled,
        torch.distributions.Distribution._validate_args,
        [len(x) for x in registered],
        transforms.__name__,
    ]
