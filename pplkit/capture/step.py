"""A step of SVI as a captured program: from parameters and what the optimiser remembers, through
loss and gradients, to the next.

Nothing is written twice: the step runs the inference's own loss, checks and optimiser, on tensors
that stand for the parameters.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map_only, tree_unflatten

from .. import errors
from ..effects import Handler, Message
from ..infer.feed import Feed, Kind
from ..infer.svi import SVI, _Watcher
from ..optim import Optimizer, clipped
from ..params import Entry, ParamStore, StandIn
from .export import _unasked
from .native import rows_of
from .noise import GivenNoise
from .program import _PRIMES, Captured, _inputs, _numbered, _Streams, resized
from .replay import Gated, Replay, cuda_recording
from .tracing import FAULTS, NoiseSpec

_TRIALS = 12  # sizes that are tried apart from others
_RUNNING_MEANS = "__baseline_avg_"  # of parameters that a step changes itself


def capture_step(svi: SVI, *args, **kwargs) -> CapturedStep:
    """One step of an inference as a graph, for data and plates of any size.

    Args:
        svi: its parameters are taken as they are; those that the program makes at first use are
            made here, in a store of the step's own.
        args, kwargs: of model and guide.

    Raises:
        CaptureError: a model that cannot be captured, or an optimiser that is not a function of
            its inputs.

    >>> import pplkit, pplkit.distributions as dist
    >>> from pplkit.infer import Trace_ELBO
    >>> def model(x):
    ...     z = pplkit.sample("z", dist.Normal(0.0, 1.0))
    ...     pplkit.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> def guide(x):
    ...     pplkit.sample("z", dist.Normal(pplkit.param("loc", torch.tensor(0.0)), 0.7071))
    >>> svi = SVI(model, guide, pplkit.optim.Adam({"lr": 0.05}), Trace_ELBO())
    >>> step = capture_step(svi, torch.tensor(2.0))
    >>> carried, losses = step.run(step.carried(), 200, torch.tensor(2.0))
    >>> bool((carried["free"]["loc"] - 1.0).abs() < 0.2)
    True
    """
    return CapturedStep(svi, args, kwargs)


class CapturedStep:
    """A step of SVI as a program. Made by `capture_step`.

    Attributes:
        captured: the program, a function of what is carried from step to step, the learning rates,
            and the arguments of model and guide; it returns what is carried on, the loss, and
            whether all was well. When it was not, what is carried is as it was.
    """

    def __init__(self, svi: SVI, args: tuple, kwargs: dict):
        self.svi = svi
        if type(svi.optim).update is Optimizer.update or not svi.optim.guarded:
            raise errors.optimiser_not_captured(svi.optim)
        self._store = StandIn()
        with svi._stored() as current:
            self._store._entries.update(current._entries)
        self._names = self._first_run(args, kwargs)
        carried, rates = self.carried(), self.rates()
        example = (carried, rates, *self._spread(args, kwargs))
        self.captured = Captured(self._step, example, beside=(args, kwargs))
        self.captured._program_for((carried, rates, args, kwargs))  # one for these very sizes, too

    # -- what is carried -----------------------------------------------------------------------
    def carried(self) -> dict:
        """Parameters (`free`, unconstrained) and what the optimiser remembers (`past`), by name, as
        they are now: what the first step takes.
        """
        free, past = {}, {}
        with self.svi._stored() as current:
            for name in self._names:
                leaf = self._leaf_of(name)
                free[name] = leaf.detach().clone().contiguous()
                optim = _moving(self.svi.optim)
                kept = optim._leaves.get(name, leaf)
                known = optim.state.get(name) if kept is leaf or kept is None else None
                remembered = optim.init(free[name]) if known is None else known
                past[name] = {key: value.detach().clone() for key, value in remembered.items()}
        return {"free": free, "past": past}

    def rates(self) -> dict[str, Tensor]:
        """The learning rate of each parameter, as it is now, and what else its schedule changes."""
        return rates(self.svi.optim, {name: self._leaf_of(name) for name in self._names})

    def _leaf_of(self, name: str) -> Tensor:
        with self.svi._stored() as current:
            return (current if name in current else self._store).unconstrained(name)

    # -- running -------------------------------------------------------------------------------
    def __call__(self, carried: dict, *args, noise=None, **kwargs) -> tuple[dict, Tensor, Tensor]:
        """Take one step: what is carried on, the loss, and whether all was well."""
        return self.captured(carried, self.rates(), args, kwargs, noise=noise)

    def draw_noise(self, carried: dict, *args, seed: int | None = None, **kwargs) -> list[Tensor]:
        """Base noise for one step; see `Captured.draw_noise`."""
        return self.captured.draw_noise(carried, self.rates(), args, kwargs, seed=seed)

    def run(self, carried: dict, num_steps: int, *args, **kwargs) -> tuple[dict, Tensor]:
        """Take steps, one call of the graph after the other; what is carried on, and the losses.

        On a CUDA device stretches of steps are recorded and played, and nothing waits for the
        device in between; after a step that is not well none changes anything, and there are as
        many losses as steps before it.
        """
        if any(x.is_cuda for x in tree_leaves(carried)):
            return self._played(cuda_recording, carried, num_steps, args, kwargs)
        losses = []
        for _ in range(num_steps):
            carried, loss, _ = self(carried, *args, **kwargs)
            losses.append(loss)
        return carried, torch.stack(losses) if losses else torch.zeros(0)

    def _played(self, record: Callable, carried: dict, num_steps: int, args, kwargs):
        """As `run`, by recordings."""
        carried = tree_map_only(Tensor, torch.clone, carried)
        n, device = len(tree_leaves(carried)), tree_leaves(carried)[0].device
        given = carried, self.rates(), args, kwargs
        program, leaves, sizes = self.captured._program_for(given)
        replay = Replay(Gated(_unasked(program.traced.graph), n), program, n, record)
        before = [x for x in _inputs(program, leaves) if isinstance(x, Tensor)]
        after = self.captured._closed(program)
        kinds = [Kind(*row) for row in rows_of(program, sizes)]
        feed, losses, done = Feed(), torch.zeros(num_steps, device=device), 0
        while done < num_steps:
            feed.at(done)
            steps, rows = feed.window(kinds, num_steps - done)
            stretch = losses[done : done + steps]
            taken = replay.run(steps, sizes, [*before, *rows, *after], stretch)
            done += taken
            if taken < steps:
                break
        return carried, losses[:done]

    # -- the step itself -----------------------------------------------------------------------
    def _first_run(self, args, kwargs) -> list[str]:
        """Make the parameters that are not there yet; names of all that a step reads."""
        streams, watcher = _Streams(0), _Watcher()

        def take(kind, shape, dtype, device):
            return streams.draw(NoiseSpec(kind, tuple(shape), dtype, device), {})

        with self._store, GivenNoise(take):
            self.svi._evaluated(watcher, args, kwargs)
        return [name for name in self._store if name in watcher.params]

    def _spread(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """The arguments with sizes that differ wherever the program runs so: those that are the
        same by chance would be taken for one.
        """
        leaves, spec = tree_flatten((args, kwargs))
        places = [(i, d, n) for i, x in enumerate(leaves) for d, n in _numbered(x) if n > 1]
        known = [n for leaf in self.carried()["free"].values() for n in leaf.shape]
        known += [n for *_, n in places]
        twins = [place for place in places if known.count(place[2]) > 1]
        fresh = (prime for prime in _PRIMES[1:] if prime not in known)
        for (i, d, _), prime in zip(twins[:_TRIALS], fresh, strict=False):
            trial = resized(leaves, {(i, d): prime})
            if self._runs_on(*tree_unflatten(trial, spec)):
                leaves = trial
        return tree_unflatten(leaves, spec)

    def _runs_on(self, args: tuple, kwargs: dict) -> bool:
        """Whether the program runs on these arguments, with its parameters as they are."""
        streams, watcher, store = _Streams(0), _Watcher(), StandIn()
        store._entries.update(self._store._entries)

        def take(kind, shape, dtype, device):
            return streams.draw(NoiseSpec(kind, tuple(shape), dtype, device), {})

        try:
            with warnings.catch_warnings(), store, GivenNoise(take):
                warnings.simplefilter("ignore")
                self.svi._evaluated(watcher, args, kwargs)
        except FAULTS:
            return False
        return list(store) == list(self._store)

    def _step(self, carried: dict, rates: dict, args: tuple, kwargs: dict):
        leaves = {name: _leaf(name, value) for name, value in carried["free"].items()}
        store, stands_for = StandIn(), {}
        for name, leaf in leaves.items():
            then = self._store._entries[name]
            store._entries[name] = Entry(leaf, then.constraint, leaf.shape, then.event_dim)
            if isinstance(then.unconstrained, torch.nn.Parameter):
                stands_for[id(then.unconstrained)] = leaf
        with store, _Reading(store), _Standing(stands_for):
            outcome = self.svi._evaluated(_Watcher(), args, kwargs)
        with torch.no_grad():
            well = ~outcome.checked.isnan()
            after = self._moved(carried, rates, leaves, outcome.grads, well)
        return after, outcome.loss, well

    def _moved(
        self, carried: dict, rates: dict, leaves: dict, grads: Mapping, well: Tensor
    ) -> dict:
        optim, free, past = self.svi.optim, {}, {}
        for name, leaf in leaves.items():
            before, known = carried["free"][name], carried["past"][name]
            new, after = leaf.detach(), known
            if name in grads:
                grad = grads[name]
                if _moving(optim).clip_args:
                    grad = clipped(grad, **_moving(optim)._clip_options(name))
                options = _at_rates(optim.options(name), rates, name, new.dtype)
                new, after = optim.update(new, grad, known, **options)
            free[name] = torch.where(well, new, before)
            past[name] = {key: torch.where(well, after[key], known[key]) for key in known}
        return {"free": free, "past": past}


def rates(optim: Optimizer, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As `numbers`, each beside its parameter: what is recorded on a device reads it there."""
    return {
        key: torch.tensor(rate, dtype=torch.float64, device=leaf.device)
        for name, leaf in leaves.items()
        for key, rate in numbers(optim, [name]).items()
    }


def numbers(optim: Optimizer, names: Iterable[str]) -> dict[str, float]:
    """What may be another number in each step: learning rates by parameter; where a schedule goes
    up and down with momentum too, that as well.
    """
    found = {}
    for name in names:
        options = optim.options(name)
        if "lr" in options:
            found[name] = float(options["lr"])
        if _cycles_momentum(optim):
            if "momentum" in options:
                found[name + _MOMENTUM] = float(options["momentum"])
            elif "betas" in options:
                found[name + _MOMENTUM] = float(options["betas"][0])
    return found


_MOMENTUM = " momentum"  # behind a parameter's name


def _cycles_momentum(optim: Optimizer) -> bool:
    schedules = getattr(optim, "_schedules", {}).values()
    return any(getattr(schedule, "cycle_momentum", False) for schedule in schedules)


def _at_rates(options: Mapping, rates: dict, name: str, dtype: torch.dtype) -> dict[str, Any]:
    """An optimiser's settings at these rates."""
    options = dict(options)
    if name in rates:
        options["lr"] = rates[name].to(dtype)
    if name + _MOMENTUM in rates:
        momentum = rates[name + _MOMENTUM].to(dtype)
        if "momentum" in options:
            options["momentum"] = momentum
        else:
            options["betas"] = (momentum, options["betas"][1])
    return options


def _moving(optim: Optimizer) -> Optimizer:
    """What moves the parameters: behind a schedule, the optimiser that it is the schedule of."""
    return getattr(optim, "inner", optim)


def _leaf(name: str, value: Tensor) -> Tensor:
    """What stands for a parameter in a step."""
    if _RUNNING_MEANS in name:  # the step writes into it: not into what was carried
        value = value.clone()
    return value.detach().requires_grad_()


class _Reading(Handler):
    """Parameters are read from this store, a module's too, and none is made."""

    def __init__(self, store: ParamStore):
        super().__init__()
        self.store = store

    def process_message(self, msg: Message) -> None:
        if msg.type == "param" and msg.value is None and msg.name in self.store:
            msg.value = self.store[msg.name]


class _Standing(TorchFunctionMode):
    """A module's parameters give way to the tensors that stand for them."""

    def __init__(self, stands_for: dict[int, Tensor]):
        super().__init__()
        self.stands_for = stands_for

    def __torch_function__(self, func: Callable, types, args=(), kwargs=None) -> Any:
        kwargs = kwargs or {}
        if self.stands_for:
            args, kwargs = tree_map_only(
                torch.nn.Parameter, lambda p: self.stands_for.get(id(p), p), (args, kwargs)
            )
        return func(*args, **kwargs)
