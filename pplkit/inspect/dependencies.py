"""Which variable depends on which, found out by running the model once.

Every operation of that run is watched. A value that a statement has answered is marked with the
statement's name; what is computed from a marked tensor, by whatever operation, indexing and
comparisons included, is marked too. The marks that arrive at a site's log-probability are the names
that the site depends on.

Marks belong to a tensor's storage, so views share them and in-place writes are seen. A value that
leaves torch (`.item()`, `.numpy()`, a branch of the program) loses them.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.distributions import transform_to
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .. import errors
from ..effects import Handler, Message, PlateFrame
from ..handlers import seed, trace
from ..params import get_param_store

NOTHING: frozenset[str] = frozenset()

# These take a tensor for its shape, dtype and device alone.
_SHAPE_ALONE = ("_like", "new_empty", "new_empty_strided", "new_full", "new_ones", "new_zeros")
# These read numbers out of tensors unseen, on their way into a new one.
_OF_ANOTHER = {torch.full_like, Tensor.new_tensor, Tensor.new_full}
_FACTORIES = {torch.tensor, torch.as_tensor, torch.asarray, torch.full, torch.linspace}
_FACTORIES |= {torch.scalar_tensor, torch.arange} | _OF_ANOTHER


class Marks(TorchDispatchMode):
    """Inside, every operation hands the marks of what it reads on to what it makes."""

    def __init__(self):
        super().__init__()
        self._of: dict[int, frozenset[str]] = {}
        self._kept: dict[int, Any] = {}  # alive, so that no other can take its identity
        self.read = NOTHING  # the marks of tensors that were turned into numbers

    supports_higher_order_operators = True  # torch.cond and its like are operations too

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would import its compiler for it: seconds

    def of(self, *values: Any) -> frozenset[str]:
        """The names that these values (tensors, or structures of them) are computed from."""
        tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
        return NOTHING.union(*(self._of.get(id(_store(t)), NOTHING) for t in tensors))

    def put(self, value: Tensor, names: Collection[str]) -> None:
        """Mark a tensor, and all that shares its storage, with these names alone."""
        store = _store(value)
        self._of[id(store)], self._kept[id(store)] = frozenset(names), store

    def add(self, values: Any, names: frozenset[str]) -> None:
        """Mark tensors with further names."""
        for leaf in tree_leaves(values):
            if isinstance(leaf, Tensor):
                self.put(leaf, names | self.of(leaf))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        names = self.of(args, kwargs)
        if names and func is torch.ops.aten._local_scalar_dense.default:
            self.read |= names
        elif names and not getattr(func, "overloadpacket", func).__name__.endswith(_SHAPE_ALONE):
            self.add(made, names)
            self.add(_written(func, args, kwargs), names)
        return made


class _Numbers(TorchFunctionMode):
    """Inside, marks survive where torch itself turns a tensor into a number and back.

    As `torch.tensor([a, b])` does, and `probs[x]` where `x` is a single whole number.
    """

    def __init__(self, marks: Marks):
        super().__init__()
        self.marks = marks

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self.marks.read = NOTHING
        made = func(*args, **kwargs)
        names = self.marks.read
        if func in _FACTORIES:
            names |= self.marks.of(args[1:] if func in _OF_ANOTHER else args, kwargs)
        if func is Tensor.__setitem__:
            self.marks.add(args[0], names | self.marks.of(args[1:]))
        elif names and isinstance(made, Tensor):
            made = made.clone()  # a view would mark the tensor that it shows, too
            self.marks.add(made, names)
        return made


def _store(tensor: Tensor) -> Any:
    """What marks belong to: a storage, or the tensor itself where it has none."""
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return tensor


def _written(func, args: tuple, kwargs: dict) -> list:
    """The arguments that an operation writes into."""
    schema = func._schema.arguments if hasattr(func, "_schema") else ()
    given = {a.name: value for a, value in zip(schema, args, strict=False)} | kwargs
    writes = (a.name for a in schema if a.alias_info is not None and a.alias_info.is_write)
    return [given[name] for name in writes if name in given]


@dataclass
class Statement:
    """What one statement of a run is, and what it was computed from."""

    name: str
    type: str  # sample, deterministic, param
    family: str  # of its distribution; "Deterministic"; ""
    fn: Any
    observed: bool
    plates: tuple[PlateFrame, ...]
    shape: torch.Size
    empty: bool
    parents: list[str]  # names of statements and parameters, in the order of the run
    value_from: frozenset[str]  # the same for the value alone, without its density
    arguments: dict[str, str] = field(default_factory=dict)  # of its distribution, in words
    constraint: Any = None

    @property
    def computed(self) -> bool:
        """Whether its value is a function of its parents: no randomness of its own."""
        return self.type == "deterministic" or self.family == "Delta"


@dataclass
class Survey:
    """A run of a model: its statements in order, and its plates."""

    statements: dict[str, Statement]
    plates: dict[str, PlateFrame]

    def of_type(self, *types: str) -> list[Statement]:
        return [s for s in self.statements.values() if s.type in types]

    def parents(self, name: str, elide: Collection[str] = ()) -> list[str]:
        """What a statement depends on, in the order of the run, seen through those elided."""
        found, waiting = set(), list(self.statements[name].parents)
        while waiting:
            parent = waiting.pop()
            if parent not in elide:
                found.add(parent)
            else:
                waiting += self.statements[parent].value_from
        return [n for n in self.statements if n in found]

    def computed(self) -> set[str]:
        """Names of statements whose values are functions of others."""
        return {s.name for s in self.statements.values() if s.computed}


class _Surveyor(Handler):
    """Marks values with the names of their statements, and notes what these come from."""

    def __init__(self, marks: Marks):
        super().__init__()
        self.marks = marks
        self.found: dict[str, Statement] = {}
        self.plates: dict[str, PlateFrame] = {}
        self.values: dict[str, Tensor] = {}

    def process_message(self, msg: Message) -> None:
        if msg.type == "sample" and msg.value is None and family_of(msg.fn) == "ImproperUniform":
            # It cannot be drawn; any value that it allows will do to see where that goes.
            start = transform_to(msg.fn.support)
            msg.value = start(torch.zeros(start.inverse_shape(msg.fn.shape())))

    def postprocess_message(self, msg: Message) -> None:
        if msg.type == "plate":
            rows = len(msg.value)
            self.plates.setdefault(msg.name, PlateFrame(msg.name, None, rows, msg.fn.size))
        if msg.type not in ("sample", "deterministic", "param") or msg.name in self.found:
            return
        if not isinstance(msg.value, Tensor):
            return
        for frame in msg.plates:
            self.plates[frame.name] = frame
        self.found[msg.name] = self._statement(msg)
        msg.value = self._marked(msg)
        self.values[msg.name] = msg.value

    def _statement(self, msg: Message) -> Statement:
        value_from = self.marks.of(msg.value)
        parents = value_from if msg.type == "deterministic" else NOTHING
        arguments = {}
        if msg.type == "sample":
            # First, for a density asked for may leave further forms of them behind.
            arguments = dict(self._arguments(unwrapped(msg.fn)))
            parents = self._read(msg) - {msg.name}
        family = {"sample": family_of(msg.fn), "deterministic": "Deterministic"}.get(msg.type, "")
        return Statement(
            name=msg.name,
            type=msg.type,
            family=family,
            fn=msg.fn if msg.type == "sample" else None,
            observed=msg.is_observed,
            plates=msg.plates,
            shape=msg.value.shape,
            empty=msg.value.numel() == 0,
            parents=[name for name in self.found if name in parents],
            value_from=value_from,
            arguments=arguments,
            constraint=msg.kwargs.get("constraint") if msg.type == "param" else None,
        )

    def _read(self, msg: Message) -> frozenset[str]:
        """The names that a site's log-probability is computed from, scale and mask included."""
        try:
            return self.marks.of(copy.copy(msg).log_prob)
        except NotImplementedError:  # it can be drawn, not scored: then what it holds
            return self.marks.of([v for v in vars(unwrapped(msg.fn)).values()], msg.mask, msg.scale)

    def _marked(self, msg: Message) -> Tensor:
        """The value, with the statement's own name for a mark and a storage of its own."""
        value = msg.value
        if msg.type == "param" and value.is_leaf and value.requires_grad:
            self.marks.put(value, {msg.name})  # a module computes with this very tensor
            return value
        twin = value.clone()
        if hasattr(value, "unconstrained"):
            twin.unconstrained = value.unconstrained
        self.marks.put(twin, {msg.name})
        return twin

    def _arguments(self, fn: Any) -> Iterator[tuple[str, str]]:
        """A distribution's arguments in words: names, plain numbers, or `f(names)`."""
        known = getattr(fn, "arg_constraints", None)
        known = list(known) if isinstance(known, dict) else []
        held = [name for name in known if name in vars(fn)] or known
        if "probs" in held and "logits" in held:
            held.remove("probs" if getattr(fn, "_param", None) is fn.logits else "logits")
        for name in held:
            value = getattr(fn, name, None)
            if isinstance(value, Tensor):
                yield name, self._in_words(name, value)

    def _in_words(self, argument: str, value: Tensor) -> str:
        marks = self.marks.of(value)
        names = [name for name in self.found if name in marks]
        if not names:
            flat = value.detach().reshape(-1)
            same = flat.numel() > 0 and bool((flat == flat[0]).all())
            return f"{flat[0].item():.4g}" if same else "…"
        if len(names) == 1 and self._is(argument, value, self.values[names[0]]):
            return names[0]
        return f"f({', '.join(names if len(names) < 4 else [*names[:3], '…'])})"

    def _is(self, argument: str, value: Tensor, source: Tensor) -> bool:
        """Whether an argument is a variable itself, repeated over plates or normalised."""
        rows = value
        for dim in range(value.dim()):
            if value.stride(dim) == 0:
                rows = rows.narrow(dim, 0, 1)
        if rows.numel() != source.numel():
            return False
        if _store(value) is _store(source):
            return True
        return argument == "probs" and torch.equal(
            rows.reshape(-1), (source / source.sum(-1, keepdim=True)).reshape(-1)
        )


def unwrapped(fn: Any) -> Any:
    """What stands behind `.to_event`, `.mask` and `.expand`."""
    while type(fn).__name__ in ("Independent", "MaskedDistribution", "ExpandedDistribution"):
        fn = fn.base_dist
    return fn


def family_of(fn: Any) -> str:
    """The name of a distribution's family.

    >>> import pplkit.distributions as dist
    >>> family_of(dist.Normal(torch.zeros(3), 1.0).to_event(1).mask(True))
    'Normal'
    """
    return type(unwrapped(fn)).__name__


def _uncompiled():
    """A context in which compiled functions run as they are written, their operations in view."""
    known = "torch._dynamo" in sys.modules  # else there is none; and to import it takes seconds
    return torch.compiler.set_stance("force_eager") if known else nullcontext()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A run inside leaves parameters and torch's random streams as they were."""
    cards = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=list(cards)), get_param_store().fork():
        torch.random.default_generator.manual_seed(0)
        yield


def survey(model: Callable, args: tuple | None = None, kwargs: dict | None = None) -> Survey:
    """Run a model once, watched; seeded, so that two surveys of it agree.

    >>> import pplkit, pplkit.distributions as dist
    >>> def model():
    ...     x = pplkit.sample("x", dist.Normal(0.0, 1.0))
    ...     pplkit.sample("y", dist.Normal(2 * x, 1.0), obs=torch.tensor(1.0))
    >>> found = survey(model)
    >>> found.statements["y"].parents, found.statements["y"].arguments
    (['x'], {'loc': 'f(x)', 'scale': '1'})
    """
    if args is not None and not isinstance(args, (tuple, list)):
        raise errors.wrong_argument(
            "the graph of a model", "model_args=", args, "a tuple, as (data,)"
        )
    if kwargs is not None and not isinstance(kwargs, Mapping):
        expected = 'a dictionary, as {"data": data}'
        raise errors.wrong_argument("the graph of a model", "model_kwargs=", kwargs, expected)
    marks = Marks()
    surveyor = _Surveyor(marks)
    with ExitStack() as stack:
        watching = (_undisturbed(), _uncompiled(), marks, _Numbers(marks), surveyor)
        for each in (*watching, seed(rng_seed=0)):
            stack.enter_context(each)
        trace(model).get_trace(*(args or ()), **(kwargs or {}))
    return Survey(surveyor.found, surveyor.plates)


def get_dependencies(
    model: Callable,
    model_args: tuple | None = None,
    model_kwargs: dict | None = None,
    include_deterministic: bool = False,
) -> dict[str, dict[str, dict[str, set[str]]]]:
    """Which variables of a model depend on which: before the data are seen, and after.

    The model runs once; parameters and random streams are left as they were. Dependencies are
    followed from variable to variable: inside a plate, a row is taken to depend on the same row of
    others.

    Args:
        model: any model, under handlers or not.
        model_args, model_kwargs: what to call it with.
        include_deterministic: count `deterministic` sites and those with a Delta distribution as
            variables, rather than see through them.

    Returns:
        Two dictionaries. `prior_dependencies` gives each variable, and each observation, the
        variables that its distribution reads, itself among them. `posterior_dependencies` gives
        each unobserved variable those of later statements that it stays tied to once the data are
        known, and itself: its children, and what it has a child in common with. Both have for
        values the names of the plates across which every row is tied to every row.

    An alarm is set off by a burglar or by a cat. Hearing it ties the two together:

    >>> import pplkit, pplkit.distributions as dist
    >>> def model():
    ...     burglar = pplkit.sample("burglar", dist.Bernoulli(0.01))
    ...     cat = pplkit.sample("cat", dist.Bernoulli(0.2))
    ...     rings = 0.05 + 0.9 * torch.maximum(burglar, cat)
    ...     pplkit.sample("alarm", dist.Bernoulli(rings), obs=torch.tensor(1.0))
    >>> found = get_dependencies(model)
    >>> sorted(found["prior_dependencies"]["alarm"])
    ['alarm', 'burglar', 'cat']
    >>> sorted(found["posterior_dependencies"]["burglar"])
    ['alarm', 'burglar', 'cat']

    A sum over a plate ties its rows to each other:

    >>> def model():
    ...     with pplkit.plate("coins", 5):
    ...         coin = pplkit.sample("coin", dist.Bernoulli(0.5))
    ...     pplkit.sample("heads", dist.Normal(coin.sum(), 0.1), obs=torch.tensor(3.0))
    >>> get_dependencies(model)["posterior_dependencies"]["coin"]["coin"]
    {'coins'}
    """
    found = survey(model, model_args, model_kwargs)
    elided = set() if include_deterministic else found.computed()
    sites = [s for s in found.of_type("sample", "deterministic") if s.name not in elided]
    latent = {s.name for s in sites if not s.observed}
    read = {s.name for s in sites if s.name in latent and not s.empty}
    prior = {
        s.name: {s.name: set()}
        | {n: set() for n in found.parents(s.name, elided) if n in read and n != s.name}
        for s in sites
    }
    plates = {s.name: {f.name for f in s.plates if f.vectorized} for s in sites}
    posterior = _moral(prior, plates, latent)
    return {"prior_dependencies": prior, "posterior_dependencies": posterior}


def _moral(prior: dict, plates: dict[str, set[str]], latent: set[str]) -> dict:
    """From each latent variable to the later ones it is tied to: children, and co-parents."""
    posterior: dict[str, dict[str, set[str]]] = {n: {n: set()} for n in prior if n in latent}
    for child, parents in prior.items():
        unknown = [name for name in prior if name in parents and name in latent]
        for i, name in enumerate(unknown):
            posterior[name].setdefault(child, set()).update(parents[name])
            for other in unknown[i:]:
                # A plate that the child lacks is summed over: there every row meets every row.
                shared = (plates[name] & plates[other]) - plates[child]
                posterior[name].setdefault(other, set()).update(shared)
    return posterior
