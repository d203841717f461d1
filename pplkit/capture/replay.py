"""Captured steps on a device that takes its orders from afar, as a GPU does.

Such a device waits for nothing if it is told everything beforehand. Some steps of a captured graph
are recorded one after the other, and the recording is played again and again. What a step
decides, it decides on the device: once a step is not well, those after it change nothing. The host
asks once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .export import exported
from .program import Program, evaluated

_TOGETHER = 32  # steps in a recording


def gated(program: Program, carried: int) -> torch.export.ExportedProgram:
    """A step with one input more, the first: whether the steps so far were well. Where they were
    not, or this one is not, what is carried stays as it was.

    Args:
        program: of the step; its outputs are what is carried on, the loss, and whether it was well.
        carried: how many tensors are carried from step to step: its first inputs and outputs.
    """
    traced, example = program.traced, program.spread()
    device = next((x.device for x in example if isinstance(x, Tensor)), torch.device("cpu"))
    graph, copied = torch.fx.Graph(), {}
    going = graph.placeholder("going")
    for node in traced.graph.graph.nodes:
        if node.op != "output":
            copied[node] = graph.node_copy(node, lambda n: copied[n])
            continue
        outputs = [copied[n] for n in node.args[0]]
        before = [copied[n] for n in traced.graph.graph.nodes if n.op == "placeholder"]
        both = torch.ops.aten.logical_and.default
        well = graph.call_function(both, (going, outputs[carried + 1]))
        choose = torch.ops.aten.where.self
        pairs = zip(outputs[:carried], before, strict=False)
        after = [graph.call_function(choose, (well, new, old)) for new, old in pairs]
        graph.output((*after, outputs[carried], well))
    held = torch.fx.GraphModule(traced.graph, graph)
    shapes = [(), *traced.shapes]
    start = torch.tensor(True, device=device)
    return exported(replace(traced, graph=held, shapes=shapes), [start, *example])


class Replay:
    """Steps recorded on a device, and played.

    Args:
        step: from whether all was well, the tensors carried, rows of noise and what all steps share
            to the tensors carried on, the loss, and whether all is well; on the device alone.
        program: of the step.
        carried: as of `gated`.
        record: makes of a function without arguments something that does the same when it is
            called; it may call the function first.
    """

    def __init__(
        self,
        step: Callable[..., Sequence[Tensor]],
        program: Program,
        carried: int,
        record: Callable[[Callable[[], None]], Callable[[], None]],
    ):
        self._step, self._program, self._carried, self._record = step, program, carried, record
        self._known: tuple = ()
        self._played: dict[int, _Recording] = {}

    def run(self, steps: int, sizes: dict, inputs: Sequence[Tensor], losses: Tensor) -> int:
        """As `native.Loop.run`: up to `steps` steps; what is carried is changed in place."""
        first = self._first_row()
        last = first + len(self._program.traced.noise)
        rows, held = inputs[first:last], [*inputs[:first], *inputs[last:]]
        known = (tuple(sizes.values()), *((x.data_ptr(), x.shape) for x in held))
        if known != self._known:  # recordings hold addresses
            self._known, self._played = known, {}
        wells = torch.empty(steps, dtype=torch.bool, device=losses.device)
        going = torch.tensor(True, device=losses.device)
        done = 0
        while done < steps:
            many = _TOGETHER if steps - done >= _TOGETHER else 1
            part = slice(done, done + many)
            if many not in self._played:
                start = [row[part] for row in rows]
                self._played[many] = self._recorded(many, sizes, held, start, losses)
            self._played[many].play([r[part] for r in rows], going, losses[part], wells[part])
            done += many
        return int(wells.sum())  # the only wait for the device

    def _first_row(self) -> int:
        """How many inputs come before the rows of noise: those that are tensors."""
        return sum(isinstance(shape, tuple) for shape in self._program.traced.shapes)

    def _recorded(self, many: int, sizes: dict, held, rows, losses: Tensor) -> _Recording:
        spots = [x.clone() for x in rows]
        going = torch.ones((), dtype=torch.bool, device=losses.device)
        wells = torch.ones(many, dtype=torch.bool, device=losses.device)
        heard = torch.empty(many, dtype=losses.dtype, device=losses.device)
        first, shapes = self._first_row(), self._program.traced.shapes
        front = iter(held[:first])
        # Sizes that are arguments stand among the tensors.
        arguments = [
            next(front) if isinstance(s, tuple) else evaluated(s, sizes)
            for s in shapes
            if s is not None
        ]

        def play():
            for k in range(many):
                row = [spot[k] for spot in spots]
                outputs = self._step(going, *arguments, *row, *held[first:])
                for old, new in zip(held[: self._carried], outputs, strict=False):
                    old.copy_(new)
                loss, well = outputs[self._carried], outputs[self._carried + 1]
                heard[k].copy_(loss)
                going.copy_(well)
                wells[k].copy_(well)

        kept = [x.clone() for x in held[: self._carried]]
        played = self._record(play)
        for x, before in zip(held, kept, strict=False):  # recording may have taken steps
            x.copy_(before)
        return _Recording(played, spots, going, heard, wells)


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


def cuda_recording(play: Callable[[], None]) -> Callable[[], None]:
    """Record what a function does on the current CUDA device, as a CUDA graph."""
    side = torch.cuda.Stream()  # what is done only once, is done before
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        play()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        play()
    return graph.replay
