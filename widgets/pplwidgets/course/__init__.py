"""The figures of the course, one module each: an idea that a reader gets by dragging."""

from .coins import bernoulli_plate
from .conjugate import beta_bernoulli, gamma_poisson
from .explorer import distribution_explorer
from .functions import prior_over_functions
from .gradients import gradient_estimators
from .graph import model_graph
from .plates import plate_explorer
from .player import svi_player
from .predictive import posterior_predictive_check
from .stepper import stepper

__all__ = [
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
]
