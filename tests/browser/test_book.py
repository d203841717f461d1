"""The built book, on a static server under a sub-path, with every other machine out of reach."""

from __future__ import annotations

import html.parser
import itertools
import json
import posixpath
import re
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import nbformat
import pytest
import yaml
from jupyter_cache import get_cache
from playwright.sync_api import expect

from .access import serious_violations
from .conftest import DESKTOP, ROOT
from .published import broken, contracts, live, settled

PHONE = {"width": 390, "height": 844}
STILL = "figure.pplkit-still"


def toc():
    """The pages of the book, without their endings, in the order in which they are read."""
    tree = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))

    def walk(node):
        if isinstance(node, dict):
            if "file" in node or "root" in node:
                yield node.get("root") or node["file"]
            for key in ("parts", "chapters", "sections", "subtrees", "entries"):
                yield from walk(node.get(key, []))
        elif isinstance(node, list):
            for child in node:
                yield from walk(child)

    return list(walk(tree))


PAGES = toc()
every_page = pytest.mark.parametrize("name", PAGES)
every_page_read = pytest.mark.parametrize("read", PAGES, indirect=True, scope="module")


def visit(page, book, name):
    page.goto(f"{book.url}{name}.html", wait_until="load")
    page.wait_for_load_state("networkidle")


class Read:
    """A page of the book in a reader's hands: opened once, then turned, resized and darkened."""

    def __init__(self, page, book, name):
        self.page, self.book, self.name = page, book, name
        visit(page, book, name)

    def on(self, size, scheme) -> object:
        """The page at this size and in this scheme, its figures drawn anew."""
        self.page.set_viewport_size(size)
        self.page.emulate_media(color_scheme=scheme, media="screen")
        self.page.evaluate("() => new Promise(d => requestAnimationFrame(() => requestAnimationFrame(d)))")
        return self.page

    def figures(self) -> list:
        return [live(self.page, place) for place in range(figures_made(self.book, self.name))]


@pytest.fixture(scope="module")
def read(request, book, new_shared_page):
    """The page that the test's parameter names, opened on a phone for all tests that ask for it."""
    return Read(new_shared_page(viewport=PHONE), book, request.param)


def figures_made(book, name):
    """How many figures the notebook's run put on the page: 0 for a page that is no notebook."""
    return sum("pplkit-still" in html for html, _ in _outputs(book, name))


def charts_made(book, name):
    """How many of these are charts, not drawn beforehand."""
    return sum(
        "pplkit-still" in html and "LiveFigure(" in text for html, text in _outputs(book, name)
    )


def _outputs(book, name):
    """What the page's cells gave when they ran: kept apart, as Jupyter Book writes them nowhere else."""
    written = book.folder.parent / "jupyter_execute" / f"{name}.ipynb"
    if not written.exists():
        return
    (kept,) = (book.folder.parent / ".jupyter_cache").glob("pplkit-*")
    _, ran = get_cache(kept).merge_match_into_notebook(nbformat.read(written, 4))
    for cell in ran.cells:
        for output in cell.get("outputs", []):
            given = output.get("data", {})
            yield given.get("text/html", ""), given.get("text/plain", "")


@every_page_read
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_sideways(read, picture, size, scheme):
    page = read.on(size, scheme)
    picture(page, f"book-{read.name}-{size['width']}-{scheme}".replace("/", "-"), full_page=True)
    _fits(page)  # at first with pictures, where no reader has come near a figure yet
    if read.figures():
        _fits(page)
    assert page.locator("html").get_attribute("data-theme") == scheme
    shade = page.evaluate(
        """() => { const c = getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).map(Number);
                   return (c[0] + c[1] + c[2]) / 3; }"""
    )
    assert (shade < 80) == (scheme == "dark"), f"the page's ground has brightness {shade}"


def _fits(page):
    """Nothing ends right of the page, nor begins left of it, where it cannot be scrolled to."""
    for last in (False, False, False, True):  # a chart is drawn anew a moment after it is resized
        wide = page.evaluate(WIDE)
        if last or not (wide["page"] > 0 or wide["parts"] or wide["cut"]):
            break
        page.wait_for_timeout(500)
    assert wide["page"] <= 0 and not wide["parts"] and not wide["cut"], wide


WIDE = """() => { const room = document.documentElement.clientWidth;
    const clipped = e => { for (let p = e.parentElement; p; p = p.parentElement)
        if (['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(p).overflowX)
            && p.getBoundingClientRect().right <= room + 1) return true; return false; };
    return {page: document.documentElement.scrollWidth - room,
        parts: [...document.querySelectorAll('article *')]
          .filter(e => e.getBoundingClientRect().right > room + 1 && e.checkVisibility() && !clipped(e))
          .map(e => e.outerHTML.slice(0, 120)).slice(0, 5),
        cut: [...document.querySelectorAll('article *')]
          .filter(e => e.getBoundingClientRect().left < -1 && e.checkVisibility()
              && !e.closest('#jb-print-docs-body, .visually-hidden, .sr-only'))
          .map(e => e.outerHTML.slice(0, 120)).slice(0, 5)}; }"""


@every_page_read
def test_page_is_whole(read):
    page = read.on(DESKTOP, "light")
    expect(page.locator('head link[rel~="icon"]')).to_have_count(1)  # or browsers ask for one
    heading = page.locator("article h1")
    expect(heading).to_have_count(1)
    expect(heading).to_be_visible()
    assert heading.inner_text().strip()
    assert page.title().strip()
    assert page.locator("html").get_attribute("lang") == "en"
    _pictures_shown(page)
    _figures_shown(read)
    _mathematics_set(page, read.name)
    text = page.locator("article").inner_text()
    left = re.findall(r"Error in callback|object at 0x[0-9a-f]+|WARNING:|\{[a-z]+\}`", text)
    # the reference may show how a figure prints; a notebook's output shows the figure itself
    shown = page.locator("article .cell_output").all_inner_texts()
    left += [each for each in shown if "LiveFigure(" in each]
    assert not left, f"not meant for readers: {left}"


def _pictures_shown(page):
    for image in page.locator("article img").all():
        image.scroll_into_view_if_needed()
        source = image.get_attribute("src")
        assert image.evaluate("i => i.decode().then(() => i.naturalWidth, () => 0)") > 0, (
            f"{source} not loaded"
        )
        assert image.get_attribute("alt") is not None, f"{source} has no alternative text"


def _figures_shown(read):
    page, count = read.page, figures_made(read.book, read.name)
    stills = page.locator(STILL)
    assert stills.count() == count, f"{count} figures were made, {stills.count()} are shown"
    places = page.locator(".pplkit-page")
    assert places.count() == count, "every figure of the book is live"
    drawn = []
    for figure in read.figures():
        drawn.append(figure.drawn)
        shown = ".pplkit-frame" if figure.drawn else ".pplkit-chart"
        box = figure.root.locator(shown).first.bounding_box()
        assert box["width"] >= 200 and box["height"] >= 100, f"the picture is only {box}"
    page.emulate_media(media="print")
    for still, beforehand in zip(stills.all(), drawn, strict=True):
        expect(still).to_be_visible()
        drawing = still.get_by_role("img").first
        if beforehand and not drawing.count():  # a run that is replayed: on paper it is told
            assert len(still.inner_text().split()) >= 20, "nothing stands for the figure on paper"
            continue
        expect(drawing).to_be_visible()
        box = drawing.bounding_box()
        least = 100 if beforehand else 200  # a graph in plate notation is as narrow as its model
        assert box["width"] >= least and box["height"] >= 100, f"the still picture is only {box}"
        told = drawing.evaluate(
            "d => d.getAttribute('alt') || d.getAttribute('aria-label') || d.querySelector('title, desc')?.textContent"
            " || (d.getAttribute('aria-labelledby') || '').split(' ').map("
            "id => document.getElementById(id)?.textContent ?? '').join(' ')"
        )
        assert told and len(told.split()) >= 5, (
            f"the still picture's text says too little: {told!r}"
        )
        assert len(still.inner_text().split()) >= 5, "no sentence goes with the still picture"
    page.emulate_media(media="screen")


def _mathematics_set(page, name):
    source = next(
        ROOT / "book" / f"{name}{end}"
        for end in (".ipynb", ".md")
        if (ROOT / "book" / f"{name}{end}").exists()
    )
    text = source.read_text(encoding="utf-8")
    if source.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    prose = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    formulas = page.locator("article :is(math, mjx-container)")
    if re.search(r"\$[^$]+\$|\\begin\{", prose):
        assert formulas.count() > 0, "the source has formulas, the page has none"
    for formula in formulas.all():
        if formula.is_visible():  # a closed answer hides its own
            box = formula.bounding_box()
            assert box["width"] > 1 and box["height"] > 5
    expect(page.locator("mjx-merror, merror")).to_have_count(0)
    bare = page.evaluate(
        """() => [...document.querySelectorAll('article .math, article p, article li')]
            .filter(e => e.classList.contains('math') && !e.querySelector('math, mjx-container') && !e.matches('math')
                 || [...e.childNodes].some(n => n.nodeType === 3 && /\\$\\$|\\\\(frac|sum|log|mathbb|begin)\\b/.test(n.data)))
            .map(e => e.textContent.slice(0, 80))"""
    )
    assert not bare, f"mathematics left as source: {bare}"


@every_page
def test_page_tells_its_story_without_scripts(book, new_page, name):
    page = new_page(java_script_enabled=False)
    page.watch.expect(r"\.js.*\(csp\)")  # the scripts, which the browser was told not to run
    page.goto(f"{book.url}{name}.html")
    expect(page.locator("article h1")).to_be_visible()
    stills = page.locator(STILL)
    assert stills.count() == figures_made(book, name)
    pictures = page.locator(f"{STILL} :is(svg, img)")
    assert pictures.count() >= charts_made(book, name)
    for still in [*stills.all(), *pictures.all()]:
        expect(still).to_be_visible()


def test_dark_mode_can_be_chosen_and_is_remembered(book, new_page):
    page = new_page(color_scheme="light")
    visit(page, book, PAGES[0])
    root, switch = page.locator("html"), page.locator("button.theme-switch-button:visible").first
    for _ in range(3):  # the switch goes round light, dark and the system's choice
        if root.get_attribute("data-theme") == "dark":
            break
        switch.click()
    expect(root).to_have_attribute("data-theme", "dark")
    visit(page, book, PAGES[1])
    expect(root).to_have_attribute("data-theme", "dark")


def test_search_finds_a_word_and_leads_to_it(book, page, picture):
    visit(page, book, PAGES[0])
    page.locator(".search-button:visible, .search-button-field:visible").first.click()
    field = page.locator("input[name=q]:visible")
    field.fill("plate")
    field.press("Enter")
    results = page.locator("#search-results ul.search li a")
    expect(results.first).to_be_visible()
    page.wait_for_load_state("networkidle")
    picture(page, "book-search")
    results.first.click()
    expect(page.locator("article h1")).to_be_visible()
    assert "plate" in page.locator("article").inner_text().lower()


def test_reading_on_leads_through_the_whole_book(book, page):
    """A reader clicks the first of the links to the next page; the others are read."""
    visit(page, book, PAGES[0])
    page.locator(".prev-next-area a.right-next").click()
    page.wait_for_url(f"**/a/b/{PAGES[1]}.html")
    expect(page.locator("article h1")).to_be_visible()
    for here, after in itertools.pairwise(PAGES):
        text = (book.folder / f"{here}.html").read_text(encoding="utf-8")
        (link,) = re.findall(r'<a class="right-next"\s+href="([^"]+)"', text)
        assert posixpath.normpath(posixpath.join(posixpath.dirname(here), link)) == f"{after}.html"


class _Links(html.parser.HTMLParser):
    """The addresses a page names and the anchors it offers."""

    ADDRESS = frozenset({"href", "src", "poster", "data", "action", "srcset"})

    def __init__(self, text):
        super().__init__()
        self.addresses, self.anchors = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors.update(
            filter(None, (given.get("id"), given.get("name") if tag == "a" else None))
        )
        if tag == "link" and given.get("rel") in ("canonical", "license", "author"):
            return
        for key in self.ADDRESS & given.keys():
            if given[key] is not None:
                self.addresses.append(given[key].split()[0] if key == "srcset" else given[key])

    handle_startendtag = handle_starttag


def test_every_internal_link_leads_somewhere(book):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    pages, answers, broken, todo = {}, {}, [], [f"{book.url}index.html"]

    def answer(url):
        if url not in answers:
            try:
                with opener.open(url, timeout=60) as reply:
                    is_page = reply.headers.get_content_type() == "text/html"
                    answers[url] = reply.status
                    if is_page:
                        pages[url] = _Links(reply.read().decode("utf-8"))
            except urllib.error.HTTPError as error:
                answers[url] = error.code
        return answers[url]

    seen = set(todo)
    while todo:
        here = todo.pop()
        answer(here)
        for address in pages[here].addresses if here in pages else ():
            if address.startswith(("data:", "mailto:", "javascript:", "http://", "https://", "//")):
                continue
            target, anchor = urldefrag(urljoin(here, address.strip()))
            if not target.startswith(book.url):
                broken.append(f"{here}: {address} leads out of the book's folder")
            elif answer(target) != 200:
                broken.append(f"{here}: {address} answers {answers[target]}")
            elif anchor and target in pages and unquote(anchor) not in pages[target].anchors:
                broken.append(f"{here}: {address} names no place on that page")
            if target in pages and target not in seen:
                seen.add(target)
                todo.append(target)
    assert not broken, "\n".join(broken)
    reached = {posixpath.relpath(url, book.url).removesuffix(".html") for url in pages}
    assert set(PAGES) <= reached, f"no link leads to {set(PAGES) - reached}"


def test_no_page_or_style_names_another_machine(book):
    """Nothing that a browser would load by itself has an address elsewhere, also where no test clicks."""
    loads = re.compile(
        r"""<(?:script|img|iframe|source|video|audio|embed|object)\b[^>]*?\b(?:src|srcset|data)=["']?(?:https?:)?//[^"'\s>]+
          | <link\b(?=[^>]*\brel=["']?(?:stylesheet|preload|icon|modulepreload|prefetch|preconnect|dns-prefetch|manifest))
            [^>]*?\bhref=["']?(?:https?:)?//[^"'\s>]+
          | \burl\(\s*["']?(?:https?:)?//[^)]+ | @import\s+["'](?:https?:)?//[^"']+""",
        re.VERBOSE | re.IGNORECASE,
    )
    found = [
        f"{path.relative_to(book.folder)}: {match.group()[:160]}"
        for path in sorted(Path(book.folder).rglob("*"))
        if path.suffix in (".html", ".css")
        for match in loads.finditer(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert not found, "\n".join(found)


@every_page_read
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_can_be_read_by_everybody(read, scheme):
    if not figures_made(read.book, read.name):
        return
    page = read.on(DESKTOP, scheme)
    for figure in read.figures():
        expect(figure.root).to_have_attribute("data-theme", scheme)
    assert serious_violations(page, ".pplkit-host") == []


def test_every_contract_of_the_book_is_kept(book, page):
    visit(page, book, PAGES[-1])  # a page without figures
    known = contracts(book)
    assert known
    for name, contract in known:
        assert broken(page, book, contract) == [], name


@every_page_read
def test_mouse_and_keyboard_move_every_figure(read):
    read.on(DESKTOP, "light")
    for place, figure in enumerate(read.figures()):
        sliders = [s for s in figure.root.get_by_role("slider").all() if s.is_visible()]
        for slider, act in zip((sliders * 2)[:2], ("mouse", "keys"), strict=False):
            before, label = figure.picture(), slider.evaluate("s => s.labels[0].textContent")
            if act == "mouse":
                figure.drag(label, 0.9 if figure.share(label) < 0.5 else 0.2)
            else:
                figure.press(label, "PageUp" if figure.share(label) < 0.5 else "PageDown")
            moved = f"{label} of figure {place} has moved it by {act}"
            figure.wait_until(lambda f=figure, b=before: f.picture() != b, moved)
            settled(figure)
