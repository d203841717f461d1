"""How a run goes on after a mistake, where `check` looks for all of them.

Elsewhere a mistake ends the run. Under `errors.noting` it is noted, and what cannot be used is
replaced by something harmless of the right shape, so that one mistake does not look like several.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import transform_to

from . import checks, errors
from .distributions import Distribution, constraints

if TYPE_CHECKING:
    from .effects import Message


class StandIn(Distribution):
    """In the place of a distribution that cannot be used: one feasible value, of density 1.

    >>> StandIn(torch.zeros(3), 0).log_prob(torch.ones(3))
    tensor([0., 0., 0.])
    """

    arg_constraints: dict = {}
    has_rsample = True

    def __init__(self, value: Tensor, event_dim: int, support=None, told: bool = True):
        self.value = value
        self.given_support = support
        self.told = told  # whether what stands here was told to have the wrong shape
        split = value.dim() - event_dim
        super().__init__(value.shape[:split], value.shape[split:])

    @property
    def support(self):
        if self.given_support is not None:
            return self.given_support
        return constraints.independent(constraints.real, len(self.event_shape))

    def expand(self, batch_shape, _instance=None):
        shape = torch.Size(batch_shape) + self.event_shape
        event_dim = len(self.event_shape)
        return StandIn(self.value.expand(shape), event_dim, self.given_support, self.told)

    def rsample(self, sample_shape=torch.Size()) -> Tensor:
        return self.value.expand(torch.Size(sample_shape) + self.value.shape)

    sample = rsample

    def log_prob(self, value: Tensor) -> Tensor:
        own = value.shape[: value.dim() - len(self.event_shape)]
        return torch.zeros(torch.broadcast_shapes(own, self.batch_shape))


def stand_in(fn: Distribution, batch_shape=None) -> StandIn:
    """A value inside a distribution's support, of its shape or with another batch shape, which then
    has been told to be wrong.
    """
    told = batch_shape is not None
    batch_shape = fn.batch_shape if batch_shape is None else torch.Size(batch_shape)
    shape = batch_shape + fn.event_shape
    try:
        to_support = transform_to(fn.support)
        value = to_support(torch.zeros(to_support.inverse_shape(shape)))
    except (NotImplementedError, RuntimeError, ValueError):
        value = torch.zeros(shape)
    if value.shape != shape:
        value = torch.zeros(shape)
    support = fn.support
    if not isinstance(support, constraints.Constraint) or constraints.is_dependent(support):
        support = None
    elif any(isinstance(bound, Tensor) for bound in vars(support).values()):
        support = None  # it depends on parameters that are wrong
    return StandIn(value, len(fn.event_shape), support, told)


def usable(fn: Distribution, name: str, where) -> Distribution:
    """A distribution whose parameters have been looked at; a stand-in, if they are wrong."""
    try:
        checks.parameters(fn, name, where)
    except errors.DistributionError as fault:
        if not errors.is_noting():
            raise
        errors.tell(fault)
        return stand_in(fn)
    return fn


def mend(msg: Message) -> None:
    """Put a stand-in into a sample statement, of the shape that its plates ask for."""
    sizes = {frame.dim: frame.size for frame in msg.plates if frame.vectorized}
    shape = list(msg.fn.batch_shape)
    shape = [1] * (max((-dim for dim in sizes), default=0) - len(shape)) + shape
    for dim, size in sizes.items():
        shape[dim] = size
    msg.fn = stand_in(msg.fn, shape)
    if msg.value is not None:
        msg.value = msg.fn.rsample()


def answer(msg: Message) -> None:
    """As a sample statement is answered elsewhere, but that mistakes are noted and mended."""
    if isinstance(msg.fn, StandIn) and msg.fn.told and msg.value is not None:
        msg.value = msg.fn.rsample()  # what is wrong with it has been told
    try:
        checks.parameters(msg.fn, msg.name, msg.where)
        if msg.value is not None:
            checks.sample_shapes(msg)
            checks.sample_value(msg)
    except errors.PplkitError as fault:
        errors.tell(fault)
        mend(msg)
    if msg.value is None:
        try:
            msg.value = msg.fn(*msg.args, **msg.kwargs)
        except NotImplementedError:
            msg.value = stand_in(msg.fn).rsample()  # a guide or NUTS has values for it
        except (RuntimeError, ValueError) as fault:
            told = isinstance(fault, errors.PplkitError)
            errors.tell(fault if told else errors.failed_draw(msg, fault))
            mend(msg)
            msg.value = msg.fn.rsample()
    msg.done = True
