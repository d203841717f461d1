"""Formulas of the book: translated while it is built, complained of when not understood."""

import importlib.util
from pathlib import Path

import pytest
from docutils.utils.math.latex2mathml import MathError

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("mathml", ROOT / "book" / "_ext" / "mathml.py")
mathml = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(mathml)


def test_inline_and_display():
    assert 'display="block"' not in mathml.to_mathml("x")
    assert 'display="block"' in mathml.to_mathml("x", block=True)


def test_the_source_is_kept_as_alternative_text():
    assert 'alttext="a &lt; b"' in mathml.to_mathml("a < b")


@pytest.mark.parametrize(
    "tex",
    [
        r"a &= b \\ c &= d",
        r"\begin{align} a &= b \\ c &= d \end{align}",
        r"\begin{align*} a &= b \\ c &= d \end{align*}",
        r"\begin{aligned} a &= b \\ c &= d \end{aligned}",
    ],
)
def test_aligned_equations(tex):
    assert mathml.to_mathml(tex, block=True).count("<mtr>") == 2


def test_a_space_follows_the_name_of_a_function_but_not_before_brackets():
    assert mathml.THIN_SPACE in mathml.to_mathml(r"\log p")
    assert mathml.THIN_SPACE not in mathml.to_mathml(r"\log(p)")


def test_an_unknown_command_is_an_error():
    with pytest.raises(MathError, match="nosuchcommand"):
        mathml.to_mathml(r"\nosuchcommand")
