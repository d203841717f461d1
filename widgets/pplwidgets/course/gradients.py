"""Two estimators of one gradient: along the path of the draws, and by their score."""

from __future__ import annotations

import torch
from torch import Tensor

import pplkit
import pplkit.distributions as dist
from pplkit.handlers import scale as scaled
from pplkit.infer import Trace_ELBO

from ..figure import LiveFigure, live
from .marks import axis, dot, line, table

_TRIES = 200  # estimates by each estimator
_MOST = 100
_MEAN, _PRECISION = 12.8 / 17, 17.0  # of the exact posterior that the guide is fitted to
_CAPTION = (
    "The gradient of the ELBO by the guide's location is {true.gradient:.2f}. With {particles}"
    " particles, 200 estimates by the path scatter around it with standard deviation"
    " {found.pathwise:.2f}, those by the score with {found.score:.2f}: {found.times:.0f} times the"
    " particles would be needed to make up for that."
)


class _Unreparameterised(dist.Normal):
    """A Normal whose draws let no gradient through: then the engine takes the score function."""

    has_rsample = False


def gradient_estimators(*, seed: int = 0, **controls) -> LiveFigure:
    """How far gradient estimates scatter: pathwise against score function, as particles grow.

    The engine makes both: `Trace_ELBO` differentiates along the draws where they are
    differentiable, and else by the score function. The posterior is that of program 3.

    Args:
        seed: of the particles.
        controls: instead of the figure's own: `particles`, `location` and `scale` of the guide.

    >>> figure = gradient_estimators()
    >>> figure
    LiveFigure(particles=4, location=0.0, scale=0.5)
    >>> found = figure.tables["found"]
    >>> bool(found["pathwise"] < found["score"])
    True
    >>> figure.close()
    """

    def program(particles=4, location=0.0, scale=0.5):
        location, scale = torch.as_tensor(location), torch.as_tensor(scale)
        made = {
            "pathwise": _estimates(dist.Normal, location, scale, particles),
            "score": _estimates(_Unreparameterised, location, scale, particles),
        }
        true = -_PRECISION * (location - _MEAN)
        spreads = {name: (each - true).square().mean().sqrt() for name, each in made.items()}
        counts = torch.linspace(0.0, 2.0, 21)
        tables = {name: {"estimate": each, "height": _scattered()} for name, each in made.items()}
        for name, spread in spreads.items():
            one = spread * torch.as_tensor(1.0 * particles).sqrt()
            tables[f"{name}_law"] = {"particles": 10**counts, "spread": one / 10 ** (counts / 2)}
            tables[f"{name}_now"] = {
                "particles": torch.full((1,), 1.0) * particles,
                "spread": spread.reshape(1),
            }
        tables["true"] = {"gradient": true.reshape(1)}
        tables["found"] = {
            **spreads,
            "times": (spreads["score"] / spreads["pathwise"].clamp(min=1e-9)).square(),
        }
        return tables

    own = {"particles": (1, _MOST), "location": (-2.0, 2.0, 0.1), "scale": (0.1, 1.0, 0.05)}
    return live(
        program, _chart(), title="Two ways to a gradient", caption=_CAPTION, seed=seed,
        **{**own, **controls},
    )  # fmt: skip


def _estimates(family, location: Tensor, scale: Tensor, particles) -> Tensor:
    """Estimates of the ELBO's gradient by the guide's location, shape `(_TRIES,)`.

    Each try has a location of its own, so that one backward pass has a gradient for each.
    """
    each = location.detach().expand(_TRIES).clone().requires_grad_()
    target = dist.Normal(_MEAN, _PRECISION**-0.5)
    share = torch.ones(()) / particles

    def plates():
        tries = pplkit.plate("tries", _TRIES, dim=-1)
        return tries, pplkit.plate("particles", particles, dim=-2)

    def model():
        tries, inside = plates()
        with tries, inside, scaled(scale=share):
            pplkit.sample("z", target)

    def guide():
        tries, inside = plates()
        with tries, inside, scaled(scale=share):
            pplkit.sample("z", family(each, scale))

    with torch.enable_grad():
        _, surrogate = Trace_ELBO().loss_and_surrogate(model, guide)
        (gradient,) = torch.autograd.grad(surrogate, [each])
    return -gradient.detach()


def _scattered() -> Tensor:
    """Heights that keep the estimates apart, the same at every evaluation."""
    return (torch.arange(_TRIES) * 0.6180339887) % 1.0


def _chart():
    import altair as alt

    names = [("pathwise", 0, "along the path"), ("score", 1, "by the score")]
    x = axis("estimate", (-60, 60), "estimate of the gradient", tickCount=7)
    y = axis("height", (-0.1, 1.1), None, "y", values=[], minExtent=48)
    panels = []
    for name, place, said in names:
        points = dot(table(name), place, ("circle", "diamond")[place], 26, opacity=0.5, clip=True)
        label = alt.Chart(alt.NamedData("true")).mark_text(
            align="left", fontWeight=600, baseline="top"
        )
        label = label.encode(x=alt.value(4), y=alt.value(2), text=alt.datum(said))
        truth = (
            table("true")
            .mark_rule(strokeWidth=1.5)
            .encode(alt.X("gradient:Q").title("estimate of the gradient"))
        )
        panels.append(alt.layer(points.encode(x, y), truth, label).properties(height=85))
    count = (
        alt.X("particles:Q")
        .scale(type="log", domain=[1, _MOST], nice=False)
        .axis(values=[1, 2, 5, 10, 20, 50, 100], format="d")
        .title("particles")
    )
    spread = (
        alt.Y("spread:Q")
        .scale(type="log", domain=[0.1, 200], nice=False)
        .axis(values=[0.1, 1, 10, 100], format="~g", minExtent=48)
        .title("standard deviation")
    )
    law = [line(table(f"{name}_law"), place).encode(count, spread) for name, place, _ in names]
    law += [
        dot(table(f"{name}_now"), place, ("circle", "diamond")[place], 110).encode(count, spread)
        for name, place, _ in names
    ]
    return alt.vconcat(*panels, alt.layer(*law).properties(height=130), spacing=12).properties(
        description="Two rows of points, the gradient estimates along the path and by the score,"
        " around a line at the true gradient; below, their spread falls as particles grow."
    )
