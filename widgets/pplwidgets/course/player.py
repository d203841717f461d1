"""SVI as it moves: loss, guide density, and the path over the surface of the ELBO."""

from __future__ import annotations

import math

import torch
from torch import Tensor

import pplkit
import pplkit.distributions as dist
from pplkit.infer import SVI, Trace_ELBO
from pplkit.optim import Adam, Optimizer

from ..controls import marked
from ..figure import LiveFigure, live
from .marks import axis, dot, inked, line, table

_STEPS = 150
_MEAN, _SD = 12.8 / 17, 17**-0.5  # of the exact posterior
_LOC, _LOG = (-2.4, 2.4), (-2.6, 0.9)  # of the surface: location, and logarithm of the scale
_START = (-1.8, 1.0)
# Variance and entropy of each family at scale 1.
_FAMILIES = {
    "Normal": (dist.Normal, 1.0, 0.5 * math.log(2 * math.pi * math.e)),
    "Laplace": (dist.Laplace, 2.0, 1 + math.log(2.0)),
    "Uniform": (lambda loc, scale: dist.Uniform(loc - scale, loc + scale), 1 / 3, math.log(2.0)),
}
_CAPTION = (
    "After {step} steps: the guide has mean {now.loc:.3f} and scale {now.scale:.3f}; its ELBO is"
    " {now.elbo:.3f}. The best guide of this family (the cross) has {best.elbo:.3f}; no guide"
    " beats the log evidence, {best.evidence:.3f}."
)


class Remembering(Adam):
    """Adam that also remembers where each parameter has been, as the last of its state.

    >>> optim = Remembering({"lr": 0.1})
    >>> optim.init(torch.tensor(1.0))["path"].shape
    torch.Size([150])
    """

    _move = Optimizer._move  # by `update`, not by torch's fused step

    def init(self, value: Tensor) -> dict:
        return {**super().init(value), "path": value.expand(_STEPS).clone()}

    def update(self, value, grad, state, **options):
        known = {name: part for name, part in state.items() if name != "path"}
        after, known = super().update(value, grad, known, **options)
        return after, {**known, "path": torch.cat([state["path"][1:], after.reshape(1)])}


def svi_player(*, seed: int = 0, **controls) -> LiveFigure:
    """Program 3 of the first chapter, fitted step by step: drag or play `step`.

    The surface, in shades, is the ELBO of every guide of the family, exactly, the darker the better; the path on it is
    that of the run. A run's estimates of the loss scatter around the surface, less with more
    particles.

    Args:
        seed: of the particles.
        controls: instead of the figure's own: `step`, `learning_rate`, `particles`, `guide`.

    >>> figure = svi_player()
    >>> figure
    LiveFigure(step=60, learning_rate=0.1, particles=5, guide='Normal')
    >>> bool(figure.evaluate(step=150)["now"]["elbo"] > figure.evaluate(step=1)["now"]["elbo"])
    True
    >>> figure.close()
    """
    data = torch.tensor([1.2, 0.8, 1.5, -0.3])
    evidence = _evidence(data)

    def program(step=60, learning_rate=0.1, particles=5, guide="Normal"):
        _, variance, entropy = _FAMILIES[guide]
        losses, loc, scale = _run(guide, learning_rate, particles, data)
        number = torch.arange(_STEPS + 1.0)

        def elbo(loc, log_scale):
            return evidence - _divergence(loc, log_scale, variance, entropy)

        best = torch.as_tensor(math.log(_SD) - 0.5 * math.log(variance))
        z = torch.linspace(-3.0, 3.0, 241)
        so_far = number <= step
        here = (number == step).float()
        at, wide = (here * loc).sum(), (here * scale).sum()
        return {
            "surface": _surface(elbo),
            "path": {"loc": loc, "log_scale": scale.log(), "step": number, "past": so_far},
            "losses": {"step": number[1:], "loss": losses, "past": so_far[1:]},
            "guide": {"z": z, "density": _density(guide, z, at, wide)},
            "posterior": {"z": z, "density": dist.Normal(_MEAN, _SD).log_prob(z).exp()},
            "guide_label": {"z": (at - 0.5 * wide).clamp(-2.5, 2.9), "density": _density(guide, at, at, wide).clamp(max=1.7)},
            "posterior_label": {"z": torch.full((1,), _MEAN + 0.2), "density": torch.full((1,), 1.3)},
            "now": {"loc": at, "scale": wide, "elbo": elbo(at, wide.log()), "log_scale": wide.log(),
                    "step": torch.full((1,), 1.0) * step},
            "best": {"elbo": elbo(torch.as_tensor(_MEAN), best), "evidence": evidence,
                     "loc": torch.full((1,), _MEAN), "log_scale": best},
        }  # fmt: skip

    own = {
        "step": marked((0, _STEPS), play=True),
        "learning_rate": (0.01, 0.5, 0.01),
        "particles": (1, 50),
        "guide": marked(list(_FAMILIES), label="guide family"),
    }
    return live(
        program, _chart(), title="SVI, step by step", caption=_CAPTION, seed=seed,
        **{**own, **controls},
    )  # fmt: skip


def _run(guide: str, learning_rate, particles, data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Losses of all steps, per particle; location and scale before the first step and after each."""
    family = _FAMILIES[guide][0]

    def model():
        with pplkit.plate("particles", particles, dim=-2):
            z = pplkit.sample("z", dist.Normal(0.0, 1.0))
            with pplkit.plate("data", 4, dim=-1):
                pplkit.sample("obs", dist.Normal(z, 0.5), obs=data)

    def variational():
        loc = pplkit.param("loc", torch.tensor(_START[0]))
        scale = pplkit.param("scale", torch.tensor(_START[1]), constraint=dist.constraints.positive)
        with pplkit.plate("particles", particles, dim=-2):
            pplkit.sample("z", family(loc, scale))

    optim = Remembering({"lr": learning_rate, "betas": (0.8, 0.95)})
    losses = SVI(model, variational, optim, loss=Trace_ELBO()).run(_STEPS).losses
    loc = torch.cat([torch.full((1,), _START[0]), optim.state["loc"]["path"]])
    scale = torch.cat([torch.full((1,), _START[1]), optim.state["scale"]["path"].exp()])
    return losses / particles, loc.detach(), scale.detach()


def _density(guide: str, z: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    if guide == "Uniform":
        return ((z - loc).abs() <= scale) / (2 * scale)
    return _FAMILIES[guide][0](loc, scale).log_prob(z).exp()


def _evidence(data: Tensor) -> Tensor:
    """log p(data), integrated over z in closed form."""
    covariance = 0.25 * torch.eye(len(data)) + 1.0
    return dist.MultivariateNormal(torch.zeros(len(data)), covariance).log_prob(data)


def _divergence(loc, log_scale, variance: float, entropy: float) -> Tensor:
    """From a guide to the exact posterior."""
    spread = variance * (2 * log_scale).exp() + (loc - _MEAN) ** 2
    return 0.5 * spread / _SD**2 + math.log(_SD) + 0.5 * math.log(2 * math.pi) - entropy - log_scale


def _surface(elbo) -> dict[str, Tensor]:
    columns, rows = 48, 28
    loc = torch.linspace(*_LOC, columns + 1)
    log = torch.linspace(*_LOG, rows + 1)
    middle = ((loc[1:] + loc[:-1]) / 2).repeat(rows)
    height = ((log[1:] + log[:-1]) / 2).repeat_interleave(columns)
    return {
        "left": loc[:-1].repeat(rows),
        "right": loc[1:].repeat(rows),
        "bottom": log[:-1].repeat_interleave(columns),
        "top": log[1:].repeat_interleave(columns),
        "depth": torch.log1p(
            -(elbo(middle, height) - elbo(torch.tensor(_MEAN), torch.tensor(math.log(_SD)))).clamp(
                max=0.0
            )
        ),
    }


def _chart():
    import altair as alt

    return alt.vconcat(_over(alt), _densities(alt), _losses(alt), spacing=16).properties(
        description="Three panels: the path of the run over the ELBO surface of location and log"
        " scale; the guide's density beside the exact posterior; the loss of each step so far."
    )


def _over(alt):
    loc, scale = "location of the guide", "log scale"
    x = axis("loc", _LOC, loc, values=[-2, -1, 0, 1, 2])
    y = axis("log_scale", _LOG, scale, "y", values=[-2, -1, 0], minExtent=48, grid=False)
    shades = table("surface").mark_rect(clip=True).encode(
        axis("left", _LOC, loc, values=[-2, -1, 0, 1, 2]), axis("bottom", _LOG, scale, "y", values=[-2, -1, 0]), x2="right", y2="top",
        opacity=alt.Opacity("depth:Q").scale(domain=[0, 5], range=[0.75, 0.0], clamp=True).legend(None),
    )  # fmt: skip
    path = table("path").transform_filter("datum.past")
    return alt.layer(
        inked(shades, 2),
        path.mark_line(strokeWidth=1.6, color="currentColor", clip=True).encode(x, y, order="step:Q"),
        table("best").mark_point(shape="cross", size=140, color="currentColor", strokeWidth=2, opacity=1).encode(x, y),
        dot(table("now"), 0, size=110, stroke="white").encode(x, y),
    ).properties(height=190)  # fmt: skip


def _densities(alt):
    z = axis("z", (-3, 3), "z", values=[-3, -2, -1, 0, 1, 2, 3], format="d")
    height = axis("density", (0, 1.9), "density", "y", values=[0, 1], minExtent=48)
    curves = []
    for place, (name, said) in enumerate((("guide", "guide"), ("posterior", "exact posterior"))):
        curves.append(line(table(name), place, description=said).encode(z, height))
        align = ("right", "left")[place]
        label = table(f"{name}_label").mark_text(align=align, dx=(-4, 4)[place], text=said)
        label = inked(label, place)
        curves.append(label.encode(z, height))
    return alt.layer(*curves).properties(height=125)


def _losses(alt):
    step = axis("step", (0, _STEPS), "step", tickCount=6)
    loss = axis("loss", (0, 40), "loss", "y", values=[0, 20, 40], minExtent=48)
    all_ = table("losses").mark_line(opacity=0.2, strokeWidth=1.5, color="currentColor", clip=True)
    past = table("losses").transform_filter("datum.past")
    now = table("now").mark_rule(strokeDash=[3, 3])
    return alt.layer(
        all_.encode(step, loss), line(past, 0, 1.8).encode(step, loss), now.encode(step)
    ).properties(height=90)
