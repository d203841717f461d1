"""What an answer tells a learner, decided by rules alone, and in doubt for the answer.

Four things are asked of it. An answer *has*

- the site, if the name of the site stands in it as a word, or if the mistake has no site;
- the location, if it names the program's file, a cell, or any line by its number; a traceback above
  the answer does not count, for it shows the engine's lines as well and is cut where errors are
  kept, mailed or searched for;
- found or expected, if it holds a number, a shape, a type or a name together with any word that
  states what was met or wanted: expected, got, actual, found, must, should, invalid, missing,
  unexpected, only, cannot, not, mismatch, match, vs, but, already, duplicate, multiple, ...;
- the remedy, if it holds any word that advises: remedy, give, write, choose, leave, pass, try, use,
  instead, consider, did you, please, fix, perhaps, maybe, move, add, remove, call, set, wrap,
  enclose, specify, hint, need, ensure, make, see, change.

A silence has none of them.
"""

from __future__ import annotations

import re

ASPECTS = ("site", "location", "found or expected", "remedy")

_LOCATION = re.compile(r"program\.py|\bCell In\b|\bline \d+|<ipython|<cell", re.IGNORECASE)
_STATED = re.compile(
    r"\b(expect\w*|got|actual\w*|found|must|should|invalid|missing|unexpected|only|cannot|can't|"
    r"not|no|mismatch\w*|match\w*|vs|but|already|duplicate\w*|multiple|different|disagree\w*|"
    r"inconsistent|collide\w*|ambiguous|zero|out of|required|error\w*)\b",
    re.IGNORECASE,
)
_SOMETHING = re.compile(r"\d|\[|\(|'|\"|<|\w_\w|[a-z][A-Z]|Long|Tensor")
_ADVICE = re.compile(
    r"\b(remed\w*|give|write|choose|leave|pass|try|use|using|instead|consider\w*|did you|please|"
    r"fix\w*|perhaps|maybe|mov\w+|add\w*|remov\w+|call|set|wrap\w*|enclos\w*|specify\w*|hint\w*|"
    r"need\w*|ensure\w*|make|see|chang\w+)\b",
    re.IGNORECASE,
)


def judge(kind: str, text: str, site: str | None) -> set[str]:
    """Which of `ASPECTS` an answer has."""
    if kind == "silence":
        return set()
    said = text.partition(": ")[2] or text  # less the name of the error's class
    has = set()
    if site is None or re.search(rf"(?<!\w){re.escape(site)}(?!\w)", said):
        has.add("site")
    if _LOCATION.search(said):
        has.add("location")
    if _STATED.search(said) and _SOMETHING.search(said):
        has.add("found or expected")
    if _ADVICE.search(said):
        has.add("remedy")
    return has


def lacks(kind: str, text: str, site: str | None) -> list[str]:
    """Which of `ASPECTS` an answer lacks, in their order."""
    has = judge(kind, text, site)
    return [aspect for aspect in ASPECTS if aspect not in has]
