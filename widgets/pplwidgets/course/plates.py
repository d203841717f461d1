"""What a plate is: many statements in one, whose log-probabilities add up."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import pplkit
import pplkit.distributions as dist
from pplkit.handlers import condition, seed, trace

from ..figure import LiveFigure, live
from .marks import DASHES, axis, dot, inked, line, table

_ROWS = 60  # the largest plate
_CAPTION = (
    "Plate of size {plate_size}: x and log p(x | z) have shape ({plate_size},), z has shape (), and"
    " the sum is one number, {total.log_prob:.2f}. With the plate it takes {work.plate:.0f} tensor"
    " operations, whatever its size; a Python loop over the rows takes {work.loop:.0f}, and"
    " {plate_size} statements instead of one."
)


def plate_explorer(*, seed: int = 0, **controls) -> LiveFigure:
    """Rows that are independent, given their mean `z`: the data, what each adds to the joint
    log-probability, and how the sum grows from row to row.

    The numbers of tensor operations in the caption are counted, on runs with plate and loop.

    Args:
        seed: of the data.
        controls: instead of the figure's own: `plate_size`, `z`.

    >>> figure = plate_explorer()
    >>> figure
    LiveFigure(plate_size=12, z=0.0)
    >>> rows, total = figure.tables["rows"], figure.tables["total"]
    >>> torch.allclose(rows["log_prob"].sum(), total["log_prob"])
    True
    >>> figure.close()
    """
    whole, each, start = _counted()

    def program(plate_size=12, z=0.0):
        data = _data()[:plate_size]

        def model():
            with pplkit.plate("data", plate_size):
                pplkit.sample("x", dist.Normal(z, 1.0), obs=data)

        log_prob = trace(model).get_trace().nodes["x"].log_prob
        row = torch.arange(plate_size) + 1.0
        return {
            "rows": {"row": row, "x": data, "log_prob": log_prob, "sum": log_prob.cumsum(0)},
            "total": {"log_prob": log_prob.sum().reshape(1), "row": row[-1:]},
            "mean": {"z": torch.as_tensor(z).reshape(1)},
            "work": {
                "plate": torch.full((1,), float(whole)),
                "loop": torch.full((1,), 1.0) * plate_size * each + start,
            },
        }

    own = {"plate_size": (1, _ROWS), "z": (-1.5, 1.5, 0.05)}
    return live(
        program, _chart(), title="A plate, row by row", caption=_CAPTION, seed=seed,
        **{**own, **controls},
    )  # fmt: skip


def _data() -> torch.Tensor:
    with pplkit.plate("all", _ROWS):
        return pplkit.sample("row", dist.Normal(0.3, 1.0))


class _Counter(TorchDispatchMode):
    """Counts tensor operations."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def _counted() -> tuple[int, int, int]:
    """Tensor operations of one run with a plate; of a loop, for each row and besides."""

    def with_plate(n):
        with pplkit.plate("data", n):
            pplkit.sample("x", dist.Normal(0.0, 1.0))

    def with_loop(n):
        for i in range(n):
            pplkit.sample(f"x_{i}", dist.Normal(0.0, 1.0))

    def work(model, n: int) -> int:
        with _Counter() as counter:
            trace(seed(condition(model, data={}), rng_seed=0)).get_trace(n).log_prob_sum()
        return counter.count

    two, three = work(with_loop, 2), work(with_loop, 3)
    return work(with_plate, 3), three - two, two - 2 * (three - two)


def _chart():
    import altair as alt

    across = (0.4, _ROWS + 0.6)
    row = axis("row", across, "row of the plate", values=[1, *range(10, _ROWS + 1, 10)], format="d")
    quiet = axis("row", across, None, values=[1, *range(10, _ROWS + 1, 10)], labels=False)
    rows = table("rows")
    value = axis("x", (-3.5, 3.5), "x", "y", values=[-3, 0, 3], minExtent=48)
    each = axis("log_prob", (-8, 0.4), "log p(x | z)", "y", values=[-8, -4, 0], minExtent=48)
    total = axis("sum", (-165, 12), "sum so far", "y", values=[-150, -100, -50, 0], minExtent=48)
    mean = table("mean").mark_rule(strokeDash=[4, 3], strokeWidth=1.5)
    here = table("mean").mark_text(
        align="right", baseline="bottom", dy=-2, fontWeight=600, text="z"
    )
    mean = mean.encode(alt.Y("z:Q").title("x"))
    here = here.encode(alt.Y("z:Q").title("x"), x=alt.value("width"))
    draws = dot(rows, 0, size=42).encode(quiet, value)
    terms = inked(rows.mark_rule(strokeWidth=5, clip=True), 1).encode(quiet, each, y2=alt.datum(0))
    steps = line(rows, 2, interpolate="step-after").encode(
        row, total, strokeDash=alt.value(list(DASHES[0]))
    )
    end = alt.Y("log_prob:Q").title("sum so far")
    last = dot(table("total"), 2, "diamond", 90).encode(row, end)
    said = table("total").mark_text(align="left", dx=9, baseline="middle", fontWeight=600)
    said = said.encode(row, end, text=alt.Text("log_prob:Q", format=".1f"))
    panels = [
        alt.layer(draws, mean, here).properties(height=85),
        alt.layer(terms).properties(height=85),
        alt.layer(steps, last, said).properties(height=130),
    ]
    return alt.vconcat(*panels, spacing=14).properties(
        description="Over the rows of a plate: the data as dots with a line at their mean z, each"
        " one's log-probability as a needle down from zero, and the running sum as a staircase."
    )
