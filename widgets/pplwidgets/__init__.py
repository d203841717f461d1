"""Live figures for notebooks and books: a function of controls, a chart that draws it, nothing
more. Beside them stand the figures of the course, ready-made.
"""

import importlib

from .figure import LiveFigure, live
from .ready import prior_to_posterior

# Figures of the course: their modules are imported when they are asked for.
_COURSE = (
    "bernoulli_plate",
    "beta_bernoulli",
    "distribution_explorer",
    "gamma_poisson",
    "gradient_estimators",
    "model_graph",
    "plate_explorer",
    "posterior_predictive_check",
    "prior_over_functions",
    "stepper",
    "svi_player",
)
__all__ = ["LiveFigure", "live", "prior_to_posterior", *_COURSE]


def __getattr__(name: str):
    if name not in _COURSE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.course"), name)
