"""The mistakes, read from their files. The book's page reads them too: no import beyond Python's."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).resolve().parent / "programs"
PYRO = Path(__file__).resolve().parent / "pyro.json"

# What every program can use; on Pyro, `pyro` stands in the place of `pplkit`.
PRELUDE = """\
import numpy as np
import torch
from torch import nn

import pplkit.distributions as dist
from pplkit import clear_param_store, deterministic, factor, get_param_store, markov, module
from pplkit import param, plate, sample, set_rng_seed, subsample
from pplkit import poutine as handlers
from pplkit.distributions import constraints
from pplkit.infer import SVI, Predictive, Trace_ELBO, TraceMeanField_ELBO
from pplkit.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoGuideList, AutoNormal
from pplkit.optim import SGD, Adam, ClippedAdam
"""

GROUPS = (
    "Names",
    "Statements",
    "Shapes and plates",
    "Subsampling",
    "Data",
    "Distributions and their parameters",
    "Handlers",
    "Guide and model",
    "Parameters",
    "Numbers that fail",
    "Inference",
)

MARK = re.compile(r"\s*# <- here$")


@dataclass(frozen=True)
class Case:
    """One mistake.

    Attributes:
        program: what the learner typed, as readers see it.
        line: the line of it that is the mistake; None if there is none to name.
        site: the name that the answer should hold, or None.
        leaves: parameters that are rightly in the store afterwards.
    """

    name: str
    title: str
    group: str
    why: str
    cure: str
    site: str | None
    leaves: tuple[str, ...]
    program: str
    line: int | None

    @property
    def answer(self) -> str:
        """Our answer, as it was committed."""
        return (PROGRAMS / f"{self.name}.txt").read_text(encoding="utf-8").rstrip("\n")


def read(path: Path) -> Case:
    """The mistake that a file holds; ValueError if it holds none."""
    text = path.read_text(encoding="utf-8")
    found = re.fullmatch(r'"""(.+?)"""\n+(.+)', text, re.DOTALL)
    if found is None:
        raise ValueError(f"{path.name}: a docstring first, then the program")
    title, *fields = re.split(r"\n\s*(?=(?:group|why|cure|site|leaves): )", found[1].strip())
    told = {key: " ".join(value.split()) for key, value in (f.split(": ", 1) for f in fields)}
    if missing := {"group", "why", "cure", "site"} - set(told):
        raise ValueError(f"{path.name}: no {', '.join(sorted(missing))}")
    if told["group"] not in GROUPS:
        raise ValueError(f"{path.name}: group {told['group']!r} is none of {GROUPS}")
    # Two empty lines, which suit a file, are one in a cell.
    lines = re.sub(r"\n{3,}", "\n\n", found[2]).rstrip("\n").split("\n")
    marked = [number for number, line in enumerate(lines, 1) if MARK.search(line)]
    if len(marked) > 1:
        raise ValueError(f"{path.name}: one line is the mistake, not {len(marked)}")
    return Case(
        name=path.stem,
        title=title.strip(),
        group=told["group"],
        why=told["why"],
        cure=told["cure"],
        site=None if told["site"] == "-" else told["site"],
        leaves=tuple(told.get("leaves", "").replace(",", " ").split()),
        program="\n".join(MARK.sub("", line) for line in lines) + "\n",
        line=marked[0] if marked else None,
    )


def catalogue() -> list[Case]:
    """All mistakes, by group and then by name."""
    cases = [read(path) for path in PROGRAMS.glob("*.py")]
    return sorted(cases, key=lambda case: (GROUPS.index(case.group), case.name))


def pyro_answers() -> dict:
    """What was recorded of Pyro: `versions`, and `answers` by name."""
    return json.loads(PYRO.read_text(encoding="utf-8"))
