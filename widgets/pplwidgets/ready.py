"""Figures of the course, each a few lines over `live`."""

from __future__ import annotations

import torch
from torch import Tensor

import pplkit
import pplkit.distributions as dist
from pplkit.infer import SVI, Trace_ELBO
from pplkit.optim import Adam

from .figure import LiveFigure, live

OBSERVED = (1.2, 0.8, 1.5, -0.3)
_ROWS = 300  # the largest plate
_BELL = torch.linspace(-4.5, 4.5, 181)  # standard deviations over which a bell is drawn
_COARSE_TO_FINE = ((0.4, 22), (0.1, 16), (0.01, 16))  # Adam's learning rate, and how many steps
_DRAWS = 60_000  # log-densities of data points in one step
_CAPTION = (
    "Posterior of z: exact {exact.mean:.3f} ± {exact.sd:.3f}, fitted by SVI {fitted.mean:.3f} ±"
    " {fitted.sd:.3f}."
    " Each curve is drawn to the same height: compare where they stand and how wide they are."
)


def prior_to_posterior(*, observed=OBSERVED, seed: int = 0, **controls) -> LiveFigure:
    """Program 3 of the first chapter, alive: z ~ Normal(prior mean, prior scale), observations ~
    Normal(z, noise).

    Drawn together: the prior, the likelihood as a function of z, the exact posterior, and a Normal
    guide that `pplkit.infer.SVI` fits afresh at every change; ticks mark the data.

    Args:
        observed: the first rows of data. Rows beyond them scatter around their mean, drawn from the
            seed, so a
            plate that grows keeps the rows it has.
        seed: of those rows and of the fit.
        controls: instead of the figure's own, under the names `prior_mean`, `prior_scale`, `noise`,
            `plate_size`.

    >>> figure = prior_to_posterior()
    >>> figure
    LiveFigure(prior_mean=0.0, prior_scale=1.0, noise=0.5, plate_size=4)
    >>> round(figure.tables["exact"]["mean"].item(), 3)  # 12.8 / 17
    0.753
    >>> figure.close()
    """
    observed = torch.as_tensor(observed, dtype=torch.float32)

    def program(prior_mean=0.0, prior_scale=1.0, noise=0.5, plate_size=len(observed)):
        with pplkit.plate("more", _ROWS):
            more = pplkit.sample("row", dist.Normal(observed.mean(), 0.5))
        data = torch.cat([observed, more])[:plate_size]
        precision = prior_scale**-2 + plate_size * noise**-2
        mean = (prior_mean * prior_scale**-2 + data.sum() * noise**-2) / precision
        fitted = _fitted(prior_mean, prior_scale, noise, data)
        return {
            "prior": _bell(prior_mean, prior_scale),
            "likelihood": _bell(data.mean(), noise * plate_size**-0.5),
            "posterior": _bell(mean, precision**-0.5),
            "guide": _bell(*fitted),
            "points": {"z": data},
            "exact": {"mean": mean, "sd": torch.as_tensor(precision**-0.5)},
            "fitted": {"mean": fitted[0], "sd": fitted[1]},
        }

    own = {
        "prior_mean": (-3.0, 3.0, 0.1),
        "prior_scale": (0.1, 2.0, 0.05),
        "noise": (0.1, 2.0, 0.05),
        "plate_size": (1, _ROWS),
    }
    return live(
        program,
        _chart(),
        title="From prior to posterior",
        caption=_CAPTION,
        seed=seed,
        **{**own, **controls},
    )


def _fitted(prior_mean, prior_scale, noise, data: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a Normal guide, by SVI. Both scalars.

    Few data leave a wide posterior, which takes many draws to place; with many data few will do.
    """
    draws = max(500, _DRAWS // len(data))

    def model():
        with pplkit.plate("draws", draws, dim=-2):
            z = pplkit.sample("z", dist.Normal(prior_mean, prior_scale))
            with pplkit.plate("data", len(data), dim=-1):
                pplkit.sample("obs", dist.Normal(z, noise), obs=data)

    def guide():
        loc = pplkit.param("loc", torch.as_tensor(prior_mean))
        scale = pplkit.param("scale", torch.tensor(0.05), constraint=dist.constraints.positive)
        with pplkit.plate("draws", draws, dim=-2):
            pplkit.sample("z", dist.Normal(loc, scale))

    for lr, steps in _COARSE_TO_FINE:
        optim = Adam({"lr": lr, "betas": (0.8, 0.9)})
        fit = SVI(model, guide, optim, loss=Trace_ELBO()).run(steps)
    return fit.params["loc"], fit.params["scale"]


def _bell(mean, sd) -> dict[str, Tensor]:
    """A normal density over z, its peak at height 1."""
    return {"z": mean + sd * _BELL, "height": torch.exp(-0.5 * _BELL**2)}


def _chart():
    import altair as alt

    z = (
        alt.X("z")
        .scale(domain=[-4, 4], nice=False)
        .axis(values=list(range(-4, 5)), format="d")
        .title("z")
    )
    height = alt.Y("height").scale(domain=[-0.14, 1.05], nice=False)
    height = height.axis(values=[0, 0.5, 1], domain=False, ticks=False).title("density, peak = 1")
    names = ["prior", "likelihood", "exact posterior", "fitted guide"]
    dashes = [[8, 4], [2, 3], [1, 0], [5, 3]]
    widths = {"exact posterior": 6}

    def curve(table, name):
        return (
            alt.Chart(alt.NamedData(table))
            .transform_calculate(curve=f"'{name}'")
            .mark_line(
                strokeWidth=widths.get(name, 2.25),
                opacity=0.55 if name in widths else 1,
                description=name,
                clip=True,
            )
            .encode(
                x=z,
                y=height,
                order="z",
                color=alt.Color("curve:N").scale(domain=names).title(None),
                strokeDash=alt.StrokeDash("curve:N").scale(domain=names, range=dashes).title(None),
            )
        )

    points = alt.Chart(alt.NamedData("points"))
    tick = dict(
        shape="stroke", angle=90, size=160, strokeWidth=1.5, opacity=0.7, color="currentColor"
    )
    ticks = points.mark_point(**tick).encode(x=z, y=alt.datum(-0.075))
    label = alt.Chart(alt.NamedData("exact")).mark_text(
        align="left", baseline="middle", text="data"
    )
    label = label.encode(x=alt.datum(-3.9), y=alt.datum(-0.075))
    curves = [
        curve(table, name)
        for table, name in zip(("prior", "likelihood", "posterior", "guide"), names)
    ]
    return alt.layer(*curves, ticks, label).properties(
        height=270,
        description="Four curves over z (prior, likelihood, exact posterior and fitted guide),"
        " each as high as the"
        " others, and ticks for the data.",
    )
