"""Every public name explains itself, and every example runs."""

import contextlib
import doctest
import importlib
import inspect
import io
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pplkit

MODULES = [m.name for m in pkgutil.walk_packages(pplkit.__path__, "pplkit.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    pplkit.clear_param_store()
    result = doctest.testmod(module, extraglobs={"torch": torch, "pplkit": pplkit})
    pplkit.clear_param_store()
    assert result.failed == 0


PUBLIC = [
    (home, name)
    for home in (pplkit, pplkit.distributions, pplkit.handlers, pplkit.infer, pplkit.optim)
    for name in getattr(home, "__all__", None) or vars(home)
    if not name.startswith("_")
    and (inspect.isclass(getattr(home, name)) or inspect.isfunction(getattr(home, name)))
    and (home.__name__ if home in (pplkit.handlers, pplkit.optim) else "pplkit")
    in getattr(home, name).__module__
]


@pytest.mark.parametrize(("home", "name"), PUBLIC, ids=lambda x: getattr(x, "__name__", x))
def test_public_names_are_documented_with_an_example(home, name):
    doc = inspect.getdoc(getattr(home, name)) or ""
    assert doc.strip(), f"{home.__name__}.{name} has no docstring"
    if getattr(home, name).__module__ != "pplkit.errors":
        assert ">>>" in doc, f"{home.__name__}.{name} has no example"


def test_the_readme_runs():
    """Its programs, one after another, as a reader would paste them."""
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    names = {}
    with pplkit.handlers.seed(rng_seed=0), contextlib.redirect_stdout(io.StringIO()) as out:
        for block in blocks:
            exec(compile(block, "README.md", "exec"), names)
    assert "'loc': tensor(0.7" in out.getvalue() and "'scale': tensor(0.2" in out.getvalue()


CHAPTER = """\
from pplkit import *

def model(data):
    z = sample("z", distributions.Normal(0.0, 1.0))
    sample("obs", distributions.Normal(z, 0.5), obs=data)

import torch
data = torch.tensor([1.2, 0.8, 1.5, -0.3])
handlers.trace(model).get_trace(data).check_plates()
"""


def test_the_readme_shows_a_real_error(tmp_path):
    (tmp_path / "chapter.py").write_text(CHAPTER, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "chapter.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    said = ended.stderr[ended.stderr.index("pplkit.errors.ShapeError") :].strip()
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"```\n{said}\n```" in text
