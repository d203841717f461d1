"""Inference: from a model and data to what is known of the rest."""

from . import autoguide, inspect, reparam
from .elbo import ELBO, JitTrace_ELBO, Trace_ELBO
from .enum import config_enumerate, infer_discrete
from .mean_field import TraceMeanField_ELBO
from .predictive import Predictive
from .renyi import RenyiELBO
from .svi import SVI, SVIRunResult
from .traceenum import JitTraceEnum_ELBO, TraceEnum_ELBO
from .tracegraph import TraceGraph_ELBO

__all__ = [
    "ELBO",
    "SVI",
    "JitTraceEnum_ELBO",
    "JitTrace_ELBO",
    "Predictive",
    "RenyiELBO",
    "SVIRunResult",
    "TraceEnum_ELBO",
    "TraceGraph_ELBO",
    "TraceMeanField_ELBO",
    "Trace_ELBO",
    "autoguide",
    "inspect",
    "config_enumerate",
    "infer_discrete",
    "reparam",
]
