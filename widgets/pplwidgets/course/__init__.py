"""The figures of the course, one module each: an idea that a reader gets by dragging."""

import importlib

# Where each is; a module is imported when its figure is asked for.
_HOMES = {
    "bernoulli_plate": "coins",
    "beta_bernoulli": "conjugate",
    "distribution_explorer": "explorer",
    "gamma_poisson": "conjugate",
    "gradient_estimators": "gradients",
    "model_graph": "graph",
    "plate_explorer": "plates",
    "posterior_predictive_check": "predictive",
    "prior_over_functions": "functions",
    "stepper": "stepping",
    "svi_player": "player",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
