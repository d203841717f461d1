"""Inference: from a model and data to what is known of the rest."""

from .elbo import Trace_ELBO
from .svi import SVI, SVIRunResult

__all__ = ["SVI", "SVIRunResult", "Trace_ELBO"]
