"""One captured graph: a program that handlers have run once, in Python, for every size.

`capture(fn, *example)` records a pure function over tensors, whatever statements and handlers it
uses, as one graph of torch operations. Data, hyper-parameters, plate sizes, base noise and the
tensors that the function closes over are inputs of the graph.

This room leans on young parts of torch; it is tested with torch 2.13 and refuses others.
"""

from .noise import GivenNoise
from .program import TESTED, Captured, capture
from .tracing import Guard, NoiseSpec

__all__ = ["TESTED", "Captured", "GivenNoise", "Guard", "NoiseSpec", "capture"]
