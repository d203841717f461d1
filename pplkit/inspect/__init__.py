"""Looking at models and their runs."""

from .dependencies import get_dependencies
from .graph import get_model_relations

__all__ = [
    "get_dependencies",
    "get_model_relations",
]
