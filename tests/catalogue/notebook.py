"""Runs every mistake as cell 1 of a notebook, as a kernel does, and prints what it answers."""

from __future__ import annotations

import json
import sys
import tempfile

import torch
from ipykernel.compiler import XCachingCompiler
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

import pplkit

from .cases import Case, catalogue
from .run import Outcome, brief, namespace


def answer(shell: InteractiveShell, case: Case) -> dict:
    """`kind` and `text` as in `Outcome`, and all that the cell has shown."""
    pplkit.clear_param_store()
    shell.user_ns.clear()  # `reset` would also collect garbage, for half a second
    shell.init_user_ns()
    shell.execution_count = 1
    shell.push(namespace("pplkit"))
    torch.manual_seed(0)
    with capture_output() as captured:
        done = shell.run_cell(case.program, store_history=True)
    error = done.error_before_exec or done.error_in_exec
    outcome = Outcome(error, (), done.result)
    return {
        "kind": outcome.kind,
        "text": outcome.text if error is not None else brief(done.result),
        "shown": captured.stdout + captured.stderr,
    }


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        unkept = Config(HistoryManager={"enabled": False})
        shell = InteractiveShell.instance(ipython_dir=folder, config=unkept)
        shell.compile = XCachingCompiler()
        answers = {case.name: answer(shell, case) for case in catalogue()}
    json.dump(answers, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
