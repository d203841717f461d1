"""The steps of nbgrader's grading that are ours: running the cells, and deciding by the check."""

from __future__ import annotations

import tempfile
from pathlib import Path

from jupyter_client.utils import run_sync
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat.v4 import new_output
from nbgrader.preprocessors import Execute, NbGraderPreprocessor
from nbgrader.utils import is_grade
from traitlets import Integer, List, Unicode

from . import kernel_variables


class Run(Execute):
    """Runs the cells one after the other, whatever one of them does to the kernel.

    A cell that takes too long, or that ends the kernel, is an error of that cell alone: a new
    kernel is given the cells that went well before, and goes on.
    """

    startup_timeout = Integer(300, help="seconds a kernel is given to start").tag(config=True)
    private = List(Unicode(), help="folders that no submission may read").tag(config=True)
    most = Integer(100_000, help="characters of output kept of one cell").tag(config=True)

    def preprocess(self, nb, resources, km=None):
        self._done, self._printed, self._where = [], {}, resources["metadata"]["path"]
        with tempfile.TemporaryDirectory(prefix="grading-", ignore_cleanup_errors=True) as home:
            work = Path(self._where or ".").resolve()
            self._variables = kernel_variables(Path(home), list(self.private), work)
            return super().preprocess(nb, resources, km)

    def start_new_kernel(self, **kwargs):
        kwargs["env"] = self._variables
        self.extra_arguments = ["--HistoryManager.enabled=False", "--IPKernelApp.log_level=ERROR"]
        return super().start_new_kernel(**kwargs)

    def preprocess_cell(self, cell, resources, index):
        try:
            cell, resources = super().preprocess_cell(cell, resources, index)
        except (CellTimeoutError, DeadKernelError) as error:
            timed_out = isinstance(error, CellTimeoutError)
            text = (
                f"it was still running after {self.timeout} seconds and could not be stopped"
                if timed_out
                else "it ended the whole session"
            )
            _fail(cell, "TooLong" if timed_out else "SessionEnded", text)
            self._replace_kernel()
        else:
            failures = [o for o in cell.get("outputs", ()) if o.output_type == "error"]
            for output in failures:
                if output.ename == "CellTimeoutError":
                    output.ename = "TooLong"
                    output.evalue = f"it was stopped after {self.timeout} seconds"
                    output.traceback = [f"TooLong: {output.evalue}"]
            if cell.cell_type == "code" and not failures and not is_grade(cell):
                self._done.append(cell.source)
        return cell, resources

    def output(self, outs, msg, display_id, cell_index):
        """Keep no more than so much of what one cell says."""
        content = msg["content"]
        room = self.most - self._printed.get(cell_index, 0)
        text = content.get("text", "") if msg["msg_type"] == "stream" else str(content.get("data"))
        self._printed[cell_index] = self.most - room + len(text)
        if len(text) > room:
            if room < 0:
                return None
            content = {"name": "stdout", "text": f"{text[:room]}\n... (and more)\n"}
            msg = {**msg, "msg_type": "stream", "content": content}
            msg["header"] = {**msg["header"], "msg_type": "stream"}
        return super().output(outs, msg, display_id, cell_index)

    def _replace_kernel(self):
        self.kc.stop_channels()
        run_sync(self.km.restart_kernel)(now=True)
        self.start_new_kernel_client()
        for source in self._done:
            run_sync(self.kc.execute_interactive)(
                source, store_history=False, timeout=self.timeout, output_hook=lambda _: None
            )


class Decide(NbGraderPreprocessor):
    """What a check says decides, and nothing else: a cell without its `passed` has failed.

    nbgrader gives all points to a cell that shows no error, were it only that its error was hidden.
    """

    def preprocess_cell(self, cell, resources, cell_index):
        if cell.cell_type != "code" or not is_grade(cell):
            return cell, resources
        for output in cell.outputs:  # nbgrader takes any warning for a failure
            if output.output_type == "stream":
                output.name = "stdout"
        results = [o for o in cell.outputs if o.output_type == "execute_result"]
        verdicts = [o.data.get("text/plain", "") for o in results]
        failed = any(o.output_type == "error" for o in cell.outputs)
        if not failed and not (len(verdicts) == 1 and verdicts[0].startswith("passed: ")):
            _fail(cell, "NotYet", "the check has not passed")
            cell.outputs.insert(0, cell.outputs.pop())  # nbgrader looks no further than a result
        return cell, resources


def _fail(cell, name: str, text: str) -> None:
    cell.outputs.append(new_output("error", ename=name, evalue=text, traceback=[f"{name}: {text}"]))
