"""Which line of the user's is at work: neither the engine's nor a library's."""

from __future__ import annotations

import os
import sys
import sysconfig
from types import FrameType, TracebackType

import torch

from ..errors import Where

_ENGINE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_LIBRARIES = tuple(
    sysconfig.get_path(name) + os.sep for name in ("stdlib", "purelib", "platlib")
)
_NOT_THE_USERS = (_ENGINE, _TORCH, *_LIBRARIES, "<string>", "<eval_with_key>", "<frozen")


def user_line() -> Where | None:
    """The innermost line, of those that are running, outside the engine and libraries."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not _is_users(frame.f_code.co_filename):
        frame = frame.f_back
    return None if frame is None else Where(frame.f_code.co_filename, frame.f_lineno)


def line_of(fault: BaseException) -> Where | None:
    """The innermost line outside the engine and libraries that an exception has come through."""
    found, step = None, fault.__traceback__
    while step is not None:
        if _is_users(step.tb_frame.f_code.co_filename):
            found = _at(step)
        step = step.tb_next
    return found


def _at(step: TracebackType) -> Where:
    return Where(step.tb_frame.f_code.co_filename, step.tb_lineno)


def _is_users(filename: str) -> bool:
    return not filename.startswith(_NOT_THE_USERS)
