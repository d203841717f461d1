"""Draws the README's model: eight schools, in plate notation.

    python -m tools.model_picture book/_static/eight-schools.svg

Needs the `graph` extra. The picture is the one that `render_model` gives for the README's program.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import pplkit.distributions as dist
from pplkit import plate, render_model, sample

EFFECT = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERROR = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def schools(effect, error):
    mu = sample("mu", dist.Normal(0.0, 5.0))
    tau = sample("tau", dist.HalfCauchy(5.0))
    with plate("schools", len(effect)):
        theta = sample("theta", dist.Normal(mu, tau))
        sample("y", dist.Normal(theta, error), obs=effect)


def graph():
    """The graph that the README shows."""
    return render_model(schools, (EFFECT, ERROR), render_distributions=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path, help="the SVG, PNG or PDF to write")
    graph().save(parser.parse_args().target)
