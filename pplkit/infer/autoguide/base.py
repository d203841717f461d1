"""What automatic guides share: they run the model once, and remember its latent variables."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Transform
from torch.distributions.constraints import Constraint

from ... import checks, errors
from ...distributions import Delta, biject_to
from ...effects import Message, PlateFrame
from ...handlers import block, trace
from ...params import ParamStore, StandIn, aside, get_param_store
from ...primitives import param, plate, sample
from .initialization import InitHandler, Strategy, init_to_median


class Latent(NamedTuple):
    """A latent variable of the model, as its first run had it."""

    name: str
    support: Constraint
    event_dim: int
    plates: tuple[PlateFrame, ...]
    start: Tensor  # its first value; the full plates' rows, then the event
    to_support: Transform  # from all real numbers
    free_start: Tensor  # the first value, unconstrained

    @property
    def free_event_dim(self) -> int:
        """How many rightmost dimensions of the unconstrained value are one variable."""
        return self.event_dim + self.free_start.dim() - self.start.dim()


class AutoGuide:
    """A guide made from a model; it takes the model's arguments.

    Its parameters are in the parameter store, their names beginning with the guide's.

    Args:
        model: the model; sites that it hides (`handlers.block`) are left to other guides.
        init_loc_fn: a strategy for the first values, see `initialization`.
        create_plates: a function of the model's arguments that returns a plate, or several, to use
            in place of the guide's own: with a subsample of the caller's choice, say.
        name: put before parameters' names; the class's, unless told.

    A subclass draws each of `self.latents` in `forward`:

    >>> import pplkit, pplkit.distributions as dist
    >>> class FromPrior(AutoGuide):
    ...     def forward(self, *args, **kwargs):
    ...         return {z.name: pplkit.sample(z.name, dist.Normal(0.0, 1.0)) for z in self.latents}
    >>> model = lambda: pplkit.sample("z", dist.Normal(0.0, 1.0))
    >>> list(FromPrior(model)())
    ['z']
    """

    def __init__(
        self,
        model: Callable,
        init_loc_fn: Strategy = init_to_median,
        *,
        create_plates: Callable | None = None,
        name: str | None = None,
    ):
        if not callable(model):
            raise errors.wrong_argument(type(self).__name__, "model=", model, "a function")
        for label, given in (("init_loc_fn=", init_loc_fn), ("create_plates=", create_plates)):
            if not callable(given) and (given is not None or label == "init_loc_fn="):
                raise errors.wrong_argument(type(self).__name__, label, given, "a function")
        self.model, self.init_loc_fn, self.create_plates = model, init_loc_fn, create_plates
        self.name = type(self).__name__ if name is None else name
        self._latents: list[Latent] | None = None
        self._ran_in: ParamStore | None = None

    def __call__(self, *args, **kwargs) -> dict[str, Tensor]:
        """Draw the latent variables: values by name."""
        if self._latents is None:
            self.setup(*args, **kwargs)
        here = get_param_store()
        if isinstance(here, StandIn):
            here.guests.append(self)
        else:
            self._ran_in = here
        run = copy.copy(self)  # another thread may run the same guide, with plates of its own
        run._plates = self._made_plates(args, kwargs)
        return run.forward(*args, **kwargs)

    def forward(self, *args, **kwargs) -> dict[str, Tensor]:
        """The guide itself, run inside the model's arguments."""
        raise NotImplementedError

    def median(self, *args, **kwargs) -> dict[str, Tensor]:
        """The guide's median of each latent variable, by name."""
        raise NotImplementedError

    # -- the model's structure ---------------------------------------------------------------
    @property
    def latents(self) -> list[Latent]:
        """The model's latent variables; known after the first run."""
        if self._latents is None:
            raise errors.guide_not_run(self.name, "asked")
        return self._latents

    def setup(self, *args, **kwargs) -> None:
        """Run the model once, to see which latent variables it has."""
        with block(), aside(), torch.no_grad():
            run = trace(InitHandler(self.model, self.init_loc_fn)).get_trace(*args, **kwargs)
        drawn = [site for site in run.sites("sample") if not site.is_observed]
        self._latents = [self._latent(site) for site in drawn]

    def _latent(self, site: Message) -> Latent:
        start, event_dim = site.value.detach(), site.fn.event_dim
        for frame in site.plates:
            if not frame.vectorized:
                raise errors.sequential_plate_in_guide(self.name, site, frame)
            if frame.size != frame.full_size:
                start = _repeated(start, frame.full_size, frame.dim - event_dim)
        support = site.fn.support
        if support.is_discrete:
            raise errors.discrete_latent(self.name, site)
        try:
            to_support = biject_to(support)
            free = to_support.inv(start)
        except NotImplementedError as fault:
            raise errors.no_bijection(self.name, site) from fault
        return Latent(site.name, support, event_dim, site.plates, start, to_support, free)

    def _made_plates(self, args, kwargs) -> dict[str, plate]:
        given = self.create_plates(*args, **kwargs) if self.create_plates is not None else ()
        given = [given] if isinstance(given, plate) else list(given)
        for made in given:
            if not isinstance(made, plate):
                raise errors.wrong_argument(self.name, "create_plates=", made, "plates")
        plates = {made.name: made for made in given}
        for frame in (frame for latent in self.latents for frame in latent.plates):
            if frame.name not in plates:
                rows = frame.size if frame.size != frame.full_size else None
                plates[frame.name] = plate(frame.name, frame.full_size, rows, dim=frame.dim)
        return plates

    @contextmanager
    def inside(self, latent: Latent) -> Iterator[None]:
        """The plates around a latent variable."""
        with ExitStack() as stack:
            for frame in latent.plates:
                stack.enter_context(self._plates[frame.name])
            yield

    # -- parameters and draws ----------------------------------------------------------------
    def param(self, name: str, start: Tensor | Callable[[], Tensor], *args, **kwargs) -> Tensor:
        """The statement `param`, under the guide's name."""
        return param(f"{self.name}.{name}", start, *args, **kwargs)

    @property
    def _store(self) -> ParamStore | None:
        here = get_param_store()
        captured = isinstance(here, StandIn) and any(x is self for x in here.guests)
        return here if captured else self._ran_in

    @contextmanager
    def stored(self) -> Iterator[ParamStore]:
        """The parameter store that the guide's last run has used."""
        store = self._store
        if store is None:
            raise errors.guide_not_run(self.name, "asked")
        with store:
            yield store

    def __repr__(self) -> str:
        return f"{self.name}({getattr(self.model, '__name__', '...')})"


def draw_from_free(latent: Latent, free: Tensor) -> Tensor:
    """Sample a latent variable at the image of an unconstrained draw, with the Jacobian's density.

    Args:
        free: the unconstrained draw, of the rows that take part.
    """
    to_support = latent.to_support
    value = to_support(free)
    if value is free:
        return sample(latent.name, Delta(value, event_dim=latent.event_dim))
    volume = to_support.log_abs_det_jacobian(free, value)
    extra = volume.dim() - (value.dim() - latent.event_dim)
    if extra:
        volume = volume.sum(tuple(range(-extra, 0)))
    return sample(latent.name, Delta(value, -volume, latent.event_dim))


def _repeated(value: Tensor, size: int, dim: int) -> Tensor:
    """`value`, repeated along `dim` until it has `size` rows there."""
    times = [1] * value.dim()
    times[dim] = -(-size // value.shape[dim])
    return value.repeat(times).narrow(dim, 0, size).contiguous()


class AutoCallable(AutoGuide):
    """A function as a part of an `AutoGuideList`.

    Args:
        model: the model.
        guide: a guide for some of its variables.
        median: a function of the model's arguments that returns medians by name, if there is one.

    >>> import pplkit, pplkit.distributions as dist
    >>> model = lambda: pplkit.sample("z", dist.Normal(0.0, 1.0))
    >>> AutoCallable(model, lambda: {"z": pplkit.sample("z", dist.Delta(torch.tensor(2.0)))})()
    {'z': tensor(2.)}
    """

    def __init__(self, model: Callable, guide: Callable, median: Callable = lambda *a, **k: {}):
        super().__init__(model)
        if not callable(guide):
            raise errors.wrong_argument("AutoCallable", "guide=", guide, "a function")
        self.guide, self.median = guide, median

    def __call__(self, *args, **kwargs) -> dict[str, Any]:
        result = self.guide(*args, **kwargs)
        return result if isinstance(result, dict) else {}

    def quantiles(self, quantiles, *args, **kwargs) -> dict[str, Tensor]:
        """None are known."""
        return {}


class AutoGuideList(AutoGuide):
    """Several guides in a row, each for some of the model's variables.

    Args:
        model: the model.

    >>> import pplkit, pplkit.distributions as dist
    >>> from pplkit.handlers import block
    >>> from pplkit.infer.autoguide import AutoDelta, AutoNormal
    >>> pplkit.clear_param_store()
    >>> def model():
    ...     pplkit.sample("x", dist.Normal(0.0, 1.0))
    ...     pplkit.sample("y", dist.Normal(0.0, 1.0))
    >>> guide = AutoGuideList(model)
    >>> guide.append(AutoNormal(block(model, hide=["y"])))
    >>> guide.append(AutoDelta(block(model, hide=["x"])))
    >>> sorted(guide())
    ['x', 'y']
    """

    def __init__(self, model: Callable, *, create_plates: Callable | None = None):
        super().__init__(model, create_plates=create_plates)
        self.parts: list[AutoGuide] = []

    def append(self, part: AutoGuide | Callable) -> None:
        """Add a guide for some of the variables: an automatic one, or a function."""
        if not isinstance(part, AutoGuide):
            part = AutoCallable(self.model, part)
        if any(part is other for other in self.parts):
            raise errors.wrong_argument("AutoGuideList", "part=", part, "a part added once")
        if part.create_plates is None:
            part.create_plates = self.create_plates
        self.parts.append(part)

    def __call__(self, *args, **kwargs) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        for part in self.parts:
            drawn = part(*args, **kwargs)
            twice = sorted(values.keys() & drawn.keys())
            if twice:
                raise errors.parts_overlap("AutoGuideList", twice)
            values.update(drawn)
        return values

    def median(self, *args, **kwargs) -> dict[str, Tensor]:
        """The parts' medians, by name."""
        return {k: v for part in self.parts for k, v in part.median(*args, **kwargs).items()}

    def quantiles(self, quantiles, *args, **kwargs) -> dict[str, Tensor]:
        """The parts' quantiles, by name."""
        found = [part.quantiles(quantiles, *args, **kwargs) for part in self.parts]
        return {name: value for part in found for name, value in part.items()}

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, i: int) -> AutoGuide:
        return self.parts[i]

    def __iter__(self) -> Iterator[AutoGuide]:
        return iter(self.parts)


def as_quantiles(quantiles: float | Sequence[float] | Tensor, like: Tensor) -> Tensor:
    """The quantiles asked for, as a tensor of one dimension, or of none for one number."""
    asked = torch.as_tensor(quantiles, dtype=like.dtype, device=like.device)
    if asked.dim() > 1 or not checks.holds(((asked > 0) & (asked < 1)).all()):
        expected = "numbers between 0 and 1, as [0.05, 0.5, 0.95]"
        raise errors.wrong_argument("quantiles", "quantiles=", quantiles, expected)
    return asked


def of_a_point(
    values: dict[str, Tensor], quantiles: float | Sequence[float] | Tensor
) -> dict[str, Tensor]:
    """The quantiles of distributions that have all their weight on one value."""
    asked = as_quantiles(quantiles, torch.zeros(()))
    return {name: value.expand(asked.shape + value.shape) for name, value in values.items()}


def positive_float(guide: str, argument: str, given: Any) -> float:
    """`given`, if it is a positive number."""
    number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if not number or not given > 0:
        raise errors.wrong_argument(guide, argument, given, "a positive number")
    return float(given)
