"""Runs the newest request on a thread of its own."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable

_all: weakref.WeakSet[Newest] = weakref.WeakSet()


class Newest:
    """Calls `work(request)` off the caller's thread, for the newest request only.

    Requests that come while one is being worked on replace each other, so that at most one waits.
    The thread
    lives only while there is work: an idle worker has none. `work` must deal with its own
    exceptions; give it a bound method and the worker holds its object only weakly.
    """

    def __init__(self, work: Callable, name: str = "pplwidgets"):
        self._work = weakref.WeakMethod(work) if hasattr(work, "__self__") else lambda: work
        self._name = name
        self._changed = threading.Condition()
        self._waiting: list = []  # the newest request, or nothing
        self._thread: threading.Thread | None = None
        self._closed = False
        _all.add(self)

    def submit(self, request) -> None:
        """Ask for `work(request)`; a request that still waits is dropped. Nothing happens once
        closed.
        """
        with self._changed:
            if self._closed:
                return
            self._waiting = [request]
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def superseded(self) -> bool:
        """Whether a newer request waits (or none is wanted any more)."""
        with self._changed:
            return bool(self._waiting) or self._closed

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until nothing is being worked on; False when `timeout` seconds have passed before
        that.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._thread is None, timeout)

    def close(self) -> None:
        """Take no more requests; the one in progress ends on its own."""
        with self._changed:
            self._closed = True
            self._waiting = []

    def _run(self) -> None:
        while True:
            with self._changed:
                work = self._work()
                if not self._waiting or work is None:
                    self._thread = None
                    self._changed.notify_all()
                    return
                request = self._waiting.pop()
            try:
                work(request)
            except Exception:  # the next request must find a worker
                threading.excepthook(
                    threading.ExceptHookArgs((*_exc_info(), threading.current_thread()))
                )
            del work, request


def _exc_info():
    import sys

    return sys.exc_info()


@atexit.register
def _finish() -> None:
    """Leave no thread inside torch when the interpreter goes."""
    for worker in list(_all):
        worker.close()
    for worker in list(_all):
        worker.settle(timeout=5.0)
