"""Which files the project consists of, with or without git."""

from __future__ import annotations

import os
from pathlib import Path

import pathspec

ROOT = Path(__file__).resolve().parents[2]


def project_files() -> list[Path]:
    """Every file of the project, relative to its root: whatever .gitignore leaves."""
    rules = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    ignored = pathspec.GitIgnoreSpec.from_lines([*rules, "/.git", ".DS_Store"])
    found = []
    for place, folders, names in os.walk(ROOT):
        here = Path(place).relative_to(ROOT)
        folders[:] = [n for n in folders if not ignored.match_file((here / n).as_posix() + "/")]
        found += [here / n for n in names if not ignored.match_file((here / n).as_posix())]
    return sorted(found)
