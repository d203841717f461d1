"""A posterior predictive check: would the model have made data like these?"""

from __future__ import annotations

import torch
from torch import Tensor

import pplkit
import pplkit.distributions as dist

from ..controls import marked
from ..figure import LiveFigure, live
from .marks import axis, dot, inked, table

_TOSSES, _REPLICATES = 40, 400
_BINS = torch.arange(0.0, _TOSSES + 1)
_STATISTICS = ("changes of side", "heads", "longest run")
_CAPTION = (
    "In the data, the statistic ({statistic}) is {seen.value:.0f}. Of 400 replicated data sets"
    " {share.percent:.1f} % have as little or less, {share.above:.1f} % as much or more: where"
    " either is below 2.5 % or so, the model has missed something."
)


def posterior_predictive_check(*, seed: int = 0, **controls) -> LiveFigure:
    """A coin that remembers, and a model of tosses that do not.

    40 tosses; the next one repeats the last with probability `memory`, and is thrown afresh
    otherwise. The model knows only Bernoulli tosses with one probability, Beta(1, 1) beforehand. It
    is drawn from, given the data, and the data's statistic is compared with that of the replicates.

    Args:
        seed: of data and replicates.
        controls: instead of the figure's own: `memory`, `heads` (of a toss thrown afresh),
            `statistic`.

    >>> figure = posterior_predictive_check()
    >>> figure
    LiveFigure(memory=0.7, heads=0.5, statistic='changes of side')
    >>> figure.tables["replicated"]["count"].sum()
    tensor(400.)
    >>> figure.close()
    """

    def program(memory=0.7, heads=0.5, statistic=_STATISTICS[0]):
        data = _tosses(torch.as_tensor(memory), torch.as_tensor(heads))
        total = data.sum()
        posterior = dist.Beta(1.0 + total, 1.0 + _TOSSES - total)
        with pplkit.plate("replicates", _REPLICATES, dim=-2):
            p = pplkit.sample("p", posterior)
            with pplkit.plate("tosses", _TOSSES, dim=-1):
                again = pplkit.sample("again", dist.Bernoulli(p))
        seen, values = _statistic(statistic, data), _statistic(statistic, again)
        count = (values.unsqueeze(-1) == _BINS).float().sum(0)
        place = torch.arange(_TOSSES) + 1.0
        shown = torch.cat([data.unsqueeze(0), again[:5]])
        row = torch.arange(6.0).unsqueeze(-1)
        return {
            "tosses": {
                "toss": (place + 0 * row).reshape(-1), "row": (row + 0 * place).reshape(-1),
                "heads": shown.reshape(-1) > 0.5,
            },
            "replicated": {"value": _BINS, "count": count, "beyond": _BINS <= seen},
            "seen": {"value": seen.reshape(1)},
            "share": {
                "percent": 100 * (values <= seen).float().mean(),
                "above": 100 * (values >= seen).float().mean(),
            },
        }  # fmt: skip

    own = {
        "memory": (0.0, 0.95, 0.05),
        "heads": marked((0.1, 0.9, 0.05), label="share of heads"),
        "statistic": list(_STATISTICS),
    }
    return live(
        program, _chart(), title="Would the model have made these data?", caption=_CAPTION,
        seed=seed, **{**own, **controls},
    )  # fmt: skip


def _tosses(memory: Tensor, heads: Tensor) -> Tensor:
    """A coin that repeats itself: each toss is the last one that was thrown afresh."""
    with pplkit.plate("data", _TOSSES):
        repeats = pplkit.sample("repeats", dist.Bernoulli(memory))
        fresh = pplkit.sample("fresh", dist.Bernoulli(heads))
    place = torch.arange(_TOSSES)
    thrown = torch.where((repeats < 0.5) | (place == 0), place, 0)
    before = place.unsqueeze(0) <= place.unsqueeze(1)
    last = torch.where(before, thrown.unsqueeze(0), 0).amax(-1)
    return (fresh.unsqueeze(0) * (place.unsqueeze(0) == last.unsqueeze(1))).sum(-1)


def _statistic(which: str, tosses: Tensor) -> Tensor:
    """Of tosses along the last dimension."""
    if which == "heads":
        return tosses.sum(-1)
    changed = (tosses[..., 1:] != tosses[..., :-1]).float()
    if which == "changes of side":
        return changed.sum(-1)
    place = torch.arange(float(_TOSSES - 1)) + 1
    ends = torch.cat([torch.zeros_like(tosses[..., :1]), changed * place], -1)
    # At every toss, where its run began: the last change up to there.
    before = torch.arange(_TOSSES).unsqueeze(0) <= torch.arange(_TOSSES).unsqueeze(1)
    began = torch.where(before, ends.unsqueeze(-2), 0.0).amax(-1)
    return (torch.arange(float(_TOSSES)) - began + 1).amax(-1)


def _chart():
    import altair as alt

    toss = axis("toss", (0, _TOSSES + 1), None, values=[1, 10, 20, 30, 40], format="d")
    labels = "datum.value == 0 ? 'data' : 'replica ' + datum.value"
    row = axis(
        "row",
        (5.7, -0.7),
        None,
        "y",
        values=list(range(6)),
        labelExpr=labels,
        labelSeparation=0,
        minExtent=62,
        grid=False,
    )
    full = alt.condition("datum.heads", alt.value(1), alt.value(0.12))
    tosses = table("tosses")
    data = inked(tosses.mark_point(shape="square", filled=True, size=60), 1)
    others = inked(tosses.mark_point(shape="square", filled=True, size=60), 0)
    above = alt.layer(
        data.transform_filter("datum.row == 0").encode(
            toss, row, opacity=full, shape=alt.value("square")
        ),
        others.transform_filter("datum.row > 0").encode(
            toss, row, opacity=full, shape=alt.value("circle")
        ),
    )
    value = axis("value", (-0.8, _TOSSES + 0.8), "statistic of 40 tosses", tickCount=8)
    count = axis("count", (0, 90), "replicates", "y", values=[0, 30, 60, 90], minExtent=62)
    strong = alt.condition("datum.beyond", alt.value(1), alt.value(0.4))
    bars = inked(table("replicated").mark_bar(width=9, clip=True), 0).encode(
        value, count, opacity=strong
    )
    seen = table("seen").mark_rule(strokeWidth=2.5, strokeDash=[5, 3], opacity=1).encode(value)
    said = table("seen").mark_text(
        align="left", dx=6, baseline="top", fontWeight=600, text="the data"
    )
    top = dot(table("seen"), 1, "diamond", 110).encode(value, y=alt.value(6))
    return alt.vconcat(
        above.properties(height=110), alt.layer(bars, seen, top, said.encode(value, y=alt.value(1))).properties(height=150), spacing=16,
    ).properties(
        description="Above, the tosses of the data and of five replicates as squares, dark for"
        " heads; below, how often each value of the statistic comes up among 400 replicates, and a"
        " line at that of the data."
    )  # fmt: skip
