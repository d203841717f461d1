"""Every mistake: what is said, of which line, and that nothing is left changed."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

import pplkit
from pplkit import checks, effects, errors
from pplkit.randomness import generators_here

from .cases import PROGRAMS, Case, catalogue
from .run import FILE, Outcome, as_in_a_notebook, namespace, our_answer, run

CASES = catalogue()
MISTAKES = [case for case in CASES if not case.answer.startswith("accepted: ")]
ROOT = Path(__file__).resolve().parents[2]


def cases(chosen: list[Case]):
    return pytest.mark.parametrize("case", chosen, ids=lambda case: case.name)


class Run(NamedTuple):
    outcome: Outcome
    before: dict
    after: dict


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """Runs a mistake once, from a file in a folder of its own: the outcome, and the state around it."""
    known: dict[str, Run] = {}

    def once(case: Case) -> Run:
        if case.name not in known:
            with contextlib.chdir(tmp_path_factory.mktemp(case.name)):
                Path(FILE).write_text(case.program, encoding="utf-8")
                pplkit.clear_param_store()
                torch.manual_seed(0)
                names, before = namespace("pplkit"), state()
                known[case.name] = Run(run(case.program, names), before, state())
        return known[case.name]

    yield once
    pplkit.clear_param_store()


def faults(outcome: Outcome) -> list:
    """What was said: the error, or else the warnings."""
    return [outcome.error] if outcome.error is not None else list(outcome.warnings)


@cases(CASES)
def test_the_message_is_the_committed_one(case, answered):
    assert our_answer(answered(case).outcome) == case.answer


@cases(MISTAKES)
def test_it_is_the_engines_own_and_names_the_line(case, answered):
    outcome = answered(case).outcome
    for fault in faults(outcome):
        assert isinstance(fault, (errors.PplkitError, errors.PplkitWarning))
        assert (fault.where.filename, fault.where.line) == (FILE, case.line)
        assert f"  where:    {FILE}, line {case.line}\n" in f"{fault}\n"
        assert fault.site == case.site
    assert faults(outcome)


# Answers that end with what was expected, since that is the remedy.
WITHOUT_REMEDY: dict[str, str] = {}


@cases(MISTAKES)
def test_it_names_site_place_what_was_found_and_what_to_do(case):
    head, *told = case.answer.split("\n")
    labels = [line[2:11].rstrip(" :") for line in told if line.startswith("  ") and line[2] != " "]
    assert labels[:2] == ["where", "found"]
    assert labels[-1] == "remedy" or case.name in WITHOUT_REMEDY
    assert len(labels) == len(set(labels))
    if case.site is not None:
        assert repr(case.site) in case.answer, "the site's name, in quotes"
    assert len(head.partition(": ")[2]) > 10


def state() -> dict:
    """All that a mistake must leave as it was."""
    store = pplkit.get_param_store()
    return {
        "handlers": effects._STACK.get(),
        "store": id(store),
        "parameters": {name: store[name].tolist() for name in store},
        "validation": checks._enabled,
        "pending questions": checks._PENDING.get(),
        "seeded streams": generators_here(),
        "torch's validation": torch.distributions.Distribution._validate_args,
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "anomaly detection": torch.is_anomaly_enabled(),
        "warnings": list(warnings.filters),
    }


@cases(CASES)
def test_nothing_is_left_changed(case, answered):
    outcome, before, after = answered(case)
    assert sorted(after["parameters"]) == sorted(case.leaves)
    assert {**after, "parameters": {}} == before
    assert outcome.filters_kept


@cases([case for case in CASES if "rand" not in case.program])
def test_under_a_seed_torchs_generator_is_left_alone(case, answered):
    pplkit.clear_param_store()
    before = torch.get_rng_state()
    with pplkit.handlers.seed(rng_seed=0):
        outcome = run(case.program, namespace("pplkit"))
    assert outcome.kind == answered(case).outcome.kind
    assert torch.equal(torch.get_rng_state(), before)


# -- in a notebook -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def in_a_notebook(tmp_path_factory) -> dict:
    """Answers and outputs of all mistakes, each run as cell 1."""
    environment = {
        **os.environ,
        "HOME": str(tmp_path_factory.mktemp("home")),
        "PYTHONIOENCODING": "utf-8",
    }
    command = [sys.executable, "-m", "tests.catalogue.notebook"]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@cases(CASES)
def test_a_cell_gets_the_same_message(case, in_a_notebook):
    got = in_a_notebook[case.name]
    if case.answer.startswith("PplkitWarning: "):
        at = f"Cell In [1]:{case.line}: PplkitWarning: "
        assert got["kind"] == "silence"
        assert at + case.answer.removeprefix("PplkitWarning: ") in got["shown"]
    elif case in MISTAKES:
        assert (got["kind"], got["text"]) == ("error", case.answer)
    else:
        assert f"accepted: {got['text']}" == case.answer


@cases(CASES)
def test_a_cell_shows_no_temporary_path(case, in_a_notebook):
    assert "ipykernel_" not in in_a_notebook[case.name]["shown"]


# -- the catalogue itself ------------------------------------------------------------------------


def test_there_are_as_many_as_promised():
    assert len(CASES) >= 45 and len(MISTAKES) >= 40
    assert len({case.title for case in CASES}) == len(CASES)


def test_programs_and_answers_are_pairs():
    names = {path.stem for path in PROGRAMS.glob("*.py")}
    assert names == {path.stem for path in PROGRAMS.glob("*.txt")}


@cases(CASES)
def test_a_program_is_short_and_leans_on_the_prelude(case):
    assert case.program.count("\n") <= 15
    assert max(map(len, case.program.split("\n"))) <= 88, "or a phone's reader scrolls"
    tree = ast.parse(case.program)
    assert not any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.walk(tree))


def test_what_a_file_says_is_what_a_cell_says_but_for_the_place():
    assert as_in_a_notebook("at program.py, line 3") == "at Cell In [1], line 3"
    assert as_in_a_notebook("at other_program.py, line 3") == "at other_program.py, line 3"
