"""One run of a program, written down: every statement, and what became of it on its way.

A recorder puts its own two methods around those of every handler on the stack (`effects.Entry`), at
the start of the run and as further handlers are entered. The engine itself does not look for a
recorder: where none is at work, nothing is different.
"""

from __future__ import annotations

import json
import linecache
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType, TracebackType
from typing import Any

from torch import Tensor

from .. import display, effects, errors
from ..effects import Entry, Handler, Message
from ..errors import Where
from ..params import get_param_store
from ..trace import Trace
from . import story
from .snapshots import Reader, Writer, alike, taken

FORMAT, VERSION = "pplkit recording", 1
_FIELDS = tuple(
    name for name in Message.__slots__ if name not in ("where", "given_by", "_log_prob")
)


@dataclass(frozen=True)
class Place:
    """A handler of a recorded run: the how-manieth to be seen, its class, and what it is about.

    Handlers with `outside` were in force when the recording began.
    """

    number: int
    name: str
    about: str = ""
    outside: bool = False

    def __str__(self) -> str:
        return f"{self.name}({self.about})"


@dataclass(frozen=True, eq=False)
class Event:
    """One thing that happened in a recorded run.

    Attributes:
        kind: "statement" (a statement was reached), "down" (a handler has seen its message, on the
            way from the program outwards), "answer" (the message has its value), "up" (a handler
            has seen it on the way back), "log_prob" (what it adds to the log-probability).
        number: of the statement, counted from 0. Events of one statement share it.
        site, type: the statement's name and type, after the event.
        where: the user's file and line; in a notebook `Cell In [n], line k`.
        before, after: the message's fields, by name, before and after the event; empty where an
            error came before there was a message.
        handler: for "down" and "up", which.
        how: for "answer", where the value comes from: "drawn", "observed", "substituted" (by a
            handler), "read" (from the parameter store) or "computed".
        hidden: for "answer", whether a handler inside the recorded program kept the statement from
            those outside, as `block` does.
        log_prob, unscaled: for "log_prob", the site's log-probability with mask and scale, and
            by its distribution alone.
        within: for "statement", the number of the statement that a handler was looking at when it
            made this one, as `reparam` does.
        stack: for "statement", numbers of the handlers in force, outermost first.
        error: what a handler has raised here, in a line.
        source: for "statement", the user's line of code, where it can be read.

    >>> import pplkit, pplkit.distributions as dist
    >>> model = lambda: pplkit.sample("x", dist.Normal(0.0, 1.0))
    >>> data = {"x": torch.tensor(2.0)}
    >>> rec = record(pplkit.handlers.condition(model, data=data))
    >>> for event in rec.events:
    ...     print(event.kind, event.handler, event.changed)
    statement None {}
    down condition(x) {'value': (None, tensor(2.)), 'is_observed': (False, True)}
    answer None {'done': (False, True)}
    up condition(x) {}
    log_prob None {}
    """

    kind: str
    number: int
    site: str
    type: str
    where: Where | None
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    handler: Place | None = None
    how: str | None = None
    hidden: bool = False
    log_prob: Tensor | None = None
    unscaled: Tensor | None = None
    within: int | None = None
    stack: tuple[int, ...] = ()
    error: str | None = None
    source: str = ""

    @property
    def changed(self) -> dict[str, tuple[Any, Any]]:
        """What is different after the event: (before, after) by field."""
        old = self.before
        return {k: (old.get(k), v) for k, v in self.after.items() if old and old.get(k) is not v}


class RecordedError(Exception):
    """The error of a run whose recording was read back: its kind and its text.

    >>> RecordedError("ValueError", "too small").kind
    'ValueError'
    """

    def __init__(self, kind: str, text: str):
        super().__init__(text)
        self.kind = kind


class Recording:
    """What `record` returns.

    Attributes:
        name: the recorded function's.
        events: the list of `Event`, in the order in which they happened.
        handlers: the list of `Place`: the handlers that were seen, by number.
        result: what the function returned; None when it failed, or after `from_json`.
        error: the exception that ended the run, or None. Read back, it is a `RecordedError`.
        culprit: the event "statement" of the statement that failed, or None.

    `print(rec)` tells the run step by step.

    >>> import pplkit, pplkit.distributions as dist
    >>> rec = record(lambda: pplkit.sample("x", dist.Bernoulli(0.5), obs=torch.tensor(1.0)))
    >>> [event.kind for event in rec.events]
    ['statement', 'answer', 'log_prob']
    >>> Recording.from_json(rec.to_json()).trace().nodes["x"].value
    tensor(1.)
    """

    def __init__(self, name: str, arguments: tuple = ((), {})):
        self.name = name
        self.events: list[Event] = []
        self.handlers: list[Place] = []
        self.result: Any = None
        self.error: Exception | None = None
        self.culprit: Event | None = None
        self._arguments, self._returned = arguments, None

    def trace(self, by: int | None = None) -> Trace:
        """The trace that `handlers.trace` would have made of this run.

        Values are those of the moment, whatever has happened to the tensors since. Distributions
        are descriptions; they know the log-probability of the recorded value.

        Args:
            by: the number of a handler, for the trace as seen from there; else as seen from just
                around the recorded function. A run of `svi.step` holds two traces, the guide's and
                the model's: `[rec.trace(h.number) for h in rec.handlers if h.name == "trace"]`.

        Raises:
            ModelError: a name used twice in the run.
        """
        run = Trace()
        if by is None:
            run.add(Message("args", "_INPUT", None, *self._arguments))
        for state, where, score in self._sites(by):
            if state["type"] == "subsample":
                continue
            site = Message(**state, where=where)
            if score is not None:
                site._log_prob = score.log_prob
                site.fn = replace(site.fn, scored=(site.value, score.unscaled))
            known = run.nodes.get(site.name)
            if known is not None and not known.type == site.type in ("param", "plate"):
                raise errors.duplicate_site(site, known)
            run.add(site)
        if by is None and self.error is None:
            run.add(Message("return", "_RETURN", None, value=self._returned))
        return run

    def _sites(self, by: int | None) -> Iterator[tuple[dict, Where | None, Event | None]]:
        """What is seen from a place: each statement's message, and its event "log_prob"."""
        seen: dict[int, dict] = {}
        scores = {event.number: event for event in self.events if event.kind == "log_prob"}
        for event in self.events:
            if by is None:  # after the last handler outside has seen it, before the first inside
                if event.kind == "answer" and not event.hidden:
                    seen[event.number] = event.after
                elif event.kind == "up" and event.handler.outside and event.number in seen:
                    seen[event.number] = event.after
            elif event.kind == "up" and event.handler.number == by:
                seen[event.number] = event.before
        where = {event.number: event.where for event in self.events}
        for number, state in seen.items():
            yield state, where[number], scores.get(number)

    @property
    def statements(self) -> list[Event]:
        """The events "statement"."""
        return [event for event in self.events if event.kind == "statement"]

    def of(self, number: int) -> list[Event]:
        """All events of one statement."""
        return [event for event in self.events if event.number == number]

    def path(self, number: int | None = None) -> str:
        """The way of one statement through the handlers; of the one that failed, unless told.

        >>> import pplkit, pplkit.distributions as dist
        >>> from pplkit.handlers import scale
        >>> rec = record(scale(lambda: pplkit.sample("x", dist.Delta(torch.ones(()))), scale=2.0))
        >>> print(rec.path(0).replace("→", "->"))
        sample 'x'
          down scale(2)  scale: 1 -> 2
          drawn 1  Delta(v=1, log_density=0)
          up   scale(2)
          log_prob 0.0000
        """
        if number is None:
            number = self.culprit.number if self.culprit is not None else -1
        return "\n".join(story.line(event) for event in self.of(number))

    def __str__(self) -> str:
        return story.text(self)

    def __repr__(self) -> str:
        return f"<Recording of {story.title(self)}>"

    def _repr_html_(self) -> str:
        return story.html(self)

    _repr_pretty_ = display.pretty

    # -- JSON ------------------------------------------------------------------------------------
    def to_json(self) -> str:
        """The recording as JSON text, version 1. It holds no path of a temporary file.

        The document is an object:

        - `format`: "pplkit recording"; `version`: 1; `name`: the function's.
        - `handlers`: a list of `{number, name, about, outside}`.
        - `events`: a list in the order of time. Each has `kind` and `number` (its statement's).
          A "statement" has `site`, `type`, `where` (`{file, line, text}` or null), `source` (the
          line of code), `within`, `stack`, and `message`: all fields of the message, by name. The
          others have `changed`: the fields that are different after the event, with their new
          values. "down" and "up" have `handler` (a number); "answer" has `how` and `hidden`;
          "log_prob" has `log_prob` and `unscaled`. An event may have `error`.
        - `tensors`: a table of tensors, each with `dtype`, `shape` and its elements, row by row:
          `data`, a list, in which "NaN", "Infinity" and "-Infinity" stand for themselves; or
          `base64`, their bytes, little-endian. `stored`, when it is there, is the shape of what is
          written, to be repeated to `shape`; `device` is there when it was not the CPU.
        - `arguments`, `returned`: of the function; `error`: null or `{kind, text, statement}`, the
          last the number of the statement that failed, or null.

        A value is a number, a string, a boolean, null, a list, or an object with one key that tells
        its kind: `tensor` (a place in the table), `tuple`, `size`, `dict` (pairs), `int` (a large
        one, as text), `float` ("NaN", ...), `complex`, `plate` (an object: `name`, `dim`, `size`,
        `full_size`, `counter`), `rows` (size, subsample size and device of a plate), `distribution`
        (an object: `family`, `text`, `batch_shape`, `event_shape`, `support`, `has_rsample`,
        `parameters`, `parts`) or `thing`: what is described in a line of text only.
        """
        writer = Writer()
        error = None
        if self.error is not None:
            failed = None if self.culprit is None else self.culprit.number
            error = {"kind": story.kind(self.error), "text": str(self.error), "statement": failed}
        document = {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "handlers": [vars(place) for place in self.handlers],
            "events": [_event_out(event, writer) for event in self.events],
            "arguments": writer.plain(self._arguments),
            "returned": writer.plain(self._returned),
            "error": error,
            "tensors": writer.tensors,
        }
        return json.dumps(document, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Recording:
        """The recording that `to_json` has written.

        Raises:
            UsageError: the text is no recording, or one of another version.
        """
        try:
            document = json.loads(text)
            if (document["format"], document["version"]) != (FORMAT, VERSION):
                raise errors.not_a_recording(f"{document['format']}, version {document['version']}")
            return _read(cls, document)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as fault:
            if isinstance(fault, errors.PplkitError):
                raise
            raise errors.not_a_recording(errors._brief(text)) from fault


def record(fn: Callable, *args, **kwargs) -> Recording:
    """Run a function once and write down what its statements and the handlers did.

    The handlers in force here act as always, and so do those that the function enters. Values,
    random numbers and results are those of a run that nobody watches.

    Args:
        fn: a model, or anything that runs one: `condition(model, data=...)`, `svi.step`.
        args, kwargs: its arguments.

    Returns:
        A `Recording`, also of a run that fails: then `.error` is the exception, `.culprit` the
        statement that it came from, and the parameters that the run has added are gone.

    >>> import pplkit, pplkit.distributions as dist
    >>> def model(data):
    ...     z = pplkit.sample("z", dist.Normal(0.0, 1.0))
    ...     pplkit.sample("x", dist.Normal(z, -1.0), obs=data)
    >>> rec = record(model, torch.tensor(0.5))
    >>> type(rec.error).__name__, rec.culprit.site
    ('DistributionError', 'x')
    """
    if not callable(fn):
        raise errors.not_callable("record", fn)
    name = getattr(fn, "__name__", type(fn).__name__)
    recording = Recording(name, (taken(args), taken(kwargs)))
    recorder = _Recorder(recording)
    mark = get_param_store().mark()
    with recorder.at_work():
        try:
            recording.result = fn(*args, **kwargs)
        except Exception as fault:
            recording.error = fault
    if recording.error is None:
        recording._returned = taken(recording.result)
    else:
        get_param_store().roll_back(mark)
        recorder.blame(recording.error)
    return recording


# -- at work -----------------------------------------------------------------------------------


class _Passing:
    """A message on its way, and its fields as they were when last looked at."""

    def __init__(self, msg: Message, number: int):
        self.msg, self.number = msg, number
        self.reached: Event | None = None  # its first event
        self.state: dict[str, Any] = {}
        self.fn = None
        self.to_return = 0  # handlers that it has passed and will pass again
        self.answered = False
        self.got_out = False  # of the recorded function
        self.score: tuple[Tensor, Tensor] | None = None
        self.look()

    def look(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The fields before and now. Copies of what has not changed are the same objects."""
        before, now = self.state, {}
        for name in _FIELDS:
            value = getattr(self.msg, name)
            if name == "fn":
                same = bool(before) and value is self.fn
            else:
                same = bool(before) and alike(before[name], value)
            now[name] = before[name] if same else taken(value)
        self.state, self.fn = now, self.msg.fn
        return before, now


class _Mark(Handler):
    """Two stand on the stack: at its bottom, and where the recorded function begins."""

    def __init__(self, recorder: _Recorder, at_bottom: bool):
        super().__init__()
        self.recorder = recorder
        if at_bottom:
            self.watch = recorder.around
        self.at_bottom = at_bottom

    def process_message(self, msg: Message) -> None:
        if not self.recorder.working:
            return
        passing = self.recorder.passing(msg)
        passing.to_return += 1
        passing.got_out = passing.got_out or not self.at_bottom

    def postprocess_message(self, msg: Message) -> None:
        if not self.recorder.working:
            return
        self.recorder.answered(msg)
        passing = self.recorder.passing(msg)
        if not self.at_bottom:  # here a trace around the function would look
            passing.score = _score_of(msg)
        self.recorder.returned(passing)


def _score_of(msg: Message) -> tuple[Tensor, Tensor] | None:
    return display.scored(msg) if msg.type == "sample" else None


class _Recorder:
    """Writes a run down while it happens."""

    def __init__(self, recording: Recording):
        self.recording, self.events = recording, recording.events
        self.working, self._count = False, 0
        self._outer: Callable[[Entry], Entry] | None = None  # that of a recorder around this one
        self._open: dict[int, list[_Passing]] = {}  # messages on their way, by thread
        self._places: list[tuple[Handler, Place]] = []
        self._outside: set[int] = set()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The block is recorded. It leaves the stack as it was."""
        before = effects._STACK.get()
        self._outer = before[0].handler.watch if before else None
        mark = get_param_store().mark()
        ends = [_Mark(self, at_bottom=True), _Mark(self, at_bottom=False)]
        bottom, top = (
            Entry(end, end, None, mark, end.process_message, end.postprocess_message)
            for end in ends
        )
        self._outside = {id(entry.handler) for entry in before}
        seen = [self._seen(entry) for entry in before]
        effects._STACK.set((bottom, *seen, top))
        self.working = True
        try:
            yield
        finally:
            self.working = False
            left = [e for e in effects._STACK.get()[len(before) + 2 :] if e.generator is not None]
            effects._STACK.set((*before, *left))  # these are held by generators, and now unwatched

    def around(self, entry: Entry) -> Entry:
        """An entry whose two methods are watched, by this recorder and by those around it."""
        return self._seen(entry if self._outer is None else self._outer(entry))

    def _seen(self, entry: Entry) -> Entry:
        if isinstance(entry.handler, _Mark):
            return entry
        place = self._place(entry)

        def down(msg: Message) -> None:
            if not self.working:
                return entry.down(msg)
            passing = self.passing(msg)
            passing.to_return += 1
            self._step("down", passing, place, entry.down)

        def up(msg: Message) -> None:
            if not self.working:
                return entry.up(msg)
            self.answered(msg)
            passing = self.passing(msg)
            self._step("up", passing, place, entry.up)
            self.returned(passing)

        return entry._replace(down=down, up=up)

    def _place(self, entry: Entry) -> Place:
        for handler, place in self._places:
            if handler is entry.handler:
                return place
        outside, number = id(entry.handler) in self._outside, len(self._places)
        place = Place(number, type(entry.owner).__name__.lstrip("_"), _about(entry), outside)
        self._places.append((entry.handler, place))
        self.recording.handlers.append(place)
        return place

    # -- messages ----------------------------------------------------------------------------
    def passing(self, msg: Message) -> _Passing:
        """What is known of a message; when it is new, a statement has been reached."""
        mine = self._open.setdefault(threading.get_ident(), [])
        for known in reversed(mine):
            if known.msg is msg:
                return known
        under_way = set(map(id, _messages(effects._frames(sys._getframe()))))
        mine[:] = [known for known in mine if id(known.msg) in under_way]  # others have failed
        passing = _Passing(msg, self._next())
        in_force = {id(handler) for handler in effects.active_handlers()}
        stack = tuple(p.number for handler, p in self._places if id(handler) in in_force)
        within = mine[-1].number if mine else None
        more = {"within": within, "stack": stack, "source": _source(msg.where)}
        passing.reached = self._note("statement", passing, {}, passing.state, **more)
        mine.append(passing)
        return passing

    def _next(self) -> int:
        self._count += 1
        return self._count - 1

    def _step(self, kind: str, passing: _Passing, place: Place, method: Callable) -> None:
        """Let a handler see the message, and write down what it has changed."""
        error = None
        try:
            method(passing.msg)
        except BaseException as fault:
            error = f"{type(fault).__name__}: {str(fault).partition(chr(10))[0]}"
            raise
        finally:
            self._note(kind, passing, *passing.look(), handler=place, error=error)

    def answered(self, msg: Message) -> None:
        """The message is on its way back: on the first sight of that, write down the answer."""
        passing = self.passing(msg)
        if passing.answered:
            return
        passing.answered = True
        before, after = passing.look()
        how = _how(passing.reached, before, msg)
        self._note("answer", passing, before, after, how=how, hidden=not passing.got_out)

    def returned(self, passing: _Passing) -> None:
        """A handler less to pass; after the last, write down what the message has added."""
        passing.to_return -= 1
        if passing.to_return:
            return
        self._open[threading.get_ident()].remove(passing)
        score = passing.score or _score_of(passing.msg)
        if score is not None:
            alone, whole = (taken(part) for part in score)
            whole = alone if alike(alone, whole) else whole
            state = passing.state
            self._note("log_prob", passing, state, state, log_prob=whole, unscaled=alone)

    def _note(self, kind: str, passing: _Passing, before: dict, after: dict, **more) -> Event:
        name, type_, where = after["name"], after["type"], passing.msg.where
        event = Event(kind, passing.number, name, type_, where, before, after, **more)
        self.events.append(event)
        return event

    # -- errors ------------------------------------------------------------------------------
    def blame(self, fault: Exception) -> None:
        """Tie an error to the statement that it came from."""
        recording, msg = self.recording, _message_of(fault)
        known = [p for mine in self._open.values() for p in mine if p.msg is msg]
        if known:
            recording.culprit = known[0].reached
        elif isinstance(fault, errors.PplkitError) and fault.site and fault.where:
            # The statement was refused before there was a message.
            named = self._next(), fault.site, _statement_of(fault), fault.where
            recording.culprit = Event("statement", *named, source=_source(fault.where))
            self.events.append(recording.culprit)
        if isinstance(fault, errors.PplkitError) and recording.culprit is not None:
            fault.path = recording.path()


def _source(where: Where | None) -> str:
    return linecache.getline(where.filename, where.line).strip() if where is not None else ""


def _frames_of(fault: BaseException) -> Iterator[FrameType]:
    tb: TracebackType | None = fault.__traceback__
    while tb is not None:
        yield tb.tb_frame
        tb = tb.tb_next


def _message_of(fault: BaseException) -> Message | None:
    """The message that was being performed, innermost, when an error was raised."""
    return next(_messages(reversed([*_frames_of(fault)])), None)


def _messages(frames: Iterable[FrameType]) -> Iterator[Message]:
    """The messages that these frames perform."""
    for frame in frames:
        if frame.f_code is effects.perform.__code__:
            yield frame.f_locals["msg"]


def _statement_of(fault: BaseException) -> str:
    """The statement whose call has raised an error: sample, plate, ..."""
    inside = f"{effects.__package__}.primitives"
    for frame in _frames_of(fault):
        if frame.f_globals.get("__name__") == inside:
            return frame.f_code.co_qualname.partition(".")[0]
    return ""


def _how(reached: Event, before: dict[str, Any], msg: Message) -> str:
    """Where an answer comes from."""
    if before["value"] is None:
        return {"sample": "drawn", "param": "read"}.get(msg.type, "computed")
    if msg.type == "sample" and msg.is_observed:
        return "observed"
    given = reached.after["value"] is None and msg.type != "deterministic"
    return "substituted" if given else "computed"


def _about(entry: Entry) -> str:
    """What a handler was told, in a few words."""
    owner, frame = entry.owner, getattr(entry.handler, "frame", None)
    if isinstance(frame, effects.PlateFrame):
        return frame.name if frame.vectorized else f"{frame.name}[{frame.counter}]"
    for name in ("data", "config", "prior"):
        given = getattr(owner, name, None)
        if isinstance(given, dict):
            return ", ".join(map(str, given))
    for name in ("hide", "expose"):
        if getattr(owner, name, None):
            return f"{name}={sorted(owner.hide if name == 'hide' else owner.expose)}"
    for name in ("mask", "scale", "rng_seed", "prefix"):
        if getattr(owner, name, None) is not None:
            return display.brief(getattr(owner, name))
    return ""


# -- JSON --------------------------------------------------------------------------------------


def _event_out(event: Event, writer: Writer) -> dict:
    written: dict[str, Any] = {"kind": event.kind, "number": event.number}
    if event.kind == "statement":
        where, text = None, str(event.where)
        if event.where is not None:
            file = text.rpartition(", line ")[0]
            where = {"file": file, "line": event.where.line, "text": text}
        written |= {"site": event.site, "type": event.type, "where": where}
        written |= {"source": event.source, "within": event.within, "stack": [*event.stack]}
        written["message"] = {name: writer.plain(value) for name, value in event.after.items()}
    else:
        written["changed"] = {name: writer.plain(new) for name, (_, new) in event.changed.items()}
    if event.handler is not None:
        written["handler"] = event.handler.number
    if event.kind == "answer":
        written |= {"how": event.how, "hidden": event.hidden}
    if event.kind == "log_prob":
        written["log_prob"] = writer.plain(event.log_prob)
        written["unscaled"] = writer.plain(event.unscaled)
    if event.error is not None:
        written["error"] = event.error
    return written


def _read(cls: type[Recording], document: dict) -> Recording:
    reader = Reader(document["tensors"])
    recording = cls(document["name"], reader.value(document["arguments"]))
    recording._returned = reader.value(document["returned"])
    recording.handlers = [Place(**place) for place in document["handlers"]]
    states: dict[int, dict] = {}
    places: dict[int, Where | None] = {}
    for written in document["events"]:
        number = written["number"]
        before = states.get(number, {})
        new = written.get("message", written.get("changed", {}))
        after = {**before, **{name: reader.value(value) for name, value in new.items()}}
        if written["kind"] == "statement":
            where = written["where"]
            places[number] = where and Where(where["file"], where["line"])
        states[number] = after
        recording.events.append(
            _event_in(written, before, after, places[number], recording, reader)
        )
    error = document["error"]
    if error is not None:
        recording.error = RecordedError(error["kind"], error["text"])
        firsts = {event.number: event for event in recording.statements}
        recording.culprit = firsts.get(error["statement"])
    return recording


def _event_in(written, before, after, where, recording: Recording, reader: Reader) -> Event:
    more: dict[str, Any] = {k: written[k] for k in ("how", "hidden", "error") if k in written}
    if "handler" in written:
        more["handler"] = recording.handlers[written["handler"]]
    if written["kind"] == "statement":
        more |= {"within": written["within"], "stack": tuple(written["stack"])}
        more["source"] = written["source"]
    for name in ("log_prob", "unscaled"):
        if name in written:
            more[name] = reader.value(written[name])
    name, type_ = after.get("name", written.get("site")), after.get("type", written.get("type"))
    return Event(written["kind"], written["number"], name, type_, where, before, after, **more)
