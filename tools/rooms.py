"""A pytest plugin for `make test`: what may run side by side, and where the time went.

`-p tools.rooms` adds it. It changes no outcome and asserts nothing. With pytest-xdist, the tests of
a file stay together, as they share fixtures; the files that take longest begin first.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict

import pytest

SLOWEST = 10
COSTLY = 1.0  # seconds from which a shared fixture gets a line of its own
# Those who share the built book; and what begins first, so that nothing long is left for the end.
BOOK = ("tests/browser/test_book.py", "tests/browser/test_fuzz.py", "tests/book/test_site.py")
FIRST = (*BOOK, "tests/capture", "tests/browser", "tests/widgets", "book")


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

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config, log):
        from xdist.scheduler import LoadScopeScheduling

        class Files(LoadScopeScheduling):
            def _split_scope(self, nodeid):
                path = nodeid.partition("::")[0]
                return BOOK[0] if path in BOOK else path

        return Files(config, log)

    def pytest_collection_modifyitems(self, items):
        items.sort(key=lambda item: _begins(item.nodeid))

    def pytest_collection_finish(self):
        self.collected = time.perf_counter()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node):
        """What a worker's fixtures took is known to the worker alone."""
        for name, seconds in getattr(node, "workeroutput", {}).get("fixtures", {}).items():
            self.fixtures[name] = self.fixtures.get(name, 0.0) + seconds

    def pytest_sessionfinish(self, session):
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["fixtures"] = self.fixtures

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
        if self.collected:  # else the workers did it
            write(f"{self.collected - self.begun:8.1f} s  collecting the tests")
        for room, seconds in sorted(self.rooms.items(), key=_by_seconds):
            write(f"{seconds:8.1f} s  {room} ({self.counts[room]} tests)")
        workers = terminalreporter.config.getoption("numprocesses", 0) or 1
        side = f", {workers} side by side" if workers > 1 else ""
        write(f"{setup + now - self.begun:8.1f} s  in all{side}")
        if self.fixtures:
            write("Of this, in fixtures that tests share:")
            for name, seconds in sorted(self.fixtures.items(), key=_by_seconds):
                write(f"{seconds:8.1f} s  {name}")
        write("The slowest tests, with what they set up:")
        for test, seconds in sorted(self.tests.items(), key=_by_seconds)[:SLOWEST]:
            write(f"{seconds:8.1f} s  {test}")


def _begins(nodeid: str) -> int:
    return next((at for at, start in enumerate(FIRST) if nodeid.startswith(start)), len(FIRST))


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
