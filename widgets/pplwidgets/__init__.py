"""Live figures for notebooks and books: a function of controls, a chart that draws it, nothing
more.
"""

from .figure import LiveFigure, live
from .ready import prior_to_posterior

__all__ = ["LiveFigure", "live", "prior_to_posterior"]
