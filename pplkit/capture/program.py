"""A captured program: a function of tensors as one graph, for every size that it was shown to
serve.
"""

from __future__ import annotations

import contextvars
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor

from .. import errors
from ..effects import _STACK
from ..params import ParamStore, StandIn, get_param_store
from ..randomness import Generators, base_noise
from .export import exported
from .kernels import register_kernels
from .noise import GivenNoise
from .tracing import FAULTS, Guard, NoiseSpec, Traced, trace

if TYPE_CHECKING:
    from .onnx import OnnxProgram

TESTED = ("2.13",)  # versions of torch on which the tests of this room have been run
_PROGRAMS = 16
_PRIMES = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47)


def capture(fn: Callable, *example: Any, check: bool = True) -> Captured:
    """A function of tensors and numbers as one graph of torch operations.

    The function runs in Python while the graph is made, handlers and all; never again after. Its
    arguments are inputs: tensors, of any sizes; numbers; whole numbers, so plate sizes too; in
    dictionaries, lists and tuples. So are the tensors, modules and parameters that it closes over,
    with the numbers that they hold at each call (it is these very tensors: another one put in the
    place of one of them later is not seen, nor is a plain number that has changed). Draws are
    functions of base noise, which is an input as well.

    Args:
        fn: takes tensors and numbers, may use every statement and handler, and returns tensors.
        example: arguments that it can run on. They tell dtypes and numbers of dimensions; sizes
            stay open unless the function itself fixes them.
        check: replay the graph at other sizes, 1 among them, against the function itself.

    Raises:
        CaptureError: what the function does depends on numbers (`if` on a draw, `.item()`), or
            leaves torch; it names the line.

    >>> import pplkit, pplkit.distributions as dist
    >>> def model(data):
    ...     z = pplkit.sample("z", dist.Normal(0.0, 1.0))
    ...     with pplkit.plate("data", len(data)):
    ...         pplkit.sample("obs", dist.Normal(z, 0.5), obs=data)
    >>> def log_joint(z, data):
    ...     given = pplkit.handlers.condition(model, data={"z": z})
    ...     return pplkit.handlers.trace(given).get_trace(data).log_prob_sum()
    >>> captured = capture(log_joint, torch.tensor(0.3), torch.tensor([1.0, 0.5]))
    >>> more = torch.zeros(1000)  # another size, the same program
    >>> torch.allclose(captured(torch.tensor(0.1), more), log_joint(torch.tensor(0.1), more))
    True
    >>> len(captured.programs)
    1
    """
    if not callable(fn):
        raise errors.wrong_argument("capture", "fn=", fn, "a function")
    if not torch.__version__.startswith(TESTED):
        raise errors.untested_torch(torch.__version__, TESTED)
    return Captured(fn, example, check)


@dataclass
class Program:
    """One graph, and for which arguments it is right."""

    traced: Traced
    constants: list  # of each leaf that is no input
    example: list
    least: dict = field(default_factory=dict)  # sizes that must be at least this
    _known: dict = field(default_factory=dict)
    _exported: Any = None

    def sizes(self, leaves: list) -> dict | None:
        """The sizes of these arguments by name; None when the program is not for them."""
        found: dict = {}
        for shape, leaf, constant in zip(self.traced.shapes, leaves, self.constants, strict=True):
            if shape is None:
                if not (leaf is constant or _same(leaf, constant)):
                    return None
                continue
            named = zip(shape, leaf.shape, strict=True) if isinstance(shape, tuple) else None
            for name, size in named or [(shape, leaf)]:
                if isinstance(name, int) and name != size:
                    return None
                if not isinstance(name, int):
                    found[name] = int(size)
        return found if self._admits(found) else None

    def _admits(self, sizes: dict) -> bool:
        key = tuple(sizes.values())
        if key not in self._known:
            enough = all(size >= self.least.get(name, 1) for name, size in sizes.items())
            self._known[key] = enough and all(
                evaluated(guard.holds, sizes) is True for guard in self.traced.guards
            )
        return self._known[key]

    @property
    def exported(self) -> torch.export.ExportedProgram:
        """The graph as torch exports it, its sizes dynamic."""
        if self._exported is None:
            self._exported = exported(self.traced, self.spread())
        return self._exported

    def dtype_of(self, output: int) -> torch.dtype:
        """Of one of the graph's outputs."""
        result = next(n for n in self.traced.graph.graph.nodes if n.op == "output")
        return result.args[0][output].meta["val"].dtype

    def spread(self) -> list:
        """An example whose free sizes all differ, so that none is taken for another; the own one
        where the program asks for other sizes.
        """
        names = roots(self.traced)
        for first in range(1, 4):
            sizes = {name: _prime(first + i) for i, name in enumerate(names)}
            leaves = _at(self, sizes)
            if leaves is not None:
                return leaves
        return self.example


def evaluated(expression: Any, sizes: dict) -> Any:
    """What an expression in sizes comes to."""
    if isinstance(expression, int):
        return expression
    import sympy

    value = expression.xreplace({name: sympy.Integer(size) for name, size in sizes.items()})
    return int(value) if value.is_number and not value.is_Boolean else bool(value)


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


class Captured:
    """A function as a graph; call it as the function itself. Made by `capture`.

    Attributes:
        fn: the function.
        programs: the graphs made so far: one, unless the function fixes sizes; then one for each
            size it has been called with.

    >>> import pplkit, pplkit.distributions as dist
    >>> captured = capture(lambda n: pplkit.sample("x", dist.Normal(0.0, 1.0).expand([n])), 2)
    >>> [spec.kind for spec in captured.noise]
    ['normal']
    >>> noise = captured.draw_noise(5, seed=0)
    >>> torch.equal(captured(5, noise=noise), captured.eager(5, noise=noise))
    True
    """

    def __init__(self, fn: Callable, example: Sequence, check: bool = True, beside: Any = None):
        # `beside`: the arguments whose precision plain numbers get; all, unless told.
        self.fn, self._check = fn, check
        leaves, self._spec = pytree.tree_flatten(tuple(example))
        near = leaves if beside is None else pytree.tree_leaves(beside)
        kinds = [x.dtype for x in near if isinstance(x, Tensor) and x.is_floating_point()]
        self._number_dtype = torch.get_default_dtype()
        for kind in kinds:
            self._number_dtype = torch.promote_types(self._number_dtype, kind)
        leaves = [self._leaf(x) for x in leaves]
        self._kinds = [_kind(x) for x in leaves]
        self.programs: list[Program] = []
        self._store: ParamStore | None = None
        self._new_program(leaves)

    # -- calling -------------------------------------------------------------------------------
    def __call__(self, *args: Any, noise: Sequence[Tensor] | None = None) -> Any:
        """Run the graph.

        Args:
            args: of the same structure, dtypes and numbers of dimensions as the example.
            noise: as from `draw_noise`; drawn afresh unless given.
        """
        program, leaves, sizes = self._program_for(args)
        if noise is None:
            noise = self._drawn(program, sizes, None)
        else:
            _fitting(program, sizes, noise)
        flat = program.traced.graph(*_inputs(program, leaves), *noise, *self._closed(program))
        return pytree.tree_unflatten(list(flat), program.traced.out_spec)

    def draw_noise(self, *args: Any, seed: int | None = None) -> list[Tensor]:
        """Base noise for a run on these arguments.

        Args:
            seed: of a random stream of its own; this context's is drawn from unless told.
        """
        program, _, sizes = self._program_for(args)
        return self._drawn(program, sizes, seed)

    def eager(self, *args: Any, noise: Sequence[Tensor] | None = None) -> Any:
        """Run the function itself, on this noise when it is given."""
        program, leaves, sizes = self._program_for(args)
        noise = self._drawn(program, sizes, None) if noise is None else noise
        return self._run(leaves, iter(noise))

    # -- what it is ----------------------------------------------------------------------------
    @property
    def program(self) -> torch.export.ExportedProgram:
        """The graph, as torch exports it: arguments, noise, then what is closed over; flat."""
        return self.programs[0].exported

    @property
    def graph(self) -> torch.fx.GraphModule:
        """The graph of the first program."""
        return self.programs[0].traced.graph

    @property
    def noise(self) -> list[NoiseSpec]:
        """The base noise that the first program takes."""
        return self.programs[0].traced.noise

    @property
    def closed_over(self) -> list[Tensor]:
        """The tensors that the function closes over and the first program takes as inputs."""
        return self._closed(self.programs[0])

    @property
    def guards(self) -> list[Guard]:
        """What the first program takes for granted about sizes, with the lines that asked."""
        return self.programs[0].traced.guards

    def to_onnx(self, *args: Any) -> OnnxProgram:
        """A program as ONNX, for a page without Python.

        Args:
            args: arguments that the program is to serve; without any, it is the first one. What is
                neither a tensor nor a number (a string, a boolean) is part of a program, so each
                choice of those has its own.

        Raises:
            CaptureError: an operation that ONNX lacks; it names the line.
            ImportError: `onnx` or `onnxscript` is missing; the extra `publish` has both.

        >>> import pplkit.distributions as dist
        >>> captured = capture(lambda mu, z: {"height": dist.Normal(mu, 1.0).log_prob(z)},
        ...                    0.0, torch.linspace(-4.0, 4.0, 5))
        >>> published = captured.to_onnx()
        >>> [(given["name"], given["shape"]) for given in published.inputs]
        [('mu', []), ('z', ['z_0'])]
        >>> [made["path"] for made in published.outputs]
        [['height']]
        """
        from .onnx import to_onnx

        program = self._program_for(args)[0] if args else self.programs[0]
        return to_onnx(program, self._closed(program), _paths_of(self.fn, self._spec))

    def __repr__(self) -> str:
        name = getattr(self.fn, "__name__", type(self.fn).__name__)
        traced = self.programs[0].traced
        return (
            f"Captured({name}: {sum(s is not None for s in traced.shapes)} arguments, "
            f"{len(traced.noise)} noise, {len(traced.closed)} closed over, "
            f"{len(traced.guards)} guards)"
        )

    # -- arguments -----------------------------------------------------------------------------
    def _leaf(self, x: Any) -> Any:
        if isinstance(x, float):
            return torch.tensor(x, dtype=self._number_dtype)
        if not isinstance(x, Tensor) and hasattr(x, "__array__"):
            return torch.as_tensor(x)
        return x

    def _leaves(self, args: Sequence) -> list:
        leaves, spec = pytree.tree_flatten(tuple(args))
        if spec != self._spec:
            raise errors.other_arguments("structure", spec, self._spec)
        leaves = [self._leaf(x) for x in leaves]
        for leaf, kind in zip(leaves, self._kinds, strict=True):
            if _kind(leaf) != kind:
                raise errors.other_arguments("kind", _kind(leaf), kind)
        return leaves

    def _program_for(self, args: Sequence) -> tuple[Program, list, dict]:
        leaves = self._leaves(args)
        for program in self.programs:
            sizes = program.sizes(leaves)
            if sizes is not None:
                return program, leaves, sizes
        if len(self.programs) >= _PROGRAMS:
            raise errors.too_many_programs(_PROGRAMS, self._fixing())
        program = self._new_program(leaves)
        return program, leaves, program.sizes(leaves)

    def serves(self, *args: Any) -> bool:
        """Whether one of the programs made so far is for these arguments."""
        leaves = self._leaves(args)
        return any(program.sizes(leaves) is not None for program in self.programs)

    def _fixing(self):
        """The guard that has made more than one program necessary."""
        return next((guard for program in self.programs for guard in program.traced.guards), None)

    # -- noise ---------------------------------------------------------------------------------
    def _drawn(self, program: Program, sizes: dict, seed: int | None) -> list[Tensor]:
        streams = _Streams(seed)
        return [streams.draw(spec, sizes) for spec in program.traced.noise]

    # -- running the function ------------------------------------------------------------------
    def _run(self, leaves: list, noise: Any, store: ParamStore | None = None) -> Any:
        """The function itself, outside all handlers, on noise from an iterator; None: any."""
        streams = _Streams(0)  # capturing leaves the random streams here as they are

        def take(kind, shape, dtype, device):
            if noise is None:
                return streams.draw(NoiseSpec(kind, shape, dtype, device), {})
            given = next(noise, None)
            if given is None or given.shape != shape or given.dtype != dtype:
                raise errors.other_noise(kind, shape, given)
            return given

        def run():
            given = GivenNoise(take)
            given.brief = noise is None
            with given:
                return self.fn(*pytree.tree_unflatten(leaves, self._spec))

        return self._outside_handlers(run, store)

    def _outside_handlers(self, run: Callable, store: ParamStore | None = None) -> Any:
        store = self._parameters() if store is None else store

        def alone():
            from .runs import undoing

            _STACK.set(())
            with store, undoing():
                return run()

        return contextvars.copy_context().run(alone)

    def _parameters(self) -> ParamStore:
        """The current parameters, and those that the function has made while it was captured."""
        twin = StandIn()
        if self._store is not None:
            twin._entries.update(self._store._entries)
        twin._entries.update(get_param_store()._entries)
        return twin

    def _closed(self, program: Program) -> list[Tensor]:
        """What is closed over, as it is now: a parameter may have got another leaf meanwhile."""
        if self._store is None:
            return program.traced.closed
        then = {id(e.unconstrained): name for name, e in self._store._entries.items()}
        now = get_param_store()
        found = []
        for tensor in program.traced.closed:
            name = then.get(id(tensor))
            if name is not None and name in now and now.unconstrained(name) is not tensor:
                leaf = now.unconstrained(name)
                if leaf.shape != tensor.shape:
                    raise errors.other_arguments("parameter", leaf.shape, tensor.shape)
                tensor = leaf
            found.append(tensor)
        return found

    # -- making a program ----------------------------------------------------------------------
    def _new_program(self, leaves: list) -> Program:
        register_kernels()
        store = self._parameters()
        self._run(leaves, None, store)  # the user's own mistakes come out here, as they are
        self._store = store
        attempts, fault = _attempts(leaves, raising=not self.programs), None
        for attempt, static in attempts:
            try:
                program = self._traced(attempt, static)
                if program.sizes(leaves) is None:
                    continue
                if self._check:
                    _checked(self, program, leaves)
                if program.sizes(leaves) is None:
                    continue
                self.programs.append(program)
                return program
            except FAULTS as problem:
                fault = problem
        raise fault if fault is not None else errors.no_program(leaves)

    def _traced(self, leaves: list, static: set) -> Program:
        def run():
            return trace(self.fn, leaves, self._spec, static)

        traced = self._outside_handlers(run, self._store)
        _name_inputs(traced, self.fn, self._spec)
        constants = [
            None if s is not None else x for s, x in zip(traced.shapes, leaves, strict=True)
        ]
        return Program(traced, constants, leaves)


def _fitting(program: Program, sizes: dict, noise: Sequence[Tensor]) -> None:
    specs = program.traced.noise
    for i in range(max(len(specs), len(noise))):
        given, spec = noise[i] if i < len(noise) else None, specs[i] if i < len(specs) else None
        if spec is None:
            raise errors.other_noise("no", (), given)
        shape = tuple(evaluated(n, sizes) for n in spec.shape)
        if given is None or given.shape != shape or given.dtype != spec.dtype:
            raise errors.other_noise(spec.kind, shape, given)


class _Streams:
    """Where base noise comes from: a seed's streams, this context's, or torch's own."""

    def __init__(self, seed: int | None):
        self._own = None if seed is None else Generators(seed)

    def draw(self, spec: NoiseSpec, sizes: dict) -> Tensor:
        shape = [evaluated(n, sizes) for n in spec.shape]
        return base_noise(spec.kind, shape, spec.dtype, spec.device, self._own)


def _kind(leaf: Any) -> tuple:
    if isinstance(leaf, Tensor):
        return ("tensor", leaf.dtype, leaf.device, leaf.dim())
    return ("whole number",) if type(leaf) is int else ("constant",)


def _inputs(program: Program, leaves: list) -> list:
    return [x for x, s in zip(leaves, program.traced.shapes, strict=True) if s is not None]


def _attempts(leaves: list, raising: bool) -> list[tuple[list, set]]:
    """Examples to trace with, and which of their sizes are constants.

    A size of 1 would be taken for one that never changes, so the example is given more rows first;
    where the function cannot run so, the first dimensions alone get more; then none.
    """
    ones = [(i, d) for i, x in enumerate(leaves) for d, n in _numbered(x) if n == 1]
    odd = {(i, None) for i, x in enumerate(leaves) if type(x) is int and x < 1}
    taken = {n for x in leaves for _, n in _numbered(x)}
    prime = next(p for p in _PRIMES if p not in taken)
    choices = []
    if ones and raising:
        choices = [ones, [(i, d) for i, d in ones if d in (0, None)]]
    attempts = []
    for raised in [*choices, []]:
        static = odd | (set(ones) - set(raised))
        sizes = {place: prime for place in raised}
        if (sizes, static) not in [(s, t) for _, s, t in attempts]:
            attempts.append((resized(leaves, sizes), sizes, static))
    return [(made, static) for made, _, static in attempts]


def _numbered(leaf: Any) -> list[tuple[int | None, int]]:
    """The sizes of a leaf, each with its dimension."""
    if isinstance(leaf, Tensor):
        return list(enumerate(leaf.shape))
    return [(None, leaf)] if type(leaf) is int else []


def resized(leaves: list, sizes: dict) -> list:
    """These arguments with other sizes at some (leaf, dimension): rows left out, or repeated."""
    made = list(leaves)
    for (i, dim), size in sizes.items():
        if dim is None:
            made[i] = size
        else:
            rows = torch.arange(size, device=made[i].device) % made[i].shape[dim]
            made[i] = made[i].detach().index_select(dim, rows)
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor) and leaf.requires_grad and made[i] is not leaf:
            made[i] = made[i].requires_grad_()
    return made


def _prime(i: int) -> int:
    return _PRIMES[i] if i < len(_PRIMES) else _PRIMES[-1] + i


def _paths_of(fn: Callable, spec: pytree.TreeSpec) -> list[list[str]]:
    """Of each leaf of the arguments, the name of its argument and the keys within."""
    try:
        names = list(inspect.signature(fn).parameters)
    except (TypeError, ValueError):
        names = []
    tree = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    paths = []
    for path, _ in pytree.tree_flatten_with_path(tree)[0]:
        first = names[path[0].idx] if path[0].idx < len(names) else f"argument_{path[0].idx}"
        paths.append([first, *map(key_name, path[1:])])
    return paths


def key_name(key: Any) -> str:
    """What a step of a path into nested containers is called."""
    return str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", ""))))


def _name_inputs(traced: Traced, fn: Callable, spec: pytree.TreeSpec) -> None:
    """Inputs are called after the function's own arguments."""
    paths = zip(_paths_of(fn, spec), traced.shapes, strict=True)
    labels = ["_".join(path) for path, shape in paths if shape is not None]
    labels += [f"noise_{i}" for i in range(len(traced.noise))]
    labels += [f"closed_{i}" for i in range(len(traced.closed))]
    places = [node for node in traced.graph.graph.nodes if node.op == "placeholder"]
    for i, node in enumerate(places):
        node._rename(f"__{i}")
    for node, label in zip(places, labels, strict=True):
        clean = "".join(c if c.isalnum() and c.isascii() else "_" for c in label)
        node._rename(clean if clean[:1].isalpha() else f"x{clean}")
        node.target = node.name
    traced.graph.recompile()


# -- replaying -------------------------------------------------------------------------------------


def _checked(captured: Captured, program: Program, leaves: list) -> None:
    """Replay at the example's sizes and at others; raise, or note what needs another graph."""
    if not _agrees(captured, program, leaves):
        raise errors.disagrees(None)
    names = roots(program.traced)
    others = {name: _PRIMES[i % 3 + 1] for i, name in enumerate(names)}
    resized_ = _at(program, others)
    if resized_ is not None and not _agrees(captured, program, resized_):
        raise errors.disagrees(others)
    alone = [n for n in names if not _agrees_at(captured, program, {**others, n: 1})]
    if names and not alone and not _agrees_at(captured, program, dict.fromkeys(names, 1)):
        alone = names
    program.least.update(dict.fromkeys(alone, 2))
    program._known.clear()


def roots(traced: Traced) -> list:
    """The names of sizes that are free: neither fixed nor the same as another."""
    names = {}
    for shape in traced.shapes:
        for name in shape if isinstance(shape, tuple) else [shape]:
            if name is not None and not isinstance(name, int):
                names[name] = None
    return [name for name in names if name not in traced.sizes]


def _agrees_at(captured: Captured, program: Program, sizes: dict) -> bool:
    leaves = _at(program, sizes)
    return leaves is None or _agrees(captured, program, leaves)


def _at(program: Program, sizes: dict) -> list | None:
    """The program's example at these sizes; None if it is not for them."""
    full = dict(sizes)
    for _ in program.traced.sizes:  # what is known of one size may be another's name
        for name, value in program.traced.sizes.items():
            known = getattr(value, "free_symbols", set())
            if known <= full.keys():
                full[name] = evaluated(value, full)
    changed = {}
    for i, shape in enumerate(program.traced.shapes):
        for d, name in enumerate(shape) if isinstance(shape, tuple) else [(None, shape)]:
            if name in full:
                changed[i, d] = full[name]
    leaves = resized(program.example, changed)
    return leaves if program.sizes(leaves) is not None else None


def _agrees(captured: Captured, program: Program, leaves: list) -> bool:
    """Whether graph and function give the same; also when the function has no answer."""
    sizes = program.sizes(leaves)
    noise = captured._drawn(program, sizes, seed=0)
    try:
        expected = captured._run(leaves, iter(noise), captured._store)
    except FAULTS:
        return True
    try:
        found = program.traced.graph(*_inputs(program, leaves), *noise, *program.traced.closed)
    except FAULTS:
        return False
    flat, spec = pytree.tree_flatten(expected)
    return spec == program.traced.out_spec and all(map(_close, found, flat))


def _close(ours: Tensor, theirs: Any) -> bool:
    theirs = torch.as_tensor(theirs)
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return False
    if not ours.is_floating_point() and not ours.is_complex():
        return bool((ours == theirs).all())
    a, b = ours.detach().double(), theirs.detach().double()
    unlike = (a != b) & ~(a.isnan() & b.isnan())
    if not bool(unlike.any()):
        return True
    finite = b[b.isfinite()].abs()
    scale = finite.max().item() if finite.numel() else 0.0
    tolerance = math.sqrt(torch.finfo(ours.dtype).eps) * (
        1e-1 if ours.dtype == torch.float64 else 1
    )
    return bool(((a - b).abs()[unlike] <= tolerance * (1 + scale)).all())
