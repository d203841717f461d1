"""Checks for the exercises of the book: they say what went wrong, not only that something did.

>>> from pplwidgets.checks import check
>>> check("rain", lambda probs: None)
not yet: `rain` ran no `sample` statement and returned nothing.
try: Start with one `sample("rain", ...)` statement, and return its value.

A check runs the answer and looks at the run: its trace, the log-probabilities it assigns, the
estimates it gives under several seeds. So any program that means the right thing passes, and one
lucky draw does not.
"""

from __future__ import annotations

import difflib
import html
import re
from dataclasses import dataclass
from typing import Any

from . import judges  # noqa: F401  registers what there is to check
from .judging import JUDGES, Answer, Mistake, expect_function, in_own_context, quoted

__all__ = ["Verdict", "check", "exercises"]

SECONDS = 30.0  # of a processor: time limit of one check


# -- what the reader sees ----------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """The outcome of a check; true when the exercise is solved.

    Attributes:
        exercise: its short name.
        passed: whether the answer is right.
        message: what was found, in a sentence or two.
        remedy: what to do about it; empty when passed.
        mistake: a stable short name of a recognised mistake, such as "no-plate"; empty otherwise.
    """

    exercise: str
    passed: bool
    message: str
    remedy: str = ""
    mistake: str = ""

    def __bool__(self) -> bool:
        return self.passed

    @property
    def headline(self) -> str:
        return "passed" if self.passed else "not yet"

    def __repr__(self) -> str:
        lines = [f"{self.headline}: {self.message}"]
        if self.remedy:
            lines.append(f"try: {self.remedy}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        # Colours are taken from the page's own text, so that they hold in light and dark pages.
        bar = "#2e8b57" if self.passed else "#c77700"
        mark = "✓" if self.passed else "→"
        head = f"<strong>{mark} {self.headline.capitalize()}.</strong>"
        body = f"<p style='margin:0'>{head} {_as_html(self.message)}</p>"
        if self.remedy:
            body += f"<p style='margin:.4em 0 0'><strong>Try:</strong> {_as_html(self.remedy)}</p>"
        style = (
            f"border:1px solid {bar};border-left-width:.4em;border-radius:.3em;"
            "padding:.6em .9em;max-width:44em;overflow-wrap:anywhere;white-space:pre-wrap"
        )
        return f"<div class='pplkit-check' role='status' style='{style}'>{body}</div>"


def _as_html(text: str) -> str:
    # Line breaks and the indentation of quoted errors are kept by `white-space: pre-wrap`.
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def check(exercise: str, answer: Any, *, seconds: float = SECONDS) -> Verdict:
    """Check an answer to one exercise of the book.

    Args:
        exercise: the exercise's short name, as the notebook gives it.
        answer: the function that the exercise asks for.
        seconds: time limit, in seconds of a processor (and four times as many on the clock); an
            answer that runs longer is stopped.

    Returns:
        A `Verdict`: true or false, and in words what was found. An answer that fails in whatever
        way is a verdict, not an exception.

    Raises:
        ValueError: there is no exercise of that name.
    """
    if exercise not in JUDGES:
        close = difflib.get_close_matches(str(exercise), JUDGES, n=1)
        hint = (
            f"did you mean {close[0]!r}?" if close else f"there are {', '.join(map(repr, JUDGES))}"
        )
        raise ValueError(f"no exercise is called {exercise!r}: {hint}")
    try:
        arguments, judge = JUDGES[exercise]
        expect_function(exercise, answer, arguments)
        praise = in_own_context(judge, Answer(exercise, answer), seconds)
    except Mistake as found:
        return Verdict(exercise, False, found.message, found.remedy, found.mistake)
    except Exception as error:  # noqa: BLE001
        told = (
            f"`{exercise}` could not be judged, for it did something unforeseen.\n{quoted(error)}"
        )
        return Verdict(
            exercise,
            False,
            told,
            "Compare with the hints; the simplest answer is the best.",
            "unforeseen",
        )
    return Verdict(exercise, True, praise)


def exercises() -> list[str]:
    """The short names of all exercises that have a check."""
    return list(JUDGES)
