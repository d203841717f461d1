"""A pytest plugin that says where the time went: per room, per costly fixture, per test.

`make test` adds it (`-p tools.rooms`); it changes no outcome and asserts nothing.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict

import pytest

SLOWEST = 10
COSTLY = 1.0  # seconds from which a shared fixture gets a line of its own


class Rooms:
    """Adds up the seconds of set-up, call and teardown by the room that a test stands in."""

    def __init__(self):
        self.begun = time.perf_counter()
        self.collected = None
        self.rooms = defaultdict(float)
        self.counts = defaultdict(int)
        self.tests = defaultdict(float)
        self.fixtures = {}
        self._inner = 0.0  # what fixtures inside the one being set up have taken

    def pytest_collection_finish(self):
        self.collected = time.perf_counter()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        outer, self._inner = self._inner, 0.0
        begun = time.perf_counter()
        try:
            return (yield)
        finally:
            took = time.perf_counter() - begun
            own = took - self._inner
            self._inner = outer + took
            if fixturedef.scope != "function" and own >= COSTLY:
                name = f"{room_of(fixturedef.baseid)}: {fixturedef.argname}"
                self.fixtures[name] = self.fixtures.get(name, 0.0) + own

    def pytest_runtest_logreport(self, report):
        room = room_of(report.nodeid)
        self.rooms[room] += report.duration
        self.tests[report.nodeid] += report.duration
        self.counts[room] += report.when == "call"

    def pytest_terminal_summary(self, terminalreporter):
        if not self.tests:
            return
        write = terminalreporter.write_line
        terminalreporter.section("where the time went")
        setup = float(os.environ.get("PPLKIT_SETUP_SECONDS", 0))
        now = time.perf_counter()
        write(f"{setup:8.1f} s  set-up")
        write(f"{self.collected - self.begun:8.1f} s  collecting the tests")
        for room, seconds in sorted(self.rooms.items(), key=_by_seconds):
            write(f"{seconds:8.1f} s  {room} ({self.counts[room]} tests)")
        write(f"{setup + now - self.begun:8.1f} s  in all")
        if self.fixtures:
            write("Of this, in fixtures that tests share:")
            for name, seconds in sorted(self.fixtures.items(), key=_by_seconds):
                write(f"{seconds:8.1f} s  {name}")
        write("The slowest tests, with what they set up:")
        for test, seconds in sorted(self.tests.items(), key=_by_seconds)[:SLOWEST]:
            write(f"{seconds:8.1f} s  {test}")


def _by_seconds(pair):
    return -pair[1]


def room_of(nodeid: str) -> str:
    """The room of a test: its folder under tests/, or the notebooks.

    >>> room_of("tests/engine/test_trace.py::test_names"), room_of("book/chapters/01.ipynb::Cell 0")
    ('tests/engine', 'notebooks (nbval)')
    """
    path = nodeid.partition("::")[0]
    if path.endswith(".ipynb"):
        return "notebooks (nbval)"
    parts = path.split("/")
    folders = parts[:-1] if parts[-1].endswith(".py") else parts
    return "/".join(folders[:2]) or "tests"


def pytest_configure(config):
    config.pluginmanager.register(Rooms(), "pplkit-rooms")
