"""Run the notebooks of the book and keep of their outputs what a person can read in a diff.

    python tools/notebooks.py                 run all chapters and exercises, write them normalised
    python tools/notebooks.py --check         run them and say what differs; write nothing
    python tools/notebooks.py --format-only   normalise without running
    python tools/notebooks.py PATH...         the same for the named notebooks only

Kept: sources, tags, printed text, the text form of results, the name and message of an error.
Dropped: pictures, HTML, widget state, tracebacks (they show the paths of one machine), execution
counts (inserting a cell would change all that follow) and whatever metadata editors leave behind.
An output that cannot be the same tomorrow or elsewhere is refused, with the reason.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import re
import sys
from pathlib import Path

import nbformat
from nbformat.notebooknode import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("book", "book/chapters", "book/exercises")
CELL_METADATA = ("deletable", "editable", "jupyter", "mystnb", "nbgrader", "tags")
VALID_ID = re.compile(r"[a-zA-Z0-9-_]{1,64}")
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

# What must not be committed, and what to do about it.
VOLATILE = {
    "a memory address": re.compile(r"\b0x[0-9a-fA-F]{6,}\b"),
    "a path of this machine": re.compile(r"(?<![\w.:/])/[\w.-]+/[\w./-]+"),
    "a Windows path": re.compile(r"\b[A-Za-z]:\\\\?\w+"),
    "a progress bar": re.compile(r"\d+%\|.*\|"),
}


class Unstable(ValueError):
    """An output that would differ on another machine or another day."""


def find(arguments: list[str]) -> list[Path]:
    """The notebooks to work on: those named, or all of the book, in order of their names."""
    if arguments:
        paths = [Path(argument).resolve() for argument in arguments]
    else:
        paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.ipynb"))]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise SystemExit(f"no such notebook: {', '.join(missing)}")
    return paths


def execute(notebook: NotebookNode, folder: Path, timeout: int = 300) -> NotebookNode:
    """Run all cells in a fresh kernel, in `folder`; cells tagged `raises-exception` may fail."""
    from nbclient import NotebookClient

    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        store_widget_state=False,
        record_timing=False,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
    )
    return client.execute()


def normalise(notebook: NotebookNode) -> NotebookNode:
    """A new notebook with the same sources and only stable text outputs.

    Normalising twice changes nothing. Raises Unstable for outputs on stderr, memory addresses,
    absolute paths and progress bars, naming the cell.
    """
    clean = nbformat.v4.new_notebook(
        metadata={
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    taken: set[str] = set()
    for number, cell in enumerate(notebook.cells, start=1):
        source = "\n".join(line.rstrip() for line in cell.source.strip("\n").split("\n"))
        new = NotebookNode(
            id=_cell_id(cell.get("id"), cell.cell_type, source, taken),
            cell_type=cell.cell_type,
            metadata=_cell_metadata(cell.metadata),
            source=source,
        )
        if cell.cell_type == "code":
            ran = cell.get("execution_count") is not None or bool(cell.outputs)
            # 0 means "has been run" to nbval and "not run in this session" to JupyterLab.
            new.execution_count = 0 if ran else None
            new.outputs = _outputs(cell.outputs, number)
        clean.cells.append(new)
    return clean


def _cell_id(old: str | None, kind: str, source: str, taken: set[str]) -> str:
    identity = old if old and VALID_ID.fullmatch(old) else None
    count = 0
    while identity is None or identity in taken:
        seed = f"{kind}\n{source}\n{count}".encode()
        identity = hashlib.sha256(seed).hexdigest()[:8]
        count += 1
    taken.add(identity)
    return identity


def _cell_metadata(metadata: dict) -> NotebookNode:
    kept = {key: metadata[key] for key in CELL_METADATA if metadata.get(key)}
    if isinstance(kept.get("jupyter"), dict):
        kept["jupyter"] = {key: True for key, value in kept["jupyter"].items() if value is True}
        if not kept["jupyter"]:
            del kept["jupyter"]
    if "tags" in kept:
        kept["tags"] = sorted(kept["tags"])
    return nbformat.from_dict(kept)


def _outputs(outputs: list, number: int) -> list[NotebookNode]:
    kept: list[NotebookNode] = []
    for output in outputs:
        new = _output(output, number)
        if new is None:
            continue
        previous = kept[-1] if kept else None
        if (
            new.output_type == "stream"
            and previous is not None
            and previous.output_type == "stream"
        ):
            previous.text += new.text
        else:
            kept.append(new)
    for output in kept:
        text = (
            output.get("text")
            or output.get("evalue")
            or output.get("data", {}).get("text/plain", "")
        )
        for what, pattern in VOLATILE.items():
            found = pattern.search(text)
            if found:
                raise Unstable(
                    f"cell {number} shows {what}: {found.group()!r}; make it print something stable"
                )
    return kept


def _output(output: NotebookNode, number: int) -> NotebookNode | None:
    if output.output_type == "stream":
        if output.name == "stderr":
            raise Unstable(
                f"cell {number} wrote to stderr: {output.text.strip()[:300]!r}; mend or silence it"
            )
        return NotebookNode(output_type="stream", name="stdout", text=ANSI.sub("", output.text))
    if output.output_type == "error":
        message = ANSI.sub("", output.evalue)
        return NotebookNode(
            output_type="error",
            ename=output.ename,
            evalue=message,
            traceback=[f"{output.ename}: {message}" if message else output.ename],
        )
    text = output.data.get("text/plain")
    if text is None:
        return None
    new = NotebookNode(
        output_type=output.output_type, data={"text/plain": ANSI.sub("", text)}, metadata={}
    )
    if output.output_type == "execute_result":
        new.execution_count = 0
    return new


def to_text(notebook: NotebookNode) -> str:
    """The file's exact text: sorted keys, one space of indentation, a final newline."""
    nbformat.validate(notebook)
    return nbformat.writes(notebook, version=4).rstrip("\n") + "\n"


def differences(path: Path, new: str) -> str:
    """A unified diff from the file to `new`; empty when they are the same."""
    old = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    lines = difflib.unified_diff(
        old.splitlines(),
        new.splitlines(),
        f"{name} as committed",
        f"{name} as run now",
        lineterm="",
    )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Run the book's notebooks and normalise what they keep."
    )
    parser.add_argument("notebooks", nargs="*", help="default: every chapter and exercise")
    parser.add_argument("--check", action="store_true", help="write nothing, say what differs")
    parser.add_argument("--format-only", action="store_true", help="do not run the cells")
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a locale without UTF-8 must not stop a diff

    changed = []
    for path in find(options.notebooks):
        notebook = nbformat.read(path, as_version=4)
        try:
            if not options.format_only:
                notebook = execute(notebook, path.parent)
            new = to_text(normalise(notebook))
        except Unstable as error:
            print(f"{path.name}: {error}", file=sys.stderr)
            return 2
        except Exception as error:  # noqa: BLE001 - nbclient's message shows cell and error
            print(f"{path.name}: {ANSI.sub('', str(error)).strip()}", file=sys.stderr)
            return 2
        diff = differences(path, new)
        if diff:
            changed.append(path)
            if options.check:
                print(diff)
            else:
                with path.open("w", encoding="utf-8", newline="\n") as file:
                    file.write(new)
        done = "differs" if options.check else "written"
        print(f"{path.name}: {done if diff else 'unchanged'}")
    if options.check and changed:
        print(
            f"{len(changed)} notebook(s) differ from a fresh run; `make notebooks` writes them anew"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
