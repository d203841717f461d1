"""A recorded run, replayed: statement by statement, the message on its way, the trace filling."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import Any

import torch

import pplkit.distributions as dist
from pplkit import plate, sample
from pplkit.handlers import condition, seed, trace
from pplkit.inspect import Event, Recording, record, story

from ..controls import marked
from .drawn import Drawn

_MOST = 600  # events
_SHOWN = {"fn": "distribution", "value": "value", "is_observed": "observed", "plates": "plates",
          "scale": "scale", "mask": "mask"}  # fmt: skip
_HEAD = ("site", "statement", "value", "log_prob")


def stepper(program: Callable | Recording | None = None, *args, title: str = "", **kwargs) -> Drawn:
    """A run of a program, to be stepped through: each statement becomes a message, which passes the
    handlers on its way out, gets its value, and passes them again on its way back.

    Args:
        program: what to run, under handlers or not; or a recording. Unless told, a model of four
            measurements, under `trace`, `condition` and `seed`.
        args, kwargs: what to call it with.
        title: stands above.

    Raises:
        ValueError: a run of no statement, or of more than 600 events.

    >>> figure = stepper()
    >>> figure
    Drawn(step=0)
    >>> figure._state["rows"][0]["cells"]
    ['z', 'sample', '0.5', '-1.0439']
    >>> figure.close()
    """
    if program is None:
        program, args, kwargs = _example, (), {}
    recording = program if isinstance(program, Recording) else record(program, *args, **kwargs)
    if not recording.events:
        raise ValueError(
            f"{recording.name} reaches no statement, so there is nothing to step through."
        )
    if len(recording.events) > _MOST:
        raise ValueError(
            f"This run has {len(recording.events)} events, and a stepper takes {_MOST}: step"
            " through a smaller plate, or fewer statements."
        )
    lines, first = _source(_inner(program))
    state = {
        "program": lines,
        "handlers": [_called(place) for place in recording.handlers],
        "steps": _steps(recording, first, len(lines)),
        "rows": _rows(recording),
        "head": list(_HEAD),
    }
    own = {"step": marked((0, len(state["steps"]) - 1), value=0, play=True)}
    return Drawn("stepper", state, own, title=title or f"{recording.name}, step by step",
                 still=story.html(recording))  # fmt: skip


def model(data):
    z = sample("z", dist.Normal(0.0, 1.0))
    with plate("data", len(data)):
        sample("obs", dist.Normal(z, 0.5), obs=data)


def _example():
    """The model above, with `z` given, under three handlers."""
    given = condition(seed(model, rng_seed=0), data={"z": torch.tensor(0.5)})
    return trace(given).get_trace(torch.tensor([1.2, 0.8, 1.5, -0.3]))


_example.__wrapped__ = model
_example.__name__ = "model"


def _inner(program: Any) -> Any:
    """The function that a reader has written, inside the handlers."""
    program = inspect.unwrap(program) if callable(program) else program
    for _ in range(50):
        inside = getattr(program, "fn", None)
        if inside is None:
            return program
        program = inside
    return program


def _source(program: Any) -> tuple[list[str], int]:
    """Its lines, and the number of the first in its file."""
    try:
        lines, first = inspect.getsourcelines(program)
    except (OSError, TypeError):
        return [], 0
    return textwrap.dedent("".join(lines)).rstrip().split("\n"), first


# -- events ------------------------------------------------------------------------------------


def _steps(recording: Recording, first: int, lines: int) -> list[dict]:
    steps = []
    stacks = {event.number: event.stack for event in recording.statements}
    for event in recording.events:
        stack = list(reversed(stacks.get(event.number, ())))
        line = event.where.line - first if event.where is not None else None
        steps.append(
            {
                "words": _words(event),
                "line": line if line is not None and 0 <= line < lines else None,
                "stack": stack,
                "at": _at(event, stack),
                "way": {"down": "down", "up": "up", "answer": "turn"}.get(event.kind, "none"),
                "message": _message(event),
            }
        )
    end = f"{recording.name} has ended" if recording.error is None else str(recording.error)
    over = {"words": f"{end}.".replace("..", "."), "line": None, "stack": [], "at": -1,
            "way": "none", "message": []}  # fmt: skip
    return [*steps, over]


def _at(event: Event, stack: list[int]) -> int:
    if event.kind == "answer":
        return len(stack)
    if event.handler is not None and event.handler.number in stack:
        return stack.index(event.handler.number)
    return -1


def _message(event: Event) -> list[list]:
    changed = event.changed
    made: list[list] = [["statement", f"{event.type} '{event.site}'", False]]
    for field, label in _SHOWN.items():
        if field not in event.after:
            continue
        value = event.after[field]
        plain = value is None or value is False or value == () or _is_one(field, value)
        if plain and field not in changed and field != "value":
            continue
        said = "not yet" if value is None and field == "value" else story.said(value)
        made.append([label, said, field in changed])
    if event.log_prob is not None:
        made.append(["log_prob", story.display.score(event.log_prob), True])
    return made


def _called(place) -> str:
    return f"{place.name}({place.about})" if place.about else place.name


def _is_one(field: str, value: Any) -> bool:
    return field == "scale" and isinstance(value, (int, float)) and value == 1


def _words(event: Event) -> str:
    """An event in a sentence."""
    name = f"{event.type} '{event.site}'"
    if event.error:
        return f"Here it failed: {event.error}."
    if event.kind == "statement":
        by = " (made by a handler)" if event.within is not None else ""
        return f"The program reaches {name}{by}: a message is made, and goes out to the handlers."
    if event.kind == "log_prob":
        return f"{name} is done. It adds {story.display.score(event.log_prob)} to the joint"\
            " log-probability."  # fmt: skip
    value = story.said(event.after.get("value"))
    if event.kind == "answer":
        if event.type == "plate":
            return f"Plate '{event.site}' is entered: statements inside have its rows."
        told = {
            "drawn": f"Nobody has given a value, so it is drawn from {event.after.get('fn')}: {value}.",
            "observed": f"The value is the data's: {value}.",
            "substituted": f"A handler has given the value: {value}.",
            "read": f"The value is read from the parameter store: {value}.",
        }
        return told.get(event.how or "", f"The value is {value}.") + " The message turns back."
    who = _called(event.handler)
    what = [
        f"{_SHOWN.get(field, field)} is now {story.said(after)}"
        for field, (_, after) in event.changed.items()
        if field != "done"
    ]
    way = "on its way out" if event.kind == "down" else "on its way back"
    if what:
        return f"{who} sees the message {way}: {'; '.join(what)}."
    if event.kind == "up" and event.handler.name == "trace":
        return f"trace sees the message {way}, and writes it down."
    return f"{who} sees the message {way}, and leaves it as it is."


# -- the trace ---------------------------------------------------------------------------------


def _rows(recording: Recording) -> list[dict]:
    """What a trace holds in the end, and since which event: written by `trace` where there is one,
    with its log-probability when the statement is done.
    """
    rows: dict[int, dict] = {}
    by_trace = any(place.name == "trace" for place in recording.handlers)
    for place, event in enumerate(recording.events):
        if event.type not in ("sample", "param", "deterministic", "plate"):
            continue
        written = event.kind == "up" and event.handler.name == "trace"
        if written or (not by_trace and event.kind == "answer"):
            value = story.said(event.after["value"])
            cells = [event.site, event.type, value, ""]
            rows.setdefault(event.number, {"cells": cells, "since": place, "scored": place})
        if event.kind == "log_prob" and event.number in rows:
            rows[event.number]["cells"][-1] = story.display.score(event.log_prob)
            rows[event.number]["scored"] = place
    return list(rows.values())
