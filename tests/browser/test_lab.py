"""The course in a real JupyterLab: every notebook runs, every figure lives, the first one tells the truth."""

from __future__ import annotations

import functools
import json
import re

import pytest
from playwright.sync_api import expect

from .access import serious_violations
from .conftest import ROOT
from .figure import Figure
from .notebook import surprises

FIGURE = "section.pplkit-figure"
CHAPTERS = sorted(
    path.relative_to(ROOT / "book").as_posix() for path in (ROOT / "book/chapters").glob("*.ipynb")
)
# nbval runs them all; here is asked what a learner meets in JupyterLab, of two kinds each time.
QUICK = ("01-random-variable", "06-fitting")  # plain checks; controls to be moved
EXERCISES = [
    pytest.param(
        path.relative_to(ROOT / "book").as_posix(),
        id=path.stem,
        marks=() if path.stem in QUICK else pytest.mark.long,
    )
    for path in sorted((ROOT / "book/exercises").glob("*.ipynb"))
]
FIRST = "chapters/01-random-variable.ipynb"
CONTROLS = ["prior mean", "prior scale", "noise", "plate size"]


class Open:
    """A notebook that has been run from top to bottom, and its figures."""

    def __init__(self, notebook):
        self.notebook, self.page = notebook, notebook.page
        self.cells = notebook.run_all()
        self.with_figure = [cell.index for cell in self.cells if cell.has_widget]

    def figure(self, number=0) -> Figure:
        return Figure.within(self.notebook.cell(self.with_figure[number]))


@pytest.fixture(scope="module")
def ran(request, open_notebook):
    """The notebook that the test's parameter names, run once for all tests that ask for it."""
    opened = Open(open_notebook(request.param))
    yield opened
    opened.notebook.close()


def on(paths):
    return pytest.mark.parametrize("ran", paths, indirect=True, scope="module")


@on(CHAPTERS)
def test_chapter_runs_from_top_to_bottom(ran):
    wrong = surprises(ran.cells)
    assert not wrong, "\n".join(wrong)


@on(CHAPTERS)
def test_every_figure_of_the_chapter_is_drawn(ran, picture, request):
    source = "".join(cell.source for cell in ran.cells if cell.kind == "code")
    assert bool(ran.with_figure) or "pplwidgets" not in source
    for number, index in enumerate(ran.with_figure):
        figure = ran.figure(number)
        picture(ran.page, f"lab-{request.node.callspec.id}-figure-{index}".replace("/", "-"))
        box = figure.root.bounding_box()
        room = ran.notebook.cell(index).bounding_box()
        assert 300 <= box["width"] <= room["width"] and box["height"] >= 200
        assert figure.status.count() == 1


@on(CHAPTERS)
def test_every_control_can_be_named_and_moves_its_picture(ran):
    for number in range(len(ran.with_figure)):
        figure = ran.figure(number)
        sliders = figure.root.get_by_role("slider").all()
        assert sliders or figure.drawn
        for slider in sliders:
            name = slider.evaluate(
                "s => s.getAttribute('aria-label') ?? s.labels[0]?.innerText ?? ''"
            ).strip()
            assert name, "a control without a name"
            at_end = slider.evaluate("s => Number(s.value) >= Number(s.max)")
            before = figure.picture()
            slider.focus()
            for _ in range(4):  # one step alone may turn no toss of a coin
                ran.page.keyboard.press("ArrowLeft" if at_end else "ArrowRight")
            figure.wait_for_change(before, f"{name!r} changes the picture")


@on(CHAPTERS)
def test_nothing_serious_is_wrong_with_the_figures_for_anybody(ran):
    for number in range(len(ran.with_figure)):
        ran.figure(number).root.scroll_into_view_if_needed()
        assert serious_violations(ran.page, f"{FIGURE}[data-state]") == []


@on(EXERCISES)
def test_exercise_runs_as_handed_out_and_its_checks_speak(ran, picture, request):
    """Unsolved, an exercise may raise only where it says so; each check says what is still missing."""
    wrong = surprises(ran.cells)
    assert not wrong, "\n".join(wrong)
    asked = [
        cell
        for cell in ran.cells
        if cell.kind == "code" and re.search(r"^\s*check\(", cell.source, re.MULTILINE)
    ]
    assert asked
    for cell in asked:
        assert re.search(r"^(not yet|passed)\b", cell.text, re.MULTILINE), cell.text
        place = ran.notebook.cell(cell.index)
        expect(place.locator(".jp-OutputArea-output").first).to_be_visible()
        assert re.search(
            r"not yet|passed", place.locator(".jp-OutputArea").inner_text(), re.IGNORECASE
        )
        picture(ran.page, f"lab-{request.node.callspec.id}-check-{cell.index}".replace("/", "-"))


# -- the first chapter's figure: program 3, whose posterior has a closed form -----------------------------


@pytest.fixture
def normal(ran):
    """The chapter's figure, with its controls where the chapter leaves them."""
    figure = ran.figure()
    ran.notebook.ask(
        "import pplwidgets as _w\n"
        "_fig = [v for v in Out.values() if isinstance(v, _w.LiveFigure)][-1]\n"
        "_fig.reset()"
    )
    figure.wait_until(lambda: figure.value("plate size") == 4, "the controls are back")
    figure.wait_until(lambda: agrees(ran, figure), "the curve is back")
    return figure


def close(a, b):
    return abs(a - b) < 1e-6 * max(1, abs(a), abs(b))


def exact_posterior(ran, figure):
    """Mean and scale by the formula, from the kernel's controls and the points that the page shows."""
    mean, scale, noise, size = (
        ran.notebook.ask_json("", f"float(_fig.{name.replace(' ', '_')})") for name in CONTROLS
    )
    points = figure.points()
    if len(points) != size:
        return None
    precision = 1 / scale**2 + size / noise**2
    total = mean / scale**2 + sum(x for x, _ in points) / noise**2
    return total / precision, precision**-0.5


def agrees(ran, figure):
    """Whether the drawn posterior is the closed form at the kernel's controls, to two pixels."""
    exact = exact_posterior(ran, figure)
    if exact is None:
        return False
    curve = figure.curve("exact posterior")
    room = 2 * curve.unit[0]
    return all(abs(drawn - true) <= room for drawn, true in zip(curve.normal, exact, strict=True))


first = on([FIRST])


@first
def test_figure_shows_the_four_curves_and_the_data(ran, normal, picture):
    prior, likelihood, exact, guide = (
        normal.curve(name).normal for name in ("prior", "likelihood", "posterior", "guide")
    )
    room = 2 * normal.curve("prior").unit[0]
    near = functools.partial(pytest.approx, abs=room)
    assert prior == near((0, 1))
    assert likelihood == near((3.2 / 4, 0.5 / 4**0.5))
    assert exact == near((12.8 / 17, 17**-0.5))
    assert guide == near(exact)
    assert [round(x, 1) for x, _ in normal.points()] == [1.2, 0.8, 1.5, -0.3]


@first
@pytest.mark.parametrize("name", CONTROLS)
def test_mouse_moves_the_posterior_to_where_the_kernel_says(ran, normal, picture, name):
    before, start = normal.curve("exact posterior").d, normal.value(name)
    normal.drag(name, 0.8 if name != "noise" else 0.3)
    assert normal.value(name) != start
    normal.wait_until(lambda: normal.curve("exact posterior").d != before, "the posterior moves")
    trait = name.replace(" ", "_")
    normal.wait_until(
        lambda: close(ran.notebook.ask_json("", f"float(_fig.{trait})"), normal.value(name)),
        "kernel and page agree",
    )
    normal.wait_until(lambda: agrees(ran, normal), "the curve is the exact posterior")
    picture(ran.page, f"lab-dragged-{trait}")


@first
@pytest.mark.parametrize("name", CONTROLS)
def test_keyboard_moves_the_posterior_to_where_the_kernel_says(ran, normal, name):
    before, start = normal.curve("exact posterior").d, normal.value(name)
    normal.press(name, *["ArrowRight"] * 4)
    assert normal.value(name) > start
    normal.wait_until(lambda: normal.curve("exact posterior").d != before, "the posterior moves")
    normal.wait_until(lambda: agrees(ran, normal), "the curve is the exact posterior")


@first
def test_tab_reaches_every_control_in_order(ran, normal):
    normal.slider(CONTROLS[0]).focus()
    met = []
    for _ in range(4 * len(CONTROLS)):
        named = ran.page.evaluate(
            "() => { const a = document.activeElement; return a.type === 'range'"
            " ? (a.getAttribute('aria-label') ?? a.labels[0]?.innerText ?? '').trim() : null; }"
        )
        if named:
            met.append(named)
        ran.page.keyboard.press("Tab")
    assert [name for name in met if name in CONTROLS][: len(CONTROLS)] == CONTROLS


@first
def test_growing_plate_leaves_the_points_where_they_are(ran, normal, picture):
    """Also when it shrinks and grows again: the same data come back."""
    seen = [normal.points()]
    for key in ["ArrowRight"] * 3 + ["End"]:
        size = len(seen[-1])
        normal.press("plate size", key)
        normal.wait_until(lambda size=size: len(normal.points()) > size, "the plate grows")
        seen.append(normal.points())
        room = normal.shapes()[0].unit[0] * 0.5
        assert all(
            abs(old[0] - new[0]) < room for old, new in zip(seen[-2], seen[-1], strict=False)
        )
    picture(ran.page, "lab-plate-full")
    normal.press("plate size", "Home")
    normal.wait_until(lambda: len(normal.points()) < len(seen[0]), "the plate shrinks")
    few = normal.points()
    assert all(abs(old[0] - new[0]) < room for old, new in zip(few, seen[-1], strict=False))


@first
def test_axes_hold_still_while_a_control_moves(ran, normal):
    def ticks():
        return normal.root.locator(".pplkit-chart svg .role-axis-label").all_text_contents()

    before = ticks()
    assert len(before) >= 2
    normal.press("prior mean", *["ArrowRight"] * 5)
    normal.wait_until(lambda: agrees(ran, normal), "the curve is the exact posterior")
    assert ticks() == before


@first
def test_python_moves_the_page(ran, normal):
    before = normal.curve("exact posterior").d
    ran.notebook.ask("_fig.prior_mean = -1.5")
    normal.wait_until(lambda: close(normal.value("prior mean"), -1.5), "the input follows")
    normal.wait_until(lambda: normal.curve("exact posterior").d != before, "the curve follows")
    normal.wait_until(lambda: agrees(ran, normal), "the curve is the exact posterior")


@first
def test_a_second_view_keeps_step_with_the_first(ran, normal):
    index = ran.notebook.add_cell("_fig")
    ran.notebook.wait_idle()
    twin = Figure.within(ran.notebook.cell(index))
    twin.press("noise", *["ArrowLeft"] * 3)
    ran.notebook.cell(ran.with_figure[0])
    normal.wait_until(
        lambda: close(normal.value("noise"), twin.value("noise")), "the first view follows"
    )
    normal.wait_until(lambda: agrees(ran, normal), "the curve is the exact posterior")


@first
def test_a_control_is_linked_with_any_widget(ran, normal):
    index = ran.notebook.add_cell(
        "import ipywidgets as _ipw\n_box = _ipw.FloatText(description='mean')\n"
        "_ipw.link((_fig, 'prior_mean'), (_box, 'value'))\n_box"
    )
    ran.notebook.wait_idle()
    field = ran.notebook.cell(index).locator("input[type=number]")
    field.fill("1.25")
    field.press("Enter")
    ran.notebook.cell(ran.with_figure[0])
    normal.wait_until(
        lambda: close(normal.value("prior mean"), 1.25), "the figure follows the other widget"
    )
    normal.wait_until(lambda: agrees(ran, normal), "the curve is the exact posterior")


# -- a stranger's figure, and trouble ---------------------------------------------------------------------

FIVE_LINES = """
import torch, altair as alt, pplwidgets
def fn(mu, n):
    x = torch.linspace(-3, 3, 61)
    return {"x": x, "y": (x - mu) ** 2 / n}
chart = alt.Chart().mark_line().encode(x="x:Q", y="y:Q")
fig = pplwidgets.live(fn, chart, mu=(-3.0, 3.0), n=(1, 50))
fig
"""


@pytest.fixture
def scratch(lab, open_notebook):
    """An empty notebook of its own kernel."""
    import nbformat

    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(metadata=kernel), lab.root / "scratch.ipynb")
    notebook = open_notebook("scratch.ipynb")
    yield notebook
    notebook.close()


def made(notebook, source):
    index = notebook.add_cell(source)
    notebook.wait_idle()
    cells = notebook.cells()
    assert not cells[index].error, cells[index].text
    return Figure.within(notebook.cell(index))


def test_a_teachers_five_lines_are_alive(scratch, picture):
    figure = made(scratch, FIVE_LINES)
    for name, key in [("mu", "ArrowRight"), ("n", "End")]:
        before = figure.picture()
        figure.press(name, key)
        figure.wait_for_change(before, "the curve follows")
    picture(scratch.page, "lab-five-lines")


def test_a_restarted_kernel_is_said_and_the_last_picture_stays(scratch, picture):
    figure = made(scratch, FIVE_LINES)
    figure.press("mu", "ArrowRight")
    scratch.wait_idle()
    last, said = figure.picture(), figure.status.inner_text()
    scratch.restart()
    figure.wait_until(
        lambda: figure.status.inner_text().strip() not in ("", said), "the figure says so"
    )
    picture(scratch.page, "lab-restarted")
    assert re.search(r"kernel|run", figure.status.inner_text(), re.IGNORECASE)
    assert figure.picture() == last
    index = scratch.add_cell(FIVE_LINES)
    scratch.wait_idle()
    again = Figure.within(scratch.cell(index))
    before = again.picture()
    again.press("mu", "ArrowRight")
    again.wait_for_change(before, "a figure run anew is alive")


def test_a_busy_kernel_is_no_end_and_an_interrupt_is_survived(scratch, picture):
    """Newer kernels answer a figure beside a running cell; of others the figure says that it waits."""
    figure = made(scratch, FIVE_LINES)
    last = figure.picture()
    scratch.add_cell("import time\ntime.sleep(3600)")
    scratch.wait_busy()
    figure.press("mu", "ArrowRight", "ArrowRight")
    figure.wait_until(
        lambda: figure.picture() != last or "busy" in figure.status.inner_text(),
        "the figure follows or says that it waits",
    )
    picture(scratch.page, "lab-busy")
    scratch.command("notebook:interrupt-kernel")
    figure.wait_for_change(last, "the figure catches up")
    last = figure.picture()
    figure.press("mu", "Home")
    figure.wait_for_change(last, "the figure lives on")
    expect(figure.status).to_have_text("")


def test_a_function_that_fails_is_told_and_the_last_picture_stays(scratch, picture):
    source = FIVE_LINES.replace(
        "    x = torch", "    if mu > 0: raise ValueError('mu is too much')\n    x = torch"
    )
    figure = made(scratch, source)
    last = figure.picture()
    figure.press("mu", "End")
    expect(figure.status).to_contain_text("mu is too much")
    picture(scratch.page, "lab-failed")
    assert figure.picture() == last
    figure.press("mu", "Home")
    figure.wait_for_change(last, "the figure recovers")
    expect(figure.status).not_to_contain_text("mu is too much")


def test_a_saved_figure_leaves_words_in_the_notebook(lab, scratch):
    """So a reader without the widget, and a comparison of outputs, still meet something readable."""
    figure_at = made(scratch, FIVE_LINES).place.get_attribute("data-windowed-list-index")
    scratch.command("docmanager:save")
    saved = json.loads((lab.root / "scratch.ipynb").read_text(encoding="utf-8"))
    (output,) = saved["cells"][int(figure_at)]["outputs"]
    text = output["data"]["text/plain"]
    assert "".join(text).startswith("LiveFigure(mu=0.0, n=")
