"""From an Altair chart over named data to the specification that the page draws."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch

from pplkit.errors import nearest

from .tables import ONE_TABLE, Tables

# Altair's way of saying that something was not given.
_ABSENT = "UndefinedType"
_CHILDREN = ("layer", "hconcat", "vconcat", "concat", "spec")
_ADDRESSES = ("url", "href")
_PATH = re.compile(r"[.\[\]\\]")  # in a field's name: steps into nested data
_ESCAPED = re.compile(r"\\(.)")


def specification(chart, tables: Tables) -> dict:
    """The chart as Vega-Lite, encoding types filled in from the tables.

    A channel of a column of numbers is quantitative, of booleans nominal. Lines told apart by
    colour alone get a dash pattern as well, points a shape.

    Raises `TypeError` for what is no Altair chart, `ValueError` for a chart that reads a table or a
    column which the function does not return, or that asks for an address.
    """
    if not hasattr(chart, "to_dict") or not hasattr(chart, "mark_line") and not _children(chart):
        raise TypeError(
            "The chart of a live figure is an Altair chart, such as alt.Chart().mark_line(); not"
            f" {chart!r}."
        )
    chart = chart.copy(deep=True)
    for view, table, transformed in _views(chart, ONE_TABLE, False):
        if table is not None:
            _fill(view, table, transformed, tables)
    if _get(chart, "data") is None:
        chart.data = _named(ONE_TABLE)
    try:
        made = chart.to_dict()
    except ValueError as fault:
        if "without a type" not in str(fault):
            raise
        raise ValueError(
            f"{fault}\nThe column comes from a transform of the chart, so its type is not known:"
            " write it, as in 'name:Q' (a quantity), 'name:N' (names) or 'name:O' (an order)."
        ) from None
    refuse_addresses(made)
    made.pop("$schema", None)
    if made.get("config", {}).get("view") == {"continuousWidth": 300, "continuousHeight": 300}:
        del made["config"]["view"]
    _second_coding(made)
    return made


def tables_read(spec) -> set[str]:
    """The names of the tables that a specification reads."""
    if isinstance(spec, list):
        return set().union(*map(tables_read, spec))
    if not isinstance(spec, dict):
        return set()
    here = (
        {spec["data"]["name"]}
        if isinstance(spec.get("data"), dict) and "name" in spec["data"]
        else set()
    )
    return here.union(*(tables_read(value) for key, value in spec.items() if key != "datasets"))


def refuse_addresses(spec, path: str = "") -> None:
    """A figure draws what its function returns; a specification that fetches anything else is
    refused.
    """
    if isinstance(spec, dict):
        for key, value in spec.items():
            if key in _ADDRESSES:
                raise ValueError(
                    f"The chart asks for an address ({path + '.' if path else ''}{key}:"
                    f" {value!r}). A live figure"
                    " fetches nothing: return the numbers from its function, as a table, and name"
                    " that table"
                    " with alt.NamedData."
                )
            if key != "datasets":
                refuse_addresses(value, f"{path}.{key}" if path else key)
    elif isinstance(spec, list):
        for place, value in enumerate(spec):
            refuse_addresses(value, f"{path}[{place}]")


def _views(part, table: str | None, transformed: bool) -> Iterator[tuple]:
    """Every part of a chart with the table it reads (None: values of its own), and whether a
    transform may add columns.
    """
    data = _get(part, "data")
    if data is not None:
        name = _get(data, "name") if not isinstance(data, (str, dict)) else None
        table = name if name is not None and _get(data, "values") is None else None
    transformed = transformed or bool(_get(part, "transform")) or _get(part, "repeat") is not None
    yield part, table, transformed
    for child in _children(part):
        yield from _views(child, table, transformed)


def _named(table: str):
    from altair import NamedData

    return NamedData(table)


def _children(part) -> list:
    found = []
    for key in _CHILDREN:
        value = _get(part, key)
        if value is not None:
            found += value if isinstance(value, list) else [value]
    return found


def _get(part, key):
    value = part._get(key) if hasattr(part, "_get") else None
    return None if type(value).__name__ == _ABSENT else value


def _fill(view, table: str, transformed: bool, tables: Tables) -> None:
    encoding, facet = _get(view, "encoding"), _get(view, "facet")
    given = list(encoding._kwds.values()) if encoding is not None else []
    if facet is not None:
        given += (
            [facet] if hasattr(facet, "shorthand") else list(getattr(facet, "_kwds", {}).values())
        )
    if given and table not in tables and any(_field(c)[0] for c in _flat(given)):
        raise ValueError(
            f"The chart reads table {table!r}, which the function does not return:"
            f" {nearest(table, list(tables))}."
            + (" A chart without data reads the table 'data'." if table == ONE_TABLE else "")
        )
    for channel in _flat(given):
        field, typed = _field(channel)
        if field is None:
            continue
        column = tables[table].get(field, tables[table].get(_ESCAPED.sub(r"\1", field)))
        if column is None:
            if not transformed:
                raise ValueError(
                    f"The chart reads column {field!r} of table {table!r}:"
                    f" {nearest(field, list(tables[table]))}."
                )
            continue
        if not typed:
            channel.type = "nominal" if column.dtype == torch.bool else "quantitative"
        if field in tables[table] and _PATH.search(field):
            _escape(channel, field)


def _escape(channel, field: str) -> None:
    """A chart takes dots and brackets in a name for a path into nested data; a column has none."""
    from altair import Undefined
    from altair.utils.core import parse_shorthand

    said = _get(channel, "shorthand")
    if isinstance(said, str):
        for key, value in parse_shorthand(said).items():
            if _get(channel, key) is None:
                channel[key] = value
        channel.shorthand = Undefined
    channel.field = _PATH.sub(r"\\\g<0>", field)


def _flat(channels) -> Iterator:
    for channel in channels:
        if isinstance(channel, list):
            yield from _flat(channel)
        elif hasattr(channel, "_kwds"):
            yield channel


def _field(channel) -> tuple[str | None, bool]:
    """The column a channel reads, and whether its type is settled (or it takes none)."""
    from altair.utils.core import parse_shorthand

    said = _get(channel, "shorthand")
    parsed = (
        parse_shorthand(said)
        if isinstance(said, str)
        else {"field": said or _get(channel, "field")}
    )
    field = parsed.get("field")
    typed = "type" in parsed or _get(channel, "type") is not None or "type" not in channel._kwds
    return (field if isinstance(field, str) else None), typed


def _second_coding(spec: dict) -> None:
    """Nothing is told by colour alone: a nominal colour gets a dash pattern or a shape
    beside it.
    """
    for child in (c for key in _CHILDREN for c in _listed(spec.get(key))):
        _second_coding(child)
    mark, encoding = spec.get("mark"), spec.get("encoding", {})
    kind = mark.get("type") if isinstance(mark, dict) else mark
    second = {"line": "strokeDash", "trail": None, "point": "shape"}.get(kind)
    color = encoding.get("color")
    if not second or second in encoding or not isinstance(color, dict):
        return
    if color.get("type") in ("nominal", "ordinal") or isinstance(color.get("datum"), str):
        beside = {key: value for key, value in color.items() if key not in ("scale", "condition")}
        domain = (
            color.get("scale", {}).get("domain") if isinstance(color.get("scale"), dict) else None
        )
        if domain is not None:
            beside["scale"] = {"domain": domain}
        encoding[second] = beside


def _listed(value) -> list:
    return value if isinstance(value, list) else [value] if isinstance(value, dict) else []


def with_values(spec: dict, tables: Tables) -> dict:
    """The specification with the tables written into it, to be drawn where no page is."""
    from .tables import rows

    written = {name: rows(columns) for name, columns in tables.items()}
    return {**spec, "datasets": {**spec.get("datasets", {}), **written}}
