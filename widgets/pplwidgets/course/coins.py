"""A plate of Bernoulli variables, each with a probability of its own."""

from __future__ import annotations

import torch

import pplkit
import pplkit.distributions as dist

from ..controls import marked
from ..figure import LiveFigure, live
from .marks import axis, dot, inked, table

_COINS = (0.1, 0.3, 0.5, 0.7, 0.9)
_ROWS = 400
_SHOWN = 60  # rows of which each toss is drawn
_CAPTION = (
    "Of {rows} tosses each, coin A shows heads {a.heads:.0f} times, B {b.heads:.0f}, C"
    " {c.heads:.0f}, D {d.heads:.0f}, E {e.heads:.0f}. Farthest from its probability: {worst.off:.3f}."
    " The bars are two standard deviations wide to either side, √(p(1 − p)/{rows}) each."
)


def bernoulli_plate(*, seed: int = 0, **controls) -> LiveFigure:
    """Five coins in a plate inside a plate of tosses: frequencies against probabilities.

    A toss keeps the uniform number it is made of while its coin's probability is moved, so heads
    turn up one by one.

    Args:
        seed: of the tosses.
        controls: instead of the figure's own: `a`, `b`, `c`, `d`, `e` (probabilities), `rows`.

    >>> figure = bernoulli_plate()
    >>> figure
    LiveFigure(a=0.1, b=0.3, c=0.5, d=0.7, e=0.9, rows=40)
    >>> figure.a = 1.0
    >>> figure.tables["a"]["heads"].item()
    40.0
    >>> figure.close()
    """

    def program(a=0.1, b=0.3, c=0.5, d=0.7, e=0.9, rows=40):
        probs = torch.stack([torch.as_tensor(p) for p in (a, b, c, d, e)])
        with pplkit.plate("tosses", rows, dim=-2), pplkit.plate("coins", 5, dim=-1):
            heads = pplkit.sample("heads", dist.Bernoulli(probs))
        counts = heads.sum(0)
        shares = counts / rows
        reach = 2 * (probs * (1 - probs) / rows).sqrt()
        coin = 5.0 - torch.arange(5)
        row = torch.arange(rows).unsqueeze(-1) + 1.0 + 0 * coin
        made = {
            "coins": {
                "coin": coin, "probability": probs, "frequency": shares,
                "low": (probs - reach).clamp(min=0), "high": (probs + reach).clamp(max=1),
            },
            "tosses": {
                "row": row.reshape(-1), "coin": (coin + 0 * row).reshape(-1),
                "heads": heads.reshape(-1) > 0.5,
            },
            "worst": {"off": (shares - probs).abs().amax(0)},
        }  # fmt: skip
        return made | {name: {"heads": counts[i]} for i, name in enumerate("abcde")}

    own = {
        name: marked((0.0, 1.0, 0.01), label=f"probability of {name.upper()}") for name in "abcde"
    }
    return live(
        program, _chart(), title="Five coins", caption=_CAPTION, seed=seed,
        **{**own, "rows": marked((1, _ROWS), label="tosses of each"), **controls},
    )  # fmt: skip


def _chart():
    import altair as alt

    names = "datum.value == 5 ? 'A' : datum.value == 4 ? 'B' : datum.value == 3 ? 'C' :"
    names += " datum.value == 2 ? 'D' : 'E'"
    coin = axis(
        "coin", (0.5, 5.5), "coin", "y", values=[1, 2, 3, 4, 5], labelExpr=names, minExtent=40
    )
    row = axis("row", (0.3, _SHOWN + 0.7), f"toss, the first {_SHOWN} of them",
               values=[1, *range(10, _SHOWN + 1, 10)], format="d")  # fmt: skip
    said = "probability (stroke, ± 2 sd) and frequency (diamond)"
    share = axis("probability", (-0.01, 1.01), said,
                 values=[0, 0.25, 0.5, 0.75, 1], format="~f")  # fmt: skip
    tosses = table("tosses").transform_filter(f"datum.row <= {_SHOWN}")
    full = alt.condition("datum.heads", alt.value(1), alt.value(0.12))
    grid = inked(tosses.mark_point(shape="square", filled=True, size=46), 0).encode(
        row, coin, opacity=full, shape=alt.value("square")
    )
    coins = table("coins")
    spread = coins.mark_rule(strokeWidth=9, opacity=0.22).encode(
        alt.X("low:Q").title(said), coin, alt.X2("high")
    )
    stroke = coins.mark_point(
        shape="stroke", angle=90, size=300, strokeWidth=3, opacity=1, color="currentColor"
    ).encode(share, coin)
    found = dot(coins, 1, "diamond", 110).encode(alt.X("frequency:Q").title(said), coin)
    return alt.vconcat(
        alt.layer(grid).properties(height=110), alt.layer(stroke, spread, found).properties(height=150), spacing=18,
    ).properties(
        description="Above a square for each toss of five coins, dark for heads; below each coin's"
        " probability as a stroke with a bar around it, and the frequency of heads as a diamond."
    )  # fmt: skip
