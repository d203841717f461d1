"""What a probabilistic program asks of a distribution, beyond what torch's have."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from types import MappingProxyType
from weakref import ref

import torch
import torch.distributions as torch_dist
from torch import Tensor
from torch.distributions.constraints import Constraint, is_dependent
from torch.distributions.utils import broadcast_all, lazy_property

from .. import checks, errors
from ..randomness import drawing, noise_here
from .pathwise import fresh_draws


class _FamilyType(type):
    """Makes distributions: parameters may be numbers, lists, NumPy arrays or tensors.

    Their values are not checked here but where they are used, with the site's name; shapes that do
    not fit together are refused at once.
    """

    def __call__(cls, *args, **kwargs):
        if not all(map(_ready, args)) or not all(map(_ready, kwargs.values())):
            args, kwargs = _as_parameters(cls, args, kwargs)
        if "validate_args" not in kwargs and "validate_args" in _signature(cls).parameters:
            kwargs["validate_args"] = False
        try:
            made = super().__call__(*args, **kwargs)
            given = zip(_names(cls), args, strict=False)
            made._numbers = {name: x for name, x in given if type(x) in (float, int)}
            return made
        except errors.PplkitError as fault:
            # A family inside this one could not be made: say it of this one.
            if fault.__cause__ is None or not args and not kwargs:
                raise
            raise errors.not_constructed(
                cls.__name__, _given(cls, args, kwargs), fault.__cause__
            ) from fault
        except (
            TypeError,
            ValueError,
            RuntimeError,
            IndexError,
            AttributeError,
            AssertionError,
        ) as fault:
            given = _given(cls, args, kwargs)
            if given is None and (wrong := errors.wrong_call(cls, args, kwargs)) is not None:
                raise wrong from fault
            if given is None:
                raise
            raise errors.not_constructed(cls.__name__, given, fault) from fault


@functools.cache
def _signature(cls: type) -> inspect.Signature:
    return inspect.signature(cls.__init__)


@functools.cache
def _names(cls: type) -> tuple[str, ...]:
    return tuple(name for name in _signature(cls).parameters if name != "self")


def _ready(value) -> bool:
    if isinstance(value, Tensor):
        return value.is_floating_point()
    return isinstance(value, (float, int, torch_dist.Distribution)) or value is None


def _given(cls: type, args, kwargs) -> dict | None:
    """The arguments by name; None when they are not those of the family."""
    try:
        given = dict(_signature(cls).bind(None, *args, **kwargs).arguments)
    except TypeError:
        return None
    given.pop("self", None)
    given.pop("validate_args", None)
    return given


def _as_parameters(cls: type, args, kwargs) -> tuple[tuple, dict]:
    """Lists, arrays and whole numbers in the place of real parameters become floating-point
    tensors.
    """
    named = dict(zip(_names(cls), args, strict=False))
    return (
        tuple(_as_parameter(cls, name, value) for name, value in named.items())
        + args[len(named) :],
        {name: _as_parameter(cls, name, value) for name, value in kwargs.items()},
    )


def _as_parameter(cls: type, name: str, value):
    constraint = getattr(cls, "arg_constraints", {}).get(name)
    if constraint is None or is_dependent(constraint) or _ready(value):
        return value
    if isinstance(value, (torch.SymInt, torch.SymFloat)):  # a size, while a program is captured
        return torch.full((), value, dtype=torch.get_default_dtype())
    if isinstance(value, (list, tuple)) or hasattr(value, "__array__"):
        value = torch.as_tensor(value)
    if isinstance(value, Tensor) and not constraint.is_discrete and not value.is_floating_point():
        value = value.to(torch.get_default_dtype())
    return value


class Distribution(torch_dist.Distribution, metaclass=_FamilyType):
    """What every family of pplkit has in addition to its namesake in `torch.distributions`.

    A shape has three parts, from left to right: sample (independent draws of one call), batch
    (independent, perhaps differently distributed, variables) and event (the parts of one
    variable)::

        d.sample(s).shape == s + d.batch_shape + d.event_shape
        d.log_prob(d.sample(s)).shape == s + d.batch_shape

    Parameters of different shapes broadcast to the batch shape. They are checked when the
    distribution is used: `sample`, `rsample`, `log_prob`, `cdf` and `icdf` raise DistributionError
    outside their domain, and `log_prob` does for a value outside the support.

    A family of one's own derives from this class and overrides `sample` (or `rsample`, with
    `has_rsample = True`) and `log_prob`.

    >>> import pplkit.distributions as dist
    >>> d = dist.Normal(torch.zeros(3), 1.0)
    >>> d.batch_shape, d.to_event(1).event_shape, d.expand_by([2]).batch_shape
    (torch.Size([3]), torch.Size([3]), torch.Size([2, 3]))
    """

    _validate_args = False
    _parameters_checked = False
    _numbers: Mapping[str, float] = MappingProxyType({})  # parameters given as plain numbers
    _seen: Callable | None = None  # a weak reference to the value last found inside the support

    def __call__(self, sample_shape=torch.Size()) -> Tensor:
        """A draw, of shape `sample_shape + batch_shape + event_shape`; differentiable where
        possible.
        """
        return self.rsample(sample_shape) if self.has_rsample else self.sample(sample_shape)

    # -- what is asked of a family; those of pplkit override the hooks below -----------------------
    def sample(self, sample_shape=torch.Size()) -> Tensor:
        """A draw without gradient, of shape `sample_shape + batch_shape + event_shape`."""
        return _drawn(self, self._sample, sample_shape, torch.no_grad)

    def rsample(self, sample_shape=torch.Size()) -> Tensor:
        """A draw with gradients to the parameters, of shape `sample_shape + batch_shape +
        event_shape`.
        """
        return _drawn(self, self._rsample, sample_shape, nullcontext)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density, or log-mass, of `value`; shape: `value`'s less its event dimensions."""
        checks.parameters(self)
        value = self._as_value(value)
        checks.value(self, value)
        return self._log_prob(value)

    def cdf(self, value: Tensor) -> Tensor:
        """The probability of at most `value`; of the shape of `value` and the batch, broadcast."""
        checks.parameters(self)
        return self._cdf(self._as_value(value))

    def icdf(self, value: Tensor) -> Tensor:
        """The number below which lies the probability `value`, between 0 and 1."""
        checks.parameters(self)
        return self._icdf(self._as_value(value))

    def _sample(self, sample_shape: torch.Size) -> Tensor:
        return super().sample(sample_shape)

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        return super().rsample(sample_shape)

    def _log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value)

    def _cdf(self, value: Tensor) -> Tensor:
        return super().cdf(value)

    def _icdf(self, value: Tensor) -> Tensor:
        return super().icdf(value)

    def _as_value(self, value) -> Tensor:
        """Numbers, and tensors of whole numbers or truth values, in the parameters' floating-point
        type.
        """
        if isinstance(value, Tensor) and value.is_floating_point():
            return value
        kind = floating(self)
        if isinstance(value, Tensor):
            return value if kind is None else value.to(kind.dtype)
        return (
            torch.as_tensor(value)
            if kind is None
            else torch.as_tensor(value, dtype=kind.dtype, device=kind.device)
        )

    def relations(self) -> Iterable[tuple[str, Tensor, Constraint]]:
        """What parameters must satisfy together: (name, value, constraint) of each."""
        return ()

    def stated(self) -> list[str]:
        """Names of the parameters that were given, not of those that are derived from them."""
        return [name for name in self.arg_constraints if not self._is_derived(name)]

    def _is_derived(self, name: str) -> bool:
        if name in self.__dict__:
            return False
        return isinstance(getattr(type(self), name, None), lazy_property) or not hasattr(self, name)

    def parts(self) -> Iterable[Distribution]:
        """The distributions that this one is made of; their parameters are checked as theirs."""
        inner = self.__dict__.get("base_dist")
        return (inner,) if inner is not None and not self.arg_constraints else ()

    # -- shapes ------------------------------------------------------------------------------------
    @classmethod
    def _adopted(cls, fn: torch_dist.Distribution) -> Distribution | None:
        """`fn`, of torch's class of this name, as one of ours; None when a copy of its attributes
        will do.
        """
        return None

    @property
    def event_dim(self) -> int:
        """How many dimensions one variable has: 0 for a number, 1 for a vector."""
        return len(self.event_shape)

    @property
    def batch_dim(self) -> int:
        """How many batch dimensions there are."""
        return len(self.batch_shape)

    @property
    def is_discrete(self) -> bool:
        """Whether values can be counted: 0, 1, 2, ..."""
        return bool(self.support.is_discrete)

    def shape(self, sample_shape=torch.Size()) -> torch.Size:
        """The shape of a draw."""
        return torch.Size(sample_shape) + self.batch_shape + self.event_shape

    def expand(self, batch_shape, _instance=None) -> Distribution:
        """The same distribution, independently repeated to fill `batch_shape`; sizes of 1 can grow.

        >>> import pplkit.distributions as dist
        >>> dist.Gamma(torch.ones(2, 1), 1.0).expand([5, 2, 3]).batch_shape
        torch.Size([5, 2, 3])
        """
        batch_shape = grown(self, batch_shape)
        if _instance is None and _made_here(type(self)):
            _instance = self.__new__(type(self))
        try:
            return super().expand(batch_shape, _instance)
        except NotImplementedError:
            from .wrappers import ExpandedDistribution

            return ExpandedDistribution(self, batch_shape)

    def expand_by(self, sample_shape) -> Distribution:
        """More independent copies: batch shape `sample_shape + batch_shape`."""
        return self.expand(torch.Size(sample_shape) + self.batch_shape)

    def to_event(self, reinterpreted_batch_ndims: int | None = None) -> Distribution:
        """Declare the rightmost batch dimensions, all unless told how many, parts of one variable.

        A negative number takes back as many earlier declarations.

        >>> import pplkit.distributions as dist
        >>> d = dist.Normal(torch.zeros(2, 3), 1.0).to_event(1)
        >>> d.batch_shape, d.event_shape, d.log_prob(torch.zeros(2, 3)).shape
        (torch.Size([2]), torch.Size([3]), torch.Size([2]))
        """
        n = self.batch_dim if reinterpreted_batch_ndims is None else reinterpreted_batch_ndims
        base, declared = self, 0
        while isinstance(base, Independent):
            declared += base.reinterpreted_batch_ndims
            base = base.base_dist
        if not -declared <= n <= self.batch_dim:
            raise errors.wrong_event_dims(self, n, declared)
        return Independent(base, declared + n) if declared + n else base

    def mask(self, mask: bool | Tensor) -> Distribution:
        """Let the log-probability count only where `mask`, which broadcasts with the batch shape,
        is true.

        >>> import pplkit.distributions as dist
        >>> d = dist.Normal(torch.zeros(2), 1.0).mask(torch.tensor([True, False]))
        >>> d.log_prob(torch.zeros(2))
        tensor([-0.9189,  0.0000])
        """
        from .wrappers import MaskedDistribution

        return MaskedDistribution(self, mask)

    def _unmasked(self) -> Distribution:
        """The distribution of the draws, which no mask changes."""
        inner = self.__dict__.get("base_dist")
        plain = inner._unmasked() if isinstance(inner, Distribution) else inner
        if plain is inner:
            return self
        new = copy.copy(self)
        new.base_dist = plain
        return new

    def __getstate__(self) -> dict:
        # A weak reference cannot be pickled.
        return {name: value for name, value in self.__dict__.items() if name != "_seen"}

    def __repr__(self) -> str:
        inner = [f"{name}: {_shown(getattr(self, name))}" for name in self.stated()]
        inner += [repr(part) for part in self.parts()]
        return f"{type(self).__name__}({', '.join(inner)})"


TorchDistribution = Distribution  # as Pyro calls the class that a user's own families derive from


def _drawn(self: Distribution, draw: Callable, sample_shape, following: Callable) -> Tensor:
    checks.parameters(self)
    try:
        sample_shape = torch.Size(sample_shape)
    except TypeError as fault:
        raise errors.sample_shape_not_a_shape(sample_shape) from fault
    noise = noise_here() if "_of_noise" in type(self).__dict__ else None
    if noise is not None:  # as the context below would have it, but sooner
        with following():
            value = self._of_noise(noise, sample_shape)
    else:
        with drawing(), fresh_draws():
            value = draw(sample_shape)
    self._seen = ref(value)
    return value


@functools.cache
def _made_here(cls: type) -> bool:
    """Whether instances are built by the engine or torch, so that torch's way of copying them is
    safe.
    """
    owner = next(c for c in cls.__mro__ if "__init__" in c.__dict__)
    return owner.__module__.startswith(("pplkit.", "torch."))


def _shown(value) -> str:
    if isinstance(value, Tensor) and value.dim():
        return str(tuple(value.shape))
    return f"{value:.6g}" if isinstance(value, Tensor) and value.is_floating_point() else str(value)


def floating(fn: torch_dist.Distribution) -> Tensor | None:
    """Any floating-point parameter, for its type and device."""
    for value in fn.__dict__.values():
        if isinstance(value, Tensor) and value.is_floating_point():
            return value
    inner = (v for v in fn.__dict__.values() if isinstance(v, torch_dist.Distribution))
    return next((kind for v in inner if (kind := floating(v)) is not None), None)


def parameters(*values) -> tuple[Tensor, ...]:
    """Numbers and tensors, broadcast to one shape; floating point."""
    return tuple(
        v if v.is_floating_point() else v.to(torch.get_default_dtype())
        for v in broadcast_all(*values)
    )


class Family(Distribution):
    """A family of pplkit's own: torch has none of this name.

    Its parameters are the attributes that `arg_constraints` names, of batch shape and, on its
    right, as many dimensions as the constraint's events have; `_inner` names attributes that are
    distributions.
    """

    _inner: tuple[str, ...] = ()

    def expand(self, batch_shape, _instance=None) -> Distribution:
        if not _made_here(type(self)):
            return super().expand(batch_shape, _instance)
        batch_shape = grown(self, batch_shape)
        new = self.__new__(type(self)) if _instance is None else _instance
        new.__dict__.update(self.__dict__)
        for name, constraint in self.arg_constraints.items():
            value = self.__dict__.get(name)
            if isinstance(value, Tensor) and not is_dependent(constraint):
                event_shape = value.shape[value.dim() - constraint.event_dim :]
                new.__dict__[name] = value.expand(batch_shape + event_shape)
        for name in self._inner:
            new.__dict__[name] = self.__dict__[name].expand(batch_shape)
        torch_dist.Distribution.__init__(new, batch_shape, self.event_shape, validate_args=False)
        return new

    def _sample(self, sample_shape: torch.Size) -> Tensor:
        with torch.no_grad():
            return self._rsample(sample_shape)

    def _extended(self, sample_shape: torch.Size) -> torch.Size:
        return sample_shape + self.batch_shape + self.event_shape


class Independent(Distribution, torch_dist.Independent):
    """A distribution whose rightmost batch dimensions are parts of one variable; made by
    `.to_event(n)`.

    Args:
        base_distribution: the distribution of the parts.
        reinterpreted_batch_ndims: how many of its rightmost batch dimensions are one variable.

    >>> import pplkit.distributions as dist
    >>> Independent(dist.Normal(torch.zeros(3), 1.0), 1).log_prob(torch.zeros(3)).shape
    torch.Size([])
    """

    def __init__(self, base_distribution, reinterpreted_batch_ndims, validate_args=None):
        super().__init__(adopt(base_distribution), reinterpreted_batch_ndims, validate_args)

    def _log_prob(self, value: Tensor) -> Tensor:
        return summed(self.base_dist._log_prob(value), self.reinterpreted_batch_ndims)

    def _as_value(self, value) -> Tensor:
        return self.base_dist._as_value(value)


def grown(fn: torch_dist.Distribution, batch_shape) -> torch.Size:
    """The batch shape that `fn` is to be expanded to; ShapeError if it cannot."""
    wide, own = torch.Size(batch_shape), fn.batch_shape
    kept = wide[len(wide) - len(own) :] if len(wide) >= len(own) else ()
    if len(kept) != len(own) or any(a != b and a != 1 for a, b in zip(own, kept, strict=True)):
        raise errors.cannot_expand(fn, wide)
    return wide


def summed(log_prob: Tensor, dims: int) -> Tensor:
    """The sum over the `dims` rightmost dimensions."""
    return log_prob.sum(tuple(range(-dims, 0))) if dims else log_prob


_adopted: dict[type, type] = {}


def adopt(fn: torch_dist.Distribution) -> Distribution:
    """One of torch's own distributions, or of a user's over them, as one of ours.

    >>> adopt(torch.distributions.Normal(0.0, 1.0)).to_event
    <bound method Distribution.to_event of Normal(loc: 0, scale: 1)>
    """
    if isinstance(fn, Distribution):
        return fn
    cls = type(fn)
    if cls not in _adopted:
        from .. import distributions

        ours = getattr(distributions, cls.__name__, None)
        known = isinstance(ours, type) and cls.__module__.startswith("torch.distributions.")
        _adopted[cls] = ours if known else _over(cls)
    made = _adopted[cls]._adopted(fn)
    if made is not None:
        return made
    fn = copy.copy(fn)
    for name, value in fn.__dict__.items():
        if isinstance(value, torch_dist.Distribution):
            fn.__dict__[name] = adopt(value)
    fn.__class__ = _adopted[cls]
    return fn


def _over(cls: type) -> type:
    made_by = type(cls)
    if not issubclass(_FamilyType, made_by):
        made_by = type("_FamilyType", (_FamilyType, made_by), {})
    else:
        made_by = _FamilyType
    return made_by(cls.__name__, (Distribution, cls), {"__module__": cls.__module__})
