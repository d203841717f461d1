"""Looking at models and their runs."""

from .dependencies import get_dependencies
from .graph import ModelGraph, get_model_relations, render_model
from .recorder import Event, Recording, record

__all__ = [
    "Event",
    "Recording",
    "ModelGraph",
    "get_dependencies",
    "get_model_relations",
    "render_model",
    "record",
]
