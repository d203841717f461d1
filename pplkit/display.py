"""How the engine shows what it knows, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .effects import Message
    from .trace import Trace


def shape_table(trace: Trace) -> str:
    """The shapes of every site: batch dimensions left of the bar, event dimensions right of it.

    >>> import pplkit, pplkit.distributions as dist
    >>> def model():
    ...     with pplkit.plate("rows", 3):
    ...         pplkit.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    >>> print(shape_table(pplkit.handlers.trace(model).get_trace()))
    site  type    distribution  batch | event  value   plates
    rows  plate   Subsample           | 3      (3,)
    x     sample  Normal            3 | 2      (3, 2)  rows
    """
    sites = trace.sites("param", "plate", "sample", "deterministic")
    rows = [("site", "type", "distribution", "batch", "event", "value", "plates")]
    rows += [_row(site) for site in sites]
    widths = [max(len(row[k]) for row in rows) for k in range(7)]
    return "\n".join(_line(row, widths) for row in rows)


def _row(site: Message) -> tuple[str, ...]:
    batch, event = "", " ".join(map(str, site.value.shape))
    family = ""
    if site.type == "sample":
        batch = " ".join(map(str, site.fn.batch_shape))
        event = " ".join(map(str, site.fn.event_shape))
        family = _family(site.fn)
    elif site.type == "plate":
        family = type(site.fn).__name__
    plates = ", ".join(frame.name for frame in site.plates)
    return site.name, site.type, family, batch, event, str(tuple(site.value.shape)), plates


def _family(fn) -> str:
    while type(fn).__name__ in ("Independent", "ExpandedDistribution"):
        fn = fn.base_dist
    return type(fn).__name__


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    name, kind, family, batch, event, value, plates = row
    cells = [name.ljust(widths[0]), kind.ljust(widths[1]), family.ljust(widths[2])]
    cells += [f"{batch.rjust(widths[3])} | {event.ljust(widths[4])}"]
    cells += [value.ljust(widths[5]), plates]
    return "  ".join(cells).rstrip()
