"""What a probabilistic program asks of a distribution, beyond what torch's have."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
import torch.distributions as torch_dist
from torch import Tensor
from torch.distributions.constraints import Constraint

from .. import checks
from ..randomness import drawing


class _QuietFamily(type):
    """Parameters are not checked where they are written but where they are used, with the site's name."""

    def __call__(cls, *args, **kwargs):
        kwargs.setdefault("validate_args", False)
        return super().__call__(*args, **kwargs)


class Distribution(torch_dist.Distribution, metaclass=_QuietFamily):
    """What every family of pplkit has in addition to its namesake in `torch.distributions`.

    A shape has three parts, from left to right: sample (independent draws of one call), batch (independent,
    perhaps differently distributed, variables) and event (the parts of one variable):
    `d.sample(s).shape == s + d.batch_shape + d.event_shape`, and `d.log_prob(x).shape == s + d.batch_shape`.

    >>> import pplkit.distributions as dist
    >>> d = dist.Normal(torch.zeros(3), 1.0)
    >>> d.batch_shape, d.to_event(1).event_shape, d.expand_by([2]).batch_shape
    (torch.Size([3]), torch.Size([3]), torch.Size([2, 3]))
    """

    _parameters_checked = False

    def __call__(self, sample_shape=torch.Size()) -> Tensor:
        """A draw, of shape `sample_shape + batch_shape + event_shape`; differentiable where possible."""
        return self.rsample(sample_shape) if self.has_rsample else self.sample(sample_shape)

    def sample(self, sample_shape=torch.Size()) -> Tensor:
        """A draw without gradient, of shape `sample_shape + batch_shape + event_shape`."""
        return _drawn(self, super().sample, sample_shape)

    def rsample(self, sample_shape=torch.Size()) -> Tensor:
        """A draw with gradients to the parameters, of shape `sample_shape + batch_shape + event_shape`."""
        return _drawn(self, super().rsample, sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density, or log-mass, of `value`; shape: that of `value` less its event dimensions."""
        checks.parameters(self)
        return super().log_prob(value)

    def relations(self) -> Iterable[tuple[str, Tensor, Constraint]]:
        """What parameters must satisfy together: (name, value, constraint) of each."""
        return ()

    @property
    def event_dim(self) -> int:
        """How many dimensions one variable has: 0 for a number, 1 for a vector."""
        return len(self.event_shape)

    @property
    def batch_dim(self) -> int:
        return len(self.batch_shape)

    @property
    def is_discrete(self) -> bool:
        return bool(self.support.is_discrete)

    def shape(self, sample_shape=torch.Size()) -> torch.Size:
        """The shape of a draw."""
        return torch.Size(sample_shape) + self.batch_shape + self.event_shape

    def expand_by(self, sample_shape) -> Distribution:
        """More independent copies: batch shape `sample_shape + batch_shape`."""
        return self.expand(torch.Size(sample_shape) + self.batch_shape)

    def to_event(self, reinterpreted_batch_ndims: int | None = None) -> Distribution:
        """Declare the rightmost batch dimensions, all unless told how many, parts of one variable.

        >>> import pplkit.distributions as dist
        >>> d = dist.Normal(torch.zeros(2, 3), 1.0).to_event(1)
        >>> d.batch_shape, d.event_shape, d.log_prob(torch.zeros(2, 3)).shape
        (torch.Size([2]), torch.Size([3]), torch.Size([2]))
        """
        n = self.batch_dim if reinterpreted_batch_ndims is None else reinterpreted_batch_ndims
        return Independent(self, n) if n else self


def _drawn(self: Distribution, draw: Callable, sample_shape) -> Tensor:
    checks.parameters(self)
    with drawing():
        return draw(sample_shape)


class Independent(Distribution, torch_dist.Independent):
    """A distribution whose rightmost batch dimensions are parts of one variable; made by `.to_event(n)`.

    >>> import pplkit.distributions as dist
    >>> Independent(dist.Normal(torch.zeros(3), 1.0), 1).log_prob(torch.zeros(3)).shape
    torch.Size([])
    """


_adopted: dict[type, type] = {}


def adopt(fn: torch_dist.Distribution) -> Distribution:
    """One of torch's own distributions, as one of ours."""
    cls = type(fn)
    if cls not in _adopted:
        from .. import distributions

        ours = getattr(distributions, cls.__name__, None)
        known = isinstance(ours, type) and issubclass(ours, cls)
        _adopted[cls] = ours if known else _QuietFamily(cls.__name__, (Distribution, cls), {})
    fn = copy.copy(fn)
    fn.__class__ = _adopted[cls]
    return fn
