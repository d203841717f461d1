"""What a book carries of a live figure, so that its page computes it where no kernel is.

While a book is built, a figure's function is captured, and goes into the page's output as ONNX: one
program for each combination of choices, with continuous controls, plate sizes and base noise as
inputs. `pplwidgets.sphinx` puts all that where the pages find it. Beside it goes a contract: random
settings with torch's answers, to hold the page to.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import itertools
import json
import logging
import math
import os
import pickle
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pplkit.errors import CaptureError, PplkitError
from pplkit.params import ParamStore

from . import tables
from .charts import tables_read
from .noise import numbers

if TYPE_CHECKING:
    from .figure import LiveFigure

WAYS = ("graph", "table", "picture")
# Set, in the environment of a kernel, while a book is built: a folder of that build alone.
VARIABLE = "PPLWIDGETS_BOOK"
MIME = "application/vnd.pplwidgets.figure+json"
VERSION = 1
TOLERANCE = 1e-4  # |page - torch| <= TOLERANCE * (1 + |torch|)
_PROGRAMS = 64  # that one figure may take
_SETTINGS = 20  # of a contract, or as many as there are choices
_REPLAYED = 4  # of which the graph is held to already here
_SIZES = 400  # combinations of whole numbers that are asked for their program
_LOOKED_AT = 20_000  # of which it is seen whether there is one
_GRID = 600  # settings of a table
_STOPS = 41  # of one control, in a table
_BYTES = 8_000_000  # of a table


class Unpublished(Exception):
    """A figure that stays a picture in the book, and why."""


@dataclass
class Published:
    """A figure as a book carries it.

    Attributes:
        page: what the page reads: chart, controls, words, the first state, which program is for
            which settings.
        files: by name, what `page` refers to: packed models, or a table's numbers.
        contract: settings, the noise that they take, and torch's answers.
        trouble: why the figure stays a picture, if it does against its author's wish.
    """

    page: dict = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    contract: dict = field(default_factory=dict)
    trouble: str = ""

    def embedded(self) -> str:
        """All of it as one element of a page, which shows nothing."""
        files = {name: base64.b64encode(data).decode() for name, data in self.files.items()}
        said = {"page": self.page, "files": files, "contract": self.contract}
        text = json.dumps({**said, "trouble": self.trouble}, separators=(",", ":"))
        return f'<script type="{MIME}">{text.replace("</", "<" + chr(92) + "/")}</script>'


def wanted() -> bool:
    """Whether a book is being built."""
    return bool(os.environ.get(VARIABLE))


def published(figure: LiveFigure) -> Published:
    """All that a page needs to compute the figure.

    What cannot be published is told in `trouble`, with the operation and the author's line.

    >>> import altair as alt, pplwidgets
    >>> def square(mu):
    ...     x = torch.linspace(-2.0, 2.0, 5)
    ...     return {"x": x, "y": (x - mu) ** 2}
    >>> chart = alt.Chart().mark_line().encode(x="x", y="y")
    >>> made = published(pplwidgets.live(square, chart, mu=(-1.0, 1.0)))
    >>> [given["control"] for given in made.page["programs"][0]["inputs"]]
    ['mu']
    """
    made = Published()
    if figure.publish == "picture":
        return made
    try:
        with _quiet():
            made.page = _page(figure)
            known = _made_before(figure)
            if known is not None and known.is_file():
                page, made.files, made.contract = pickle.loads(known.read_bytes())
                made.page.update(page)
                return made
            if figure.publish == "table":
                _add_table(figure, made)
            else:
                _add_programs(figure, made)
            _add_contract(figure, made)
            if known is not None:
                _remember(known, made)
    except (Unpublished, PplkitError, ImportError) as fault:
        return Published(trouble=_with_remedy(str(fault), figure.publish))
    except Exception as fault:  # exporters raise of all kinds; the book goes on with a picture
        said = f"It cannot be made a graph. {type(fault).__name__}: {fault}"
        return Published(trouble=_with_remedy(said, figure.publish))
    return made


def _with_remedy(trouble: str, way: str) -> str:
    if way == "table" or "publish=" in trouble:
        return trouble
    return f'{trouble}\n  or else:  publish it as a table of results: live(..., publish="table")'


@contextmanager
def _quiet():
    """Exporters talk; a notebook's output is the author's."""
    nowhere, level = io.StringIO(), logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(nowhere), redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


# -- once for all pages ----------------------------------------------------------------------------


def _made_before(figure: LiveFigure) -> Path | None:
    """Where the programs of a figure of ours are kept while one book is built, for all pages that
    show it; None for a figure whose function is not known to be the same on another page.
    """
    folder = os.environ.get(VARIABLE, "")
    shifting = any(made.kind in ("number", "text") for made in _controls(figure))
    if figure.publish != "graph" or shifting or not os.path.isdir(folder):
        return None
    controls = [made.describe() for made in _controls(figure)]
    try:
        told = repr((_fingerprint(figure._fn), controls))
    except TypeError:
        return None
    return Path(folder, f"{hashlib.sha256(told.encode()).hexdigest()}.figure")


def _fingerprint(part: Any) -> Any:
    """What tells a function of this package, with all that it closes over, from others.

    Raises:
        TypeError: that cannot be told.
    """
    if part is None or isinstance(part, (bool, int, float, str)):
        return part
    if isinstance(part, Tensor):
        return str(part.dtype), tuple(part.shape), part.tolist()
    if isinstance(part, (tuple, list)):
        return [_fingerprint(each) for each in part]
    if isinstance(part, dict):
        return [(_fingerprint(key), _fingerprint(value)) for key, value in part.items()]
    ours = getattr(part, "__module__", "").partition(".")[0] in (__package__, "pplkit")
    if ours and isinstance(part, type):
        return part.__module__, part.__qualname__
    if ours and isinstance(part, FunctionType):
        held = [cell.cell_contents for cell in part.__closure__ or ()]
        kept = _fingerprint([*held, part.__defaults__, part.__kwdefaults__])
        return part.__module__, part.__qualname__, kept
    raise TypeError(f"{part!r} may be another on another page")


def _remember(place: Path, made: Published) -> None:
    page = {name: made.page[name] for name in ("programs", "failing")}
    new = place.with_suffix(f".{os.getpid()}")
    new.write_bytes(pickle.dumps((page, made.files, made.contract)))
    new.replace(place)  # in one move: kernels of several pages may be at it


# -- what every page reads -------------------------------------------------------------------------


def _page(figure: LiveFigure) -> dict:
    """Chart, controls and words; the figure starts as it is now."""
    wire = _wire(figure, _now(figure))
    controls = [{**made.describe(), "initial": wire[made.name]} for made in _controls(figure)]
    for said in controls:
        if said["kind"] == "text":
            said["fixed"] = True
    first, data = tables.packed(figure.tables)
    return {
        "version": VERSION,
        "spec": figure._spec,
        "controls": controls,
        "words": {**figure._words, "seed": figure.seed},
        "drawn": sorted(tables_read(figure._spec)),
        "first": {"tables": first, "data": base64.b64encode(b"".join(data)).decode()},
        "programs": [],
        "failing": [],
    }


def _told(fault: BaseException) -> str:
    return f"{type(fault).__name__}: {fault}".strip(": ")


def _controls(figure: LiveFigure) -> list:
    return list(figure._by_name.values())


def _now(figure: LiveFigure) -> dict:
    return {made.name: getattr(figure, made.name) for made in _controls(figure)}


def _wire(figure: LiveFigure, settings: Mapping) -> dict:
    return {name: figure._by_name[name].to_wire(value) for name, value in settings.items()}


def _stored(made: Published, data: bytes, ending: str) -> str:
    """Puts bytes among the files, packed; returns their name, which is that of their contents."""
    name = f"{hashlib.sha256(data).hexdigest()[:16]}{ending}.gz"
    made.files[name] = gzip.compress(data, 9, mtime=0)
    return name


def _choices(control) -> list:
    """What a control can be, if that is a short list."""
    if control.kind == "check":
        return [False, True]
    return [value for _, value in control.choices]


# -- as graphs -------------------------------------------------------------------------------------


def _add_programs(figure: LiveFigure, made: Published) -> None:
    kinds = {made.name: made.kind for made in _controls(figure)}
    discrete = [c for c in _controls(figure) if c.kind in ("check", "select")]
    moving = [c for c in _controls(figure) if c.kind in ("range", "number")]
    many = math.prod(len(_choices(c)) for c in discrete)
    if many > _PROGRAMS:
        raise Unpublished(
            f"Its choices make {many} combinations, each a program of its own; {_PROGRAMS} are"
            ' possible. Publish it as a table, live(..., publish="table"), or with fewer choices.'
        )
    texts = {name: getattr(figure, name) for name in kinds if kinds[name] == "text"}
    for picked in itertools.product(*(_choices(c) for c in discrete)):
        chosen = {c.name: value for c, value in zip(discrete, picked, strict=True)}
        made.page["programs"] += _programs(figure, made, {**texts, **chosen}, moving)
    for said in made.page["controls"]:  # without a lower end, whole numbers stay positive
        if said["kind"] == "number" and said["whole"]:
            said["low"] = min(1, said["initial"])


def _programs(figure: LiveFigure, made: Published, chosen: dict, moving: list) -> list[dict]:
    """The programs for one combination of choices."""
    from pplkit.capture import capture

    added = {c.name: _added(c) for c in moving if c.whole}

    def controls_to_columns(controls):
        given = {name: value - added.get(name, 0) for name, value in controls.items()}
        with ParamStore():  # as in a kernel, where a figure meets no parameters but its own
            return _columns(figure._fn(**{**chosen, **given}))

    def arguments(settings):
        values = {c.name: settings[c.name] for c in moving}
        return {name: value + added.get(name, 0) for name, value in values.items()}

    captured = capture(controls_to_columns, arguments(_now(figure)), check=False)

    def serves(settings):
        return captured.serves(arguments(settings))

    found: dict[int, dict] = {}
    when = _wire(figure, chosen)
    fails = 0
    for settings in itertools.chain(_sizes(figure, moving), _unserved(figure, moving, serves)):
        try:
            program = captured._program_for([arguments(settings)])[0]
        except CaptureError:
            raise
        except Exception as fault:  # here the function fails, and a kernel would say so
            whole = {c.name: settings[c.name] for c in moving if c.whole}
            made.page["failing"].append({"when": {**when, **whole}, "text": _told(fault)})
            fails += 1
            if fails >= _SIZES:
                break  # the page says of the others that it does not have them
            continue
        found.setdefault(id(program), arguments(settings))
    described = [_described(made, captured, given, when, added) for given in found.values()]
    _check_replay(figure, captured, arguments, chosen, moving)
    return described


def _added(control) -> int:
    """What is added to a whole number, so that a program may take it for a size."""
    return 1 - control.low if control.low is not None and control.low < 1 else 0


def _columns(returned) -> dict:
    """What a function returned, as `tables.checked` has it, of sizes that are open."""
    made = tables.nested(returned)
    return {
        table: {name: tables.column(table, name, values) for name, values in columns.items()}
        for table, columns in made.items()
    }


def _spans(figure: LiveFigure, moving: list) -> tuple[list[range], Callable[[tuple], dict]]:
    """The spans of sliders of whole numbers, and the settings in which these stand where they are
    told to, the other controls as they are now.
    """
    now = _now(figure)
    whole = [c for c in moving if c.whole and c.kind == "range"]

    def at(picked):
        return {**now, **{c.name: value for c, value in zip(whole, picked, strict=True)}}

    return [range(c.low, c.high + 1) for c in whole], at


def _sizes(figure: LiveFigure, moving: list) -> Iterator[dict]:
    """Settings that call for each program there may be: whole numbers may decide which."""
    spans, at = _spans(figure, moving)
    if math.prod(map(len, spans)) <= _SIZES:
        picks = itertools.product(*spans)
    else:
        drawn = random.Random(0)
        ends = itertools.product(*([span[0], span[1], span[-1]] for span in spans))
        among = ([drawn.choice(span) for span in spans] for _ in range(_SIZES // 4))
        picks = itertools.chain(itertools.islice(ends, _SIZES), among)
    yield _now(figure)
    yield from map(at, picks)


def _unserved(figure: LiveFigure, moving: list, serves) -> Iterator[dict]:
    """Of many settings of whole numbers those for which there is no program yet."""
    spans, at = _spans(figure, moving)
    many = math.prod(map(len, spans))
    if many <= _SIZES:  # all of them have been asked for
        return
    drawn = random.Random(1)
    among = ([drawn.choice(span) for span in spans] for _ in range(_LOOKED_AT))
    picks = itertools.product(*spans) if many <= _LOOKED_AT else among
    yield from itertools.filterfalse(serves, map(at, picks))


def _described(made: Published, captured, given: dict, when: dict, added: dict) -> dict:
    """One program as ONNX, and what the page must know of it."""
    onnx = captured.to_onnx(given)
    name = _stored(made, _closed_in(onnx), ".onnx")
    sizes = {}
    for size, known in onnx.sizes.items():
        control = size.removeprefix("controls_")
        sizes[size] = {"control": control, "add": added.get(control, 0), "least": known["least"]}
    fixed = {
        control: value - added[control]
        for control, value in given.items()
        if control in added and f"controls_{control}" not in sizes
    }
    inputs = []
    for entry in onnx.inputs:
        said = {key: entry[key] for key in ("name", "dtype", "shape")}
        if entry["kind"] == "argument":
            control = entry["path"][-1]
            inputs.append({**said, "control": control, "add": added.get(control, 0)})
        elif entry["kind"] == "noise":
            draw = entry["draw"] + 1
            inputs.append({**said, "draw": draw, "distribution": entry["distribution"]})
    outputs = [
        {"name": out["name"], "table": out["path"][0], "column": out["path"][1]}
        | {"boolean": out["dtype"] == "bool"}
        for out in onnx.outputs
    ]
    conditions = [each for each in onnx.conditions if each is not True]
    return {
        "model": name,
        "when": {**when, **fixed},
        "sizes": sizes,
        "conditions": conditions,
        "inputs": inputs,
        "outputs": outputs,
    }


def _closed_in(onnx) -> bytes:
    """The model, with the tensors that the function closes over inside."""
    if not onnx.closed:
        return onnx.model_bytes
    from onnx import load_from_string, numpy_helper

    model = load_from_string(onnx.model_bytes)
    for entry in [each for each in model.graph.input if each.name in onnx.closed]:
        value = onnx.closed[entry.name].detach().cpu().contiguous().numpy()
        model.graph.input.remove(entry)
        model.graph.initializer.append(numpy_helper.from_array(value, entry.name))
    return model.SerializeToString(deterministic=True)


def _check_replay(figure, captured, arguments, chosen, moving) -> None:
    """Hold the graph to the function itself, at a few settings."""
    for settings, seed in _random_settings(figure, _REPLAYED):
        settings = {**settings, **chosen}
        try:
            wanted = _answers(figure, settings, seed)
        except Exception:  # a learner's function may raise anything: then there is no picture
            continue
        given = arguments(settings)
        program, _, sizes = captured._program_for([given])
        noise = _noise(program.traced.noise, sizes, seed)
        got = captured(given, noise=noise)
        for table, columns in wanted.items():
            for name, column in columns.items():
                if not agree(got[table][name], column):
                    raise Unpublished(
                        f"At {_said(settings)}, the captured graph gives other numbers for"
                        f" {table}.{name} than the function. Does it draw from a seed or generator"
                        " of its own, or keep something from one call to the next? Publish it as a"
                        ' table instead: live(..., publish="table").'
                    )


def agree(one: Tensor, other: Tensor) -> bool:
    """Whether two columns hold the same numbers, as far as a page is held to them."""
    one, other = one.double(), other.double()
    if one.shape != other.shape:
        return False
    far = (one - other).abs() > TOLERANCE * (1 + other.abs())
    return not bool((far & torch.isfinite(other)).any())


def _noise(specs, sizes, seed: int) -> list[Tensor]:
    from pplkit.capture.program import evaluated

    return [
        numbers(seed, i + 1, s.kind, tuple(evaluated(n, sizes) for n in s.shape), s.dtype, s.device)
        for i, s in enumerate(specs)
    ]


def _said(settings: Mapping) -> str:
    return ", ".join(f"{name} = {value}" for name, value in settings.items()) or "the start"


# -- as a table ------------------------------------------------------------------------------------


def _add_table(figure: LiveFigure, made: Published) -> None:
    """Answers at the points of a grid over the controls."""
    axes = _axes(figure)
    heads, rows, data = None, [], []
    for picked in itertools.product(*axes.values()):
        settings = {**_now(figure), **dict(zip(axes, picked, strict=True))}
        try:
            packed, buffers = tables.packed(_answers(figure, settings, figure.seed))
        except Exception:  # at some settings it may fail, as it does in a kernel
            rows.append(None)
            continue
        counts = [table.pop("rows") for table in packed]
        if heads not in (None, packed):
            raise Unpublished("As a table it must return the same columns at every setting.")
        heads = packed
        rows.append(counts)
        data.append(b"".join(buffers))
    if sum(map(len, data)) > _BYTES:
        raise Unpublished(
            f"As a table it takes {sum(map(len, data)) / 1e6:.0f} MB; {_BYTES / 1e6:.0f} are"
            " possible. Return fewer rows."
        )
    named = [
        {"control": name, "values": [figure._by_name[name].to_wire(value) for value in values]}
        for name, values in axes.items()
    ]
    for said in made.page["controls"]:
        values = axes.get(said["name"])
        if values is None:
            said["fixed"] = True
        elif said["kind"] == "range" and said.get("log"):
            said["step"] = (said["high"] / said["low"]) ** (1 / (len(values) - 1))
        elif said["kind"] == "range":
            said["step"] = (said["high"] - said["low"]) / max(1, len(values) - 1)
    made.page["words"] = {**made.page["words"], "random": False}
    name = _stored(made, b"".join(data), ".table")
    made.page["grid"] = {"data": name, "axes": named, "heads": heads, "rows": rows}


def _axes(figure: LiveFigure) -> dict[str, list]:
    """Per control, the values at which a table is computed; the present one among them."""
    short = [c for c in _controls(figure) if c.kind in ("check", "select")]
    long = [c for c in _controls(figure) if c.kind == "range"]
    many = math.prod(len(_choices(c)) for c in short)
    stops = min(_STOPS, int((_GRID / many) ** (1 / max(1, len(long))) + 1e-9))
    if long and stops < 3:
        raise Unpublished(
            f"As a table its controls make more than {_GRID} settings, with three stops to each."
            " Publish it with fewer controls."
        )
    axes = {c.name: _choices(c) for c in short}
    for control in long:
        axes[control.name] = _stops(control, getattr(figure, control.name), stops)
    return axes


def _stops(control, now, many: int) -> list:
    """Values from one end of a range to the other, the present one among them."""
    if control.whole:
        many = min(many, control.high - control.low + 1)
    values = [control.between(i / (many - 1)) for i in range(many)]
    values = sorted({round(v) if control.whole else float(f"{v:.10g}") for v in values})
    nearest = min(range(len(values)), key=lambda i: abs(values[i] - now))
    values[nearest] = now
    return sorted(set(values))


# -- the contract ----------------------------------------------------------------------------------


def _add_contract(figure: LiveFigure, made: Published) -> None:
    settings = []
    grid = made.page.get("grid")
    short = [c for c in _controls(figure) if c.kind in ("check", "select")]
    choices = min(_PROGRAMS, math.prod(len(_choices(c)) for c in short))
    for at, seed in _random_settings(figure, max(_SETTINGS, choices)):
        if grid:
            at, seed = _on_grid(figure, grid, at), figure.seed
        wire = _wire(figure, at)
        entry = {"controls": wire, "seed": seed}
        try:
            entry["answers"] = _written(_answers(figure, at, seed))
        except Exception as fault:  # the kernel would show this in the figure
            entry["fails"] = _told(fault)
        program = next((p for p in made.page["programs"] if _serves(p, wire)), None)
        if program is not None:
            entry["model"] = program["model"]
            entry["noise"] = _noise_of(program, wire, seed)
        settings.append(entry)
    made.contract = {"version": VERSION, "tolerance": TOLERANCE, "settings": settings}


def _random_settings(figure: LiveFigure, many: int) -> Iterator[tuple[dict, int]]:
    """Settings of the controls and seeds; the ends of all ranges first, all choices in turn."""
    drawn = random.Random(f"{figure!r}")
    turns = {c.name: _choices(c) for c in _controls(figure) if c.kind in ("check", "select")}
    if math.prod(map(len, turns.values())) <= _LOOKED_AT:
        picks = list(itertools.product(*turns.values()))
        drawn.shuffle(picks)
    else:
        picks = [[drawn.choice(choices) for choices in turns.values()] for _ in range(many)]
    picks = [dict(zip(turns, each, strict=True)) for each in picks]
    for place in range(many):
        settings = {}
        for made in _controls(figure):
            if made.kind == "text":
                value = getattr(figure, made.name)
            elif made.name in turns:
                value = picks[place % len(picks)][made.name]
            else:
                value = _random_number(made, drawn, place, getattr(figure, made.name))
            settings[made.name] = value
        yield settings, drawn.randrange(2**32)


def _random_number(made, drawn, place: int, now):
    if made.low is None:
        low, high = (min(1, now), max(20, 2 * now)) if made.whole else (now - 2, now + 2)
        made = replace(made, low=low, high=high)
    share = drawn.random()
    if place < 2:
        return (made.low, made.high)[place]
    value = made.between(share)
    return round(value) if made.whole else float(f"{value:.6g}")


def _on_grid(figure: LiveFigure, grid: dict, settings: dict) -> dict:
    found = dict(_now(figure))
    for axis in grid["axes"]:
        control, wanted = figure._by_name[axis["control"]], settings[axis["control"]]
        if control.kind == "range":
            found[control.name] = min(axis["values"], key=lambda value: abs(value - wanted))
        else:
            found[control.name] = wanted
    return found


def _answers(figure: LiveFigure, settings: dict, seed: int) -> tables.Tables:
    return figure.evaluate(seed=seed, **settings)


def _written(answers: tables.Tables) -> dict:
    def number(value):
        value = float(value)
        return float(f"{value:.9g}") if math.isfinite(value) else None

    return {
        table: {name: [number(v) for v in column.tolist()] for name, column in columns.items()}
        for table, columns in answers.items()
    }


def _serves(program: dict, wire: dict) -> bool:
    from pplkit.capture.onnx import OnnxProgram

    if any(wire[name] != value for name, value in program["when"].items()):
        return False
    sizes = _sizes_at(program, wire)
    enough = all(sizes[name] >= known["least"] for name, known in program["sizes"].items())
    return enough and all(OnnxProgram.at(each, sizes) for each in program["conditions"])


def _sizes_at(program: dict, wire: dict) -> dict:
    return {name: wire[known["control"]] + known["add"] for name, known in program["sizes"].items()}


def _noise_of(program: dict, wire: dict, seed: int) -> list[dict]:
    """What the inputs of noise hold: `noise.numbers(seed, draw, distribution, shape)`."""
    from pplkit.capture.onnx import OnnxProgram

    sizes = _sizes_at(program, wire)
    return [
        {key: given[key] for key in ("name", "draw", "distribution", "dtype")}
        | {"seed": seed, "shape": [OnnxProgram.at(size, sizes) for size in given["shape"]]}
        for given in program["inputs"]
        if "draw" in given
    ]


def settings_of(contract: dict) -> list[dict[str, Any]]:
    """The settings that a contract holds a page to."""
    return [each for each in contract["settings"] if "answers" in each]


__all__ = ["Published", "published", "wanted"]
