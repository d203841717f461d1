"""A Jupyter Book of a stranger's own making: its notebooks, its one line of configuration, its build."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat

from tools.environment import one_thread

ROOT = Path(__file__).resolve().parents[2]
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
CONFIG = """\
title: A book
execute:
  execute_notebooks: force
  timeout: 300
  stderr_output: error
sphinx:
  extra_extensions: [pplwidgets.sphinx]
"""

HEAD = """\
import altair as alt, torch, pplkit, pplwidgets
import pplkit.distributions as dist
"""

TWO_NORMALS = """\
grid = torch.stack(torch.meshgrid(torch.linspace(-2, 2, 15), torch.linspace(-2, 2, 15), indexing="ij"), -1)

def normal(rho):
    pair = dist.MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, rho], [rho, 1.0]]))
    columns = grid.reshape(-1, 2)
    return {"x": columns[:, 0], "y": columns[:, 1], "density": pair.log_prob(columns).exp()}

pplwidgets.live(normal, alt.Chart().mark_point().encode(x="x", y="y", size="density"), title="Two normals", rho=(-0.9, 0.9))
"""

COUNTS = """\
seen = torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0])

def counts(shape=2.0, rate=1.0, days=4):
    x = torch.linspace(0.05, 12.0, 120)
    total = seen[:days].sum()
    posterior, n = dist.Gamma(shape + total, rate + days), torch.arange(16.0)
    tomorrow = dist.GammaPoisson(shape + total, rate + days).log_prob(n).exp()
    return {"curve": {"x": x, "density": posterior.log_prob(x).exp()}, "next": {"n": n, "chance": tomorrow}, "sum": {"total": total}}

curve = alt.Chart(alt.NamedData("curve")).mark_line().encode(x="x", y="density")
bars = alt.Chart(alt.NamedData("next")).mark_bar().encode(x="n", y="chance")
pplwidgets.live(counts, curve | bars, title="Counts", caption="{sum.total:.0f} in {days} days",
                shape=(0.5, 5.0), rate=(0.5, 3.0), days=(2, 8))
"""

CLOSED_OVER = """\
heights = torch.tensor([1.62, 1.75, 1.81, 1.68, 1.59])

def posterior(mean=1.7, scale=0.2):
    precision = scale**-2 + len(heights) / 0.1**2
    at = torch.linspace(1.4, 2.0, 100)
    centre = (mean * scale**-2 + heights.sum() / 0.1**2) / precision
    return {"height": at, "density": dist.Normal(centre, precision**-0.5).log_prob(at).exp()}

pplwidgets.live(posterior, alt.Chart().mark_line(clip=True).encode(x="height", y="density"), title="Heights",
                mean=(1.4, 2.0), scale=(0.01, 0.5))
"""

FITTED = """\
from pplkit.infer import SVI, Trace_ELBO
from pplkit.optim import Adam

data = torch.tensor([1.2, 0.8, 1.5, -0.3])

def fitted(prior=0.0, noise=0.5):
    def model():
        z = pplkit.sample("z", dist.Normal(prior, 1.0))
        with pplkit.plate("data", len(data)):
            pplkit.sample("obs", dist.Normal(z, noise), obs=data)

    def guide():
        scale = pplkit.param("scale", torch.tensor(0.5), constraint=dist.constraints.positive)
        pplkit.sample("z", dist.Normal(pplkit.param("loc", torch.tensor(0.0)), scale))

    fit = SVI(model, guide, Adam({"lr": 0.02}), loss=Trace_ELBO()).run(500)
    return {"x": fit.params["loc"], "y": fit.params["scale"]}

point = alt.Chart().mark_point().encode(x=alt.X("x").scale(domain=[-3, 3]), y=alt.Y("y").scale(domain=[0, 1]))
pplwidgets.live(fitted, point, title="Fitted", caption="{data.x:.3f} ± {data.y:.3f}", prior=(-3.0, 3.0), noise=(0.2, 2.0))
"""

CHOICES = """\
def rows(n=6, rate=1.0, family="gamma"):
    with pplkit.plate("rows", n):
        x = pplkit.sample("x", dist.Gamma(2.0, rate) if family == "gamma" else dist.Normal(0.0, rate))
    return {"points": {"x": x}, "mean": {"m": x.mean()}}

pplwidgets.live(rows, alt.Chart(alt.NamedData("points")).mark_tick().encode(x="x"), title="Rows",
                caption="mean {mean.m:.2f} of {n}, {family}", n=(0, 12), rate=(0.5, 2.0), family=["gamma", "normal"])
"""

TABLE = """\
def looped(n=3, speed=1.0):
    total = 0.0
    while total < n:  # no graph has this
        total += speed
    return {"x": torch.arange(4.0), "y": torch.arange(4.0) * total}

pplwidgets.live(looped, alt.Chart().mark_line().encode(x="x", y="y"), title="Looped", n=(1, 6), speed=(0.5, 2.0), publish="table")
"""

OTHERS = """\
import ipywidgets
slider, box = ipywidgets.FloatSlider(description="other", value=3.0), ipywidgets.FloatText()
ipywidgets.jslink((slider, "value"), (box, "value"))
ipywidgets.VBox([slider, box])
"""


def readme_example() -> str:
    """The README's figure of one's own."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return next(
        block
        for block in re.findall(r"```python\n(.*?)```", text, re.S)
        if "pplwidgets.live" in block
    )


def write(folder: Path, config: str = CONFIG, **notebooks: list[str]) -> Path:
    """A book of these notebooks, given by their cells, the first one its root."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, cells in notebooks.items():
        made = nbformat.v4.new_notebook(metadata=KERNEL)
        made.cells = [nbformat.v4.new_markdown_cell(f"# {name.capitalize()}")]
        made.cells += [nbformat.v4.new_code_cell(cell) for cell in cells]
        nbformat.write(made, folder / f"{name}.ipynb")
    first, *rest = notebooks
    chapters = "".join(f"- file: {name}\n" for name in rest)
    toc = f"format: jb-book\nroot: {first}\n" + (f"chapters:\n{chapters}" if rest else "")
    (folder / "_toc.yml").write_text(toc, encoding="utf-8")
    (folder / "_config.yml").write_text(config, encoding="utf-8")
    return folder


def build(folder: Path) -> subprocess.CompletedProcess:
    """Jupyter Book's own command, with warnings as errors."""
    program = "from jupyter_book.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, "build", ".", "--warningiserror", "--keep-going"],
        cwd=folder,
        env={**os.environ, **one_thread(), "PYTHONUTF8": "1", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
