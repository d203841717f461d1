"""Many steps as one program: the captured step inside torch's `scan`."""

from __future__ import annotations

import operator
from dataclasses import replace

import torch
from torch._higher_order_ops.scan import scan_op

from .export import exported
from .program import Program
from .tracing import NoiseSpec


def loop(program: Program, carried: int) -> torch.export.ExportedProgram:
    """A step, repeated, as one exported program; there are as many steps as noise has rows.

    Its inputs are the step's, base noise with a first dimension for the steps; its outputs are what
    is carried on at the end, and a row per step of everything else. A step without noise takes a
    column of numbers that nothing reads.

    Args:
        program: of the step.
        carried: how many tensors are carried from step to step: its first inputs and outputs.
    """
    import sympy

    traced = program.traced
    steps = sympy.Symbol("steps", positive=True, integer=True)
    noise = [replace(spec, shape=(steps, *spec.shape)) for spec in traced.noise]
    noise = noise or [NoiseSpec("uniform", (steps,), torch.float32, torch.device("cpu"))]
    graph = _repeated(traced.graph, carried, len(traced.noise), len(traced.closed))
    return exported(replace(traced, graph=graph, noise=noise), program.spread(), {steps: 2})


def _repeated(step: torch.fx.GraphModule, carried: int, noise: int, closed: int):
    """The graph of a scan over the step's graph."""
    names = [node.name for node in step.graph.nodes if node.op == "placeholder"]
    first, last = len(names) - noise - closed, len(names) - closed
    arguments, rows, held = names[:first], names[first:last] or ["steps"], names[last:]
    graph = torch.fx.Graph()
    given = {name: graph.placeholder(name) for name in [*arguments, *rows, *held]}
    shared = [*arguments[carried:], *held]
    parts = [[given[name] for name in group] for group in (arguments[:carried], rows, shared)]
    result = graph.call_function(scan_op, (graph.get_attr("step"), *parts))
    outputs = next(node for node in step.graph.nodes if node.op == "output").args[0]
    graph.output(
        tuple(graph.call_function(operator.getitem, (result, i)) for i in range(len(outputs)))
    )
    body = _body(step, [*arguments[:carried], *rows, *shared])
    return torch.fx.GraphModule({"step": body}, graph)


def _body(step: torch.fx.GraphModule, order: list[str]) -> torch.fx.GraphModule:
    """The step's graph with its inputs in this order; none of its outputs is one of its inputs."""
    graph, copied = torch.fx.Graph(), {}
    for name in order:
        copied[name] = graph.placeholder(name)
    for node in step.graph.nodes:
        if node.op == "output":
            outputs = [copied[part.name] for part in node.args[0]]
            clone = torch.ops.aten.clone.default
            graph.output(tuple(graph.call_function(clone, (part,)) for part in outputs))
        elif node.op != "placeholder":
            copied[node.name] = graph.node_copy(node, lambda n: copied[n.name])
    return torch.fx.GraphModule(step, graph)
