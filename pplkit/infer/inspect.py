"""What `pyro.infer.inspect` offers, under the name that Pyro gives it."""

from ..inspect import get_dependencies, get_model_relations

__all__ = ["get_dependencies", "get_model_relations"]
