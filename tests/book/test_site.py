"""The built book, read as files: its links lead somewhere, and nothing is requested from outside."""

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.catalogue.cases import catalogue
from tools import book

ROOT = Path(__file__).parents[2]
REQUESTED = {"src", "srcset", "poster", "data", "action", "formaction", "background"}
OUTSIDE = re.compile(r"^\s*(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
IN_STYLE = re.compile(r"""(?:@import\s+|url\(\s*)["']?((?:https?:)?//[^"')\s]+)""", re.IGNORECASE)
IN_SCRIPT = re.compile(
    r"""(?:fetch|import|importScripts|XMLHttpRequest|\.src\s*=|\.href\s*=)\s*\(?\s*["'`]"""
    r"""((?:https?:)?//[^"'`\s]+)"""
)


class Page(HTMLParser):
    """What a page links to, what a browser requests for it, and what can be linked to."""

    def __init__(self, text):
        super().__init__()
        self.links, self.requests, self.anchors = [], [], set()
        self.styles, self.scripts, self.images, self._inside = [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = {name: value or "" for name, value in attributes}
        self.anchors |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and values.get("rel", "") != "canonical":
            self.requests.append(values.get("href", ""))
        self.requests += [values[name] for name in REQUESTED & set(values) if tag != "a"]
        self.styles.append(values.get("style", ""))
        if tag == "img":
            self.images.append(values)
        self._inside = tag if tag in ("style", "script") else None

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "style":
            self.styles.append(data)
        elif self._inside == "script":
            self.scripts.append(data)


@pytest.fixture(scope="module")
def site() -> Path:
    return book.build()


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    # The theme leaves templates of its own among the static files: nobody's pages.
    found = [path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]
    return {path: Page(path.read_text(encoding="utf-8")) for path in found}


def test_every_source_became_a_page(site):
    for folder in ("chapters", "exercises"):
        for path in (ROOT / "book" / folder).glob("*.ipynb"):
            assert (site / folder / f"{path.stem}.html").is_file()
    for name in ("index", "mistakes", "glossary", "references", "licence", "search"):
        assert (site / f"{name}.html").is_file()


def test_the_landing_page_shows_a_live_figure_and_leads_to_every_chapter(site):
    text = (site / "index.html").read_text(encoding="utf-8")
    article = text[text.index("<article") : text.index("</article>")]
    before, figure = article.split('<div class="pplkit-page"')
    assert "<h2" not in before  # at once
    assert "pplkit-still" in figure and "<svg" in figure  # drawn before any script runs
    toc = (ROOT / "book" / "_toc.yml").read_text(encoding="utf-8")
    leads = [name for name in re.findall(r"file: (\S+)", toc) if not name.startswith("exercises/")]
    assert [name for name in leads if f'href="{name}.html"' not in article] == []


def test_the_folder_can_be_published_as_it_is(site):
    assert (site / ".nojekyll").is_file()


def test_every_mistake_is_told_with_its_message(site, pages):
    path = site / "mistakes.html"
    text = unescape(re.sub(r"<[^>]+>", "", path.read_text(encoding="utf-8")))
    for case in catalogue():
        anchor = case.name.replace("_", "-")
        assert anchor in pages[path].anchors
        assert f"#{anchor}" in pages[path].links
        assert case.answer.removeprefix("accepted: ") in text, case.name
        assert case.program.rstrip() in text, case.name
        assert case.title.replace("`", "").split("'")[0] in text, case.name


def test_every_internal_link_resolves(site, pages):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            if target.is_dir():
                target /= "index.html"
            anchors = {"", *(pages[target].anchors if target in pages else [])}
            inside = target.is_relative_to(site.resolve()) and target.is_file()
            if not inside or unquote(parts.fragment) not in anchors:
                broken.append((path.name, link))
    assert broken == []


def test_no_link_is_relative_to_the_root_of_a_server(pages):
    rooted = [
        (path.name, link)
        for path, page in pages.items()
        for link in page.links + page.requests
        if link.startswith("/")
    ]
    assert rooted == []


def test_pages_request_nothing_outside(pages):
    outside = [
        (path.name, link)
        for path, page in pages.items()
        for link in page.requests
        if OUTSIDE.match(link)
    ]
    outside += [
        (path.name, found)
        for path, page in pages.items()
        for text in page.styles
        for found in IN_STYLE.findall(text)
    ]
    outside += [
        (path.name, found)
        for path, page in pages.items()
        for text in page.scripts
        for found in IN_SCRIPT.findall(text)
    ]
    assert outside == []


def test_what_pages_request_is_there(site, pages):
    missing = []
    for path, page in pages.items():
        for link in page.requests:
            parts = urlsplit(link)
            if not parts.path or parts.scheme in ("data", "blob"):
                continue
            if not (path.parent / unquote(parts.path)).is_file():
                missing.append((path.name, link))
    assert missing == []


def test_styles_and_scripts_request_nothing_outside(site):
    outside = []
    for path in sorted(site.rglob("*.css")):
        text = path.read_text(encoding="utf-8")
        outside += [(path.name, found) for found in IN_STYLE.findall(text)]
    for path in sorted([*site.rglob("*.js"), *site.rglob("*.mjs")]):
        text = path.read_text(encoding="utf-8")
        outside += [(path.name, found) for found in IN_SCRIPT.findall(text)]
    assert outside == []


def test_no_page_names_a_script_host(site):
    hosts = re.compile(r"unpkg\.com|jsdelivr|cdnjs|fonts\.g(oogleapis|static)|mybinder\.org")
    named = [
        path.name
        for path in sorted(site.rglob("*.html"))
        if hosts.search(path.read_text(encoding="utf-8"))
    ]
    assert named == []


def test_mathematics_is_in_the_page_itself(site):
    text = (site / "chapters" / "01-random-variable.html").read_text(encoding="utf-8")
    assert text.count("<math ") >= 10
    assert "MathJax" not in text


def test_no_page_shows_a_raw_traceback_or_a_path_of_the_builder(site, pages):
    for path in pages:
        text = path.read_text(encoding="utf-8")
        assert "Traceback (most recent call last)" not in text, path.name
        assert str(ROOT) not in text, path.name


def test_every_picture_has_a_text(pages):
    silent = [(path.name, i) for path, page in pages.items() for i in page.images if "alt" not in i]
    assert silent == []


def test_unset_repository_means_no_launch_button(site):
    text = (site / "chapters" / "01-random-variable.html").read_text(encoding="utf-8")
    assert "launch-button" not in text
    assert "repository-button" not in text
