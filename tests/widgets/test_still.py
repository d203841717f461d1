"""Where nothing can move: picture, text, captions."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import altair as alt
import pytest
import torch

import pplwidgets
from pplwidgets import captions, tables

CHART = alt.Chart().mark_line().encode(x="x", y="y").properties(description="A line over x.")


def fn(mu, on=True):
    x = torch.linspace(-1, 1, 5)
    return {"data": {"x": x, "y": x * mu}, "summary": {"top": mu}}


def figure(**options):
    options = {"title": "A <line>", "caption": "Top {summary.top:.2f} at mu {mu}, {on}."} | options
    return pplwidgets.live(fn, CHART, mu=(-3.0, 3.0), on=True, **options)


def bundle(made):
    data, _ = made._repr_mimebundle_()
    return data


def test_a_display_holds_view_text_and_picture():
    made = figure()
    data = bundle(made)
    assert data["text/plain"] == "LiveFigure(mu=0.0, on=True)"
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == made.model_id
    assert data["text/html"].startswith('<figure class="pplkit-still"')


def test_the_picture_is_well_formed_and_told_in_words():
    made = figure()
    made.mu = 1.5
    html = bundle(made)["text/html"]
    root = ElementTree.fromstring(html)
    svg = root.find("{http://www.w3.org/2000/svg}svg")
    assert svg.get("role") == "img"
    assert svg.get("aria-label").startswith(
        "A line over x. Drawn at mu 1.5, on on. Top 1.50 at mu 1.5, on."
    )
    words = "".join(root.find("figcaption").itertext())
    assert "A <line>" in words and "Top 1.50" in words
    assert "Open this chapter in JupyterLab to move the controls: mu, on." in words
    assert "mark-line" in html and "currentColor" in html


def test_the_picture_is_the_same_every_time():
    one, other = figure(), figure()
    assert bundle(one)["text/html"] == bundle(other)["text/html"]


def test_the_picture_asks_for_nothing():
    html = bundle(figure())["text/html"]
    addresses = set(re.findall(r"https?://[^\"' <>)]+", html))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "<script" not in html and "url(" not in html.replace("url(#", "")


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("{nu}", "'nu', which is no control"),
        ("{summry.top}", "table 'summry': did you mean 'summary'"),
        ("{summary.tpo}", "summary.tpo: did you mean 'top'"),
        ("{data.x}", "which has 5 rows"),
        ("{mu:>3}", "decimals"),
        ("{}", "decimals"),
        ("{mu!r}", "decimals"),
    ],
)
def test_a_caption_that_names_nothing_is_refused(caption, words):
    with pytest.raises(ValueError, match=words):
        figure(caption=caption)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0, None, "0"), (-1.5, None, "−1.5"), (0.123456, None, "0.1235"),
        (123.456, None, "123.5"), (12345, None, "12345"), (1e-5, None, "0.00001"),
        (0.1 + 0.2, None, "0.3"), (2.0, 3, "2.000"),
        (-0.25, 1, "−0.2"), (math.nan, 2, "not finite"), (-math.inf, 2, "−∞"), (True, None, "on"),
        ("few", None, "few"),
        (99.996, None, "100"), (-12800.6, None, "−12801"),
    ],
)  # fmt: skip
def test_numbers_in_words(value, digits, text):
    assert captions.written(value, digits) == text


def test_captions_are_filled():
    made = tables.checked({"s": {"m": 0.5}})
    assert captions.filled("{s.m} of {n}, {s.m:.3f}", {"n": 4}, made) == "0.5 of 4, 0.500"


def test_pictures_on_one_page_do_not_clip_one_another():
    clipped = alt.Chart().mark_line(clip=True).encode(x="x", y="y")
    made = pplwidgets.live(fn, clipped, mu=(-3.0, 3.0), on=True)
    pages = []
    for made.mu in (1.0, 2.0):
        pages.append(bundle(made)["text/html"])
    names = [set(re.findall(r'\bid="([^"]+)"', html)) for html in pages]
    assert names[0] and not names[0] & names[1]
    for html, mine in zip(pages, names, strict=True):
        assert set(re.findall(r"url\(#([^)]+)\)", html)) == mine
    assert not any(name.startswith("clip") for name in names[0])  # as those of the live chart are
