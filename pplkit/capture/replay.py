"""Captured steps on a device that takes its orders from afar, as a GPU does.

Such a device waits for nothing if it is told everything beforehand. Some steps of a captured graph
are recorded one after the other, and the recording is played again and again. What a step
decides, it decides on the device: once a step is not well, those after it change nothing. The host
asks once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .program import Program, evaluated

_TOGETHER = 32  # steps in a recording


class Gated(torch.nn.Module):
    """A step with one input more, the first: whether the steps so far were well. Where they were
    not, or this one is not, what is carried stays as it was.

    Args:
        step: a captured step's function: of what is carried, then of what steps share, to what is
            carried on, the loss, and whether it was well.
        carried: how many tensors are carried.
        whole: positions of inputs that are whole numbers, where a package stands for them, which
            takes tensors alone: such a number is how many rows a tensor has.
    """

    def __init__(
        self, step: Callable[..., Sequence], carried: int, whole: frozenset[int] = frozenset()
    ):
        super().__init__()
        self._step, self._carried, self._whole = step, carried, whole

    def forward(self, going: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        given = [x.shape[0] if i in self._whole else x for i, x in enumerate(inputs)]
        outputs, n = self._step(*given), self._carried
        well = going & outputs[n + 1]
        pairs = zip(outputs[:n], inputs, strict=False)
        after = [torch.where(well, new, old) for new, old in pairs]
        return (*after, outputs[n].clone(), well)


class Replay:
    """Steps recorded on a device, and played.

    Args:
        step: from whether all was well, the tensors carried, rows of noise and what all steps share
            to the tensors carried on, the loss, and whether all is well; on the device alone.
        program: of the step.
        carried: as of `Gated`.
        record: makes of a function without arguments something that does the same when it is
            called; it may call the function first.
        rates: as of `native.Step`.
    """

    def __init__(
        self,
        step: Callable[..., Sequence[Tensor]],
        program: Program,
        carried: int,
        record: Callable[[Callable[[], None]], Callable[[], None]],
        rates: int = 0,
    ):
        self._step, self._program, self._carried, self._record = step, program, carried, record
        # How many inputs come before the rows of noise: those that are tensors.
        self._first = sum(isinstance(shape, tuple) for shape in program.traced.shapes)
        rows = [*range(carried, carried + rates)]
        rows += range(self._first, self._first + len(program.traced.noise))
        self._rows, self._known = rows, ()
        self._played: dict[int, _Recording] = {}

    def prepare(self, sizes: dict, inputs: Sequence[Tensor]) -> None:
        """Record, and take no step. Where a row for each step is to come, `inputs` has no row, or
        one that all steps have.
        """
        inputs = list(inputs)
        for i in self._rows:
            shape = inputs[i].shape[1:] if i >= self._first else inputs[i].shape
            inputs[i] = inputs[i].new_full((_TOGETHER, *shape), 0.5)
        for many in (_TOGETHER, 1):
            self._recording(many, sizes, inputs, [inputs[i][:many] for i in self._rows])

    def run(self, steps: int, sizes: dict, inputs: Sequence[Tensor], losses: Tensor) -> int:
        """As `native.Loop.run`: up to `steps` steps; what is carried is changed in place."""
        rows = [inputs[i] for i in self._rows]
        wells = torch.empty(steps, dtype=torch.bool, device=losses.device)
        going = torch.tensor(True, device=losses.device)
        done = 0
        while done < steps:
            many = _TOGETHER if steps - done >= _TOGETHER else 1
            part = slice(done, done + many)
            now = [row[part] for row in rows]
            recording = self._recording(many, sizes, inputs, now)
            recording.play(now, going, losses[part], wells[part])
            done += many
        return int(wells.sum())  # the only wait for the device

    def _recording(self, many: int, sizes: dict, inputs, rows) -> _Recording:
        held = [x for i, x in enumerate(inputs) if i not in self._rows]
        known = (tuple(sizes.values()), *((x.data_ptr(), x.shape) for x in held))
        if known != self._known:  # recordings hold addresses
            self._known, self._played = known, {}
        if many not in self._played:
            self._played[many] = self._recorded(many, sizes, inputs, rows)
        return self._played[many]

    def _recorded(self, many: int, sizes: dict, inputs, rows) -> _Recording:
        device = inputs[0].device
        spots = dict(zip(self._rows, (x.clone() for x in rows), strict=True))
        going = torch.ones((), dtype=torch.bool, device=device)
        wells = torch.ones(many, dtype=torch.bool, device=device)
        heard = torch.empty(many, dtype=self._program.dtype_of(self._carried), device=device)
        kept = inputs[: self._carried]

        def play():
            for k in range(many):
                now = [spots[i][k] if i in spots else x for i, x in enumerate(inputs)]
                outputs = self._step(going, *self._numbered(now, sizes))
                for old, new in zip(kept, outputs, strict=False):
                    old.copy_(new)
                loss, well = outputs[self._carried], outputs[self._carried + 1]
                heard[k].copy_(loss)
                going.copy_(well)
                wells[k].copy_(well)

        before = [x.clone() for x in kept]
        try:
            played = self._record(play)
        finally:
            for x, then in zip(kept, before, strict=True):  # recording may have taken steps
                x.copy_(then)
        return _Recording(played, list(spots.values()), going, heard, wells)

    def _numbered(self, tensors: list[Tensor], sizes: dict) -> list:
        """The inputs with the sizes that are arguments, which stand among the tensors."""
        front, shapes = iter(tensors[: self._first]), self._program.traced.shapes
        arguments = [
            next(front) if isinstance(s, tuple) else evaluated(s, sizes)
            for s in shapes
            if s is not None
        ]
        return [*arguments, *tensors[self._first :]]


class _Recording:
    """A stretch of steps, and the places that it reads from and writes to."""

    def __init__(self, played, spots, going, losses, wells):
        self._played, self._spots, self._going = played, spots, going
        self._losses, self._wells = losses, wells

    def play(self, rows, going: Tensor, losses: Tensor, wells: Tensor) -> None:
        """Take the steps; `going`, whether all was well so far, is changed in place."""
        for spot, row in zip(self._spots, rows, strict=True):
            spot.copy_(row)
        self._going.copy_(going)
        self._played()
        going.copy_(self._going)
        losses.copy_(self._losses)
        wells.copy_(self._wells)


def recording(device: torch.device) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """How steps are recorded on a device."""
    return cuda_recording if device.type == "cuda" else simple_recording


def simple_recording(play: Callable[[], None]) -> Callable[[], None]:
    """Where nothing can be recorded, steps are taken as they come."""
    return play


def cuda_recording(play: Callable[[], None]) -> Callable[[], None]:
    """Record what a function does on the current CUDA device, as a CUDA graph."""
    side = torch.cuda.Stream()  # what is done only once, is done before
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        play()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # Other threads may use the device meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        play()
    return graph.replay
