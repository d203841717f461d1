"""Chains as native code: the captured potential and what moves in it, compiled together.

The native code moves the same tensors as `mcmc.Chains` does in Python, from the same noise: at any
age of the chains the one may go on where the other has stopped.
"""

from __future__ import annotations

import ctypes
import hashlib
import time

import torch
from torch import Tensor

from .. import errors
from ..capture import native, trajectory
from ..capture.folder import NotCompiled
from .mcmc import FIELDS, Chains, Draws
from .nuts import NUTS

_WORTH_IT = 5.0  # seconds of transitions in Python
_SECONDS = 0.1  # a stretch of native transitions takes this long: for interrupts, progress bars

_WHOLE = (
    "chains", "size", "dense", "depth", "num_steps", "finds_step", "warmup", "draws", "until",
    "first", "threads",
)  # fmt: skip
_NUMBERS = ("trajectory_length", "target", "seconds")
_ADDRESSES = (
    "age", "q", "potential", "gradient", "step", "covariance", "root", "mean", "products",
    "log_step", "log_mean", "error", "count", "centre", "noise", "seeds", "phases", "counts",
    "rows", "accept_prob", "energy", "potential_energy", "diverging", "num_steps_taken",
    "accepted", "within",
)  # fmt: skip


class _Settings(ctypes.Structure):
    """As in trajectory.cpp."""

    _fields_ = (
        [(name, ctypes.c_int64) for name in _WHOLE]
        + [(name, ctypes.c_double) for name in _NUMBERS]
        + [(name, ctypes.c_void_p) for name in _ADDRESSES]
    )


class Native:
    """Chains whose transitions native code makes.

    Raises:
        NotCompiled: the potential is no graph of operations that native code can hold; says why.
    """

    def __init__(self, chains: Chains):
        self._chains, potential = chains, chains.potential
        if potential.captured is None:
            raise NotCompiled(potential.why)
        if chains.point.q.device.type != "cpu":
            raise NotCompiled(f"its tensors are on {chains.point.q.device}, not on the CPU")
        program, _, self._sizes = potential.inputs()
        number = len(potential.density.variables)
        self._kept: list[Tensor] = []  # what native code has addresses of
        self._inputs = self._addresses(program, number)
        self._step = native.Step(program, 0, self._sizes)
        digest = hashlib.sha256(trajectory.SOURCE.read_bytes())
        digest.update(trajectory.SOURCE.with_suffix(".py").read_bytes())
        told = {"around": "trajectory", "variables": number, "source": digest.hexdigest()}
        self._step.request |= told
        self._compilation: native.Compilation | None = None
        self._loop = native.found(self._step)
        self._settings: _Settings | None = None

    def _addresses(self, program, number: int):
        """Of what the program takes, chain by chain; the variables' own are native code's."""
        potential, rows = self._chains.potential, []
        closed = potential.captured._closed(program)
        for chain in range(len(self._chains.point.q) if potential.per_chain else 1):
            given = [*potential.inputs(chain)[1], *closed]
            if any(x.device.type != "cpu" for x in given):
                raise NotCompiled("it has tensors that are not on the CPU")
            given = [x.detach().contiguous() for x in given]
            self._kept += given
            rows.append([0] * number + [x.data_ptr() for x in given if x is not None])
        if not potential.per_chain:
            rows *= len(self._chains.point.q)
        self._per_chain = len(rows[0])
        flat = [address for row in rows for address in row]
        return (ctypes.c_void_p * len(flat))(*flat)

    # -- compiling -----------------------------------------------------------------------------
    def start(self) -> None:
        """Begin to compile, unless the native code is there already."""
        if self._loop is None and self._compilation is None:
            self._compilation = native.Compilation.of(self._step)

    def ready(self) -> bool:
        """Whether `wait` returns at once."""
        return self._loop is not None or (
            self._compilation is not None and self._compilation.ready()
        )

    def wait(self) -> None:
        """Wait for the native code.

        Raises:
            NotCompiled: the compiler fails.
        """
        self.start()
        if self._loop is None:
            self._loop = self._compilation.loop()
        if self._settings is None:
            self._settle()

    def stop(self) -> None:
        """Compile no further, if nothing has been compiled for long."""
        if self._compilation is not None:
            self._compilation.stop()

    # -- running -------------------------------------------------------------------------------
    def _settle(self) -> None:
        """Numbers that native code reads and writes lie one after another, and stay where they
        are.
        """
        c = self._chains
        kernel, (chains, size) = c.kernel, c.point.q.shape
        c.point = c.point._replace(
            q=_own(c.point.q), potential=_own(c.point.potential), grad=_own(c.point.grad)
        )
        c.step, c.accepted = _own(c.step), _own(c.accepted)
        for part in (c.metric, c.spread, c.averaging):
            for name, value in vars(part).items():
                setattr(part, name, _own(value))
        self._age = torch.full((chains,), c.age, dtype=torch.int64)
        schedule = [torch.tensor(x or [0], dtype=torch.int64) for x in (c.phases, c.rows_seen)]
        threads = max(1, min(chains, torch.get_num_threads()))
        # Chains take turns: each gets its part of the time.
        turns = -(-chains // threads)
        self._settings = _Settings(
            chains=chains, size=size, dense=c.metric.dense, num_steps=kernel.num_steps or 0,
            depth=kernel.max_tree_depth if isinstance(kernel, NUTS) else 0,
            finds_step=kernel.adapt_step_size, warmup=c.warmup, threads=threads,
            trajectory_length=kernel.trajectory_length, target=kernel.target_accept_prob,
            seconds=_SECONDS / turns,
        )  # fmt: skip
        self._point_at(
            age=self._age, q=c.point.q, potential=c.point.potential, gradient=c.point.grad,
            step=c.step, covariance=c.metric.covariance, root=c.metric.root, mean=c.spread.mean,
            products=c.spread.products, log_step=c.averaging.log_step,
            log_mean=c.averaging.log_mean, error=c.averaging.error, count=c.averaging.count,
            centre=c.averaging.centre, phases=schedule[0], counts=schedule[1],
            accepted=c.accepted,
        )  # fmt: skip
        if c.within is not None:
            self._point_at(within=c.within)
        numbers = tuple(self._sizes[symbol] for symbol in self._step.symbols)
        self._numbers = (ctypes.c_int64 * max(1, len(numbers)))(*numbers)
        library = self._loop._library
        room = library.pplkit_room(self._numbers) + 64
        rooms = [torch.empty(room, dtype=torch.uint8) for _ in range(threads)]
        self._kept += rooms
        places = [(x.data_ptr() + 63) // 64 * 64 for x in rooms]
        self._rooms = (ctypes.c_void_p * threads)(*places)
        self._settings.until = 0  # no transition: the sizes alone are looked at
        self._call()

    def _point_at(self, **tensors: Tensor) -> None:
        for name, tensor in tensors.items():
            if not tensor.is_contiguous():
                raise NotCompiled("its numbers do not lie one after another in memory")
            self._kept.append(tensor)
            setattr(self._settings, name, tensor.data_ptr())

    def _call(self) -> None:
        failed = self._loop._library.pplkit_run(
            ctypes.byref(self._settings), self._numbers, self._inputs,
            ctypes.c_int64(self._per_chain), self._rooms,
        )  # fmt: skip
        if failed == -2:
            raise NotCompiled("it was planned for data of other sizes")
        if failed:
            raise errors.native_chains_failed()

    def take(self, draws: Draws) -> int:
        """Move the chains on for a while; returns the age of the youngest."""
        c, s = self._chains, self._settings
        first, normal, seeds = c.noise.block(int(self._age.min()))
        total = c.warmup + draws.rows.shape[1]
        s.first, s.until, s.draws = first, min(first + c.noise.length, total), draws.rows.shape[1]
        kept = len(self._kept)
        fields = {name: draws.fields[name] for name in FIELDS}
        fields["num_steps_taken"] = fields.pop("num_steps")
        self._point_at(noise=normal, seeds=seeds, rows=draws.rows, **fields)
        self._call()
        del self._kept[kept:]
        c.age = int(self._age.min())
        draws.done = max(0, c.age - c.warmup)
        return int(self._age.double().mean())


def _own(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


class Race:
    """Decides where the transitions of a run are made: in Python, or as native code.

    Args:
        patient: whether to wait for the native code; otherwise it is made on the side, when the
            transitions left would take long enough in Python.
    """

    def __init__(self, chains: Chains, patient: bool):
        self._chains, self._patient = chains, patient
        self._native: Native | None = None
        self._lost = self._running = False
        self._first: tuple[int, float] | None = None

    def native(self, done: int, left: int) -> Native | None:
        """What makes the next transitions; None: Python does."""
        if self._running:
            return self._native
        if self._lost:
            return None
        try:
            if self._native is None and (self._patient or self._worth_it(done, left)):
                self._native = Native(self._chains)
                self._native.start()
            if self._native is not None and (self._patient or self._native.ready()):
                self._native.wait()
                self._running = True
                return self._native
        except (NotCompiled, OSError) as fault:  # a full disk, say, or a folder that runs nothing
            self._lost = True
            if self._patient or self._chains.potential.captured is not None:
                errors.warn(errors.chains_not_compiled(str(fault)))
        return None

    def _worth_it(self, done: int, left: int) -> bool:
        now = time.monotonic()
        if self._first is None:
            self._first = done, now
        steps, seconds = done - self._first[0], now - self._first[1]
        return steps > 3 and seconds > 0.1 and seconds / steps * left > _WORTH_IT

    def stop(self) -> None:
        """The run is over."""
        if self._native is not None:
            self._native.stop()
