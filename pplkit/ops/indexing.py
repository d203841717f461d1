"""Indexing by tensors that have batch dimensions, as under enumeration."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import errors

_ALL = slice(None)


def vindex(tensor: Tensor, args: Any) -> Tensor:
    """`tensor[args]`, where indices broadcast with each other and with the dimensions under `...`.

    Torch's own indexing puts the indices' dimensions where the first index stands, and pairs none
    of them with a dimension that is kept. Here the result has shape `batch + kept`: `batch` is the
    broadcast of all indices and of the dimensions that a leading `...` covers, `kept` are the
    dimensions given as `:`, in their order.

    Args:
        tensor: what is looked up in.
        args: an index or a tuple of them: whole numbers, tensors of whole numbers, `:`, and `...`
            in the first place only.

    Raises:
        UsageError: another kind of index.

    >>> table = torch.arange(6).reshape(3, 2)  # for each of 3 rows, the values of 2 states
    >>> state = torch.tensor([[0], [1]])  # enumerated: both states, of shape (2, 1)
    >>> vindex(table, (..., state))
    tensor([[0, 2, 4],
            [1, 3, 5]])
    """
    args = args if isinstance(args, tuple) else (args,)
    covered = bool(args) and args[0] is Ellipsis
    places = args[1:] if covered else args
    for index in places:
        if not (isinstance(index, (int, Tensor)) or (isinstance(index, slice) and index == _ALL)):
            raise errors.cannot_index(args, index)
        if isinstance(index, Tensor) and (index.is_floating_point() or index.dtype == torch.bool):
            raise errors.cannot_index(args, index)
    left = tensor.dim() - len(places)
    if left < 0:
        raise errors.too_many_indices(tensor, len(places))
    if not covered:
        places, left = (*places, *(_ALL,) * left), 0
    kept = sum(isinstance(index, slice) for index in places)
    # Every place gets an index of its own: what is kept counts up along one of the last dimensions
    # of the result, what `...` covers along one of the batch.
    full = [_counting(tensor, i, left - i + kept) for i in range(left)]
    last = kept
    for i, index in enumerate(places, left):
        if isinstance(index, slice):
            full.append(_counting(tensor, i, last))
            last -= 1
        elif isinstance(index, Tensor) and index.dim():
            full.append(index.reshape(index.shape + (1,) * kept))
        else:
            full.append(index)
    return tensor[tuple(full)] if full else tensor


def _counting(tensor: Tensor, dim: int, place: int) -> Tensor:
    """All indices of a dimension, along the result's dimension `-place`."""
    counted = torch.arange(tensor.shape[dim], device=tensor.device)
    return counted.reshape((-1,) + (1,) * (place - 1))


class Vindex:
    """`vindex` as it is written: `Vindex(tensor)[..., index, :]`.

    Args:
        tensor: what is looked up in.

    >>> transition = torch.arange(12.0).reshape(3, 2, 2)  # for each of 3 rows, a 2 x 2 table
    >>> before = torch.tensor([0, 1, 0])  # a state for each row
    >>> Vindex(transition)[..., before, :]
    tensor([[0., 1.],
            [6., 7.],
            [8., 9.]])
    """

    def __init__(self, tensor: Tensor):
        self.tensor = tensor

    def __getitem__(self, args: Any) -> Tensor:
        return vindex(self.tensor, args)
