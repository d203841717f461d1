"""Captions with numbers in them: `"mean {summary.mean:.2f}, from {n} points"`.

A place is `{control}` or `{table.column}` (a table of one row), with `:.2f` for two decimals. So
little, because the page fills the caption too, where no Python runs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from pplkit.errors import nearest

from .tables import Tables

_PLACE = re.compile(r"\{([^{}]*)\}")
_INSIDE = re.compile(r"(\w+)(?:\.(\w+))?(?::\.(\d)f)?\Z")
MINUS = "−"


def check(caption: str, controls: list[str], tables: Tables) -> None:
    """`ValueError` for a place that names nothing."""
    for place in _PLACE.findall(caption):
        found = _INSIDE.match(place)
        if not found:
            raise ValueError(
                f"The caption holds {{{place}}}; a place is {{control}} or {{table.column}}, with"
                " :.2f for decimals."
            )
        name, column, _ = found.groups()
        if column is None and name not in controls:
            raise ValueError(
                f"The caption names {name!r}, which is no control: {nearest(name, controls)}."
            )
        if column is not None:
            if name not in tables:
                raise ValueError(
                    f"The caption names table {name!r}: {nearest(name, list(tables))}."
                )
            if column not in tables[name]:
                raise ValueError(
                    f"The caption names {name}.{column}: {nearest(column, list(tables[name]))} in"
                    f" table {name!r}."
                )
            if len(tables[name][column]) != 1:
                raise ValueError(
                    f"The caption names {name}.{column}, which has {len(tables[name][column])}"
                    " rows."
                    " Return the number in a table of one row."
                )


def filled(caption: str, shown: Mapping[str, object], tables: Tables) -> str:
    """The caption with its numbers; `shown` holds what each control shows."""

    def number(match):
        name, column, digits = _INSIDE.match(match[1]).groups()
        value = shown[name] if column is None else tables[name][column][0].item()
        return written(value, None if digits is None else int(digits))

    return _PLACE.sub(number, caption)


def written(value, digits: int | None = None) -> str:
    """A value as figures write it: four significant digits unless told, a true minus sign."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (int, float)):
        if value != value:
            return "not finite"
        if math.isinf(value):
            return "∞" if value > 0 else f"{MINUS}∞"
        if digits is None:
            digits = 0 if value == int(value) else max(0, 3 - math.floor(math.log10(abs(value))))
            text = f"{value:.{digits}f}"
            text = text.rstrip("0").rstrip(".") if "." in text else text
        else:
            text = f"{value:.{digits}f}"
        return text.replace("-", MINUS)
    return str(value)
