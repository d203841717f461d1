"""Optimisers, as pure functions on tensors.

An optimiser holds settings only in `options`; what it remembers of a parameter is a dictionary of
tensors that `update` takes and returns. So one step is a function of its inputs, and a whole loop
can be captured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from . import errors

State = dict[str, Tensor]


class Optimizer:
    """Moves named, unconstrained parameters against their gradients.

    Args:
        optim_args: settings, as `{"lr": 0.01}`, or a function from a parameter's name to its
            settings.

    A subclass says what it remembers (`init`) and how it moves (`update`):

    >>> class Descent(Optimizer):
    ...     defaults = {"lr": 0.1}
    ...     def init(self, value):
    ...         return {}
    ...     def update(self, value, grad, state, *, lr):
    ...         return value - lr * grad, state
    >>> x = torch.tensor(1.0)
    >>> Descent().step({"x": x}, {"x": torch.tensor(2.0)})
    >>> x
    tensor(0.8000)
    """

    defaults: dict[str, Any] = {}

    def __init__(
        self, optim_args: Mapping[str, Any] | Callable[[str], Mapping[str, Any]] | None = None
    ):
        if optim_args is not None and not callable(optim_args):
            self._merged(optim_args)
        self.optim_args = optim_args or {}
        self.state: dict[str, State] = {}

    def _merged(self, given: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(given, Mapping):
            raise errors.optim_args_not_mapping(type(self).__name__, given)
        for key in given:
            if key not in self.defaults:
                raise errors.unknown_option(type(self).__name__, key, list(self.defaults))
        if not given.get("lr", 1.0) > 0:
            raise errors.learning_rate(type(self).__name__, given["lr"])
        return {**self.defaults, **given}

    def options(self, name: str) -> dict[str, Any]:
        """The settings for one parameter."""
        given = self.optim_args(name) if callable(self.optim_args) else self.optim_args
        return self._merged(given)

    def init(self, value: Tensor) -> State:
        """What is remembered of a parameter before its first step."""
        raise NotImplementedError

    def update(self, value: Tensor, grad: Tensor, state: State, **options) -> tuple[Tensor, State]:
        """One step: the new value, and what is remembered of it. Nothing is changed in place."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, leaves: Mapping[str, Tensor], grads: Mapping[str, Tensor]) -> None:
        """Move the leaves in place, by `update`; their gradients have the same names and shapes."""
        for name, grad in grads.items():
            leaf = leaves[name]
            state = self.state.get(name) or self.init(leaf)
            new, self.state[name] = self.update(leaf, grad, state, **self.options(name))
            leaf.copy_(new)

    def reset(self) -> None:
        """Forget the past of every parameter."""
        self.state.clear()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.optim_args})"


class Adam(Optimizer):
    """Adam: steps of about `lr`, by running means of gradient and squared gradient.

    Kingma and Ba, 2015, "Adam: a method for stochastic optimization".

    Args:
        optim_args: `lr` (0.001), `betas` (0.9, 0.999), `eps` (1e-8), `weight_decay` (0).

    >>> optimiser = Adam({"lr": 0.1})
    >>> x = torch.tensor(1.0)
    >>> optimiser.step({"x": x}, {"x": torch.tensor(5.0)})
    >>> x
    tensor(0.9000)
    """

    defaults = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}

    def init(self, value: Tensor) -> State:
        return {
            "mean": torch.zeros_like(value),
            "square": torch.zeros_like(value),
            "steps": value.new_zeros(()),
        }

    def update(self, value, grad, state, *, lr, betas, eps, weight_decay):
        if weight_decay:
            grad = grad + weight_decay * value
        steps = state["steps"] + 1
        mean = torch.lerp(state["mean"], grad, 1 - betas[0])
        square = torch.lerp(state["square"], grad * grad, 1 - betas[1])
        unbiased_mean = mean / (1 - betas[0] ** steps)
        unbiased_root = (square / (1 - betas[1] ** steps)).sqrt()
        new = value - lr * unbiased_mean / (unbiased_root + eps)
        return new, {"mean": mean, "square": square, "steps": steps}
