"""Sequential Monte Carlo: particles that follow a state through time, as data arrive.

Every particle is a guess of the state, with a weight. A step moves all of them together, in a
plate, and weighs them by the new observation; when few are left that carry weight, they are drawn
anew from among themselves.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .. import errors
from ..distributions import Empirical
from ..effects import Message
from ..handlers import block, replay, trace
from ..primitives import plate
from ..trace import Trace
from .elbo import check_sites
from .importance import whole_number
from .weights import LogWeights, systematic


class SMCFailed(errors.InferenceError, ValueError):
    """No particle is left that could be: the observations are impossible for all of them.

    >>> issubclass(SMCFailed, errors.InferenceError)
    True
    """


class SMCState(dict):
    """What particles carry from step to step: tensors by name, a row for each particle.

    A model reads and writes it, a guide reads it.

    Args:
        num_particles: how many rows, the leftmost dimension of each tensor.

    Raises:
        UsageError: a value that is no tensor.
        ShapeError: a tensor with another number of rows.
        ModelError: a guide that writes.

    >>> state = SMCState(3)
    >>> state["z"] = torch.zeros(3)
    >>> list(state)
    ['z']
    """

    def __init__(self, num_particles: int):
        super().__init__()
        self._num_particles = whole_number("SMCState", "num_particles=", num_particles, 1)
        self._locked = False

    def __setitem__(self, key: Any, value: Tensor) -> None:
        if self._locked:
            raise errors.guide_writes_state(key)
        if not isinstance(value, Tensor):
            raise errors.state_no_tensor(key, value)
        if value.dim() == 0 or len(value) != self._num_particles:
            raise errors.state_rows(key, value, self._num_particles)
        super().__setitem__(key, value)

    def update(self, *args, **kwargs) -> None:
        """As a dictionary's; each value is looked at."""
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    @contextmanager
    def _lock(self):
        self._locked = True
        try:
            yield
        finally:
            self._locked = False

    def _resample(self, index: Tensor) -> None:
        for key, value in self.items():
            self[key] = value[index.to(value.device)]


class SMCFilter(LogWeights):
    """A particle filter for a state-space model.

    Model and guide are objects with two methods, `init(state, ...)` and `step(state, ...)`. Both
    make statements as any model does; the model keeps in `state` what the next step needs.
    `init(...)` and `step(...)` of the filter pass their arguments on to both.

    Args:
        model: with sample statements for the new state and, with `obs=`, for the observation.
        guide: proposes values of the new state, with statements of the same names; those that it
            leaves out are drawn from the model. Without a guide all are: the bootstrap filter
            (Gordon, Salmond and Smith, 1993).
        num_particles: at least 1; more are slower and better.
        max_plate_nesting: how many dimensions the model's own plates take; the particles' is left
            of them.
        ess_threshold: particles are drawn anew when their effective sample size falls below this
            share of their number; more than 0, at most 1.

    Attributes:
        state: what the particles carry, by name; rows are particles.
        log_weights: the particles' weights after the last step, with sum 1; shape
            `(num_particles,)`.
        log_evidence: the estimate of log p(all observations so far), a scalar; its exponential is
            unbiased.
        ess: the effective sample size after each step, before particles were drawn anew.
        resampled: after each step, whether they were.

    Raises:
        UsageError: arguments that are none of these; a step before `init`.
        SMCFailed: an observation that is impossible for all particles.
        ModelError: a guide's site that the model does not have, or another one's shape.

    >>> import pplkit, pplkit.distributions as dist
    >>> class Walk:
    ...     def init(self, state):
    ...         self.t = 0
    ...         state["z"] = pplkit.sample("z_0", dist.Normal(0.0, 1.0))
    ...     def step(self, state, x=None):
    ...         self.t += 1
    ...         state["z"] = pplkit.sample(f"z_{self.t}", dist.Normal(state["z"], 1.0))
    ...         pplkit.sample(f"x_{self.t}", dist.Normal(state["z"], 1.0), obs=x)
    >>> with pplkit.handlers.seed(rng_seed=0):
    ...     smc = SMCFilter(Walk(), num_particles=1000)
    ...     smc.init()
    ...     for x in torch.tensor([0.5, 1.0, 1.5]):
    ...         smc.step(x)
    >>> bool(abs(smc.get_empirical()["z"].mean - 1.23) < 0.1)
    True
    """

    def __init__(
        self,
        model: Any,
        guide: Any = None,
        num_particles: int = 100,
        max_plate_nesting: int = 0,
        *,
        ess_threshold: float = 0.5,
    ):
        for argument, given in (("model=", model), ("guide=", guide)):
            methods = [getattr(given, name, None) for name in ("init", "step")]
            if not all(map(callable, methods)) and not (argument == "guide=" and given is None):
                expected = "an object with the methods init(state, ...) and step(state, ...)"
                raise errors.wrong_argument("SMCFilter", argument, given, expected)
        number = isinstance(ess_threshold, (int, float)) and not isinstance(ess_threshold, bool)
        if not number or not 0 < ess_threshold <= 1:
            expected = "more than 0, at most 1"
            raise errors.wrong_argument("SMCFilter", "ess_threshold=", ess_threshold, expected)
        self.model, self.guide, self.ess_threshold = model, guide, ess_threshold
        self.num_particles = whole_number("SMCFilter", "num_particles=", num_particles, 100)
        self.max_plate_nesting = whole_number(
            "SMCFilter", "max_plate_nesting=", max_plate_nesting, 0, least=0
        )
        self.state = SMCState(self.num_particles)
        self._begin()

    def _begin(self) -> None:
        self.state.clear()
        self._log_weights: Tensor | None = None
        self.log_evidence: Tensor | None = None
        self.ess: list[float] = []
        self.resampled: list[bool] = []

    def init(self, *args, **kwargs) -> None:
        """Start: draw the first state. What an earlier run has left is dropped."""
        self._begin()
        self._advance("init", args, kwargs)

    def step(self, *args, **kwargs) -> None:
        """Move all particles, and weigh them by what is observed."""
        if self._log_weights is None:
            raise errors.not_run("SMCFilter", "filter.init(...), once, before filter.step(...)")
        self._advance("step", args, kwargs)

    @property
    def log_weights(self) -> Tensor:
        """The logarithms of the particles' weights, with sum 1."""
        if self._log_weights is None:
            raise errors.not_run("SMCFilter", "filter.init(...)")
        return self._log_weights

    def get_log_normalizer(self) -> Tensor:
        """The estimate of log p(all observations so far); a scalar."""
        return self.log_weights.new_zeros(()) + self.log_evidence

    def get_log_evidence(self):
        """Not told by the weights of the last step: repeat the filter to see the error."""
        raise errors.no_error_of_filter()

    def get_empirical(self) -> dict[Any, Empirical]:
        """The weighted particles as distributions, by the state's names."""
        return {key: Empirical(value, self.log_weights) for key, value in self.state.items()}

    # -- a step ------------------------------------------------------------------------------
    @torch.no_grad()
    def _advance(self, method: str, args: tuple, kwargs: dict) -> None:
        particles = plate("particles", self.num_particles, dim=-1 - self.max_plate_nesting)
        model = getattr(self.model, method)
        with block(), particles:
            proposed = Trace()
            if self.guide is not None:
                with self.state._lock(), trace() as recorder:
                    getattr(self.guide, method)(self.state, *args, **kwargs)
                proposed = recorder.trace
            with trace() as recorder, replay(trace=proposed):
                model(self.state, *args, **kwargs)
        run = recorder.trace
        _check(run, proposed)
        self._weigh(run, proposed)
        self._maybe_resample()

    def _weigh(self, run: Trace, proposed: Trace) -> None:
        weights = self._log_weights
        before = 0.0 if weights is None else weights
        if weights is None:
            before = -math.log(self.num_particles)
        total = before
        for site in run.sites("sample"):
            theirs = proposed.nodes.get(site.name)
            if theirs is not None and not site.is_observed:
                total = total + self._rows(site) - self._rows(theirs)
            elif site.is_observed:
                total = total + self._rows(site)
            if isinstance(total, Tensor) and not total.max() > -math.inf:
                raise _failed(site, self.num_particles, bool(total.isnan().any()))
        if not isinstance(total, Tensor):  # nothing was observed or proposed
            total = torch.full((self.num_particles,), float(total))
        found = total.logsumexp(0)
        self._log_weights = total - found
        self.log_evidence = found if self.log_evidence is None else self.log_evidence + found

    def _rows(self, site: Message) -> Tensor:
        """A site's log-probability, by particle."""
        return site.log_prob.reshape(self.num_particles, -1).sum(-1)

    def _maybe_resample(self) -> None:
        ess = self.get_ESS().item()
        few = bool(self.state) and ess < self.ess_threshold * self.num_particles
        self.ess.append(ess)
        self.resampled.append(few)
        if few:
            self.state._resample(systematic(self._log_weights))
            self._log_weights = torch.full_like(self._log_weights, -math.log(self.num_particles))

    def __repr__(self) -> str:
        head = f"SMCFilter(num_particles={self.num_particles})"
        if self._log_weights is None:
            return f"{head}: not started"
        return (
            f"{head}: after {len(self.ess) - 1} steps log-evidence {self.log_evidence.item():.2f}, "
            f"resampled {sum(self.resampled)} times"
        )


def _check(run: Trace, proposed: Trace) -> None:
    """Raise if the guide proposes what the model does not draw, or in another shape."""
    check_sites(run, proposed)
    for site in proposed.sites("sample"):
        there = run.nodes.get(site.name)
        if site.is_observed or site.infer.get("is_auxiliary"):
            continue
        if there is None or there.type != "sample" or there.is_observed:
            errors.tell(errors.guide_site_missing(site, run.stochastic_nodes, there))
    run.check_plates()
    proposed.check_plates()


def _failed(site: Message, number: int, nan: bool) -> Exception:
    told = errors.all_particles_impossible(site, number, nan)
    return SMCFailed(
        told.headline,
        site=told.site,
        where=told.where,
        found=told.found,
        expected=told.expected,
        remedy=told.remedy,
    )
