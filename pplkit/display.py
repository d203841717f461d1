"""How the engine shows what it knows: values and distributions in brief, a trace as a table.

The same run gives the same text everywhere, so that notebooks can be compared. Lines are drawn with
box characters, or with ASCII where the terminal has no others.
"""

from __future__ import annotations

import copy
import html
import math
import os
import sys
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import checks, errors

if TYPE_CHECKING:
    from .effects import Message, PlateFrame
    from .trace import Trace

_FEW = 3  # numbers that are shown before the dots
_WIDEST = 40  # characters of a cell of the table in a terminal
_BOXES = {"corner": "┌ ", "again": "├ ", "arm": "│ ", "bar": "│", "rule": "─"}
_ASCII = {"corner": "+ ", "again": "+ ", "arm": "| ", "bar": "|", "rule": "-"}


# -- in brief ------------------------------------------------------------------------------------


def brief(value: Any) -> str:
    """A value in a few characters: its first numbers, and how many of them are not finite.

    >>> brief(torch.tensor(0.123456)), brief(torch.arange(100.0))
    ('0.1235', '[0, 1, 2, ...]')
    >>> brief(torch.tensor([1.0, 2.0, 3.0, 4.0, math.nan]))
    '[1, 2, 3, ...], 1 of 5 not finite'
    """
    if not isinstance(value, Tensor):
        return _number(value) if isinstance(value, float) else errors._brief(value)
    value = checks.unwrapped(value).detach()
    if value.is_meta or value.layout is not torch.strided:
        return f"{value.dtype} tensor of shape {errors._shape(value.shape)}"
    if value.dim() == 0:
        return _number(value.item())
    if value.numel() <= _FEW + 1 and value.dim() <= 2:
        return _listed(value.tolist())
    first = [_number(x) for x in value[(slice(_FEW),) * value.dim()].flatten()[:_FEW].tolist()]
    text = f"[{', '.join([*first, '...'])}]" if first else "[]"
    lost = int((~torch.isfinite(value)).sum()) if value.is_floating_point() else 0
    return f"{text}, {lost} of {value.numel()} not finite" if lost else text


def _number(x: Any) -> str:
    if not isinstance(x, float):
        return str(x)
    text = f"{x:.4g}"
    return "0" if text == "-0" else text


def _listed(x: Any) -> str:
    return f"[{', '.join(map(_listed, x))}]" if isinstance(x, list) else _number(x)


def family(fn: Any) -> str:
    """The name of a distribution's family, behind `.to_event` and `.expand`."""
    if type(fn).__name__ == "Described":
        return fn.family
    while type(fn).__name__ in ("Independent", "ExpandedDistribution"):
        fn = fn.base_dist
    return type(fn).__name__


def described(fn: Any) -> str:
    """A distribution with its parameters in brief. A parameter that is one number repeated is shown
    as that number.

    >>> import pplkit.distributions as dist
    >>> described(dist.Normal(torch.tensor([0.0, 1.0]), 2.0).to_event(1))
    'Normal(loc=[0, 1], scale=2)'
    """
    if type(fn).__name__ == "Described":
        return fn.text
    while type(fn).__name__ in ("Independent", "ExpandedDistribution"):
        fn = fn.base_dist
    if not hasattr(fn, "stated"):
        return type(fn).__name__
    names = fn.stated() or [name for name in fn.arg_constraints if name in fn.__dict__][:1]
    inside = [f"{name}={_parameter(getattr(fn, name))}" for name in names]
    inside += [described(part) for part in fn.parts()]
    return f"{type(fn).__name__}({', '.join(inside)})"


def _parameter(value: Any) -> str:
    if isinstance(value, Tensor) and value.dim() and value.numel() and not any(value.stride()):
        value = value[(0,) * value.dim()]
    return brief(value)


def scored(site: Message) -> tuple[Tensor, Tensor] | None:
    """A sample site's log-probability, before mask and scale and with them, without leaving a mark
    on the site; None when it has none.
    """
    from .effects import scale_and_mask

    with torch.no_grad(), checks.asked_together():  # what is asked here is not waited for
        try:
            known = site._log_prob
            fn = copy.copy(site.fn)  # it remembers what it was asked about
            alone = fn.log_prob(site.value)
            whole = scale_and_mask(alone, site.scale, site.mask) if known is None else known
        except Exception:  # looking must not stop the program
            return None
    return alone.detach(), whole.detach()


def is_ascii() -> bool:
    """Whether what is printed here can hold no box characters."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if hasattr(shell, "kernel"):
        return False  # a notebook, whatever the terminal that it was started from
    if os.environ.get("LC_ALL") in ("C", "POSIX"):
        return True
    try:
        "┌│├─→".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return True
    return False


def printable(text: str, in_ascii: bool = False) -> str:
    """A name on one line: what does not print is escaped."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text.encode("ascii", "backslashreplace").decode() if in_ascii else text


def width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))


def pretty(self, printer, cycle: bool) -> None:
    """How IPython writes an object: as `str` has it, and among others as `repr` has it."""
    alone = len(getattr(printer, "stack", ())) <= 1
    printer.text(str(self) if alone else repr(self))


class Tabled:
    """How a trace is shown: its names in a line, a table in a terminal, a table in a notebook."""

    def __repr__(self) -> str:
        return f"Trace({', '.join(name for name in self.nodes if not name.startswith('_'))})"

    def __str__(self) -> str:
        return table(self)

    def _repr_html_(self) -> str:
        return html_table(self)

    _repr_pretty_ = pretty


# -- what a trace's table says -------------------------------------------------------------------


@dataclass
class Row:
    """A site, in words; shapes as lists of sizes, `batch` from the left."""

    name: str
    kind: str
    fn: str
    sample: list[int]
    batch: list[int]
    event: list[int]
    plates: str
    value: str
    log_prob: str
    observed: str
    notes: str


HEADS = ("name", "kind", "distribution", "plates", "value", "log_prob", "observed", "notes")


def rows_of(trace: Trace) -> tuple[list[Row], str]:
    """The table's rows, and the sum of all log-probabilities."""
    rows, total, known = [], 0.0, True
    for site in trace.nodes.values():
        if site.type in ("args", "return"):
            continue
        found = scored(site) if site.type == "sample" else None
        if found is not None:
            total += float(found[1].double().sum())
        known = known and (found is not None or site.type != "sample")
        rows.append(_row(site, found))
    return rows, _score(total) if known else "?"


def _row(site: Message, found: tuple[Tensor, Tensor] | None) -> Row:
    shape = tuple(getattr(site.value, "shape", ()))
    cut, lead = len(shape), 0
    kind, fn, value, log_prob, observed = site.type, "", brief(site.value), "", ""
    if site.type == "sample":
        cut = max(0, len(shape) - len(site.fn.event_shape))
        lead = max(0, cut - len(site.fn.batch_shape))
        log_prob = score(found[1]) if found is not None else "?"
        if family(site.fn) == "Unit":
            kind, value, shape = "factor", "", shape[:cut]
        else:
            fn, observed = described(site.fn), "yes" if site.is_observed else "no"
    elif site.type == "plate":
        fn = f"{site.fn.size} rows"
        if site.fn.subsample_size != site.fn.size:
            fn = f"{site.fn.subsample_size} of {fn}"
        cut = 0
    else:
        event_dim = site.kwargs.get("event_dim")
        cut = 0 if event_dim is None else max(0, len(shape) - event_dim)
        if site.type == "param":
            constraint = site.kwargs.get("constraint")
            words = errors.in_words(constraint) if constraint is not None else ""
            fn = "" if words.startswith("a real number") else words
    sizes = [*shape[:lead]], [*shape[lead:cut]], [*shape[cut:]]
    plates = ", ".join(_plate_here(frame) for frame in site.plates)
    return Row(site.name, kind, fn, *sizes, plates, value, log_prob, observed, _notes(site))


def _plate_here(frame: PlateFrame) -> str:
    return frame.name if frame.vectorized else f"{frame.name}[{frame.counter}]"


def _notes(site: Message) -> str:
    notes, mask = [], site.mask
    if isinstance(mask, Tensor):
        notes.append(f"mask: {int(mask.sum())} of {mask.numel()}")
    elif mask is not None:
        notes.append("mask: all" if mask else "mask: none")
    if not (isinstance(site.scale, float | int) and site.scale == 1):
        notes.append(f"scale {brief(site.scale)}")
    return ", ".join(notes)


def score(log_prob: Tensor) -> str:
    """A log-probability, summed."""
    return _score(float(log_prob.double().sum()))


def _score(x: float) -> str:
    if not math.isfinite(x) or abs(x) >= 1e7:
        return _number(x)
    text = f"{x:.4f}"
    return text.removeprefix("-") if float(text) == 0 else text


def plate_marks(trace: Trace) -> list[tuple[int, str]]:
    """Which plate stands over which dimension, the leftmost dimension first: (dim, label)."""
    seen = {}
    for site in trace.nodes.values():
        for frame in site.plates:
            if frame.vectorized:
                size = str(frame.size)
                if frame.size != frame.full_size:
                    size = f"{frame.size} of {frame.full_size}"
                seen[frame.dim, frame.name, size] = None
    return [(dim, f"{name} ({size})") for dim, name, size in sorted(seen, key=lambda k: k[0])]


# -- in a terminal -------------------------------------------------------------------------------


def table(trace: Trace, in_ascii: bool | None = None) -> str:
    """A trace as a table. Over the batch dimensions stand the plates that they belong to.

    Args:
        in_ascii: draw without box characters; unless told, where the terminal has none.

    >>> import pplkit, pplkit.distributions as dist
    >>> def model():
    ...     with pplkit.plate("rows", 3):
    ...         pplkit.sample("x", dist.Normal(0.0, 1.0), obs=torch.zeros(3))
    >>> text = table(pplkit.handlers.trace(model).get_trace(), in_ascii=True)
    >>> for line in text.split("\\n"):
    ...     print(line[:68].rstrip())
    name  kind    distribution            sample | batch | event  plates
                                                   + rows (3)
    rows  plate   3 rows                         |       | 3
    x     sample  Normal(loc=0, scale=1)         | 3     |        rows
    log_prob, summed: -2.7568
    """
    in_ascii = is_ascii() if in_ascii is None else in_ascii
    lines, (rows, total) = _ASCII if in_ascii else _BOXES, rows_of(trace)
    if not rows:
        return "a trace with no sites"
    marks = plate_marks(trace)
    batch = _batch_cells(rows, marks)
    heads = [head for head in HEADS if head != "notes" or any(row.notes for row in rows)]
    columns: list[list[str]] = []
    for head in heads:
        attribute = "fn" if head == "distribution" else head
        cells = [_cut(printable(getattr(row, attribute), in_ascii)) for row in rows]
        columns.append(_aligned([head, *cells], right=head == "log_prob"))
    parts = [_aligned(["sample", *(" ".join(map(str, row.sample)) for row in rows)], right=True)]
    parts += [_aligned(["batch", *batch])]
    parts += [_aligned(["event", *(" ".join(map(str, row.event)) for row in rows)])]
    shapes = [f" {lines['bar']} ".join(cells) for cells in zip(*parts, strict=True)]
    columns.insert(3, shapes)
    text = ["  ".join(cells).rstrip() for cells in zip(*columns, strict=True)]
    indent = sum(width(c[0]) + 2 for c in columns[:3]) + width(parts[0][0]) + 3
    text[1:1] = _brackets(marks, _dims(rows, marks), rows, lines, indent, in_ascii)
    if any(row.log_prob for row in rows):
        text.append(f"log_prob, summed: {total}")
    return "\n".join(text)


def _dims(rows: list[Row], marks: list[tuple[int, str]]) -> int:
    return max([len(row.batch) for row in rows] + [-dim for dim, _ in marks], default=0)


def _dim_widths(rows: list[Row], dims: int) -> list[int]:
    """How wide each batch dimension's column is, from the left."""
    widths = [1] * dims
    for row in rows:
        for i, size in enumerate(row.batch, dims - len(row.batch)):
            widths[i] = max(widths[i], len(str(size)))
    return widths


def _batch_cells(rows: list[Row], marks: list[tuple[int, str]]) -> list[str]:
    """Batch shapes, one dimension under the other."""
    dims = _dims(rows, marks)
    widths, cells = _dim_widths(rows, dims), []
    for row in rows:
        sizes = [""] * (dims - len(row.batch)) + [str(size) for size in row.batch]
        cells.append(" ".join(s.ljust(w) for s, w in zip(sizes, widths, strict=True)))
    return cells


def _brackets(marks, dims: int, rows: list[Row], lines: dict, indent: int, in_ascii: bool):
    """A line for each plate: arms of those that stand further left, its own corner, its name."""
    widths, drawn, text = _dim_widths(rows, dims), set(), []
    for dim, label in marks:
        place = dims + dim
        left = [
            (lines["arm"] if i - dims in drawn else "  ").ljust(w + 1)
            for i, w in enumerate(widths[:place])
        ]
        corner = lines["again"] if dim in drawn else lines["corner"]
        text.append(" " * indent + "".join(left) + corner + printable(label, in_ascii))
        drawn.add(dim)
    return text


def _cut(text: str) -> str:
    return text if width(text) <= _WIDEST else text[: _WIDEST - 3] + "..."


def _aligned(cells: Iterable[str], right: bool = False) -> list[str]:
    cells = list(cells)
    widest = max(map(width, cells))
    space = [" " * (widest - width(cell)) for cell in cells]
    return [s + c if right else c + s for s, c in zip(space, cells, strict=True)]


# -- as Pyro -------------------------------------------------------------------------------------


def format_shapes(trace: Trace, title: str = "Trace Shapes:", last_site: str | None = None) -> str:
    """The shapes of every site, laid out as in Pyro; see `Trace.format_shapes`."""
    if not trace.nodes:
        return title
    shown = list(trace.nodes.values())
    if last_site in trace.nodes:
        shown = shown[: list(trace.nodes).index(last_site) + 1]
    lines = [(title, [], []), ("Param Sites:", [], [])]
    lines += [(printable(s.name), [*s.value.shape], []) for s in shown if s.type == "param"]
    lines.append(("Sample Sites:", [], []))
    for site in shown:
        if site.type not in ("args", "return", "param"):
            lines += [(head, [*left, "|"], right) for head, left, right in _shapes_of(site)]
    most = [max(len(line[i]) for line in lines) for i in (1, 2)]
    cells = []
    for head, left, right in lines:
        left, right = [""] * (most[0] - len(left)) + left, right + [""] * (most[1] - len(right))
        cells.append([head, *map(str, left + right)])
    columns = [_aligned(column, right=True) for column in zip(*cells, strict=True)]
    return "\n".join(" ".join(line) for line in zip(*columns, strict=True))


def _shapes_of(site: Message) -> list[tuple[str, list[int], list[int]]]:
    shape, name = [*getattr(site.value, "shape", ())], printable(site.name)
    if site.type == "sample":
        event_dim = len(site.fn.event_shape)
        lines = [(f"{name} dist", [*site.fn.batch_shape], [*site.fn.event_shape])]
    else:
        event_dim = 0 if site.type == "plate" else len(shape)
        lines = [(f"{name} {site.type}", [], [])]
    cut = len(shape) - event_dim
    lines.append(("value", shape[:cut], shape[cut:]))
    if site.type == "sample" and site._log_prob is not None:
        lines.append(("log_prob", [*site._log_prob.shape], []))
    return lines


# -- in a notebook -------------------------------------------------------------------------------

_LINE = "2px solid currentColor"
_STYLE = """<style>
html[data-theme] .cell_output .text_html:has(> .pplkit) {
  background: transparent !important; color: inherit !important}
.pplkit.pplkit-trace {overflow-x: auto; max-width: 100%}
.pplkit.pplkit-trace table {border-collapse: collapse; border: none; margin: 0; width: auto;
  font-size: 0.82em; line-height: 1.35; color: inherit; table-layout: auto; display: table}
.pplkit.pplkit-trace :is(tr, th, td) {border: none; background: transparent; color: inherit}
.pplkit.pplkit-trace :is(th, td) {text-align: left; vertical-align: top; font-weight: normal;
  padding: 0.15em 0.4em; white-space: nowrap; max-width: none; overflow-wrap: anywhere}
.pplkit.pplkit-trace thead th {font-weight: bold; vertical-align: bottom}
.pplkit.pplkit-trace tbody tr > *, .pplkit.pplkit-trace tfoot tr > * {
  border-top: 1px solid rgba(128, 128, 128, 0.35)}
.pplkit.pplkit-trace .wrap {width: max-content; max-width: 13em; white-space: normal}
.pplkit.pplkit-trace .fn {max-width: 19em; overflow-wrap: break-word}
.pplkit.pplkit-trace .number {text-align: right; font-variant-numeric: tabular-nums}
.pplkit.pplkit-trace .dim {text-align: center; padding: 0.15em 0.35em}
.pplkit.pplkit-trace .part {border-left: 1px solid rgba(128, 128, 128, 0.6)}
.pplkit.pplkit-trace thead .arm {padding: 0 0 0 0.3em; line-height: 1.2}
.pplkit.pplkit-trace thead .bracket {padding: 0 0 0.15em 0}
.pplkit.pplkit-trace thead .bracket div {height: 0.4em; min-width: 1.6em; margin-right: 3px}
</style>"""


def html_table(trace: Trace) -> str:
    """A trace as an HTML table, for a notebook; every text in it is escaped.

    >>> import pplkit
    >>> tr = pplkit.handlers.trace(lambda: pplkit.param("<b>", torch.tensor(1.0))).get_trace()
    >>> "&lt;b&gt;" in html_table(tr), "<b>" in html_table(tr)
    (True, False)
    """
    rows, total = rows_of(trace)
    if not rows:
        return '<div class="pplkit pplkit-trace">a trace with no sites</div>'
    marks, notes = plate_marks(trace), any(row.notes for row in rows)
    dims = _dims(rows, marks)
    after = 5 + notes  # columns right of the shapes
    parts = [
        _STYLE,
        '<div class="pplkit pplkit-trace" tabindex="0" role="group" aria-label="trace">',
    ]
    parts += ["<table>", "<thead>", _html_heads(dims, notes), *_html_marks(marks, dims, after)]
    parts += ["</thead>", "<tbody>", *(_html_row(row, dims, notes) for row in rows), "</tbody>"]
    if any(row.log_prob for row in rows):
        label = f'<th scope="row" colspan="{4 + max(dims, 1) + 3}">log_prob, summed</th>'
        rest = f'<td colspan="{1 + notes}"></td>'
        parts.append(f'<tfoot><tr>{label}<td class="number">{total}</td>{rest}</tr></tfoot>')
    return "\n".join([*parts, "</table>", "</div>"])


def _html_heads(dims: int, notes: bool) -> str:
    heads = [*HEADS[:3], "sample", "batch", "event", *HEADS[3 : 7 + notes]]
    spans = {"batch": f' colspan="{max(dims, 1)}"', "log_prob": ' class="number"'}
    parts = {"batch", "event"}
    cells = []
    for head in heads:
        kind = ' class="part"' if head in parts else ""
        cells.append(f'<th scope="col"{spans.get(head, "")}{kind}>{head}</th>')
    return f"<tr>{''.join(cells)}</tr>"


def _html_marks(marks: list[tuple[int, str]], dims: int, after: int) -> list[str]:
    """The plates over their dimensions: a line for each name, then the brackets."""
    if not marks:
        return []
    lines, drawn = [], set()
    arm = f'<td class="arm" style="border-left: {_LINE}">'
    for dim, label in marks:
        left = [f"{arm}</td>" if i - dims in drawn else "<td></td>" for i in range(dims + dim)]
        name = arm.replace("<td", f'<td colspan="{-dim + after}"') + html.escape(printable(label))
        lines.append(f'<tr><td colspan="4"></td>{"".join(left)}{name}</td></tr>')
        drawn.add(dim)
    line = f"border: {_LINE}; border-bottom: none"
    cells = [
        f'<td class="bracket"><div style="{line}"></div></td>' if i - dims in drawn else "<td></td>"
        for i in range(dims)
    ]
    lines.append(f'<tr><td colspan="4"></td>{"".join(cells)}<td colspan="{after}"></td></tr>')
    return lines


def _html_row(row: Row, dims: int, notes: bool) -> str:
    def cell(text: str, kind: str = "") -> str:
        kind = f' class="{kind}"' if kind else ""
        return f"<td{kind}>{html.escape(printable(text))}</td>"

    def wrapped(text: str, kind: str = "") -> str:
        return f'<div class="wrap{kind}">{html.escape(printable(text))}</div>'

    batch = [""] * (max(dims, 1) - len(row.batch)) + [str(size) for size in row.batch]
    sizes = [cell(size, "dim part" if not i else "dim") for i, size in enumerate(batch)]
    sample, event = (" ".join(map(str, sizes)) for sizes in (row.sample, row.event))
    cells = [
        f'<th scope="row">{wrapped(row.name)}</th>',
        cell(row.kind),
        f"<td>{wrapped(row.fn, ' fn')}</td>",
        cell(sample, "number"),
        *sizes,
        cell(event, "part"),
        f"<td>{wrapped(row.plates)}</td>",
        cell(row.value),
        cell(row.log_prob, "number"),
        cell(row.observed),
    ]
    return f"<tr>{''.join(cells + [cell(row.notes)] * notes)}</tr>"
