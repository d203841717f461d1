"""Enumeration: a discrete site takes all its values at once, along a dimension of its own.

An enumerated value has its alternatives along a new dimension, left of those of the plates. What is
computed from it inherits the dimension, and so a single run of the program tells the joint
log-probability of every combination of values, each site's as a table over the variables that it
depends on. Which variable stands at which dimension is written beside each site; in `markov` loops
a dimension whose variable is forgotten is given to the next.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from weakref import ref

from torch import Tensor

from . import errors
from .effects import Handler, Message

_STRATEGIES = ("parallel", "sequential")
_MOST_DIMS = 62  # torch's tensors have up to 64, and a value needs some for its event


class enum(Handler):
    """Give every site that is marked `infer={"enumerate": "parallel"}` all its values at once.

    The values of a site stand along a dimension of their own, at or left of `first_available_dim`.
    With `num_samples` in a site's `infer`, they are that many draws instead of all values.

    Args:
        fn: the model.
        first_available_dim: negative; dimensions from here to the left must be free of plates.

    Raises:
        ModelError: a marked site whose values cannot be listed.
        PlateError: a plate that reaches into the dimensions of enumeration.

    >>> import torch, pplkit, pplkit.distributions as dist
    >>> @enum(first_available_dim=-1)
    ... def model():
    ...     z = pplkit.sample("z", dist.Bernoulli(0.3), infer={"enumerate": "parallel"})
    ...     return pplkit.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(0.0)), z
    >>> tr = pplkit.handlers.trace(model).get_trace()
    >>> tr.nodes["z"].value, tr.nodes["x"].log_prob
    (tensor([0., 1.]), tensor([-0.9189, -1.4189]))
    """

    def __init__(self, fn=None, first_available_dim: int | None = None):
        super().__init__(fn)
        self.first_available_dim = first_dim("enum", first_available_dim)

    def activation(self) -> Handler:
        return Enumerating(Dims(self.first_available_dim))


def first_dim(what: str, dim) -> int:
    """A `first_available_dim` as a user gives it."""
    if not isinstance(dim, int) or isinstance(dim, bool) or dim >= 0:
        expected = "a negative whole number: -1 without plates, -2 left of one plate"
        raise errors.wrong_argument(what, "first_available_dim=", dim, expected)
    return dim


@dataclass(slots=True)
class Dims:
    """Which variable stands at which dimension."""

    first: int  # dimensions from here to the left are free of plates
    lowest: int = 0  # left of it nothing has been given away yet
    everywhere: dict[int, str] = field(default_factory=dict)  # seen by all sites that follow
    values: dict[str, dict[int, str]] = field(
        default_factory=dict
    )  # what a site's value depends on
    around: dict[str, set[int]] = field(default_factory=dict)  # taken when a site got its own
    depths: dict[str, int] = field(default_factory=dict)  # how many markov loops a site stands in
    given: dict[str, tuple[int, int]] = field(default_factory=dict)  # dimension and size, by site

    def __post_init__(self):
        self.lowest = self.first

    def seen_by(self, msg: Message) -> dict[int, str]:
        """The variables that a site may depend on, by their dimensions."""
        seen = dict(self.everywhere)
        scope = msg.infer.get("_markov_scope")
        if scope is None:
            return seen
        self.depths[msg.name] = msg.infer["_markov_depth"]
        for name, depth in scope.items():
            if self.depths.get(name) == depth:  # no loop around it has ended
                for dim, variable in self.values.get(name, {}).items():
                    if seen.setdefault(dim, variable) != variable:
                        raise errors.dimension_shared(msg, dim, seen[dim], variable)
        return seen

    def allocate(self, msg: Message) -> int:
        """A dimension for a site's values that no variable has that is still remembered."""
        scope = msg.infer.get("_markov_scope")
        if scope is None:
            dim = self.lowest
        else:
            # Also those of loops that have ended: a later site may see them beside this one.
            near = {dim for name in scope for dim in self.values.get(name, ())}
            near |= self.everywhere.keys()
            # A dimension rests for a while: who depends on a variable that was just forgotten would
            # else be taken to depend on its successor.
            rest = near.union(*(self.around.get(name, ()) for name in scope))
            free = [d for d in range(self.first, self.lowest - 1, -1) if d not in rest]
            dim = next((d for d in free if -d <= _MOST_DIMS), None)
            if dim is None:
                dim = next(d for d in range(self.first, self.lowest - 1, -1) if d not in near)
            self.around[msg.name] = near
        self.lowest = min(self.lowest, dim - 1)
        if -dim > _MOST_DIMS:
            raise errors.too_many_dimensions(msg, len(self.given))
        return dim


class Enumerating(Handler):
    """`enum` at work, with the dimensions that it has given away; a model's continue a guide's."""

    def __init__(self, dims: Dims):
        super().__init__()
        self.dims = dims
        self.first_available_dim = dims.first

    def process_message(self, msg: Message) -> None:
        if msg.type != "sample":
            return
        seen = self.dims.seen_by(msg)
        msg.infer["_enumerated"] = seen
        if msg.is_observed:
            return
        if msg.value is not None:  # another run's, with the dimensions that it had there
            seen.update(self.dims.values.get(msg.name, {}))
        elif strategy(msg) == "parallel":
            self._check_rows(msg, seen)
            values = alternatives(msg)
            dim = self.dims.allocate(msg)
            msg.value = _moved(msg, values, dim)
            msg.infer["_enumerate_dim"] = dim
            msg.fn._seen = ref(msg.value)  # inside the support: the support is where they are from
            self.dims.given[msg.name] = dim, len(values)
            seen[dim] = msg.name

    def _check_rows(self, msg: Message, seen: dict[int, str]) -> None:
        """Raise if a site has rows of no plate: they would be taken for its values."""
        shape = msg.fn.batch_shape
        plates = {frame.dim for frame in msg.plates if frame.vectorized}
        for dim in range(-len(shape), 0):
            if shape[dim] != 1 and dim not in plates and dim not in seen:
                if dim <= self.dims.first:
                    raise errors.dimension_out_of_scope(msg, dim, shape[dim])
                raise errors.rows_without_plate(msg, dim, shape[dim])

    def postprocess_message(self, msg: Message) -> None:
        if msg.type != "sample" or msg.is_observed or not isinstance(msg.value, Tensor):
            return
        shape = msg.value.shape[: msg.value.dim() - msg.fn.event_dim]
        seen = msg.infer["_enumerated"]
        exposed = {d: v for d, v in seen.items() if len(shape) >= -d and shape[d] > 1}
        self.dims.values[msg.name] = exposed
        if "_markov_scope" not in msg.infer:
            self.dims.everywhere.update(exposed)

    def ended_by(self, fault: BaseException, tb) -> None:
        """Say what Python cannot ask of all values at once; add to an error about shapes which
        dimensions are enumeration's."""
        names = list(self.dims.given)
        if names and (told := errors.one_number_of_values(names, fault, tb)) is not None:
            raise told from fault
        words = ("shape", "size", "broadcast", "dimension", "index")
        ours = isinstance(fault, errors.PplkitError)
        kinds = errors.ShapeError if ours else (RuntimeError, ValueError, IndexError)
        if (
            self.dims.given
            and isinstance(fault, kinds)
            and any(word in str(fault).lower() for word in words)
        ):
            errors.add_enumerated(fault, self.dims.given)


def strategy(msg: Message) -> str | None:
    """How a site is to be enumerated: "parallel", "sequential", or None for not at all."""
    how = msg.infer.get("enumerate")
    if how is not None and how not in _STRATEGIES:
        raise errors.unknown_strategy(msg, how, list(_STRATEGIES))
    return how


def alternatives(msg: Message) -> Tensor:
    """All values of a site, or `num_samples` draws, along a new first dimension."""
    number = msg.infer.get("num_samples")
    if number is not None:
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise errors.number_of_samples(msg, number)
        return msg.fn((number,))
    if not msg.fn.has_enumerate_support:
        raise errors.cannot_enumerate(msg)
    try:
        return msg.fn.enumerate_support(expand=bool(msg.infer.get("expand", False)))
    except NotImplementedError as fault:
        raise errors.cannot_enumerate(msg, str(fault)) from fault


def _moved(msg: Message, values: Tensor, dim: int) -> Tensor:
    """Values along the first dimension, with that dimension moved to batch dimension `dim`."""
    event_shape = msg.fn.event_shape
    batch = values.shape[1 : values.dim() - len(event_shape)]
    batch = (1,) * (-dim - len(batch)) + tuple(batch)
    at = len(batch) + dim
    values = values.reshape(values.shape[:1] + batch + event_shape).transpose(0, 1 + at)
    return values.squeeze(0)
