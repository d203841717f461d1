"""A recorded graph as torch exports it."""

from __future__ import annotations

import copy

import torch
from torch.export import Dim

from .tracing import Traced


def exported(
    traced: Traced, example: list, more: dict | None = None
) -> torch.export.ExportedProgram:
    """One `ExportedProgram`, whose inputs are flat: arguments, noise, tensors closed over."""
    args, shapes = [], []
    sizes = {**_example_sizes(traced, example), **(more or {})}
    for shape, leaf in zip(traced.shapes, example, strict=True):
        if shape is None:
            continue
        if isinstance(shape, tuple):
            args.append(leaf.detach())
            shapes.append(_dims(traced, shape))
        else:
            args.append(leaf)
            shapes.append(Dim.DYNAMIC if not _fixed(traced, shape) else None)
    from .program import evaluated

    for spec in traced.noise:
        whole = [evaluated(n, sizes) for n in spec.shape]
        args.append(torch.full(whole, 0.5, dtype=spec.dtype, device=spec.device))
        shapes.append(_dims(traced, spec.shape))
    for tensor in traced.closed:
        args.append(tensor.detach())
        shapes.append(None)
    program = torch.export.export(
        _unasked(traced.graph), tuple(args), dynamic_shapes=tuple(shapes), strict=False
    )
    if any(node.target._schema.is_mutable for node in _calls(program)):
        program = program.run_decompositions({})  # no operation writes into a tensor
    return program


def _unasked(graph: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """The graph without questions whether a factorisation failed: its numbers tell."""
    check = torch.ops.aten._linalg_check_errors.default

    def asking(graph: torch.fx.GraphModule) -> list[torch.fx.Node]:
        parts = [part for part in graph.modules() if isinstance(part, torch.fx.GraphModule)]
        return [node for part in parts for node in part.graph.nodes if node.target is check]

    if asking(graph):
        graph = copy.deepcopy(graph)
        for node in asking(graph):
            node.graph.erase_node(node)
        for part in graph.modules():
            if isinstance(part, torch.fx.GraphModule):
                part.graph.eliminate_dead_code()
                part.recompile()
    return graph


def _calls(program: torch.export.ExportedProgram) -> list[torch.fx.Node]:
    return [node for node in program.graph.nodes if isinstance(node.target, torch._ops.OpOverload)]


def _example_sizes(traced: Traced, example: list) -> dict:
    found = {}
    for shape, leaf in zip(traced.shapes, example, strict=True):
        if isinstance(shape, tuple):
            found.update(zip(shape, leaf.shape, strict=True))
        elif shape is not None:
            found[shape] = leaf
    return {name: size for name, size in found.items() if not isinstance(name, int)}


def _fixed(traced: Traced, name) -> bool:
    value = traced.sizes.get(name)
    return isinstance(name, int) or (value is not None and bool(value.is_number))


def _dims(traced: Traced, shape: tuple) -> dict:
    """Which dimensions are dynamic; torch finds out itself how they hang together."""
    return {d: Dim.AUTO for d, name in enumerate(shape) if not _all_fixed(traced, name)}


def _all_fixed(traced: Traced, name) -> bool:
    if isinstance(name, int):
        return True
    return all(_fixed(traced, symbol) for symbol in name.free_symbols)
