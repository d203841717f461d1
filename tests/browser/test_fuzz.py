"""Each figure of the built book under thousands of random events."""

from __future__ import annotations

import functools
import html
import json
import re

import pytest
from playwright.sync_api import expect

from .figure import Figure
from .fuzz import COUNTED, GROWTH, heap, misdrawn, send
from .published import settled

_PLACE = re.compile(r'<div class="pplkit-page" data-key="([^"]*)" data-figure="([^"]*)">')
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>One figure</title>
<link rel="icon" href="data:,"></head><body><main><div class="pplkit-page" data-key="it"
data-figure="{figure}"></div></main><script type="module" src="{script}"></script></body></html>"""
_SCRIPT = re.compile(r'src="[./]*(_static/pplwidgets/page-\w+/book\.js)"')


@pytest.fixture(scope="module")
def figures(book):
    """Of the built book: by title, the address of each figure's file; and that of the script."""
    found, script = {}, ""
    for page in sorted(book.folder.rglob("*.html")):
        text = page.read_text(encoding="utf-8")
        script = script or (_SCRIPT.search(text) or [None, ""])[1]
        for key, file in _PLACE.findall(text):
            name = re.sub(r"^[./]*(?=_static/)", "", html.unescape(file))
            found.setdefault(name, html.unescape(key))
    assert script and len(found) >= 15
    return found, script


def _answer(text, route):
    route.fulfill(body=text, content_type="text/html")


def test_two_thousand_random_events_on_each_figure_do_no_harm(book, figures, new_page):
    files, script = figures
    kinds = set()
    for file, title in files.items():
        page = new_page()
        page.add_init_script(COUNTED)
        text = _PAGE.format(figure=file, script=script)
        page.route("**/one-figure.html", functools.partial(_answer, text))
        page.goto(f"{book.url}one-figure.html")
        figure = Figure.within(page.locator(".pplkit-host"))
        expect(page.locator(".pplkit-page")).to_have_class(re.compile("pplkit-is-live"))
        send(figure, 300)
        settled(figure)
        small = heap(page)
        send(figure, 2000, seed=11)
        settled(figure)
        assert misdrawn(figure) == [], title
        large = heap(page)
        assert large < small + GROWTH, f"{title}: from {small / 1e6:.1f} MB to {large / 1e6:.1f} MB"
        assert page.evaluate("asked.most") <= 4, f"{title}: questions pile up"
        assert figure.root.get_attribute("data-state") in ("ready", "error"), title
        published = json.loads((book.folder / file).read_text(encoding="utf-8"))
        kinds.add(published["words"]["title"])
        page.context.close()
    assert len(kinds) >= 12
