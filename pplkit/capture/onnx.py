"""A captured program as ONNX: what a published page computes with, in place of a kernel."""

from __future__ import annotations

import importlib
import logging
import math
import re
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor

from .. import errors
from .export import _fixed as fixed
from .program import Program, key_name

PACKAGES = ("onnx", "onnxscript")  # what makes the bytes; the extra `publish` brings them
_OPSET = 20


@dataclass
class OnnxProgram:
    """One program as ONNX, with what a caller has to know of its inputs and outputs.

    Attributes:
        model_bytes: an ONNX model. It has no weights: whatever it computes with is an input.
        inputs: in the model's order; each has a `name`, a `kind` ("argument", "noise" or "closed"),
            a `dtype`, as "float32", and a `shape`. Arguments have a `path`: the name of the
            function's argument, then keys. Noise has a `distribution`, "normal" or "uniform", and
            a `draw`: which of the program's draws it is. Inputs that no output depends on are left
            out.
        outputs: in the model's order; each has a `name`, a `path` of keys, a `dtype` and a `shape`.
        sizes: by name, where a size is read: an `input`, and the `dim` of it (None: the input is
            itself that whole number); and the `least` that it may be.
        conditions: relations between sizes, outside which the program is not right.
        closed: values of the inputs of kind "closed", as they are now, by name.

    A size in a shape is a number, a name of `sizes`, or a list of an operation ("+", "*", "/",
    "//", "%", "**", "trunc", "floor", "ceil", "max", "min") and what it is applied to; a condition
    is a list of the same kind with "<=", "<", "==", "!=", "and", "or" or "not" first.

    >>> made = OnnxProgram(b"", [], [], {}, [], {})
    >>> made.at(["+", ["*", 2, "n"], 1], {"n": 3})
    7
    """

    model_bytes: bytes
    inputs: list[dict]
    outputs: list[dict]
    sizes: dict[str, dict]
    conditions: list
    closed: dict[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def at(size: Any, sizes: dict[str, int]) -> Any:
        """What a size or a condition comes to.

        Args:
            size: as in `inputs`, `outputs` or `conditions`.
            sizes: a whole number for each name.
        """
        if isinstance(size, list):
            operation, *parts = size
            return _OPERATIONS[operation](*(OnnxProgram.at(part, sizes) for part in parts))
        return sizes[size] if isinstance(size, str) else size

    def serves(self, sizes: dict[str, int]) -> bool:
        """Whether the program is right at these sizes."""
        enough = all(sizes[name] >= known["least"] for name, known in self.sizes.items())
        return enough and all(self.at(condition, sizes) for condition in self.conditions)

    def __repr__(self) -> str:
        kinds = [given["kind"] for given in self.inputs]
        return (
            f"OnnxProgram({len(self.model_bytes)} bytes: {kinds.count('argument')} arguments, "
            f"{kinds.count('noise')} noise, {kinds.count('closed')} closed over, "
            f"{len(self.outputs)} outputs)"
        )


def _product(*parts):
    total = 1
    for part in parts:
        total *= part
    return total


_OPERATIONS: dict[str, Callable] = {
    "+": lambda *parts: sum(parts),
    "*": _product,
    "/": lambda a, b: a / b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "**": lambda a, b: a**b,
    "trunc": math.trunc,
    "floor": math.floor,
    "ceil": math.ceil,
    "max": lambda *parts: max(parts),
    "min": lambda *parts: min(parts),
    "<=": lambda a, b: a <= b,
    "<": lambda a, b: a < b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "and": lambda *parts: all(parts),
    "or": lambda *parts: any(parts),
    "not": lambda a: not a,
}


def to_onnx(program: Program, closed: list[Tensor], paths: list[list[str]]) -> OnnxProgram:
    """One program as ONNX.

    Args:
        closed: what it closes over, as it is now.
        paths: of each leaf of the arguments.
    """
    for package in PACKAGES:
        try:
            importlib.import_module(package)
        except ImportError as fault:
            raise errors.missing_package(package, "to_onnx") from fault
    traced = program.traced
    names = _SizeNames(program, paths)
    inputs = _described(program, paths, names)
    outputs = [
        {"name": f"out_{i}", "path": path, **_kind(node, names)}
        for i, (path, node) in enumerate(
            zip(_paths(traced.out_spec), _returned(traced.graph), strict=True)
        )
    ]
    model = _converted(program)
    for value, entry in zip(model.graph.inputs, inputs, strict=True):
        value.name = entry["name"]
    _name_outputs(model, [entry["name"] for entry in outputs])
    kept = _without_idle_inputs(model, inputs)
    values = dict(zip([e["name"] for e in inputs if e["kind"] == "closed"], closed, strict=True))
    return OnnxProgram(
        _bytes(model),
        kept,
        outputs,
        names.described(),
        [names.tree(guard.holds) for guard in traced.guards],
        {name: v.detach() for name, v in values.items() if any(e["name"] == name for e in kept)},
    )


# -- names -----------------------------------------------------------------------------------------


class _SizeNames:
    """Names for the free sizes of a program, and expressions in them as plain lists."""

    def __init__(self, program: Program, paths: list[list[str]]):
        self.program, self.traced = program, program.traced
        self.places: dict = {}  # of each symbol: a name, the leaf, the dimension
        for leaf, (shape, path) in enumerate(zip(self.traced.shapes, paths, strict=True)):
            label = "_".join(path)
            if isinstance(shape, tuple):
                for dim, symbol in enumerate(shape):
                    if not isinstance(symbol, int):
                        self.places.setdefault(symbol, (f"{label}_{dim}", leaf, dim))
            elif shape is not None and not isinstance(shape, int):
                self.places[shape] = (label, leaf, None)

    def described(self) -> dict[str, dict]:
        labels = _labels(self.program)
        found = {}
        for symbol, (name, leaf, dim) in self.places.items():
            least = self.program.least.get(symbol, 1)
            found[name] = {"input": labels[leaf], "dim": dim, "least": least}
        return found

    def tree(self, size: Any) -> Any:
        """A size or a condition as numbers, names and lists."""
        if isinstance(size, (int, bool)):
            return size
        if size.is_Symbol:
            return self.places[size][0]
        if size.is_Integer:
            return int(size)
        if size.is_Rational or size.is_Float:
            return float(size)
        if size.func.__name__ == "ToFloat":
            return self.tree(size.args[0])
        if size.func.__name__ in ("BooleanTrue", "BooleanFalse"):
            return bool(size)
        known = _SYMPY.get(size.func.__name__)
        if known is None:
            raise errors.cannot_be_published(f"a size of {size}", None)
        parts = [self.tree(part) for part in size.args]
        return [known, *(reversed(parts) if size.func.__name__ in _REVERSED else parts)]


_SYMPY = {
    "Add": "+",
    "Mul": "*",
    "FloorDiv": "//",
    "CleanDiv": "//",
    "IntTrueDiv": "/",
    "FloatTrueDiv": "/",
    "TruncToInt": "trunc",
    "FloorToInt": "floor",
    "CeilToInt": "ceil",
    "Mod": "%",
    "PythonMod": "%",
    "Pow": "**",
    "PowByNatural": "**",
    "Max": "max",
    "Min": "min",
    "LessThan": "<=",
    "StrictLessThan": "<",
    "GreaterThan": "<=",
    "StrictGreaterThan": "<",
    "Equality": "==",
    "Unequality": "!=",
    "And": "and",
    "Or": "or",
    "Not": "not",
}
_REVERSED = ("GreaterThan", "StrictGreaterThan")


def _labels(program: Program) -> list[str | None]:
    """The name of each leaf's input; None for one that is no input."""
    nodes = iter(n for n in program.traced.graph.graph.nodes if n.op == "placeholder")
    return [None if shape is None else next(nodes).name for shape in program.traced.shapes]


def _described(program: Program, paths: list[list[str]], names: _SizeNames) -> list[dict]:
    traced, made = program.traced, []
    nodes = iter(n for n in traced.graph.graph.nodes if n.op == "placeholder")
    for shape, path, leaf in zip(traced.shapes, paths, program.example, strict=True):
        if shape is None:
            continue
        sizes = [names.tree(size) for size in shape] if isinstance(shape, tuple) else []
        dtype = _dtype(leaf.dtype) if isinstance(leaf, Tensor) else "int64"
        name = next(nodes).name
        if not isinstance(leaf, Tensor) and fixed(program.traced, shape):
            continue  # a whole number that the program is for alone: the exporter writes it in
        made.append(
            {
                "name": name,
                "kind": "argument",
                "path": path,
                "dtype": dtype,
                "shape": sizes,
            }
        )
    for i, spec in enumerate(traced.noise):
        sizes = [names.tree(size) for size in spec.shape]
        kind = {"name": next(nodes).name, "kind": "noise", "dtype": _dtype(spec.dtype)}
        made.append({**kind, "shape": sizes, "distribution": spec.kind, "draw": i})
    for tensor in traced.closed:
        kind = {"name": next(nodes).name, "kind": "closed", "dtype": _dtype(tensor.dtype)}
        made.append({**kind, "shape": list(tensor.shape)})
    return made


def _kind(node: torch.fx.Node, names: _SizeNames) -> dict:
    from .tracing import expression

    value = node.meta["val"]
    shape = [names.tree(expression(size)) for size in value.shape]
    return {"dtype": _dtype(value.dtype), "shape": shape}


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _returned(graph: torch.fx.GraphModule) -> list[torch.fx.Node]:
    return list(next(node for node in graph.graph.nodes if node.op == "output").args[0])


def _paths(spec: pytree.TreeSpec) -> list[list[str]]:
    tree = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    return [list(map(key_name, path)) for path, _ in pytree.tree_flatten_with_path(tree)[0]]


# -- making the model ------------------------------------------------------------------------------


def _converted(program: Program):
    """The model that torch's exporter makes, by its parts: as a whole it would take the program
    apart a second time, and round numbers.
    """
    from onnxscript import version_converter
    from torch.onnx._internal.exporter import _core, _fx_passes

    from .published import simplified

    known, table, registry = _operations()
    exported = program.exported.run_decompositions({**table, **_published()})
    for module in exported.graph_module.modules():
        for node in list(module.graph.nodes) if isinstance(module, torch.fx.GraphModule) else ():
            if node.target in _ASSERTIONS:
                module.graph.erase_node(node)
            elif isinstance(node.target, torch._ops.OpOverload) and node.target not in known:
                raise errors.cannot_be_published(str(node.target), _line(program, node.target))
    with _quiet():
        _fx_passes.insert_type_promotion_nodes(exported.graph_module)
        _fx_passes.remove_assertion_nodes(exported.graph_module)
        try:
            made = _core._exported_program_to_onnx_program(exported, registry=registry)
        except torch.onnx.errors.OnnxExporterError as fault:
            raise _refused(program, fault) from fault
        version_converter.convert_version(made.model, _OPSET, fallback=True)
        return simplified(made.model)


_ASSERTIONS = (torch.ops.aten._assert_async.msg, torch.ops.aten._assert_async.default)


@cache
def _operations() -> tuple[set, dict, Any]:
    """What the exporter has ONNX for, how it takes other operations apart, and its registry."""
    from torch.onnx._internal.exporter import _decomp, _registration

    from .published import translations

    with _quiet():
        registry = _registration.ONNXRegistry.from_torchlib()
    for operation, translation in translations().items():
        registry.register_op(operation, translation)
    known = set(_decomp.get_onnx_implemented_overloads(registry))
    table = _decomp.create_onnx_friendly_decomposition_table(known)
    return known, {**table, torch.ops.aten.lerp.Scalar: _between}, registry


def _between(start: Tensor, end: Tensor, weight: float) -> Tensor:
    """`torch.lerp`; the exporter's asks anew each time which end is nearer."""
    if weight < 0.5:
        return start + weight * (end - start)
    return end - (1 - weight) * (end - start)


def _published() -> dict:
    """Elementary forms of what ONNX lacks."""
    try:
        from .published import decompositions
    except ImportError:
        return {}
    return decompositions()


def _refused(program: Program, fault: Exception):
    """What the exporter fails at, by name and line."""
    found = re.search(r"target=torch\.ops\.aten\.(\w+)\.(\w+)", str(fault))
    target = getattr(getattr(torch.ops.aten, found[1]), found[2]) if found else None
    if target is None:
        return errors.cannot_be_published(str(fault).partition("\n")[0], None)
    return errors.cannot_be_published(str(target), _line(program, target))


def _line(program: Program, target: Any):
    """Where the program, as it was recorded, first calls this operation."""
    called = target._opname.partition(".")[0]
    nodes = program.traced.graph.graph.nodes
    names = [getattr(node.target, "_opname", "").partition(".")[0] for node in nodes]
    # A primitive has the name of what it is a part of, or a part of that: special_bessel_j0.
    for meant in (called, next((name for name in names if called in name), None)):
        for node, name in zip(nodes, names, strict=True):
            if name == meant:
                return node.meta.get("where")
    return None


@contextmanager
def _quiet():
    """The exporter talks, and warns of matters that are not the user's."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _name_outputs(model, names: list[str]) -> None:
    """Each output a value of its own, under its own name: one value may be returned twice, and an
    input may be returned as it is.
    """
    import onnx_ir as ir

    seen = set()
    for i, (value, name) in enumerate(zip(list(model.graph.outputs), names, strict=True)):
        if value.is_graph_input() or value.is_initializer() or id(value) in seen:
            node = ir.node("Identity", [value])
            model.graph.append(node)
            made = node.outputs[0]
            made.type, made.shape = value.type, value.shape
            model.graph.outputs[i] = value = made
        seen.add(id(value))
    taken = {value.name: value for node in model.graph.all_nodes() for value in node.outputs}
    for value, name in zip(model.graph.outputs, names, strict=True):
        other = taken.get(name)
        if other is not None and other is not value:
            other.name = f"{name}_within"
        value.name = name


def _without_idle_inputs(model, inputs: list[dict]) -> list[dict]:
    """Drop inputs that nothing reads."""
    kept = []
    for value, entry in zip(list(model.graph.inputs), inputs, strict=True):
        if value.uses():
            kept.append(entry)
        else:
            model.graph.inputs.remove(value)
    return kept


def _bytes(model) -> bytes:
    """The model without what describes its making: places in files, names of modules."""
    import onnx_ir as ir

    model.doc_string = None
    for holder in (model, model.graph, *model.functions.values()):
        holder.metadata_props.clear()
        holder.doc_string = None
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    for graph in (model.graph, *(f.graph for f in model.functions.values())):
        for node in graph.all_nodes():
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
    return ir.to_proto(model).SerializeToString(deterministic=True)
