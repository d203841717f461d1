"""The live figure: a function of controls, the chart that draws what it returns, and the
controls.
"""

from __future__ import annotations

import contextvars
import gzip
import hashlib
import inspect
import random
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from numbers import Integral
from typing import Any

import anywidget
import torch
import traitlets

import pplkit
from pplkit.errors import Where, nearest
from pplkit.params import ParamStore

from . import captions, charts, tables
from .controls import Control, bounds
from .controls import control as make_control
from .noise import common_random_numbers
from .publish import WAYS, published, wanted
from .still import asset, picture, still
from .worker import Newest

_SEEDS = 2**32
_SENTENCE = "Open this chapter in JupyterLab to move the controls: {controls}."


@dataclass(frozen=True)
class _State:
    """What one evaluation is for."""

    serial: int
    controls: Mapping[str, Any]
    wire: Mapping[str, Any]  # the same, as the page knows them
    seed: int

    def same(self, other: _State) -> bool:
        """Whether both have the same picture."""
        return self.wire == other.wire and self.seed == other.seed


def live(
    fn: Callable[..., Mapping],
    chart,
    /,
    *,
    title: str = "",
    caption: str = "",
    seed: int = 0,
    publish: str = "graph",
    **controls,
) -> LiveFigure:
    """A figure that follows its controls.

    Args:
        fn: takes the controls by name; returns columns, `{"x": tensor, "y": tensor}`, or tables of
            columns,
            `{"curve": {"x": ..., "y": ...}, "points": {...}}`. A column is a 1-D tensor; those of a
            table have one length. It sees nothing but its arguments: a parameter store of its own,
            empty at each evaluation, and random numbers that belong to the figure.
        chart: an Altair chart. Without data it reads the table `data`; `alt.NamedData("curve")`
            reads another.
            Encoding types may be left out. Its `title` and `description` serve the figure's readers
            too.
        title: stands above the chart.
        caption: stands below it, with numbers: `"mean {summary.mean:.2f} from {n} points"` takes
            the one row of
            table `summary`, and the control `n`.
        seed: of the draws, 0 ≤ seed < 2³². The button "new draw" changes it.
        publish: what a book's page has of the figure, where no kernel is: "graph", the function
            itself, captured; "table", its answers on a grid of at most 600 settings of the controls
            and for this seed; "picture", neither.
        controls: by name, as in ipywidgets' `interact`: `(low, high)`, `(low, high, step)`, a
            boolean, a number, a
            text, a list or dict of choices; or a stock ipywidget, which stays linked both ways. A
            default of the function is the initial value.

    Axes hold still: a scale keeps the domain the chart gives it (`alt.Scale(domain=...)`), or else
    the one that fits the first evaluation, at the initial controls; a button fits it anew. Random
    numbers stay with their place (`pplwidgets.noise`): in a plate that grows, the rows already
    there do not change.

    Raises `TypeError` or `ValueError` that name the control, table or column at fault; what `fn`
    itself raises at the initial controls comes out unchanged. Later, the figure shows it.

    >>> import altair as alt, torch
    >>> def bell(mu, n):
    ...     z = torch.linspace(-4, 4, n)
    ...     return {"z": z, "density": torch.exp(-((z - mu) ** 2) / 2)}
    >>> chart = alt.Chart().mark_line().encode(x="z", y="density")
    >>> figure = live(bell, chart, mu=(-3.0, 3.0), n=(2, 400))
    >>> figure
    LiveFigure(mu=0.0, n=201)
    >>> figure.mu = 1.5
    >>> figure.tables["data"]["z"].shape
    torch.Size([201])
    >>> figure.close()
    """
    return LiveFigure(
        fn, chart, title=title, caption=caption, seed=seed, publish=publish, controls=controls
    )


class LiveFigure(anywidget.AnyWidget):
    """A figure made by `live`; an ipywidget, with one synced trait per control.

    Set a control (`figure.mu = 1.0`), observe it (`figure.observe(handler, "mu")`), link it
    (`ipywidgets.jslink((slider, "value"), (figure, "mu"))`). A value out of range raises
    `traitlets.TraitError`; one that comes from a page is held at the end of the range, and the
    figure says so.

    Attributes:
        seed: of the figure's random numbers.
        tables: what the function returns for the present controls.
        publish: what a book's page has of it: "graph", "table" or "picture".
    """

    _esm = traitlets.Unicode().tag(sync=True)
    _runtime = traitlets.Unicode().tag(sync=True)
    _spec = traitlets.Dict().tag(sync=True)
    _controls = traitlets.List().tag(sync=True)
    _words = traitlets.Dict().tag(sync=True)
    seed = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        fn,
        chart,
        *,
        controls: Mapping[str, Any],
        title="",
        caption="",
        seed=0,
        publish="graph",
    ):
        if publish not in WAYS:
            raise ValueError(f"publish is one of {', '.join(map(repr, WAYS))}, not {publish!r}.")
        self._fn = fn
        self.publish = publish
        self._by_name = _make_controls(fn, controls)
        self._lock = threading.Lock()
        self._serial = 0
        self._watched = False  # whether a page has asked for pictures
        self._links: list = []
        self._worker = Newest(self._work)
        self._first_seed = _check_seed(seed)
        initial = {name: made.value for name, made in self._by_name.items()}
        state = torch.random.get_rng_state()
        example, draws = _evaluated(fn, initial, seed)
        if not torch.equal(state, torch.random.get_rng_state()):
            warnings.warn(
                "The function of a live figure draws from a generator that the figure does not"
                " own, so its pictures"
                " cannot be repeated. Draw with pplkit.sample, torch.randn and the like, without"
                " a generator.",
                stacklevel=3,
            )
        spec = charts.specification(chart, example)
        captions.check(caption, list(initial), example)
        wire = {name: made.to_wire(made.value) for name, made in self._by_name.items()}
        self._first = self._latest = (_State(0, initial, wire, seed), example)
        self._said = {"title": title, "caption": caption}
        static = {
            "_esm": asset("loader.js").decode("utf-8"),
            "_runtime": _runtime()[0],
            "_spec": spec,
            "_controls": [made.describe() for made in self._by_name.values()],
            "_words": {
                "title": title,
                "caption": caption,
                "alt": _alternative(spec, title),
                "random": draws > 0,
                "seed": seed,
            },
            "seed": seed,
        }
        self.add_traits(**{name: made.trait() for name, made in self._by_name.items()})
        super().__init__(**static)
        self.on_msg(self._heard)
        self.observe(self._moved, [*self._by_name, "seed"])
        for made in self._by_name.values():
            if made.widget is not None:
                self._join(made)

    # -- for the author ----------------------------------------------------------------------------
    def evaluate(self, *, seed: int | None = None, **controls) -> tables.Tables:
        """What the function returns for these controls (the present ones, where not given), in this
        thread.

        The same seed and controls always give the same tables.
        """
        for name in controls:
            if name not in self._by_name:
                raise TypeError(
                    f"{name!r} is no control of this figure: {nearest(name, list(self._by_name))}."
                )
        given = {name: self._by_name[name].check(value) for name, value in controls.items()}
        at = {**self._now().controls, **given}
        return _evaluated(self._fn, at, self.seed if seed is None else _check_seed(seed))[0]

    @property
    def tables(self) -> tables.Tables:
        now, (state, latest) = self._now(), self._latest
        if not now.same(state):
            latest = _evaluated(self._fn, now.controls, now.seed)[0]
            self._latest = (now, latest)
        return latest

    def reset(self) -> None:
        """Back to the initial controls and the initial draw."""
        with self.hold_trait_notifications():
            for made in self._by_name.values():
                self.set_trait(made.name, made.value)
            self.seed = self._first_seed

    def new_draw(self) -> None:
        """Another seed, hence other random numbers."""
        self.seed = random.SystemRandom().randrange(_SEEDS)

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until the page has been sent the picture of the present controls."""
        return self._worker.settle(timeout)

    def still(self) -> str:
        """The present picture with its words as HTML: for paper, and for pages where
        nothing runs.
        """
        shown = self._shown()
        words = self._said
        caption = captions.filled(words["caption"], shown, self.tables)
        seen = [
            made for made in self._by_name.values()
            if all(str(shown[other]) in any_ for other, any_ in made.when.items())
        ]
        labels = [made.label for made in seen]
        at = ", ".join(f"{made.label} {captions.written(shown[made.name])}" for made in seen)
        alt = (
            self._words["alt"]
            + (f" Drawn at {at}." if at else "")
            + (f" {caption}" if caption else "")
        )
        sentence = _SENTENCE.format(controls=", ".join(labels))
        return still(picture(self._spec, self.tables), alt, words["title"], caption, sentence)

    def close(self) -> None:
        """Take the figure off its pages; nothing of it runs on."""
        worker = getattr(self, "_worker", None)
        if worker is not None:
            worker.close()
        for unlink in getattr(self, "_links", []):
            unlink()
        self._links = []
        super().close()

    def __repr__(self) -> str:
        if not hasattr(self, "_by_name"):
            return "LiveFigure()"
        return (
            f"LiveFigure({', '.join(f'{name}={value!r}' for name, value in self._shown().items())})"
        )

    def _repr_mimebundle_(self, **kwargs):
        made = super()._repr_mimebundle_(**kwargs)
        if made is None:
            return None
        data, metadata = made
        if wanted():  # of a book's page: no kernel will answer a view
            plain = {key: value for key, value in data.items() if key == "text/plain"}
            return {**plain, "text/html": self.still() + published(self).embedded()}, {}
        return {**data, "text/html": self.still()}, metadata

    # -- with the page -----------------------------------------------------------------------------
    def set_state(self, sync_data) -> None:
        """What a page sends: only controls and the seed may change, and only to what they
        accept.
        """
        good, corrected = {}, set()
        for name, sent in sync_data.items():
            try:
                if name in self._by_name:
                    value, word = self._by_name[name].from_wire(sent)
                    good[name] = self._by_name[name].to_wire(value)
                    if word:
                        corrected.add(name)
                        self._say(word)
                elif name == "seed":
                    good[name] = _check_seed(sent)
                elif name in _OF_THE_HOST:
                    good[name] = sent
            except (TypeError, ValueError, OverflowError) as fault:
                corrected.add(name)
                self._say(f"{fault}; it stays as it was.")
        if good:
            super().set_state(good)
        if corrected:
            self.send_state(corrected)

    def _heard(self, _, content, buffers) -> None:
        kind = content.get("kind") if isinstance(content, dict) else None
        if kind == "runtime":
            fingerprint, code = _runtime()
            self.send({"kind": "runtime", "hash": fingerprint}, buffers=[code])
        elif kind == "hello":
            self._watched = True
            self._send_picture(*self._first, first=True)
            self._request()

    def _moved(self, change) -> None:
        with self._lock:
            self._serial += 1
        if self._watched:
            self._request()

    def _request(self) -> None:
        """Have the present controls evaluated; tell the page that its kernel has heard."""
        self._worker.submit(self._now())
        self.send({"kind": "working"})

    def _now(self) -> _State:
        with self._lock:
            values = {name: getattr(self, name) for name in self._by_name}
            wire = {name: made.to_wire(values[name]) for name, made in self._by_name.items()}
            return _State(self._serial, values, wire, self.seed)

    def _work(self, state: _State) -> None:
        """On the worker's thread: evaluate, and send the page what came of it."""
        known, latest = self._latest
        try:
            if not state.same(known):
                latest = _evaluated(self._fn, state.controls, state.seed)[0]
        except Exception as fault:  # a learner's function may raise anything; the figure shows it
            if not self._worker.superseded():
                said = {"kind": "trouble", "text": _told(fault), "where": _where(fault)}
                self.send({**said, **_stamp(state)})
            return
        self._latest = (state, latest)
        self._send_picture(state, latest)

    def _send_picture(self, state: _State, made: tables.Tables, first: bool = False) -> None:
        described, buffers = tables.packed(made)
        content = {
            "kind": "picture",
            "first": first,
            **_stamp(state),
            "tables": described,
            "remarks": tables.remarks(made, charts.tables_read(self._spec)),
        }
        self.send(content, buffers=buffers)

    def _say(self, text: str) -> None:
        self.send({"kind": "notice", "text": text})

    def _send(self, msg, buffers=None) -> None:
        if self.comm is not None:
            super()._send(msg, buffers=buffers)

    # -- stock widgets -----------------------------------------------------------------------------
    def _shown(self) -> dict:
        """Per control, what a reader sees: of choices the label."""
        return {
            name: made.choices[made.to_wire(getattr(self, name))][0]
            if made.kind == "select"
            else getattr(self, name)
            for name, made in self._by_name.items()
        }

    def _join(self, made: Control) -> None:
        widget, name = made.widget, made.name
        link = traitlets.link((widget, "value"), (self, name))
        follow = [
            trait
            for trait in ("min", "max", "step", "base", "description")
            if widget.has_trait(trait)
        ]

        def redescribe(change):
            made.label = widget.description or name.replace("_", " ")
            if made.kind == "range":
                vars(made).update(bounds(widget))
            self._controls = [each.describe() for each in self._by_name.values()]

        widget.observe(redescribe, follow)
        self._links += [link.unlink, lambda: widget.unobserve(redescribe, follow)]


def _stamp(state: _State) -> dict:
    return {"serial": state.serial, "controls": dict(state.wire), "seed": state.seed}


_OF_THE_HOST = {"layout", "tabbable", "tooltip", "_view_count", "_dom_classes"}


@cache
def _runtime() -> tuple[str, bytes]:
    """The page's part of a figure, compressed, and its fingerprint."""
    code = asset("runtime.js")
    return hashlib.sha256(code).hexdigest()[:16], gzip.compress(code, 9, mtime=0)


def _make_controls(fn, given: Mapping[str, Any]) -> dict[str, Control]:
    if not callable(fn):
        raise TypeError(f"A live figure is made of a function, not of {fn!r}.")
    parameters = inspect.signature(fn).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    called = getattr(fn, "__name__", "the function")
    names = [p.name for p in named]
    for name in given:
        if name not in names and not any(p.kind is p.VAR_KEYWORD for p in parameters):
            raise TypeError(
                f"{called} takes no {name!r}, so it cannot be a control: {nearest(name, names)}."
            )
        if name.startswith("_") or hasattr(LiveFigure, name):
            raise ValueError(
                f"{name!r} is a name that widgets use themselves, so it cannot be a control."
                f" Rename the parameter, for instance to '{name.strip('_') or 'x'}_value'."
            )
    lacking = [p.name for p in named if p.name not in given and p.default is p.empty]
    if lacking:
        raise TypeError(
            f"{called} needs {' and '.join(map(repr, lacking))}, but there is no such control."
            f" Add one, for instance live(..., {lacking[0]}=(0.0, 1.0)), or give the parameter a"
            " default."
        )
    defaults = {p.name: p.default for p in named if p.default is not p.empty}
    return {name: make_control(name, what, defaults.get(name)) for name, what in given.items()}


def _check_seed(seed) -> int:
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed < _SEEDS:
        raise ValueError(f"seed: {seed!r} is not a whole number from 0 to 2³² − 1")
    return int(seed)


def _evaluated(fn, controls: Mapping[str, Any], seed: int) -> tuple[tables.Tables, int]:
    """Tables, and how many draws they took; in a context of its own, so that it can meet no other's
    state.
    """

    def inside():
        # No `seed` handler is in force: the engine's samplers then reach these numbers.
        with ParamStore(), common_random_numbers(seed) as noise:
            made = tables.checked(fn(**controls))
        return made, noise.draws

    return contextvars.Context().run(inside)


def _told(fault: BaseException) -> str:
    text = str(fault).strip()
    return f"{type(fault).__name__}: {text}" if text else type(fault).__name__


def _where(fault: BaseException) -> str:
    """The innermost line of the author's own code: not of an installed package, nor of ours."""
    for frame in reversed(traceback.extract_tb(fault.__traceback__)):
        name = frame.filename
        if not any(part in name for part in _NOT_THE_AUTHORS):
            return f"{Where(name, frame.lineno)}: {(frame.line or '').strip()}".rstrip(": ")
    return ""


def _folders() -> tuple[str, ...]:
    import os
    import sysconfig

    ours = [os.path.dirname(os.path.abspath(module.__file__)) for module in (pplkit, tables)]
    return (*(sysconfig.get_path(p) for p in ("stdlib", "purelib", "platlib")), *ours)


_NOT_THE_AUTHORS = _folders()


def _alternative(spec: dict, title: str) -> str:
    """In words, what kind of picture this is."""
    if spec.get("description"):
        return str(spec["description"])
    said = spec.get("title")
    said = said.get("text") if isinstance(said, dict) else said
    return f"Chart: {title or said or 'a live figure'}."


__all__ = ["LiveFigure", "live"]
