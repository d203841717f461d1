"""Runs of SVI as native code: the step captured as one graph, and the whole loop compiled."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
import torch.utils._pytree as pytree
from torch import Tensor

from .. import errors
from ..capture import native
from ..capture.native import NotCompiled
from ..capture.program import _inputs
from ..capture.step import _moving, capture_step
from ..capture.tracing import FAULTS
from ..effects import active_handlers
from ..params import ParamStore
from .feed import Feed, Kind

if TYPE_CHECKING:
    from .svi import SVI

_WORTH_IT = 5.0  # seconds of steps in Python
_SECONDS = 0.1  # a stretch of native steps ends after this long: for interrupts and progress bars


class Native:
    """The steps of one run as native code: captured here, compiled in a process of its own.

    Args:
        feed: of the run, when at least one step has been taken in Python.

    Raises:
        NotCompiled: the step is no graph of operations that a loop can hold; says why.
    """

    def __init__(self, svi: SVI, store: ParamStore, feed: Feed, args: tuple, kwargs: dict):
        if feed.seeded:
            raise NotCompiled("a seed inside the program makes its draws the same in every step")
        if any(handler.generators is None for handler in active_handlers()):
            raise NotCompiled("handlers are in force around it; put them around the model")
        if _moving(svi.optim) is not svi.optim:
            raise NotCompiled("its learning rate follows a schedule")
        try:
            captured = capture_step(svi, *args, **kwargs)
        except errors.CaptureError as fault:
            raise NotCompiled(f"{_headline(fault)} ({fault.where})") from fault
        except FAULTS as fault:  # the program's own would have come out in Python
            raise NotCompiled(f"{type(fault).__name__}: {_headline(fault)}") from fault
        free, past = {}, {}
        for name in captured.carried()["free"]:
            leaf = store.unconstrained(name)
            free[name], past[name] = leaf.detach(), svi.optim._past(name, leaf)
        carried = {"free": free, "past": past}
        self._carried = pytree.tree_leaves(carried)
        program, inputs, self._sizes = captured.captured._program_for(
            (carried, captured.rates(), args, kwargs)
        )
        self._before = [x for x in _inputs(program, inputs) if isinstance(x, Tensor)]
        self._after = captured.captured._closed(program)
        self._kinds = [Kind(*row) for row in native.rows_of(program, self._sizes)]
        self._settle_memory()
        self._step = native.Step(program, len(self._carried), self._sizes)
        self._compilation: native.Compilation | None = None
        self._loop = native.found(self._step)

    def _settle_memory(self) -> None:
        """Native code reads and writes numbers where they lie."""
        n = len(self._carried)
        for tensor in [*self._before, *self._after]:
            if tensor.device.type != "cpu":
                raise NotCompiled(f"it has tensors on {tensor.device}; loops run on the CPU so far")
        if not all(x.is_contiguous() for x in self._before[:n]):
            raise NotCompiled("a parameter's numbers do not lie one after another in memory")
        self._before[n:] = [x.detach().contiguous() for x in self._before[n:]]
        self._after = [x.detach().contiguous() for x in self._after]

    # -- compiling -----------------------------------------------------------------------------
    def start(self) -> None:
        """Begin to compile, unless the native code is there already."""
        if self._loop is None and self._compilation is None:
            self._compilation = native.Compilation(self._step)

    def ready(self) -> bool:
        """Whether `take` need not wait."""
        return self._loop is not None or (
            self._compilation is not None and self._compilation.ready()
        )

    def wait(self) -> None:
        """Wait for the native code.

        Raises:
            NotCompiled: the compiler fails, or the code is not for these sizes.
        """
        self.start()
        if self._loop is None:
            self._loop = self._compilation.loop()
        nothing = torch.empty(0)  # no step: the loop looks at the sizes alone
        inputs = [*self._before, *[nothing] * len(self._kinds), *self._after]
        self._loop.run(0, self._sizes, inputs, nothing)

    def stop(self) -> None:
        """Compile no further."""
        if self._compilation is not None:
            self._compilation.stop()

    # -- running -------------------------------------------------------------------------------
    def take(self, feed: Feed, done: int, most: int) -> tuple[Tensor, bool]:
        """After `done` steps, take up to `most` more; parameters and the optimiser's past move.

        Returns:
            The losses, and whether all went well: if not, the step after them has failed and has
            changed nothing.
        """
        losses, until, well = [], time.monotonic() + _SECONDS, True
        while most and well and time.monotonic() < until:
            feed.at(done)
            steps, rows = feed.window(self._kinds, most)
            part = torch.empty(steps, dtype=self._step.loss)
            inputs = [*self._before, *rows, *self._after]
            taken = self._loop.run(steps, self._sizes, inputs, part)
            well = taken == steps
            done, most = done + taken, most - taken
            losses.append(part[:taken])
        torch.autograd.graph.increment_version(self._carried)
        return torch.cat(losses), well


class Race:
    """Decides where the steps of a run are taken: in Python, or as native code.

    Args:
        patient: whether to wait for the native code; otherwise it is made on the side, when the
            steps left would take long enough in Python.
    """

    def __init__(self, svi: SVI, store: ParamStore, feed: Feed, args, kwargs, patient: bool):
        self._given = svi, store, feed, args, kwargs
        self._patient = patient
        self._native: Native | None = None
        self._lost = False
        self._first = (0, 0.0)  # after the first stretch in Python: steps done, and when

    def native(self, done: int, left: int) -> Native | None:
        """What takes the next steps; None: Python does."""
        if self._lost or not done:
            return None
        try:
            if self._native is None and (self._patient or self._worth_it(done, left)):
                self._native = Native(*self._given)
                self._native.start()
            if self._native is not None and (self._patient or self._native.ready()):
                self._native.wait()
                return self._native
        except (NotCompiled, OSError) as fault:  # a full disk, say, or a folder that runs nothing
            self._lost = True
            errors.warn(errors.not_compiled(str(fault)))
        return None

    def _worth_it(self, done: int, left: int) -> bool:
        now = time.monotonic()
        if not self._first[0]:
            self._first = done, now
            return False
        steps, seconds = done - self._first[0], now - self._first[1]
        return seconds / steps * left > _WORTH_IT

    def stop(self) -> None:
        """The run is over."""
        if self._native is not None:
            self._native.stop()


def _headline(fault: Exception) -> str:
    return str(fault).partition("\n")[0]
