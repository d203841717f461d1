"""Random programs, as data: how they are run on either engine, and what shapes they must have.

A program is a tree of frozen dataclasses: statements, plates, handlers. `Runner` interprets it with
the statements of an engine. `Expected` computes, from the tree alone, the shape of every value.
The strategies that make programs are in `program_strategies`.
"""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from pplkit import checks, effects

Shape = tuple[int, ...]


# -- the tree -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fn:
    """A distribution: `shapes` are the batch shapes of its parameters."""

    family: str
    shapes: tuple[Shape, ...]
    expand: Shape | None = None
    to_event: int = 0
    mask: bool | Shape | None = None


@dataclass(frozen=True)
class Sample:
    name: str
    fn: Fn
    obs: Shape | None = None  # the whole shape of the observation
    obs_mask: Shape | None = None


@dataclass(frozen=True)
class Param:
    name: str
    shape: Shape
    positive: bool = False
    event_dim: int | None = None


@dataclass(frozen=True)
class Deterministic:
    name: str
    shape: Shape
    event_dim: int | None = None


@dataclass(frozen=True)
class Factor:
    name: str
    shape: Shape


@dataclass(frozen=True)
class Subsample:
    shape: Shape
    event_dim: int = 0


@dataclass(frozen=True)
class Plate:
    """`how`: entered by "with", iterated by "for", used as "decorator"; "again": the object that
    was made under this name before is entered once more."""

    name: str
    size: int
    body: tuple
    dim: int | None = None
    rows: int | tuple[int, ...] | None = None  # a subsample's size, or the rows themselves
    how: str = "with"


@dataclass(frozen=True)
class Markov:
    steps: int
    history: int
    body: tuple


@dataclass(frozen=True)
class Under:
    """Statements under a handler of their own."""

    handler: Any
    body: tuple


@dataclass(frozen=True)
class Raise:
    """The user's own mistake."""


@dataclass(frozen=True)
class Handled:
    """A handler: its name, and keywords as pairs; what a value is made of is said in `made`."""

    kind: str
    given: tuple[tuple[str, Any], ...] = ()

    @property
    def keywords(self) -> dict:
        return dict(self.given)


@dataclass(frozen=True)
class Program:
    body: tuple
    handlers: tuple[Handled, ...] = ()  # innermost first


def walk(tree):
    """Every node of a program, handlers too, from the outside in."""
    if isinstance(tree, tuple):
        for node in tree:
            yield from walk(node)
        return
    yield tree
    if isinstance(tree, Program):
        yield from walk(tree.handlers)
    if isinstance(tree, Under):
        yield tree.handler
    yield from walk(getattr(tree, "body", ()))


# -- numbers --------------------------------------------------------------------------------------


def numbers(shape: Shape, low: float, high: float) -> Tensor:
    """Different ones, so that exchanged rows show."""
    count = torch.Size(shape).numel()
    return torch.linspace(low, high, count + 2, dtype=torch.float64)[1:-1].reshape(shape)


def booleans(shape: Shape) -> Tensor:
    return (torch.arange(torch.Size(shape).numel()) % 3 != 1).reshape(shape)


@dataclass(frozen=True)
class Family:
    parameters: tuple[tuple[Shape, float, float], ...]  # of each: event shape, lowest, highest
    event: Shape = ()
    support: str = "real"
    has_rsample: bool = True
    locations: int = 0  # how many leading parameters may depend on earlier values


FAMILIES = {
    "Normal": Family((((), -1, 1), ((), 0.5, 2)), locations=1),
    "LogNormal": Family((((), -1, 1), ((), 0.5, 1)), support="positive", locations=1),
    "Gamma": Family((((), 1, 3), ((), 1, 3)), support="positive"),
    "Beta": Family((((), 1, 3), ((), 1, 3)), support="unit"),
    "StudentT": Family((((), 3, 5), ((), -1, 1), ((), 0.5, 2))),
    "Bernoulli": Family((((), 0.2, 0.8),), support="whole", has_rsample=False),
    "Poisson": Family((((), 0.5, 3),), support="whole", has_rsample=False),
    "Categorical": Family((((3,), 0.2, 0.8),), support="index", has_rsample=False),
    "Dirichlet": Family((((3,), 1, 3),), event=(3,), support="simplex"),
    "MultivariateNormal": Family((((2,), -1, 1), ((2, 2), 0, 0)), event=(2,), locations=1),
    "Delta": Family((((), -1, 1),), support="delta", locations=0),
}


def parameter(family: str, k: int, batch: Shape) -> Tensor:
    event, low, high = FAMILIES[family].parameters[k]
    if event == (2, 2):
        spread = numbers(batch, 0.5, 1.5).reshape((*batch, 1, 1))
        return torch.tensor([[1.0, 0.0], [0.4, 0.8]], dtype=torch.float64) * spread
    values = numbers((*batch, *event), low, high)
    return values / values.sum(-1, keepdim=True) if family == "Categorical" else values


def in_support(family: str, shape: Shape) -> Tensor:
    """A value of this shape that the family can take."""
    support = FAMILIES[family].support
    if support in ("whole", "index"):
        return (numbers(shape, 0, 2) > 1).to(torch.long if support == "index" else torch.float64)
    if support == "simplex":
        values = numbers(shape, 1, 2)
        return values / values.sum(-1, keepdim=True) if shape else values
    bounds = {"real": (-2, 2), "positive": (0.2, 2), "unit": (0.1, 0.9), "delta": (-1, 1)}[support]
    return numbers(shape, *bounds)


# -- running --------------------------------------------------------------------------------------


class OnPurpose(Exception):
    """What `Raise` raises."""


@dataclass
class Runner:
    """Interprets a program with the statements of `ppl`; `returned` is what they have answered."""

    ppl: Any
    returned: list = field(default_factory=list)  # (name, value)
    plates: dict = field(default_factory=dict)
    last: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    raised: bool = False
    guide: bool = False  # sample what the program leaves to be inferred, from shifted parameters

    def run(self, body: tuple, suffix: str = "") -> list:
        for node in body:
            getattr(self, type(node).__name__.lower())(node, suffix)
        return [value for _, value in self.returned]

    def answer(self, name: str, value: Any) -> None:
        self.returned.append((name, value))
        if isinstance(value, Tensor) and value.dtype == torch.float64 and value.numel():
            self.last = 0.1 * value.mean() + 0.5 * self.last

    def sample(self, node: Sample, suffix: str) -> None:
        if self.guide and node.obs is not None:
            return
        fn = self.distribution(node.fn, node.name + suffix)
        given = {}
        if node.obs is not None:
            given["obs"] = in_support(node.fn.family, node.obs)
        if node.obs_mask is not None:
            given["obs_mask"] = booleans(node.obs_mask)
        self.answer(node.name + suffix, self.ppl.sample(node.name + suffix, fn, **given))

    def distribution(self, said: Fn, name: str):
        values = [parameter(said.family, k, shape) for k, shape in enumerate(said.shapes)]
        for k in range(FAMILIES[said.family].locations):
            values[k] = values[k] + self.last
        if self.guide:
            shift = torch.tensor(0.1, dtype=torch.float64)
            positive = self.ppl.dist.constraints.positive
            factor = self.ppl.param(f"{name}_q", shift.exp(), constraint=positive)
            values[0] = values[0] * factor
            if said.family == "Categorical":
                values[0] = values[0] / values[0].sum(-1, keepdim=True)
            if said.family == "Bernoulli":
                values[0] = values[0].clamp(max=0.95)
        family = getattr(self.ppl.dist, said.family)
        multivariate = said.family == "MultivariateNormal"
        fn = family(values[0], scale_tril=values[1]) if multivariate else family(*values)
        if said.expand is not None:
            fn = fn.expand(said.expand)
        if said.to_event:
            fn = fn.to_event(said.to_event)
        if said.mask is not None:
            fn = fn.mask(said.mask if isinstance(said.mask, bool) else booleans(said.mask))
        return fn

    def param(self, node: Param, suffix: str) -> None:
        if self.guide:
            return
        constraints = self.ppl.dist.constraints
        limits = (0.5, 2) if node.positive else (-1, 1)
        constraint = constraints.positive if node.positive else constraints.real
        start = numbers(node.shape, *limits)
        value = self.ppl.param(node.name, start, constraint=constraint, event_dim=node.event_dim)
        self.answer(node.name, value)

    def deterministic(self, node: Deterministic, suffix: str) -> None:
        if self.guide:
            return
        value = numbers(node.shape, -1, 1) + self.last
        value = self.ppl.deterministic(node.name + suffix, value, event_dim=node.event_dim)
        self.answer(node.name + suffix, value)

    def factor(self, node: Factor, suffix: str) -> None:
        if not self.guide:
            self.ppl.factor(node.name + suffix, numbers(node.shape, -1, 0) + self.last)

    def subsample(self, node: Subsample, suffix: str) -> None:
        if not self.guide:
            rows = self.ppl.subsample(numbers(node.shape, 0, 9), event_dim=node.event_dim)
            self.answer("subsample", rows)

    def raise_(self, node: Raise, suffix: str) -> None:
        self.raised = True
        raise OnPurpose

    def plate(self, node: Plate, suffix: str) -> None:
        if node.how == "again":
            plate = self.plates[node.name]
        else:
            rows = {}
            if isinstance(node.rows, int):
                rows = {"subsample_size": node.rows}
            elif node.rows is not None:
                rows = {"subsample": torch.tensor(node.rows)}
            plate = self.ppl.plate(node.name + suffix, node.size, dim=node.dim, **rows)
        self.plates[node.name] = plate
        if node.how == "for":
            for position, row in enumerate(plate):
                self.answer(f"row of {node.name}", torch.tensor(row))
                self.run(node.body, f"{suffix}_{position}")
        elif node.how == "decorator":
            plate(self.run)(node.body, suffix)
        else:
            with plate as rows:
                self.answer(f"rows of {node.name}", rows)
                self.run(node.body, suffix)

    def markov(self, node: Markov, suffix: str) -> None:
        for step in self.ppl.markov(range(node.steps), history=node.history):
            self.run(node.body, f"{suffix}_{step}")

    def under(self, node: Under, suffix: str) -> None:
        with self.handler(node.handler):
            self.run(node.body, suffix)

    def handler(self, said: Handled):
        given = {key: self.made(value) for key, value in said.given}
        if said.kind == "scope" and self.ppl.name == "pyro":
            from pyro.contrib.autoname import scope

            return scope(**given)
        if said.kind == "infer_config":
            given = {"config_fn": lambda site: {"note": 7}}
        return getattr(self.ppl.handlers, said.kind)(**given)

    def made(self, value):
        """What a handler is given, from how the tree says it."""
        if isinstance(value, Data):
            return {name: in_support(family, shape) for name, family, shape in value.items}
        if isinstance(value, Mask):
            return booleans(value.shape)
        if isinstance(value, Scale):
            return numbers(value.shape, 0.5, 3)
        if isinstance(value, Prior):
            fn = self.ppl.dist.Normal(numbers(value.shape, 0.2, 2), 0.01)
            fn = fn.to_event(len(value.shape))
            return fn if value.name is None else {value.name: fn}
        return list(value) if isinstance(value, tuple) else value

    def whole(self, program: Program):
        """The program as a function without arguments, under its handlers."""

        def model():
            return self.run(program.body)

        for said in program.handlers:
            if said.kind == "replay":
                then = self.handlers_free_trace(program)
                model = self.ppl.handlers.replay(model, trace=then)
                continue
            model = wrapped(self.handler(said), model)
        return model

    def handlers_free_trace(self, program: Program):
        earlier = Runner(self.ppl)
        torch.manual_seed(99)
        return self.ppl.handlers.trace(lambda: earlier.run(program.body)).get_trace()


Runner.raise_.__name__ = "raise"
setattr(Runner, "raise", Runner.raise_)


def wrapped(handler, model):
    def under():
        with handler:
            return model()

    return under


@dataclass(frozen=True)
class Data:
    items: tuple[tuple[str, str, Shape], ...]  # name, family, shape


@dataclass(frozen=True)
class Mask:
    shape: Shape


@dataclass(frozen=True)
class Scale:
    shape: Shape


@dataclass(frozen=True)
class Prior:
    shape: Shape
    name: str | None = None


# -- what must come out ---------------------------------------------------------------------------


def broadcast(*shapes: Shape) -> Shape | None:
    """Written out, so as not to ask what is under test; None: they do not fit."""
    longest = max(map(len, shapes), default=0)
    padded = [(1,) * (longest - len(s)) + tuple(s) for s in shapes]
    out = []
    for sizes in zip(*padded, strict=True):
        wide = {size for size in sizes if size != 1}
        if len(wide) > 1:
            return None
        out.append(wide.pop() if wide else 1)
    return tuple(out)


def shapes_of(fn: Fn) -> tuple[Shape, Shape] | None:
    """Batch and event shape of a distribution outside any plate; None: it cannot be made."""
    batch, event = broadcast(*fn.shapes), FAMILIES[fn.family].event
    if batch is None:
        return None
    if fn.expand is not None:
        if len(fn.expand) < len(batch) or broadcast(batch, fn.expand) != fn.expand:
            return None
        batch = fn.expand
    if fn.to_event > len(batch):
        return None
    cut = len(batch) - fn.to_event
    batch, event = batch[:cut], batch[cut:] + event
    if isinstance(fn.mask, tuple):
        batch = broadcast(batch, fn.mask)
    return None if batch is None else (batch, event)


def inside(batch: Shape, plates: dict[int, int]) -> Shape | None:
    """A batch shape with the rows of plates, a size for each dim."""
    wide = [1] * max((-dim for dim in plates), default=0)
    for dim, size in plates.items():
        wide[dim] = size
    whole = broadcast(batch, tuple(wide))
    if whole is None or any(whole[dim] != size for dim, size in plates.items()):
        return None
    return whole


@dataclass(frozen=True)
class Place:
    """Where a statement stands: its plates, and the handlers around it inside the program."""

    suffix: str = ""
    open: tuple = ()  # (plate, dim or None where it is looped over, rows), outermost first
    handlers: tuple = ()  # (handler, how many of the plates are outside of it), outermost first

    def inside_plate(self, *frame) -> Place:
        return replace(self, open=(*self.open, frame))

    def inside_handler(self, said: Handled) -> Place:
        return replace(self, handlers=(*self.handlers, (said, len(self.open))))

    def after(self, suffix: str) -> Place:
        return replace(self, suffix=f"{self.suffix}_{suffix}")

    def seen_by(self, name: str) -> tuple[str, tuple | None]:
        """A statement's name as it leaves the program, and the plates that it meets on its way;
        None where that depends on whether it is observed."""
        plates, certain = self.open, True
        for said, outside in reversed(self.handlers):
            if said.kind == "scope":
                name = f"{said.keywords['prefix']}/{name}"
            if said.kind == "do" and name in {n for n, _, _ in said.keywords["data"].items}:
                certain = False
            if said.kind == "block":
                certain = certain and not any("types" in key for key in said.keywords)
                listed = dict(said.given)
                hidden = "expose" in listed or not listed
                if name in (listed.get("hide") or listed.get("expose") or ()):
                    hidden = not hidden
                if hidden:
                    plates = plates[outside:]
                    break
        return name, plates if certain else None


@dataclass
class Expected:
    """Shapes of what the statements answer, by name, from the tree alone."""

    shapes: dict = field(default_factory=dict)  # name: shape; None where it is not known
    sites: dict = field(default_factory=dict)  # sample statements: name: (fn, batch, event)
    dims: dict = field(default_factory=dict)  # of plates that have been entered
    names: dict = field(default_factory=dict)  # of plates, as they were made last
    times: Counter = field(default_factory=Counter)
    parts: set = field(default_factory=set)  # of the names, those observed in part
    hidden: set = field(default_factory=set)  # those whose plates depend on being observed

    def run(self, body: tuple, place: Place = Place()) -> Expected:
        for node in body:
            if isinstance(node, Plate):
                self.plate(node, place)
            elif isinstance(node, Markov):
                for step in range(node.steps):
                    self.run(node.body, place.after(str(step)))
            elif isinstance(node, Under):
                self.run(node.body, place.inside_handler(node.handler))
            elif isinstance(node, Sample):
                self.sample(node, place)
            elif isinstance(node, Deterministic):
                self.put(node.name + place.suffix, node.shape)
        return self

    def put(self, name: str, shape: Shape | None) -> None:
        self.times[name] += 1
        self.shapes[name] = shape

    def plate(self, node: Plate, place: Place) -> None:
        rows = node.rows if isinstance(node.rows, int) else node.size
        rows = len(node.rows) if isinstance(node.rows, tuple) else rows
        if node.how != "again":
            self.names[node.name] = node.name + place.suffix
            self.dims.pop(node.name, None)
        name = self.names.get(node.name, node.name)
        if node.how == "for":
            for position in range(rows):
                self.run(node.body, place.inside_plate(name, None, rows).after(str(position)))
            return
        taken = {dim for _, dim, _ in place.open}
        dim = self.dims.get(node.name) or node.dim
        dim = dim or next(d for d in range(-1, -99, -1) if d not in taken)
        self.dims[node.name] = dim
        self.run(node.body, place.inside_plate(name, dim, rows))

    def sample(self, node: Sample, place: Place) -> None:
        name = node.name + place.suffix
        made = shapes_of(node.fn)
        if node.obs_mask is not None:
            self.partly(node, name, place, made)
            return
        batch = self.batch(name, place, made)
        self.put(name, node.obs if node.obs is not None else batch and batch[0] + made[1])
        if batch:
            self.sites[name] = (node.fn, batch[0], made[1])

    def batch(self, name: str, place: Place, made) -> tuple[Shape] | None:
        _, plates = place.seen_by(name)
        if plates is None:
            self.hidden.add(name)
        if made is None or plates is None:
            return None
        batch = inside(made[0], {dim: size for _, dim, size in plates if dim is not None})
        return None if batch is None else (batch,)

    def partly(self, node: Sample, name: str, place: Place, made) -> None:
        batch = self.batch(f"{name}_unobserved", place, made)
        parts = broadcast(node.obs, batch[0] + made[1]) if batch else None
        whole = (node.obs_mask or ()) + (1,) * len(made[1]) if made else ()
        self.put(name, None if parts is None else broadcast(parts, whole))
        self.parts.add(name)
        if batch:
            self.sites[f"{name}_unobserved"] = (node.fn, batch[0], made[1])


# -- around a run ---------------------------------------------------------------------------------


@contextlib.contextmanager
def quiet():
    """Warnings are not what is looked at."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def state() -> tuple:
    """What a run must leave as it was."""
    return (
        effects._STACK.get(),
        checks._enabled,
        checks._PENDING.get(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.distributions.Distribution._validate_args,
    )
