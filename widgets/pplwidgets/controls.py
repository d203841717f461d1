"""The controls of a figure, out of the shorthand of ipywidgets' `interact` or out of stock
widgets.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import ipywidgets
import traitlets

_RANGES = (
    ipywidgets.FloatSlider,
    ipywidgets.IntSlider,
    ipywidgets.BoundedFloatText,
    ipywidgets.BoundedIntText,
    ipywidgets.FloatProgress,
    ipywidgets.IntProgress,
    ipywidgets.FloatLogSlider,
)
_NUMBERS = (ipywidgets.FloatText, ipywidgets.IntText)
_CHECKS = (ipywidgets.Checkbox, ipywidgets.ToggleButton)
_SELECTS = (
    ipywidgets.Dropdown, ipywidgets.RadioButtons, ipywidgets.Select, ipywidgets.ToggleButtons,
    ipywidgets.SelectionSlider,
)  # fmt: skip
_TEXTS = (ipywidgets.Text, ipywidgets.Textarea)

_SHORTHAND = (
    "a control is (low, high), (low, high, step), True or False, a number, a text, a list or dict"
    " of choices,"
    " or an ipywidget with a single value"
)


@dataclass(eq=False)
class Control:
    """One control: what it accepts, and how the page shows it."""

    name: str
    kind: str  # range, number, check, select, text
    value: Any  # at the start
    label: str = ""
    low: float | None = None
    high: float | None = None
    step: float | None = None
    log: bool = False  # whether equal ways along the slider are equal factors, `step` the least
    whole: bool = False
    choices: list[tuple[str, Any]] = field(default_factory=list)
    widget: ipywidgets.Widget | None = None  # the author's own, linked both ways
    when: dict[str, list[str]] = field(default_factory=dict)  # for which choices it is shown
    play: bool = False  # whether a button moves it along
    refit: bool = False  # whether another choice is another picture, with axes of its own

    def __post_init__(self):
        self.label = self.label or self.name.replace("_", " ")

    # -- what it accepts ---------------------------------------------------------------------------
    def check(self, value) -> Any:
        """The value as the function gets it, or a `ValueError` that says what is accepted."""
        if self.kind in ("range", "number"):
            return self._number(value)
        if self.kind == "check":
            if isinstance(value, bool):
                return value
            raise ValueError(f"{self.name} is True or False, not {value!r}")
        if self.kind == "text":
            if isinstance(value, str):
                return value
            raise ValueError(f"{self.name} is a text, not {value!r}")
        return self.choices[self._place(value)][1]

    def _number(self, value):
        if isinstance(value, bool) or not isinstance(value, Real):
            raise ValueError(f"{self.name} is a number, not {value!r}")
        if not math.isfinite(value):
            raise ValueError(f"{self.name} is a finite number, not {value!r}")
        if self.whole and value != int(value):
            raise ValueError(f"{self.name} is a whole number, not {value!r}")
        value = int(value) if self.whole else float(value)
        if self.kind == "range" and not self.low <= value <= self.high:
            raise ValueError(f"{self.name} = {value:g} is outside {self.span()}")
        return value

    def _place(self, value) -> int:
        for place, (_, choice) in enumerate(self.choices):
            if choice is value or _equal(choice, value):
                return place
        raise ValueError(
            f"{self.name} is one of {', '.join(l for l, _ in self.choices)}; not {value!r}"
        )

    def between(self, share: float):
        """The value at this share of the way along the slider, 0 to 1."""
        if self.log:
            value = math.exp((1 - share) * math.log(self.low) + share * math.log(self.high))
        else:
            value = self.low + share * (self.high - self.low)
        return min(max(value, self.low), self.high)

    def span(self) -> str:
        return f"{self.low:g} … {self.high:g}".replace("-", "−")

    # -- on the wire -------------------------------------------------------------------------------
    def to_wire(self, value):
        """A number, a boolean, a text; of choices, the place in the list."""
        return self._place(value) if self.kind == "select" else value

    def from_wire(self, sent) -> tuple[Any, str]:
        """A value out of what the page sent, and a word if it had to be changed; `ValueError` for
        garbage.
        """
        if self.kind == "select":
            if (
                isinstance(sent, bool)
                or not isinstance(sent, Integral)
                or not 0 <= sent < len(self.choices)
            ):
                raise ValueError(
                    f"{self.label}: {sent!r} is not one of its {len(self.choices)} choices"
                )
            return self.choices[sent][1], ""
        if self.kind in ("check", "text"):
            return self.check(sent), ""
        if isinstance(sent, bool) or not isinstance(sent, Real) or math.isnan(sent):
            raise ValueError(
                f"{self.label}: {'nothing' if sent is None else repr(sent)} is not a number"
            )
        if self.kind == "number":
            return self.check(round(sent) if self.whole and math.isfinite(sent) else sent), ""
        held = min(max(sent, self.low), self.high)
        word = (
            ""
            if held == sent
            else f"{self.label}: {sent:g} is outside {self.span()}; held at {held:g}."
        )
        return self.check(round(held) if self.whole else held), word

    def describe(self) -> dict:
        """What the page needs to draw it."""
        said = {
            "name": self.name,
            "label": self.label,
            "kind": self.kind,
            "initial": self.to_wire(self.value),
        }
        if self.kind == "range":
            said |= {"low": self.low, "high": self.high}
        if self.kind in ("range", "number"):
            said |= {"step": self.step, "whole": self.whole}
        said |= {"log": True} if self.log else {}
        if self.kind == "select":
            said["choices"] = [label for label, _ in self.choices]
        said |= {"when": self.when} if self.when else {}
        said |= {key: True for key in ("play", "refit") if getattr(self, key)}
        return said

    def trait(self) -> traitlets.TraitType:
        """A synced trait that accepts what the control accepts."""
        return ControlTrait(self).tag(
            sync=True,
            to_json=lambda value, figure: self.to_wire(value),
            from_json=lambda sent, figure: self.from_wire(sent)[0],
        )


class ControlTrait(traitlets.TraitType):
    """Holds the value of one control."""

    def __init__(self, control: Control):
        super().__init__(default_value=control.value)
        self.control = control

    def validate(self, obj, value):
        try:
            return self.control.check(value)
        except ValueError as fault:
            obj._say(f"{fault}.")
            raise traitlets.TraitError(str(fault)) from None


@dataclass(frozen=True)
class Marked:
    """A control's description, and how the page treats it."""

    given: Any
    marks: Mapping[str, Any]


def marked(
    given, *, value=None, label: str = "", when=None, play: bool = False, refit: bool = False
) -> Marked:
    """A control that is more than its shorthand.

    Args:
        given: as anywhere: `(low, high)`, a list of choices, ...
        value: at the start, in place of the function's default.
        label: in place of its name.
        when: for which choices of other controls it is shown, as `{"family": ["Gamma", "Beta"]}`.
        play: whether a button beside the slider moves it from one end to the other.
        refit: whether another choice is another picture, to which the axes are fitted anew.

    >>> control("rate", marked((0.5, 2.0), when={"family": ["Gamma"]})).when
    {'family': ['Gamma']}
    """
    when = {name: [str(label) for label in labels] for name, labels in (when or {}).items()}
    marks = {"when": when, "play": play, "refit": refit}
    marks |= {"label": label} if label else {}
    return Marked(given, marks | ({} if value is None else {"value": value}))


def control(name: str, given, default=None) -> Control:
    """The control that `given` describes; `default` is the function's own default, taken as initial
    value.

    Raises `ValueError` or `TypeError` naming the control.
    """
    if isinstance(given, Marked):
        made = control(name, given.given, default)
        vars(made).update(given.marks)
        made.value = made.check(made.value)
        return made
    try:
        made = (
            _stock(name, given) if isinstance(given, ipywidgets.Widget) else _shorthand(name, given)
        )
        if made is None:
            raise TypeError(f"{given!r} describes no control; {_SHORTHAND}")
        if default is not None and made.widget is None and made.kind != "number":
            made.value = made.check(default)
        made.value = made.check(made.value)
    except (TypeError, ValueError) as fault:
        said = str(fault) if str(fault).startswith(name) else f"{name}: {fault}"
        raise type(fault)(said + ("" if said.endswith(".") else ".")) from None
    return made


def _shorthand(name: str, given) -> Control | None:
    if isinstance(given, bool):
        return Control(name, "check", given)
    if isinstance(given, str):
        return Control(name, "text", given)
    if isinstance(given, Real):
        low, high = sorted((-given, 3 * given)) if given else (0, 1)
        return _range(name, low, high, None, isinstance(given, Integral), given)
    if isinstance(given, tuple):
        if len(given) not in (2, 3) or not all(
            isinstance(g, Real) and not isinstance(g, bool) for g in given
        ):
            return None
        return _range(name, *given[:2], given[2] if len(given) == 3 else None,
                      all(isinstance(g, Integral) for g in given))  # fmt: skip
    if isinstance(given, Mapping):
        return _select(name, [(str(label), value) for label, value in given.items()])
    if isinstance(given, Iterable) and not hasattr(given, "__array__"):
        pairs = list(given)
        paired = all(isinstance(p, tuple) and len(p) == 2 and isinstance(p[0], str) for p in pairs)
        return _select(name, pairs if paired else [(str(value), value) for value in pairs])
    return None


def _range(name, low, high, step, whole, value=None) -> Control:
    if not all(map(math.isfinite, (low, high))) or low >= high:
        raise ValueError(f"its range must be finite and grow: low < high, not ({low:g}, {high:g})")
    if step is not None and not 0 < step <= high - low:
        raise ValueError(f"its step must be positive and fit into the range, not {step:g}")
    if value is None:
        value = (low + high) // 2 if whole else (low + high) / 2
    step = step or (1 if whole else _pleasant((high - low) / 200))
    return Control(name, "range", value, low=low, high=high, step=step, whole=whole)


def _select(name, choices) -> Control:
    if not choices:
        raise ValueError("a list of choices must not be empty")
    return Control(name, "select", choices[0][1], choices=choices)


def _stock(name: str, widget) -> Control:
    said = (
        dict(value=widget.value, label=widget.description, widget=widget)
        if hasattr(widget, "value")
        else {}
    )
    if isinstance(widget, _RANGES):
        return Control(name, "range", **said, **bounds(widget))
    if isinstance(widget, _NUMBERS):
        whole = isinstance(widget, ipywidgets.IntText)
        return Control(
            name, "number", **said, step=widget.step or (1 if whole else None), whole=whole
        )
    if isinstance(widget, _CHECKS):
        return Control(name, "check", **said)
    if isinstance(widget, _SELECTS):
        choices = list(zip(widget._options_labels, widget._options_values))
        if widget.index is None:
            widget.index = 0
        return Control(name, "select", **{**said, "value": widget.value}, choices=choices)
    if isinstance(widget, _TEXTS):
        return Control(name, "text", **said)
    raise TypeError(
        f"a {type(widget).__name__} holds no single number, choice or text; {_SHORTHAND}"
    )


def bounds(widget) -> dict:
    """Range and step of a stock slider."""
    whole = isinstance(widget.value, int)
    low, high, step = widget.min, widget.max, getattr(widget, "step", None)
    if isinstance(widget, ipywidgets.FloatLogSlider):
        low, high, step = widget.base**low, widget.base**high, widget.base ** (step or 0.1)
        return {"low": low, "high": high, "step": step, "log": True}
    step = step or (1 if whole else _pleasant((high - low) / 200))
    return {"low": low, "high": high, "step": step, "whole": whole}


def _pleasant(rough: float) -> float:
    """The 1, 2 or 5 times a power of ten just below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return float(f"{max(f for f in (1, 2, 5) if f * power <= rough * (1 + 1e-9)) * power:.12g}")


def _equal(one, other) -> bool:
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # values of any kind: what cannot be compared is not equal
        return False
