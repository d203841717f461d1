"""Builds the HTML course with Jupyter Book, and serves it on this machine.

from tools import book
html = book.build()        # the folder to publish; at once when nothing has changed
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools.environment import ROOT, alone, one_thread
from tools.hatch_build import tree_hash

BUILD = ROOT / "book" / "_build"
HTML = BUILD / "html"
NOTE = BUILD / "pplkit.json"  # what the finished book was made from
SKIP = ("_build", "__pycache__", ".ipynb_checkpoints")
TROUBLE = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b|Error:")


class BookFailed(RuntimeError):
    """Jupyter Book did not end well; the message holds what it complained of."""


def build() -> Path:
    """Builds the book unless text, configuration, engine and widgets are those of the last build.

    Returns the folder of the HTML. Every warning is an error: raises `BookFailed`. A build starts
    from nothing but the outputs of notebooks whose cells, and all that they depend on, are as they
    were: a page that is taken over would hide its warnings.
    """
    with alone(ROOT / "book", "Waiting for another build of the book ..."):
        if not _is_built():
            NOTE.unlink(missing_ok=True)
            for folder in (HTML, BUILD / ".doctrees", BUILD / "jupyter_execute"):
                shutil.rmtree(folder, ignore_errors=True)
            inputs = _inputs()
            _jupyter_book()
            (
                HTML / ".nojekyll"
            ).touch()  # or GitHub's pages leave out every folder with an underscore
            NOTE.write_text(
                json.dumps({"inputs": inputs, "outputs": tree_hash(HTML)}), encoding="utf-8"
            )
    return HTML


def _is_built():
    try:
        note = json.loads(NOTE.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return note.get("inputs") == _inputs() and note.get("outputs") == tree_hash(HTML)


def _inputs():
    return tree_hash(
        ROOT / "_config.yml",
        ROOT / "book",
        ROOT / "pplkit",
        ROOT / "widgets" / "pplwidgets",
        ROOT / "tests" / "catalogue",
        ROOT / "constraints.txt",
        Path(__file__),
        skip=SKIP,
    )


def _jupyter_book():
    command = [
        sys.executable, "-c", "from jupyter_book.cli.main import main; main()",
        "build", "book", "--config", "_config.yml", "--path-output", "book",
        "--warningiserror", "--nitpick", "--keep-going",
    ]  # fmt: skip
    scripts = str(Path(sys.executable).parent)
    variables = {
        **os.environ,
        **one_thread(),
        "PATH": os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)]),
        "PYTHONUTF8": "1",
        "JUPYTER_PREFER_ENV_PATH": "1",
        "NO_COLOR": "1",
    }
    lines = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        for line in process.stdout:
            lines.append(line.rstrip())
            print(lines[-1], flush=True)
    if process.returncode != 0:
        troubles = [line for line in lines if TROUBLE.search(line) and "[IPKernelApp]" not in line]
        complaints = troubles or lines[-30:]
        raise BookFailed("The book was not built; Jupyter Book says:\n" + "\n".join(complaints))
    if not (HTML / "index.html").is_file():
        raise BookFailed(f"Jupyter Book ended well but left no index.html in {HTML}.")


class _Handler(http.server.SimpleHTTPRequestHandler):
    # The machine's own table of types may be poor, and a browser is strict about these.
    extensions_map = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".json": "application/json",
        ".svg": "image/svg+xml",
        ".wasm": "application/wasm",
    }

    def log_message(self, *_):
        pass


def serve(folder: Path, port: int) -> None:
    """Serves `folder` on the loopback address, at `port` or the next one that is free."""
    handler = functools.partial(_Handler, directory=str(folder))
    for candidate in [*range(port, min(port + 50, 65536)), 0]:
        try:
            server = http.server.ThreadingHTTPServer(("127.0.0.1", candidate), handler)
            break
        except OSError:
            continue
    if server.server_port != port:
        print(f"Port {port} is taken.")
    print(f"The course is at http://127.0.0.1:{server.server_port}/ until Ctrl-C.", flush=True)
    with server:
        server.serve_forever()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools.book", description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("build", help="build the HTML course and print where it is")
    serving = actions.add_parser("serve", help="build it and serve it on this machine")
    serving.add_argument(
        "--port", type=int, default=8000, help="default: 8000, or the next free one"
    )
    options = parser.parse_args(arguments)
    try:
        html = build()
        print(f"The course: {html / 'index.html'}")
        if options.action == "serve":
            serve(html, options.port)
        else:
            print("To see it: make serve. To publish it: copy the folder to any static server.")
    except BookFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
