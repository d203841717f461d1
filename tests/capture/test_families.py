"""The book's table of families says what is so."""

from __future__ import annotations

import json

import pytest

from tests.capture.families import ASPECTS, RECORD, families, outcome

FOUND = json.loads(RECORD.read_text(encoding="utf-8"))
ALL = {case.name: case for case in families()}
# Densities that no formula gives: neither has torch's own.
NO_DENSITY: set[str] = set()
# One of each kind of operation; the others take longer than they are worth each time.
SAMPLE = [
    ("Normal", "cdf"),
    ("Gamma", "density"),
    ("Beta", "density"),
    ("Bernoulli", "draw"),
    ("Gamma", "draw"),
    ("Weibull", "gradient"),
]


def test_every_family_is_in_the_table():
    assert FOUND.keys() == ALL.keys()


def test_density_is_live_for_every_family_with_a_closed_form():
    assert {name for name, found in FOUND.items() if found["density"]["is"] != "live"} == NO_DENSITY


def test_what_has_a_form_is_live():
    for name, found in FOUND.items():
        assert {told["is"] for told in found.values()} <= {"live", "no form"}, name


def test_models_are_small():
    for name, found in FOUND.items():
        sizes = {aspect: told.get("bytes", 0) for aspect, told in found.items()}
        assert max(sizes.values()) < 150_000, (name, sizes)


@pytest.mark.parametrize(("name", "aspect"), SAMPLE)
def test_the_table_is_true_of_a_sample_at_sizes_other_than_the_examples(name, aspect):
    assert outcome(ALL[name], aspect, rows=(4, 7))["is"] == FOUND[name][aspect]["is"] == "live"


@pytest.mark.long
@pytest.mark.parametrize("name", ALL)
def test_the_table_is_true(name):
    for aspect in ASPECTS:
        assert outcome(ALL[name], aspect)["is"] == FOUND[name][aspect]["is"], aspect
