"""Regression with a prior over functions: weights of bumps, Normal beforehand and afterwards."""

from __future__ import annotations

import torch
from torch import Tensor

import pplkit
import pplkit.distributions as dist

from ..controls import marked
from ..figure import LiveFigure, live
from .marks import axis, dot, inked, line, table

_BUMPS = 8
_CENTRES = torch.linspace(-3.5, 3.5, _BUMPS)
_MOST = 30
_DRAWS = 6
_GRID = torch.linspace(-3.5, 3.5, 121)
_CAPTION = (
    "At x = {x:.2f}: f is {there.mean:.2f} ± {there.sd:.2f}; before any data it was 0 ±"
    " {there.before:.2f}. The {points} points have left {left.share:.0f} % of the prior's"
    " uncertainty, on average over x."
)


def prior_over_functions(*, seed: int = 0, **controls) -> LiveFigure:
    """Functions from a prior, and what data leave of them.

    f(x) is a weighted sum of eight bumps, the weights Normal(0, prior scale). Given points with
    Normal noise the weights are Normal again, exactly. Six functions are drawn and stay with their
    random numbers, so they bend towards the points as these come in.

    Args:
        seed: of the points and of the drawn functions.
        controls: instead of the figure's own: `look` (at the data, or not), `points`,
            `prior_scale`, `width` (of a bump), `noise`, `x`.

    >>> figure = prior_over_functions()
    >>> figure
    LiveFigure(look=True, points=4, prior_scale=1.0, width=1.0, noise=0.2, x=0.0)
    >>> figure.look = False
    >>> figure.tables["left"]["share"].round()
    tensor([100.])
    >>> figure.close()
    """

    def program(look=True, points=4, prior_scale=1.0, width=1.0, noise=0.2, x=0.0):
        place, y = _data()
        place, y = place[:points], y[:points]
        width, noise = torch.as_tensor(width), torch.as_tensor(noise)
        prior = torch.eye(_BUMPS) / torch.as_tensor(prior_scale) ** 2
        features = _bumps(place, width)
        gain = 1.0 / noise**2 if look else 0.0 * noise
        precision = prior + gain * features.T @ features
        mean, root = _solved(precision, gain * features.T @ y)
        with pplkit.plate("functions", _DRAWS):
            weights = pplkit.sample("w", dist.Normal(torch.zeros(_BUMPS), 1.0).to_event(1))
        grid = _bumps(_GRID, width)
        drawn = (mean + weights @ root) @ grid.T
        middle, spread = grid @ mean, _spread(grid, root)
        here = _bumps(torch.as_tensor(x).reshape(1), width)
        before = prior_scale * grid.square().sum(-1).sqrt()
        return {
            "band": {"x": _GRID, "mean": middle, "low": middle - 2 * spread, "high": middle + 2 * spread},
            "functions": {
                "x": _GRID.repeat(_DRAWS), "f": drawn.reshape(-1),
                "which": torch.arange(_DRAWS).repeat_interleave(len(_GRID)),
            },
            "points": {"x": place, "y": y, "seen": torch.full_like(place, float(look)) > 0.5},
            "there": {
                "x": torch.as_tensor(x).reshape(1), "mean": here @ mean, "sd": _spread(here, root),
                "before": prior_scale * here.square().sum(-1).sqrt(),
            },
            "left": {"share": 100 * spread.mean() / before.mean()},
        }  # fmt: skip

    own = {
        "look": marked(True, label="look at the data"),
        "points": (1, _MOST),
        "prior_scale": (0.1, 2.0, 0.05),
        "width": (0.3, 2.0, 0.05),
        "noise": (0.05, 1.0, 0.05),
        "x": (-3.5, 3.5, 0.05),
    }
    return live(
        program, _chart(), title="A prior over functions", caption=_CAPTION, seed=seed,
        **{**own, **controls},
    )  # fmt: skip


def _data() -> tuple[Tensor, Tensor]:
    """Points of a curve that the model does not know, in the order in which they come."""
    with pplkit.plate("rows", _MOST):
        x = pplkit.sample("place", dist.Uniform(-3.2, 3.2))
        y = pplkit.sample("value", dist.Normal(0.0, 0.15))
    return x, y + torch.sin(1.6 * x) + 0.3 * x


def _bumps(x: Tensor, width: Tensor) -> Tensor:
    """Shape `(len(x), _BUMPS)`."""
    return torch.exp(-0.5 * ((x.unsqueeze(-1) - _CENTRES) / width) ** 2)


def _solved(precision: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the weights, and a matrix that makes standard normal rows their scatter."""
    lower = torch.linalg.cholesky_ex(precision).L
    inverse = torch.linalg.solve_triangular(lower, torch.eye(_BUMPS), upper=False)
    return inverse.T @ (inverse @ right), inverse


def _spread(features: Tensor, root: Tensor) -> Tensor:
    return (features @ root.T).square().sum(-1).sqrt()


def _chart():
    import altair as alt

    x = axis("x", (-3.5, 3.5), "x", values=list(range(-3, 4)), format="d")
    up = (-3.6, 3.6)

    def y(column):
        return axis(column, up, "f(x)", "y", values=[-2, 0, 2], format="d")

    band, points = table("band"), table("points")
    seen = alt.condition("datum.seen", alt.value(1), alt.value(0.15))
    return alt.layer(
        inked(band.mark_area(opacity=0.2, clip=True), 0).encode(x, y("low"), alt.Y2("high")),
        table("functions").mark_line(strokeWidth=1.2, opacity=0.55, color="currentColor", clip=True)
        .encode(x, y("f"), detail="which:N"),
        line(band, 0, 2.75, description="mean").encode(x, y("mean")),
        table("there").mark_rule(strokeDash=[3, 3]).encode(x),
        dot(table("there"), 0, size=80).encode(x, y("mean")),
        dot(points, 1, "diamond", 90).encode(x, y("y"), opacity=seen),
    ).properties(
        height=300,
        description="The mean function with a band of two standard deviations, six drawn functions"
        " as thin lines, and the points as diamonds.",
    )  # fmt: skip
