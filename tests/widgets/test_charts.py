"""Charts: types filled in, tables and columns checked, addresses refused."""

from __future__ import annotations

import altair as alt
import pytest
import torch

from pplwidgets import charts, tables

TABLES = tables.checked(
    {
        "data": {
            "x": torch.arange(3.0),
            "y": torch.zeros(3),
            "flag": torch.tensor([True, False, True]),
        },
        "points": {"z": torch.zeros(2)},
    }
)


def spec(chart):
    return charts.specification(chart, TABLES)


def test_missing_types_are_filled_in():
    made = spec(alt.Chart().mark_line().encode(x="x", y=alt.Y("y").title("height"), color="flag"))
    encoding = made["encoding"]
    assert {k: v["type"] for k, v in encoding.items()} == {
        "x": "quantitative", "y": "quantitative", "color": "nominal", "strokeDash": "nominal",
    }  # fmt: skip
    assert encoding["y"]["title"] == "height" and made["data"] == {"name": "data"}


def test_a_name_with_dots_or_brackets_is_one_column():
    made = charts.specification(
        alt.Chart().mark_line().encode(x="a.b", y="mean(m [kg]):Q", color=alt.Color("a.b", type="ordinal"),
                                       detail=r"a\.b"),
        tables.checked({"a.b": torch.ones(2), "m [kg]": torch.ones(2)}),
    )  # fmt: skip
    encoding = made["encoding"]
    assert encoding["x"] == {"field": r"a\.b", "type": "quantitative"}
    assert encoding["y"] == {"aggregate": "mean", "field": r"m \[kg\]", "type": "quantitative"}
    assert encoding["color"] == {"field": r"a\.b", "type": "ordinal"}
    assert encoding["detail"] == {"field": r"a\.b", "type": "quantitative"}


def test_given_types_stay():
    made = spec(
        alt.Chart().mark_bar().encode(x="x:O", y=alt.Y("y", type="ordinal"), tooltip=["x", "y:N"])
    )
    assert made["encoding"]["x"]["type"] == made["encoding"]["y"]["type"] == "ordinal"
    assert [t["type"] for t in made["encoding"]["tooltip"]] == ["quantitative", "nominal"]


def test_every_layer_reads_its_own_table():
    line = alt.Chart().mark_line().encode(x="x", y="y")
    ticks = alt.Chart(alt.NamedData("points")).mark_tick().encode(x="z")
    made = spec(line + ticks)
    assert charts.tables_read(made) == {"data", "points"}
    assert made["layer"][1]["encoding"]["x"]["type"] == "quantitative"


@pytest.mark.parametrize(
    "compose",
    [
        lambda a, b: a | b,
        lambda a, b: a & b,
        lambda a, b: alt.concat(a, b),
        lambda a, b: a.facet("flag"),
        lambda a, b: a.encode(row="flag"),
        lambda a, b: (
            alt.Chart()
            .mark_line()
            .encode(x=alt.X(alt.repeat("column"), type="quantitative"))
            .repeat(column=["x", "y"])
        ),
    ],
)  # fmt: skip
def test_composed_charts(compose):
    one = alt.Chart(alt.NamedData("data")).mark_line().encode(x="x", y="y")
    spec(compose(one, alt.Chart(alt.NamedData("points")).mark_point().encode(x="z")))


def test_values_of_the_charts_own_are_left_alone():
    own = alt.Chart(alt.Data(values=[{"q": 1}])).mark_rule().encode(x="q:Q")
    made = spec(own + alt.Chart().mark_line().encode(x="x", y="y"))
    assert charts.tables_read(made) >= {"data"}


def test_the_authors_chart_is_not_changed():
    chart = alt.Chart().mark_line().encode(x="x", y="y")
    before = repr(chart)
    spec(chart)
    assert repr(chart) == before


@pytest.mark.parametrize(
    ("chart", "words"),
    [
        (alt.Chart().mark_line().encode(x="xx"), "column 'xx' of table 'data'.*did you mean 'x'"),
        (
            alt.Chart(alt.NamedData("pionts")).mark_line().encode(x="z"),
            "'pionts'.*did you mean 'points'",
        ),
        (alt.Chart().mark_line().transform_calculate(w="1").encode(x="w"), "'name:Q'"),
        (alt.Chart("https://example.org/a.csv").mark_line().encode(x="x:Q"), "address.*url"),
        (alt.Chart(alt.UrlData("a.json")).mark_line().encode(x="x:Q"), "address.*url"),
        (alt.Chart().mark_image(url="//example.org/a.png").encode(x="x"), "address.*url"),
        (alt.Chart().mark_point(href="https://example.org").encode(x="x"), "address.*href"),
        (
            alt.Chart().mark_point().encode(x="x").transform_lookup(
                lookup="x", from_=alt.LookupData(alt.UrlData("b.csv"), "k", ["v"])
            ),
            "address.*url",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(chart, words):
    with pytest.raises(ValueError, match=words):
        spec(chart)


@pytest.mark.parametrize("thing", [None, "chart", {"mark": "line"}, 3])
def test_what_is_no_chart_is_refused(thing):
    with pytest.raises(TypeError, match="Altair chart"):
        spec(thing)


def test_colour_is_never_alone():
    line = spec(alt.Chart().mark_line().encode(x="x", y="y", color="flag:N"))
    point = spec(
        alt.Chart().mark_point().encode(x="x", y="y", color=alt.Color("flag:N").title("kind"))
    )
    shaped = spec(alt.Chart().mark_point().encode(x="x", y="y", color="flag:N", shape="x:N"))
    amount = spec(alt.Chart().mark_point().encode(x="x", y="y", color="y"))
    assert line["encoding"]["strokeDash"]["field"] == "flag"
    assert point["encoding"]["shape"] == {"field": "flag", "title": "kind", "type": "nominal"}
    assert shaped["encoding"]["shape"]["field"] == "x"
    assert "shape" not in amount["encoding"]
