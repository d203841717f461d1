"""Takes the README's picture: the real widget, in a real JupyterLab, in a real browser.

    python widgets/tools/picture.py book/_static/prior-to-posterior.png

Needs the `lab` and `test` extras and the browser that `make test` uses; starts a JupyterLab of its
own on the loopback and ends it. The picture is the figure alone, 1.6 pixels to a CSS pixel.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import nbformat
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.browser.conftest import FLAGS  # noqa: E402
from tests.browser.figure import Figure  # noqa: E402
from tests.browser.notebook import Notebook  # noqa: E402
from tests.browser.servers import Lab  # noqa: E402
from tools import browser as finder  # noqa: E402

CELL = "import pplwidgets\npplwidgets.prior_to_posterior()"
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
WIDTH = 744  # CSS pixels of the figure


def take(target: Path) -> None:
    """Open JupyterLab, run one cell, move two controls, write the figure's picture to `target`."""
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        base = Path(place)
        (base / "notebooks").mkdir()
        empty = nbformat.v4.new_notebook(metadata=KERNEL)
        nbformat.write(empty, base / "notebooks" / "figure.ipynb")
        with Lab(
            base / "notebooks", home=base / "server", settings=ROOT / "tools" / "jupyter"
        ) as lab:
            chromium = playwright.chromium.launch(executable_path=str(finder.find()), args=FLAGS)
            page = chromium.new_page(
                viewport={"width": 1280, "height": 1000},
                device_scale_factor=1.6,
                reduced_motion="reduce",
            )
            page.set_default_timeout(120_000)
            notebook = Notebook.open(page, lab, "figure.ipynb", workspace="picture")
            index = notebook.add_cell(CELL)
            notebook.wait_idle()
            figure = Figure.within(notebook.cell(index))
            figure.root.evaluate(
                "(f, width) => { f.style.width = `${width}px`; f.style.padding = '8px' }", WIDTH
            )
            figure.press("prior mean", *["ArrowLeft"] * 10)
            figure.press("noise", *["ArrowRight"] * 10)
            page.wait_for_function(
                "f => f.dataset.settled === 'true'", arg=figure.root.element_handle()
            )
            page.mouse.move(0, 0)
            page.evaluate("document.activeElement.blur()")
            page.wait_for_timeout(1000)  # the chart may still be taking its new width
            figure.root.screenshot(path=target)
            chromium.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path, help="the PNG to write")
    take(parser.parse_args().target)
