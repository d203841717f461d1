"""Figures in a published book, where no kernel answers: the page computes what torch does."""

from __future__ import annotations

import gzip
import re

import pytest
import torch
from playwright.sync_api import expect

from pplwidgets.noise import numbers

from . import small_book
from .access import serious_violations
from .conftest import DESKTOP
from .fuzz import GROWTH, heap, misdrawn, send
from .published import ROOM, assets, broken, contracts, live, settled
from .servers import Site

PHONE = {"width": 390, "height": 844}
# Jupyter Book's own, in a book that leaves everything as it is.
THEIRS = r"THEBE_JS_URL|invalid theme mode|refused: https://cdn|mathjax|thebe"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A book of somebody else's, in a folder with a space in its name."""
    folder = tmp_path_factory.mktemp("published") / "a book"
    small_book.write(
        folder,
        figures=[
            small_book.readme_example(),
            small_book.HEAD + small_book.TWO_NORMALS,
            small_book.COUNTS,
            small_book.CLOSED_OVER,
        ],
        more=[small_book.OTHERS, small_book.HEAD + small_book.CHOICES, small_book.TABLE],
        fitted=[small_book.HEAD + small_book.FITTED],
        plain=["1 + 1"],
    )
    ended = small_book.build(folder)
    assert ended.returncode == 0, ended.stdout[-4000:]
    return folder / "_build" / "html"


@pytest.fixture(scope="module")
def site(built):
    with Site(built) as serving:
        yield serving


@pytest.fixture
def open_(site, new_page):
    """`open_("figures")`: a page of the small book."""

    def go(name, query="", **options):
        page = new_page(**options)
        page.watch.expect(THEIRS)
        page.goto(f"{site.url}{name}.html{query}")
        return page

    return go


def test_every_contract_of_a_strangers_book_is_kept(site, open_):
    page = open_("plain")
    known = contracts(site)
    assert len(known) == 7
    for name, contract in known:
        assert len([each for each in contract["settings"] if "answers" in each]) >= 15, name
        assert broken(page, site, contract) == []


def test_noise_is_pythons_to_the_last_digit(site, open_):
    page = open_("plain")
    asked = [
        (0, 1, "uniform", (3,), "float64"), (2**32 - 1, 7, "normal", (4, 1, 5), "float64"),
        (123, 2, "uniform", (2, 3, 2, 1, 2), "float32"), (5, 3, "normal", (), "float32"),
        (9, 1, "normal", (5000,), "float32"), (9, 1, "uniform", (0,), "float32"),
    ]  # fmt: skip
    made = page.evaluate(
        """async ([assets, asked]) => {
          const { numbers } = await import(assets + "page.js");
          return asked.map((each) => [...numbers(...each)]);
        }""",
        [assets(site), asked],
    )
    for (seed, draw, kind, shape, dtype), got in zip(asked, made, strict=True):
        wanted = numbers(seed, draw, kind, shape, getattr(torch, dtype)).reshape(-1).tolist()
        assert got == pytest.approx(wanted, rel=1e-14 if dtype == "float64" else 1e-7, abs=1e-300)


def test_a_contract_that_is_broken_is_found_out(site, open_):
    page = open_("plain")
    _, contract = contracts(site)[0]
    first = next(each for each in contract["settings"] if "answers" in each)
    column = next(iter(next(iter(first["answers"].values())).values()))
    column[0] += 0.01
    assert len(broken(page, site, contract)) == 1


def test_the_readmes_example_is_short_and_live(open_):
    assert len([line for line in small_book.readme_example().splitlines() if line.strip()]) <= 10
    figure = live(open_("figures"))
    before = figure.picture()
    figure.drag("mu", 0.8)
    figure.wait_for_change(before, "the curve has moved")
    settled(figure)
    top = max(figure.shapes()[0].points, key=lambda point: point[1])
    assert top[0] == pytest.approx(figure.value("mu"), abs=0.1)


def test_the_keyboard_moves_a_figure_and_a_screen_reader_hears_of_it(open_):
    figure = live(open_("figures"), 2)
    before = figure.picture()
    figure.press("shape", "ArrowRight", "PageUp")
    figure.wait_for_change(before, "the curve has moved")
    said = figure.root.locator(".pplkit-live")
    expect(said).to_contain_text(f"shape {figure.value('shape'):g}")


def test_a_growing_plate_keeps_its_points_and_a_new_draw_changes_them(open_):
    page = open_("more")
    figure = live(page)
    few = [shape.place for shape in figure.shapes() if shape.kind == "rect" or shape.place]
    figure.press("n", "ArrowLeft")
    settled(figure)
    before = figure.picture()
    figure.press("n", "ArrowRight")
    figure.wait_for_change(before, "a row has come")
    settled(figure)
    assert few == [shape.place for shape in figure.shapes() if shape.kind == "rect" or shape.place]
    before = figure.picture()
    figure.root.get_by_role("button", name="new draw").click()
    figure.wait_for_change(before, "there is another draw")
    settled(figure)
    assert "rows.seed=" in page.url or page.wait_for_url("**rows.seed=**") is None


def test_choices_have_programs_of_their_own_and_failures_are_told(open_):
    figure = live(open_("more"))
    before = figure.picture()
    figure.root.get_by_label("family").select_option("normal")
    figure.wait_for_change(before, "another family")
    expect(figure.root.locator(".pplkit-caption")).to_contain_text("normal")
    figure.press("n", *["PageDown"] * 3)
    expect(figure.status).to_contain_text("PlateError: plate 'rows'")
    figure.press("n", "ArrowRight")
    expect(figure.status).not_to_contain_text("PlateError")


def test_a_table_stands_in_for_what_has_no_graph(open_):
    figure = live(open_("more"), 1)
    before = figure.picture()
    figure.press("n", "PageUp")
    figure.wait_for_change(before, "the table's entry for 6")
    assert max(y for shape in figure.shapes() for _, y in shape.points) == pytest.approx(
        18, abs=0.5
    )


def test_other_widgets_keep_working(open_):
    page = open_("more")
    slider = page.locator(".widget-slider [role=slider], .jupyter-widgets [role=slider]").first
    expect(slider).to_be_visible()
    box = page.locator(".widget-text input, .jupyter-widgets input[type=number]").first
    expect(box).to_have_value("3")
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(box).not_to_have_value("3")


def test_pages_load_what_they_need_and_nothing_else(built, site, new_page):
    asked: dict[str, list[str]] = {}
    for name in ("plain", "figures", "more"):
        page = new_page()
        page.watch.expect(THEIRS)
        page.on("request", lambda r, name=name: asked.setdefault(name, []).append(r.url))
        page.goto(f"{site.url}{name}.html")
        page.wait_for_load_state("networkidle")
        if name == "figures":
            live(page)
    ours = {name: [u for u in urls if ROOM in u] for name, urls in asked.items()}
    assert ours.get("plain", []) == []
    assert not any("ort.wasm" in url or "widgets-" in url for url in ours["figures"])
    assert any("embed-amd.js" in url for url in ours["more"])
    state = (built / "more.html").read_text(encoding="utf-8")
    assert "pplwidgets.runtimes" not in state and "_esm" not in state
    assert "widget-state+json" not in (built / "figures.html").read_text(encoding="utf-8")


def test_the_address_holds_the_settings_and_garbage_is_left_out_with_a_word(open_):
    page = open_(
        "figures", "?figure.mu=1.5&figure.sigma=99&figure.nu=1&figure.seed=x&counts.days=7"
    )
    figure = live(page)
    settled(figure)
    assert figure.value("mu") == 1.5 and figure.value("sigma") == 3.0
    for word in ("“nu”, which is no control", "held at 3", "no whole number"):
        expect(figure.status).to_contain_text(word)
    assert live(page, 2).value("days") == 7
    figure.press("mu", "ArrowRight")
    page.wait_for_url(re.compile(r"figure\.mu=1\.52"))
    assert "counts.days=7" in page.url
    figure.root.get_by_role("button", name="reset").click()
    page.wait_for_url(lambda url: "figure." not in url)
    settled(figure)
    assert figure.value("mu") == 0


@pytest.mark.parametrize("how", ["missing", "policy"])
def test_where_webassembly_is_blocked_the_figure_says_so_and_stays_a_picture(site, new_page, how):
    page = new_page()
    page.watch.expect(THEIRS)
    if how == "missing":
        page.add_init_script("delete globalThis.WebAssembly")
    else:
        page.watch.expect("Content Security Policy|wasm|CSP")
        policy = "script-src 'self' 'unsafe-inline'"

        def answer(route):
            reply = route.fetch()
            route.fulfill(
                response=reply, headers={**reply.headers, "content-security-policy": policy}
            )

        page.route("**/figures.html", answer)
    page.goto(f"{site.url}figures.html")
    still = page.locator("figure.pplkit-still").first
    expect(still).to_contain_text("blocks what would compute here")
    expect(still.get_by_role("img").first).to_be_visible()
    assert page.locator(".pplkit-figure").count() == 0


@pytest.mark.parametrize("packed", [True, False])
def test_a_host_may_know_nothing_of_wasm_or_have_unpacked_it(site, new_page, packed):
    page = new_page()
    page.watch.expect(THEIRS)

    def answer(route):
        body = route.fetch().body()
        kind = {"content-type": "application/octet-stream"}
        route.fulfill(body=body if packed else gzip.decompress(body), headers=kind)

    page.route("**/*.gz", answer)
    page.goto(f"{site.url}figures.html")
    figure = live(page)
    before = figure.picture()
    figure.press("mu", "PageUp")
    figure.wait_for_change(before, "the curve has moved")


def test_two_figures_and_two_tabs_do_not_meet(open_):
    page = open_("figures")
    one, other = live(page), live(page, 3)
    resting = other.picture()
    before = one.picture()
    one.press("sigma", "PageDown")
    one.wait_for_change(before, "the first has moved")
    assert other.picture() == resting
    again = live(open_("figures"))
    assert again.value("sigma") != one.value("sigma")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_figures_fit_the_screen_and_can_be_used_by_everybody(open_, picture, size, scheme):
    page = open_("figures", viewport=size, color_scheme=scheme)
    for place in range(4):
        figure = live(page, place)
        assert figure.root.get_attribute("data-theme") == scheme
        box = figure.root.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= size["width"] + 1
    picture(page, f"published-{size['width']}-{scheme}", full_page=True)
    assert serious_violations(page, ".pplkit-host") == []


def test_on_paper_a_picture_and_a_sentence(open_):
    page = open_("figures")
    live(page)
    page.emulate_media(media="print")
    expect(page.locator("figure.pplkit-still").first).to_be_visible()
    expect(page.locator(".pplkit-host").first).to_be_hidden()


@pytest.mark.parametrize(
    ("name", "place"), [("figures", 0), ("figures", 2), ("more", 0), ("more", 1)]
)
def test_two_thousand_random_events_do_no_harm(open_, name, place):
    page = open_(name)
    figure = live(page, place)
    send(figure, 300)
    settled(figure)
    small = heap(page)
    send(figure, 2000, seed=11)
    settled(figure)
    assert misdrawn(figure) == []
    assert heap(page) < small + GROWTH


def test_what_cannot_be_captured_fails_the_build_with_operation_and_line(tmp_path):
    cell = small_book.HEAD + small_book.TABLE.replace(', publish="table"', "")
    folder = small_book.write(tmp_path / "refused", only=[cell])
    ended = small_book.build(folder)
    assert ended.returncode != 0
    assert "a live figure stays a picture in the book" in ended.stdout
    assert "cannot be captured" in ended.stdout and "line 5" in ended.stdout
