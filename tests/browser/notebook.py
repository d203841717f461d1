"""A notebook open in JupyterLab: run it, wait for it, ask what its cells and its kernel say."""

from __future__ import annotations

import json
from dataclasses import dataclass

from playwright.sync_api import Locator, Page

LIMIT = 240_000  # milliseconds that a loaded machine is given for a whole notebook
WIDGET = "application/vnd.jupyter.widget-view+json"

# The notebook that is in front, and its session, as JupyterLab itself holds them.
_IN_FRONT = """
const panel = window.jupyterapp.shell.currentWidget;
const notebook = panel.content, session = panel.sessionContext;
"""


@dataclass(frozen=True)
class Cell:
    """One cell as it is now: outputs in the notebook format, `count` None until it has run."""

    index: int
    kind: str
    source: str
    tags: tuple[str, ...]
    count: int | None
    outputs: tuple[dict, ...]

    @property
    def text(self) -> str:
        """What a reader sees of the outputs as text: streams, results, errors, in their order."""
        parts = []
        for output in self.outputs:
            if output["output_type"] == "stream":
                parts.append(_joined(output["text"]))
            elif output["output_type"] == "error":
                parts.append(f"{output['ename']}: {output['evalue']}")
            else:
                parts.append(_joined(output["data"].get("text/plain", "")))
        return "\n".join(parts)

    @property
    def error(self) -> dict | None:
        return next((o for o in self.outputs if o["output_type"] == "error"), None)

    @property
    def has_widget(self) -> bool:
        return any(WIDGET in output.get("data", {}) for output in self.outputs)


class Notebook:
    """The notebook in front of `page`. Acts through JupyterLab's own commands and the real page."""

    def __init__(self, page: Page, path: str):
        self.page, self.path = page, path

    @classmethod
    def open(cls, page: Page, lab, path: str) -> Notebook:
        """Open `path` in the JupyterLab on `page`, which is loaded with it at first; wait for its kernel."""
        # JupyterLab asks for the list of kernels now and then, and jupyter_server fails while one of
        # them is being started, which has no `last_activity` yet. Harmless: the page asks again.
        page.watch.expect(r"^status: 500 \S+/api/kernels\?\d+ ")
        if page.evaluate("window.jupyterapp !== undefined"):
            page.evaluate(
                "path => window.jupyterapp.commands.execute('docmanager:open', {path}).then(() => null)",
                path,
            )
        else:
            page.goto(lab.page_url(path), timeout=LIMIT, wait_until="domcontentloaded")
            page.wait_for_function("window.jupyterapp !== undefined", timeout=LIMIT)
        self = cls(page, path)
        page.wait_for_function(
            """path => { const panel = window.jupyterapp.shell.currentWidget;
                         return panel?.context?.path === path && panel.context.isReady; }""",
            arg=path,
            timeout=LIMIT,
        )
        self.wait_idle()
        return self

    def wait_idle(self):
        """Wait until the kernel is there and has nothing to do."""
        answer = self.page.wait_for_function(
            "() => {"
            + _IN_FRONT
            + """
            const dialog = document.querySelector('.jp-Dialog');
            if (dialog) return dialog.innerText;
            return session.session?.kernel?.status === 'idle'
                && Array.from(notebook.model.cells).every(cell => (cell.executionState ?? 'idle') === 'idle'); }""",
            timeout=LIMIT,
        ).json_value()
        if answer is not True:
            raise AssertionError(f"JupyterLab asks something instead of running: {answer!r}")
        # Outputs come by another channel than replies: what is sent now arrives behind them all.
        self.ask("")

    def wait_busy(self):
        """Wait until the kernel is at work."""
        self.page.wait_for_function(
            "() => {" + _IN_FRONT + " return session.session?.kernel?.status === 'busy'; }",
            timeout=LIMIT,
        )

    def restart(self):
        """Restart the kernel, past JupyterLab's question, and wait for the new one."""
        self.page.evaluate(
            "() => {" + _IN_FRONT + " return session.restartKernel().then(() => null); }"
        )
        self.wait_idle()

    def close(self):
        """End the kernel and put the notebook away, unsaved, in front or not."""
        # JupyterLab's debugger may be asking something of the kernel, whatever becomes of it.
        self.page.watch.expect(r"Could not restore the debugger state: Canceled future")
        self.page.evaluate(
            """async path => {
                const panels = [...window.jupyterapp.shell.widgets('main')];
                const panel = panels.find(panel => panel.context?.path === path);
                await panel.sessionContext.shutdown();
                panel.context.model.dirty = false;  // else JupyterLab asks what to do with it
                panel.dispose(); }""",
            self.path,
        )

    def command(self, name: str, limit: int = LIMIT):
        """Run one of JupyterLab's commands and wait until it is done."""
        self.page.evaluate(
            """([name, limit]) => Promise.race([
                   window.jupyterapp.commands.execute(name).then(() => null),
                   new Promise((_, fail) => setTimeout(
                       () => fail(new Error(`the command ${name} took longer than ${limit} ms`)), limit)),
               ])""",
            [name, limit],
        )

    def run_all(self) -> list[Cell]:
        """Run every cell from top to bottom, as Run > Run All Cells does; the cells afterwards."""
        self.command("notebook:run-all-cells")
        self.wait_idle()
        return self.cells()

    def cells(self) -> list[Cell]:
        raw = self.page.evaluate(
            "() => {"
            + _IN_FRONT
            + """
            return Array.from(notebook.model.cells).map((cell, index) => ({
                index, kind: cell.type, source: cell.sharedModel.getSource(),
                tags: cell.getMetadata('tags') ?? [],
                count: cell.executionCount ?? null, outputs: cell.outputs?.toJSON() ?? [],
            })); }"""
        )
        return [
            Cell(
                c["index"],
                c["kind"],
                c["source"],
                tuple(c["tags"]),
                c["count"],
                tuple(c["outputs"]),
            )
            for c in raw
        ]

    def cell(self, index: int) -> Locator:
        """The cell's place in the page, scrolled into view."""
        self.page.evaluate(
            "index => {" + _IN_FRONT + " return notebook.scrollToItem(index, 'start'); }", index
        )
        place = self.page.locator(
            f'.jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell[data-windowed-list-index="{index}"]'
        )
        place.wait_for(timeout=LIMIT)
        return place

    def add_cell(self, source: str) -> int:
        """Append a code cell and run it; its index. Wait for its end with `wait_idle`."""
        return self.page.evaluate(
            "async source => {"
            + _IN_FRONT
            + """
            const shared = notebook.model.sharedModel;
            shared.insertCell(shared.cells.length, {cell_type: 'code', source});
            notebook.activeCellIndex = notebook.model.cells.length - 1;
            notebook.deselectAll();
            window.jupyterapp.commands.execute('notebook:run-cell');
            return notebook.activeCellIndex; }""",
            source,
        )

    def ask(self, code: str) -> str:
        """Run `code` in the notebook's kernel, outside any cell; what it printed. An exception is raised here."""
        reply = self.page.evaluate(
            "async ([code, limit]) => {"
            + _IN_FRONT
            + """
            const future = session.session.kernel.requestExecute({code, store_history: false});
            let out = '', error = null;
            future.onIOPub = ({header, content}) => {
                if (header.msg_type === 'stream') out += content.text;
                if (header.msg_type === 'error') error = `${content.ename}: ${content.evalue}`;
            };
            await Promise.race([future.done, new Promise((_, fail) => setTimeout(
                () => fail(new Error('the kernel took too long')), limit))]);
            return {out, error}; }""",
            [code, LIMIT],
        )
        if reply["error"] is not None:
            raise AssertionError(f"in the kernel, {reply['error']}\n  while running\n{code}")
        return reply["out"]

    def ask_json(self, code: str, expression: str):
        """Run `code` in the kernel, then the value of `expression`, by way of JSON."""
        return json.loads(
            self.ask(f"{code}\nimport json as _json\nprint(_json.dumps({expression}))")
        )


def surprises(cells: list[Cell]) -> list[str]:
    """What must not be there after a run: a code cell that did not run, an error that no tag announces, a warning."""
    found = []
    for cell in cells:
        if cell.kind != "code" or not cell.source.strip():
            continue
        where = f"cell {cell.index} ({cell.source.strip().splitlines()[0]!r})"
        announced = "raises-exception" in cell.tags
        warned = [_joined(o["text"]) for o in cell.outputs if o.get("name") == "stderr"]
        if warned:
            found.append(f"{where} warned: {''.join(warned)}")
        if cell.error and not announced:
            found.append(f"{where} raised {cell.error['ename']}: {cell.error['evalue']}")
        elif cell.count is None:
            found.append(f"{where} did not run")
        elif announced and not cell.error:
            found.append(f"{where} is tagged raises-exception but raised nothing")
    return found


def _joined(text):
    return text if isinstance(text, str) else "".join(text)
