"""A recording, told: as lines of text, and as HTML for a notebook."""

from __future__ import annotations

import html as _html
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .. import display
from .snapshots import Described

if TYPE_CHECKING:
    from .recorder import Event, Recording

_DULL = ("done",)  # fields whose change tells a reader nothing


def title(recording: Recording) -> str:
    """What was run, and how it ended."""
    count = len(recording.statements)
    failed = f", failed with {kind(recording.error)}" if recording.error is not None else ""
    return f"{recording.name}: {count} statement{'s' * (count != 1)}{failed}"


def kind(error: Exception) -> str:
    """An error's class, also that of an error that was read back."""
    return getattr(error, "kind", type(error).__name__)


def text(recording: Recording) -> str:
    """Every statement, and what was done about it."""
    told = [
        _head(event) if event.kind == "statement" else line(event) for event in _telling(recording)
    ]
    if recording.error is not None:
        told.append(f"{kind(recording.error)}: {recording.error}")
    return "\n".join([title(recording), *told])


def _telling(recording: Recording) -> list[Event]:
    """Without the handlers that have changed nothing."""
    dull = set(_DULL)
    return [
        event
        for event in recording.events
        if event.kind not in ("down", "up") or event.error or event.changed.keys() - dull
    ]


def _head(event: Event) -> str:
    where = f"  at {event.where}" if event.where is not None else ""
    inside = f"  (made at statement {event.within})" if event.within is not None else ""
    return f"{event.number}: {_name(event)}{where}{inside}"


def _name(event: Event) -> str:
    return f"{event.type} '{display.printable(event.site, display.is_ascii())}'".lstrip()


def line(event: Event) -> str:
    """An event, in a line."""
    if event.kind == "statement":
        return _name(event)
    arrow = "->" if display.is_ascii() else "→"
    changes = [
        f"{name}: {old} {arrow} {new}"
        for field, (before, after) in event.changed.items()
        if field not in _DULL
        for name, old, new in [_difference(field, before, after)]
    ]
    if event.kind == "answer":
        told = [event.how, said(event.after["value"])]
        told += [f" {event.after['fn']}"] if isinstance(event.after["fn"], Described) else []
        told += [" hidden from the handlers outside"] if event.hidden else []
        told = " ".join(told)
    elif event.kind == "log_prob":
        told = f"log_prob {display.score(event.log_prob)}"
    else:
        error = f"raised {event.error}" if event.error else ""
        handler = display.printable(str(event.handler), display.is_ascii())
        parts = f"{event.kind:<4} {handler}", "; ".join(changes), error
        told = "  ".join(part for part in parts if part)
    return f"  {told}"


def _difference(field: str, old: Any, new: Any) -> tuple[str, str, str]:
    """A field's name, and what it was and is. Of a distribution made wider, its batch shape."""
    if isinstance(old, Described) and isinstance(new, Described) and old.family == new.family:
        if old.batch_shape != new.batch_shape:
            return "batch shape", str(tuple(old.batch_shape)), str(tuple(new.batch_shape))
    return field, said(old), said(new)


def said(value: Any) -> str:
    """A field of a message, in brief."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        names = [getattr(item, "name", None) or display.brief(item) for item in value]
        told = ", ".join(names) or "none"
    elif isinstance(value, Tensor | int | float):
        told = display.brief(value)
    else:
        told = str(value)
    return display.printable(told if len(told) <= 100 else told[:97] + "...", display.is_ascii())


_STYLE = """<style>
html[data-theme] .cell_output .text_html:has(> .pplkit) {
  background: transparent !important; color: inherit !important}
.pplkit.pplkit-recording {max-width: 100%; overflow-x: auto; font-size: 0.9em; line-height: 1.4}
.pplkit.pplkit-recording :is(details, ol, p) {margin: 0.1em 0; padding: 0}
.pplkit.pplkit-recording summary {cursor: pointer; overflow-wrap: anywhere}
.pplkit.pplkit-recording ol {list-style: none; margin-left: 1.5em}
.pplkit.pplkit-recording li {margin: 0; padding: 0.05em 0 0.05em 0.6em;
  border-left: 2px solid rgba(128, 128, 128, 0.5); overflow-wrap: anywhere}
.pplkit.pplkit-recording :is(code, pre) {background: transparent; color: inherit; padding: 0}
</style>"""


def html(recording: Recording) -> str:
    """A list of the statements that opens on the steps of each; every text is escaped."""
    parts = [_STYLE, '<div class="pplkit pplkit-recording">', f"<p>{_safe(title(recording))}</p>"]
    telling = _telling(recording)
    for head in recording.statements:
        steps = [e for e in telling if e.number == head.number and e.kind != "statement"]
        items = "".join(f"<li>{_safe(line(event).strip())}</li>" for event in steps)
        source = f" <code>{_safe(head.source)}</code>" if head.source else ""
        open_ = " open" if head is recording.culprit else ""
        summary = f"<summary>{_safe(_head(head))}{source}</summary>"
        parts.append(f"<details{open_}>{summary}<ol>{items}</ol></details>")
    if recording.error is not None:
        parts.append(f"<pre>{_safe(f'{kind(recording.error)}: {recording.error}')}</pre>")
    return "\n".join([*parts, "</div>"])


def _safe(text: str) -> str:
    return _html.escape(text)
