"""Records the engines' answers to the mistakes, and prints what changed."""

from __future__ import annotations

import argparse
import difflib
import json
import sys

import torch

from .cases import PROGRAMS, PYRO, catalogue, pyro_answers
from .run import on_pplkit, on_pyro, our_answer


def record_ours(cases) -> None:
    for case in cases:
        path = PROGRAMS / f"{case.name}.txt"
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        after = our_answer(on_pplkit(case.program)) + "\n"
        path.write_text(after, encoding="utf-8")
        _tell(case.name, before, after)


def record_pyro(cases) -> None:
    import pyro

    answers = pyro_answers()["answers"] if PYRO.exists() else {}
    for case in cases:
        outcome = on_pyro(case.program)
        before = answers.get(case.name, {})
        answers[case.name] = {"kind": outcome.kind, "text": outcome.text}
        _tell(f"{case.name} (Pyro)", _shown(before), _shown(answers[case.name]))
    known = {case.name for case in catalogue()}
    recorded = {
        "versions": {"pyro": pyro.__version__, "torch": torch.__version__.partition("+")[0]},
        "answers": {name: answers[name] for name in sorted(answers) if name in known},
    }
    PYRO.write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _shown(answer: dict) -> str:
    return f"{answer['kind']}: {answer['text']}\n" if answer else ""


def _tell(name: str, before: str, after: str) -> None:
    if before != after:
        print(f"--- {name}")
        lines = difflib.ndiff(before.splitlines(), after.splitlines())
        print("\n".join(line for line in lines if not line.startswith("?")))


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.catalogue.record", description=__doc__)
    parser.add_argument("names", nargs="*", help="of mistakes; all, unless told")
    parser.add_argument("--pyro", action="store_true", help="record Pyro's answers, not ours")
    options = parser.parse_args(words)
    cases = catalogue()
    if unknown := set(options.names) - {case.name for case in cases}:
        parser.error(f"no such mistake: {', '.join(sorted(unknown))}")
    chosen = [case for case in cases if not options.names or case.name in options.names]
    (record_pyro if options.pyro else record_ours)(chosen)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
