"""Live figures for notebooks and books: a function of controls, a chart that draws it, nothing
more. Beside them stand the figures of the course, ready-made.
"""

from . import course
from .figure import LiveFigure, live
from .ready import prior_to_posterior

__all__ = ["LiveFigure", "live", "prior_to_posterior", *course.__all__]


def __getattr__(name: str):
    if name not in course.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(course, name)
