"""Count lines of code per room, so that the engine stays small enough to read.

A line counts when it holds code: not blank, not a comment, not part of a docstring. The core that a learner
reads (effects, primitives, handlers, trace) has a budget, and so has each function.

    python -m tools.count           print the table; exit 1 when a budget is broken
"""

from __future__ import annotations

import ast
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORE = ("effects.py", "primitives.py", "handlers.py", "trace.py")
CORE_BUDGET = 900
FUNCTION_BUDGET = 50
WIDTH = 100


def code_lines(path: Path) -> set[int]:
    """Numbers of the lines that hold code."""
    with tokenize.open(path) as file:
        tokens = list(tokenize.generate_tokens(file.readline))
    quiet = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    quiet |= {tokenize.ENDMARKER, tokenize.ENCODING}
    lines = {n for t in tokens if t.type not in quiet for n in range(t.start[0], t.end[0] + 1)}
    return lines - _docstring_lines(ast.parse(path.read_text(encoding="utf-8")))


def _docstring_lines(tree: ast.AST) -> set[int]:
    lines = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                lines |= set(range(value.lineno, value.end_lineno + 1))
    return lines


def functions(path: Path) -> list[tuple[int, str]]:
    """Lines of code of each function, with its place."""
    lines = code_lines(path)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    defs = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [
        (len(lines & set(range(d.lineno, d.end_lineno + 1))), f"{path.name}:{d.lineno} {d.name}")
        for d in defs
    ]


def rooms() -> dict[str, list[Path]]:
    """The files of each room of the engine."""
    engine = ROOT / "pplkit"
    found = {"core": [engine / name for name in CORE]}
    found["rest of the engine"] = sorted(p for p in engine.glob("*.py") if p.name not in CORE)
    for folder in sorted(p for p in engine.iterdir() if p.is_dir() and any(p.glob("*.py"))):
        found[folder.name] = sorted(folder.rglob("*.py"))
    return found


def complaints() -> list[str]:
    """What breaks a budget."""
    found = []
    core = sum(len(code_lines(path)) for path in rooms()["core"])
    if core > CORE_BUDGET:
        found.append(f"the core has {core} lines of code, {CORE_BUDGET} at most")
    for path in sorted((ROOT / "pplkit").rglob("*.py")):
        found += [f"{n} lines in {at}" for n, at in functions(path) if n > FUNCTION_BUDGET]
        text = path.read_text(encoding="utf-8").splitlines()
        found += [
            f"{path.name}:{i} is wider than {WIDTH}"
            for i, t in enumerate(text, 1)
            if len(t) > WIDTH
        ]
    return found


def main() -> int:
    for room, paths in rooms().items():
        counts = {path.name: len(code_lines(path)) for path in paths}
        print(
            f"{room:<20}{sum(counts.values()):>6}   {', '.join(f'{k} {v}' for k, v in counts.items())}"
        )
    for complaint in complaints():
        print(complaint, file=sys.stderr)
    return bool(complaints())


if __name__ == "__main__":
    sys.exit(main())
