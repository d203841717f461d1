"""Inference: from a model and data to what is known of the rest."""

from . import autoguide, reparam
from .elbo import ELBO, JitTrace_ELBO, Trace_ELBO
from .mean_field import TraceMeanField_ELBO
from .predictive import Predictive
from .renyi import RenyiELBO
from .svi import SVI, SVIRunResult
from .tracegraph import TraceGraph_ELBO

__all__ = [
    "ELBO",
    "SVI",
    "JitTrace_ELBO",
    "Predictive",
    "RenyiELBO",
    "SVIRunResult",
    "TraceGraph_ELBO",
    "TraceMeanField_ELBO",
    "Trace_ELBO",
    "autoguide",
    "reparam",
]
