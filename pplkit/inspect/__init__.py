"""Looking at models and their runs."""

from .checklist import Problem, Report, check
from .dependencies import get_dependencies
from .graph import ModelGraph, get_model_relations, render_model
from .recorder import Event, Recording, record

__all__ = [
    "Event",
    "Problem",
    "Recording",
    "Report",
    "check",
    "ModelGraph",
    "get_dependencies",
    "get_model_relations",
    "render_model",
    "record",
]
