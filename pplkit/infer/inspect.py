"""What `pyro.infer.inspect` offers, under the name that Pyro gives it."""

from ..inspect import get_dependencies, get_model_relations, render_model

__all__ = ["get_dependencies", "get_model_relations", "render_model"]
