"""What a figure's function returns, checked, and packed for the page."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

Tables = dict[str, dict[str, Tensor]]

ONE_TABLE = "data"  # the name of the table when only columns are returned


def checked(returned) -> Tables:
    """`{table: {column: 1-D tensor}}` out of what a function returned; `{column: tensor}` is the
    table `data`.

    A scalar counts as a column of one row. Columns are detached, on the CPU, and float32, float64
    or bool (whole numbers become float64, so that none is rounded).

    Raises `TypeError` for anything but names and tensors, `ValueError` for columns that are not 1-D
    or not of one length.
    """
    tables = nested(returned)
    return {_name(name, "table"): _table(name, columns) for name, columns in tables.items()}


def nested(returned) -> Mapping:
    """Tables of columns as they were returned; columns alone are the table `data`."""
    if not isinstance(returned, Mapping) or not returned:
        raise TypeError(
            f"The function of a live figure returns columns, {{'x': tensor, ...}}, or tables of"
            " columns,"
            f" {{'curve': {{'x': tensor, ...}}, ...}}; this one returned {_brief(returned)}."
        )
    inner = [isinstance(value, Mapping) for value in returned.values()]
    if any(inner) and not all(inner):
        loose = next(name for name, value in returned.items() if not isinstance(value, Mapping))
        raise TypeError(
            f"The function returned tables and, beside them, the column {loose!r}."
            f" Put it into a table of its own: {{'{loose}': {{'{loose}': ...}}, ...}}."
        )
    return returned if all(inner) else {ONE_TABLE: returned}


def _table(table: str, columns: Mapping) -> dict[str, Tensor]:
    if not columns:
        raise ValueError(f"Table {table!r} has no columns.")
    made = {_name(name, "column"): column(table, name, values) for name, values in columns.items()}
    lengths = {name: len(values) for name, values in made.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(
            f"Columns of one table must have one length, but in table {table!r} {said}."
            " Return columns of different lengths in tables of different names."
        )
    return made


def column(table: str, name: str, values) -> Tensor:
    """One column, as `checked` makes it."""
    where = f"Column {name!r} of table {table!r}"
    try:
        column = values if isinstance(values, Tensor) else torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"{where} must be a 1-D tensor of numbers; it is {_brief(values)}."
        ) from None
    if column.dim() > 1:
        raise ValueError(
            f"{where} has shape {tuple(column.shape)}; a column is 1-D. Use .reshape(-1) for one"
            " long column,"
            " or one column per row."
        )
    if column.is_complex():
        raise TypeError(f"{where} is complex; return its real and imaginary parts as two columns.")
    column = column.detach().reshape(-1).to("cpu")
    if column.dtype in (torch.float64, torch.bool):
        wanted = column.dtype
    else:
        wanted = torch.float32 if column.is_floating_point() else torch.float64
    # A copy: the function may go on to write into what it returned.
    return column.to(wanted, copy=True).contiguous()


def _name(name, what: str) -> str:
    if not isinstance(name, str) or not name:
        raise TypeError(f"A {what} is named by a string, not by {_brief(name)}.")
    return name


def packed(tables: Tables) -> tuple[list[dict], list[bytes]]:
    """A description of the tables for the page, and one little-endian buffer per column, in the
    same order.
    """
    described, buffers = [], []
    for table, columns in tables.items():
        heads = []
        for name, column in columns.items():
            kind = "<f8" if column.dtype == torch.float64 else "<f4"
            heads.append({"name": name, "dtype": kind, "boolean": column.dtype == torch.bool})
            buffers.append(_bytes(column, kind))
        rows = len(next(iter(columns.values())))
        described.append({"name": table, "rows": rows, "columns": heads})
    return described, buffers


def _bytes(column: Tensor, kind: str) -> bytes:
    numbers = array("d" if kind == "<f8" else "f", column.tolist())
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def remarks(tables: Tables, drawn: Collection[str] | None = None) -> list[str]:
    """A sentence for every column that holds what cannot be drawn, of the tables that are drawn
    (of all, unless told).
    """
    said = []
    for table, columns in tables.items():
        if drawn is not None and table not in drawn:
            continue
        for name, column in columns.items():
            lost = int((~torch.isfinite(column)).sum())
            if lost:
                said.append(
                    f"{lost} of {len(column)} values of {table}.{name} are not finite numbers and"
                    " are not drawn."
                )
    return said


def rows(columns: Mapping[str, Tensor]) -> list[dict]:
    """A table as JSON rows; what is not finite becomes None."""
    lists = {
        name: [
            value if abs(value) != float("inf") and value == value else None
            for value in column.tolist()
        ]
        for name, column in columns.items()
    }
    return [dict(zip(lists, row)) for row in zip(*lists.values())]


def _brief(value) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
