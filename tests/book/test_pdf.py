"""The book on paper: every page once, live figures as pictures with their words, links that lead."""

import re
import zlib

import pytest
from bs4 import BeautifulSoup

from tests.browser import small_book
from tools import pdf

LINKS = "# Two\n\n<details>\n<summary>Answer</summary>\n\nForty-two.\n\n</details>\n\nBack to [one](one.ipynb)."


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    folder = small_book.write(
        tmp_path_factory.mktemp("to print") / "a book",
        one=[small_book.HEAD, small_book.CLOSED_OVER],
        two=["1 + 1"],
    )
    (folder / "two.ipynb").unlink()
    (folder / "two.md").write_text(LINKS, encoding="utf-8")
    built = small_book.build(folder)
    assert built.returncode == 0, built.stdout
    return folder / "_build" / "html"


@pytest.fixture(scope="module")
def printed(html):
    return BeautifulSoup(pdf.assemble(html), "html.parser")


def test_every_page_is_there_once_in_order(html, printed):
    assert pdf.pages(html) == ["one", "two"]
    assert [article["id"] for article in printed.select("article")] == ["one--", "two--"]


def test_a_live_figure_is_a_picture_with_a_text(printed):
    stills = printed.select(".pplkit-page .pplkit-still")
    assert len(stills) == 1
    picture = stills[0].select_one("img, svg")
    assert len(picture.get("alt") or picture.get("aria-label") or "") > 20
    assert not printed.select("script")
    assert not printed.select(".pplkit-host")


def test_every_picture_of_the_printed_book_says_what_it_shows(printed):
    for picture in printed.select("img, svg[role=img]"):
        assert picture.get("alt") or picture.get("aria-label"), picture.attrs


def test_links_lead_to_places_of_the_printed_book(printed):
    places = {node["id"] for node in printed.select("[id]")}
    links = [a["href"] for a in printed.select("article a[href^='#']")]
    assert "#one--" in links
    assert [link for link in links if link[1:] not in places] == []


def test_pictures_keep_the_paths_that_they_are_clipped_by(printed):
    places = [node["id"] for node in printed.select("svg [id]")]
    meant = re.findall(r"url\(#([^)]+)\)", str(printed))
    assert meant
    assert set(meant) <= set(places)
    assert len(set(places)) == len(places)


def test_folded_answers_are_open(printed):
    assert [node.has_attr("open") for node in printed.select("details")] == [True]


def test_the_browser_prints_it_with_alternative_texts(html, tmp_path):
    made = pdf.write(html, tmp_path / "out" / "a book.pdf").read_bytes()
    assert made.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", _objects(made))) >= 2
    assert b"/MarkInfo" in _objects(made)
    assert b"/Alt" in _objects(made)
    assert b"/Outlines" in _objects(made)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a book.pdf"]


def _objects(data):
    """The objects of a PDF, those in compressed streams too."""
    found = [data]
    for match in re.finditer(rb"/Type\s*/ObjStm.*?stream\r?\n(.*?)endstream", data, re.DOTALL):
        found.append(zlib.decompressobj().decompress(match[1]))
    return b"\n".join(found)
