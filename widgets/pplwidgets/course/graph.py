"""A model's graph that follows plate size and conditioning as they are changed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import torch

import pplkit.distributions as dist
from pplkit import plate, render_model, sample
from pplkit.handlers import condition
from pplkit.inspect import ModelGraph

from ..controls import Control, marked
from ..controls import control as make_control
from .drawn import Drawn

_MOST = 64  # drawings


def model_graph(
    build: Callable[..., ModelGraph] | None = None, /, *, title: str = "", **controls
) -> Drawn:
    """The graph of a model, in plate notation, for every setting of its controls.

    Args:
        build: takes the controls by name, returns a graph as `pplkit.render_model` makes it. Unless
            told, eight schools, whose plate size and conditioning are controls.
        title: stands above.
        controls: whole numbers `(low, high)`, booleans, or choices; 64 settings in all.

    Raises:
        TypeError, ValueError: a control with more settings than can be drawn beforehand.

    >>> figure = model_graph()
    >>> figure
    Drawn(schools=8, observe_effects=True, fix_tau=False)
    >>> len(figure._state["places"])
    32
    >>> figure.close()
    """
    if build is None:
        build, title = eight_schools, title or "Eight schools, in plate notation"
        controls = {
            "schools": marked((1, 8), value=8),
            "observe_effects": marked(True, label="observe the effects"),
            "fix_tau": marked(False, label="condition on tau = 5"),
            **controls,
        }
    made = {name: make_control(name, given) for name, given in controls.items()}
    settings = [_settings(each) for each in made.values()]
    many = 1
    for each in settings:
        many *= len(each)
    if many > _MOST:
        raise ValueError(f"These controls have {many} settings; {_MOST} can be drawn beforehand.")
    drawings: dict[str, int] = {}
    places = {}
    for picked in itertools.product(*settings):
        graph = build(**dict(zip(made, picked, strict=True)))
        svg = graph.svg()
        wire = [each.to_wire(value) for each, value in zip(made.values(), picked, strict=True)]
        key = json.dumps(wire, separators=(",", ":"))
        places[key] = [drawings.setdefault(svg, len(drawings)), _words(graph)]
    first = json.dumps([each.to_wire(each.value) for each in made.values()], separators=(",", ":"))
    state = {"drawings": list(drawings), "places": places}
    still = state["drawings"][places[first][0]]
    return Drawn("graph", state, controls, title=title or "The graph of a model", still=still)


def _settings(control: Control) -> list:
    if control.kind == "check":
        return [False, True]
    if control.kind == "select":
        return [value for _, value in control.choices]
    if control.kind == "range" and control.whole:
        return list(range(control.low, control.high + 1, int(control.step)))
    raise TypeError(
        f"{control.name}: a graph is drawn beforehand for every setting, so a control is a boolean,"
        " a choice, or a range of whole numbers."
    )


def _words(graph: ModelGraph) -> str:
    """The graph in a few sentences."""
    by_kind: dict[str, list[str]] = {}
    for name, node in graph.nodes.items():
        by_kind.setdefault(node["kind"], []).append(name)
    said = [f"{kind}: {', '.join(names)}" for kind, names in by_kind.items()]
    plates = [f"plate {name} of {plate['size']}" for name, plate in graph.plates.items()]
    arrows = ", ".join(f"{tail} → {head}" for tail, head in graph.edges)
    parts = "; ".join([*said, *plates])
    return f"{parts[:1].upper()}{parts[1:]}. Arrows: {arrows or 'none'}."


def eight_schools(
    schools: int = 8, observe_effects: bool = True, fix_tau: bool = False
) -> ModelGraph:
    """The graph of effects of coaching in some schools, observed with known errors.

    >>> eight_schools(schools=3).plates["schools"]["size"]
    3
    """
    effect = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])[:schools]
    error = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])[:schools]

    def model():
        mu = sample("mu", dist.Normal(0.0, 5.0))
        tau = sample("tau", dist.HalfCauchy(5.0))
        with plate("schools", schools):
            theta = sample("theta", dist.Normal(mu, tau))
            sample("y", dist.Normal(theta, error), obs=effect if observe_effects else None)

    given = condition(model, data={"tau": torch.tensor(5.0)}) if fix_tau else model
    return render_model(given, render_distributions=True)
