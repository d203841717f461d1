"""One captured graph: a program that handlers have run once, in Python, for every size.

`capture(fn, *example)` records a pure function over tensors, whatever statements and handlers it
uses, as one graph of torch operations. Data, hyper-parameters, plate sizes, base noise and the
tensors that the function closes over are inputs of the graph.

This room leans on young parts of torch; it is tested with torch 2.13 and refuses others.
"""

import importlib

_HOMES = {
    "TESTED": "program",
    "Captured": "program",
    "GivenNoise": "noise",
    "Guard": "tracing",
    "NoiseSpec": "tracing",
    "capture": "program",
    "capture_step": "step",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    # Only when asked for: what records a graph takes a second to import.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
