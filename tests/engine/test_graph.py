"""A model's graph: its structure, its words, its picture and its files."""

import os
import re
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import torch

import pplkit
import pplkit.distributions as dist
from pplkit import deterministic, factor, markov, param, plate, render_model, sample
from pplkit.effects import active_handlers
from pplkit.errors import PplkitError
from pplkit.handlers import condition, seed
from pplkit.inspect import get_dependencies, get_model_relations
from pplkit.inspect.drawing import short
from pplkit.inspect.layout import Node as Shape
from pplkit.inspect.layout import Picture, arrange
from pplkit.inspect.layout import Plate as Frame
from tests.models import ENTRIES, backend
from tools import model_picture

ROOT = Path(__file__).resolve().parents[2]
SVG = "{http://www.w3.org/2000/svg}"
ZERO = torch.tensor(0.0)


# -- the models ---------------------------------------------------------------------------------


def mixture(data):
    weights = sample("weights", dist.Dirichlet(torch.ones(3)))
    with plate("components", 3):
        loc = sample("loc", dist.Normal(0.0, 10.0))
    with plate("data", len(data)):
        z = sample("z", dist.Categorical(weights))
        sample("obs", dist.Normal(loc[z], 1.0), obs=data)


def hidden_markov(steps=3):
    transition = sample("transition", dist.Dirichlet(torch.ones(2, 2)).to_event(1))
    means = sample("means", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    x = 0
    for t in markov(range(steps)):
        x = sample(f"x_{t}", dist.Categorical(transition[x]))
        sample(f"y_{t}", dist.Normal(means[x], 1.0), obs=ZERO)


def latent_dirichlet():
    with plate("topics", 3):
        words = sample("words", dist.Dirichlet(torch.ones(6)))
    with plate("documents", 4, dim=-2):
        theta = sample("theta", dist.Dirichlet(torch.ones(3)))
        with plate("positions", 5, dim=-1):
            z = sample("z", dist.Categorical(theta))
            sample("w", dist.Categorical(words[z]), obs=torch.zeros(4, 5).long())


def item_response():
    items, students = plate("items", 3, dim=-1), plate("students", 4, dim=-2)
    with items:
        difficulty = sample("difficulty", dist.Normal(0.0, 1.0))
    with students:
        ability = sample("ability", dist.Normal(0.0, 1.0))
    with items, students:
        sample("correct", dist.Bernoulli(logits=ability - difficulty), obs=torch.zeros(4, 3))


def kinds(graph) -> dict:
    return {name: node["kind"] for name, node in graph.nodes.items()}


def within(graph) -> dict:
    return {name: node["plates"] for name, node in graph.nodes.items()}


def sizes(graph) -> dict:
    return {name: (p["size"], p["nodes"]) for name, p in graph.plates.items()}


# -- structure ----------------------------------------------------------------------------------


def test_eight_schools():
    graph = model_picture.graph()
    assert kinds(graph) == {
        "mu": "latent", "tau": "latent", "theta": "latent", "y": "observed",
    }  # fmt: skip
    assert graph.edges == [("mu", "theta"), ("tau", "theta"), ("theta", "y")]
    assert graph.plates == {
        "schools": {"size": 8, "rows": 8, "loop": False, "nodes": ["theta", "y"]}
    }
    assert graph.nodes["theta"]["arguments"] == {"loc": "mu", "scale": "tau"}
    assert graph.nodes["theta"]["plates"] == ["schools"]


def test_a_mixture():
    graph = render_model(mixture, (torch.zeros(5),))
    assert kinds(graph) == {
        "weights": "latent", "loc": "latent", "z": "latent", "obs": "observed",
    }  # fmt: skip
    assert graph.edges == [("weights", "z"), ("loc", "obs"), ("z", "obs")]
    assert sizes(graph) == {"components": (3, ["loc"]), "data": (5, ["z", "obs"])}


def test_a_hidden_markov_model():
    graph = render_model(hidden_markov)
    assert {name for name, kind in kinds(graph).items() if kind == "observed"} == {
        "y_0", "y_1", "y_2",
    }  # fmt: skip
    assert set(graph.edges) == {
        ("transition", "x_0"), ("transition", "x_1"), ("transition", "x_2"),
        ("x_0", "x_1"), ("x_1", "x_2"),
        ("means", "y_0"), ("means", "y_1"), ("means", "y_2"),
        ("x_0", "y_0"), ("x_1", "y_1"), ("x_2", "y_2"),
    }  # fmt: skip
    assert graph.plates == {}


def test_latent_dirichlet_allocation():
    graph = render_model(latent_dirichlet)
    assert kinds(graph) == {
        "words": "latent", "theta": "latent", "z": "latent", "w": "observed",
    }  # fmt: skip
    assert graph.edges == [("theta", "z"), ("words", "w"), ("z", "w")]
    assert within(graph) == {
        "words": ["topics"],
        "theta": ["documents"],
        "z": ["documents", "positions"],
        "w": ["documents", "positions"],
    }
    assert sizes(graph) == {
        "topics": (3, ["words"]),
        "documents": (4, ["theta", "z", "w"]),
        "positions": (5, ["z", "w"]),
    }


def everything(seen):
    scale = param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
    a = sample("a", dist.Normal(0.0, scale))
    twice = deterministic("twice", 2 * a)
    with plate("rows", 3):
        b = sample("b", dist.Normal(twice, 1.0), obs=torch.zeros(3), obs_mask=seen)
        sample("same", dist.Delta(b))
    factor("near", -(b.sum() ** 2))


def test_kinds_of_nodes():
    graph = render_model(everything, (torch.tensor([True, False, True]),))
    assert kinds(graph) == {"a": "latent", "b": "partly observed", "near": "factor"}
    assert graph.edges == [("a", "b"), ("b", "near")]
    full = render_model(
        everything,
        (torch.tensor([True, False, True]),),
        render_params=True,
        render_deterministic=True,
    )
    assert kinds(full) == {
        "scale": "param",
        "a": "latent",
        "twice": "deterministic",
        "b": "partly observed",
        "same": "deterministic",
        "near": "factor",
    }
    assert set(full.edges) == {
        ("scale", "a"), ("a", "twice"), ("twice", "b"), ("b", "same"), ("b", "near"),
    }  # fmt: skip
    assert full.nodes["scale"]["constraint"] == "greater than 0"


def test_two_calls_make_one_graph():
    """As for a model that is given labels for some of its data."""

    def model(label=None):
        y = sample("y", dist.Bernoulli(0.5), obs=label)
        sample("x", dist.Normal(y, 1.0), obs=ZERO)

    graph = render_model(model, model_kwargs=[{"label": torch.tensor(1.0)}, {}])
    assert kinds(graph) == {"y": "partly observed", "x": "observed"}
    assert graph.edges == [("y", "x")]
    assert kinds(render_model(model, [(torch.tensor(1.0),), (None,)])) == kinds(graph)
    with pytest.raises(PplkitError, match="a list of 2"):
        render_model(model, [(), ()], [{}])


def test_plates_that_are_looped_over_or_subsampled():
    def model():
        a = sample("a", dist.Normal(0.0, 1.0))
        for i in plate("loop", 2):
            sample(f"b_{i}", dist.Normal(a, 1.0))
        with plate("some", 10, subsample_size=4):
            sample("c", dist.Normal(a, 1.0))

    graph = render_model(model)
    assert graph.plates == {
        "loop": {"size": 2, "rows": 2, "loop": True, "nodes": ["b_0", "b_1"]},
        "some": {"size": 10, "rows": 4, "loop": False, "nodes": ["c"]},
    }
    assert str(graph).splitlines()[-2:] == [
        "plate loop: 2 rows, one after another",
        "plate some: 4 of 10 rows",
    ]
    assert "stroke-dasharray" in graph.svg()
    assert "some: 4 of 10" in texts(graph)


# -- a run that leaves nothing behind -------------------------------------------------------------


def drawing(scale=1.0):
    param("loc", lambda: torch.randn(2))
    torch.randn(3)
    return sample("x", dist.Normal(0.0, scale))


@pytest.mark.parametrize("look", [render_model, get_dependencies, get_model_relations])
def test_arguments_that_are_no_tuple(look):
    """`look(model, data)`, as one would call the model."""
    with pytest.raises(PplkitError, match=r"expected: +a tuple, as \(data,\)") as caught:
        look(mixture, torch.zeros(5))
    assert "test_graph.py" in str(caught.value)
    with pytest.raises(PplkitError, match="a dictionary"):
        look(mixture, model_kwargs=torch.zeros(5))


@pytest.mark.parametrize("look", [render_model, get_dependencies, get_model_relations])
def test_looking_at_a_model_leaves_everything_as_it_was(look):
    pplkit.clear_param_store()
    before = torch.random.get_rng_state()
    look(drawing)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert len(pplkit.get_param_store()) == 0
    assert active_handlers() == []
    with seed(rng_seed=5):
        plain = sample("x", dist.Normal(0.0, 1.0))
    with seed(rng_seed=5):
        look(drawing)
        assert sample("x", dist.Normal(0.0, 1.0)) == plain


def test_parameters_are_read_and_left():
    pplkit.clear_param_store()
    leaf = param("w", torch.tensor(3.0))

    def model():
        w = param("w", torch.tensor(1.0))
        sample("x", dist.Normal(w, 1.0))

    graph = render_model(model, render_params=True)
    assert graph.edges == [("w", "x")]
    assert param("w") is leaf and leaf == 3.0
    pplkit.clear_param_store()


def test_a_model_that_fails_leaves_nothing_behind():
    pplkit.clear_param_store()
    before = torch.random.get_rng_state()
    with pytest.raises(PplkitError, match="'x'") as caught:
        render_model(drawing, (-1.0,))
    assert "test_graph.py" in str(caught.value)
    assert active_handlers() == [] and len(pplkit.get_param_store()) == 0
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (torch.zeros(2) + 1).tolist() == [1.0, 1.0]  # no mode is left watching
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None


def test_handlers_around_are_obeyed():
    with condition(data={"x": torch.tensor(1.0)}):
        assert kinds(render_model(drawing)) == {"x": "observed"}


# -- in words -----------------------------------------------------------------------------------


def test_the_text_is_a_table():
    assert render_model(mixture, (torch.zeros(5),)).to_text() == (
        "name     kind      distribution          depends on  plates\n"
        "weights  latent    Dirichlet(1)\n"
        "loc      latent    Normal(0, 10)                     components\n"
        "z        latent    Categorical(weights)  weights     data\n"
        "obs      observed  Normal(f(loc, z), 1)  loc, z      data\n"
        "plate components: 3 rows\n"
        "plate data: 5 rows"
    )


def test_arguments_in_words():
    def model():
        a = sample("a", dist.Normal(torch.zeros(3), torch.arange(1.0, 4.0)).to_event(1))
        b = sample("b", dist.Normal(a[0], 2.5))
        sample("c", dist.Normal(2 * b, b.exp()))
        sample("d", dist.Bernoulli(logits=b))
        sample("e", dist.MultivariateNormal(torch.zeros(50), torch.eye(50)))

    arguments = {n: node["arguments"] for n, node in render_model(model).nodes.items()}
    assert arguments == {
        "a": {"loc": "0", "scale": "…"},
        "b": {"loc": "f(a)", "scale": "2.5"},
        "c": {"loc": "f(b)", "scale": "f(b)"},
        "d": {"logits": "b"},
        "e": {"loc": "0", "covariance_matrix": "…"},
    }


def test_a_long_series_is_folded():
    graph = render_model(hidden_markov, (50,))
    assert len(graph.nodes) == 102 and len(graph.edges) == 199  # the structure is whole
    names = [line.split("  ")[0] for line in str(graph).splitlines()[1:]]
    assert names == [
        "transition", "means", "x_0", "y_0", "x_1", "y_1",
        "x_2 … x_48", "y_2 … y_48", "x_49", "y_49",
    ]  # fmt: skip
    assert "x_2 … x_48" in texts(graph) and "x_3" not in texts(graph)
    assert "x_3" in texts(render_model(hidden_markov, (6,)))


def test_a_modules_parameters_are_drawn_as_one():
    layer = torch.nn.Linear(2, 3)

    def model():
        transform = pplkit.module("layer", layer)
        sample("x", dist.Normal(transform(torch.ones(2)), 1.0).to_event(1))

    graph = render_model(model, render_params=True)
    assert graph.edges == [("layer$$$weight", "x"), ("layer$$$bias", "x")]
    assert texts(graph) == ["layer", "x"]
    assert "layer  param   a module's 2" in str(graph)


def test_hundreds_of_variables_that_all_depend_on_each_other_are_drawn():
    """Unlike names, so that nothing is folded: 300 variables, 44,850 arrows."""
    letters = "abcdefghij"
    names = [a + b + c for a in letters for b in letters for c in letters][:300]

    def model():
        total = ZERO
        for name in names:
            total = total + sample(name, dist.Normal(total, 1.0))

    graph = render_model(model)
    assert len(graph.edges) == 300 * 299 // 2
    drawn = graph.svg()
    assert drawn.count("<polygon") == 299
    assert "44551 arrows are left out" in drawn


# -- the picture ----------------------------------------------------------------------------------


def parsed(graph, ink=""):
    return ET.fromstring(graph.svg(ink))


def texts(graph) -> list[str]:
    return [text.text for text in parsed(graph).iter(f"{SVG}text")]


MODELS = {
    "readme": model_picture.graph,
    "a_mixture": lambda: render_model(mixture, (torch.zeros(5),)),
    "markov": lambda: render_model(hidden_markov, (4,)),
    "latent_dirichlet": lambda: render_model(latent_dirichlet),
    "item_response": lambda: render_model(item_response),
    "everything": lambda: render_model(
        everything,
        (torch.tensor([True, False, True]),),
        render_params=True,
        render_deterministic=True,
    ),
}


def of_the_corpus(name):
    program = ENTRIES[name].build(backend("pplkit"))
    return render_model(program.model, program.args, render_deterministic=True)


@pytest.mark.parametrize("name", [*MODELS, *ENTRIES])
def test_nothing_is_drawn_outside_its_plates_or_over_another(name):
    pplkit.clear_param_store()
    graph = MODELS[name]() if name in MODELS else of_the_corpus(name)
    graph.svg()
    picture = graph._arranged
    nodes = picture.nodes
    for one in nodes.values():
        x0, y0, x1, y1 = one.box()
        assert 0 <= x0 < x1 <= picture.width and 0 <= y0 < y1 <= picture.height
        for other in nodes.values():
            a0, b0, a1, b1 = other.box()
            assert one is other or x1 <= a0 or a1 <= x0 or y1 <= b0 or b1 <= y0
    for frame in picture.plates:
        left, top, right, bottom = frame.box
        assert right - left >= frame.label_width
        for node in nodes.values():
            x0, y0, x1, y1 = node.box()
            if node.names[0] in graph.plates[frame.name]["nodes"]:
                assert left < x0 and x1 < right and top < y0 and y1 < bottom
            else:
                assert x1 < left or right < x0 or y1 < top or bottom < y0


@pytest.mark.parametrize("name", MODELS)
def test_arrows_end_at_their_nodes(name):
    graph = MODELS[name]()
    graph.svg()
    picture = graph._arranged
    for (tail, head), curve in picture.curves.items():
        for key, (x, y) in ((tail, curve[0]), (head, curve[-1])):
            x0, y0, x1, y1 = picture.nodes[key].box()
            assert x0 - 2 < x < x1 + 2 and y0 - 2 < y < y1 + 2


def test_a_series_runs_from_left_to_right_and_each_has_a_row():
    def two_chains():
        x = z = ZERO
        for t in range(4):
            x = sample(f"x_{t}", dist.Normal(x, 1.0))
            z = sample(f"z_{t}", dist.Normal(z, 1.0))
            sample(f"y_{t}", dist.Normal(x + z, 1.0), obs=ZERO)

    graph = render_model(two_chains)
    graph.svg()
    at = {node.names[0]: (node.x, node.y) for node in graph._arranged.nodes.values()}
    rows = {name: {at[f"{name}_{t}"][1] for t in range(4)} for name in "xz"}
    assert len(rows["x"]) == len(rows["z"]) == 1 and rows["x"] != rows["z"]
    for name in "xz":
        places = [at[f"{name}_{t}"][0] for t in range(4)]
        assert places == sorted(places)


def test_plates_that_cross_overlap():
    graph = render_model(item_response)
    graph.svg()
    (a, b) = (frame.box for frame in graph._arranged.plates)
    assert len(graph._arranged.plates) == 2
    assert not (a[2] < b[0] or b[2] < a[0])


def test_plates_that_cannot_overlap_are_drawn_in_pieces_of_one_name():
    nodes = {key: Shape(key, [key], key, "latent") for key in "abcy"}
    frames = [Frame(name, name, [key, "y"]) for name, key in (("i", "a"), ("j", "b"), ("k", "c"))]
    picture = Picture(nodes, [("a", "y"), ("b", "y"), ("c", "y")], frames)
    arrange(picture)
    assert sorted((p.name, *p.members) for p in picture.plates) == [
        ("i", "a", "y"), ("j", "b"), ("j", "y"), ("k", "c"), ("k", "y"),
    ]  # fmt: skip


def test_observed_nodes_are_shaded_and_halves_half():
    shaded = {}
    for group in parsed(MODELS["everything"]()).iter(f"{SVG}g"):
        title = group.find(f"{SVG}title")
        if title is not None:
            marks = [part for part in group if part.get("fill-opacity")]
            shaded[title.text] = [part.tag.removeprefix(SVG) for part in marks]
    assert shaded["b: partly observed"] == ["path"] and shaded["a: latent"] == []
    schools = [part for part in parsed(model_picture.graph()).iter() if part.get("fill-opacity")]
    assert [part.tag for part in schools] == [f"{SVG}ellipse"]


def test_distributions_are_written_when_asked():
    def model():
        scale = param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
        sample("x", dist.Normal(0.0, scale))

    asked = {"render_distributions": True, "render_params": True}
    assert texts(render_model(model, **asked))[-2:] == [
        "scale: greater than 0",
        "x ~ Normal(0, scale)",
    ]
    assert texts(render_model(model)) == ["x"]


def test_the_picture_has_an_alternative_in_words():
    graph = model_picture.graph()
    root = parsed(graph)
    assert root.get("role") == "img"
    assert root.find(f"{SVG}title").text == root.get("aria-label")
    assert root.find(f"{SVG}desc").text == str(graph)


def test_the_picture_takes_the_colours_around_it():
    graph = model_picture.graph()
    inline, alone, printed = graph.svg(), graph.svg("auto"), graph.svg("#123456")
    assert "#" not in inline and "style>" not in inline and 'fill="currentColor"' in inline
    assert "prefers-color-scheme:dark" in alone
    assert 'color="#123456"' in printed and 'fill="#fff"' in printed
    assert re.search(r"\bid=", inline + alone) is None  # two on a page cannot clash
    assert "max-width:100%" in inline
    width = float(re.search(r' width="([\d.]+)"', inline)[1])
    least = float(re.search(r"min-width:([\d.]+)px", inline)[1])
    assert 8 < 14 * least / width < 14  # names stay readable beside a narrow page's text


def test_what_a_notebook_is_given():
    graph = model_picture.graph()
    bundle = graph._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/svg+xml", "text/plain"}
    assert bundle["text/plain"] == repr(graph) == str(graph) == graph.to_text()
    assert ET.fromstring(bundle["image/svg+xml"]).tag == f"{SVG}svg"


def test_the_same_picture_every_time_and_in_every_thread():
    def draw():
        return render_model(mixture, (torch.zeros(5),)).svg()

    first, found = draw(), []
    threads = [threading.Thread(target=lambda: found.append(draw())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [first] * 6


def test_a_forked_process_draws_though_its_parent_was_drawing():
    program = (
        "import os, torch, pplkit, pplkit.distributions as dist\n"
        "from pplkit.inspect import layout\n"
        "graph = lambda: pplkit.render_model(lambda: pplkit.sample('x', dist.Normal(0., 1.)))\n"
        "layout._ONE_AT_A_TIME.acquire()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    os._exit(7 if '<ellipse' in graph().svg() else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    if hasattr(os, "fork"):
        assert in_a_process(program) == "7\n"


# -- escaping -------------------------------------------------------------------------------------

AWKWARD = [
    "<script>alert(1)</script>",
    'a "quoted" name',
    "salt & pepper &amp; &lt;",
    "back\\slash \\N \\G \\\\",
    "ends in \\",
    "<b>bold</b>",
    "<<i>html-like</i>>",
    "two\nlines\ttab\0nul\x1b[31m",
    "变量 ünï \u202e\ud800",
    "'; DROP TABLE",
    "]]>",
    "--> {x} [y] ; // #",
]


def shown(name: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


@pytest.mark.parametrize("name", AWKWARD)
def test_names_are_text_everywhere(name):
    def model():
        with plate(name, 2):
            x = sample(name + "1", dist.Normal(0.0, 1.0))
        sample("y", dist.Normal(x.sum(), 1.0), obs=ZERO)

    graph = render_model(model, render_distributions=True)
    assert list(graph.nodes) == [name + "1", "y"] and list(graph.plates) == [name]
    text = shown(name)
    assert text in str(graph) and str(graph).count("\n") == 3
    for drawn in (graph.svg(), graph.svg("auto")):
        root = ET.fromstring(drawn)
        assert {part.tag.removeprefix(SVG) for part in root.iter()} <= {
            "svg", "title", "desc", "style", "rect", "path", "polygon", "ellipse", "g", "text",
        }  # fmt: skip
        assert f"{text}: 2"[-8:] in "".join(texts(graph))
        assert root.find(f"{SVG}desc").text == str(graph)
        drawn.encode()


@pytest.mark.parametrize("name", AWKWARD)
def test_names_are_text_in_graphvizs_language(name):
    """Graphviz itself reads the label back."""
    import pygraphviz

    graph = render_model(lambda: sample(name, dist.Normal(0.0, 1.0)))
    known = pygraphviz.AGraph(string=graph.source)
    assert list(known.nodes()) == ["n0"]
    label = known.get_node("n0").attr["label"]
    unescaped = re.sub(r"\\(.)", r"\1", label).replace("&amp;", "&")
    assert unescaped in (shown(name), short(shown(name)))
    assert not re.search(r"(?<!\\)(\\\\)*\\[NGEHTLlrn]", label)
    known.close()


def test_a_long_name_is_cut_in_the_picture_alone():
    name = "a_name_that_goes_on_and_on_" * 4
    graph = render_model(lambda: sample(name, dist.Normal(0.0, 1.0)))
    assert texts(graph) == ["a_name_that_…goes_on_and_on_"[:12] + "…" + name[-11:]]
    assert name in str(graph) and f"{name}: latent" in graph.svg()


# -- files ----------------------------------------------------------------------------------------


def test_files(tmp_path):
    folder = tmp_path / "a folder"
    folder.mkdir()
    graph = model_picture.graph()
    starts = {".svg": b"<svg", ".png": b"\x89PNG", ".pdf": b"%PDF", ".dot": b"digraph"}
    for ending, start in starts.items():
        target = folder / f"graph{ending}"
        render_model(model_picture.schools, (model_picture.EFFECT, 1.0), filename=target)
        graph.save(str(target))
        assert target.read_bytes().startswith(start)
    ET.parse(folder / "graph.svg")
    width = int.from_bytes((folder / "graph.png").read_bytes()[16:20], "big")
    assert width == pytest.approx(2 * float(parsed(graph, "#000").get("width")), abs=2)
    with pytest.raises(PplkitError, match=r"\.svg, \.png, \.pdf"):
        graph.save(folder / "graph.bmp")


def test_the_readmes_picture_is_of_its_model():
    committed = ET.parse(ROOT / "book/_static/eight-schools.svg").getroot()
    fresh = parsed(model_picture.graph(), "auto")
    assert [(p.tag, p.text) for p in committed.iter()] == [(p.tag, p.text) for p in fresh.iter()]


def in_a_process(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        timeout=120,
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout


MODEL = (
    "import sys, pplkit, pplkit.distributions as dist\n"
    "graph = pplkit.render_model(lambda: pplkit.sample('x', dist.Normal(0.0, 1.0)))\n"
)


def test_without_pygraphviz_there_are_structure_and_text():
    program = (
        "import sys\nsys.modules['pygraphviz'] = None\n" + MODEL + "print(graph.edges, graph)\n"
        "bundle = graph._repr_mimebundle_()\n"
        "assert bundle['text/plain'] == str(graph) and 'pygraphviz' in bundle['text/html']\n"
        "assert 'image/svg+xml' not in bundle\n"
        "assert graph.source.startswith('digraph')\n"
        "try:\n    graph.save('x.svg')\n"
        "except pplkit.errors.PplkitError as fault:\n"
        "    assert isinstance(fault, ImportError)\n    print(fault)\n"
    )
    printed = in_a_process(program)
    assert "x     latent  Normal(0, 1)" in printed
    assert "needs the package 'pygraphviz'" in printed and "pip install pygraphviz" in printed


def test_without_vl_convert_there_is_no_png():
    program = (
        "import sys\nsys.modules['vl_convert'] = None\n" + MODEL + "assert '<svg' in graph.svg()\n"
        "try:\n    graph.save('x.png')\n"
        "except pplkit.errors.PplkitError as fault:\n    print(fault)\n"
    )
    assert "pip install vl-convert-python" in in_a_process(program)


def test_structure_and_text_import_nothing_and_a_picture_is_silent():
    """No drawing package before it is needed, no compiler of torch's, no word on stderr."""
    program = MODEL + (
        "str(graph)\n"
        "print({'pygraphviz', 'vl_convert', 'torch._dynamo'} & set(sys.modules))\n"
        "graph.svg()\nprint('pygraphviz' in sys.modules)\n"
    )
    assert in_a_process(program) == "set()\nTrue\n"
