"""Runs of SVI as native code: the step captured as one graph, and the whole loop compiled."""

from __future__ import annotations

import copy
import math
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor

from .. import errors
from ..capture import native
from ..capture.folder import NotCompiled
from ..capture.native import LoopFailed
from ..capture.program import _inputs
from ..capture.step import CapturedStep, _moving, capture_step, numbers, rates
from ..optim import Optimizer
from ..params import ParamStore
from .feed import Feed, Kind

if TYPE_CHECKING:
    from .svi import SVI

_SECONDS = 0.1  # a stretch of native steps ends after this long: for interrupts and progress bars
_MOST = 8  # graphs of one program, for sizes that it fixes
_FIRST = 16  # steps after which it is known how long one takes


class Remembered:
    """What is kept of captured steps for further runs of the same program: their graphs, and no
    tensor of the run that they were captured in.
    """

    def __init__(self):
        self._known: list[tuple[Any, list[str], list]] = []
        self._held: list[Tensor] = []  # what was closed over, until a run has bound it
        self._steps: dict[tuple, native.Step] = {}

    def captured(self, svi: SVI, args: tuple, kwargs: dict) -> None:
        """Capture the step as it is now.

        Raises:
            NotCompiled: the step is no graph of operations that a loop can hold; says why.
        """
        try:
            step = capture_step(svi, *args, **kwargs)
        except errors.CaptureError as fault:
            raise NotCompiled(f"{_headline(fault)} ({fault.where})") from fault
        except Exception as fault:  # the program's own would have come out in Python
            raise NotCompiled(f"{type(fault).__name__}: {_headline(fault)}") from fault
        self._keep(step)

    def _keep(self, step: CapturedStep) -> None:
        whole = step.captured
        made = {id(e.unconstrained): n for n, e in (whole._store or ParamStore())._entries.items()}
        for program in whole.programs:
            traced = program.traced
            closed = [made.get(id(x)) or weakref.ref(x) for x in traced.closed]
            lean = copy.copy(whole)
            lean.fn = lean._store = None
            lean.programs = [replace(program, example=[], traced=replace(traced, closed=[]))]
            self._known = [*self._known[1 - _MOST :], (lean, step._names, closed)]
            self._held += traced.closed

    def bound(self, svi: SVI, store: ParamStore, args: tuple, kwargs: dict) -> _Bound | None:
        """A program for these arguments, with its inputs; None: there is none yet."""
        for lean, names, closed in self._known:
            if not all(name in store for name in names):
                continue
            found = _Bound(svi, store, names)
            given = {"free": found.free, "past": found.past}, found.rates(), args, kwargs
            try:
                leaves = lean._leaves(given)
            except errors.CaptureError:
                continue
            program = lean.programs[0]
            found.sizes = program.sizes(leaves)
            if found.sizes is None:
                continue
            after = [store.unconstrained(x) if isinstance(x, str) else x() for x in closed]
            if any(x is None for x in after):
                continue
            found.program = program
            found.settle([x for x in _inputs(program, leaves) if isinstance(x, Tensor)], after)
            found.step, self._held = self._step(found), []
            return found
        return None

    def _step(self, found: _Bound) -> native.Step:
        scheduled = len(found.rates()) if found.scheduled else 0
        key = id(found.program), tuple(found.sizes.values()), scheduled, found.device
        if key not in self._steps:
            if len(self._steps) > 64:
                self._steps.clear()
            parts = found.program, len(found.carried), found.sizes, scheduled, found.device
            self._steps[key] = native.Step(*parts)
        return self._steps[key]


class _Bound:
    """A program's inputs, as they are now in one inference."""

    program: Any
    sizes: dict
    step: native.Step
    device: torch.device | None  # where the steps are recorded; None: the processor loops

    def __init__(self, svi: SVI, store: ParamStore, names: list[str]):
        self.optim, self.names = svi.optim, names
        self.free, self.past = {}, {}
        for name in names:
            leaf = store.unconstrained(name)
            self.free[name] = leaf.detach()
            self.past[name] = _moving(svi.optim)._past(name, leaf)
        self.carried = pytree.tree_leaves({"free": self.free, "past": self.past})

    @property
    def scheduled(self) -> bool:
        return _moving(self.optim) is not self.optim

    def rates(self) -> dict[str, Tensor]:
        return rates(self.optim, self.free)

    def settle(self, before: list[Tensor], after: list[Tensor]) -> None:
        """Native code reads and writes numbers where they lie."""
        n = len(self.carried)
        home = _home(self.carried, [*before, *after])
        if not all(x.is_contiguous() for x in before[:n]):
            raise NotCompiled("a parameter's numbers do not lie one after another in memory")
        self.before = [*before[:n], *(x.detach().to(home).contiguous() for x in before[n:])]
        self.after = [x.detach().to(home).contiguous() for x in after]
        self.device = home if _is_recorded_on(home) else None


def _home(carried: list[Tensor], others: list[Tensor]) -> torch.device:
    """The device of a step; single numbers, which may be elsewhere, are taken there."""
    found = {x.device for x in carried} | {x.device for x in others if x.dim()}
    found = found or {x.device for x in others}
    if len(found) > 1:
        listed = " and ".join(sorted(map(str, found)))
        raise NotCompiled(f"it has tensors on {listed}, and a loop runs on one device")
    home = next(iter(found), torch.device("cpu"))
    if home.type not in ("cpu", "cuda"):
        raise NotCompiled(f"it has tensors on {home}; loops run on the CPU and on CUDA devices")
    return home


def _is_recorded_on(device: torch.device) -> bool:
    return device.type == "cuda"


class Native:
    """The steps of one run as native code, compiled in a process of its own.

    Args:
        bound: from `Remembered.bound`.
        compiler: one that has been started already; it is ended here unless it is needed.
    """

    def __init__(self, svi: SVI, bound: _Bound, compiler: native.Compiler | None = None):
        self._svi, self._bound = svi, bound
        self._kinds = [Kind(*row) for row in native.rows_of(bound.program, bound.sizes)]
        self._rates = _Rates(svi.optim, bound.names) if bound.scheduled else None
        self._pace = 0.0  # seconds for a step; 0: not yet known
        self._compilation: native.Compilation | None = None
        self._loop = native.found(bound.step)
        self._compiler = compiler if self._loop is None else None
        if compiler is not None and self._loop is not None:
            compiler.stop()
        self.failed = False  # a step has come upon what Python raises an exception for

    # -- compiling -----------------------------------------------------------------------------
    def start(self) -> None:
        """Begin to compile, unless the native code is there already."""
        if self._loop is None and self._compilation is None:
            self._compilation = native.Compilation.of(self._bound.step, self._compiler)

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
        # No step: the loop looks at the sizes alone.
        nothing = [torch.empty(0, *k.shape, dtype=k.dtype, device=k.device) for k in self._kinds]
        self._loop.run(0, self._bound.sizes, self._inputs(nothing), torch.empty(0))

    def stop(self) -> None:
        """Compile no further."""
        for begun in (self._compilation, self._compiler):
            if begun is not None:
                begun.stop()

    # -- running -------------------------------------------------------------------------------
    def _inputs(self, noise: list[Tensor], rows: list[Tensor] | None = None) -> list[Tensor]:
        before, n = self._bound.before, len(self._bound.carried)
        if rows is not None:
            rows = [row.to(self._bound.device or "cpu") for row in rows]
            before = [*before[:n], *rows, *before[n + len(rows) :]]
        return [*before, *noise, *self._bound.after]

    def take(self, feed: Feed, done: int, most: int) -> tuple[Tensor, bool]:
        """After `done` steps, take up to `most` more; parameters and the optimiser's past move.

        Returns:
            The losses, and whether all went well: if not, the step after them has failed and has
            changed nothing.
        """
        losses, until, well = [], time.monotonic() + _SECONDS, True
        while most and well and not self.failed and time.monotonic() < until:
            part, well = self._stretch(feed, done, min(most, self._many()))
            done, most = done + len(part), most - len(part)
            losses.append(part)
        return torch.cat(losses), well

    def _many(self) -> int:
        """How many steps are taken at once: an interrupt waits for all of them."""
        if self._rates is not None and self._rates.follows_losses:
            return 1
        return max(1, int(_SECONDS / self._pace)) if self._pace else _FIRST

    def _stretch(self, feed: Feed, done: int, most: int) -> tuple[Tensor, bool]:
        feed.at(done)
        steps, noise = feed.window(self._kinds, most)
        step = self._bound.step
        losses = torch.full((steps,), math.nan, dtype=step.loss, device=step.device)
        start = time.perf_counter()
        try:
            if self._rates is None:
                self._run(steps, noise, losses)
            else:
                with self._rates.ahead(steps, losses) as rows:
                    self._run(steps, noise, losses, rows)
        finally:  # whatever has stopped it, parameters are where these steps have brought them
            taken = _taken(losses)
            self._svi._steps += taken
            torch.autograd.graph.increment_version(self._bound.carried)
        self._pace = (time.perf_counter() - start) / max(1, taken)
        return losses[:taken], taken == steps or self.failed

    def _run(self, steps: int, noise: list, losses: Tensor, rows: list | None = None) -> None:
        try:
            self._loop.run(steps, self._bound.sizes, self._inputs(noise, rows), losses)
        except LoopFailed:
            self.failed = True


def _taken(losses: Tensor) -> int:
    """How many steps have filled in their loss, which is a finite number."""
    missing = losses.isnan().nonzero()
    return int(missing[0]) if len(missing) else len(losses)


class _Rates:
    """The learning rates of steps to come, as a schedule has them."""

    def __init__(self, optim: Optimizer, names: list[str]):
        self._optim, self._names = optim, names
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
        self.follows_losses = isinstance(optim.scheduler_constructor, type) and issubclass(
            optim.scheduler_constructor, plateau
        )
        self._others = self._settings()

    def _settings(self) -> list[dict]:
        """What is no rate: constants of the graph."""
        changing = {"lr", "momentum", "betas"} if _momentum_too(self._optim) else {"lr"}
        options = [self._optim.options(name) for name in self._names]
        return [{k: v for k, v in found.items() if k not in changing} for found in options]

    @contextmanager
    def ahead(self, steps: int, losses: Tensor) -> Iterator[list[Tensor]]:
        """A row of rates for each of these steps; afterwards the schedule stands where the losses
        that have been filled in have brought it.
        """
        optim = self._optim
        if self.follows_losses:
            yield self._rows(1, advance=False)
            if _taken(losses):
                optim.advance(losses[0])
            return
        before = copy.deepcopy({key: _state(s) for key, s in optim._schedules.items()})
        try:
            yield self._rows(steps)
        finally:
            taken = _taken(losses)
            if taken < steps:
                for key, (state, group) in before.items():
                    optim._schedules[key].load_state_dict(state)
                    optim._schedules[key].optimizer.param_groups[0].update(group)
                self._rows(taken)

    def _rows(self, steps: int, advance: bool = True) -> list[Tensor]:
        rows = []
        for _ in range(steps):
            rows.append(list(numbers(self._optim, self._names).values()))
            if advance:
                self._optim.advance(None)
        if self._settings() != self._others:
            raise NotCompiled("its schedule changes more than the learning rate")
        return list(torch.tensor(rows, dtype=torch.float64).T.contiguous()) if rows else []


def _momentum_too(optim: Optimizer) -> bool:
    return any(getattr(s, "cycle_momentum", False) for s in optim._schedules.values())


def _state(schedule: Any) -> tuple[dict, dict]:
    group = schedule.optimizer.param_groups[0]
    return schedule.state_dict(), {key: value for key, value in group.items() if key != "params"}


def _headline(fault: Exception) -> str:
    return str(fault).partition("\n")[0]
