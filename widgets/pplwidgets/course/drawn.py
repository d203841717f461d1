"""Figures that need nothing computed: all that they may show is made beforehand."""

from __future__ import annotations

import html
import threading
from collections.abc import Mapping
from typing import Any

import anywidget
import traitlets

from ..controls import Control
from ..controls import control as make_control
from ..figure import _runtime
from ..publish import VERSION, Published, wanted
from ..still import asset


class Drawn(anywidget.AnyWidget):
    """A figure whose whole state is in the page. Made by `stepper` and `model_graph`.

    Its controls are synced traits, as those of a `LiveFigure`: they can be set, observed and
    linked.

    >>> figure = Drawn("graph", {"drawings": [], "places": {}}, {}, title="Nothing yet")
    >>> figure
    Drawn()
    >>> figure.close()
    """

    _esm = traitlets.Unicode().tag(sync=True)
    _runtime = traitlets.Unicode().tag(sync=True)
    _kind = traitlets.Unicode().tag(sync=True)
    _state = traitlets.Dict().tag(sync=True)
    _controls = traitlets.List().tag(sync=True)
    _words = traitlets.Dict().tag(sync=True)

    def __init__(self, kind: str, state: Mapping, controls: Mapping[str, Any], *, title: str = "",
                 still: str = ""):  # fmt: skip
        self._by_name: dict[str, Control] = {
            name: make_control(name, given) for name, given in controls.items()
        }
        self._lock = threading.Lock()
        self._still = still
        self.add_traits(**{name: made.trait() for name, made in self._by_name.items()})
        words = {"title": title, "caption": "", "alt": title, "random": False, "seed": 0}
        super().__init__(
            _esm=asset("loader.js").decode("utf-8"),
            _runtime=_runtime()[0],
            _kind=kind,
            _state=dict(state),
            _controls=[made.describe() for made in self._by_name.values()],
            _words=words,
        )
        self.on_msg(self._heard)

    def still(self) -> str:
        """What stands in the figure's place where nothing can move, as HTML."""
        said = f"<strong>{html.escape(self._words['title'])}</strong>"
        names = ", ".join(made.label for made in self._by_name.values())
        note = f"Open this chapter in JupyterLab to move the controls: {html.escape(names)}."
        return (
            f'<figure class="pplkit-still" style="margin:1em 0">{self._still}'
            f'<figcaption style="color:inherit;text-align:left"><p>{said}</p>'
            f'<p class="pplkit-still-note"><em>{note}</em></p></figcaption></figure>'
        )

    def published(self) -> Published:
        """What a page of a book carries of it."""
        controls = []
        for made in self._by_name.values():
            now = made.to_wire(getattr(self, made.name))
            controls.append({**made.describe(), "initial": now})
        page = {
            "version": VERSION, "kind": self._kind, "state": self._state, "controls": controls,
            "words": self._words, "spec": {}, "drawn": [], "programs": [], "failing": [],
            "first": {"tables": [], "data": ""},
        }  # fmt: skip
        return Published(page=page)

    def __repr__(self) -> str:
        known = getattr(self, "_by_name", {})
        shown = [f"{name}={getattr(self, name)!r}" for name in known]
        return f"{type(self).__name__}({', '.join(shown)})"

    def _repr_mimebundle_(self, **kwargs):
        made = super()._repr_mimebundle_(**kwargs)
        if made is None:
            return None
        data, metadata = made
        if wanted():
            plain = {key: value for key, value in data.items() if key == "text/plain"}
            return {**plain, "text/html": self.still() + self.published().embedded()}, {}
        return {**data, "text/html": self.still()}, metadata

    # -- with the page -----------------------------------------------------------------------------
    def set_state(self, sync_data) -> None:
        """What a page sends: only controls may change, and only to what they accept."""
        good = {}
        for name, sent in sync_data.items():
            try:
                if name in self._by_name:
                    made = self._by_name[name]
                    good[name] = made.to_wire(made.from_wire(sent)[0])
            except (TypeError, ValueError, OverflowError):
                self.send_state(name)
        if good:
            super().set_state(good)

    def _heard(self, _, content, buffers) -> None:
        if isinstance(content, dict) and content.get("kind") == "runtime":
            fingerprint, code = _runtime()
            self.send({"kind": "runtime", "hash": fingerprint}, buffers=[code])

    def _say(self, text: str) -> None:
        """Controls say why they refuse a value; here the exception is enough."""
