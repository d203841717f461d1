"""One run of a function, recorded as a graph of tensor operations.

The run happens once, in Python, on tensors that have a symbolic shape and no numbers: whatever
looks at a number is refused, whatever fixes a size is written down with the line that did. Base
noise and the tensors that the function closes over become inputs of the graph at the moment they
are met.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.fx.experimental.proxy_tensor import (
    disable_proxy_modes_tracing,
    get_proxy_mode,
    get_proxy_slot,
    make_fx,
    track_tensor_tree,
)
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    GuardOnDataDependentSymNode,
    ShapeEnv,
    StatelessSymbolicContext,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

from .. import checks, errors
from ..errors import Where
from .lines import line_of, user_line
from .noise import GivenNoise
from .scalars import open_numbers

aten = torch.ops.aten


@dataclass
class NoiseSpec:
    """Base noise that a program takes: `normal` or `uniform` numbers, of a shape that may follow
    the inputs' sizes.

    >>> NoiseSpec("normal", (3,), torch.float32, torch.device("cpu")).kind
    'normal'
    """

    kind: str
    shape: tuple  # of whole numbers and expressions in the program's sizes
    dtype: torch.dtype
    device: torch.device


@dataclass
class Guard:
    """What a run took for granted about sizes, and the line that asked.

    >>> from pplkit.capture import capture
    >>> captured = capture(lambda x, y: x + y, torch.zeros(3), torch.ones(3))
    >>> [type(guard.holds).__name__ for guard in captured.guards]  # one size is the other
    ['Equality']
    """

    holds: Any  # a relation between sizes
    where: Where | None


@dataclass
class Traced:
    """A graph, and what its inputs are: first the arguments' leaves, then noise, then what the
    function closes over.
    """

    graph: torch.fx.GraphModule
    shapes: (
        list  # of each leaf: a tuple of sizes, or the symbol of a whole number; None: not an input
    )
    noise: list[NoiseSpec]
    closed: list[Tensor]
    out_spec: pytree.TreeSpec
    guards: list[Guard]
    sizes: dict  # what is known of sizes beyond their names: one symbol by another, or by a number


def trace(fn: Callable, leaves: list, spec: pytree.TreeSpec, static: set) -> Traced:
    """Run `fn` once on arguments like these and record it.

    Args:
        leaves: of the arguments: tensors, whole numbers, or anything else, which is a constant.
        spec: how they make up the arguments.
        static: which sizes are constants, as (leaf, dimension); a whole number's dimension is None.
    """
    used: list[str] = []
    try:
        return _traced(fn, leaves, spec, static, used)
    except errors.PplkitError:
        if not used:
            raise
    return _traced(fn, leaves, spec, static, None)  # `int(math.sqrt(n))` needs the number itself


def _traced(fn, leaves, spec, static, used: list[str] | None) -> Traced:
    """As `trace`; `used` gets the functions of plain numbers that were given open ones, None leaves
    these functions as they are.
    """
    shape_env = _Watched(specialize_zero_one=True, duck_shape=False)
    mode = FakeTensorMode(shape_env=shape_env, allow_non_fake_inputs=True)
    inputs = [_symbolic(mode, i, leaf, static) for i, leaf in enumerate(leaves)]
    given = [x for x in inputs if isinstance(x, Tensor | torch.SymInt)]
    shapes = [_sizes_of(x) for x in inputs]  # by name, before anything is known of them
    recorder, out_spec = _Recorder(mode), []

    def run(*given):
        rest = iter(given)
        flat = [next(rest) if isinstance(x, Tensor | torch.SymInt) else x for x in inputs]
        recorder.given.update(_storage(x) for x in flat if isinstance(x, FakeTensor))
        with recorder, _NumbersOfSizes():
            result = fn(*pytree.tree_unflatten(flat, spec))
            outputs, shape = pytree.tree_flatten(result)
            out_spec.append(shape)
            return [_output(x) for x in outputs]

    with ExitStack() as stack:
        stack.enter_context(_PATCHING)
        stack.enter_context(open_numbers(used))
        stack.enter_context(checks.asked_together())
        stack.enter_context(mode)  # make_fx would make one of its own when no input is a tensor
        graph = _explained(lambda: make_fx(run, tracing_mode="symbolic")(*given))
    noise, closed = recorder.settle(graph)
    from .runs import outlined

    return Traced(
        outlined(graph),
        shapes,
        noise,
        closed,
        out_spec[0],
        shape_env.watched,
        dict(shape_env.replacements),
    )


def _symbolic(mode: FakeTensorMode, i: int, leaf: Any, static: set) -> Any:
    """What stands for a leaf while the function runs."""
    if type(leaf) is int and (i, None) not in static:
        env, source = mode.shape_env, ConstantSource(f"number{i}")
        symbol = env.create_symbol(leaf, source, dynamic_dim=DimDynamic.DYNAMIC, positive=True)
        return env.create_symintnode(symbol, hint=leaf, source=source)
    if not isinstance(leaf, Tensor):
        return leaf
    dims = [
        DimDynamic.STATIC if (i, dim) in static else DimDynamic.DYNAMIC for dim in range(leaf.dim())
    ]
    context = StatelessSymbolicContext(dynamic_sizes=dims)
    with torch.no_grad():
        plain = leaf.detach().contiguous()
    fake = mode.from_tensor(plain, source=ConstantSource(f"leaf{i}"), symbolic_context=context)
    return fake.requires_grad_() if leaf.requires_grad else fake


def _sizes_of(x: Any) -> Any:
    if isinstance(x, Tensor):
        return tuple(map(expression, x.shape))
    return expression(x) if isinstance(x, torch.SymInt) else None


def expression(size: Any) -> Any:
    """A size as a plain number or an expression in the names of sizes."""
    if not isinstance(size, torch.SymInt):
        return size
    found = size.node.expr
    return int(found) if found.is_number else found


def _output(x: Any) -> Tensor:
    if isinstance(x, Tensor):
        return x
    if isinstance(x, (bool, int, float)):
        return torch.full((), x, dtype=torch.int64 if type(x) is int else None)
    if isinstance(x, (torch.SymInt, torch.SymFloat)):
        return _number(x)
    raise errors.cannot_be_captured(
        "a result that is no tensor", None, f"{type(x).__name__} among what the function returns",
        "return tensors, in dictionaries, lists or tuples",
    )  # fmt: skip


class _Watched(ShapeEnv):
    """Writes down what is taken for granted about sizes, with the user's line."""

    def evaluate_expr(self, *args, **kwargs):
        before = len(self.guards)
        result = super().evaluate_expr(*args, **kwargs)
        self.note(before)
        return result

    def note(self, before: int) -> None:
        for guard in self.guards[before:]:
            self.watched.append(Guard(guard.expr, user_line()))

    @property
    def watched(self) -> list[Guard]:
        return self.__dict__.setdefault("_watched", [])


class _Recorder(GivenNoise):
    """Makes inputs of the base noise that draws take, and of the tensors closed over."""

    def __init__(self, mode: FakeTensorMode):
        super().__init__(self._take)
        self.mode, self.records = mode, True
        self.given: set[int] = set()  # where the numbers of inputs would be
        self.noise: list[tuple[NoiseSpec, torch.fx.Node]] = []
        self.closed: dict[int, tuple[Tensor, Tensor, torch.fx.Node]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is aten._local_scalar_dense.default:
            raise errors.number_asked_for(user_line())
        if func._schema.is_mutable and self._writes_inputs(func, args, kwargs):
            raise errors.input_changed(str(func), user_line())
        if func in _INDEXING:
            args = (args[0], self._positions(args[1]), *args[2:])
        if torch.Tag.dynamic_output_shape in func.tags and not _by_position(func, args):
            raise errors.shape_from_numbers(str(func), user_line())
        if func in _LIFTED and not isinstance(args[0], FakeTensor) and args[0].dim() == 0:
            return self._literal(args[0])
        args, kwargs = pytree.tree_map_only(Tensor, self._lifted, (args, kwargs))
        made = super().__torch_dispatch__(func, types, args, kwargs)
        self._sign()
        return made

    def _sign(self) -> None:
        """Write the user's line on what has just been recorded."""
        mode = get_proxy_mode()
        for node in reversed(mode.tracer.graph.nodes) if mode else ():
            if "where" in node.meta or node.op == "placeholder":
                break
            node.meta["where"] = user_line()

    def _writes_inputs(self, func: Any, args: tuple, kwargs: dict) -> bool:
        """Whether an operation writes into an argument of the program, or what it closes over."""
        named = zip(func._schema.arguments, args, strict=False)
        written = [x for known, x in named if known.alias_info and known.alias_info.is_write]
        written += [
            kwargs[known.name]
            for known in func._schema.arguments
            if known.name in kwargs and known.alias_info and known.alias_info.is_write
        ]
        tensors = [x for x in pytree.tree_leaves(written) if isinstance(x, Tensor)]
        return any(not isinstance(x, FakeTensor) or _storage(x) in self.given for x in tensors)

    def _positions(self, index: list) -> list:
        """Masks that no input decides, as those of a matrix's lower triangle, as positions."""
        made = []
        for part in index:
            known = None
            if part is not None and part.dtype == torch.bool and isinstance(part, FakeTensor):
                known = _without_inputs(part)
            made += [part] if known is None else known
        return made

    def _literal(self, constant: Tensor) -> Tensor:
        """A number written in the program: `torch.tensor(0.)`."""
        with _disable_current_modes():
            number = constant.item()
        return torch.full((), number, dtype=constant.dtype, device=constant.device)

    def _lifted(self, tensor: Tensor) -> Tensor:
        if isinstance(tensor, FakeTensor):
            return tensor
        key = id(tensor)
        if key not in self.closed:
            with disable_proxy_modes_tracing():
                fake = self.mode.from_tensor(tensor.detach(), static_shapes=True)
            self.given.add(_storage(fake))
            self.closed[key] = (tensor, fake, self._input(fake))
        return self.closed[key][1]

    def _take(self, kind, shape, dtype, device) -> Tensor:
        with disable_proxy_modes_tracing():
            fake = torch.empty(shape, dtype=dtype, device=device)
        spec = NoiseSpec(kind, tuple(map(expression, shape)), dtype, device)
        self.noise.append((spec, self._input(fake)))
        return fake

    def _input(self, fake: Tensor) -> torch.fx.Node:
        name = f"met_{len(self.noise) + len(self.closed)}"
        tracer = get_proxy_mode().tracer
        body = (node for node in tracer.graph.nodes if node.op != "placeholder")
        first = next(body, None)
        if first is None:
            proxy = tracer.create_proxy("placeholder", name, (), {})
        else:
            with tracer.graph.inserting_before(first):
                proxy = tracer.create_proxy("placeholder", name, (), {})
        track_tensor_tree(fake, proxy, constant=None, tracer=tracer)
        return proxy.node

    def settle(self, graph: torch.fx.GraphModule) -> tuple[list[NoiseSpec], list[Tensor]]:
        """Put the inputs in their order; what nothing reads is dropped, noise apart."""
        by_name = {node.name: node for node in graph.graph.nodes}
        body = next(node for node in graph.graph.nodes if node.op != "placeholder")
        closed = []
        for _, node in self.noise:
            body.prepend(by_name[node.name])
        for tensor, _, node in self.closed.values():
            if by_name[node.name].users:
                body.prepend(by_name[node.name])
                closed.append(tensor)
            else:
                graph.graph.erase_node(by_name[node.name])
        graph.graph.eliminate_dead_code()
        graph.graph.lint()
        graph.recompile()
        return [spec for spec, _ in self.noise], closed


def _by_position(func: Any, args: tuple) -> bool:
    """Whether an indexing takes whole numbers, whose result has the indices' shape."""
    if func is not aten.index.Tensor:
        return False
    return not any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1])


def _without_inputs(mask: Tensor) -> list[Tensor] | None:
    """Where a mask is true, if it follows from the program's text alone."""
    tracer, known = get_proxy_mode().tracer, {}

    def value(node: torch.fx.Node):
        if isinstance(node.meta.get("val"), torch.SymInt):
            return int(node.meta["val"])  # fixes the size
        if node.op != "call_function":
            raise LookupError(node.name)
        if node not in known:
            args, kwargs = torch.fx.map_arg((node.args, node.kwargs), value)
            known[node] = node.target(*args, **kwargs)
        return known[node]

    node = get_proxy_slot(mask, tracer).proxy.node
    try:
        with _disable_current_modes():
            return list(value(node).nonzero(as_tuple=True))
    except LookupError:
        return None


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


_INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)
_LIFTED = (aten.lift_fresh_copy.default, aten.lift_fresh.default)


class _NumbersOfSizes(TorchFunctionMode):
    """`torch.tensor(n / 4)` keeps the size in it symbolic; `x[i]` a drawn `i`."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and args and _is_open(args[0]):
            return _number(args[0], **kwargs)
        if func is torch.linspace and any(map(_is_of_sizes, (*args, *kwargs.values()))):
            return _linspace(*args, **kwargs)
        if func in _SCATTERS and len(args) == 1 and not {*kwargs} - {"correction"}:
            return _SCATTERS[func](*args, **kwargs)
        if func is Tensor.fill_diagonal_ and len(args) == 2 and args[0].dim() == 2 and not kwargs:
            args[0].diagonal().fill_(args[1])  # by one stride over all it has no functional form
            return args[0]
        if func is Tensor.__getitem__:
            index = _tensor_index(*args)
            if index is not None:
                return aten.index.Tensor(args[0], index)
        return func(*args, **kwargs)


def _linspace(start, end, steps, **kwargs) -> Tensor:
    """`torch.linspace`, which asks for the number of steps; as torch does it, from both ends."""
    i = torch.arange(steps, **kwargs)
    i = i if i.is_floating_point() else i.to(kwargs.get("dtype") or torch.get_default_dtype())
    gap = (end - start) / torch.sym_max(steps - 1, 1)
    return torch.where(
        i < torch.sym_max(steps // 2, 1), start + gap * i, end - gap * (steps - 1 - i)
    )


def _cov(x: Tensor, *, correction: int = 1) -> Tensor:
    """`torch.cov`, which asks how many columns are left to divide by."""
    rows = x.reshape(-1, x.shape[-1]) if x.dim() else x.reshape(1, 1)
    gaps = rows - rows.mean(-1, keepdim=True)
    return (gaps @ gaps.mT / (rows.shape[-1] - correction)).squeeze()


def _corrcoef(x: Tensor) -> Tensor:
    """`torch.corrcoef`."""
    made = _cov(x)
    if made.dim() == 0:
        return made / made
    scale = made.diagonal().sqrt()
    return (made / scale.unsqueeze(-1) / scale).clamp(-1.0, 1.0)


_SCATTERS = {
    torch.cov: _cov, Tensor.cov: _cov, torch.corrcoef: _corrcoef, Tensor.corrcoef: _corrcoef,
}  # fmt: skip


def _tensor_index(x: Tensor, index: Any) -> list | None:
    """`x[i]`, `x[i, j]`, `x[..., i]` for tensors without dimensions, of which Python's way asks
    the number.
    """
    parts = list(index) if isinstance(index, tuple) else [index]
    behind = parts[:1] == [Ellipsis] if not isinstance(parts[0], Tensor) else False
    chosen = parts[1:] if behind else parts
    tensors = [part for part in chosen if isinstance(part, Tensor)]
    if not any(part.dim() == 0 for part in tensors) or len(chosen) > x.dim():
        return None
    if any(part.is_floating_point() or part.dtype == torch.bool for part in tensors):
        return None
    if not all(isinstance(part, Tensor) or type(part) is int for part in chosen):
        return None
    places = [p if isinstance(p, Tensor) else torch.full((), p, device=x.device) for p in chosen]
    return [None] * (x.dim() - len(chosen) if behind else 0) + places


def _is_of_sizes(x: Any) -> bool:
    if isinstance(x, (list, tuple)):
        return any(map(_is_of_sizes, x))
    return isinstance(x, (torch.SymInt, torch.SymFloat))


def _is_open(x: Any) -> bool:
    """Whether a tensor made of this has sizes or tensors in it: `[[1.0, rho], [rho, 1.0]]`."""
    if isinstance(x, (list, tuple)):
        return any(isinstance(part, Tensor) or _is_open(part) for part in x)
    return _is_of_sizes(x)


def _number(x: Any, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    if isinstance(x, (list, tuple)):
        parts = [_number(part, dtype, device) for part in x]
        kind = functools.reduce(torch.promote_types, [part.dtype for part in parts])
        return torch.stack([part.to(kind) for part in parts])
    if isinstance(x, Tensor):
        return x.detach() if dtype is None else x.detach().to(dtype)
    whole = isinstance(x, (torch.SymInt, int)) and not isinstance(x, bool)
    made = torch.full((), x, dtype=dtype or (torch.int64 if whole else None), device=device)
    return made.requires_grad_(requires_grad)


# -- what belongs to the process -------------------------------------------------------------------

_PATCHING = threading.RLock()


def _explained(run: Callable) -> Any:
    """What torch says of a program that has no graph, in our words."""
    try:
        return run()
    except (GuardOnDataDependentSymNode, DataDependentOutputException) as fault:
        raise errors.number_asked_for(line_of(fault)) from fault
    except DynamicOutputShapeException as fault:
        raise errors.shape_from_numbers(str(fault.func), line_of(fault)) from fault
    except errors.PplkitError:
        raise
    except FAULTS as fault:  # the function itself has just run, on the same arguments
        said = str(fault).strip().partition("\n")[0]
        what = "leaving torch for NumPy" if "numpy" in said else "what this line does"
        raise errors.cannot_be_captured(
            what, line_of(fault), f"{type(fault).__name__}: {said}"
        ) from fault


# What a program, or torch, raises when it cannot go on; not what stops the interpreter.
FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
