"""Stochastic variational inference: move the guide's parameters until its ELBO stops rising."""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import checks, errors
from ..effects import Handler, Message, scale_and_mask
from ..optim import Optimizer, as_optimizer
from ..params import ParamStore, get_param_store
from ..randomness import NOISE_GIVEN
from .feed import Feed
from .race import Race

# `run` looks at its steps' outcomes together: after this many, or this many seconds.
_TOGETHER, _SECONDS = 100, 0.1


class SVIRunResult(NamedTuple):
    """What a run has reached.

    Attributes:
        params: constrained values of the parameters, detached, by name.
        losses: the loss of each step, shape `(num_steps,)`, on the device where it was computed.

    >>> SVIRunResult(params={}, losses=torch.zeros(0)).losses
    tensor([])
    """

    params: dict[str, Tensor]
    losses: Tensor


class _Outcome(NamedTuple):
    """What one evaluation of the loss has found; nothing of it has been looked at yet."""

    loss: Tensor
    checked: Tensor  # the loss; NaN unless it and the gradients are finite, and all questions hold
    leaves: Mapping[str, Tensor]
    grads: dict[str, Tensor]
    questions: list[checks.Question]


class SVI:
    """Fit a guide to a model's posterior.

    Args:
        model, guide: functions of the same arguments.
        optim: as `optim.Adam({"lr": 0.01})`; or a class of `torch.optim`, or an object of one, that
            holds all the parameters that the program reads.
        loss: as `Trace_ELBO()`; or a function of model, guide and their arguments that returns a
            scalar tensor.
        params: a `ParamStore` to keep the parameters in; unless told, the one that is current at
            each call. One's own (`params=ParamStore()`) makes the fit independent of what other
            cells of a notebook have left behind; `with svi.params:` puts it in force, to use a
            guide by itself.

    >>> import pplkit, pplkit.distributions as dist
    >>> from pplkit.infer import Trace_ELBO
    >>> from pplkit.optim import Adam
    >>> def model(x):
    ...     z = pplkit.sample("z", dist.Normal(0.0, 1.0))
    ...     pplkit.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> def guide(x):
    ...     loc = pplkit.param("loc", torch.tensor(0.0))
    ...     pplkit.sample("z", dist.Normal(loc, 0.7071))
    >>> with pplkit.handlers.seed(rng_seed=0):
    ...     svi = SVI(model, guide, Adam({"lr": 0.05}), Trace_ELBO(), params=pplkit.ParamStore())
    ...     result = svi.run(200, torch.tensor(2.0))
    >>> bool((result.params["loc"] - 1.0).abs() < 0.1)
    True
    """

    def __init__(
        self,
        model: Callable,
        guide: Callable,
        optim: Optimizer,
        loss: Any,
        *,
        params: ParamStore | None = None,
    ):
        for label, thing in (("model", model), ("guide", guide)):
            if not callable(thing):
                called = f"the function itself: {label}, not {label}(...), which runs it"
                raise errors.wrong_argument("SVI", f"{label}=", thing, "a function", called)
        self.optim = as_optimizer(optim)
        if self.optim is None:
            made = 'give one of pplkit.optim, as Adam({"lr": 0.01})'
            raise errors.wrong_argument("SVI", "optim=", optim, "an optimiser", made)
        usable = hasattr(loss, "loss_and_surrogate") or callable(loss)
        if isinstance(loss, type) or not usable:
            made = "make one of its class, with brackets: Trace_ELBO()"
            raise errors.wrong_argument("SVI", "loss=", loss, "an instance", made)
        if params is not None and not isinstance(params, ParamStore):
            raise errors.wrong_argument("SVI", "params=", params, "a ParamStore, as ParamStore()")
        self.model, self.guide, self.loss, self.params = model, guide, loss, params
        self._steps = 0
        # Whether steps draw by torch's samplers outside distributions; None: not yet seen.
        self._draws_outside: bool | None = None
        self._told = False  # whether what is amiss with its parameters has been told
        self._names: dict[str, None] = {}

    def step(self, *args, **kwargs) -> float:
        """Take one gradient step; return the loss before it.

        Raises:
            InferenceError: a loss or gradient that is not finite. Parameters stay as they were
                before the step.
        """
        with self._stored() as store:
            outcome, value = self._looked_at(self._steps + 1, args, kwargs)
            self.optim.move(outcome.leaves, outcome.grads)
            self._taken(outcome)
            store.settle()
        return value

    def evaluate_loss(self, *args, **kwargs) -> float:
        """An estimate of the loss; no step is taken."""
        with self._stored(), torch.no_grad():
            if hasattr(self.loss, "loss"):
                return self.loss.loss(self.model, self.guide, *args, **kwargs)
            return self.loss(self.model, self.guide, *args, **kwargs).item()

    def run(
        self,
        num_steps: int,
        *args,
        progress_bar: bool | None = None,
        compile: bool | str = "auto",
        callback: Callable[[int, float], Any] | None = None,
        every: int = 100,
        **kwargs,
    ) -> SVIRunResult:
        """Take many steps, without a wait for the device after each.

        Their outcomes are looked at together, after every 100 steps or tenth of a second; after a
        step that fails, none moves the parameters. Interrupting keeps the parameters reached, and a
        further run goes on with the optimiser's state. Base noise is drawn in blocks of many steps,
        so draws are others than those of `step`; they are the same whether the run is compiled or
        not, and so are losses and parameters, to rounding.

        Args:
            num_steps: 0 or more; the arguments after it are the model's.
            progress_bar: True shows one, by tqdm; None, if the program runs in a terminal.
            compile: True captures the step as one graph and makes native code of the whole loop,
                which takes about ten seconds when this machine has not seen the program before.
                "auto" begins in Python, makes native code on the side when the steps left would
                take longer than five seconds, and goes over to it; nobody waits. False: Python
                alone. Where it cannot be done, a warning says why, and the run goes on in Python.
            callback: called with the number of steps taken in this run and the loss of the last of
                them, after every `every` steps. The parameters reached are in the parameter store.
                Returning True, or raising StopIteration, ends the run there.
            every: after how many steps `callback` is called.

        Returns:
            `SVIRunResult(params, losses)`; a run that a callback has ended has fewer losses.

        Raises:
            InferenceError: a loss or gradient that is not finite, with the number of its step.
                Parameters are as they were before that step.

        >>> import pplkit, pplkit.distributions as dist
        >>> from pplkit.infer import Trace_ELBO
        >>> def model(x):
        ...     z = pplkit.sample("z", dist.Normal(0.0, 1.0))
        ...     pplkit.sample("x", dist.Normal(z, 1.0), obs=x)
        >>> def guide(x):
        ...     pplkit.sample("z", dist.Normal(pplkit.param("loc", torch.tensor(0.0)), 0.7071))
        >>> adam = pplkit.optim.Adam({"lr": 0.05})
        >>> svi = SVI(model, guide, adam, Trace_ELBO(), params=pplkit.ParamStore())
        >>> def enough(step, loss):
        ...     return svi.params["loc"] > 0.9
        >>> with pplkit.handlers.seed(rng_seed=0):
        ...     result = svi.run(1000, torch.tensor(2.0), callback=enough, every=10)
        >>> len(result.losses) < 100
        True
        """
        if NOISE_GIVEN.get() is True:  # within a function that is being captured
            from ..capture.runs import given_run

            return given_run(self, num_steps, args, kwargs, callback)
        _check_run(num_steps, compile, callback, every)
        losses, done, feed = [], 0, Feed()
        with ExitStack() as stack:
            store = stack.enter_context(self._stored())
            bar = stack.enter_context(_progress(num_steps, progress_bar))
            race = self._race(compile, store, feed, args, kwargs, callback is not None)
            stack.push(lambda kind, fault, tb: race.stop(kind is not None) if race else None)
            while done < num_steps:
                until = num_steps if callback is None else done + every - done % every
                most = min(num_steps, until) - done
                together = self._some(race, store, feed, done, most, num_steps, args, kwargs)
                if not len(together):
                    continue
                losses.append(together)
                done += len(together)
                if bar is not None:
                    bar.set_postfix(loss=f"{together[-1].item():.4g}", refresh=False)
                    bar.update(len(together))
                if callback is not None and done % every == 0:
                    if _called(callback, done, together[-1].item()):
                        break
                    if race is not None:
                        race.called()
            params = {name: store[name].detach().clone() for name in self._names if name in store}
        return SVIRunResult(params, torch.cat(losses) if losses else torch.zeros(0))

    # -- one step ----------------------------------------------------------------------------
    def _stored(self):
        """A context in which this inference's parameter store is the current one."""
        return nullcontext(get_param_store()) if self.params is None else self.params

    def _evaluated(self, watcher: _Watcher, args, kwargs) -> _Outcome:
        """The loss and its gradients; nothing has moved, and the device has not been waited for."""
        if torch.is_inference_mode_enabled():
            raise errors.inference_mode()
        with checks.asked_together() as questions, watcher, torch.enable_grad():
            if hasattr(self.loss, "loss_and_surrogate"):
                loss, surrogate = self.loss.loss_and_surrogate(
                    self.model, self.guide, *args, **kwargs
                )
            else:
                loss = surrogate = self.loss(self.model, self.guide, *args, **kwargs)
                if not isinstance(loss, Tensor) or loss.dim():
                    raise errors.loss_not_scalar(loss)
            store = get_param_store()
            read = {name: store.unconstrained(name) for name in watcher.params if name in store}
            leaves = self.optim.leaves(read)
            grads = _gradients(surrogate, leaves)
        if not self._told:
            self._tell(watcher, leaves, grads)
        loss = loss.detach()
        return _Outcome(loss, _checked(loss, grads, questions), leaves, grads, questions)

    def _looked_at(self, number: int, args, kwargs) -> tuple[_Outcome, float]:
        """An outcome with its loss as a number; raises if it is not well."""
        mark, watcher = get_param_store().mark(), _Watcher()
        outcome = self._evaluated(watcher, args, kwargs)
        value = outcome.checked.item()  # the only wait for the device
        if math.isnan(value):
            get_param_store().roll_back(mark)
            for question in outcome.questions:
                if not question.holds:
                    raise question.error()
            raise self._not_finite(outcome, number, watcher)
        return outcome, value

    def _tell(self, watcher: _Watcher, leaves, grads) -> None:
        """Warn, in the first step, of parameters that start elsewhere or can never move."""
        self._told = True
        store, past = get_param_store(), getattr(self.optim, "_leaves", {})
        said = {site.name: site for site in watcher.statements if site.type == "param"}
        others = [name for name in store.fitted_by(leaves, self.guide) if name not in past]
        leftovers = [(said[name], store[name]) for name in others if differs(said[name], store)]
        if leftovers:
            errors.warn(errors.stale_values(leftovers))
        still = [
            site
            for name, site in said.items()
            if name in leaves and name not in grads and not name.startswith(_own(self.guide))
        ]
        if still:
            errors.warn(errors.no_gradient(still))

    def _not_finite(self, outcome: _Outcome, number: int, watcher: _Watcher) -> Exception:
        """The error of a step whose loss or gradient is not finite, with all that is known."""
        culprit = watcher.culprit()
        if not torch.isfinite(outcome.loss):
            return errors.not_finite("the loss", number, culprit)
        bad = [name for name, grad in outcome.grads.items() if not torch.isfinite(grad).all()]
        if culprit is None and bad:
            return errors.bad_gradient(
                number,
                next(
                    (s for s in watcher.statements if s.type == "param" and s.name == bad[0]), None
                ),
                bad,
                outcome.grads[bad[0]],
                _born_at(watcher.statements),
            )
        return errors.not_finite("a gradient", number, culprit)

    def _taken(self, outcome: _Outcome) -> None:
        self._steps += 1
        self._names |= dict.fromkeys(outcome.leaves)

    # -- many steps --------------------------------------------------------------------------
    def _together(self, store, feed: Feed, done: int, most: int, args, kwargs) -> Tensor:
        """After `done` steps, take up to `most` more, then look at their outcomes; returns their
        losses.
        """
        most = min(most, _TOGETHER) if self.optim.guarded else 1
        mark, first, until = store.mark(), self._steps + 1, time.monotonic() + _SECONDS
        losses, oks = [], []
        while len(losses) < most:
            outcome = self._fed(feed, done + len(losses), self._evaluated, _Watcher(), args, kwargs)
            # Once something is wrong, nothing moves any more.
            ok = ~outcome.checked.isnan()
            ok = ok & oks[-1] if oks else ok
            if not self.optim.guarded and not ok:
                self._explain(first, feed, done, args, kwargs, mark)
            self.optim.move(outcome.leaves, outcome.grads, ok)
            self.optim.advance(outcome.loss)
            self._taken(outcome)
            losses.append(outcome.loss)
            oks.append(ok)
            if store.mark() != mark or time.monotonic() > until:
                break  # a new parameter stays only if its first step was well
        well = torch.stack(oks).tolist()
        if not all(well):
            failed = well.index(False)
            self._steps = first + failed - 1
            self._explain(first + failed, feed, done + failed, args, kwargs, mark)
        store.settle()
        return torch.stack(losses)

    def _race(self, wanted, store, feed, args, kwargs, called_back: bool) -> Race | None:
        if not wanted:
            return None
        given = args, kwargs
        return Race(self, store, feed, given, patient=wanted is True, called_back=called_back)

    def _some(self, race, store, feed, done, most, total, args, kwargs) -> Tensor:
        """After `done` steps, take up to `most` more, wherever that is quickest; their losses."""
        start = time.perf_counter()
        native = race.native(done, total - done) if race is not None else None
        if native is not None:
            losses = self._natively(native, store, feed, done, most, args, kwargs)
        else:
            most = 1 if race is not None and race.patient and not done else most
            losses = self._together(store, feed, done, most, args, kwargs)
        if race is not None:
            race.took(native is not None, len(losses), time.perf_counter() - start)
        return losses

    def _natively(self, native, store, feed, done, most, args, kwargs) -> Tensor:
        """As `_together`, by native code."""
        losses, well = native.take(feed, done, most)
        if not well:
            step = done + len(losses)
            self._explain(self._steps + 1, feed, step, args, kwargs, store.mark())
        return losses

    def _fed(self, feed: Feed, step: int, run: Callable, *args):
        """Run something on the noise of a step."""
        feed.at(step)
        with feed.serving(everywhere=self._draws_outside is not False):
            result = run(*args)
        self._draws_outside = feed.outside
        return result

    def _explain(self, number: int, feed: Feed, step: int, args, kwargs, mark: int) -> None:
        """Take the failed step again, with the same parameters and random numbers, and raise."""
        try:
            self._fed(feed, step, self._looked_at, number, args, kwargs)
        finally:
            get_param_store().roll_back(mark)
        raise errors.not_finite("the loss or a gradient", number, None)


class _Watcher(Handler):
    """Sees every statement of a step: which parameters it read, and where a number went wrong."""

    def __init__(self):
        super().__init__()
        self.params: dict[str, None] = {}
        self.statements: list[Message] = []

    def postprocess_message(self, msg: Message) -> None:
        if msg.type == "param":
            self.params[msg.name] = None
        self.statements.append(msg)

    def culprit(self) -> Message | None:
        """The first statement with a value or a log-probability that is not finite."""
        for site in self.statements:
            if site.type == "sample":
                well = torch.isfinite(site.value).all() and torch.isfinite(site.log_prob).all()
            elif site.type in ("param", "deterministic"):
                well = torch.isfinite(site.value).all()
            else:
                continue
            if not well:
                return site
        return None


def _own(guide: Callable) -> tuple[str, ...]:
    """How the names begin of the parameters that an automatic guide makes by itself."""
    parts = getattr(guide, "parts", None) or [guide]
    return tuple(f"{part.name}." for part in parts if isinstance(getattr(part, "name", None), str))


def differs(site: Message, store: ParamStore) -> bool:
    """Whether a parameter is elsewhere than where its statement starts it."""
    init = site.args[0]
    if init is None or isinstance(init, torch.nn.Parameter):
        return False
    return callable(init) or not torch.equal(
        torch.as_tensor(init).detach().to(store[site.name]), store[site.name].detach()
    )


def _afresh(fn) -> tuple[Any, dict[str, Tensor]]:
    """A distribution with parameters of the same values that are leaves; and those."""
    twin, leaves = copy.copy(fn), {}
    for name, value in vars(fn).items():
        if isinstance(value, torch.distributions.Distribution):
            inner, theirs = _afresh(value)
            setattr(twin, name, inner)
            leaves |= theirs
        elif isinstance(value, Tensor) and value.is_floating_point():
            leaf = value.detach().requires_grad_()
            setattr(twin, name, leaf)
            leaves[name] = leaf
    return twin, leaves


def _born_at(statements: list[Message]) -> tuple[Message, str] | None:
    """The first site whose log-probability has a gradient that is not finite, and by what."""
    for site in statements:
        if site.type != "sample":
            continue
        fn, parts = _afresh(site.fn)
        if not site.is_observed:
            parts = {"value": site.value.detach().requires_grad_(), **parts}
        with torch.enable_grad():
            density = fn.log_prob(parts.get("value", site.value))
            density = scale_and_mask(density, site.scale, site.mask).sum()
        if not parts or not density.requires_grad:
            continue
        grads = torch.autograd.grad(density, list(parts.values()), allow_unused=True)
        for name, grad in zip(parts, grads, strict=True):
            if grad is not None and not torch.isfinite(grad).all():
                return site, name
    return None


def _gradients(surrogate: Tensor, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not leaves or not surrogate.requires_grad:
        return {}
    # As torch.autograd.grad does, without what it checks for others than plain tensors: on a small
    # model that takes half as long as the gradients themselves.
    grads = _ENGINE.run_backward(
        (surrogate,),
        (torch.ones_like(surrogate),),
        False,  # keep no graph
        False,  # make none of the gradients
        tuple(leaves.values()),
        allow_unreachable=True,
        accumulate_grad=False,
    )
    return {name: grad for name, grad in zip(leaves, grads, strict=True) if grad is not None}


_ENGINE = torch.autograd.Variable._execution_engine


def _checked(loss: Tensor, grads: dict[str, Tensor], questions: list[checks.Question]) -> Tensor:
    """The loss; NaN unless it and the gradients are finite, and all questions hold."""
    total = loss
    for grad in grads.values():  # a sum is finite only if every term is
        part = grad.sum() if grad.dim() else grad
        total = total + (part if part.device == loss.device else part.to(loss.device))
    checked = loss + (total - total)
    for question in questions:
        if question.told_by_loss:
            continue
        held = question.holds
        held = held if held.device == loss.device else held.to(loss.device)
        checked = torch.where(held, checked, math.nan)
    return checked


def _check_run(num_steps, compile, callback, every) -> None:
    """Raise if these are no arguments of a run."""
    if not isinstance(num_steps, int) or isinstance(num_steps, bool) or num_steps < 0:
        whole = "a whole number, 0 or more"
        first = "the number of steps comes first, then the model's arguments: run(1000, data)"
        raise errors.wrong_argument("run", "num_steps=", num_steps, whole, first)
    if compile not in (True, False, "auto"):
        raise errors.wrong_argument("run", "compile=", compile, 'True, False or "auto"')
    if callback is not None and not callable(callback):
        expected = "a function of the number of steps and the loss"
        raise errors.wrong_argument("run", "callback=", callback, expected)
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise errors.wrong_argument("run", "every=", every, "a whole number, 1 or more")


def _called(callback: Callable, done: int, loss: float) -> bool:
    """Whether a callback wants the run to end."""
    try:
        return bool(callback(done, loss))
    except StopIteration:
        return True


def _progress(total: int, wanted: bool | None):
    """A progress bar, or None, as a context."""
    if wanted is None:
        wanted = sys.stderr is not None and sys.stderr.isatty()
        optional = True
    else:
        optional = False
    if not wanted:
        return nullcontext()
    try:
        from tqdm.auto import tqdm
    except ImportError as fault:
        if optional:
            return nullcontext()
        raise errors.missing_package("tqdm", "progress_bar=True") from fault
    return tqdm(total=total, unit="step")
