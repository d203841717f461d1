"""Prints the built book as one PDF, through the browser that the tests use.

from tools import pdf
pdf.write(book.build(), Path("pplkit.pdf"))

On paper nothing moves: the pages are read without scripts, where a live figure is the picture of
its first state, with its text. Links within the book lead to the page they mean, folded answers are
open, and the sections are the PDF's bookmarks.
"""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup

from tools import book, browser

PDF = book.BUILD / "pplkit.pdf"
# What only a page on a screen needs.
DROPPED = (
    "script, noscript, button, a.headerlink, .prev-next-area, .prev-next-footer, .header-article,"
    " .toctree-wrapper.hidden, input.tb-checkbox, .pplkit-host"
)
STYLE = """
@page { size: A4; margin: 18mm 17mm 20mm; }
html { font-size: 10.5pt; background: white; color: black; }
body { margin: 0; }
article.printed { break-before: page; max-width: none; }
article.printed:first-of-type { break-before: auto; }
h1, h2, h3 { break-after: avoid; }
figure, img, svg, table, .pplkit-still, .cell_output { break-inside: avoid; }
img, svg { max-width: 100%; height: auto; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; overflow: visible !important; }
pre, code { font-size: 0.85em; }
table { max-width: 100%; }
.math-block { overflow: visible !important; }
details { break-inside: avoid; }
details > summary { list-style: none; break-after: avoid; }
details > summary .collapsed { display: none; }
"""


def pages(html: Path) -> list[str]:
    """The names of the book's pages, in the order of its table of contents."""
    names = [book_root(html)]
    for link in _soup(html / f"{names[0]}.html").select("nav.bd-links a.internal[href]"):
        name = unquote(urlsplit(link["href"]).path).removesuffix(".html")
        if name and name != "#" and name not in names and (html / f"{name}.html").is_file():
            names.append(name)
    return names


def book_root(html: Path) -> str:
    """The page that the book opens at: where index.html leads, or index itself."""
    refresh = _soup(html / "index.html").select_one('meta[http-equiv="Refresh" i]')
    return refresh["content"].partition("url=")[2].removesuffix(".html") if refresh else "index"


def assemble(html: Path) -> str:
    """All pages of the book in `html` as one page for printing, from the book's own files."""
    names = pages(html)
    first = _soup(html / f"{names[0]}.html")
    head = [
        f'<link rel="stylesheet" href="{_address(html / f"{names[0]}.html", link["href"])}">'
        for link in first.select('link[rel="stylesheet"][href]')
    ]
    title = first.title.get_text() if first.title else ""
    articles = [_article(html, name, names) for name in names]
    return (
        f'<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">'
        f"<title>{title}</title>{''.join(head)}<style>{STYLE}</style></head>"
        f"<body>{''.join(articles)}</body></html>"
    )


def _article(html, name, names):
    path = html / f"{name}.html"
    article = _soup(path).select_one("article")
    for node in article.select(DROPPED):
        node.decompose()
    for node in article.select("details"):
        node["open"] = ""
        for label in node.select(":scope > summary .expanded"):  # "Hide the solution", on a screen
            words = label.get_text(strip=True).split(" ", 1)[-1]
            label.string = words.capitalize()
    for node in article.select("[src]"):
        node["src"] = _address(path, node["src"])
    for attribute in ("id", "for", "aria-labelledby", "aria-describedby"):
        for node in article.select(f"[{attribute}]"):
            node[attribute] = " ".join(f"{_key(name)}{part}" for part in node[attribute].split())
    for node in article.select("svg [clip-path], svg [fill], svg [stroke], svg [mask]"):
        for attribute in ("clip-path", "fill", "stroke", "mask"):
            if attribute in node.attrs:
                node[attribute] = node[attribute].replace("url(#", f"url(#{_key(name)}")
    for node in article.select("a[href]"):
        node["href"] = _link(html, path, node["href"], names)
    article.name, article["class"] = "article", "printed bd-article"
    article["id"] = _key(name)
    return str(article)


def _key(name):
    return name.replace("/", "-") + "--"


def _link(html, path, href, names):
    parts = urlsplit(href)
    if parts.scheme or parts.netloc:
        return href
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
    root = html.resolve()
    name = target.relative_to(root).with_suffix("").as_posix() if root in target.parents else ""
    return f"#{_key(name)}{parts.fragment}" if name in names else "#"


def _address(path, source):
    if urlsplit(source).scheme:
        return source
    return (path.parent / unquote(urlsplit(source).path)).resolve().as_uri()


def _soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def write(html: Path, target: Path) -> Path:
    """Print the book in the folder `html` to the file `target`; returns it.

    Raises `browser.BrowserMissing` where there is none.
    """
    from playwright.sync_api import sync_playwright

    executable = browser.find()
    target.parent.mkdir(parents=True, exist_ok=True)
    printed = target.with_suffix(".print.html")
    printed.write_text(assemble(html), encoding="utf-8")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--host-resolver-rules=MAP * ~NOTFOUND"]  # fmt: skip
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=str(executable), args=flags)
            page = chromium.new_context(java_script_enabled=False).new_page()
            page.set_default_timeout(300_000)
            page.goto(printed.resolve().as_uri(), wait_until="load")
            page.emulate_media(media="print", color_scheme="light")
            page.pdf(
                path=str(target), prefer_css_page_size=True, print_background=True, tagged=True,
                outline=True, display_header_footer=True, header_template="<span></span>",
                footer_template='<div style="width:100%;text-align:center;font-size:8px">'
                '<span class="pageNumber"></span></div>',
            )  # fmt: skip
            chromium.close()
    finally:
        printed.unlink(missing_ok=True)
    return target


def main() -> int:
    try:
        print(f"The book to print: {write(book.build(), PDF)}")
    except (book.BookFailed, browser.BrowserMissing) as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
