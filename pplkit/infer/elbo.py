"""The evidence lower bound, and gradients of it.

For a model p(x, z) and a guide q(z), ELBO = E_q[log p(x, z) - log q(z)] <= log p(x); the gap is the
Kullback-Leibler divergence from the guide to the posterior. `loss` is its negative, estimated with
draws from the guide.

Where a guide's site can be drawn differentiably, gradients flow through the draw. Elsewhere the
score function stands in: E[f grad log q], f being only those terms that the site's plates let it
influence (Ranganath et al., 2014, "Black box variational inference").

An estimator is an `ELBO`: a pure function of parameters, randomness and arguments. It says what one
run of guide and model contributes to the loss (`particle_loss`) and to its gradient
(`particle_surrogate`).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from .. import errors
from ..distributions import Distribution, Independent, Unit
from ..effects import Message, PlateFrame
from ..handlers import block, replay, trace
from ..params import aside
from ..primitives import plate
from ..trace import Trace
from .baselines import with_baseline

_PARTICLES = "num_particles_vectorized"


class ELBO:
    """What all estimators of the ELBO share: particles, and the forms in which a loss is asked for.

    Args:
        num_particles: how many draws an estimate averages over; at least 1.
        vectorize_particles: draw all particles at once, in a plate around guide and model, rather
            than one after the other; every batch dimension must then belong to a plate.
        max_plate_nesting: how many dimensions the plates of guide and model take; when it is needed
            and not given, one run of both tells.
        max_iarange_nesting: Pyro's old name for `max_plate_nesting`.

    Pyro's further settings (strict_enumeration_warning, ignore_jit_warnings, jit_options,
    retain_graph, tail_adaptive_beta) are accepted and change nothing.

    A class of one's own overrides `particle_loss`, and `particle_surrogate` where its gradient is
    another's:

    >>> import pplkit, pplkit.distributions as dist
    >>> class Twice(ELBO):
    ...     def particle_loss(self, model_trace, guide_trace):
    ...         return 2 * (guide_trace.log_prob_sum() - model_trace.log_prob_sum())
    >>> model = lambda: pplkit.sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))
    >>> round(Twice().loss(model, lambda: None), 4)
    1.8379
    """

    def __init__(
        self,
        num_particles: int = 1,
        max_plate_nesting: int | float = math.inf,
        max_iarange_nesting: int | None = None,
        vectorize_particles: bool = False,
        strict_enumeration_warning: bool = True,
        ignore_jit_warnings: bool = False,
        jit_options: dict | None = None,
        retain_graph: bool | None = None,
        tail_adaptive_beta: float = -1.0,
    ):
        if max_iarange_nesting is not None:
            max_plate_nesting = max_iarange_nesting
        name = type(self).__name__
        whole = isinstance(num_particles, int) and not isinstance(num_particles, bool)
        if not whole or num_particles < 1:
            expected = "a whole number, at least 1"
            raise errors.wrong_argument(name, "num_particles=", num_particles, expected)
        if max_plate_nesting != math.inf and not (
            isinstance(max_plate_nesting, int) and max_plate_nesting >= 0
        ):
            expected = "a whole number, 0 or more"
            raise errors.wrong_argument(name, "max_plate_nesting=", max_plate_nesting, expected)
        self.num_particles = num_particles
        self.max_plate_nesting = max_plate_nesting
        self.vectorize_particles = vectorize_particles

    # -- the forms of a loss -----------------------------------------------------------------
    def loss(self, model: Callable, guide: Callable, *args, **kwargs) -> float:
        """An estimate of the negative ELBO."""
        with torch.no_grad():
            runs = self.runs(model, guide, *args, **kwargs)
            return self.loss_of(list(runs)).item()

    def differentiable_loss(self, model: Callable, guide: Callable, *args, **kwargs) -> Tensor:
        """An estimate of the negative ELBO, whose gradient estimates its gradient; a scalar."""
        loss, surrogate = self.loss_and_surrogate(model, guide, *args, **kwargs)
        return surrogate + (loss - surrogate).detach()

    def loss_and_grads(self, model: Callable, guide: Callable, *args, **kwargs) -> float:
        """An estimate of the negative ELBO; its gradient is added to the leaves' `.grad`."""
        loss, surrogate = self.loss_and_surrogate(model, guide, *args, **kwargs)
        if surrogate.requires_grad:
            surrogate.backward()
        return loss.item()

    def loss_and_surrogate(
        self, model: Callable, guide: Callable, *args, **kwargs
    ) -> tuple[Tensor, Tensor]:
        """The estimate, and a scalar whose gradient estimates its gradient."""
        return self.estimate(list(self.runs(model, guide, *args, **kwargs)))

    # -- what an estimator says --------------------------------------------------------------
    def particle_loss(self, model_trace: Trace, guide_trace: Trace) -> Tensor:
        """What one run contributes to the loss; a scalar, a sum over particles when vectorised."""
        loss = 0.0
        for site in guide_trace.sites("sample"):
            loss = site.log_prob_sum + loss
        for site in model_trace.sites("sample"):
            loss = loss - site.log_prob_sum
        return loss if isinstance(loss, Tensor) else torch.zeros(())

    def particle_surrogate(self, model_trace: Trace, guide_trace: Trace, loss: Tensor) -> Tensor:
        """A scalar whose gradient is what one run contributes to the loss's."""
        return loss

    def loss_of(self, runs: list[tuple[Trace, Trace]]) -> Tensor:
        """The loss that these runs estimate."""
        return self._mean([self.particle_loss(*run) for run in runs])

    def estimate(self, runs: list[tuple[Trace, Trace]]) -> tuple[Tensor, Tensor]:
        """The loss that these runs estimate, and a scalar whose gradient estimates its gradient."""
        if self.num_particles == 1:
            loss = self.particle_loss(*runs[0])
            return loss, self.particle_surrogate(*runs[0], loss)
        losses = [self.particle_loss(*run) for run in runs]
        surrogates = [
            self.particle_surrogate(*run, loss) for run, loss in zip(runs, losses, strict=True)
        ]
        loss = self._mean(losses)
        same = all(ours is theirs for ours, theirs in zip(surrogates, losses, strict=True))
        return loss, loss if same else self._mean(surrogates)

    def _mean(self, terms: list[Tensor]) -> Tensor:
        total = terms[0] if len(terms) == 1 else torch.stack(terms).sum()
        return total if self.num_particles == 1 else total / self.num_particles

    # -- runs --------------------------------------------------------------------------------
    def runs(
        self, model: Callable, guide: Callable, *args, **kwargs
    ) -> Iterator[tuple[Trace, Trace]]:
        """The runs that an estimate is made of: traces of model and guide."""
        if self.num_particles == 1 or not self.vectorize_particles:
            for _ in range(self.num_particles):
                yield self.traces(model, guide, *args, **kwargs)
            return
        if self.max_plate_nesting == math.inf:
            self.max_plate_nesting = plate_nesting(model, guide, *args, **kwargs)
        particles = plate(_PARTICLES, self.num_particles, dim=-self.max_plate_nesting - 1)
        yield self.traces(particles(model), particles(guide), *args, **kwargs)

    def traces(self, model: Callable, guide: Callable, *args, **kwargs) -> tuple[Trace, Trace]:
        """A run of the guide, and one of the model that takes the guide's draws."""
        with trace() as recorder:
            returned = called("guide", guide, args, kwargs)
        guide_trace = recorder.trace
        try:
            with trace() as recorder, replay(trace=guide_trace):
                called("model", model, args, kwargs)
        except (errors.ShapeError, errors.DistributionError, errors.ModelError) as fault:
            check_sites(recorder.trace, guide_trace, fault.statement)  # the likelier cause first
            raise
        model_trace = recorder.trace
        check_match(model_trace, guide_trace, returned)
        model_trace.check_plates()
        guide_trace.check_plates()
        return model_trace, guide_trace


class Trace_ELBO(ELBO):  # noqa: N801
    """ELBO for any model and guide, estimated from draws of the guide.

    Gradients flow through draws that are differentiable; for others the score function is used,
    each site's with only those terms that share its plates. A site's `infer={"baseline": {...}}`
    lowers the variance further (Mnih and Gregor, 2014, "Neural variational inference and learning
    in belief networks"): `use_decaying_avg_baseline` and `baseline_beta` (0.9), `baseline_value`,
    or `nn_baseline` and `nn_baseline_input`.

    Args:
        num_particles, max_plate_nesting, vectorize_particles: see `ELBO`.

    >>> import pplkit, pplkit.distributions as dist
    >>> def model():
    ...     pplkit.sample("z", dist.Normal(0.0, 1.0))
    >>> abs(Trace_ELBO().loss(model, model))  # the guide is the posterior: no evidence, no gap
    0.0
    """

    def particle_surrogate(self, model_trace, guide_trace, loss):
        scored = [site for site in guide_trace.sites("sample") if not site.fn.has_rsample]
        if not scored:
            return loss
        terms = self._terms(model_trace, guide_trace)
        log_q = (s.log_prob_sum for s in guide_trace.sites("sample") if s.fn.has_rsample)
        surrogate = sum(log_q, -model_trace.log_prob_sum())
        for site in scored:
            cost = _summed_to(site, [term for term in terms if self._influences(site, term[1])])
            cost, baseline_loss = with_baseline(site, cost)
            surrogate = surrogate - (cost * site.score_parts.score_function).sum() + baseline_loss
        return surrogate

    def _terms(self, model_trace: Trace, guide_trace: Trace) -> list[tuple[Message, Tensor]]:
        """The summands of the ELBO, without gradients, each with the site it belongs to."""
        terms = [(site, site.log_prob.detach()) for site in model_trace.sites("sample")]
        return terms + [(site, -site.log_prob.detach()) for site in guide_trace.sites("sample")]

    def _influences(self, site: Message, term: Tensor) -> bool:
        """Whether a summand of the ELBO may depend on the site's draw."""
        return True


class JitTrace_ELBO(Trace_ELBO):  # noqa: N801
    """`Trace_ELBO`, under the name that it has in Pyro when its steps are traced by torch.jit.

    Here steps run as they are.

    >>> JitTrace_ELBO(ignore_jit_warnings=True).num_particles
    1
    """


def _summed_to(site: Message, terms: list[tuple[Message, Tensor]]) -> Tensor:
    """The terms that `site` can influence, summed to its own shape.

    Rows of a plate are independent: of a term inside the site's plates only the same row counts,
    and plates that the site does not stand in are summed over.
    """
    mine = {frame.dim: frame for frame in site.plates if frame.vectorized}
    loops = {(f.name, f.counter) for f in site.plates if not f.vectorized}
    total = site.log_prob.new_zeros(site.log_prob.shape)
    for other, log_prob in terms:
        theirs = {(f.name, f.counter) for f in other.plates if not f.vectorized}
        if any(name == n and counter != c for name, counter in loops for n, c in theirs):
            continue
        total = total + _summed_outside(log_prob, other.plates, mine)
    return total


def _summed_outside(
    log_prob: Tensor, plates: tuple[PlateFrame, ...], mine: dict[int, PlateFrame]
) -> Tensor:
    outside = [
        f.dim for f in plates if f.vectorized and mine.get(f.dim) != f and log_prob.dim() >= -f.dim
    ]
    if outside:
        log_prob = log_prob.sum(outside, keepdim=True)
    while log_prob.dim() > max((-dim for dim in mine), default=0) and log_prob.shape[0] == 1:
        log_prob = log_prob.squeeze(0)
    return log_prob


def plate_nesting(model: Callable, guide: Callable | None, *args, **kwargs) -> int:
    """How many batch dimensions the plates of a model and its guide take; by one run of both.

    >>> import pplkit, pplkit.distributions as dist
    >>> def model():
    ...     with pplkit.plate("rows", 3, dim=-2):
    ...         pplkit.sample("x", dist.Normal(0.0, 1.0))
    >>> plate_nesting(model, None)
    2
    """
    with torch.no_grad(), block(), aside():
        traces = [trace(guide).get_trace(*args, **kwargs)] if guide is not None else []
        run = replay(model, trace=traces[0]) if traces else model
        traces.append(trace(run).get_trace(*args, **kwargs))
    for run in traces:
        run.check_plates()
    dims = [f.dim for t in traces for s in t.sites("sample") for f in s.plates if f.vectorized]
    return -min(dims, default=0)


def called(label: str, fn: Callable, args: tuple, kwargs: dict) -> Any:
    """Call model or guide; arguments that it does not take are told as such."""
    try:
        return fn(*args, **kwargs)
    except TypeError as fault:
        if isinstance(fault, errors.PplkitError):
            raise
        signature = unfit_signature(fn, args, kwargs)
        if signature is None:
            raise
        raise errors.arguments_do_not_fit(label, fn, args, kwargs, signature) from fault


def unfit_signature(fn: Callable, args: tuple, kwargs: dict) -> inspect.Signature | None:
    """What a function takes, where the arguments do not fit it; None where they do."""
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return signature
    return None


def check_match(model_trace: Trace, guide_trace: Trace, returned: Any = None) -> None:
    """Raise if guide and model differ in their unobserved sites, or in how these are drawn."""
    check_sites(model_trace, guide_trace)
    for site in guide_trace.sites("sample"):
        if site.is_observed or site.infer.get("is_auxiliary"):
            continue
        there = model_trace.nodes.get(site.name)
        if there is None or there.type != "sample" or there.is_observed:
            errors.tell(errors.guide_site_missing(site, _drawn(model_trace), there))
    drawn = set(_drawn(guide_trace))
    for site in model_trace.sites("sample"):
        if site.is_observed or site.name in drawn or site.infer.get("is_auxiliary"):
            continue
        if "_enumerate_dim" in site.infer:  # summed out
            continue
        there = guide_trace.nodes.get(site.name)
        missing = errors.model_site_missing(site, _drawn(guide_trace), there, returned)
        if there is None or not there.is_observed:  # else the guide observes it: that is told
            errors.tell(missing)


def check_sites(model_trace: Trace, guide_trace: Trace, stopped_at: Message | None = None) -> None:
    """Raise if a site of the guide observes, or has another shape or support than the model's.

    `stopped_at`: the model's statement that its run did not get beyond.
    """
    for theirs in guide_trace.sites("sample"):
        ours = model_trace.nodes.get(theirs.name)
        if ours is None and stopped_at is not None and stopped_at.name == theirs.name:
            ours = stopped_at
        if theirs.is_observed:
            if not isinstance(theirs.fn, Unit) and not theirs.infer.get("is_auxiliary"):
                swapped = not model_trace.observation_nodes
                errors.tell(errors.guide_observes(theirs, swapped))
            continue
        if ours is None or ours.type != "sample" or ours.is_observed:
            continue
        if _shape(ours) != _shape(theirs) or ours.fn.event_dim != theirs.fn.event_dim:
            errors.tell(errors.guide_shape(ours, theirs))
        elif ours.plates != theirs.plates:
            _check_subsamples(ours, theirs)
        if _family(ours.fn) is not _family(theirs.fn) and exceeds(theirs.fn, ours.fn):
            errors.tell(errors.guide_support(ours, theirs))


def _shape(site: Message) -> torch.Size:
    """The shape of a site's draw, less the dimensions of enumeration."""
    seen = site.infer.get("_enumerated")
    if not seen:
        return site.fn.shape()
    batch = site.fn.batch_shape[max(0, len(site.fn.batch_shape) + max(seen) + 1) :]
    while batch and batch[0] == 1:
        batch = batch[1:]
    return batch + site.fn.event_shape


def _check_subsamples(ours: Message, theirs: Message) -> None:
    frames = {frame.dim: frame for frame in theirs.plates if frame.vectorized}
    for frame in ours.plates:
        other = frames.get(frame.dim)
        if other is None or other.name == frame.name or not frame.vectorized:
            continue
        if frame.size != frame.full_size or other.size != other.full_size:
            errors.tell(errors.guide_subsample(ours, frame, other, theirs))


_NOT_ALL_REAL = ("Simplex", "Cholesky", "Definite", "CorrMatrix", "Sphere", "Ordered", "Boolean")


def exceeds(guide_fn: Distribution, model_fn: Distribution) -> bool:
    """Whether the guide draws any real number where the model asks for some of them alone."""
    if type(guide_fn).__name__ == "Delta":
        return False  # one value, which is looked at by itself
    theirs, ours = _base(guide_fn.support), _base(model_fn.support)
    if theirs is not constraints.real or ours is constraints.real:
        return False
    bounded = hasattr(ours, "lower_bound") or hasattr(ours, "upper_bound")
    return bounded or any(word in type(ours).__name__ for word in _NOT_ALL_REAL)


def _family(fn: Distribution) -> type:
    while isinstance(fn, Independent):
        fn = fn.base_dist
    return type(fn)


def _base(support: constraints.Constraint) -> constraints.Constraint:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def _drawn(run: Trace) -> list[str]:
    return [s.name for s in run.sites("sample") if not s.is_observed]
