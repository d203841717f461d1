"""A compact engine for probabilistic programming, with Pyro's names."""

from . import distributions, errors, handlers, infer, optim
from . import handlers as poutine
from .checks import enable_validation, validation_enabled
from .inspect import check, render_model
from .params import ParamStore, clear_param_store, get_param_store
from .primitives import (
    deterministic,
    factor,
    markov,
    module,
    param,
    plate,
    plate_stack,
    sample,
    subsample,
)
from .randomness import set_rng_seed
from .trace import Trace

__version__ = "0.1.0"

__all__ = [
    "ParamStore",
    "Trace",
    "check",
    "clear_param_store",
    "deterministic",
    "distributions",
    "enable_validation",
    "errors",
    "factor",
    "get_param_store",
    "handlers",
    "infer",
    "markov",
    "module",
    "plate_stack",
    "subsample",
    "optim",
    "param",
    "plate",
    "poutine",
    "render_model",
    "sample",
    "set_rng_seed",
    "validation_enabled",
]
