"""From prior to posterior where the posterior is known, beside what SVI fits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import pplkit
import pplkit.distributions as dist
from pplkit.infer import SVI, Trace_ELBO
from pplkit.optim import Adam

from ..figure import LiveFigure, live
from .marks import TICK, axis, called, table, told_apart

_DRAWS = 300  # of the guide, in one step
_COARSE_TO_FINE = ((0.4, 22), (0.1, 16), (0.01, 16))  # Adam's learning rate, and how many steps
_ROWS = 200  # the largest plate
_NAMES = ("prior", "likelihood", "exact posterior", "fitted guide")
_CAPTION = (
    "Posterior of z: exact {exact.mean:.3f} ± {exact.sd:.3f}, fitted by SVI {fitted.mean:.3f} ±"
    " {fitted.sd:.3f}. The data: {data.said:.0f} SAID. Each curve is drawn to the same height."
)


def beta_bernoulli(*, observed=(1, 1, 0, 1, 1), seed: int = 0, **controls) -> LiveFigure:
    """A coin: z ~ Beta(heads, tails), tosses ~ Bernoulli(z). Prior and plate size are sliders.

    The guide is a Normal pushed through the logistic function; `pplkit.infer.SVI` fits it afresh at
    every change. It comes close to the exact Beta posterior, the closer the more data there are.

    Args:
        observed: the first tosses, 0 or 1; those beyond are drawn from the seed.
        seed: of the other tosses, and of the fit.
        controls: instead of the figure's own: `prior_heads`, `prior_tails`, `plate_size`.

    >>> figure = beta_bernoulli()
    >>> figure
    LiveFigure(prior_heads=2.0, prior_tails=2.0, plate_size=5)
    >>> round(figure.tables["exact"]["mean"].item(), 4)  # (2 + 4) / (2 + 2 + 5)
    0.6667
    >>> figure.close()
    """
    observed = torch.as_tensor(observed, dtype=torch.float32)
    z, start = (torch.arange(240) + 0.5) / 240, len(observed)

    def program(prior_heads=2.0, prior_tails=2.0, plate_size=start):
        data = _rows(observed, dist.Bernoulli(observed.mean().clamp(0.05, 0.95)))[:plate_size]
        heads, tails = data.sum(), plate_size - data.sum()
        prior = dist.Beta(torch.as_tensor(prior_heads), torch.as_tensor(prior_tails))
        exact = dist.Beta(prior_heads + heads, prior_tails + tails)
        middle = torch.as_tensor(prior_heads / (prior_heads + prior_tails))
        guide = _fitted(
            prior, lambda p: dist.Bernoulli(p), data, middle.logit(),
            lambda loc, scale: dist.TransformedDistribution(
                dist.Normal(loc, scale), dist.transforms.SigmoidTransform()
            ),
        )  # fmt: skip
        likelihood = heads * z.log() + tails * torch.log1p(-z)
        return _tables(z, prior, likelihood, exact, guide, heads, _spread(data, 0.5, 0.02))

    own = {"prior_heads": (1.0, 20.0, 0.5), "prior_tails": (1.0, 20.0, 0.5)}
    return live(
        program, _chart((0.0, 1.0), "z, the probability of heads"),
        title="A coin, from prior to posterior", caption=_CAPTION.replace("SAID", "heads of {plate_size} tosses"),
        seed=seed, **{**own, "plate_size": (1, _ROWS), **controls},
    )  # fmt: skip


def gamma_poisson(*, observed=(3, 1, 4, 2), seed: int = 0, **controls) -> LiveFigure:
    """Counts: z ~ Gamma(concentration, rate), counts ~ Poisson(z). Prior and plate size are sliders.

    The guide is LogNormal; `pplkit.infer.SVI` fits it afresh at every change.

    Args:
        observed: the first counts; those beyond are drawn from the seed.
        seed: of the other counts, and of the fit.
        controls: instead of the figure's own: `concentration`, `rate`, `plate_size`.

    >>> figure = gamma_poisson()
    >>> figure
    LiveFigure(concentration=2.0, rate=0.5, plate_size=4)
    >>> round(figure.tables["exact"]["mean"].item(), 4)  # (2 + 10) / (0.5 + 4)
    2.6667
    >>> figure.close()
    """
    observed = torch.as_tensor(observed, dtype=torch.float32)
    z, start = 10 * (torch.arange(240) + 0.5) / 240, len(observed)

    def program(concentration=2.0, rate=0.5, plate_size=start):
        mean = observed.mean().clamp(0.1, 12.0)
        data = _rows(observed, dist.Poisson(mean))[:plate_size]
        total = data.sum()
        prior = dist.Gamma(torch.as_tensor(concentration), torch.as_tensor(rate))
        exact = dist.Gamma(concentration + total, rate + torch.as_tensor(1.0) * plate_size)
        guide = _fitted(
            prior, lambda z: dist.Poisson(z), data,
            torch.as_tensor(concentration / rate).log(), dist.LogNormal,
        )  # fmt: skip
        likelihood = total * z.log() - plate_size * z
        return _tables(z, prior, likelihood, exact, guide, total, _spread(data, 0.0, 0.15))

    own = {"concentration": (1.0, 10.0, 0.25), "rate": (0.2, 3.0, 0.05)}
    return live(
        program, _chart((0.0, 10.0), "z, the expected count"),
        title="Counts, from prior to posterior", caption=_CAPTION.replace("SAID", "events in {plate_size} counts"),
        seed=seed, **{**own, "plate_size": (1, _ROWS), **controls},
    )  # fmt: skip


def _rows(observed: Tensor, rest) -> Tensor:
    """The data there are, and as many as a plate may want."""
    with pplkit.plate("more", _ROWS):
        more = pplkit.sample("row", rest)
    return torch.cat([observed, more])


def _spread(data: Tensor, middle: float, by: float) -> Tensor:
    """Places at which equal values do not hide one another."""
    return data + by * torch.sin(12.9898 * torch.arange(len(data)))


def _fitted(prior, likelihood: Callable, data: Tensor, start: Tensor, family: Callable):
    """A guide of a family with location and scale, by SVI."""

    def model():
        with pplkit.plate("draws", _DRAWS, dim=-2):
            z = pplkit.sample("z", prior)
            with pplkit.plate("data", len(data), dim=-1):
                pplkit.sample("obs", likelihood(z), obs=data)

    def guide():
        loc = pplkit.param("loc", start)
        scale = pplkit.param("scale", torch.tensor(0.3), constraint=dist.constraints.positive)
        with pplkit.plate("draws", _DRAWS, dim=-2):
            pplkit.sample("z", family(loc, scale))

    for lr, steps in _COARSE_TO_FINE:
        fit = SVI(model, guide, Adam({"lr": lr, "betas": (0.8, 0.9)}), loss=Trace_ELBO()).run(steps)
    return family(fit.params["loc"], fit.params["scale"])


def _tables(z, prior, likelihood, exact, guide, said, points) -> dict:
    fitted = guide.log_prob(z)
    share = fitted.exp() / fitted.exp().sum()
    mean = (share * z).sum()
    spread = (share * (z - mean) ** 2).sum().sqrt()
    return {
        "prior": _curve(z, prior.log_prob(z)),
        "likelihood": _curve(z, likelihood),
        "posterior": _curve(z, exact.log_prob(z)),
        "guide": _curve(z, fitted),
        "points": {"z": points},
        "exact": {"mean": exact.mean, "sd": exact.variance.sqrt()},
        "fitted": {"mean": mean, "sd": spread},
        "data": {"said": said},
    }


def _curve(z: Tensor, log_density: Tensor) -> dict[str, Tensor]:
    return {"z": z, "height": (log_density - log_density.amax(0)).exp()}


def _chart(span: tuple[float, float], title: str):
    import altair as alt

    low, high = span
    margin = 0.04 * (high - low)
    z = axis("z", (low - margin, high + margin), title, tickCount=10)
    height = axis("height", (-0.14, 1.05), "density, peak = 1", "y", values=[0, 0.5, 1])
    dashes = [[8, 4], [2, 3], [1, 0], [5, 3]]
    widths = {"exact posterior": 6}
    curves = [
        called(table(part), name)
        .mark_line(strokeWidth=widths.get(name, 2.25), opacity=0.55 if name in widths else 1,
                   description=name, clip=True)
        .encode(z, height, **told_apart(_NAMES, dashes))
        for part, name in zip(("prior", "likelihood", "posterior", "guide"), _NAMES, strict=True)
    ]  # fmt: skip
    ticks = table("points").mark_point(**TICK, opacity=0.6).encode(z, alt.YDatum(-0.075))
    return alt.layer(*curves, ticks).properties(
        height=270,
        description="Four curves over z (prior, likelihood, exact posterior and fitted guide), each"
        " as high as the others, and ticks for the data.",
    )
