"""Stochastic variational inference: move the guide's parameters until its ELBO stops rising."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from .. import checks, errors
from ..effects import Handler, Message
from ..optim import Optimizer
from ..params import get_param_store
from .elbo import Trace_ELBO


class SVIRunResult(NamedTuple):
    """What a run has reached.

    Attributes:
        params: constrained values of the parameters, detached, by name.
        losses: the loss of each step, shape `(num_steps,)`.

    >>> SVIRunResult(params={}, losses=torch.zeros(0)).losses
    tensor([])
    """

    params: dict[str, Tensor]
    losses: Tensor


class SVI:
    """Fit a guide to a model's posterior.

    Args:
        model, guide: functions of the same arguments.
        optim: as `optim.Adam({"lr": 0.01})`.
        loss: as `Trace_ELBO()`.

    >>> import pplkit, pplkit.distributions as dist
    >>> from pplkit.optim import Adam
    >>> pplkit.clear_param_store()
    >>> def model(x):
    ...     z = pplkit.sample("z", dist.Normal(0.0, 1.0))
    ...     pplkit.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> def guide(x):
    ...     loc = pplkit.param("loc", torch.tensor(0.0))
    ...     pplkit.sample("z", dist.Normal(loc, 0.7071))
    >>> with pplkit.handlers.seed(rng_seed=0):
    ...     svi = SVI(model, guide, Adam({"lr": 0.05}), loss=Trace_ELBO())
    ...     result = svi.run(200, torch.tensor(2.0))
    >>> bool((result.params["loc"] - 1.0).abs() < 0.1)
    True
    """

    def __init__(self, model: Callable, guide: Callable, optim: Optimizer, loss: Trace_ELBO):
        for label, thing in (("model", model), ("guide", guide)):
            if not callable(thing):
                raise errors.wrong_argument("SVI", f"{label}=", thing, "a function")
        if not isinstance(optim, Optimizer):
            raise errors.wrong_argument("SVI", "optim=", optim, 'as optim.Adam({"lr": 0.01})')
        if isinstance(loss, type) or not hasattr(loss, "loss_and_surrogate"):
            raise errors.wrong_argument("SVI", "loss=", loss, "an instance, as Trace_ELBO()")
        self.model, self.guide, self.optim, self.loss = model, guide, optim, loss
        self._steps = 0
        self._names: dict[str, None] = {}

    def step(self, *args, **kwargs) -> float:
        """Take one gradient step; return the loss before it.

        Raises:
            InferenceError: a loss or gradient that is not finite. Parameters stay as they were
                before the step.
        """
        store = get_param_store()
        watcher = _Watcher()
        with checks.asked_together() as questions, watcher, torch.enable_grad():
            loss, surrogate = self.loss.loss_and_surrogate(self.model, self.guide, *args, **kwargs)
            leaves = {name: store.unconstrained(name) for name in watcher.params if name in store}
            grads = _gradients(surrogate, leaves)
            finite = [torch.isfinite(grad).all() for grad in grads.values()]
            value, *grads_finite = checks.settle(questions, loss, *finite)
            if not (math.isfinite(value) and all(grads_finite)):
                what = "a gradient" if math.isfinite(value) else "the loss"
                raise errors.not_finite(what, self._steps + 1, watcher.culprit())
        self.optim.step(leaves, grads)
        self._steps += 1
        self._names |= dict.fromkeys(leaves)
        store.settle()
        return value

    def evaluate_loss(self, *args, **kwargs) -> float:
        """An estimate of the loss; no step is taken."""
        with torch.no_grad():
            return self.loss.loss(self.model, self.guide, *args, **kwargs)

    def run(self, num_steps: int, *args, **kwargs) -> SVIRunResult:
        """Take many steps.

        Args:
            num_steps: 0 or more; the arguments after it are the model's.

        Returns:
            `SVIRunResult(params, losses)`.
        """
        if not isinstance(num_steps, int) or isinstance(num_steps, bool) or num_steps < 0:
            raise errors.wrong_argument("run", "num_steps=", num_steps, "a whole number, 0 or more")
        losses = [self.step(*args, **kwargs) for _ in range(num_steps)]
        store = get_param_store()
        params = {name: store[name].detach().clone() for name in self._names if name in store}
        return SVIRunResult(params, torch.tensor(losses))


class _Watcher(Handler):
    """Sees every statement of a step: which parameters it read, and where a number went wrong."""

    def __init__(self):
        super().__init__()
        self.params: dict[str, None] = {}
        self.sites: list[Message] = []

    def postprocess_message(self, msg: Message) -> None:
        if msg.type == "param":
            self.params[msg.name] = None
        elif msg.type == "sample":
            self.sites.append(msg)

    def culprit(self) -> Message | None:
        """The first site with a value or a log-probability that is not finite."""
        for site in self.sites:
            if not (torch.isfinite(site.value).all() and torch.isfinite(site.log_prob).all()):
                return site
        return None


def _gradients(surrogate: Tensor, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not leaves or not surrogate.requires_grad:
        return {}
    grads = torch.autograd.grad(surrogate, list(leaves.values()), allow_unused=True)
    return {name: grad for name, grad in zip(leaves, grads, strict=True) if grad is not None}
