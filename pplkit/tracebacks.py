"""How errors and warnings are shown, in a notebook the same whenever and wherever it runs.

IPython asks an exception for its `_render_traceback_`, if it has one. Ours answer with the lines
that the user wrote and the message, without the engine's lines. Elsewhere Python's tracebacks are
as always.
"""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
import warnings
from collections.abc import Iterator

from . import errors
from .errors import PplkitError, PplkitWarning, Where

_LIBRARIES = tuple(
    os.path.realpath(sysconfig.get_path(kind)) + os.sep
    for kind in ("stdlib", "platstdlib", "purelib", "platlib")
)
_MOST = 12  # of the user's lines; of more, those in the middle are left out
full = False  # set by `errors.full_tracebacks`


def wanted_short() -> bool:
    """Whether a notebook's error is shown short: unless the user has asked IPython otherwise."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    mode = getattr(getattr(shell, "InteractiveTB", None), "mode", "Context")
    return not full and mode == "Context"


def short(error: PplkitError) -> list[str]:
    """The lines of a short traceback: first what an error came from, then the error.

    >>> from pplkit.errors import UsageError
    >>> print("\\n".join(short(UsageError("too much", remedy="less"))))
    Your own lines (%tb Plain shows all):
    <BLANKLINE>
    UsageError: too much
      remedy:   less
    """
    told = ["Your own lines (%tb Plain shows all):"]
    for link, fault in _chain(error):
        told += [link, ""] if link else []
        told += [*_lines(fault), "", f"{type(fault).__name__}: {_message(fault)}"]
        if fault is error and error.path is not None:
            told += ["", "Its way through the handlers:", error.path]
        told += [""] * (fault is not error)
    return told


def _chain(error: BaseException) -> Iterator[tuple[str, BaseException]]:
    """Errors in the order in which they were raised, each with what it has to do with the last."""
    chain: list[BaseException] = []
    fault: BaseException | None = error
    while fault is not None and fault not in chain:
        chain.append(fault)
        hidden = None if fault.__suppress_context__ else fault.__context__
        fault = fault.__cause__ or hidden
    for earlier, later in zip([None, *reversed(chain)], reversed(chain), strict=False):
        if earlier is None:
            yield "", later
        elif later.__cause__ is earlier:
            yield "That was the direct cause of this:", later
        else:
            yield "While that was handled, this happened:", later


def _message(fault: BaseException) -> str:
    lines = errors.without_addresses(str(fault)).split("\n")
    return "\n".join(lines if isinstance(fault, PplkitError) else lines[:3])


def _lines(fault: BaseException) -> list[str]:
    """Places of the user's own code, with the code; each once in a row."""
    told: list[str] = []
    last, tb = None, fault.__traceback__
    while tb is not None:
        code, line = tb.tb_frame.f_code, tb.tb_lineno
        if _is_users(code.co_filename, tb.tb_frame.f_globals.get("__name__") or ""):
            name = "" if code.co_name.startswith("<") else f", in {code.co_name}"
            source = linecache.getline(code.co_filename, line, tb.tb_frame.f_globals).strip()
            place = Where(code.co_filename, line)
            if place != last and not source.startswith("get_ipython()"):  # what magics make
                told.append(f"{place}{name}" + (f"\n    {source}" if source else ""))
            last = place
        tb = tb.tb_next
    if len(told) > _MOST:
        between = f"... {len(told) - _MOST} more ..."
        told = [*told[: _MOST // 2], between, *told[-_MOST // 2 :]]
    return told


def _is_users(filename: str, module: str) -> bool:
    if filename.startswith("<"):
        return filename.startswith(("<timed", "<ipython-input", "<stdin", "<magic"))
    if module.partition(".")[0] in ("pplkit", "pplwidgets"):
        return False
    if errors._notebook_cell(filename) is not None:
        return True
    return not os.path.realpath(filename).startswith(_LIBRARIES)


# -- warnings ------------------------------------------------------------------------------------

_SHOWN: list[tuple[list, set]] = []  # with a list of filters, what has been shown under it


def show(warning: PplkitWarning) -> None:
    """Show a warning at its place in the user's code, once for each place; see `errors.warn`."""
    where = warning.where or errors.user_frame() or Where("<unknown>", 0)
    module = _user_module()
    if _known(warning, where, module):
        return
    file = errors._notebook_cell(where.filename) or where.filename
    warnings.warn_explicit(warning, type(warning), file, where.line, module=module)


def _user_module() -> str:
    frame = sys._getframe(1)
    while frame.f_back is not None and errors.is_engine(frame.f_code.co_filename):
        frame = frame.f_back
    return frame.f_globals.get("__name__") or "<unknown>"


def _known(warning: PplkitWarning, where: Where, module: str) -> bool:
    """Whether it has been shown and Python's filters would show it once.

    Python has a memory of its own, but forgets all whenever somebody enters or leaves
    `warnings.catch_warnings`, as torch may at every step of an inference.
    """
    filters, text = warnings.filters, str(warning)
    actions = (
        action
        for action, message, kind, modules, line in filters
        if isinstance(warning, kind)
        and _fits(message, text)
        and _fits(modules, module)
        and line in (0, where.line)
    )
    if next(actions, warnings.defaultaction) not in ("default", "module", "once"):
        return False
    shown = next((shown for known, shown in _SHOWN if known is filters), None)
    if shown is None:
        shown = set()
        _SHOWN.append((filters, shown))
        del _SHOWN[:-8]  # other lists are those of blocks that have ended
    key = (where, text)
    known = key in shown
    shown.add(key)
    return known


def _fits(pattern, text: str) -> bool:
    return pattern is None or (pattern == text if isinstance(pattern, str) else pattern.match(text))
