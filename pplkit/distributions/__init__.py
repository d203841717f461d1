"""Distributions, with Pyro's names: torch's families, and what a probabilistic program asks of them besides."""

from torch.distributions import biject_to, constraints, kl_divergence, transforms

from .base import Distribution, Independent, adopt
from .families import Bernoulli, Beta, Categorical, Delta, Gamma, LogNormal, Normal, Uniform, Unit

__all__ = [
    "Bernoulli", "Beta", "Categorical", "Delta", "Distribution", "Gamma", "Independent", "LogNormal", "Normal",
    "Uniform", "Unit", "adopt", "biject_to", "constraints", "kl_divergence", "transforms",
]  # fmt: skip
