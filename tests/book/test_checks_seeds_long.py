"""Checks under other seeds than their own: a right answer passes, a wrong one is told the same."""

import importlib
import pkgutil
from pathlib import Path

import pplwidgets.judges
import pytest
from pplwidgets import judging
from pplwidgets.checks import check

pytestmark = pytest.mark.long

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("test_checks*.py"))
TESTS = [importlib.import_module(f"tests.book.{n}") for n in NAMES if n != Path(__file__).stem]


def cases(table):
    found = [case for module in TESTS for case in getattr(module, table)]
    return [tuple(getattr(case, "values", case)) for case in found]


@pytest.fixture(params=[7919, 15838])
def other_seeds(request, monkeypatch):
    """Judges seed every call of an answer; here each of their seeds is moved."""
    own = judging.seed_everything
    rooms = [m.name for m in pkgutil.iter_modules(pplwidgets.judges.__path__)]
    rooms = [importlib.import_module(f"pplwidgets.judges.{name}") for name in rooms]
    for room in [judging, *rooms]:
        for name, thing in list(vars(room).items()):
            if thing is own:
                monkeypatch.setattr(room, name, lambda seed: own(seed + request.param))
    return request.param


@pytest.mark.parametrize("exercise, answer", cases("RIGHT"))
def test_a_right_answer_passes_by_no_luck(other_seeds, exercise, answer):
    verdict = check(exercise, answer)
    assert verdict, verdict


@pytest.mark.parametrize("exercise, mistake, answer, phrase", cases("WRONG"))
def test_a_wrong_answer_is_told_the_same(other_seeds, exercise, mistake, answer, phrase):
    assert check(exercise, answer).mistake == mistake
