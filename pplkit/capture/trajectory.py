"""The C++ of chains that run in a captured density: one evaluation, put into `trajectory.cpp`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("trajectory.cpp")


def written(evaluation: Any) -> str:
    """The source around an evaluation of potential and gradient (`lowering.Evaluation`), a function
    of `request["variables"]` tensors of real numbers, and of what else the density takes.
    """
    tensors = evaluation.tensors()[: evaluation.step["variables"]]
    pieces = dict(evaluation.pieces())
    counts = [f"({evaluation.count(shape)})" for _, _, _, shape in tensors]
    named = list(zip(tensors, counts, strict=True))
    pieces["before"] = evaluation.before()
    pieces["pointers"] = _lines(f"{kind}* {name} = nullptr;" for (_, name, kind, _), _ in named)
    pieces["variables"] = _lines(
        f"{name} = ({kind}*) take(room, sizeof({kind}) * {count});"
        for (_, name, kind, _), count in named
    )
    # A row of numbers in float64 becomes the variables' tensors; their gradients become a row.
    given, gradient, first = [], [], "0"
    for i, ((_, name, kind, _), count) in enumerate(named):
        given.append(f"for (int64_t i = 0; i < {count}; i++) {name}[i] = ({kind}) q[{first} + i];")
        gradient.append(evaluation.copied(i + 1, f"(gradient + {first})"))
        first += f" + {count}"
    pieces["given"] = _lines(given)
    pieces["potential"] = evaluation.number(0)
    pieces["gradient"] = _lines(gradient)
    text = SOURCE.read_text(encoding="utf-8")
    return re.sub(r"/\* (\w+) \*/", lambda found: pieces[found[1]], text)


def _lines(lines: Any) -> str:
    return "\n    ".join(lines)
