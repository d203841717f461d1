"""Fixtures of the browser tests: one browser, one JupyterLab, one built book for all of them.

They live as long as this folder's tests, not the session: Playwright's synchronous interface holds an
event loop in the main thread, which tests elsewhere that call `asyncio.run` must not find running.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import expect, sync_playwright

from tools import book as book_builder
from tools import browser as finder

from .notebook import Notebook
from .servers import Lab, Site, copy_book
from .watch import NO_OTHER_HOST, Watch

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60_000  # milliseconds for one thing on a page to come about on a loaded machine
DESKTOP = {"width": 1280, "height": 900}
FLAGS = [
    "--no-sandbox",  # a container's root may not open one, and only this machine's pages are read
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    NO_OTHER_HOST,
]
expect.set_options(timeout=PATIENCE)
_numbers = itertools.count(1)
_watches = []  # of the pages that are open


@pytest.fixture(scope="package")
def chromium():
    """The browser itself. One that is missing fails every test here, with the remedy."""
    try:
        executable = finder.find()
    except finder.BrowserMissing as missing:
        pytest.fail(str(missing), pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(executable), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def new_page(chromium):
    """A function that opens a watched page in a context of its own: `new_page(color_scheme="dark")`."""
    yield from _page_maker(chromium)


@pytest.fixture(scope="module")
def new_shared_page(chromium):
    """`new_page` for a page that the tests of a module share."""
    yield from _page_maker(chromium)


@pytest.fixture
def page(new_page):
    return new_page()


def _page_maker(chromium):
    opened = []

    def make(**options):
        context = chromium.new_context(
            **{
                "viewport": DESKTOP,
                "service_workers": "block",
                "reduced_motion": "reduce",
                **options,
            }
        )
        context.set_default_timeout(PATIENCE)
        context.set_default_navigation_timeout(PATIENCE)
        watch = Watch().attach(context)
        opened.append((context, watch))
        _watches.append(watch)
        page = context.new_page()
        page.watch = watch
        return page

    yield make
    for context, _ in opened:
        context.close()
    mine = [watch for _, watch in opened]
    _watches[:] = [watch for watch in _watches if watch not in mine]
    _no_news(mine)


@pytest.fixture(autouse=True)
def no_complaints():
    """A complaint fails the test during which it came, also on a page that tests share."""
    yield
    _no_news(_watches)


def _no_news(watches):
    found = [str(complaint) for watch in watches for complaint in watch.news()]
    if found:
        pytest.fail("the page complained:\n  " + "\n  ".join(found), pytrace=False)


@pytest.fixture
def picture(request):
    """`picture(page, "name")` keeps a picture where PPLKIT_PICTURES says; without it, nothing happens."""
    folder = os.environ.get("PPLKIT_PICTURES")

    def take(page, name, **options):
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(folder) / f"{name}.png", **options)

    return take


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A test that fails leaves a picture of its pages, what they complained of, and JupyterLab's log."""
    report = (yield).get_result()
    if not report.failed:
        return
    for name, value in getattr(item, "funcargs", {}).items():
        page = getattr(value, "page", value)
        if hasattr(page, "watch") and not page.is_closed():
            stem = re.sub(r"[^\w-]+", "-", f"{item.name}-{name}-{next(_numbers)}")
            target = item.config._tmp_path_factory.getbasetemp() / f"{stem}.png"
            try:
                page.screenshot(path=target)
                report.sections.append((f"picture of {name}", str(target)))
            except PlaywrightError as problem:  # the browser may be what failed
                report.sections.append((f"no picture of {name}", str(problem)))
            report.sections.append(
                (f"complaints of {name}", "\n".join(map(str, page.watch.complaints)))
            )
        if isinstance(value, Lab):
            report.sections.append(("JupyterLab's log", value.log()))


@pytest.fixture(scope="package")
def lab(tmp_path_factory):
    """A JupyterLab over a copy of the book, in a folder with a space in its name."""
    base = tmp_path_factory.mktemp("browser lab")
    copy_book(ROOT / "book", base / "the book")
    with Lab(
        base / "the book", home=base / "server", settings=ROOT / "tools" / "jupyter"
    ) as server:
        yield server


@pytest.fixture(scope="module")
def open_notebook(lab, new_shared_page):
    """A function that opens a notebook of the copied book, on the page of JupyterLab that a module shares."""
    page = new_shared_page()
    return functools.partial(Notebook.open, page, lab)


@pytest.fixture(scope="package")
def book():
    """The built book, served from a sub-path as on any static host."""
    with Site(book_builder.build()) as site:
        yield site
