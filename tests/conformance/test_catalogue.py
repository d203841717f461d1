"""The catalogue of mistakes on Pyro: its answers are those on record, and what they tell."""

import contextlib

import pytest
import torch

from tests.catalogue.cases import catalogue, pyro_answers
from tests.catalogue.judge import ASPECTS, judge, lacks
from tests.catalogue.run import on_pyro

CASES = catalogue()
RECORD = pyro_answers()
ANSWERS = RECORD["answers"]


def cases(chosen):
    return pytest.mark.parametrize("case", chosen, ids=lambda case: case.name)


@cases(CASES)
def test_pyro_answers_as_recorded(case, tmp_path):
    import pyro

    with contextlib.chdir(tmp_path):
        outcome = on_pyro(case.program)
    recorded = ANSWERS[case.name]
    versions = {"pyro": pyro.__version__, "torch": torch.__version__.partition("+")[0]}
    if versions == RECORD["versions"]:
        assert {"kind": outcome.kind, "text": outcome.text} == recorded
    else:  # other versions word it otherwise, and tell as much
        now = lacks(outcome.kind, outcome.text, case.site)
        assert now == lacks(recorded["kind"], recorded["text"], case.site)


def test_the_record_is_of_these_cases():
    assert sorted(ANSWERS) == sorted(case.name for case in CASES)


def test_in_most_cases_pyros_answer_lacks_two_of_four():
    poor = []
    for case in CASES:
        answer = ANSWERS[case.name]
        if case.answer.startswith("accepted: ") and answer["kind"] == "silence":
            continue  # both engines take it as it is: nothing is lacking
        if len(lacks(answer["kind"], answer["text"], case.site)) >= 2:
            poor.append(case.name)
    assert len(poor) >= 35


@cases([case for case in CASES if not case.answer.startswith("accepted: ")])
def test_by_the_same_rules_ours_lacks_nothing(case):
    assert lacks("error", case.answer, case.site) == []


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ('ValueError: at site "y", invalid shape: expected [2]', {"site", "found or expected"}),
        ("ValueError: Expected 3 rows of y at line 12. Try another", set(ASPECTS)),
        ("KeyError: 'z'", set()),
        ("UserWarning: use plates in program.py", {"location", "remedy"}),
        ("ValueError: xy is not in range(3)", {"found or expected"}),
    ],
)
def test_the_rules(text, has):
    assert judge("error", text, "y") == has
    assert judge("error", text, None) == has | {"site"}
    assert judge("silence", text, "y") == set()
