"""The handlers: many worlds of one program.

Each is one small class, used as `handler(model, ...)`, as a decorator, or in a `with`. Read
`effects.Handler` first; writing one's own takes two methods at most.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from . import errors
from .distributions import Distribution, Unit, adopt
from .effects import Handler, Message, perform
from .enumeration import enum  # noqa: F401
from .names import given_names
from .primitives import as_value
from .randomness import Generators
from .trace import Trace


class trace(Handler):
    """Record the run: `trace(model).get_trace(*args)`, or `with trace() as t:` and `t.trace`.

    Args:
        fn: the model.
        graph_type: accepted for Pyro's sake; there is one kind of trace.
        param_only: record parameters alone.

    Raises:
        ModelError: a name used twice.

    >>> import pplkit, pplkit.distributions as dist
    >>> tr = trace(lambda: pplkit.sample("x", dist.Normal(0.0, 1.0))).get_trace()
    >>> bool(tr.nodes["x"].value == tr.nodes["_RETURN"].value)
    True
    """

    remembers_plates = True

    def __init__(self, fn=None, graph_type: str | None = None, param_only: bool = False):
        super().__init__(fn)
        self.param_only = param_only
        self.trace = Trace()

    def __enter__(self):
        self.trace = Trace()
        return super().__enter__()

    def __call__(self, *args, **kwargs):
        if self.fn is None:
            return super().__call__(*args, **kwargs)
        with self:
            self.trace.add(Message("args", "_INPUT", None, args, kwargs))
            result = self.fn(*args, **kwargs)
            self.trace.add(Message("return", "_RETURN", None, value=result))
        return result

    def get_trace(self, *args, **kwargs) -> Trace:
        """Run the model; return what happened."""
        self(*args, **kwargs)
        return self.trace

    def process_message(self, msg: Message) -> None:
        known = self.trace.nodes.get(msg.name)
        if known is None or msg.type == known.type == "param" or not self._records(msg):
            return
        if msg.type == known.type == "plate":
            if msg.fn != known.fn:
                errors.tell(errors.plate_resized(msg, known))
            elif msg.value is None:
                msg.value = known.value
        else:
            errors.tell(errors.duplicate_site(msg, known))
            # Only where `check` looks for more is there a further line: the site stands by itself.
            msg.name, msg.infer = f"{msg.name} (again)", {**msg.infer, "is_auxiliary": True}

    def postprocess_message(self, msg: Message) -> None:
        if self._records(msg):
            self.trace.add(msg.__copy__())  # handlers further in may still change it

    def _records(self, msg: Message) -> bool:
        return msg.type == "param" or (msg.type != "subsample" and not self.param_only)


class replay(Handler):
    """Repeat a run: sites that the other trace has take its values, the rest are drawn afresh.

    Args:
        fn: the model.
        trace: the run to repeat, as from `trace(model).get_trace()`.
        params: values for parameters, by name.

    >>> import pplkit, pplkit.distributions as dist
    >>> model = lambda: pplkit.sample("x", dist.Normal(0.0, 1.0))
    >>> tr = pplkit.handlers.trace(model).get_trace()
    >>> bool(replay(model, trace=tr)() == tr.nodes["x"].value)
    True
    """

    def __init__(
        self, fn=None, trace: Trace | None = None, params: Mapping[str, Tensor] | None = None
    ):
        super().__init__(fn)
        if trace is None and params is None:
            raise errors.missing_argument(
                "replay", "trace=", "a Trace, as from trace(model).get_trace()"
            )
        if trace is not None and not hasattr(trace, "nodes"):
            raise errors.wrong_argument(
                "replay", "trace=", trace, "a Trace, as from trace(model).get_trace()"
            )
        self.trace, self.params = trace, params
        if params is not None:
            self.given_names = given_names(self, params, lambda msg: msg.type == "param")

    def process_message(self, msg: Message) -> None:
        self._note(msg)
        if msg.type == "param" and self.params is not None and msg.name in self.params:
            msg.value, msg.given_by = self.params[msg.name], self
            return
        then = self.trace.nodes.get(msg.name) if self.trace is not None else None
        if then is None or msg.is_observed or msg.done or msg.type not in ("sample", "plate"):
            return
        if then.type != msg.type or then.is_observed:
            raise errors.replayed_site_differs(msg, then)
        if msg.type == "sample":
            msg.infer = {**msg.infer, **_kept(then.infer)}
        msg.value, msg.given_by = then.value, then


def _kept(infer: dict) -> dict:
    # What a site stands in, its own run says.
    own = ("is_auxiliary", "_markov_scope", "_markov_depth")
    return {key: value for key, value in infer.items() if key not in own}


class condition(Handler):
    """Observe named sites: as if the model had `obs=` there.

    Args:
        fn: the model.
        data: values by name (a dictionary, or a Trace, whose drawn values are taken); None: not
            observed.

    >>> import pplkit, pplkit.distributions as dist
    >>> model = lambda: pplkit.sample("x", dist.Normal(0.0, 1.0))
    >>> tr = trace(condition(model, data={"x": torch.tensor(2.0)})).get_trace()
    >>> tr.nodes["x"].value, tr.nodes["x"].is_observed
    (tensor(2.), True)
    """

    def __init__(self, fn=None, data: Mapping[str, Any] | Trace | None = None):
        super().__init__(fn)
        self.data = _by_name("condition", data)
        self.given_names = given_names(self, self.data, _is_sample)

    def process_message(self, msg: Message) -> None:
        self._note(msg)
        if msg.type == "sample" and msg.name in self.data:
            value = self.data[msg.name]
            msg.value = None if value is None else as_value(msg.name, value)
            msg.is_observed, msg.given_by = value is not None, self


def _is_sample(msg: Message) -> bool:
    return msg.type == "sample"


def _by_name(handler: str, data: Any) -> Mapping[str, Any]:
    if isinstance(data, Trace):
        return {name: data.nodes[name].value for name in data.stochastic_nodes}
    if not isinstance(data, Mapping):
        raise errors.wrong_argument(
            handler,
            "data=",
            data,
            "values by the names of their sites",
            f'give a dictionary: {handler}(model, data={{"x": torch.tensor(1.)}})',
        )
    return data


class uncondition(Handler):
    """Draw observed sites afresh: the model before it saw the data.

    >>> import pplkit, pplkit.distributions as dist
    >>> model = lambda: pplkit.sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(9.0))
    >>> bool(uncondition(model)() == 9.0)
    False
    """

    def process_message(self, msg: Message) -> None:
        if msg.type == "sample" and msg.is_observed and not isinstance(msg.fn, Unit):
            msg.infer.update(was_observed=True, obs=msg.value)
            msg.is_observed, msg.value, msg.done = False, None, False


class do(Handler):
    """Intervene: what follows sees the given values, and tells nothing about these sites.

    The site itself is still drawn from its distribution, as handlers further out see it; handlers
    further in see `<name>__CF`, fixed at the given value.

    Args:
        fn: the model.
        data: values by name.

    >>> import pplkit, pplkit.distributions as dist
    >>> def model():
    ...     x = pplkit.sample("x", dist.Normal(0.0, 1.0))
    ...     return pplkit.sample("y", dist.Delta(x))
    >>> do(model, data={"x": torch.tensor(3.0)})()
    tensor(3.)
    """

    def __init__(self, fn=None, data: Mapping[str, Any] | None = None):
        super().__init__(fn)
        self.data = _by_name("do", data)
        self.given_names = given_names(self, self.data, _is_sample)

    def process_message(self, msg: Message) -> None:
        self._note(msg)
        if msg.type != "sample" or self.data.get(msg.name) is None:
            return
        perform(copy.copy(msg), outside=self)
        msg.value, msg.given_by = as_value(msg.name, self.data[msg.name]), self
        msg.name, msg.is_observed, msg.stop = f"{msg.name}__CF", True, True


class substitute(Handler):
    """Put values in the place of parameters and of drawn sites, without observing them.

    (Pyro's touches parameters alone; sites it does not know are left as they are in both.)

    Args:
        fn: the model.
        data: values by name.

    >>> import pplkit, pplkit.distributions as dist
    >>> model = lambda: pplkit.param("loc", torch.tensor(0.0))
    >>> substitute(model, data={"loc": torch.tensor(1.5)})()
    tensor(1.5000)
    """

    def __init__(self, fn=None, data: Mapping[str, Any] | None = None):
        super().__init__(fn)
        self.data = _by_name("substitute", data)
        self.given_names = given_names(self, self.data, self._concerns)

    @staticmethod
    def _concerns(msg: Message) -> bool:
        return msg.type in ("sample", "param") and not msg.is_observed

    def process_message(self, msg: Message) -> None:
        self._note(msg)
        if msg.name in self.data and self._concerns(msg):
            msg.value, msg.given_by = as_value(msg.name, self.data[msg.name]), self


class block(Handler):
    """Hide sites from the handlers further out. Without arguments, hide all.

    Args:
        fn: the model.
        hide_fn, expose_fn: functions of a message: which to hide, or which alone to show.
        hide, expose: names.
        hide_types, expose_types: types of statement: "sample" (drawn), "observe", "param", "plate".

    >>> import pplkit, pplkit.distributions as dist
    >>> def model():
    ...     pplkit.sample("x", dist.Normal(0.0, 1.0))
    ...     pplkit.sample("y", dist.Normal(0.0, 1.0))
    >>> trace(block(model, hide=["x"])).get_trace().stochastic_nodes
    ['y']
    """

    def __init__(
        self,
        fn=None,
        hide_fn: Callable[[Message], bool] | None = None,
        expose_fn: Callable[[Message], bool] | None = None,
        hide_all: bool = True,
        expose_all: bool = False,
        hide: Iterable[str] | None = None,
        expose: Iterable[str] | None = None,
        hide_types: Iterable[str] | None = None,
        expose_types: Iterable[str] | None = None,
    ):
        super().__init__(fn)
        hiding, showing = (hide_fn, hide, hide_types), (expose_fn, expose, expose_types)
        if any(x is not None for x in hiding) and any(x is not None for x in showing):
            given = {"hide_fn": hide_fn, "hide": hide, "hide_types": hide_types}
            given |= {"expose_fn": expose_fn, "expose": expose, "expose_types": expose_types}
            raise errors.block_both_ways(given)
        for label, names in (("hide", hide), ("expose", expose)):
            if isinstance(names, str):
                raise errors.wrong_argument(
                    "block",
                    f"{label}=",
                    names,
                    "a list of names",
                    f"put the name in a list: {label}=[{names!r}]",
                )
        self.hide_fn, self.expose_fn = hide_fn, expose_fn
        self.hide, self.hide_types = set(hide or ()), set(hide_types or ())
        self.expose, self.expose_types = set(expose or ()), set(expose_types or ())
        self.by_default = not any(x is not None for x in hiding) and hide_all and not expose_all
        named = self.hide | self.expose
        self.given_names = given_names(self, named, lambda msg: True, met_if_hidden=bool(hide))

    def process_message(self, msg: Message) -> None:
        self._note(msg)
        if self.expose_fn is not None:
            hidden = not self.expose_fn(msg)
        elif self.expose or self.expose_types:
            hidden = msg.name not in self.expose and _kind(msg) not in self.expose_types
        elif self.hide_fn is not None:
            hidden = self.hide_fn(msg)
        else:
            hidden = self.by_default or msg.name in self.hide or _kind(msg) in self.hide_types
        msg.stop = msg.stop or bool(hidden)


def _kind(msg: Message) -> str:
    return "observe" if msg.type == "sample" and msg.is_observed else msg.type


class mask(Handler):
    """Let log-probabilities count only where the mask is true.

    Args:
        fn: the model.
        mask: a bool, or a boolean tensor that broadcasts with the plates.

    >>> import pplkit, pplkit.distributions as dist
    >>> model = lambda: pplkit.sample("x", dist.Normal(torch.zeros(2), 1.0), obs=torch.zeros(2))
    >>> trace(mask(model, mask=torch.tensor([True, False]))).get_trace().nodes["x"].log_prob
    tensor([-0.9189,  0.0000])
    """

    def __init__(self, fn=None, mask: bool | Tensor | None = None):
        super().__init__(fn)
        if not isinstance(mask, bool) and not (
            isinstance(mask, Tensor) and mask.dtype == torch.bool
        ):
            raise errors.wrong_argument(
                "mask",
                "mask=",
                mask,
                "True, False, or a tensor of booleans",
                "compare, as in mask > 0; numbers that multiply go to scale",
            )
        self.mask = mask

    def process_message(self, msg: Message) -> None:
        if msg.type == "plate":
            return
        try:
            msg.mask = self.mask if msg.mask is None else msg.mask & self.mask
        except RuntimeError as fault:
            raise errors.weights_apart("mask", msg, msg.mask, self.mask) from fault


class scale(Handler):
    """Multiply log-probabilities.

    Args:
        fn: the model.
        scale: a positive number, or a tensor that broadcasts with the plates.

    >>> import pplkit, pplkit.distributions as dist
    >>> model = lambda: pplkit.sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))
    >>> round(trace(scale(model, scale=2.0)).get_trace().log_prob_sum().item(), 4)
    -1.8379
    """

    def __init__(self, fn=None, scale: float | Tensor | None = None):
        super().__init__(fn)
        number = isinstance(scale, (int, float)) and not isinstance(scale, bool)
        if not isinstance(scale, Tensor) and not (number and scale > 0):
            raise errors.wrong_argument("scale", "scale=", scale, "a positive number or a tensor")
        self.scale = float(scale) if number else scale

    def process_message(self, msg: Message) -> None:
        if msg.type == "plate":
            return
        try:
            msg.scale = self.scale * msg.scale
        except RuntimeError as fault:
            raise errors.weights_apart("scale", msg, msg.scale, self.scale) from fault


class seed(Handler):
    """Draw from random streams of one's own: every run inside starts from the same seed.

    Only this context's draws are concerned: statements, and draws from pplkit's distributions.
    Torch's global generator, other threads and other tasks are untouched.

    Args:
        fn: the model.
        rng_seed: a whole number, 0 ≤ rng_seed < 2³².

    >>> import pplkit, pplkit.distributions as dist
    >>> model = seed(lambda: pplkit.sample("x", dist.Normal(0.0, 1.0)), rng_seed=0)
    >>> bool(model() == model())
    True
    """

    def __init__(self, fn=None, rng_seed: int | None = None):
        super().__init__(fn)
        if isinstance(rng_seed, Tensor) and rng_seed.dim() == 0:
            rng_seed = int(rng_seed)
        if (
            isinstance(rng_seed, bool)
            or not hasattr(rng_seed, "__index__")
            or not 0 <= rng_seed < 2**32
        ):
            raise errors.wrong_argument(
                "seed", "rng_seed=", rng_seed, "a whole number from 0 to 2**32 - 1"
            )
        self.rng_seed = int(rng_seed)

    def activation(self) -> Handler:
        return _Seeded(Generators(self.rng_seed))


class _Seeded(Handler):
    def __init__(self, generators: Generators):
        super().__init__()
        self.generators = generators


class lift(Handler):
    """Turn parameters into random variables.

    Args:
        fn: the model.
        prior: a distribution for every parameter, or distributions by name.

    >>> import pplkit, pplkit.distributions as dist
    >>> model = lambda: pplkit.param("loc", torch.tensor(0.0))
    >>> trace(lift(model, prior=dist.Normal(0.0, 1.0))).get_trace().stochastic_nodes
    ['loc']
    """

    def __init__(self, fn=None, prior: Callable | Mapping[str, Callable] | None = None):
        super().__init__(fn)
        if not isinstance(prior, Mapping) and not callable(prior):
            expected = "a distribution, or distributions by name"
            raise errors.wrong_argument("lift", "prior=", prior, expected)
        self.prior = prior
        self.drawn: dict[str, Message] = {}
        named = prior if isinstance(prior, Mapping) else ()
        self.given_names = given_names(self, named, lambda msg: msg.type == "param")

    def activation(self) -> Handler:
        run = copy.copy(self)
        run.drawn = {}
        return run

    def process_message(self, msg: Message) -> None:
        self._note(msg)
        prior = self.prior.get(msg.name) if isinstance(self.prior, Mapping) else self.prior
        if msg.type != "param" or prior is None:
            return
        if msg.name in self.drawn:  # read again: the same variable
            msg.value, msg.kwargs, msg.stop = self.drawn[msg.name].value, {}, True
            return
        if isinstance(prior, torch.distributions.Distribution):
            msg.fn = prior if isinstance(prior, Distribution) else adopt(prior)
            msg.type, msg.args, msg.kwargs = "sample", (), {}
            self.drawn[msg.name] = msg
        else:  # a stochastic function has sites of its own
            msg.value, msg.kwargs = prior() if msg.value is None else msg.value, {}
            msg.stop = True


class infer_config(Handler):
    """Set the advice to inference algorithms, site by site.

    Args:
        fn: the model.
        config_fn: from a site to a dictionary that is added to its `infer`.

    >>> import pplkit, pplkit.distributions as dist
    >>> model = lambda: pplkit.sample("x", dist.Normal(0.0, 1.0))
    >>> tr = trace(infer_config(model, config_fn=lambda site: {"note": site.name})).get_trace()
    >>> tr.nodes["x"].infer
    {'note': 'x'}
    """

    def __init__(self, fn=None, config_fn: Callable[[Message], dict] | None = None):
        super().__init__(fn)
        if not callable(config_fn):
            expected = "a function from a site to a dictionary"
            raise errors.wrong_argument("infer_config", "config_fn=", config_fn, expected)
        self.config_fn = config_fn

    def process_message(self, msg: Message) -> None:
        if msg.type in ("sample", "param"):
            msg.infer.update(self.config_fn(msg))


class scope(Handler):
    """Put a prefix before the names of sites, so that a model can be used twice in another.

    Parameters keep their names: they are shared.

    Args:
        fn: the model.
        prefix: put before each name, and a slash; the function's own name, unless told.

    >>> import pplkit, pplkit.distributions as dist
    >>> model = lambda: pplkit.sample("x", dist.Normal(0.0, 1.0))
    >>> trace(scope(model, prefix="left")).get_trace().stochastic_nodes
    ['left/x']
    """

    def __init__(self, fn=None, prefix: str | None = None):
        super().__init__(fn)
        if prefix is not None and not isinstance(prefix, str):
            raise errors.wrong_argument("scope", "prefix=", prefix, "a string")
        self.prefix = prefix

    def process_message(self, msg: Message) -> None:
        prefix = getattr(self.fn, "__name__", None) if self.prefix is None else self.prefix
        if prefix is None:
            raise errors.missing_argument("scope", "prefix=", "a string, or a function with a name")
        if msg.type not in ("param", "subsample"):
            msg.name = f"{prefix}/{msg.name}"


class reparam(Handler):
    """Replace variables by others that are easier to infer, of which they are functions.

    Only what is inferred: an observed site in `config` is refused.

    Args:
        fn: the model.
        config: strategies by name (see `pplkit.infer.reparam`), or a function from a site to a
            strategy or None.

    >>> import pplkit, pplkit.distributions as dist
    >>> from pplkit.infer.reparam import LocScaleReparam
    >>> model = lambda: pplkit.sample("x", dist.Normal(5.0, 2.0))
    >>> tr = trace(reparam(model, config={"x": LocScaleReparam(0.0)})).get_trace()
    >>> tr.stochastic_nodes
    ['x_decentered']
    """

    def __init__(self, fn=None, config: Mapping[str, Any] | Callable | None = None):
        super().__init__(fn)
        if not isinstance(config, Mapping) and not callable(config):
            raise errors.wrong_argument("reparam", "config=", config, "strategies by name")
        self.config = config
        named = config if isinstance(config, Mapping) else ()
        self.given_names = given_names(self, named, _is_sample)

    def process_message(self, msg: Message) -> None:
        self._note(msg)
        if msg.type != "sample":
            return
        by_name = isinstance(self.config, Mapping)
        strategy = self.config.get(msg.name) if by_name else self.config(msg)
        if strategy is not None:
            strategy.apply(msg)
