"""Writes constraints.txt: one version of every package that an environment may hold.

    make constraints                      keeps versions, adds and drops what it must
    make constraints ARGS="--upgrade"     takes the newest that the ranges allow
    make constraints ARGS="--upgrade-package altair"

The resolver works out all platforms and Python versions at once, so the file carries environment
markers and serves everywhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Moved by hand, with the engine's tests: the engine leans on young parts of torch.
TORCH = "torch==2.13.0"
HEADER = """\
# Versions that are tested together, for every platform: `pip install -c constraints.txt ...`.
# Written by `make constraints` from the ranges in pyproject.toml; edit those instead.
"""


def main(arguments: list[str]) -> int:
    """Resolves pyproject.toml, extras and build requirements into constraints.txt."""
    target = ROOT / "constraints.txt"
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]
    words = [
        sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "-",
        "--all-extras", "--universal", "--python-version=3.11", "--fork-strategy=fewest",
        "--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links", "--quiet",
        f"--output-file={target.name}", *arguments,
    ]  # fmt: skip
    ended = subprocess.run(
        words,
        cwd=ROOT,
        env={**os.environ, "UV_SYSTEM_CERTS": "1"},
        input="\n".join([*build["requires"], TORCH]),
        encoding="utf-8",
    )
    if ended.returncode == 0:
        target.write_text(HEADER + target.read_text(encoding="utf-8"), encoding="utf-8")
        print(target)
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
