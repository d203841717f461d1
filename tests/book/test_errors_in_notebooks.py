"""Errors and warnings in a notebook: the same in every fresh kernel, and strictly so to nbval."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]

CELLS = [
    """import torch
import pplkit, pplkit.distributions as dist
from pplkit import deterministic, errors, handlers, infer, optim, param, plate, sample
from pplkit.inspect import record""",
    """def twice():
    for i in range(2):
        x = sample("x", dist.Normal(0.0, 1.0))
    return x

handlers.trace(twice).get_trace()""",
    """%tb""",
    """def helper(data):
    with plate("data", 3):
        sample("obs", dist.Normal(0.0, 1.0), obs=data)""",
    """helper(torch.zeros(4))""",
    """sample("x", object())""",
    """handlers.trace(model=lambda: None)""",
    """sample("x", dist.Normal(lambda: 1, 1.0))""",
    """try:
    dist.Normal(torch.zeros(2), torch.zeros(3))
except ValueError:
    param("missing")""",
    """class Broken(dist.Distribution):
    arg_constraints = {}

    def sample(self, sample_shape=()):
        raise RuntimeError("no draws today")

sample("x", Broken(validate_args=False))""",
    """def guide(data):
    sample("w", dist.Normal(0.0, 1.0))

def model(data):
    z = sample("z", dist.Normal(0.0, 1.0))
    with plate("data", len(data)):
        sample("obs", dist.Normal(z, 1.0), obs=data)

infer.SVI(model, guide, optim.Adam({"lr": 0.1}), infer.Trace_ELBO()).step(torch.zeros(3))""",
    """infer.Predictive(model, {"z": torch.zeros(7)}, num_samples=3)(torch.zeros(2))["obs"].shape""",
    """def crossed():
    sample("b", dist.Normal(0.0, 1.0))
    sample("a", dist.Normal(0.0, 1.0))

def straight():
    sample("a", dist.Normal(0.0, 1.0))
    sample("b", dist.Normal(0.0, 1.0))

pplkit.set_rng_seed(0)
for _ in range(2):
    infer.TraceMeanField_ELBO().loss(crossed, straight)""",
    """errors.warn(errors.PplkitWarning("odd", where=errors.user_frame(), found=object()))""",
    """recording = record(model, torch.tensor([1.0, float("nan")]))
print(recording)
raise recording.error""",
    """pplkit.set_rng_seed(1)
print(handlers.trace(model).get_trace(torch.zeros(3)))""",
    """handlers.trace(handlers.condition(model, data={"z": 0.5})).get_trace(torch.zeros(3))""",
]
FAILING = [1, 4, 5, 6, 7, 8, 9, 10, 14]  # numbers of the cells that end in an error
WARNING = [11, 12, 13]


def run(folder):
    """The notebook, run in a fresh kernel."""
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    )
    for source in CELLS:
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["raises-exception"]})
        notebook.cells.append(cell)
    return NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
    ).execute()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With a space in its name, and the settings under which the book is compared."""
    folder = tmp_path_factory.mktemp("a notebook")
    shutil.copy(ROOT / "book" / "conftest.py", folder)
    return folder


@pytest.fixture(scope="module")
def notebook(folder):
    return run(folder)


def errors_of(notebook):
    return {
        i: output
        for i, cell in enumerate(notebook.cells)
        for output in cell.outputs
        if output.output_type == "error"
    }


def test_the_cells_end_as_they_should(notebook):
    assert sorted(errors_of(notebook)) == sorted([*FAILING, 2])
    warned = {
        i: "".join(o.text for o in cell.outputs if o.get("name") == "stderr")
        for i, cell in enumerate(notebook.cells)
    }
    assert [i for i, text in warned.items() if text] == WARNING
    for i in WARNING:
        assert re.match(rf"Cell In \[{i + 1}\]:\d+: PplkitWarning: ", warned[i])
        assert warned[i].count("PplkitWarning") == 1, "once for its place"


def test_two_fresh_kernels_say_the_same(folder, notebook):
    again = run(folder)
    for one, other in zip(notebook.cells, again.cells, strict=True):
        assert one.outputs == other.outputs


def test_no_output_tells_of_a_place_that_is_not_the_users(notebook):
    text = json.dumps([cell.outputs for cell in notebook.cells])
    for pattern in (
        r"0x[0-9a-fA-F]+",
        r"/tmp",
        r"ipykernel",
        r"\\u001b",
        r"site-packages",
        str(ROOT),
    ):
        assert not re.search(pattern, text), pattern


def test_a_traceback_shows_the_users_own_lines(notebook):
    told = {i: "\n".join(output.traceback) for i, output in errors_of(notebook).items()}
    assert told[4].startswith(
        "Your own lines (%tb Plain shows all):\n"
        "Cell In [5], line 1\n"
        "    helper(torch.zeros(4))\n"
        "Cell In [4], line 3, in helper\n"
        '    sample("obs", dist.Normal(0.0, 1.0), obs=data)\n'
        "\n"
        "ShapeError: Shape mismatch inside plate('data') at site 'obs'"
    )
    assert told[2] == told[1], "%tb shows the last error again"
    assert "While that was handled, this happened:" in told[8]
    assert "RuntimeError: no draws today\n\nThat was the direct cause of this:" in told[9]
    assert "Its way through the handlers:\nsample 'obs'" in told[14]


def nbval(folder, notebook, name):
    path = folder / f"{name}.ipynb"
    nbformat.write(notebook, path)
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-q", str(path)]
    command += ["-p", "no:cacheprovider", f"--rootdir={folder}", "-c", "/dev/null"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_nbval_compares_them_strictly(folder, notebook):
    done = nbval(folder, notebook, "as it is")
    assert done.returncode == 0, done.stdout[-4000:]
    assert f"{len(CELLS)} passed" in done.stdout


def test_nbval_would_notice_another_word(folder, notebook):
    changed = nbformat.from_dict(json.loads(json.dumps(notebook)))
    changed.cells[4].outputs[0]["evalue"] += "."
    warning = next(o for o in changed.cells[12].outputs if o.get("name") == "stderr")
    warning["text"] = warning["text"].replace("PplkitWarning", "UserWarning")
    done = nbval(folder, changed, "changed")
    assert done.returncode == 1
    assert f"2 failed, {len(CELLS) - 2} passed" in done.stdout


SHOWN = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(colors="nocolor")
shell.run_cell("import pplkit; from pplkit import errors, sample", store_history=True)
shell.run_cell({prepare!r}, store_history=True)
shell.run_cell("sample('x', 3)", store_history=True)
print("=" * 9)
shell.run_cell({then!r}, store_history=True)
"""


@pytest.mark.parametrize(
    ("prepare", "then", "before", "after"),
    [
        ("", "%tb", False, False),
        ("", "%tb Plain", False, True),
        ("", "%tb Verbose", False, True),
        ("errors.full_tracebacks()", "%tb", True, True),
        ("errors.full_tracebacks()", "errors.full_tracebacks(False)\n%tb", True, False),
        ("%xmode Verbose", "%tb", True, True),
    ],
)
def test_the_full_traceback_is_within_reach(prepare, then, before, after):
    script = SHOWN.format(prepare=prepare, then=then)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    first, _, second = done.stdout.partition("=" * 9)
    for text, full in ((first, before), (second, after)):
        assert "UsageError: site 'x' has no distribution" in text.replace("\n", " ")
        assert ("primitives.py" in text) == full
        assert ("Your own lines" in text) == (not full)


def test_outside_ipython_a_traceback_is_pythons():
    script = "import pplkit; pplkit.sample('x', 3)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.startswith("Traceback (most recent call last):")
    assert "primitives.py" in done.stderr and "Your own lines" not in done.stderr
