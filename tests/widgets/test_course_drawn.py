"""Stepper and model graph: what they hold is what the run and the model are."""

from __future__ import annotations

import json

import pplwidgets
import pytest
import torch

import pplkit
import pplkit.distributions as dist
from pplkit.handlers import seed, trace
from pplkit.inspect import record


def model(data):
    z = pplkit.sample("z", dist.Normal(0.0, 1.0))
    with pplkit.plate("data", len(data)):
        pplkit.sample("x", dist.Normal(z, 0.5), obs=data)


DATA = torch.tensor([0.5, 1.0, -1.0])


def test_a_stepper_replays_every_event():
    recording = record(trace(seed(model, rng_seed=1)).get_trace, DATA)
    figure = pplwidgets.stepper(recording)
    steps = figure._state["steps"]
    assert len(steps) == len(recording.events) + 1
    assert figure._by_name["step"].high == len(recording.events)
    for step, event in zip(steps, recording.events, strict=False):
        assert 0 <= step["at"] + 1 <= len(step["stack"]) + 1
        assert step["way"] == {"down": "down", "up": "up", "answer": "turn"}.get(event.kind, "none")
        if event.handler is not None:
            assert step["stack"][step["at"]] == event.handler.number
    assert steps[-1]["words"].endswith("has ended.")


def test_its_trace_is_the_trace():
    run = trace(seed(model, rng_seed=1)).get_trace(DATA)
    figure = pplwidgets.stepper(trace(seed(model, rng_seed=1)).get_trace, DATA)
    rows = figure._state["rows"]
    assert [row["cells"][0] for row in rows] == ["z", "data", "x"]
    scores = [row["cells"][3] for row in rows if row["cells"][3]]
    wanted = [run.nodes[name].log_prob.sum().item() for name in ("z", "x")]
    assert [float(score.replace("−", "-")) for score in scores] == pytest.approx(wanted, abs=1e-3)
    since = [row["since"] for row in rows]
    assert since == sorted(since) and all(row["since"] <= row["scored"] for row in rows)


def test_its_program_is_the_one_that_was_written():
    figure = pplwidgets.stepper(seed(model, rng_seed=0), DATA)
    assert figure._state["program"][0] == "def model(data):"
    lines = {step["line"] for step in figure._state["steps"] if step["line"] is not None}
    assert lines == {1, 2, 3}


def test_its_whole_state_is_json_and_goes_into_a_page():
    figure = pplwidgets.stepper()
    figure.step = 3
    made = figure.published()
    again = json.loads(json.dumps(made.page))
    assert again["kind"] == "stepper" and again["controls"][0]["initial"] == 3
    assert not made.files and not made.trouble


def test_a_failed_run_is_told_to_its_end():
    def wrong():
        pplkit.sample("x", dist.Normal(0.0, torch.tensor(-1.0)))

    words = pplwidgets.stepper(wrong)._state["steps"][-1]["words"]
    assert "x" in words


def test_a_run_too_long_to_step_through_is_refused():
    def long():
        for i in range(300):
            pplkit.sample(f"x_{i}", dist.Normal(0.0, 1.0))

    with pytest.raises(ValueError, match="900 events"):
        pplwidgets.stepper(long)


@pytest.mark.parametrize("sent", [None, "x", float("nan"), True])
def test_garbage_from_a_page_changes_nothing(opened_drawn, sent):
    figure, deliver = opened_drawn
    deliver(step=4)
    assert figure.step == 4
    deliver(step=sent, _state={}, _kind="other")
    assert figure.step == 4 and figure._kind == "stepper" and figure._state["steps"]
    deliver(step=10**9)
    assert figure.step == figure._by_name["step"].high


@pytest.fixture
def opened_drawn():
    figure = pplwidgets.stepper()
    return figure, lambda **state: figure.set_state(state)


# -- graphs ------------------------------------------------------------------------------------


def test_a_graph_has_a_drawing_for_every_setting():
    figure = pplwidgets.model_graph()
    places, drawings = figure._state["places"], figure._state["drawings"]
    assert len(places) == 8 * 2 * 2
    for key, (place, words) in places.items():
        schools, observed, fixed = json.loads(key)
        assert f"schools: {schools}" in drawings[place] and f"plate schools of {schools}" in words
        shaded = [n for n, on in (("y", observed), ("tau", fixed)) if on]
        assert (f"observed: {', '.join(sorted(shaded, key=['tau', 'y'].index))}" in words) == bool(
            shaded
        )


def test_a_graph_of_ones_own():
    def build(kind):
        family = {"normal": dist.Normal(0.0, 1.0), "counts": dist.Poisson(2.0)}[kind]
        return pplkit.render_model(lambda: pplkit.sample("x", family), render_distributions=True)

    figure = pplwidgets.model_graph(build, kind=["normal", "counts"], title="Two")
    assert list(figure._state["places"]) == ["[0]", "[1]"]
    assert "Poisson" in figure._state["drawings"][1]


def test_a_graph_with_too_many_settings_or_a_slider_is_refused():
    build = lambda n: pplkit.render_model(lambda: pplkit.sample("x", dist.Normal(0.0, 1.0)))
    with pytest.raises(ValueError, match="65 settings"):
        pplwidgets.model_graph(build, n=(1, 65))
    with pytest.raises(TypeError, match="n: a graph is drawn"):
        pplwidgets.model_graph(build, n=(0.0, 1.0))
