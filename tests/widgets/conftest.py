"""A page at the other end of a figure's comm: it sends what a browser sends, and keeps what it is
sent.
"""

from __future__ import annotations

import threading

import comm
import pytest
import torch
from comm.base_comm import BaseComm
from ipywidgets import Widget


class Wire(BaseComm):
    """Keeps every message instead of putting it on a socket."""

    def __init__(self, **given):
        self.sent = []
        super().__init__(**given)

    def publish_msg(self, msg_type, data=None, metadata=None, buffers=None, **keys):
        self.sent.append((msg_type, data or {}, [bytes(b) for b in buffers or ()]))


class Page:
    """What a browser does with one figure."""

    def __init__(self, figure):
        self.figure, self.wire = figure, figure.comm

    def hello(self):
        self.say({"kind": "hello"})
        assert self.figure.settle(60)
        return self

    def say(self, content):
        self._deliver({"method": "custom", "content": content})

    def set(self, **state):
        self._deliver({"method": "update", "state": state, "buffer_paths": []})

    def _deliver(self, data):
        self.wire.handle_msg({"content": {"data": data}, "buffers": []})

    def messages(self, kind) -> list[tuple[dict, list[bytes]]]:
        """Custom messages of one kind, with their buffers, oldest first."""
        found = []
        for _, data, buffers in list(self.wire.sent):
            content = data.get("content")
            if data.get("method") == "custom" and content.get("kind") == kind:
                found.append((content, buffers))
        return found

    def said(self) -> list[str]:
        return [content["text"] for content, _ in self.messages("notice")]

    def picture(self) -> dict[str, dict[str, torch.Tensor]]:
        """The newest picture's tables, out of their bytes."""
        content, buffers = self.messages("picture")[-1]
        return decoded(content["tables"], buffers)

    def state(self, name):
        """What the page was last told of a trait."""
        told = [d["state"][name] for _, d, _ in self.wire.sent if name in d.get("state", {})]
        return told[-1]


def decoded(described, buffers):
    flow, kinds = iter(buffers), {"<f4": torch.float32, "<f8": torch.float64}
    tables = {}
    for table in described:
        columns = tables.setdefault(table["name"], {})
        for head in table["columns"]:
            data = bytearray(next(flow))
            columns[head["name"]] = torch.frombuffer(data, dtype=kinds[head["dtype"]])
            assert len(columns[head["name"]]) == table["rows"]
    return tables


def same(one, other) -> bool:
    """Whether two sets of tables hold the same numbers to the last bit."""
    return {t: list(c) for t, c in one.items()} == {t: list(c) for t, c in other.items()} and all(
        torch.equal(one[t][c].double().nan_to_num(9e9), other[t][c].double().nan_to_num(9e9))
        for t in one
        for c in one[t]
    )


@pytest.fixture(autouse=True)
def wires(monkeypatch):
    """Comms that keep their messages; afterwards every widget is closed and no worker is left."""
    monkeypatch.setattr(comm, "create_comm", lambda **given: Wire(**given))
    yield
    Widget.close_all()
    for thread in threading.enumerate():
        if thread.name == "pplwidgets":
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture
def opened():
    """`opened(figure)`: a page that shows it and has its first picture."""
    return lambda figure: Page(figure).hello()
