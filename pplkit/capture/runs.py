"""`SVI.run` within a function that is captured: one loop in the graph, however many its steps.

While a function is recorded, a run evaluates one step, on tensors that stand for what is carried
from step to step and for a row of base noise. Once all is recorded, whatever depends on those is
cut out as the body of torch's `scan`; the rest of the step is computed once, before it.

A run on given noise that is not recorded takes the same steps in Python.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch._functorch.compile_utils import fx_graph_cse
from torch._higher_order_ops.scan import scan_op
from torch.fx.experimental.proxy_tensor import (
    disable_proxy_modes_tracing,
    get_proxy_mode,
    get_proxy_slot,
    track_tensor_tree,
)
from torch.utils._python_dispatch import (
    _disable_current_modes,
    _get_current_dispatch_mode_stack,
)
from torch.utils._pytree import tree_flatten, tree_unflatten

from .. import errors
from ..infer.svi import SVI, SVIRunResult, _Watcher
from ..optim import Optimizer, clipped
from ..params import ASIDE, Entry, ParamStore
from .noise import GivenNoise
from .step import _at_rates, _leaf, _moving, _Reading, _Standing, numbers

aten = torch.ops.aten
_BRIEF = 2  # steps that are taken where nobody looks at what they reach


def given_run(
    svi: SVI, num_steps: int, args: tuple, kwargs: dict, callback: Callable | None = None
) -> SVIRunResult:
    """What `SVI.run` does on given noise: recorded as a loop, or step by step.

    Like a function of its arguments, it leaves optimisers and parameter stores from outside as they
    are once the evaluation that it is part of has ended.
    """
    if callback is not None:
        raise errors.cannot_be_captured(
            "a callback of `SVI.run`",
            errors.user_frame(),
            remedy="leave it out: the loss of each step is in the result",
        )
    modes = _get_current_dispatch_mode_stack()
    mode = next(mode for mode in reversed(modes) if isinstance(mode, GivenNoise))
    if type(svi.optim).update is Optimizer.update or not svi.optim.guarded:
        raise errors.optimiser_not_captured(svi.optim)
    with svi._stored() as store:
        _undone_later(svi, store)
        run = _Run(svi, store, num_steps, mode, args, kwargs)
        carried = run.first()
        carried, losses = run.recorded(carried) if mode.records else run.taken(carried)
        run.put_back(carried)
        names = [name for name in svi._names if name in store]
        return SVIRunResult({name: store[name].detach().clone() for name in names}, losses)


class _Run:
    """One run: what its steps read, and how they are taken."""

    def __init__(self, svi, store: ParamStore, steps: int, mode: GivenNoise, args, kwargs):
        self.svi, self.store, self.steps = svi, store, steps
        self.mode, self.args, self.kwargs = mode, args, kwargs
        self.rows = Rows(mode, steps)

    def first(self) -> dict:
        """Evaluate a step so that its parameters are made; what the first step carries."""
        watcher = _Watcher()
        with self.rows.at(0):
            outcome = self.svi._evaluated(watcher, self.args, self.kwargs)
        self.names = [name for name in self.store if name in watcher.params]
        leaves = {name: self.store.unconstrained(name) for name in self.names}
        modules = (name for name in self.names if isinstance(leaves[name], torch.nn.Parameter))
        self.parameters = {name: id(leaves[name]) for name in modules}
        self.svi._names |= dict.fromkeys(outcome.leaves)
        self.scheduled = self.schedule()
        free, past = {}, {}
        optim = _moving(self.svi.optim)
        for name in self.names:
            leaf = self.store.unconstrained(name)
            free[name] = leaf.detach().clone().contiguous()
            known = optim.state.get(name) if optim._leaves.get(name) in (leaf, None) else None
            past[name] = dict(optim.init(free[name]) if known is None else known)
        return {"free": free, "past": past}

    def schedule(self) -> dict[str, Tensor]:
        """Where learning rates follow a schedule, a number for each step."""
        optim = self.svi.optim
        if not hasattr(optim, "_schedules"):
            return {}
        plateau = optim.scheduler_constructor is torch.optim.lr_scheduler.ReduceLROnPlateau
        if plateau or isinstance(self.steps, torch.SymInt):
            follows = "the losses" if plateau else "a number of steps that is an argument"
            raise errors.cannot_be_captured(
                "a schedule of learning rates",
                errors.user_frame(),
                f"it follows {follows}",
                remedy="take a schedule that knows its steps beforehand, or one learning rate",
            )
        found: dict[str, list[float]] = {}
        for _ in range(self.steps):
            for key, rate in numbers(optim, self.names).items():
                found.setdefault(key, []).append(rate)
            optim.step()
        return {key: torch.tensor(rows, dtype=torch.float64) for key, rows in found.items()}

    def step(self, carried: dict, at: dict[str, Tensor]) -> tuple[dict, Tensor]:
        """From what is carried, and scheduled rates, to what is carried on, and the loss."""
        leaves = {name: _leaf(name, value) for name, value in carried["free"].items()}
        stands_for = {}
        for name, leaf in leaves.items():
            then = self.store._entries[name]
            self.store._entries[name] = Entry(leaf, then.constraint, leaf.shape, then.event_dim)
            if name in self.parameters:
                stands_for[self.parameters[name]] = leaf
        with _Reading(self.store), _Standing(stands_for):
            outcome = self.svi._evaluated(_Watcher(), self.args, self.kwargs)
        with torch.no_grad():
            return self.moved(carried, at, leaves, outcome.grads), outcome.loss

    def moved(self, carried: dict, at: dict, leaves: dict, grads: dict) -> dict:
        optim, free, past = self.svi.optim, {}, {}
        for name, leaf in leaves.items():
            free[name], past[name] = leaf.detach(), carried["past"][name]
            if name in grads:
                grad = grads[name]
                if _moving(optim).clip_args:
                    grad = clipped(grad, **_moving(optim)._clip_options(name))
                options = _at_rates(optim.options(name), at, name, leaf.dtype)
                free[name], past[name] = optim.update(free[name], grad, past[name], **options)
        return {"free": free, "past": past}

    # -- step by step --------------------------------------------------------------------------
    def taken(self, carried: dict) -> tuple[dict, Tensor]:
        losses = []
        for step in range(min(self.steps, _BRIEF) if self.mode.brief else self.steps):
            with self.rows.at(step):
                at = {key: column[step] for key, column in self.scheduled.items()}
                carried, loss = self.step(carried, at)
            if not torch.isfinite(loss):
                raise errors.not_finite("the loss", step + 1, None)
            losses.append(loss)
        together = torch.stack(losses) if losses else torch.zeros(0)
        if len(losses) < self.steps:
            together = torch.cat([together, together[-1:].expand(self.steps - len(losses))])
        return carried, together

    # -- recorded ------------------------------------------------------------------------------
    def recorded(self, carried: dict) -> tuple[dict, Tensor]:
        flat, spec = tree_flatten(carried)
        before = [_entered(value) for value in flat]
        with self.rows.at(None):
            at = {key: self.rows.enter(column) for key, column in self.scheduled.items()}
            after, loss = self.step(tree_unflatten(before, spec), at)
        after = tree_flatten(after)[0]
        for old, new in zip(before, after, strict=True):
            if old.shape != new.shape or old.dtype != new.dtype:
                raise errors.cannot_be_captured(
                    "a step that changes what it moves", None,
                    f"shape {tuple(old.shape)}, {old.dtype} before, {tuple(new.shape)}, {new.dtype}"
                    " after",
                )  # fmt: skip
        rows = self.rows.entered or [_entered(torch.arange(self.steps), 0)]
        results = _looped(before, rows, after, [loss], self.steps)
        return tree_unflatten(results[:-1], spec), results[-1]

    def put_back(self, carried: dict) -> None:
        optim = _moving(self.svi.optim)
        for name in self.names:
            then, leaf = self.store._entries[name], carried["free"][name].detach()
            leaf = leaf.requires_grad_()
            entry = Entry(leaf, then.constraint, then.shape, then.event_dim)
            self.store._entries[name] = entry
            optim.state[name], optim._leaves[name] = carried["past"][name], leaf


class Rows:
    """Base noise of a run: one draw for all steps stands behind each draw of a step.

    Args:
        mode: where it is taken from.
        steps: how many rows it has.
    """

    def __init__(self, mode: GivenNoise, steps: int):
        self._mode, self._steps = mode, steps
        self._blocks: list[tuple[tuple, Tensor]] = []
        self._place, self._step = 0, None
        self.entered: list[Tensor] = []

    @contextmanager
    def at(self, step: int | None) -> Iterator[None]:
        """In the block, draws take their noise from the rows of a step; None: of any."""
        self._place, self._step = 0, step
        with GivenNoise(self._take):
            yield

    def _take(self, kind, shape, dtype, device) -> Tensor:
        if ASIDE.get():
            with self._outside():
                return self._mode.take(kind, shape, dtype, device)
        wanted, place = (kind, tuple(shape), dtype, device), self._place
        self._place += 1
        if place == len(self._blocks):
            with self._outside():
                block = self._mode.take(kind, (self._steps, *shape), dtype, device)
            self._blocks.append((wanted, block))
        known, block = self._blocks[place]
        if known != wanted:
            raise errors.cannot_be_captured(
                "a run whose steps draw differently",
                None,
                f"{known[0]} noise of shape {known[1]}, then {kind} of {tuple(shape)}",
            )
        if self._step is not None:
            return block[self._step]
        return self.enter(block)

    def enter(self, block: Tensor) -> Tensor:
        """What stands for a row of it in the body."""
        self.entered.append(_entered(block, 0))
        return self.entered[-1]

    def _outside(self):
        return nullcontext() if self._mode.records else _disable_current_modes()


# -- putting back what was there -------------------------------------------------------------------

_UNDO: ContextVar[list[Callable[[], None]] | None] = ContextVar("pplkit_undo", default=None)


@contextmanager
def undoing() -> Iterator[None]:
    """After the block, what runs in it have moved is as it was."""
    undo: list[Callable[[], None]] = []
    token = _UNDO.set(undo)
    try:
        yield
    finally:
        _UNDO.reset(token)
        for step in reversed(undo):
            step()


def _undone_later(svi: SVI, store: ParamStore) -> None:
    undo = _UNDO.get()
    if undo is None:
        return
    optim = _moving(svi.optim)
    entries, state, leaves = dict(store._entries), dict(optim.state), dict(optim._leaves)
    names, told = dict(svi._names), svi._told
    scheduled = hasattr(svi.optim, "_schedules")
    if scheduled:
        now = {k: copy.deepcopy(s.state_dict()) for k, s in svi.optim._schedules.items()}
        loaded = {**svi.optim._loaded, **now}

    def put_back():
        for here, before in ((store._entries, entries), (optim.state, state)):
            here.clear()
            here.update(before)
        optim._leaves, svi._names, svi._told = leaves, names, told
        if scheduled:
            svi.optim._loaded = loaded
            svi.optim._schedules.clear()

    undo.append(put_back)
    svi._told = True  # warnings are for runs that somebody looks at


# -- marks, while a graph is recorded --------------------------------------------------------------


def entered(value: Tensor, dim: int | None) -> Tensor:
    """Marks what a body takes: a value that is carried, or (`dim`) a row of it."""
    raise AssertionError("a mark is never run")


def looped(before: Sequence, rows: Sequence, after: Sequence, each: Sequence) -> tuple:
    """Marks the end of a body: what it takes, and what it makes of that."""
    raise AssertionError("a mark is never run")


def _entered(value: Tensor, dim: int | None = None) -> Tensor:
    shape = value.shape if dim is None else value.shape[1:]
    return _recorded(entered, (_node(value), dim), shape, value.dtype, value.device)


def _looped(before, rows, after, each, steps) -> list[Tensor]:
    tracer = get_proxy_mode().tracer
    parts = tuple([_node(x) for x in part] for part in (before, rows, after, each))
    mark = tracer.create_proxy("call_function", looped, parts, {})
    shapes = [x.shape for x in after] + [(steps, *x.shape) for x in each]
    return [
        _recorded(operator.getitem, (mark.node, i), shape, x.dtype, x.device)
        for i, (shape, x) in enumerate(zip(shapes, [*after, *each], strict=True))
    ]


def _recorded(target: Callable, args: tuple, shape, dtype, device) -> Tensor:
    """A tensor that a call in the graph stands for."""
    tracer = get_proxy_mode().tracer
    args = tuple(torch.fx.Proxy(x, tracer) if isinstance(x, torch.fx.Node) else x for x in args)
    with disable_proxy_modes_tracing():
        fake = torch.empty(shape, dtype=dtype, device=device)
    proxy = tracer.create_proxy("call_function", target, args, {})
    track_tensor_tree(fake, proxy, constant=None, tracer=tracer)
    return fake


def _node(value: Tensor) -> Any:
    return get_proxy_slot(value, get_proxy_mode().tracer).proxy


# -- cutting bodies out ----------------------------------------------------------------------------


def outlined(graph: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """The graph with a `scan` where a run was recorded."""
    for number, mark in enumerate(n for n in list(graph.graph.nodes) if n.target is looped):
        _outline(graph, mark, f"steps_{number}")
    graph.graph.eliminate_dead_code()
    stray = next((node for node in graph.graph.nodes if node.target is entered), None)
    if stray is not None:  # what the run has reached is not looked at, but what a step has made
        raise errors.kept_from_a_step(next(iter(stray.users)).meta.get("where"))
    graph.graph.lint()
    graph.recompile()
    return graph


def _outline(graph: torch.fx.GraphModule, mark: torch.fx.Node, name: str) -> None:
    before, rows, after, each = mark.args
    inside = _depending([*before, *rows], mark)
    within = inside | _numbers(inside)
    order = [node for node in graph.graph.nodes if node in within]
    body, held = _body(graph, before, rows, order, [*after, *each])
    graph.add_submodule(name, body)
    with graph.graph.inserting_before(mark):
        held = [_apart(graph, node) for node in held]
        given = [[x.args[0] for x in before], [x.args[0] for x in rows], held]
        step = graph.graph.get_attr(name)
        scan = graph.graph.call_function(scan_op, (step, *given))
    mark.replace_all_uses_with(scan)
    graph.graph.erase_node(mark)
    for node in [*reversed([n for n in order if n in inside]), *before, *rows]:
        graph.graph.erase_node(node)


def _numbers(inside: set[torch.fx.Node]) -> set[torch.fx.Node]:
    """What these take, and a scan does not: numbers that are not whole, as the logarithm of a size.
    The body makes them anew.
    """
    found, left = set(), list(inside)
    while left:
        for given in left.pop().all_input_nodes:
            if given not in found and isinstance(given.meta.get("val"), (float, torch.SymFloat)):
                found.add(given)
                left.append(given)
    return found - inside


def _depending(starts: Sequence[torch.fx.Node], mark: torch.fx.Node) -> set[torch.fx.Node]:
    """What depends on these, and is not one of them."""
    found, left = set(), list(starts)
    while left:
        for user in left.pop().users:
            if user is mark or user in found:
                continue
            if user.op == "output" or user.target in (looped, entered, scan_op):
                raise errors.kept_from_a_step(user.meta.get("where"))
            found.add(user)
            left.append(user)
            # What it writes into, though it is the same for all steps, is each step's own.
            into = user.args[0] if _writes(user) else None
            if isinstance(into, torch.fx.Node) and into not in (*found, *starts):
                found.add(into)
                left.append(into)
    return found


def _apart(graph: torch.fx.GraphModule, node: torch.fx.Node) -> torch.fx.Node:
    """A tensor of its own for a view: a scan takes no two inputs that share their memory."""
    if isinstance(node.target, torch._ops.OpOverload):
        if any(given.alias_info is not None for given in node.target._schema.returns):
            return graph.graph.call_function(aten.clone.default, (node,))
    return node


def _writes(node: torch.fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _body(graph, before, rows, order, results) -> tuple[torch.fx.GraphModule, list[torch.fx.Node]]:
    """The body of a scan, and what it takes from outside."""
    made, copied, held = torch.fx.Graph(), {}, []
    for node in [*before, *rows]:
        copied[node] = made.placeholder(node.name)
    inside = {*before, *rows, *order}
    for node in [*order, *results]:
        for given in node.all_input_nodes if node in inside else [node]:
            if given not in inside and given not in copied:
                copied[given] = made.placeholder(given.name)
                held.append(given)
    for node in order:
        copied[node] = made.node_copy(node, lambda n: copied[n])
        copied[node].meta = dict(node.meta)
    clone = aten.clone.default
    made.output(tuple(made.call_function(clone, (copied[node],)) for node in results))
    if not any(map(_writes, order)):
        made = fx_graph_cse(made)
    return torch.fx.GraphModule(graph, made), held
