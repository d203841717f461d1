"""Every family of one variable: density or mass, distribution function, draws, moments."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

import pplkit
import pplkit.distributions as dist

from ..controls import marked
from ..figure import LiveFigure, live
from .marks import TICK, axis, dot, inked, line, table

DRAWS = 200
_CELLS = 240  # of the grid over which a density is drawn
_SLIDERS = {
    "loc": (-2.0, 2.0, 0.1, 0.0),
    "scale": (0.4, 2.0, 0.05, 1.0),
    "df": (1.0, 20.0, 0.5, 4.0),
    "df1": (1.0, 20.0, 0.5, 5.0),
    "df2": (1.0, 20.0, 0.5, 8.0),
    "asymmetry": (0.4, 2.5, 0.05, 1.5),
    "softness": (0.2, 2.0, 0.05, 0.5),
    "rate": (0.3, 5.0, 0.05, 1.5),
    "concentration": (0.5, 8.0, 0.1, 2.0),
    "tail": (-0.5, 0.9, 0.05, 0.2),
    "alpha": (0.5, 6.0, 0.1, 3.0),
    "low": (-2.5, -0.1, 0.1, -1.0),
    "high": (0.1, 2.5, 0.1, 1.5),
    "lower": (0.2, 1.0, 0.05, 0.5),
    "upper": (1.5, 5.0, 0.1, 4.0),
    "concentration1": (0.5, 8.0, 0.1, 2.0),
    "concentration0": (0.5, 8.0, 0.1, 3.0),
    "temperature": (0.3, 3.0, 0.05, 0.7),
    "probs": (0.02, 0.98, 0.01, 0.3),
    "total_count": (1.0, 20.0, 1.0, 10.0),
    "gate": (0.0, 0.9, 0.05, 0.3),
}
_CALLED = {
    "df": "df",
    "tail": "concentration (tail)",
    "lower": "low",
    "upper": "high",
}
# Parameters of a family that go by another slider.
_AS = {
    "GeneralizedPareto": {"tail": "concentration"},
    "LogUniform": {"lower": "low", "upper": "high"},
}


@dataclass(frozen=True)
class Family:
    """A family, its sliders, and the axes that hold for all of their values."""

    name: str
    sliders: tuple[str, ...]
    low: float
    high: float
    top: float  # of the axis of densities or masses
    whole: bool = False

    def at(self, values: dict[str, Tensor]):
        """The distribution with these parameters."""
        names = _AS.get(self.name, {})
        given = {names.get(s, s): values[s] for s in self.sliders}
        if "total_count" in given:
            given["total_count"] = given["total_count"].round()
        return getattr(dist, self.name)(**given)

    def grid(self) -> Tensor:
        """Values to evaluate at: whole numbers, or the middles of cells, so that none is the end of
        a support, where densities may be infinite.
        """
        if self.whole:
            return torch.arange(self.low, self.high + 1)
        cell = (self.high - self.low) / _CELLS
        return self.low + cell * (torch.arange(_CELLS) + 0.5)


def _families() -> dict[str, Family]:
    place = ("loc", "scale")
    beta = ("concentration1", "concentration0")
    line = [
        ("Normal", place, 1.0), ("Cauchy", place, 0.8), ("Laplace", place, 1.25),
        ("Logistic", place, 0.65), ("Gumbel", place, 0.95), ("SoftLaplace", place, 0.8),
        ("StudentT", ("df", *place), 1.0), ("SkewLogistic", (*place, "asymmetry"), 0.8),
        ("AsymmetricLaplace", (*place, "asymmetry"), 1.25),
        ("SoftAsymmetricLaplace", (*place, "asymmetry", "softness"), 1.0),
        ("Uniform", ("low", "high"), 1.0), ("TruncatedNormal", (*place, "low", "high"), 1.5),
    ]  # fmt: skip
    positive = [
        ("Exponential", ("rate",), 6.0, 2.0), ("Gamma", ("concentration", "rate"), 10.0, 1.5),
        ("InverseGamma", ("concentration", "rate"), 6.0, 2.0), ("Chi2", ("df",), 20.0, 0.6),
        ("HalfNormal", ("scale",), 6.0, 2.0), ("HalfCauchy", ("scale",), 10.0, 1.6),
        ("LogNormal", place, 10.0, 1.2), ("Weibull", ("scale", "concentration"), 6.0, 2.0),
        ("Pareto", ("scale", "alpha"), 8.0, 3.0), ("FisherSnedecor", ("df1", "df2"), 6.0, 1.2),
        ("LogUniform", ("lower", "upper"), 6.0, 2.0),
    ]  # fmt: skip
    unit = [
        ("Beta", beta, 4.0), ("Kumaraswamy", beta, 4.0), ("ContinuousBernoulli", ("probs",), 4.0),
        ("RelaxedBernoulli", ("temperature", "probs"), 4.0),
    ]  # fmt: skip
    counts = [
        ("Bernoulli", ("probs",), 1, 1.0), ("Geometric", ("probs",), 20, 1.0),
        ("Binomial", ("total_count", "probs"), 20, 1.0), ("Poisson", ("rate",), 16, 0.8),
        ("NegativeBinomial", ("total_count", "probs"), 24, 1.0),
        ("BetaBinomial", (*beta, "total_count"), 20, 0.8),
        ("GammaPoisson", ("concentration", "rate"), 24, 0.8),
        ("ZeroInflatedPoisson", ("rate", "gate"), 16, 1.0),
        ("ZeroInflatedNegativeBinomial", ("total_count", "probs", "gate"), 24, 1.0),
    ]  # fmt: skip
    made = [Family(name, sliders, -6.0, 6.0, top) for name, sliders, top in line]
    made += [Family("VonMises", ("loc", "concentration"), -3.1416, 3.1416, 1.2)]
    made += [Family("GeneralizedPareto", ("loc", "scale", "tail"), -3.0, 8.0, 2.5)]
    made += [Family(name, sliders, 0.0, high, top) for name, sliders, high, top in positive]
    made += [Family(name, sliders, 0.0, 1.0, top) for name, sliders, top in unit]
    made += [Family("AffineBeta", (*beta, *place), -2.5, 4.5, 4.0)]
    made += [Family(name, sliders, 0.0, high, top, True) for name, sliders, high, top in counts]
    return {family.name: family for family in made}


FAMILIES = _families()
_CAPTION = (
    "Mean {moments.mean:.3f}, variance {moments.variance:.3f}; of the draws {drawn.mean:.3f} and"
    " {drawn.variance:.3f}. At x = {pointer.x:.2f}: p(x) = {here.density:.4f},"
    " log p(x) = {here.log_density:.3f}, and P(X ≤ x) = {pointer.below:.3f}, the shaded part."
)


def distribution_explorer(*families: str, seed: int = 0, **controls) -> LiveFigure:
    """A family of distributions under one's hands: its parameters are sliders.

    Drawn together: the density, or the mass of each whole number; the distribution function, dashed
    and on an axis of its own; 200 draws, as ticks; mean and one standard deviation to either side;
    and the pointer, whose values stand in the caption.

    Args:
        families: names of those to choose from; unless told, every family of one variable.
        seed: of the draws.
        controls: instead of the figure's own: `family`, `pointer`, and the parameters' names.

    Raises:
        ValueError: a name that is none of `FAMILIES`.

    >>> figure = distribution_explorer("Normal", "Gamma")
    >>> figure
    LiveFigure(family='Normal', loc=0.0, scale=1.0, rate=1.5, concentration=2.0, pointer=0.6)
    >>> figure.family = "Gamma"
    >>> [round(x.item(), 3) for x in figure.tables["moments"].values()]  # 2 / 1.5, 2 / 1.5²
    [1.333, 0.889]
    >>> figure.close()
    """
    from pplkit.errors import nearest

    for name in families:
        if name not in FAMILIES:
            raise ValueError(f"{name!r} is no family of the explorer: {nearest(name, [*FAMILIES])}")
    shown = {name: FAMILIES[name] for name in families or FAMILIES}

    def program(family, pointer, **values):
        values = {name: torch.as_tensor(value) for name, value in values.items()}
        return _tables(shown[family], values, pointer)

    own = {"family": marked(list(shown), refit=True)}
    for name, (low, high, step, start) in _SLIDERS.items():
        users = [each.name for each in shown.values() if name in each.sliders]
        if users:
            own[name] = marked(
                (low, high, step), value=start, label=_CALLED.get(name, ""), when={"family": users}
            )
    own["pointer"] = marked((0.0, 1.0, 0.005), value=0.6, label="pointer")
    return live(
        program, _chart(), title="A family of distributions", caption=_CAPTION, seed=seed,
        **{**own, **controls},
    )  # fmt: skip


def _tables(family: Family, values: dict[str, Tensor], pointer) -> dict:
    fn = family.at(values)
    with pplkit.plate("draws", DRAWS):
        draws = pplkit.sample("x", fn)
    x = family.grid()
    at = family.low + pointer * (family.high - family.low)
    at = torch.round(torch.as_tensor(at)) if family.whole else torch.as_tensor(at)
    # All at once: written out, a distribution function is most of what a page has to load.
    log_all, below_all = _evaluated(family, fn, torch.cat([x, at.reshape(1)]), draws[0])
    log_density, below, density = log_all[:-1], below_all[:-1], log_all[:-1].exp()
    here_log, here_below = log_all[-1:], below_all[-1:]
    top = 1.02 * family.top
    shown = density.clamp(max=top)
    curve = {"x": x, "density": shown, "below": below, "log_density": log_density.clamp(min=-1e3)}
    margin = 0.6 if family.whole else 0.0
    # Equal counts would hide one another.
    beside = torch.linspace(-0.3, 0.3, DRAWS) if family.whole else 0.0
    nothing = {name: column[:0] for name, column in curve.items()}
    mean, variance = _moments(fn)
    return {
        "density": {
            **(nothing if family.whole else curve),
            "shade": (nothing["x"] if family.whole else torch.where(x <= at, shown, 0.0)),
        },
        "mass": {
            **(curve if family.whole else nothing),
            "left": (x <= at) if family.whole else nothing["x"] > 0,
        },
        "points": curve,
        "draws": {"x": draws + beside, "floor": torch.full((DRAWS,), -0.06 * family.top)},
        "frame": {
            "x": torch.tensor([family.low - margin, family.high + margin]),
            "density": torch.tensor([-0.12 * family.top, family.top]),
        },
        "bar": _bar(mean, variance, family),
        "pointer": {
            "x": at.reshape(1),
            "height": here_log.exp().clamp(max=top),
            "below": here_below,
        },
        # Numbers for the caption, infinite ones too.
        "moments": {"mean": mean, "variance": variance},
        "drawn": {"mean": draws.mean(), "variance": draws.var()},
        "here": {"density": here_log.exp(), "log_density": here_log},
    }


def _evaluated(family: Family, fn, x: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Log-density and distribution function, also where `x` is outside the support."""
    here = fn.support.check(x)
    probe = torch.where(here, x, inside)
    log_density = torch.where(here, fn.log_prob(probe), -torch.inf)
    return log_density, torch.where(here, _below(family, fn, probe), (x > inside).to(x.dtype))


def _below(family: Family, fn, x: Tensor) -> Tensor:
    if family.name != "BetaBinomial":
        return fn.cdf(x)
    # Its own has as many terms as it counts to, so it cannot be captured; here the axis has an end.
    k = family.grid()
    mass = torch.where(k <= fn.total_count, fn.log_prob(torch.minimum(k, fn.total_count)).exp(), 0.0)
    return torch.where(k <= x.unsqueeze(-1), mass, 0.0).sum(-1)


def _moments(fn) -> tuple[Tensor, Tensor]:
    low, high = 0.0, 1.0
    if isinstance(fn, dist.VonMises):  # torch's variance is that of a direction, 1 - E cos(x - loc)
        low, high = -math.pi, math.pi
    else:
        try:
            return torch.as_tensor(fn.mean), torch.as_tensor(fn.variance)
        except NotImplementedError:
            pass
    # No closed form: by the middles of cells.
    x = low + (high - low) * (torch.arange(2000) + 0.5) / 2000
    weights = fn.log_prob(x).exp()
    mean = (weights * x).sum() / weights.sum()
    return mean, (weights * (x - mean) ** 2).sum() / weights.sum()


def _bar(mean: Tensor, variance: Tensor, family: Family) -> dict[str, Tensor]:
    """Where mean and standard deviation are drawn, as far as the axis shows them."""
    reach = torch.nan_to_num(variance.sqrt(), nan=0.0)
    middle = torch.nan_to_num(mean, nan=0.0)
    ends = {"left": middle - reach, "mean": middle, "right": middle + reach}
    made = {name: end.clamp(family.low, family.high) for name, end in ends.items()}
    made["floor"] = torch.full((), -0.06 * family.top)
    return {**made, "there": mean.isfinite() & (mean >= family.low) & (mean <= family.high)}


def _chart():
    import altair as alt

    share = axis(
        "below", (-0.12, 1.0), "P(X ≤ x), dashed", "y",
        values=[0, 0.5, 1], orient="right", grid=False,
    )  # fmt: skip
    x, said = _x(alt), {"description": "distribution function"}
    right = [
        line(table("density"), 1, 2, **said).encode(x, share),
        line(table("mass"), 1, 2, interpolate="step-after", **said).encode(x, share),
        dot(table("pointer"), 1, "diamond").encode(x, share),
    ]
    left = alt.layer(*_densities(alt), *_places(alt), *_followers(alt))
    return alt.layer(left, alt.layer(*right)).resolve_scale(y="independent").properties(
        height=290,
        description="A density over x with the part left of the pointer shaded, or masses as"
        " needles; the distribution function, dashed; draws as ticks below.",
    )  # fmt: skip


def _x(alt, column: str = "x"):
    return (
        alt.X(f"{column}:Q").scale(nice=False, zero=False, padding=0).axis(format="~g").title("x")
    )


def _height(alt, column: str = "density"):
    made = alt.Y(f"{column}:Q").scale(nice=False, zero=False)
    return made.axis(tickCount=5).title("density p(x), or mass")


def _densities(alt) -> list:
    x, height, density, mass = _x(alt), _height(alt), table("density"), table("mass")
    strong = alt.condition("datum.left", alt.value(1), alt.value(0.35))
    return [
        table("frame").mark_point(opacity=0).encode(x, height),
        inked(density.mark_area(opacity=0.25, clip=True), 0).encode(x, _height(alt, "shade")),
        line(density, 0, description="density").encode(x, height),
        inked(mass.mark_rule(strokeWidth=4), 0).encode(x, height, y2=alt.datum(0), opacity=strong),
        dot(mass, 0, size=45, description="mass").encode(x, height),
    ]


def _places(alt) -> list:
    """Draws, mean and standard deviation, and the pointer of the slider."""
    x = _x(alt)
    bar, pointer = table("bar").transform_filter("datum.there"), table("pointer")
    return [
        table("draws").mark_point(**TICK, opacity=0.3).encode(x, _height(alt, "floor")),
        bar.mark_rule(strokeWidth=3, opacity=0.9).encode(
            _x(alt, "left"), x2="right", y=_height(alt, "floor")
        ),
        bar.mark_point(
            shape="diamond", filled=True, size=120, opacity=1, color="currentColor"
        ).encode(_x(alt, "mean"), _height(alt, "floor")),
        pointer.mark_rule(strokeDash=[3, 3]).encode(x),
        dot(pointer, 0).encode(x, _height(alt, "height")),
    ]


def _followers(alt) -> list:
    """What the mouse is at."""
    log = "datum.log_density < -999 ? '−∞' : format(datum.log_density, '.3f')"
    near = alt.selection_point(
        name="pointed", on="pointermove", nearest=True, fields=["x"], empty=False,
        clear="pointerout",
    )  # fmt: skip
    x, points = _x(alt), table("points")
    said = points.transform_calculate(
        said=f"'x = ' + format(datum.x, '.2f') + ',  log p = ' + ({log})"
    )
    return [
        points.mark_point(opacity=0).encode(x, _height(alt)).add_params(near),
        points.mark_rule(opacity=0.4).encode(x).transform_filter(near),
        said.mark_text(baseline="top", fontWeight=600)
        .encode(x, y=alt.value(2), text="said:N")
        .transform_filter(near),
    ]
