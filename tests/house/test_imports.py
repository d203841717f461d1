"""Imports run downward, and importing pplkit brings torch and nothing else."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from .project import ROOT

ALLOWED = {"pplkit", "torch"}
# A module may not import, while it is imported, what stands above it.
ABOVE = {
    "errors": {"*"},
    "params": {"effects", "primitives", "handlers", "trace", "distributions", "infer", "optim"},
    "distributions": {"effects", "primitives", "handlers", "trace", "params", "infer", "optim"},
    "effects": {"primitives", "handlers", "trace", "distributions", "infer", "optim", "inspect"},
    "display": {"effects", "primitives", "handlers", "trace", "infer", "optim", "inspect"},
    "tracebacks": {"effects", "primitives", "handlers", "trace", "infer", "optim", "inspect"},
    "trace": {"primitives", "handlers", "infer", "optim", "inspect", "capture"},
    "primitives": {"handlers", "trace", "infer", "optim", "inspect", "capture"},
    "ops": {"effects", "primitives", "handlers", "trace", "distributions", "infer", "optim"},
    "enumeration": {"primitives", "handlers", "trace", "infer", "optim", "capture"},
    "handlers": {"infer", "optim", "inspect", "capture"},
    "inspect": {"infer", "optim", "capture"},
    "optim": {"handlers", "primitives", "trace", "infer", "capture"},
}
SOURCES = sorted((ROOT / "pplkit").rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    """The absolute names of the modules that a file imports when it is imported itself."""
    module = path.relative_to(ROOT).with_suffix("").parts
    package = module[:-1]
    found = set()
    for node in _run_at_import(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif node.level == 0:
            found.add(node.module)
        else:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            base = ".".join(part for part in base if part)
            # `from . import a` imports the module a; `from .a import name` the module a.
            found |= {f"{base}.{a.name}" for a in node.names} if not node.module else {base}
    return found


def _run_at_import(node):
    """Import statements outside functions, and outside `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from _run_at_import(other)
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _run_at_import(child)


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_engine_imports_the_standard_library_and_torch_alone(path):
    for name in imports_of(path):
        top = name.partition(".")[0]
        assert top in ALLOWED or top in sys.stdlib_module_names, f"{path} imports {name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_run_downward(path):
    mine = room(".".join(path.relative_to(ROOT).with_suffix("").parts))
    above = ABOVE.get(mine, set())
    for name in imports_of(path):
        if name.startswith("pplkit") and room(name) != mine:
            assert "*" not in above and room(name) not in above, (
                f"{mine} imports {name}, from above it"
            )
            assert mine == "__init__" or name != "pplkit", f"{mine} imports the table of contents"


def test_the_design_names_rooms_that_exist():
    assert set(ABOVE) <= {
        room(".".join(p.relative_to(ROOT).with_suffix("").parts)) for p in SOURCES
    }


RUNS = """
import torch, pplkit, pplkit.distributions as dist
from pplkit.infer import SVI, Predictive, Trace_ELBO
from pplkit.infer.autoguide import AutoNormal
def model(x):
    loc, scale = pplkit.sample("loc", dist.Normal(0.0, 1.0)), pplkit.sample("scale", dist.Gamma(2.0, 1.0))
    with pplkit.plate("n", len(x)):
        pplkit.sample("x", dist.Normal(loc, scale), obs=x)
guide, x = AutoNormal(model), torch.zeros(10)
svi = SVI(model, guide, pplkit.optim.Adam({"lr": 0.01}), Trace_ELBO())
svi.step(x)
svi.run(3, x)
Predictive(model, guide=guide, num_samples=3)(x)
"""


def modules_after(statement: str) -> set[str]:
    """The modules that a fresh interpreter holds after `statement`."""
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys, json\n{statement}\nprint(json.dumps([*sys.modules]))"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        encoding="utf-8",
    )
    return set(json.loads(ended.stdout.splitlines()[-1]))


def packages_after(statement: str) -> set[str]:
    return {name.partition(".")[0] for name in modules_after(statement)}


def test_importing_pplkit_brings_nothing_that_torch_does_not():
    beyond = packages_after("import pplkit") - packages_after(
        "import torch, torch.distributions, torch.func"
    )
    assert {name for name in beyond if name not in sys.stdlib_module_names} == {"pplkit"}


def test_a_few_steps_in_python_bring_no_compiler():
    """Torch's takes seconds to import, and has ways of its own to come along (a dispatch mode)."""
    assert not modules_after(RUNS) & {"torch._dynamo", "torch._inductor", "sympy"}


def test_importing_pplwidgets_starts_no_notebook_server_and_draws_nothing():
    brought = packages_after("import pplwidgets")
    assert not brought & {"jupyterlab", "jupyter_server", "matplotlib", "pyro", "sphinx", "pytest"}
