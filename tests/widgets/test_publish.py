"""What a book carries of a figure: programs, a table or a picture, and the contract beside them."""

from __future__ import annotations

import gzip
import json
import re
from types import SimpleNamespace

import altair as alt
import onnxruntime
import pytest
import torch

import pplkit
import pplkit.distributions as dist
import pplwidgets
from pplkit.infer import SVI, Trace_ELBO
from pplkit.optim import Adam
from pplkit.params import ParamStore
from pplwidgets import publish, sphinx, tables
from pplwidgets.noise import numbers

CHART = alt.Chart().mark_line().encode(x="x", y="y")
KINDS = {"int64": torch.int64, "float32": torch.float32, "float64": torch.float64}


def drawn(n=4, scale=1.0):
    with pplkit.plate("rows", n):
        y = pplkit.sample("y", dist.Normal(0.0, scale))
    return {"x": torch.arange(n) / 2, "y": y, "high": y > 0}


def looped(n=3, speed=1.0):
    total = 0.0
    while total < n:
        total += speed
    return {"x": torch.arange(3.0), "y": torch.full((3,), total)}


def make(fn=drawn, publish="graph", **controls):
    return pplwidgets.live(fn, CHART, publish=publish, **controls)


@pytest.fixture(scope="module")
def whole():
    figure = make(n=(2, 30), scale=(0.5, 2.0))
    return figure, publish.published(figure)


def test_a_contract_can_be_checked_by_itself(whole):
    """Model, noise and answers are all that it takes, for whoever has another ONNX runtime."""
    _, made = whole
    assert made.trouble == ""
    assert len(made.contract["settings"]) == 20
    for setting in made.contract["settings"]:
        model = gzip.decompress(made.files[setting["model"]])
        program = next(p for p in made.page["programs"] if p["model"] == setting["model"])
        feeds = {
            given["name"]: torch.tensor(
                setting["controls"][given["control"]] + given["add"], dtype=KINDS[given["dtype"]]
            ).numpy()
            for given in program["inputs"]
            if "control" in given
        }
        for n in setting["noise"]:
            kind = KINDS[n["dtype"]]
            value = numbers(n["seed"], n["draw"], n["distribution"], tuple(n["shape"]), kind)
            feeds[n["name"]] = value.numpy()
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        answers = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds)))
        for out in program["outputs"]:
            wanted = torch.tensor(setting["answers"][out["table"]][out["column"]])
            assert publish.agree(torch.as_tensor(answers[out["name"]]), wanted)


def test_the_first_state_is_the_present_one(whole):
    figure, made = whole
    said = {c["name"]: c["initial"] for c in made.page["controls"]}
    assert said == {"n": figure.n, "scale": figure.scale}
    heads, buffers = tables.packed(figure.tables)
    assert made.page["first"]["tables"] == heads
    import base64

    assert base64.b64decode(made.page["first"]["data"]) == b"".join(buffers)


def test_what_cannot_be_captured_is_told_with_operation_and_line():
    made = publish.published(make(looped, n=(1, 6), speed=(0.5, 2.0)))
    assert not made.page and not made.files
    assert "cannot be captured" in made.trouble
    assert re.search(r"where: .*test_publish\.py, line \d+", made.trouble)
    assert 'publish="table"' in made.trouble


def test_what_onnx_refuses_is_told_with_operation_and_line():
    def rolled(n):
        x = torch.arange(9.0)
        return {"x": x, "y": x.roll(n)}

    trouble = publish.published(make(rolled, n=(1, 6))).trouble
    assert "aten.roll.default cannot be published" in trouble
    assert re.search(r"where: .*test_publish\.py, line \d+", trouble)


def test_a_rare_size_has_its_program_too():
    def sized(n):
        x = torch.ones(n) if n != 1234 else -torch.ones(n)
        return {"x": torch.arange(n), "y": x}

    programs = publish.published(make(sized, n=(1, 3000))).page["programs"]
    at = [sum(publish._serves(each, {"n": n}) for each in programs) for n in (1, 1233, 1234, 3000)]
    assert at == [1, 1, 1, 1] and len({each["model"] for each in programs}) >= 2


def test_a_function_with_a_stream_of_its_own_is_found_out():
    def seeded(scale=1.0):
        with pplkit.handlers.seed(rng_seed=7):
            y = pplkit.sample("y", dist.Normal(0.0, scale).expand([3]))
        return {"x": torch.arange(3.0), "y": y}

    made = publish.published(make(seeded, scale=(0.5, 2.0)))
    assert "a seed or generator of its own" in made.trouble


def test_a_kernels_parameters_are_not_the_figures():
    """In a notebook whose cells have fitted a parameter of the same name."""

    def fitted(mu):
        def model():
            pplkit.sample("z", dist.Normal(mu, 1.0))

        def guide():
            pplkit.sample("z", dist.Normal(pplkit.param("loc", torch.tensor(0.0)), 1.0))

        run = SVI(model, guide, Adam({"lr": 0.1}), loss=Trace_ELBO()).run(3)
        return {"x": run.params["loc"].reshape(1), "y": run.losses[:1]}

    with ParamStore():
        pplkit.param("loc", torch.tensor(7.0))
        made = publish.published(make(fitted, mu=(-1.0, 1.0)))
        assert pplkit.get_param_store()["loc"] == 7.0
    assert not made.trouble
    assert abs(made.contract["settings"][0]["answers"]["data"]["x"][0]) < 0.5


def test_too_many_choices_are_told():
    def choosing(a, b):
        return {"x": torch.ones(2), "y": torch.ones(2) * a * b}

    figure = make(choosing, a=list(range(9)), b=list(range(9)))
    assert "81 combinations" in publish.published(figure).trouble


def test_a_contract_comes_to_every_choice():
    figure = make(kind=["a", "b", "c"], on=True, scale=(0.5, 2.0), fn=lambda kind, on, scale: drawn())
    settings = [at for at, _ in publish._random_settings(figure, 6)]
    assert {(at["kind"], at["on"]) for at in settings} == {(k, on) for k in "abc" for on in (0, 1)}
    assert [at["scale"] for at in settings[:2]] == [0.5, 2.0]


def test_a_table_holds_the_functions_answers():
    figure = make(looped, "table", n=(1, 6), speed=(0.5, 2.0))
    figure.speed = 0.77
    made = publish.published(figure)
    grid = made.page["grid"]
    n, speed = (axis["values"] for axis in grid["axes"])
    assert n == [1, 2, 3, 4, 5, 6] and 0.77 in speed and len(n) * len(speed) <= 600
    data = gzip.decompress(made.files[grid["data"]])
    size = sum(rows * 4 * 2 for (rows,) in grid["rows"])
    assert len(data) == size == len(grid["rows"]) * 24
    place = 4 * len(speed) + speed.index(0.77)
    entry = torch.frombuffer(
        bytearray(data[place * 24 + 12 : place * 24 + 24]), dtype=torch.float32
    )
    assert torch.equal(entry, figure.evaluate(n=5)["data"]["y"])
    assert not made.page["words"]["random"]
    for setting in made.contract["settings"]:
        assert setting["controls"]["speed"] in speed


def test_settings_at_which_the_function_fails_are_left_out_of_a_table():
    def short(n=2):
        return {"x": torch.arange(3.0), "y": torch.ones(3) / (1 if n else []) * n}

    made = publish.published(make(short, "table", n=(0, 3)))
    assert made.page["grid"]["rows"] == [None, [3], [3], [3]]


def test_a_picture_is_nothing_more():
    made = publish.published(make(publish="picture", scale=(0.5, 2.0)))
    assert (made.page, made.files, made.trouble) == ({}, {}, "")


def test_ways_are_named():
    with pytest.raises(
        ValueError, match="publish is one of 'graph', 'table', 'picture', not 'live'"
    ):
        make(publish="live", scale=(0.5, 2.0))


def test_in_a_book_a_display_carries_what_the_page_needs(monkeypatch):
    figure = make(looped, "table", n=(1, 4), speed=(1.0, 2.0))
    figure._words = {**figure._words, "title": "</script>"}
    monkeypatch.setenv(publish.VARIABLE, "1")
    data, _ = figure._repr_mimebundle_()
    assert set(data) == {"text/plain", "text/html"}
    carried = sphinx._CARRIED.search(data["text/html"])
    said = json.loads(carried[1])
    assert set(said["files"]) == {said["page"]["grid"]["data"]}
    assert data["text/html"].count("</script>") == 1


def test_a_figure_of_the_course_is_made_once_for_all_pages_of_a_book(monkeypatch, tmp_path):
    monkeypatch.setenv(publish.VARIABLE, str(tmp_path))
    one, other = pplwidgets.plate_explorer(), pplwidgets.plate_explorer()
    other.plate_size = 3
    first = publish.published(one)
    (kept,) = tmp_path.iterdir()
    with monkeypatch.context() as no:
        no.setattr(publish, "_programs", None)  # nothing is captured again
        again = publish.published(other)
    assert (again.files, again.contract) == (first.files, first.contract)
    assert again.page["programs"] == first.page["programs"] != []
    assert again.page["first"] != first.page["first"]
    assert publish._made_before(other) == kept
    same, others = pplwidgets.beta_bernoulli(), pplwidgets.beta_bernoulli(observed=(0, 0, 1))
    assert None is not publish._made_before(same) != publish._made_before(others) is not None


def test_a_function_of_the_authors_own_is_never_taken_for_another(monkeypatch, tmp_path):
    monkeypatch.setenv(publish.VARIABLE, str(tmp_path))
    made = publish.published(make(drawn, n=(1, 4), scale=(0.5, 2.0)))
    assert made.page["programs"] and not [*tmp_path.iterdir()]


def model(name, **state):
    return {"model_name": name, "state": state}


def test_only_what_a_page_shows_keeps_its_state():
    state = {
        "box": model("VBoxModel", children=["IPY_MODEL_slider"], layout="IPY_MODEL_l1"),
        "slider": model("FloatSliderModel", layout="IPY_MODEL_l2"),
        "label": model("LabelModel"),
        "l1": model("LayoutModel"),
        "l2": model("LayoutModel"),
        "figure": model("AnyModel", _esm="..."),
        "within": model("LinkModel", source=["IPY_MODEL_slider", "value"], target=["IPY_MODEL_box", "x"]),
        "out": model("LinkModel", source=["IPY_MODEL_slider", "value"], target=["IPY_MODEL_figure", "mu"]),
    }  # fmt: skip
    assert set(sphinx._live(state, {"box"})) == {"box", "slider", "l1", "l2", "within"}
    assert sphinx._live(state, set()) == {}


@pytest.mark.parametrize(
    ("shown", "words"),
    [("box", "let a cell display the figure itself"), ("slider", "make it a control"), ("l1", "")],
)
def test_a_figure_that_a_page_cannot_move_is_warned_of(caplog, shown, words):
    state = {
        "box": model("VBoxModel", children=["IPY_MODEL_figure"]),
        "slider": model("FloatSliderModel"),
        "figure": model("AnyModel", _runtime="..."),
        "link": model("LinkModel", source=["IPY_MODEL_slider", "value"], target=["IPY_MODEL_figure", "mu"]),
        "l1": model("LayoutModel"),
    }  # fmt: skip
    sphinx._warn_of_figures("page", sphinx._live(state, {shown}), [json.dumps({"state": state})])
    said = " ".join(record.getMessage() for record in caplog.records)
    assert (words in said) if words else not said


def test_a_book_asks_no_host_and_cells_have_time():
    config = SimpleNamespace(
        values={"nb_ipywidgets_js": 1, "nb_execution_timeout": 1},
        nb_ipywidgets_js={"https://example.org/require.js": {}},
        nb_execution_timeout=30,
    )
    sphinx._configure(None, config)
    assert config.nb_ipywidgets_js == {} and config.nb_execution_timeout >= 600
