"""Inference: from a model and data to what is known of the rest."""

import importlib

from . import autoguide, inspect, reparam
from .diagnostics import to_arviz
from .elbo import ELBO, JitTrace_ELBO, Trace_ELBO
from .enum import config_enumerate, infer_discrete
from .importance import (
    EmpiricalMarginal,
    Importance,
    WeighedPredictive,
    WeighedPredictiveResults,
    psis_diagnostic,
    vectorized_importance_weights,
)
from .mean_field import TraceMeanField_ELBO
from .predictive import Predictive
from .renyi import RenyiELBO
from .smc import SMCFailed, SMCFilter, SMCState
from .svi import SVI, SVIRunResult
from .traceenum import JitTraceEnum_ELBO, TraceEnum_ELBO
from .tracegraph import TraceGraph_ELBO

__all__ = [
    "ELBO",
    "HMC",
    "MCMC",
    "NUTS",
    "SVI",
    "JitTraceEnum_ELBO",
    "JitTrace_ELBO",
    "Calibration",
    "EmpiricalMarginal",
    "Importance",
    "Predictive",
    "RenyiELBO",
    "SMCFailed",
    "SMCFilter",
    "SMCState",
    "SVIRunResult",
    "TraceEnum_ELBO",
    "TraceGraph_ELBO",
    "TraceMeanField_ELBO",
    "Trace_ELBO",
    "WeighedPredictive",
    "WeighedPredictiveResults",
    "autoguide",
    "inspect",
    "config_enumerate",
    "infer_discrete",
    "psis_diagnostic",
    "reparam",
    "simulation_based_calibration",
    "to_arviz",
    "vectorized_importance_weights",
]

# Imported when asked for.
_HOMES = {
    "Calibration": "calibration",
    "HMC": "hmc",
    "MCMC": "mcmc",
    "NUTS": "nuts",
    "simulation_based_calibration": "calibration",
}


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
