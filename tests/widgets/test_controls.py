"""Controls: the shorthand, stock widgets, links, and what is refused."""

from __future__ import annotations

import altair as alt
import ipywidgets
import pytest
import torch
import traitlets

import pplwidgets
from pplwidgets.controls import control, marked

CHART = alt.Chart().mark_line().encode(x="x", y="y")


def columns(**controls):
    numbers = [float(v) for v in controls.values() if isinstance(v, (int, float, bool))]
    return {"x": torch.tensor([0.0, 1.0]), "y": torch.tensor([0.0, sum(numbers)])}


def figure(**controls):
    return pplwidgets.live(columns, CHART, **controls)


def described(**controls):
    (one,) = figure(**controls)._controls
    return one


@pytest.mark.parametrize(
    ("given", "value", "expected"),
    [
        (
            (-3.0, 3.0),
            0.0,
            {"kind": "range", "low": -3.0, "high": 3.0, "step": 0.02, "whole": False},
        ),
        ((1, 500), 250, {"kind": "range", "low": 1, "high": 500, "step": 1, "whole": True}),
        ((0, 10, 2), 5, {"kind": "range", "step": 2, "whole": True}),
        ((0.0, 0.05, 0.01), 0.025, {"kind": "range", "step": 0.01}),
        ((0.0, 1), 0.5, {"kind": "range", "whole": False, "step": 0.005}),
        (2.0, 2.0, {"kind": "range", "low": -2.0, "high": 6.0}),
        (7, 7, {"kind": "range", "low": -7, "high": 21, "whole": True}),
        (True, True, {"kind": "check"}),
        ("hello", "hello", {"kind": "text"}),
        (["a", "b"], "a", {"kind": "select", "choices": ["a", "b"], "initial": 0}),
        ({"few": 3, "many": 300}, 3, {"kind": "select", "choices": ["few", "many"]}),
        ([("few", 3), ("many", 300)], 3, {"kind": "select", "choices": ["few", "many"]}),
        (ipywidgets.FloatSlider, 0.0, {"kind": "range", "low": 0.0, "high": 100.0, "step": 0.1}),
        (ipywidgets.IntSlider, 0, {"kind": "range", "whole": True, "step": 1}),
        (ipywidgets.FloatText, 0.0, {"kind": "number", "whole": False}),
        (ipywidgets.IntText, 0, {"kind": "number", "whole": True}),
        (ipywidgets.BoundedIntText, 0, {"kind": "range", "low": 0, "high": 100}),
        (ipywidgets.Checkbox, False, {"kind": "check"}),
        (ipywidgets.Text, "", {"kind": "text"}),
    ],
    ids=str,
)
def test_shorthand(given, value, expected):
    made = figure(mu=given() if isinstance(given, type) else given)
    assert made.mu == value and type(made.mu) is type(value)
    assert expected.items() <= made._controls[0].items()


def test_labels_come_from_the_name_or_from_the_widget():
    assert described(prior_mean=(0.0, 1.0))["label"] == "prior mean"
    slider = ipywidgets.FloatSlider(description="spread", min=1, max=4, step=0.5, value=2)
    assert described(mu=slider)["label"] == "spread"


def test_a_default_of_the_function_is_the_initial_value():
    def fn(mu=1.5, kind="b"):
        return {"x": torch.zeros(1), "y": torch.zeros(1)}

    made = pplwidgets.live(fn, CHART, mu=(-3.0, 3.0), kind=["a", "b"])
    assert (made.mu, made.kind) == (1.5, "b")


@pytest.mark.parametrize(
    ("controls", "words"),
    [
        ({"mu": (3.0, -3.0)}, "mu.*low < high"),
        ({"mu": (0.0, 1.0, -0.1)}, "mu.*step"),
        ({"mu": (0.0, float("inf"))}, "mu.*finite"),
        ({"mu": (1, 2, 3, 4)}, "mu.*describes no control"),
        ({"mu": []}, "mu.*empty"),
        ({"mu": None}, "mu.*describes no control"),
        ({"mu": ipywidgets.IntRangeSlider()}, "mu.*IntRangeSlider holds no single"),
        ({"mu": ipywidgets.Button()}, "mu.*Button holds no single"),
        ({"layout": (0.0, 1.0)}, "layout.*widgets use themselves.*Rename"),
        ({"tables": (0.0, 1.0)}, "tables.*Rename"),
        ({"_mu": (0.0, 1.0)}, "_mu.*Rename"),
    ],
)
def test_what_describes_no_control_is_refused_by_name(controls, words):
    with pytest.raises((TypeError, ValueError), match=words):
        figure(**controls)


def test_controls_must_fit_the_function():
    def fn(prior_mean, sigma=1.0):
        return {"x": torch.zeros(1), "y": torch.zeros(1)}

    with pytest.raises(TypeError, match="takes no 'prior_maen'.*did you mean 'prior_mean'"):
        pplwidgets.live(fn, CHART, prior_mean=(0.0, 1.0), prior_maen=(0.0, 1.0))
    with pytest.raises(TypeError, match="needs 'prior_mean'.*no such control"):
        pplwidgets.live(fn, CHART)


@pytest.mark.parametrize("value", [9.0, -3.1, float("nan"), float("inf"), "1", None, True, [1.0]])
def test_python_cannot_set_what_a_control_does_not_accept(value):
    made = figure(mu=(-3.0, 3.0))
    with pytest.raises(traitlets.TraitError, match="mu"):
        made.mu = value
    assert made.mu == 0.0


def test_a_whole_control_takes_whole_numbers():
    made = figure(n=(1, 10))
    made.n = 4.0
    assert made.n == 4 and type(made.n) is int
    with pytest.raises(traitlets.TraitError, match="whole"):
        made.n = 4.5


def test_choices_hold_values_and_send_places(opened):
    made = pplwidgets.live(
        lambda kind: {"x": kind.reshape(-1), "y": kind.reshape(-1)},
        CHART,
        kind={"few": torch.zeros(2), "many": torch.ones(5)},
    )
    page = opened(made)
    page.set(kind=1)
    assert made.settle(60)
    assert len(made.kind) == 5 and len(page.picture()["data"]["x"]) == 5
    assert repr(made) == "LiveFigure(kind='many')"
    with pytest.raises(traitlets.TraitError, match="one of few, many"):
        made.kind = "many"


# -- links
# ------------------------------------------------------------------------------------------------


def test_a_stock_widget_stays_linked_both_ways(opened):
    slider = ipywidgets.FloatSlider(min=-1, max=2, step=0.25, value=0.5)
    made = figure(mu=slider)
    page = opened(made)
    slider.value = 1.25
    assert made.mu == 1.25 and page.state("mu") == 1.25
    page.set(mu=-0.75)
    assert slider.value == -0.75


def test_what_a_stock_widget_says_of_itself_later_is_followed(opened):
    slider = ipywidgets.IntSlider(min=0, max=10, value=8)
    made = figure(n=slider)
    page = opened(made)
    slider.max = 5
    slider.description = "rows"
    assert made.n == 5
    assert {"high": 5, "label": "rows"}.items() <= page.state("_controls")[0].items()
    slider.max = 40
    slider.value = 30
    assert made.n == 30


def test_a_stock_dropdown_shares_its_choices():
    dropdown = ipywidgets.Dropdown(options={"one": 1, "two": 2}, value=2)
    made = figure(n=dropdown)
    assert made.n == 2 and made._controls[0]["choices"] == ["one", "two"]
    made.n = 1
    assert dropdown.value == 1


def test_a_logarithmic_slider_has_the_range_of_its_values():
    made = figure(rate=ipywidgets.FloatLogSlider(min=-2, max=1, value=0.1))
    assert {"low": 0.01, "high": 10.0, "log": True}.items() <= made._controls[0].items()
    control = made._by_name["rate"]
    assert [round(control.between(share), 6) for share in (0, 1 / 3, 1)] == [0.01, 0.1, 10.0]


def test_a_marked_control_may_start_at_zero():
    assert control("step", marked((0, 9), value=0)).value == 0


def test_links_of_every_kind():
    made, other = figure(mu=(-3.0, 3.0)), figure(mu=(-3.0, 3.0))
    text = ipywidgets.FloatText()
    ipywidgets.link((made, "mu"), (text, "value"))
    traitlets.link((made, "mu"), (other, "mu"))
    ipywidgets.jslink((made, "mu"), (ipywidgets.FloatSlider(), "value"))
    heard = []
    made.observe(lambda change: heard.append(change.new), "mu")
    text.value = 1.5
    assert (made.mu, other.mu, heard) == (1.5, 1.5, [1.5])
    other.mu = -2.0
    assert text.value == -2.0


def test_closing_lets_go_of_stock_widgets():
    slider = ipywidgets.FloatSlider(min=0, max=1)
    made = figure(mu=slider)
    made.close()
    slider.value = 0.5
    assert made.mu == 0.0
