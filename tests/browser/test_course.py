"""Stepper and model graph in a page with no kernel, driven by mouse and by keyboard."""

from __future__ import annotations

import json
import shutil

import pplwidgets
import pytest
from playwright.sync_api import expect
from pplwidgets.still import STATIC

from .servers import Site

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A page</title>
<link rel="icon" href="data:,"></head><body><main><h1>A page</h1>PLACES</main>
<script type="module" src="page/book.js"></script></body></html>"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A page with both figures, as a book carries them."""
    folder = tmp_path_factory.mktemp("course page")
    shutil.copytree(STATIC / "page", folder / "page")
    places = []
    for name in ("stepper", "model_graph"):
        figure = getattr(pplwidgets, name)()
        text = json.dumps(figure.published().page)
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
        said = f'<div class="pplkit-page" data-key="{name}" data-figure="{name}.json">'
        places.append(f'<section id="{name}">{said}{figure.still()}</div></section>')
    (folder / "index.html").write_text(PAGE.replace("PLACES", "".join(places)), encoding="utf-8")
    with Site(folder) as site:
        yield site


def opened(page, site, name, query=""):
    page.goto(f"{site.url}index.html{query}")
    figure = page.locator(f"#{name} .pplkit-figure")
    expect(figure).to_have_attribute("data-state", "ready")
    figure.scroll_into_view_if_needed()
    return figure


def test_a_run_is_stepped_through_by_keyboard(page, site):
    figure = opened(page, site, "stepper")
    slider = figure.get_by_role("slider", name="step", exact=True)
    here = figure.locator(".pplkit-station.pplkit-now")
    expect(here).to_contain_text("the program")
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(here).to_contain_text("condition(z)")
    expect(figure.locator(".pplkit-caption")).to_contain_text("value is now 0.5")
    expect(figure.locator(".pplkit-live")).to_contain_text("step 2")
    expect(figure.locator(".pplkit-trace tbody")).to_have_text("nothing yet")
    page.keyboard.press("End")
    expect(figure.locator(".pplkit-trace tbody tr")).to_have_count(3)
    expect(figure.locator(".pplkit-caption")).to_contain_text("has ended")


def test_a_run_is_stepped_through_by_mouse(page, site):
    figure = opened(page, site, "stepper")
    onward = figure.get_by_role("button", name="next")
    for _ in range(5):
        onward.click()
    expect(figure.locator(".pplkit-trace tbody tr")).to_have_count(1)
    expect(figure.locator(".pplkit-trace tbody tr")).to_contain_text("0.5")
    figure.get_by_role("button", name="back").click()
    expect(figure.locator(".pplkit-trace tbody")).to_have_text("nothing yet")
    figure.get_by_role("button", name="reset").click()
    expect(figure.locator(".pplkit-station.pplkit-now")).to_contain_text("the program")
    figure.get_by_role("button", name="play step").click()
    expect(figure.locator(".pplkit-caption")).to_contain_text("has ended")


def test_a_graph_follows_its_controls(page, site):
    figure = opened(page, site, "model_graph")
    drawing = figure.locator(".pplkit-frame svg")
    expect(drawing).to_contain_text("schools: 8")
    figure.get_by_role("slider", name="schools", exact=True).focus()
    page.keyboard.press("ArrowLeft")
    expect(drawing).to_contain_text("schools: 7")
    figure.get_by_label("observe the effects").uncheck()
    expect(figure.locator(".pplkit-caption")).not_to_contain_text("observed")
    figure.get_by_label("condition on tau = 5").check()
    expect(figure.locator(".pplkit-caption")).to_contain_text("observed: tau")


def test_their_state_is_in_the_address(page, site):
    figure = opened(page, site, "model_graph", "?model_graph.schools=3&stepper.step=4")
    expect(figure.locator(".pplkit-frame svg")).to_contain_text("schools: 3")
    at = page.locator("#stepper .pplkit-station.pplkit-now")
    expect(at).to_contain_text("no handler")


def test_on_a_phone_nothing_is_wider_than_the_page(new_page, site):
    page = new_page(viewport={"width": 360, "height": 740})
    opened(page, site, "stepper")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")
