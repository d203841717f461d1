"""Optimisers, as pure functions on tensors.

An optimiser holds settings only; what it remembers of a parameter is a dictionary of tensors that
`update` takes and returns. So one step is a function of its inputs, and a whole loop can be
captured. `move` applies it to parameters in place; where torch has the same step as one fused
operation, `move` uses that.

`PyroOptim` wraps any class of `torch.optim`, `PyroLRScheduler` any of `torch.optim.lr_scheduler`;
each is also there by its own name, as `optim.Adadelta(...)` or `optim.ExponentialLR(...)`.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from . import checks, errors

__all__ = [
    "Adagrad",
    "Adam",
    "AdamW",
    "ClippedAdam",
    "Optimizer",
    "PyroLRScheduler",
    "PyroOptim",
    "RMSprop",
    "SGD",
]

State = dict[str, Tensor]
Settings = Mapping[str, Any] | Callable[[str], Mapping[str, Any]]

_CLIPPING = {"clip_norm": None, "clip_value": None}


class Optimizer:
    """Moves named, unconstrained parameters against their gradients.

    Args:
        optim_args: settings, as `{"lr": 0.01}`, or a function from a parameter's name to its
            settings, asked once for each name.
        clip_args: `clip_norm`, the largest Euclidean norm that a parameter's gradient may have;
            `clip_value`, the largest magnitude of its elements; or a function as above.

    A subclass says what it remembers (`init`) and how it moves (`update`):

    >>> class Descent(Optimizer):
    ...     defaults = {"lr": 0.1}
    ...     def init(self, value):
    ...         return {}
    ...     def update(self, value, grad, state, *, lr):
    ...         return value - lr * grad, state
    >>> x = torch.tensor(1.0)
    >>> Descent().move({"x": x}, {"x": torch.tensor(2.0)})
    >>> x
    tensor(0.8000)
    """

    defaults: dict[str, Any] = {}
    guarded = True  # whether `move` obeys `ok`

    def __init__(self, optim_args: Settings | None = None, clip_args: Settings | None = None):
        self.optim_args = {} if optim_args is None else optim_args
        self.clip_args = {} if clip_args is None else clip_args
        self._options: dict[str | None, dict[str, Any]] = {}
        self._clipping: dict[str | None, dict[str, Any]] = {}
        self._leaves: dict[str, Tensor | None] = {}  # whose past `state` holds; None: not yet seen
        self.state: dict[str, State] = {}
        if not callable(self.optim_args):
            self.options(None)
        if not callable(self.clip_args):
            self._clip_options(None)

    # -- settings ----------------------------------------------------------------------------
    def options(self, name: str | None) -> dict[str, Any]:
        """The settings for one parameter; None for those that all share."""
        key = name if callable(self.optim_args) else None
        if key not in self._options:
            given = self.optim_args(name) if callable(self.optim_args) else self.optim_args
            self._options[key] = self._merged(given)
        return self._options[key]

    def _merged(self, given: Mapping[str, Any]) -> dict[str, Any]:
        options = _known(type(self).__name__, given, self.defaults)
        rate = options.get("lr", 1.0)
        if (
            not isinstance(rate, (int, float, Tensor))
            or isinstance(rate, bool)
            or not checks.holds(rate > 0)
        ):
            raise errors.learning_rate(type(self).__name__, rate)
        return options

    def _clip_options(self, name: str | None) -> dict[str, Any]:
        key = name if callable(self.clip_args) else None
        if key not in self._clipping:
            given = self.clip_args(name) if callable(self.clip_args) else self.clip_args
            self._clipping[key] = _known(f"{type(self).__name__}'s clip_args", given, _CLIPPING)
        return self._clipping[key]

    # -- what a subclass says ----------------------------------------------------------------
    def init(self, value: Tensor) -> State:
        """What is remembered of a parameter before its first step."""
        raise NotImplementedError

    def update(self, value: Tensor, grad: Tensor, state: State, **options) -> tuple[Tensor, State]:
        """One step: the new value, and what is remembered of it. Nothing is changed in place."""
        raise NotImplementedError

    # -- moving ------------------------------------------------------------------------------
    def leaves(self, read: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Which tensors a step moves, of those that the program has read."""
        return read

    @torch.no_grad()
    def move(
        self, leaves: Mapping[str, Tensor], grads: Mapping[str, Tensor], ok: Tensor | None = None
    ) -> None:
        """Move the leaves in place; their gradients have the same names and shapes.

        Args:
            ok: a boolean scalar; where it is false, nothing changes. The device is not waited for.
        """
        if self.clip_args:
            grads = {n: clipped(grad, **self._clip_options(n)) for n, grad in grads.items()}
        self._move(leaves, grads, ok)

    def _move(self, leaves, grads, ok) -> None:
        for name, grad in grads.items():
            leaf, state = leaves[name], self._past(name, leaves[name])
            new, after = self.update(leaf, grad, state, **self.options(name))
            if ok is not None:
                here = ok.to(leaf.device)
                new = torch.where(here, new, leaf)
                after = {key: torch.where(here, after[key], state[key]) for key in after}
            leaf.copy_(new)
            self.state[name] = after

    def _past(self, name: str, leaf: Tensor) -> State:
        """What is remembered of this very parameter, not of an earlier one of its name."""
        if self._leaves.get(name) is not leaf:
            loaded = name in self._leaves and self._leaves[name] is None
            if not loaded:
                self.state[name] = self.init(leaf)
            elif any(x.dim() and x.shape != leaf.shape for x in self.state[name].values()):
                raise errors.optimiser_state_shape(name, leaf, self.state[name])
            self._leaves[name] = leaf
        return self.state[name]

    def advance(self, loss: Tensor) -> None:
        """A step of `SVI.run` is done; a learning-rate schedule goes on."""

    # -- the past ----------------------------------------------------------------------------
    def reset(self) -> None:
        """Forget the past of every parameter."""
        self.state.clear()
        self._leaves.clear()

    def get_state(self) -> dict[str, State]:
        """What is remembered, by parameter: tensors and plain values."""
        return {
            name: {key: value.detach().clone() for key, value in state.items()}
            for name, state in self.state.items()
        }

    def set_state(self, state: Mapping[str, State]) -> None:
        """Go on from what `get_state` has given."""
        for name, remembered in state.items():
            self.state[name] = {key: value.clone() for key, value in remembered.items()}
            self._leaves[name] = None

    def save(self, filename: str | os.PathLike) -> None:
        """Write `get_state` to a file."""
        torch.save(self.get_state(), filename)

    def load(self, filename: str | os.PathLike, map_location=None) -> None:
        """Go on from what `save` has written. A file that would run code is refused.

        Raises:
            UsageError: not such a file.
        """
        try:
            state = dict(torch.load(filename, map_location=map_location, weights_only=True))
        except OSError:
            raise
        except Exception as fault:  # whatever torch meets in a file that is not its own
            raise errors.not_an_optimiser_file(filename, fault) from fault
        self.set_state(state)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.optim_args})"


def _known(whose: str, given: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise errors.optim_args_not_mapping(whose, given)
    for key in given:
        if key not in defaults:
            raise errors.unknown_option(whose, key, list(defaults))
    return {**defaults, **given}


def clipped(
    grad: Tensor, clip_norm: float | None = None, clip_value: float | None = None
) -> Tensor:
    """A gradient made no longer than `clip_norm`, its elements no larger than `clip_value`.

    >>> clipped(torch.tensor([3.0, 4.0]), clip_norm=1.0)
    tensor([0.6000, 0.8000])
    """
    if clip_norm is not None:
        grad = grad * (clip_norm / (torch.linalg.vector_norm(grad) + 1e-6)).clamp(max=1.0)
    return grad if clip_value is None else grad.clamp(-clip_value, clip_value)


# -- the optimisers ----------------------------------------------------------------------------


class Adam(Optimizer):
    """Adam: steps of about `lr`, by running means of gradient and squared gradient.

    Kingma and Ba, 2015, "Adam: a method for stochastic optimization".

    Args:
        optim_args: `lr` (0.001), `betas` (0.9, 0.999), `eps` (1e-8), `weight_decay` (0),
            `amsgrad` (False: divide by the largest mean square so far).
        clip_args: see `Optimizer`.

    >>> optimiser = Adam({"lr": 0.1})
    >>> x = torch.tensor(1.0)
    >>> optimiser.move({"x": x}, {"x": torch.tensor(5.0)})
    >>> x
    tensor(0.9000)
    """

    defaults = {
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 0.0,
        "amsgrad": False,
    }
    _fused = staticmethod(torch._fused_adam_)

    def init(self, value: Tensor) -> State:
        zeros = torch.zeros_like(value, memory_format=torch.contiguous_format)
        steps = torch.zeros((), dtype=torch.float32, device=value.device)
        state = {"mean": zeros, "square": zeros.clone(), "steps": steps}
        options = next(iter(self._options.values()), self.defaults)
        return {**state, "largest": zeros.clone()} if options["amsgrad"] else state

    def update(self, value, grad, state, *, lr, betas, eps, weight_decay, amsgrad):
        value, grad = self._decayed(value, grad, lr, weight_decay)
        steps = state["steps"] + 1
        mean = torch.lerp(state["mean"], grad, 1 - betas[0])
        square = torch.lerp(state["square"], grad * grad, 1 - betas[1])
        after = {"mean": mean, "square": square, "steps": steps}
        if amsgrad:
            square = after["largest"] = torch.maximum(state["largest"], square)
        exact = _counted(steps, value)
        known = [_known_share(beta, exact).to(value.dtype) for beta in betas]
        unbiased_root = (square / known[1]).sqrt()
        return value - lr * (mean / known[0]) / (unbiased_root + eps), after

    def _decayed(self, value, grad, lr, weight_decay):
        return value, grad + weight_decay * value if weight_decay else grad

    def _move(self, leaves, grads, ok) -> None:
        for names in self._alike(leaves, grads):
            if names[0] is None:
                super()._move(leaves, {name: grads[name] for name in names[1:]}, ok)
            else:
                self._move_together(names, leaves, grads, ok)

    def _alike(self, leaves, grads) -> Iterator[list]:
        """Names of parameters that one fused step can move; after a None, those it cannot."""
        groups: dict[tuple, list] = {}
        for name, grad in grads.items():
            leaf = leaves[name]
            plain = leaf.dtype in _FUSABLE and leaf.is_contiguous() and grad.layout is torch.strided
            key = (leaf.dtype, leaf.device, id(self.options(name))) if plain else None
            groups.setdefault(key, [] if plain else [None]).append(name)
        yield from groups.values()

    def _move_together(self, names: list[str], leaves, grads, ok) -> None:
        moved = [leaves[name] for name in names]
        states = [self._past(name, leaf) for name, leaf in zip(names, moved, strict=True)]
        steps = [state["steps"] for state in states]
        options = self.options(names[0])
        stopped = None
        if ok is None:
            torch._foreach_add_(steps, 1.0)
        else:
            going = ok.to(steps[0])
            torch._foreach_add_(steps, going)
            stopped = 1.0 - going
        self._fused(
            moved,
            [grads[name].contiguous() for name in names],
            [state["mean"] for state in states],
            [state["square"] for state in states],
            [state["largest"] for state in states] if options["amsgrad"] else [],
            steps,
            lr=options["lr"],
            beta1=options["betas"][0],
            beta2=options["betas"][1],
            weight_decay=options["weight_decay"],
            eps=options["eps"],
            amsgrad=options["amsgrad"],
            maximize=False,
            found_inf=stopped,
        )


_FUSABLE = (torch.float32, torch.float64)


def _counted(steps: Tensor, value: Tensor) -> Tensor:
    """The number of steps, in a type as precise as the value's, and as float32 at least."""
    return steps.to(torch.promote_types(value.dtype, torch.float32))


def _known_share(beta: float | Tensor, steps: Tensor) -> Tensor:
    """1 - beta^steps: how much of a running mean that began at zero is not that zero."""
    if isinstance(beta, Tensor):
        return -torch.expm1(steps * beta.to(steps.dtype).log())
    return -torch.expm1(steps * math.log(beta)) if beta else torch.ones_like(steps)


class AdamW(Adam):
    """Adam that shrinks parameters themselves, rather than through their gradients.

    Loshchilov and Hutter, 2019, "Decoupled weight decay regularization".

    Args:
        optim_args: as for `Adam`; `weight_decay` is 0.01 unless told.
        clip_args: see `Optimizer`.

    >>> x = torch.tensor(1.0)
    >>> AdamW({"lr": 0.1}).move({"x": x}, {"x": torch.tensor(0.0)})
    >>> x
    tensor(0.9990)
    """

    defaults = {**Adam.defaults, "weight_decay": 0.01}
    _fused = staticmethod(torch._fused_adamw_)

    def _decayed(self, value, grad, lr, weight_decay):
        return value * (1 - lr * weight_decay), grad


class ClippedAdam(Optimizer):
    """Adam whose gradients' elements are clipped, and whose learning rate decays.

    Args:
        optim_args: `lr` (0.001), `betas` (0.9, 0.999), `eps` (1e-8), `weight_decay` (0),
            `clip_norm` (10: the largest magnitude of a gradient's element), `lrd` (1: what `lr` is
            multiplied by before each step), `centered_variance` (False: square the gradient's
            distance from its running mean).
        clip_args: see `Optimizer`.

    >>> x = torch.tensor(1.0)
    >>> ClippedAdam({"lr": 0.1, "lrd": 0.5}).move({"x": x}, {"x": torch.tensor(1e6)})
    >>> x
    tensor(0.9500)
    """

    defaults = {
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 0.0,
        "clip_norm": 10.0,
        "lrd": 1.0,
        "centered_variance": False,
    }

    def init(self, value: Tensor) -> State:
        steps = torch.zeros((), dtype=torch.float32, device=value.device)
        return {"mean": torch.zeros_like(value), "square": torch.zeros_like(value), "steps": steps}

    def update(
        self,
        value,
        grad,
        state,
        *,
        lr,
        betas,
        eps,
        weight_decay,
        clip_norm,
        lrd,
        centered_variance,
    ):
        grad = grad.clamp(-clip_norm, clip_norm)
        if weight_decay:
            grad = grad + weight_decay * value
        steps = state["steps"] + 1
        exact = _counted(steps, value)
        mean = torch.lerp(state["mean"], grad, 1 - betas[0])
        spread = grad - mean if centered_variance else grad
        square = torch.lerp(state["square"], spread * spread, 1 - betas[1])
        size = lr * torch.exp(exact * math.log(lrd)) if lrd != 1.0 else lr
        size = size * _known_share(betas[1], exact).sqrt() / _known_share(betas[0], exact)
        new = value - size.to(value.dtype) * mean / (square.sqrt() + eps)
        return new, {"mean": mean, "square": square, "steps": steps}


class SGD(Optimizer):
    """Stochastic gradient descent.

    Args:
        optim_args: `lr` (0.001), `momentum` (0), `dampening` (0), `weight_decay` (0), `nesterov`
            (False).
        clip_args: see `Optimizer`.

    >>> x = torch.tensor(1.0)
    >>> SGD({"lr": 0.1}).move({"x": x}, {"x": torch.tensor(2.0)})
    >>> x
    tensor(0.8000)
    """

    defaults = {
        "lr": 1e-3,
        "momentum": 0.0,
        "dampening": 0.0,
        "weight_decay": 0.0,
        "nesterov": False,
    }

    def init(self, value: Tensor) -> State:
        steps = torch.zeros((), dtype=torch.float32, device=value.device)
        return {"velocity": torch.zeros_like(value), "steps": steps}

    def update(self, value, grad, state, *, lr, momentum, dampening, weight_decay, nesterov):
        if weight_decay:
            grad = grad + weight_decay * value
        if isinstance(momentum, Tensor) or momentum:  # a captured schedule's is a tensor
            share = 1.0
            if dampening:  # the first gradient is taken whole
                share = 1.0 - dampening * (state["steps"] > 0).to(value.dtype)
            velocity = momentum * state["velocity"] + share * grad
            state = {"velocity": velocity, "steps": state["steps"] + 1}
            grad = grad + momentum * velocity if nesterov else velocity
        return value - lr * grad, state


class RMSprop(Optimizer):
    """Gradients divided by the root of their running mean square.

    Tieleman and Hinton, 2012, lecture 6.5 of "Neural networks for machine learning".

    Args:
        optim_args: `lr` (0.01), `alpha` (0.99), `eps` (1e-8), `weight_decay` (0), `momentum` (0),
            `centered` (False: divide by the running standard deviation).
        clip_args: see `Optimizer`.

    >>> x = torch.tensor(1.0)
    >>> RMSprop({"lr": 0.01}).move({"x": x}, {"x": torch.tensor(2.0)})
    >>> x
    tensor(0.9000)
    """

    defaults = {
        "lr": 1e-2,
        "alpha": 0.99,
        "eps": 1e-8,
        "weight_decay": 0.0,
        "momentum": 0.0,
        "centered": False,
    }

    def init(self, value: Tensor) -> State:
        return {name: torch.zeros_like(value) for name in ("square", "mean", "velocity")}

    def update(self, value, grad, state, *, lr, alpha, eps, weight_decay, momentum, centered):
        if weight_decay:
            grad = grad + weight_decay * value
        after = {**state, "square": torch.lerp(state["square"], grad * grad, 1 - alpha)}
        variance = after["square"]
        if centered:
            after["mean"] = torch.lerp(state["mean"], grad, 1 - alpha)
            variance = variance - after["mean"] ** 2
        direction = grad / (variance.sqrt() + eps)
        if isinstance(momentum, Tensor) or momentum:
            direction = after["velocity"] = momentum * state["velocity"] + direction
        return value - lr * direction, after


class Adagrad(Optimizer):
    """Gradients divided by the root of the sum of their squares so far.

    Duchi, Hazan and Singer, 2011, "Adaptive subgradient methods for online learning".

    Args:
        optim_args: `lr` (0.01), `lr_decay` (0), `weight_decay` (0), `initial_accumulator_value`
            (0), `eps` (1e-10).
        clip_args: see `Optimizer`.

    >>> x = torch.tensor(1.0)
    >>> Adagrad({"lr": 0.1}).move({"x": x}, {"x": torch.tensor(2.0)})
    >>> x
    tensor(0.9000)
    """

    defaults = {
        "lr": 1e-2,
        "lr_decay": 0.0,
        "weight_decay": 0.0,
        "initial_accumulator_value": 0.0,
        "eps": 1e-10,
    }

    def init(self, value: Tensor) -> State:
        steps = torch.zeros((), dtype=torch.float32, device=value.device)
        # The accumulator's first value is added in `update`, which knows the settings.
        return {"squares": torch.zeros_like(value), "steps": steps}

    def update(
        self,
        value,
        grad,
        state,
        *,
        lr,
        lr_decay,
        weight_decay,
        initial_accumulator_value,
        eps,
    ):
        if weight_decay:
            grad = grad + weight_decay * value
        squares = state["squares"] + grad * grad
        size = (lr / (1 + _counted(state["steps"], value) * lr_decay)).to(value.dtype)
        root = (squares + initial_accumulator_value).sqrt()
        return value - size * grad / (root + eps), {"squares": squares, "steps": state["steps"] + 1}


# -- torch's own -------------------------------------------------------------------------------


class PyroOptim(Optimizer):
    """Any class of `torch.optim` that needs no closure, one object for each parameter.

    Args:
        optim_constructor: the class, as `torch.optim.Adadelta`.
        optim_args: its settings, or a function from a parameter's name to them.
        clip_args: see `Optimizer`.

    Raises:
        UsageError: not such a class, or settings that it does not know.

    >>> x = torch.tensor(1.0, requires_grad=True)
    >>> PyroOptim(torch.optim.Adamax, {"lr": 0.1}).move({"x": x}, {"x": torch.tensor(2.0)})
    >>> round(x.item(), 4)
    0.9
    """

    guarded = False

    def __init__(
        self,
        optim_constructor: Callable[..., torch.optim.Optimizer],
        optim_args: Settings | None = None,
        clip_args: Settings | None = None,
    ):
        if not callable(optim_constructor) or _needs_closure(optim_constructor):
            raise errors.wrong_argument(
                "PyroOptim",
                "optim_constructor=",
                optim_constructor,
                "a class of torch.optim whose step needs no closure, as torch.optim.Adam",
            )
        self.optim_constructor = optim_constructor
        self._optimisers: dict[str, torch.optim.Optimizer] = {}
        super().__init__(optim_args, clip_args)

    def _merged(self, given: Mapping[str, Any]) -> dict[str, Any]:
        name = getattr(self.optim_constructor, "__name__", "PyroOptim")
        if not isinstance(given, Mapping):
            raise errors.optim_args_not_mapping(name, given)
        try:
            trial = self.optim_constructor([torch.zeros(1)], **given)
        except (TypeError, ValueError) as fault:
            raise errors.torch_refuses_settings(name, given, fault) from fault
        known = {key: trial.defaults[key] for key in _SCHEDULED if key in trial.defaults}
        return {**given, **known}

    def _move(self, leaves, grads, ok) -> None:
        for name, grad in grads.items():
            leaf = leaves[name]
            optimiser = self._of(name, leaf)
            for group in optimiser.param_groups:
                group.update(self.options(name))
            kept, leaf.grad = leaf.grad, grad
            optimiser.step()
            leaf.grad = kept

    def _of(self, name: str, leaf: Tensor) -> torch.optim.Optimizer:
        if self._leaves.get(name) is not leaf:
            optimiser = self.optim_constructor([leaf], **self.options(name))
            if name in self._leaves and self._leaves[name] is None:
                optimiser.load_state_dict(self.state[name])
            self._optimisers[name], self._leaves[name] = optimiser, leaf
        return self._optimisers[name]

    def reset(self) -> None:
        super().reset()
        self._optimisers.clear()

    def get_state(self) -> dict[str, dict]:
        return {name: optimiser.state_dict() for name, optimiser in self._optimisers.items()}

    def set_state(self, state: Mapping[str, dict]) -> None:
        for name, remembered in state.items():
            self.state[name], self._leaves[name] = remembered, None

    def __repr__(self) -> str:
        return f"PyroOptim({self.optim_constructor.__name__}, {self.optim_args})"


_SCHEDULED = ("lr", "betas", "momentum")  # what a schedule may change


def _needs_closure(constructor) -> bool:
    return isinstance(constructor, type) and issubclass(constructor, torch.optim.LBFGS)


class _Given(Optimizer):
    """An optimiser of torch's, already made: it moves the tensors that it was given."""

    guarded = False

    def __init__(self, optimiser: torch.optim.Optimizer):
        super().__init__()
        self.optimiser = optimiser

    def leaves(self, read):
        names = {id(leaf): name for name, leaf in read.items()}
        held = [p for group in self.optimiser.param_groups for p in group["params"]]
        missing = names.keys() - {id(p) for p in held}
        if missing:
            raise errors.parameter_not_held(names[min(missing, key=list(names).index)])
        return {names.get(id(p), f"parameter {i}"): p for i, p in enumerate(held)}

    def _move(self, leaves, grads, ok) -> None:
        kept = {name: leaf.grad for name, leaf in leaves.items()}
        for name, leaf in leaves.items():
            leaf.grad = grads.get(name)
        self.optimiser.step()
        for name, leaf in leaves.items():
            leaf.grad = kept[name]

    def reset(self) -> None:
        self.optimiser.state.clear()

    def get_state(self):
        return self.optimiser.state_dict()

    def set_state(self, state) -> None:
        self.optimiser.load_state_dict(state)


def as_optimizer(optim: Any) -> Optimizer | None:
    """What `SVI` can use as an optimiser: ours, or a class or an object of torch's; else None.

    >>> as_optimizer(torch.optim.Adam)
    PyroOptim(Adam, {})
    """
    if isinstance(optim, Optimizer):
        return optim
    if isinstance(optim, torch.optim.Optimizer):
        return None if _needs_closure(type(optim)) else _Given(optim)
    if isinstance(optim, type) and issubclass(optim, torch.optim.Optimizer):
        return PyroOptim(optim)
    return None


# -- schedules ---------------------------------------------------------------------------------


class PyroLRScheduler(Optimizer):
    """An optimiser whose learning rate follows one of `torch.optim.lr_scheduler`.

    Args:
        scheduler_constructor: the schedule's class.
        optim_args: `{"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.01}, ...}`: the
            optimiser's class (torch's or pplkit's), its settings, and the schedule's own settings.
        clip_args: see `Optimizer`.

    Call `step()` when the schedule shall go on: after each epoch, say. `SVI.run` has no room for
    such a call, and makes one after every step.

    >>> args = {"optimizer": torch.optim.SGD, "optim_args": {"lr": 1.0}, "gamma": 0.5}
    >>> scheduler = PyroLRScheduler(torch.optim.lr_scheduler.ExponentialLR, args)
    >>> scheduler.step()
    >>> scheduler.options("x")["lr"]
    0.5
    """

    def __init__(
        self,
        scheduler_constructor: Callable,
        optim_args: Mapping[str, Any],
        clip_args: Settings | None = None,
    ):
        name = getattr(scheduler_constructor, "__name__", "PyroLRScheduler")
        given = dict(optim_args) if isinstance(optim_args, Mapping) else {}
        if "optimizer" not in given or "optim_args" not in given:
            raise errors.scheduler_arguments(name, optim_args)
        self.inner = _made(given.pop("optimizer"), given.pop("optim_args"), clip_args)
        self.guarded = self.inner.guarded
        self.scheduler_constructor, self.schedule_args = scheduler_constructor, given
        self._schedules: dict[str | None, Any] = {}
        self._loaded: dict = {}
        super().__init__(self.inner.optim_args)

    def options(self, name: str | None) -> dict[str, Any]:
        options = self.inner.options(name)
        key = name if callable(self.inner.optim_args) else None
        if key not in self._schedules:
            self._schedules[key] = self._schedule(key, options)
        group = self._schedules[key].optimizer.param_groups[0]
        options.update({option: group[option] for option in options})
        return options

    def _schedule(self, key: str | None, options: dict[str, Any]):
        name = getattr(self.scheduler_constructor, "__name__", "PyroLRScheduler")
        try:
            schedule = self.scheduler_constructor(_StandIn(options), **self.schedule_args)
        except (TypeError, ValueError) as fault:
            raise errors.torch_refuses_settings(name, self.schedule_args, fault) from fault
        schedule.optimizer.step()  # torch expects the optimiser's step before the schedule's
        if key in self._loaded:
            schedule.load_state_dict(self._loaded.pop(key))
            lr = getattr(schedule, "_last_lr", None)
            schedule.optimizer.param_groups[0]["lr"] = lr[0] if lr else options["lr"]
        return schedule

    def step(self, *args, **kwargs) -> None:
        """Let the schedule go on; takes what torch's takes, as a loss for `ReduceLROnPlateau`."""
        for key in list(self._schedules):
            self._schedules[key].step(*args, **kwargs)
            self.options(key)

    def advance(self, loss: Tensor) -> None:
        plateau = self.scheduler_constructor is torch.optim.lr_scheduler.ReduceLROnPlateau
        self.step(*[loss.item()] if plateau else [])

    def leaves(self, read):
        return self.inner.leaves(read)

    def init(self, value: Tensor) -> State:
        return self.inner.init(value)

    def update(self, value, grad, state, **options):
        return self.inner.update(value, grad, state, **options)

    def move(self, leaves, grads, ok=None) -> None:
        for name in grads:
            self.options(name)
        self.inner.move(leaves, grads, ok)

    def reset(self) -> None:
        self.inner.reset()

    def get_state(self) -> dict:
        schedules = {key: schedule.state_dict() for key, schedule in self._schedules.items()}
        return {"optimizer": self.inner.get_state(), "scheduler": schedules}

    def set_state(self, state: Mapping) -> None:
        self.inner.set_state(state["optimizer"])
        self._loaded = dict(state["scheduler"])
        self._schedules.clear()

    def __repr__(self) -> str:
        return f"PyroLRScheduler({self.scheduler_constructor.__name__}, {self.inner})"


class _StandIn(torch.optim.Optimizer):
    """Settings for a schedule of torch's to change; it has nothing to move."""

    def __init__(self, options: Mapping[str, Any]):
        super().__init__([torch.zeros(())], dict(options))

    def step(self, closure=None) -> None: ...


_OURS = {"Adagrad": Adagrad, "Adam": Adam, "AdamW": AdamW, "RMSprop": RMSprop, "SGD": SGD}


def _made(optimiser: Any, optim_args: Settings, clip_args: Settings | None) -> Optimizer:
    """An optimiser of this class; ours in place of torch's where it knows the settings."""
    if isinstance(optimiser, type) and issubclass(optimiser, Optimizer):
        return optimiser(optim_args, clip_args)
    ours = _OURS.get(getattr(optimiser, "__name__", ""))
    if ours is not None and getattr(torch.optim, ours.__name__) is optimiser:
        if callable(optim_args) or set(optim_args) <= set(ours.defaults):
            return ours(optim_args, clip_args)
    return PyroOptim(optimiser, optim_args, clip_args)


def __getattr__(name: str) -> Any:
    """The other classes of torch.optim and its schedules, by name."""
    if not name.startswith("_"):
        found = getattr(torch.optim, name, None)
        if isinstance(found, type) and issubclass(found, torch.optim.Optimizer):
            return functools.partial(PyroOptim, found)
        found = getattr(torch.optim.lr_scheduler, name, None)
        if isinstance(found, type) and hasattr(found, "step"):
            return functools.partial(PyroLRScheduler, found)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
