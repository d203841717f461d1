"""How traces and values are shown: aligned, bracketed, escaped, the same everywhere."""

import html.parser
import math
import re
import subprocess
import sys
import unicodedata

import pyro
import pyro.distributions as pyro_dist
import pytest
import torch

import pplkit
import pplkit.distributions as dist
from pplkit import checks, deterministic, display, factor, handlers, param, plate, sample
from pplkit.effects import Message
from pplkit.inspect import Recording, record


def measure(data):
    z = sample("z", dist.Normal(0.0, 1.0))
    with plate("data", len(data)):
        sample("obs", dist.Normal(z, 0.5), obs=data)


def held():
    data = torch.tensor([1.2, 0.8, 1.5, -0.3])
    model = handlers.condition(measure, data={"z": torch.tensor(0.75)})
    return handlers.trace(model).get_trace(data)


def of(model):
    return handlers.trace(handlers.seed(model, rng_seed=0)).get_trace()


# -- the table in a terminal ---------------------------------------------------------------------


def test_a_trace_prints_as_an_aligned_table():
    assert display.table(held(), in_ascii=False).split("\n") == [
        "name  kind    distribution                 sample │ batch │ event  plates  "
        "value                  log_prob  observed",
        "                                                    ┌ data (4)",
        "z     sample  Normal(loc=0, scale=1)              │       │                "
        "0.75                    -1.2002  yes",
        "data  plate   4 rows                              │       │ 4              [0, 1, 2, 3]",
        "obs   sample  Normal(loc=0.75, scale=0.5)         │ 4     │        data    "
        "[1.2, 0.8, 1.5, -0.3]   -4.6432  yes",
        "log_prob, summed: -5.8434",
    ]


def four_deep():
    with plate("a", 2, dim=-4), plate("b", 13, dim=-3), plate("c", 4, subsample_size=3, dim=-2):
        sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with plate("d", 5, dim=-1):
            sample("y", dist.Poisson(1.0), obs=torch.ones(2, 13, 3, 5))
    with plate("e", 5, dim=-1):
        sample("z", dist.Normal(0.0, 1.0))


@pytest.mark.parametrize("in_ascii", [False, True])
def test_brackets_stand_over_their_dimensions(in_ascii):
    lines = display.table(of(four_deep), in_ascii).split("\n")
    head, marks = lines[0], lines[1:6]
    corner, again, arm = ("+", "+", "|") if in_ascii else ("┌", "├", "│")
    labels = ["a (2)", "b (13)", "c (3 of 4)", "d (5)", "e (5)"]
    (row,) = [line for line in lines if line.startswith("y ")]
    sizes = re.finditer(r"\d+", row[head.index("batch") :])
    columns = [head.index("batch") + size.start() for size in sizes][:4]
    for i, (mark, label) in enumerate(zip(marks, labels, strict=True)):
        column = columns[min(i, 3)]
        assert mark[column] == (again if i == 4 else corner)
        assert mark[column + 2 :] == label
        assert [mark[left] for left in columns[: min(i, 3)]] == [arm] * min(i, 3)
        assert mark[: columns[0]].strip() == ""
    assert all(line.isascii() for line in lines) == in_ascii


def test_every_column_is_aligned_whatever_the_names():
    def model():
        sample("名前", dist.Normal(0.0, 1.0))
        sample("e\u0301", dist.Normal(0.0, 1.0))
        sample("line\nbreak\x1b[31m", dist.Normal(0.0, 1.0))
        sample("n" * 60, dist.Normal(0.0, 1.0))

    def column(line, text):
        lead = line[: line.index(text)]
        wide = sum(unicodedata.east_asian_width(c) in "WF" for c in lead)
        return len(lead) + wide - sum(bool(unicodedata.combining(c)) for c in lead)

    lines = display.table(of(model), in_ascii=False).split("\n")
    assert len(lines) == 6
    assert len({column(line, "Normal(") for line in lines[1:5]}) == 1
    assert "line\\nbreak\\x1b[31m" in lines[3] and "\x1b" not in lines[3]
    assert len(lines[4].split("  ")[0]) == 40 and lines[4].split("  ")[0].endswith("...")
    assert "\\u540d\\u524d" in display.table(of(model), in_ascii=True)


def test_every_kind_of_site_is_told():
    def model():
        param("loc", torch.zeros(3, 1))
        param("scale", torch.tensor(2.0), constraint=dist.constraints.positive)
        deterministic("twice", torch.tensor([1.0, math.nan, 3.0, 4.0, 5.0]))
        factor("penalty", torch.tensor(-2.0))
        for i in plate("loop", 2):
            sample(f"x_{i}", dist.Bernoulli(0.5), obs=torch.tensor(1.0))
        with handlers.scale(scale=3.0), handlers.mask(mask=torch.tensor([True, False])):
            with plate("rows", 2):
                sample("y", dist.Normal(0.0, 1.0), obs=torch.zeros(2))
        with handlers.mask(mask=False):
            sample("z", dist.LogNormal(torch.tensor(0.0), 1.0).to_event(0), obs=1.0)
        sample("huge", dist.Normal(1e30, 1e-30), obs=torch.tensor(1e31))

    rows, total = display.rows_of(of(model))
    told = {row.name: row for row in rows}
    assert [row.kind for row in rows] == [
        *("param", "param", "deterministic", "factor", "plate", "sample", "sample"),
        *("plate", "sample", "sample", "sample"),
    ]
    assert (told["scale"].fn, told["loc"].fn, told["loc"].event) == ("greater than 0", "", [3, 1])
    assert told["twice"].value == "[1, nan, 3, ...], 1 of 5 not finite"
    assert (told["penalty"].log_prob, told["penalty"].value) == ("-2.0000", "")
    assert told["penalty"].observed == ""
    assert (told["x_0"].plates, told["x_1"].plates) == ("loop[0]", "loop[1]")
    assert told["x_0"].observed == "yes"
    assert told["y"].notes == "mask: 1 of 2, scale 3"
    assert told["y"].log_prob == "-2.7568"
    assert (told["z"].notes, told["z"].log_prob) == ("mask: none", "0.0000")
    assert told["huge"].value == "1e+31" and told["huge"].log_prob in ("-inf", "nan")
    assert total in ("-inf", "nan")


def test_dimensions_beyond_plates_are_the_samples():
    def model():
        sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1), obs=torch.zeros(7, 3, 2))

    with pplkit.validation_enabled(False):
        (row,) = display.rows_of(of(model))[0]
    assert (row.sample, row.batch, row.event) == ([7, 3], [], [2])


def test_a_trace_without_sites_and_unusual_sites_can_be_shown():
    assert str(pplkit.Trace()) == "a trace with no sites"
    assert "no sites" in pplkit.Trace()._repr_html_()
    odd = pplkit.Trace()
    odd.add(Message("sample", "unscored", dist.ImproperUniform(dist.constraints.real, (), ())))
    odd.add(Message("subsample", "data", None, value=torch.zeros(2), kwargs={"event_dim": 0}))
    odd.add(Message("param", "sparse", None, value=torch.eye(2).to_sparse()))
    text = display.table(odd, in_ascii=True)
    assert "log_prob, summed: ?" in text and "subsample" in text


def test_the_table_is_the_same_under_any_parameters_order_of_questions():
    """Looking leaves nothing behind: no cached log-probability, no question, no gradient cut."""
    made = held()
    text = str(made)
    assert all(site._log_prob is None for site in made.nodes.values())
    with checks.asked_together() as questions:
        assert str(made) == text
    assert questions == []
    loc = torch.tensor(1.0, requires_grad=True)
    run = of(lambda: sample("x", dist.Normal(loc, 1.0), obs=torch.tensor(2.0)))
    str(run)
    run.log_prob_sum().backward()
    assert loc.grad == 1.0
    wrong = pplkit.Trace()
    wrong.add(Message("sample", "x", dist.Bernoulli(0.5), value=torch.tensor(2.0)))
    str(wrong)
    with pytest.raises(pplkit.errors.DistributionError):
        wrong.nodes["x"].log_prob  # noqa: B018


def test_repr_stays_short_and_ipython_shows_the_table():
    from IPython.lib.pretty import pretty

    made = held()
    assert repr(made) == "Trace(z, data, obs)"
    assert pretty(made) == str(made)
    assert pretty([made]) == "[Trace(z, data, obs)]"


@pytest.mark.parametrize(
    ("env", "boxes"),
    [
        ({"LC_ALL": "C"}, False),
        ({"LC_ALL": "POSIX"}, False),
        ({"LC_ALL": "C.UTF-8"}, True),
        ({"PYTHONIOENCODING": "utf-8"}, True),
        ({"PYTHONIOENCODING": "ascii"}, False),
        ({"PYTHONIOENCODING": "latin-1"}, False),
    ],
    ids=str,
)
def test_box_characters_only_where_the_output_can_carry_them(env, boxes):
    script = (
        "import torch, pplkit, pplkit.distributions as d\n"
        "def model():\n"
        "    with pplkit.plate('rows', 2): pplkit.sample('naïve', d.Normal(0., 1.))\n"
        "print(pplkit.handlers.trace(model).get_trace())"
    )
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True)
    assert done.stderr == b""
    assert ("┌ rows (2)".encode() in done.stdout) == boxes
    assert (b"+ rows (2)" in done.stdout) == (not boxes)


# -- in brief --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.tensor(0.1), "0.1"),
        (torch.tensor(-0.0), "0"),
        (torch.tensor(1e-12), "1e-12"),
        (torch.tensor(7), "7"),
        (torch.tensor(True), "True"),
        (torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "[[1, 2], [3, 4]]"),
        (torch.zeros(100, 1), "[0, 0, 0, ...]"),
        (torch.arange(8).reshape(2, 2, 2), "[0, 1, 2, ...]"),
        (torch.zeros(0, 3), "[]"),
        (torch.tensor(1 + 2j), "(1+2j)"),
        (torch.full((1000, 1000), 1.0).expand(5, 1000, 1000), "[1, 1, 1, ...]"),
        (torch.zeros(2, device="meta"), "torch.float32 tensor of shape (2,)"),
        (None, "None"),
        (0.25, "0.25"),
    ],
    ids=str,
)
def test_values_in_brief(value, text):
    assert display.brief(value) == text


@pytest.mark.parametrize(
    ("fn", "text"),
    [
        (dist.Normal(torch.zeros(3), 1.0).expand([4, 3]), "Normal(loc=[0, 0, 0, ...], scale=1)"),
        (dist.Normal(0.5, 1.0).expand([9]).to_event(1), "Normal(loc=0.5, scale=1)"),
        (dist.Categorical(torch.ones(2)), "Categorical(probs=[0.5, 0.5])"),
        (dist.Categorical(logits=torch.zeros(2)), "Categorical(logits=[-0.6931, -0.6931])"),
        (dist.Normal(0.0, 1.0).mask(True), "MaskedDistribution(Normal(loc=0, scale=1))"),
        (dist.LogNormal(0.0, 1.0), "LogNormal(loc=0, scale=1)"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_distributions_in_brief(fn, text):
    assert display.described(fn) == text


# -- in a notebook -------------------------------------------------------------------------------


class Cells(html.parser.HTMLParser):
    """The cells of a table, with the columns that each spans; and every tag."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.tags, self.open = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append([int(dict(attrs).get("colspan", 1)), ""])
            self.open = self.rows[-1][-1]

    def handle_endtag(self, tag):
        self.open = None if tag in ("td", "th") else self.open

    def handle_data(self, data):
        if self.open is not None:
            self.open[1] += data


@pytest.mark.parametrize("model", [four_deep, lambda: sample("x", dist.Normal(0.0, 1.0))])
def test_every_row_of_the_html_table_has_as_many_columns(model):
    rows = Cells(of(model)._repr_html_()).rows
    assert len({sum(span for span, _ in row) for row in rows}) == 1


def test_the_html_table_has_a_bracket_over_each_plates_dimension():
    page = of(four_deep)._repr_html_()
    rows = Cells(page).rows
    for text, before in (
        ("a (2)", 4),
        ("b (13)", 5),
        ("c (3 of 4)", 6),
        ("d (5)", 7),
        ("e (5)", 7),
    ):
        (row,) = [row for row in rows[:8] if row[-1][1] == text]
        assert sum(span for span, _ in row[:-1]) == before
    assert page.count("border-bottom: none") == 4


def test_everything_in_html_is_escaped():
    def model():
        with plate("<i>&", 2):
            sample("<script>alert('x')</script>", dist.Normal(0.0, 1.0))
        for _ in plate('"<b>', 1):
            param("<img src=x>", torch.tensor(1.0))

    tags = Cells(of(model)._repr_html_()).tags
    assert not set(tags) & {"script", "i", "b", "img"}
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in of(model)._repr_html_()


def test_what_was_recorded_is_shown_alike():
    with handlers.seed(rng_seed=0):
        made = handlers.trace(four_deep).get_trace()
    with handlers.seed(rng_seed=0):
        told = Recording.from_json(record(four_deep).to_json()).trace()
    assert str(told) == str(made)
    assert told._repr_html_() == made._repr_html_()
    assert told.format_shapes() == record_shapes(made)


def record_shapes(made):
    made.compute_log_prob()  # a recording knows them
    return made.format_shapes()


# -- format_shapes -------------------------------------------------------------------------------


def shapes_program(ppl, d):
    def model():
        ppl.param("a_long_name", torch.zeros(3, 1))
        ppl.param("s", torch.tensor(1.0))
        ppl.sample("x", d.Normal(torch.zeros(3, 2), 1.0).to_event(1))
        ppl.sample("yy", d.Normal(0.0, 1.0).expand([12, 1]), obs=torch.zeros(12, 1))
        ppl.sample("z", d.MultivariateNormal(torch.zeros(2), torch.eye(2)))

    return model


@pytest.mark.parametrize("scored", [False, True])
@pytest.mark.parametrize("settings", [{}, {"title": "T"}, {"last_site": "x"}, {"last_site": "s"}])
def test_format_shapes_is_pyros(scored, settings):
    ours = handlers.trace(shapes_program(pplkit, dist)).get_trace()
    theirs = pyro.poutine.trace(shapes_program(pyro, pyro_dist)).get_trace()
    pyro.clear_param_store()
    if scored:
        ours.compute_log_prob()
        theirs.compute_log_prob()
    assert ours.format_shapes(**settings) == theirs.format_shapes(**settings)
    assert pplkit.Trace().format_shapes() == pyro.poutine.Trace().format_shapes()


def test_format_shapes_of_plates_and_computed_values():
    def model():
        with plate("rows", 3):
            x = sample("x", dist.Normal(0.0, 1.0))
            deterministic("twice", 2 * x)

    lines = of(model).format_shapes().split("\n")
    assert [" ".join(line.split()) for line in lines] == [
        "Trace Shapes:",
        "Param Sites:",
        "Sample Sites:",
        "rows plate |",
        "value 3 |",
        "x dist 3 |",
        "value 3 |",
        "twice deterministic |",
        "value | 3",
    ]
