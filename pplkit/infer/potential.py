"""A model as something to move in: its negative log-joint and gradient on unconstrained space.

Each continuous latent variable is the image of real numbers under the bijection that its support
asks for; the joint density gets the bijection's volume. Discrete variables that are marked for
enumeration are summed out. What is left is a smooth function of one row of real numbers, the
potential, in which Hamiltonian dynamics run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from weakref import ref

import torch
from torch import Tensor
from torch.distributions import Transform

from .. import checks, errors
from ..distributions import ImproperUniform, biject_to
from ..effects import Handler, Message, active_handlers
from ..enumeration import Dims, Enumerating, strategy
from ..handlers import block, seed, trace
from ..trace import Trace
from .autoguide.initialization import InitHandler, Strategy, init_to_uniform
from .elbo import called
from .enum_factors import Joint, enumerated

_TRIES = 100  # starts for a chain, before it is told that there is none


class Variable(NamedTuple):
    """A latent variable: its value's shape, and where its real numbers stand in a row."""

    name: str
    shape: torch.Size
    free_shape: torch.Size
    dtype: torch.dtype
    first: int

    @property
    def slice(self) -> slice:
        return slice(self.first, self.first + self.free_shape.numel())


class AtFree(Handler):
    """Gives latent variables the images of real numbers; sums the logarithm of the volumes.

    The support may depend on other variables: it is read at the statement.
    """

    def __init__(self, free: Mapping[str, Tensor], transforms: Mapping[str, Transform]):
        super().__init__()
        self.free, self.transforms = free, transforms
        self.values: dict[str, Tensor] = {}
        self.volume: Any = 0.0
        self.moving: set[str] = set()  # variables whose support depends on others

    def process_message(self, msg: Message) -> None:
        if msg.type != "sample" or msg.value is not None or msg.name not in self.free:
            return
        free, to_support = self.free[msg.name], to_support_of(msg, self.transforms)
        value = to_support(free)
        if value is not free:
            self.volume = self.volume + to_support.log_abs_det_jacobian(free, value).sum()
            if any(_depends(x) for x in vars(msg.fn.support).values()):
                self.moving.add(msg.name)
        msg.value = self.values[msg.name] = value
        msg.fn._seen = ref(value)  # it is in the support: it comes from there


def _depends(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def to_support_of(msg: Message, transforms: Mapping[str, Transform]) -> Transform:
    """The bijection from real numbers to a site's support."""
    if msg.name in transforms:
        return transforms[msg.name].inv
    try:
        return biject_to(msg.fn.support)
    except NotImplementedError as fault:
        raise errors.no_bijection("MCMC", msg) from fault


class Density:
    """A model's joint density as a function of real numbers.

    Args:
        model: a function; or None, with `potential_fn`: its negative logarithm, as a function of a
            dictionary of real-valued tensors.
        args, kwargs: of the model, for the run that tells which variables there are.
        transforms: by variable, from the support to real numbers, in place of the support's own.
        max_plate_nesting: how many dimensions plates take; found by a run unless told.

    Attributes:
        variables: the continuous latent variables, in the order of the model's statements.
        size: how many real numbers they are.
        device: where they are.
        partly_improper: whether there are variables without a density of their own.
    """

    def __init__(
        self,
        model: Callable | None,
        args: tuple,
        kwargs: dict,
        *,
        potential_fn: Callable | None = None,
        example: Mapping[str, Tensor] | None = None,
        transforms: Mapping[str, Transform] | None = None,
        max_plate_nesting: int | None = None,
    ):
        self.model, self.potential_fn = model, potential_fn
        self.transforms = dict(transforms or {})
        self.first: int | None = None  # the rightmost dimension of enumeration, if there is one
        self.partly_improper = False
        self.variables: list[Variable] = []
        self.device = torch.device("cpu")
        if potential_fn is not None:
            for name, value in (example or {}).items():
                self._add(name, value.shape, value.shape, value.dtype)
                self.device = value.device
            return
        run = self._prototype(args, kwargs)
        sites = [site for site in run.sites("sample") if not site.is_observed]
        if any(site.fn.support.is_discrete for site in sites):
            frames = [f for s in run.sites("sample") for f in s.plates if f.vectorized]
            nesting = -min((f.dim for f in frames), default=0)
            self.first = -1 - (nesting if max_plate_nesting is None else max_plate_nesting)
        for site in sites:
            if not site.fn.support.is_discrete:
                self.partly_improper |= _is_improper(site) or _is_masked(site)
                to_support = to_support_of(site, self.transforms)
                free_shape = torch.Size(to_support.inverse_shape(site.value.shape))
                self._add(site.name, site.value.shape, free_shape, site.value.dtype)
                self.device = site.value.device
        if not self.variables:
            raise errors.nothing_to_sample([site.name for site in sites], run)
        names = [variable.name for variable in self.variables]
        for name in self.transforms:
            if name not in names:
                raise errors.not_a_variable("MCMC", "transforms=", name, names)

    def _add(self, name: str, shape, free_shape, dtype) -> None:
        self.variables.append(Variable(name, shape, free_shape, dtype, self.size))

    @property
    def size(self) -> int:
        last = self.variables[-1] if self.variables else None
        return 0 if last is None else last.slice.stop

    # -- the model's structure ---------------------------------------------------------------
    def _started(self, strategy: Strategy) -> Callable:
        def choose(site: Message) -> Tensor:
            if _is_improper(site):  # it has no draws, by which strategies know a shape
                values = getattr(strategy, "keywords", {}).get("values") or {}
                return values[site.name] if site.name in values else self._anywhere(site)
            return strategy(site)

        choose.keywords = getattr(strategy, "keywords", {})
        return InitHandler(self.model, choose)

    def _anywhere(self, site: Message) -> Tensor:
        to_support = to_support_of(site, self.transforms)
        shape = to_support.inverse_shape(site.fn.shape())
        return to_support(torch.rand(shape) * 4 - 2)

    def _started_run(self, strategy: Strategy, args, kwargs, rng_seed: int) -> Trace:
        # Numbers may be wrong where a chain happens to start: it starts elsewhere then.
        quietly = checks.asked_together()
        with block(), torch.no_grad(), quietly, seed(rng_seed=rng_seed), trace() as recorder:
            called("model", self._started(strategy), args, kwargs)
        return recorder.trace

    def _prototype(self, args, kwargs) -> Trace:
        run = self._started_run(init_to_uniform, args, kwargs, 0)
        for site in run.sites("sample"):
            for frame in site.plates:
                if frame.size != frame.full_size:
                    raise errors.subsampled_for_mcmc(site, frame)
            if not site.is_observed and site.fn.support.is_discrete:
                self._check_discrete(site)
        run.check_plates()
        return run

    def _check_discrete(self, site: Message) -> None:
        how = strategy(site)
        if how is None:
            raise errors.discrete_for_mcmc(site)
        if how == "sequential":
            raise errors.sequential_in_model(site)
        if site.infer.get("num_samples") is not None:
            raise errors.draws_in_model(site)

    # -- the density -------------------------------------------------------------------------
    def run(self, free: Mapping[str, Tensor], args: tuple, kwargs: dict) -> tuple[Trace, AtFree]:
        """A run of the model at these real numbers."""
        placed = AtFree(free, self.transforms)
        with trace() as recorder:
            if self.first is None:
                with placed:
                    called("model", self.model, args, kwargs)
            else:
                with Enumerating(Dims(self.first)), placed:
                    called("model", self.model, args, kwargs)
        return recorder.trace, placed

    def potential(self, free: Mapping[str, Tensor], args: tuple, kwargs: dict) -> Tensor:
        """The negative logarithm of the joint density; infinite outside of where it is defined."""
        with checks.asked_together() as questions:
            if self.potential_fn is not None:
                found = self.potential_fn(dict(free))
                if not isinstance(found, Tensor) or found.numel() != 1:
                    raise errors.loss_not_scalar(found)
                return found.reshape(())
            run, placed = self.run(free, args, kwargs)
            self._check_structure(run, free)
            if self.first is None or not any(map(enumerated, run.sites("sample"))):
                terms = [site.log_prob_sum for site in run.sites("sample")]
            else:
                joint = Joint(run, list(free), self.first)
                terms = [cost.factor.tensor.sum() for cost in joint.summed()]
            total = -sum(terms, placed.volume)
            # What does not move with the chain is asked once, where it starts.
            all_of_them = not any(x.requires_grad for x in free.values())
            for question in questions:
                if not question.told_by_loss and (question.moves or all_of_them):
                    total = torch.where(question.holds, total, math.inf)
        return total

    def _check_structure(self, run: Trace, free: Mapping[str, Tensor]) -> None:
        """Raise unless a run has the variables that the chains have."""
        for site in run.sites("sample"):
            if not (site.is_observed or site.name in free or enumerated(site)):
                raise errors.variables_come_and_go(site.name, site)
        for name in free:
            if name not in run:
                raise errors.variables_come_and_go(name, None)

    def with_gradient(
        self, free: Mapping[str, Tensor], args: tuple, kwargs: dict
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The potential, and its gradient by variable."""
        leaves = {name: value.detach().requires_grad_() for name, value in free.items()}
        with torch.enable_grad():
            potential = self.potential(leaves, args, kwargs)
            grads = [None] * len(leaves)
            if potential.requires_grad:
                grads = torch.autograd.grad(potential, list(leaves.values()), allow_unused=True)
        known = {
            name: torch.zeros_like(leaf) if grad is None else grad
            for (name, leaf), grad in zip(leaves.items(), grads, strict=True)
        }
        return potential.detach(), known

    # -- rows of real numbers ----------------------------------------------------------------
    def split(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows of real numbers, `(..., size)`, by variable, each in its dtype."""
        lead = rows.shape[:-1]
        return {
            v.name: rows[..., v.slice].reshape(lead + v.free_shape).to(v.dtype)
            for v in self.variables
        }

    def joined(self, free: Mapping[str, Tensor], lead: int = 0) -> Tensor:
        """Real numbers by variable as rows; the first `lead` dimensions are the rows'."""
        return _rows([free[v.name] for v in self.variables], lead)

    def start(self, strategy: Strategy, args: tuple, kwargs: dict, rng_seed: int) -> Tensor:
        """A row that a strategy chooses."""
        run, free = self._started_run(strategy, args, kwargs, rng_seed), {}
        for v in self.variables:
            site = run.nodes[v.name]
            free[v.name] = to_support_of(site, self.transforms).inv(site.value)
        return self.joined(free)

    def values(self, free: Mapping[str, Tensor], args: tuple, kwargs: dict) -> dict[str, Tensor]:
        """The variables' values at these real numbers."""
        if self.potential_fn is not None:
            return {
                name: self.transforms[name].inv(x) if name in self.transforms else x
                for name, x in free.items()
            }
        with checks.asked_together():
            return self.run(free, args, kwargs)[1].values

    def constrained(self, rows: Tensor, args: tuple, kwargs: dict) -> dict[str, Tensor]:
        """The variables' values at rows of real numbers, `(..., size)`; shapes `(..., value's)`."""
        free = self.split(rows)
        if self.potential_fn is not None:
            return self.values(free, args, kwargs)
        example = {name: x[(0,) * (rows.dim() - 1)] for name, x in free.items()}
        leaves = {name: x.clone().requires_grad_() for name, x in example.items()}
        with block(), torch.enable_grad(), checks.asked_together():
            run, placed = self.run(leaves, args, kwargs)
        found = {}
        with torch.no_grad():
            if placed.moving:
                flat = {name: x.flatten(0, rows.dim() - 2) for name, x in free.items()}
                each = [
                    self.values({name: x[i] for name, x in flat.items()}, args, kwargs)
                    for i in range(rows.shape[:-1].numel())
                ]
                for name in each[0]:
                    values = torch.stack([one[name] for one in each])
                    found[name] = values.reshape(rows.shape[:-1] + values.shape[1:])
            else:
                for v in self.variables:
                    to_support = to_support_of(run.nodes[v.name], self.transforms)
                    found[v.name] = to_support(free[v.name]).detach()
        return found


def _is_improper(site: Message) -> bool:
    fn = site.fn
    while isinstance(getattr(fn, "base_dist", None), torch.distributions.Distribution):
        fn = fn.base_dist
    return isinstance(fn, ImproperUniform)


def _is_masked(site: Message) -> bool:
    return site.mask is not None or site.fn._unmasked() is not site.fn


# -- for many chains -------------------------------------------------------------------------------


class Potential:
    """The potential and its gradient for many chains at once: a function of rows `(chains, size)`
    in float64.

    The density is captured once as a graph, its gradient included, and evaluated for all chains
    together; where it cannot be, it runs in Python, chain by chain.

    Args:
        per_chain: the arguments' tensors have a first dimension of chains, each with its own data.

    Attributes:
        captured: the program, or None.
        why: why there is none.
    """

    def __init__(self, density: Density, args: tuple, kwargs: dict, per_chain: bool = False):
        self.density, self.args, self.kwargs, self.per_chain = density, args, kwargs, per_chain
        self.captured = self.why = None
        self.device = density.device
        self._batched: dict[int, Callable] = {}
        self._graph: Callable | None = None
        try:
            self._capture()
        except _NotCaptured as fault:
            self.why = str(fault)

    @property
    def size(self) -> int:
        return self.density.size

    def of_chain(self, chain: int) -> tuple[tuple, dict]:
        """The model's arguments for one chain."""
        given = self.args, self.kwargs
        return of_chain(given, chain) if self.per_chain else given

    def values(self, rows: Tensor) -> dict[str, Tensor]:
        """The variables' values at rows `(chains, ..., size)`."""
        if not self.per_chain:
            return self.density.constrained(rows, self.args, self.kwargs)
        each = [self.density.constrained(x, *self.of_chain(i)) for i, x in enumerate(rows)]
        return {name: torch.stack([one[name] for one in each]) for name in each[0]}

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The potential of each row, `(chains,)`, and its gradient, `(chains, size)`."""
        free = self.density.split(rows)
        if self.captured is not None:
            with torch.no_grad():
                potential, *grads = self._for(len(rows))(*free.values())
        else:
            each = []
            for chain in range(len(rows)):
                args, kwargs = self.of_chain(chain)
                one = {name: x[chain] for name, x in free.items()}
                try:
                    potential, grads = self.density.with_gradient(one, args, kwargs)
                except torch.linalg.LinAlgError:  # no such matrix: a chain has gone too far
                    potential, grads = torch.tensor(math.nan), one
                each.append([potential.to(self.device), *grads.values()])
            potential, *grads = (torch.stack(x) for x in zip(*each, strict=True))
        return potential.double(), _rows(grads)

    # -- captured ----------------------------------------------------------------------------
    def _capture(self) -> None:
        if any(handler.generators is None for handler in active_handlers()):
            raise _NotCaptured("handlers are in force around it; put them around the model")
        from ..capture.program import capture  # takes a second to import
        from ..capture.tracing import FAULTS

        args, kwargs = self.of_chain(0)
        try:
            example = self._zeros()
            self.captured = capture(self.density.with_gradient, example, args, kwargs, check=False)
            if self.inputs()[0].traced.noise:
                raise _NotCaptured("the model draws what no latent variable's statement draws")
            self._check_graph(args, kwargs)
            self.once(torch.zeros(2 if not self.per_chain else 1, self.size, device=self.device))
        except errors.CaptureError as fault:
            self.captured = None
            raise _NotCaptured(f"{fault.headline} ({fault.where})") from fault
        except FAULTS as fault:
            self.captured = None
            raise _NotCaptured(f"{type(fault).__name__}: {_headline(fault)}") from fault
        except _NotCaptured:
            self.captured = None
            raise

    def _check_graph(self, args: tuple, kwargs: dict) -> None:
        """Raise if the graph is not the function: at one point, for these data."""
        row = torch.linspace(-0.7, 0.9, self.size, dtype=torch.float64, device=self.device)
        free = self.density.split(row)
        try:
            expected = self.density.with_gradient(free, args, kwargs)
        except torch.linalg.LinAlgError:
            return
        found = self.captured(free, args, kwargs)
        for ours, theirs in zip(*map(torch.utils._pytree.tree_leaves, (found, expected))):
            scale = 1 + theirs.abs().nan_to_num().max()
            if not torch.allclose(ours / scale, theirs / scale, 1e-3, 1e-3, equal_nan=True):
                raise _NotCaptured("its graph gives other numbers than the model itself")

    def _for(self, chains: int) -> Callable:
        """The graph for this number of chains, without vmap's own cost."""
        if chains not in self._batched:
            from torch.fx.experimental.proxy_tensor import make_fx

            one, rest = self._vectorized(chains)
            example = [
                torch.zeros((chains, *v.free_shape), dtype=v.dtype, device=self.device)
                for v in self.density.variables
            ]
            with torch.no_grad(), _quietly_batched():
                graph = make_fx(lambda *free: one(*free, *rest))(*example)
                self._batched[chains] = _folded(_unstopped(graph))
        return self._batched[chains]

    def once(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """As a call; for a number of rows that is not asked for again."""
        if self.captured is None or len(rows) in self._batched:
            return self(rows)
        one, rest = self._vectorized(len(rows))
        try:
            with torch.no_grad(), _quietly_batched():
                potential, *grads = one(*self.density.split(rows).values(), *rest)
        except torch.linalg.LinAlgError:  # in some row a matrix has no factors
            if len(rows) == 1:
                return torch.full((1,), math.nan).double(), torch.full_like(rows, math.nan)
            found, slopes = zip(*(self.once(row[None]) for row in rows), strict=True)
            return torch.cat(found), torch.cat(slopes)
        return potential.double(), _rows(grads)

    def inputs(self, chain: int = 0) -> tuple[Any, list[Tensor], dict]:
        """The program, what it takes beside the variables (for one chain), and its sizes."""
        from ..capture.program import _inputs

        args, kwargs = self.of_chain(chain)
        program, leaves, sizes = self.captured._program_for((self._zeros(), args, kwargs))
        given = [torch.as_tensor(x) for x in _inputs(program, leaves)]
        return program, given[len(self.density.variables) :], sizes

    def _zeros(self) -> dict[str, Tensor]:
        return {
            v.name: torch.zeros(v.free_shape, dtype=v.dtype, device=self.device)
            for v in self.density.variables
        }

    def _at_these_sizes(self, program, shared: list[Tensor]) -> Callable:
        """The graph for the data's own sizes: vmap knows no others."""
        if self._graph is None:
            from torch.fx.experimental.proxy_tensor import make_fx

            given = [*self._zeros().values(), *shared, *self.captured._closed(program)]
            # Sizes are read off Python's numbers: these are not traced.
            numbers = {i: int(given[i]) for i in self._numbers(program)}

            def at_numbers(*x):
                return program.traced.graph(*(numbers.get(i, y) for i, y in enumerate(x)))

            with torch.no_grad():
                self._graph = make_fx(at_numbers)(*given)
        return self._graph

    def _numbers(self, program) -> list[int]:
        """Where the program takes whole numbers of Python's, the same for all chains."""
        from ..capture.program import _inputs

        leaves = self.captured._program_for((self._zeros(), *self.of_chain(0)))[1]
        return [i for i, x in enumerate(_inputs(program, leaves)) if type(x) is int]

    def _vectorized(self, chains: int) -> tuple[Callable, list[Tensor]]:
        """The graph of many chains by vmap, and what it takes beside the variables."""
        program, shared, _ = self.inputs()
        n = len(self.density.variables)
        graph = self._at_these_sizes(program, shared)
        if self.per_chain:
            each = [self.inputs(chain)[1] for chain in range(chains)]
            shared = [torch.stack(x) for x in zip(*each, strict=True)]
        closed = self.captured._closed(program)
        dims = (0,) * n + (0 if self.per_chain else None,) * len(shared) + (None,) * len(closed)
        if chains == 1 and not self.per_chain:  # vmap over one is dearer than none

            def alone(*given):
                found = graph(*(x[0] for x in given[:n]), *given[n:])
                return [x[None] for x in found]

            return alone, [*shared, *closed]
        return torch.func.vmap(graph, dims), [*shared, *closed]


def _rows(parts: list[Tensor], lead: int = 1) -> Tensor:
    """Tensors side by side, as rows; the first `lead` dimensions are the rows'."""
    return torch.cat([x.reshape(*x.shape[:lead], -1).double() for x in parts], -1)


@contextmanager
def _quietly_batched():
    """Without a warning of each operation that vmap does row by row: it does so once."""
    functorch = torch._C._functorch
    functorch._set_vmap_fallback_warning_enabled(False)
    try:
        yield
    finally:
        functorch._set_vmap_fallback_warning_enabled(True)


def of_chain(given: Any, chain: int) -> Any:
    """Of arguments with a dimension of chains, one chain's."""
    return torch.utils._pytree.tree_map_only(Tensor, lambda x: x[chain], given)


def _unstopped(graph: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """The graph, with a potential that is not a number where a matrix has no factors: a chain has
    gone too far there, while others go on.
    """
    nodes, aten = graph.graph, torch.ops.aten
    checks_ = [n for n in nodes.nodes if n.target is aten._linalg_check_errors.default]
    output = next(n for n in nodes.nodes if n.op == "output")
    for check in checks_:
        potential, *rest = output.args[0]
        info = check.args[0]
        with nodes.inserting_before(output):
            wrong = nodes.call_function(aten.ne.Scalar, (info, 0))
            if info.meta["val"].dim():
                chains = potential.meta["val"].shape[0]
                rows = nodes.call_function(aten.reshape.default, (wrong, [chains, -1]))
                wrong = nodes.call_function(aten.any.dim, (rows, 1))
            nan = nodes.call_function(aten.full_like.default, (potential, math.nan))
            told = nodes.call_function(aten.where.self, (wrong, nan, potential))
        output.args = ([told, *rest],)
        nodes.erase_node(check)
    graph.recompile()
    return graph


def _folded(graph: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """The graph, with what does not depend on its inputs computed now, and nothing twice."""
    nodes = [node for node in graph.graph.nodes if node.op == "call_function"]
    schemas = [getattr(node.target, "_schema", None) for node in nodes]
    if any(schema is not None and schema.is_mutable for schema in schemas):
        return graph
    known: dict[torch.fx.Node, Any] = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            known[node] = getattr(graph, node.target)
        elif node.op == "call_function" and all(x in known for x in node.all_input_nodes):
            args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
            known[node] = node.target(*args, **kwargs)
    for i, (node, value) in enumerate(known.items()):
        if node.op == "call_function" and isinstance(value, Tensor):
            graph.register_buffer(f"_known_{i}", value)
            with graph.graph.inserting_before(node):
                node.replace_all_uses_with(graph.graph.get_attr(f"_known_{i}"))
    seen: dict[tuple, torch.fx.Node] = {}  # gradients repeat much
    for node in nodes:
        if node.target is torch.ops.aten.detach.default:
            node.replace_all_uses_with(node.args[0])
        first = seen.setdefault((node.target, repr((node.args, node.kwargs))), node)
        if first is not node:
            node.replace_all_uses_with(first)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


class _NotCaptured(Exception):
    """Why there is no graph, in a few words."""


def _headline(fault: Exception) -> str:
    return str(fault).partition("\n")[0]


# -- where chains start ----------------------------------------------------------------------------


def starts(
    potential: Potential, strategy: Strategy, chains: int, seeds: Callable[[int, int], int]
) -> tuple[Tensor, Tensor, Tensor]:
    """A row for each chain, where the density is positive and smooth; with potential and gradient.

    Args:
        seeds: for each chain and attempt.

    Raises:
        InferenceError: none was found in a hundred attempts.
    """
    density, rows = potential.density, [None] * chains
    missing = list(range(chains))
    for attempt in range(_TRIES):
        for chain in missing:
            args, kwargs = potential.of_chain(chain)
            rows[chain] = density.start(strategy, args, kwargs, seeds(chain, attempt))
        at = torch.stack(rows)
        value, grad = potential(at)
        well = value.isfinite() & grad.isfinite().all(-1) & at.isfinite().all(-1)
        missing = [chain for chain in missing if not bool(well[chain])]
        if not missing:
            _check_what_stands_still(potential, at)
            return at, value, grad
    raise no_start(potential, at[missing[0]], missing[0], f"in {_TRIES} attempts")


def _check_what_stands_still(potential: Potential, at: Tensor) -> None:
    """Raise if data or parameters are wrong wherever the chains are."""
    density = potential.density
    if density.potential_fn is not None:
        return
    for chain in range(len(at) if potential.per_chain else 1):
        args, kwargs = potential.of_chain(chain)
        free = {name: x.detach() for name, x in density.split(at[chain]).items()}
        if not bool(torch.isfinite(density.potential(free, args, kwargs))):  # all is asked
            raise no_start(potential, at[chain], chain, "anywhere")


def no_start(potential: Potential, row: Tensor, chain: int, how: str) -> Exception:
    """Why a chain cannot start here."""
    density, culprit = potential.density, None
    args, kwargs = potential.of_chain(chain)
    if density.potential_fn is None:
        free = {name: x.detach() for name, x in density.split(row).items()}
        with block(), torch.no_grad(), checks.asked_together() as questions:
            run, _ = density.run(free, args, kwargs)
            for question in questions:
                if not bool(question.holds):
                    return errors.no_start(None, how, question.error())
        for site in run.sites("sample"):
            if not bool(site.log_prob.isfinite().all()):
                culprit = site
                break
    return errors.no_start(culprit, how)


# -- improper posteriors ---------------------------------------------------------------------------

_FAR = [float(4**k) for k in range(1, 16)]
_NEAR = _FAR[:8]  # beyond, the rounding of a direction tells more than the density
_MOST_LINES = 32
_FLAT = 1e-3  # of the largest curvature


def check_proper(potential: Potential, row: Tensor) -> None:
    """Raise if the density does not fall off along an axis through a point, or along a direction in
    which it is flat there.

    A density that can be normalised falls along almost every line. Looked at are its derivatives
    at growing distances, as far as they are finite and the variable's value still moves. A
    posterior may be improper in other ways, which show when chains run away: see `check_ways`.
    """
    density, size = potential.density, potential.size
    if density.potential_fn is not None or potential.per_chain:
        return
    most = _MOST_LINES if potential.captured is not None else 4  # Python takes a while for a point
    axes = torch.linspace(0, size - 1, min(size, most)).long().unique()
    lines = torch.eye(size, dtype=row.dtype, device=row.device)[axes]
    lines = torch.cat([lines, -lines])
    # Ten, for a density on a circle rises and falls without end.
    _raise_if_flat(potential, row.expand_as(lines), lines, _lines_without_end(
        potential, row.expand_as(lines), lines, _FAR, 0.0, 10
    ))  # fmt: skip
    if density.partly_improper and size <= most:
        lines = _flat_directions(potential, row)
        _check_lines(potential, row.expand_as(lines), lines)


def check_ways(potential: Potential, start: Tensor, end: Tensor) -> None:
    """Raise if the density does not fall off along the way that a chain has gone.

    Only where a prior is improper; else there is an integral, of all but odd models.
    """
    density = potential.density
    if density.potential_fn is not None or potential.per_chain or not density.partly_improper:
        return
    ways = (end - start)[:_MOST_LINES]
    lengths = ways.norm(dim=-1, keepdim=True)
    ways = torch.where(lengths > 0, ways / lengths, 0.0)
    _check_lines(potential, end[:_MOST_LINES], ways)


def _check_lines(potential: Potential, at: Tensor, lines: Tensor) -> None:
    # To have an integral, a potential grows by the logarithm of the distance at least.
    least, most = 0.5, len(_NEAR)
    if len(lines):
        endless = _lines_without_end(potential, at, lines, _NEAR, least, most)
        _raise_if_flat(potential, at, lines, endless)


def _raise_if_flat(potential: Potential, at: Tensor, lines: Tensor, endless: Tensor) -> None:
    if bool(endless.any()):
        line = lines[endless][0]
        line = torch.where(line.abs() > 1e-3 * line.abs().max(), line, 0.0)
        names = [v.name for v in potential.density.variables if bool(line[v.slice].any())]
        upwards = bool((line >= 0).all()) if int((line != 0).sum()) == 1 else None
        raise errors.improper_posterior(names, upwards)


def _lines_without_end(
    potential: Potential, at: Tensor, lines: Tensor, far: list[float], least: float, most: int
) -> Tensor:
    """Along which lines `(lines, size)` from points the density does not fall off.

    Args:
        far: distances.
        least: the derivative times the distance of a potential that rises.
        most: at how many distances, the last ones, it has not risen: that is enough.
    """
    still, told = torch.zeros(2, len(lines), dtype=torch.int64)
    alive, seen = torch.ones(len(lines), dtype=torch.bool), None
    for distance in far:
        rows = at + lines * distance
        value, grad = potential.once(rows)
        along = (lines * grad).sum(-1) * distance
        values = potential.density.constrained(rows, potential.args, potential.kwargs)
        where = _moved(potential.density, values, seen, lines)
        seen = values
        alive &= value.isfinite() & along.isfinite() & where
        still = torch.where(alive, torch.where(along > least, 0, still + 1), still)
        told = told + alive
        if not bool(alive.any()):
            break
    return (told > 1) & (still >= (told - 1).clamp(max=most))


def _moved(density: Density, values: dict, before: dict | None, lines: Tensor) -> Tensor:
    """On which lines the variables that change along them have other values than before."""
    moved = torch.zeros(len(lines), dtype=torch.bool)
    finite = ~moved
    for v in density.variables:
        mine = (lines[:, v.slice] != 0).any(-1)
        now = _rows([values[v.name]])
        other = now.isfinite() if before is None else now != _rows([before[v.name]])
        moved |= mine & other.any(-1)
        finite &= ~mine | now.isfinite().all(-1)
    return moved & finite


def _flat_directions(potential: Potential, row: Tensor) -> Tensor:
    """Directions `(lines, size)` in which the potential is not curved at a point: both ways."""
    step = 1e-2
    steps = step * torch.eye(potential.size, dtype=row.dtype, device=row.device)
    _, grad = potential.once(torch.cat([row + steps, row - steps]))
    ahead, behind = grad.chunk(2)
    curvature = (ahead - behind) / (2 * step)
    if not bool(curvature.isfinite().all()):
        return row.new_zeros(0, potential.size)
    values, vectors = torch.linalg.eigh(curvature + curvature.T)
    flat = vectors.T[values.abs() <= _FLAT * values.abs().max()]
    return torch.cat([flat, -flat])
