"""Base noise for the steps of a run, drawn in blocks of many steps.

`SVI.run` may evaluate its steps in Python or as native code, and go over from one to the other. So
noise is drawn here, apart from what is computed from it, and both take the same rows: one seed
gives one run.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..params import ASIDE
from ..randomness import ROWS, answered_by, base_noise

# A block holds this many steps at most, and this many numbers if more than one step.
_STEPS, _NUMBERS = 1024, 1 << 20


class Kind(NamedTuple):
    """What one draw of base noise is: `normal` or `uniform` numbers, of a shape and a dtype."""

    kind: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


@dataclass
class _Block:
    kind: Kind
    number: int  # which steps it serves: from number * its length on
    rows: Tensor
    before: _Block | None = None  # the one that it follows, for a step that is taken again


class Feed:
    """Hands out rows of base noise, step by step.

    Attributes:
        outside: whether torch's samplers have been called outside distributions.
        seeded: whether a draw was made inside a `seed` of its own.

    >>> feed = Feed()
    >>> feed.at(0)
    >>> feed.take("normal", (2,), torch.float32, torch.device("cpu")).shape
    torch.Size([2])
    """

    def __init__(self):
        self._blocks: list[_Block] = []
        self._step = self._place = 0
        self.outside = self.seeded = False

    def at(self, step: int) -> None:
        """The draws that follow are those of this step."""
        self._step, self._place = step, 0

    def take(self, kind: str, shape, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The next draw of the step."""
        wanted = Kind(kind, tuple(shape), dtype, torch.device(device))
        if ASIDE.get():
            return base_noise(*wanted)
        block = self._block(self._place, wanted)
        self._place += 1
        return block.rows[self._step % len(block.rows)]

    def window(self, kinds: Sequence[Kind], most: int) -> tuple[int, list[Tensor]]:
        """Rows of the step and of those that follow, as far as the blocks reach.

        Returns:
            How many steps; and of each kind that many rows.
        """
        blocks = [self._block(place, kind) for place, kind in enumerate(kinds)]
        self._place = len(blocks)
        starts = [self._step % len(block.rows) for block in blocks]
        lengths = [len(b.rows) - start for b, start in zip(blocks, starts, strict=True)]
        steps = min([most, _STEPS, *lengths])
        return steps, [b.rows[s : s + steps] for b, s in zip(blocks, starts, strict=True)]

    def _block(self, place: int, wanted: Kind) -> _Block:
        block = self._blocks[place] if place < len(self._blocks) else None
        number = self._step // _length(wanted)
        for known in (block, block.before if block is not None else None):
            if known is not None and known.number == number and known.kind == wanted:
                return known
        fresh = _Block(wanted, number, self._drawn(wanted, place, number), block)
        if block is not None:
            block.before = None
        self._blocks[place : place + 1] = [fresh]
        return fresh

    def _drawn(self, kind: Kind, place: int, number: int) -> Tensor:
        length = _length(kind)
        token = ROWS.set(((self, place), number * length))
        try:
            shape = (length, *kind.shape)
            return base_noise(kind.kind, shape, kind.dtype, kind.device)
        finally:
            ROWS.reset(token)

    @contextmanager
    def serving(self, everywhere: bool):
        """In the block, draws take their noise from here, but for those inside a `seed` of their
        own.

        Args:
            everywhere: also torch's own samplers outside distributions; that costs a little with
                every operation.
        """
        from ..capture.noise import GivenNoise

        def answer():
            return GivenNoise(self.take, strict=False)

        with answered_by(answer, self.take, self._note_seed):
            if everywhere:
                with GivenNoise(self._take_outside, strict=False):
                    yield
            else:
                yield

    def _note_seed(self) -> None:
        self.seeded = True

    def _take_outside(self, *kind) -> Tensor:
        self.outside = True
        return self.take(*kind)


def _length(kind: Kind) -> int:
    """How many steps a block of this kind holds: a power of two, so that blocks end together."""
    numbers = max(1, torch.Size(kind.shape).numel())
    steps = max(1, min(_STEPS, _NUMBERS // numbers))
    return 1 << (steps.bit_length() - 1)
