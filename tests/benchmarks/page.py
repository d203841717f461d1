"""Measure figures in a real browser: how soon they answer, how fast, how much a page fetches.

    python tests/benchmarks/page.py [--book FOLDER] [--moves 40] [--only page] [--json FILE]

Builds a small book of three pages (a density; a posterior that SVI fits in 500 steps, afresh at
each move; no figure), or takes a folder of HTML made before by `--keep FOLDER`. Prints milliseconds
from a slider's event to the drawn picture (median and 95th percentile), seconds from the first
touch to the first answer with nothing cached, and the kilobytes that a host sent, which packs text
and nothing else. Then shows the same figures in JupyterLab, and prints the milliseconds by way of
its kernel.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import http.server
import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.browser import small_book  # noqa: E402
from tests.browser.conftest import FLAGS  # noqa: E402
from tests.browser.figure import Figure  # noqa: E402
from tests.browser.notebook import Notebook  # noqa: E402
from tests.browser.published import live  # noqa: E402
from tests.browser.servers import Lab  # noqa: E402
from tests.browser.watch import Watch  # noqa: E402
from tools import browser as finder  # noqa: E402

PACKED = (".html", ".js", ".css", ".json", ".svg")
MOVES = """async ([root, label, many]) => {
  const slider = [...root.querySelectorAll("input[type=range]")].find(
    (each) => each.labels[0].textContent === label);
  const settled = () => new Promise((done) => {
    const look = () => root.dataset.settled === "true" && (seen.disconnect(), done());
    const seen = new MutationObserver(look);
    seen.observe(root, {attributes: true, attributeFilter: ["data-settled"]});
    look();
  });
  const [low, high] = [Number(slider.min), Number(slider.max)];
  const times = [];
  for (let i = 0; i < many; i++) {
    const before = performance.now();
    slider.value = String(low + (high - low) * (0.15 + 0.7 * (i % 29) / 29));
    slider.dispatchEvent(new Event("input", {bubbles: true}));
    await settled();
    times.push(performance.now() - before);
  }
  return times;
}"""


class Host(http.server.SimpleHTTPRequestHandler):
    """A static host that packs text, as they do, and nothing else."""

    protocol_version = "HTTP/1.1"
    sent = 0  # bytes of bodies: what a browser's own cache holds is not asked for again

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file():
            return self.send_error(404)
        body, packed = path.read_bytes(), path.suffix in PACKED
        body = gzip.compress(body, 6) if packed else body
        self.send_response(200)
        known = {".wasm": "application/octet-stream", ".js": "text/javascript"}
        self.send_header("Content-Type", known.get(path.suffix) or self.guess_type(str(path)))
        if packed:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Cache-Control", "max-age=600")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        Host.sent += len(body)

    def log_message(self, *_):
        pass


def sent(page, start: int) -> float:
    """Kilobytes sent since `start`, once the page asks for no more."""
    page.wait_for_load_state("networkidle")
    return (Host.sent - start) / 1000


def measured(site: str, moves: int) -> dict:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(finder.find()), args=FLAGS)
        found = {}
        for name, label in (("density", "mu"), ("fitted", "prior")):
            context = chromium.new_context(viewport={"width": 1280, "height": 900})
            page = context.new_page()
            page.set_default_timeout(120_000)
            start = Host.sent
            page.goto(f"{site}{name}.html")
            figure = live(page)
            found[f"{name}: kB before the first touch"] = sent(page, start)
            before, then = figure.picture(), time.perf_counter()
            figure.press(label, "PageUp")
            figure.wait_for_change(before, "the first answer")
            found[f"{name}: s to the first answer"] = time.perf_counter() - then
            found[f"{name}: kB in all"] = sent(page, start)
            handle = figure.root.element_handle()
            page.evaluate(MOVES, [handle, label, 5])
            times = sorted(page.evaluate(MOVES, [handle, label, moves]))
            found[f"{name}: ms a move, median"] = statistics.median(times)
            found[f"{name}: ms a move, 95th percentile"] = times[int(0.95 * (len(times) - 1))]
            if name == "density":
                start = Host.sent
                page.goto(f"{site}fitted.html")
                live(page).press("prior", "PageUp")
                page.wait_for_timeout(2000)
                found["kB of the next page, touched"] = sent(page, start)
            context.close()
        chromium.close()
        return found


def of_pages(options) -> dict:
    with tempfile.TemporaryDirectory() as place:
        html = options.book
        if html is None:
            folder = (options.keep or Path(place)) / "book"
            small_book.write(
                folder,
                density=[small_book.readme_example()],
                fitted=[small_book.HEAD + small_book.FITTED],
                plain=["1 + 1"],
            )
            ended = small_book.build(folder)
            if ended.returncode:
                sys.exit(ended.stdout)
            html = folder / "_build" / "html"
        handler = functools.partial(Host, directory=str(html))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            found = measured(f"http://127.0.0.1:{server.server_port}/", options.moves)
            server.shutdown()
    return found


def through_kernel(moves: int) -> dict:
    """The same figures in a notebook, where the kernel computes."""
    cells = {"density": small_book.readme_example(), "fitted": small_book.HEAD + small_book.FITTED}
    found = {}
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        root = Path(place, "book")
        small_book.write(root, scratch=["1 + 1"])
        chromium = playwright.chromium.launch(executable_path=str(finder.find()), args=FLAGS)
        with Lab(root, home=Path(place, "server"), settings=ROOT / "tools" / "jupyter") as lab:
            context = chromium.new_context(viewport={"width": 1280, "height": 900})
            watch = Watch().attach(context)
            page = context.new_page()
            page.watch = watch
            page.set_default_timeout(120_000)
            notebook = Notebook.open(page, lab, "scratch.ipynb")
            for (name, cell), label in zip(cells.items(), ("mu", "prior"), strict=True):
                index = notebook.add_cell(cell)
                notebook.wait_idle()
                handle = Figure.within(notebook.cell(index)).root.element_handle()
                page.evaluate(MOVES, [handle, label, 10])
                times = sorted(page.evaluate(MOVES, [handle, label, moves]))
                found[f"{name}: ms a move by a kernel, median"] = statistics.median(times)
                found[f"{name}: ms a move by a kernel, 95th"] = times[int(0.95 * (len(times) - 1))]
            notebook.close()
        chromium.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--book", type=Path, help="HTML that --keep left")
    parser.add_argument("--keep", type=Path, help="a folder to build the book in")
    parser.add_argument("--moves", type=int, default=40)
    parser.add_argument("--only", choices=("page", "kernel"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = {}
    if options.only != "kernel":
        found |= of_pages(options)
    if options.only != "page":
        found |= through_kernel(options.moves)
    for name, value in found.items():
        print(f"{name:40} {value:10.1f}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
