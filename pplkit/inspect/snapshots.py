"""Values as a recording keeps them: copies that later changes cannot reach, and their text in JSON.

`taken` makes a copy; `Writer` and `Reader` turn copies into plain JSON and back, exactly: types,
shapes, NaN and infinities. What has no such form (a function, an object) is kept as a line of text.
"""

from __future__ import annotations

import base64
import ctypes
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from .. import checks, display, errors
from ..effects import PlateFrame
from ..primitives import Subsample

_INLINE = 1000  # tensors with more elements are written as base64
_SAFE = 2**53  # larger whole numbers are not exact in JavaScript
_DEEPEST = 20
_PLAIN = (bool, int, float, complex, str, type(None))


@dataclass(frozen=True)
class Thing:
    """Something that a recording only describes, in a line of text.

    >>> Thing("a function")
    a function
    """

    text: str

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True, eq=False)
class Described:
    """A distribution, as it was at its statement: what it was and which parameters it had.

    Attributes:
        family: its name, without the `Independent` that `.to_event` puts around it.
        text: with its parameters in brief, as `Normal(loc=0, scale=1)`.
        batch_shape, event_shape: as the distribution's.
        support: in words, as "greater than 0".
        has_rsample: whether its draws are differentiable.
        parameters: their values, by name.
        parts: distributions that it is made of.

    >>> import pplkit.distributions as dist
    >>> taken(dist.Normal(torch.zeros(3), 1.0).to_event(1))
    Normal(loc=[0, 0, 0], scale=1)
    """

    family: str
    text: str
    batch_shape: torch.Size
    event_shape: torch.Size
    support: str
    has_rsample: bool
    parameters: dict[str, Any] = field(default_factory=dict)
    parts: tuple[Described, ...] = ()
    # What a recorded run has found: `log_prob` of this value, before mask and scale.
    scored: tuple[Tensor, Tensor] | None = None

    @property
    def event_dim(self) -> int:
        return len(self.event_shape)

    def shape(self, sample_shape=torch.Size()) -> torch.Size:
        """The shape of a draw."""
        return torch.Size(sample_shape) + self.batch_shape + self.event_shape

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-probability that was recorded; of the recorded value alone."""
        if self.scored is None or not alike(self.scored[0], value):
            raise errors.only_described(self.text)
        return self.scored[1]

    def __repr__(self) -> str:
        return self.text


# -- copies ------------------------------------------------------------------------------------


def taken(value: Any, depth: int = 0) -> Any:
    """A copy of a value, as far as it can be written down.

    >>> x = torch.zeros(2)
    >>> kept = taken({"x": x, "f": print})
    >>> _ = x.add_(1.0)
    >>> kept
    {'x': tensor([0., 0.]), 'f': print}
    """
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Tensor):
        return _tensor(value)
    if isinstance(value, PlateFrame | torch.Size):
        return value
    if isinstance(value, Subsample):
        return Subsample(value.size, value.subsample_size, value.device)
    if isinstance(value, torch.distributions.Distribution | Described):
        return _described(value, depth)
    if depth < _DEEPEST and type(value) in (list, tuple):
        return type(value)(taken(item, depth + 1) for item in value)
    if depth < _DEEPEST and isinstance(value, Mapping):
        return {taken(k, depth + 1): taken(v, depth + 1) for k, v in value.items()}
    return Thing(_text(value))


def _tensor(value: Tensor) -> Tensor:
    value = checks.unwrapped(value).detach()
    if value.layout is not torch.strided or 0 not in value.stride():
        return value.clone()
    # Rows that are repeated are kept once.
    once = value[tuple(slice(0, 1) if not s else slice(None) for s in value.stride())]
    return once.clone().expand(value.shape)


def _described(fn: Any, depth: int) -> Described:
    if isinstance(fn, Described):
        return fn
    base = fn
    while type(base).__name__ == "Independent":
        base = base.base_dist
    stated = base.stated() if hasattr(base, "stated") else ()
    parts = base.parts() if hasattr(base, "parts") and depth < _DEEPEST else ()
    return Described(
        family=display.family(fn),
        text=display.described(fn),
        batch_shape=fn.batch_shape,
        event_shape=fn.event_shape,
        support=_support(fn),
        has_rsample=bool(fn.has_rsample),
        parameters={name: taken(getattr(base, name), depth + 1) for name in stated},
        parts=tuple(_described(part, depth + 1) for part in parts),
    )


def _support(fn) -> str:
    try:
        return errors.in_words(fn.support)
    except (NotImplementedError, AttributeError, ValueError):
        return ""


def _text(value: Any) -> str:
    if isinstance(value, torch.distributions.constraints.Constraint):
        return str(value)
    if isinstance(value, type) or (callable(value) and not isinstance(value, torch.nn.Module)):
        return getattr(value, "__qualname__", type(value).__name__).replace("<locals>.", "")
    try:
        return display.brief(value)
    except Exception:  # a user's own __repr__ may do anything
        return type(value).__name__


def alike(old: Any, new: Any) -> bool:
    """Whether a copy still is what a value is, bit for bit; NaN is like NaN."""
    if isinstance(old, Tensor) and isinstance(new, Tensor):
        new = checks.unwrapped(new).detach()
        if (old.dtype, old.shape, old.device) != (new.dtype, new.shape, new.device):
            return False
        same = old == new
        if old.is_floating_point() or old.is_complex():
            same = same | ((old != old) & (new != new))  # noqa: PLR0124
        return bool(same.all())
    if isinstance(old, float) and isinstance(new, float):
        return old == new or (math.isnan(old) and math.isnan(new))
    if type(old) in (list, tuple) and type(new) is type(old):
        return len(old) == len(new) and all(map(alike, old, new))
    if isinstance(old, dict) and isinstance(new, Mapping):
        return list(old) == list(new) and all(alike(old[key], new[key]) for key in old)
    if isinstance(old, Thing):
        return old == taken(new)
    if isinstance(old, Described):
        return old is new
    return type(old) is type(new) and bool(old == new)


# -- JSON --------------------------------------------------------------------------------------


class Writer:
    """Copies as plain JSON. Tensors go to a table, `tensors`, each once; see `Recording.to_json`.

    >>> writer = Writer()
    >>> writer.plain({"x": torch.tensor([1.0, math.nan])}), writer.tensors
    ({'dict': [['x', {'tensor': 0}]]}, [{'dtype': 'float32', 'shape': [2], 'data': [1.0, 'NaN']}])
    """

    def __init__(self):
        self.tensors: list[dict] = []
        self._places: dict[int, int] = {}
        self._kept: list[Tensor] = []  # so that no id is used twice

    def plain(self, value: Any) -> Any:
        if isinstance(value, bool | str) or value is None:
            return value
        if isinstance(value, int):
            return value if abs(value) < _SAFE else {"int": str(value)}
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": _word(value)}
        if isinstance(value, complex):
            return {"complex": [self.plain(value.real), self.plain(value.imag)]}
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, PlateFrame):
            return {"plate": value._asdict()}
        if isinstance(value, Subsample):
            device = None if value.device is None else str(value.device)
            return {"rows": [value.size, value.subsample_size, device]}
        if isinstance(value, Described):
            return {"distribution": self._distribution(value)}
        if isinstance(value, torch.Size):
            return {"size": list(value)}
        if isinstance(value, tuple):
            return {"tuple": [self.plain(item) for item in value]}
        if isinstance(value, list):
            return [self.plain(item) for item in value]
        if isinstance(value, dict):
            return {"dict": [[self.plain(k), self.plain(v)] for k, v in value.items()]}
        return {"thing": value.text if isinstance(value, Thing) else _text(value)}

    def _distribution(self, fn: Described) -> dict:
        written = {f.name: getattr(fn, f.name) for f in fields(fn) if f.name != "scored"}
        written["batch_shape"], written["event_shape"] = [*fn.batch_shape], [*fn.event_shape]
        written["parameters"] = {k: self.plain(v) for k, v in fn.parameters.items()}
        written["parts"] = [self._distribution(part) for part in fn.parts]
        return written

    def _tensor(self, value: Tensor) -> dict:
        if id(value) not in self._places:
            try:
                written = _written(value)
            except (RuntimeError, TypeError, NotImplementedError):  # sparse, meta, quantised
                return {"thing": display.brief(value)}
            self._places[id(value)] = len(self.tensors)
            self.tensors.append(written)
            self._kept.append(value)
        return {"tensor": self._places[id(value)]}


def _written(value: Tensor) -> dict:
    stored = value
    if 0 in value.stride() and value.numel():
        stored = value[tuple(slice(0, 1) if not s else slice(None) for s in value.stride())]
    written = {"dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}
    if stored.shape != value.shape:
        written["stored"] = list(stored.shape)
    if value.device.type != "cpu":
        written["device"] = str(value.device)
    stored = stored.cpu().contiguous()
    if stored.numel() > _INLINE or stored.is_complex() or _too_large(stored):
        raw = ctypes.string_at(stored.data_ptr(), stored.numel() * stored.element_size())
        return {**written, "base64": base64.b64encode(raw).decode("ascii")}
    data = stored.flatten().tolist()
    if stored.is_floating_point():
        data = [x if math.isfinite(x) else _word(x) for x in data]
    return {**written, "data": data}


def _too_large(value: Tensor) -> bool:
    whole = not value.is_floating_point() and value.dtype != torch.bool and value.numel() > 0
    return whole and bool((value.abs() >= _SAFE).any() | (value < -_SAFE).any())


def _word(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


class Reader:
    """What `Writer` has written, as copies again."""

    def __init__(self, tensors: list[dict]):
        self._tensors = [_read(written) for written in tensors]

    def value(self, plain: Any) -> Any:
        if isinstance(plain, list):
            return [self.value(item) for item in plain]
        if not isinstance(plain, dict):
            return plain
        ((kind, inner),) = plain.items()
        return getattr(self, f"_{kind}")(inner)

    def _tensor(self, place: int) -> Tensor:
        return self._tensors[place]

    def _int(self, text: str) -> int:
        return int(text)

    def _float(self, text: str) -> float:
        return float(text)

    def _complex(self, parts: list) -> complex:
        return complex(*(self.value(part) for part in parts))

    def _plate(self, named: dict) -> PlateFrame:
        return PlateFrame(**named)

    def _rows(self, parts: list) -> Subsample:
        size, subsample_size, device = parts
        return Subsample(size, subsample_size, None if device is None else torch.device(device))

    def _size(self, sizes: list) -> torch.Size:
        return torch.Size(sizes)

    def _tuple(self, items: list) -> tuple:
        return tuple(self.value(item) for item in items)

    def _dict(self, pairs: list) -> dict:
        return {self.value(key): self.value(value) for key, value in pairs}

    def _thing(self, text: str) -> Thing:
        return Thing(text)

    def _distribution(self, written: dict) -> Described:
        shapes = {k: torch.Size(written[k]) for k in ("batch_shape", "event_shape")}
        inner = {k: self.value(v) for k, v in written["parameters"].items()}
        parts = tuple(self._distribution(part) for part in written["parts"])
        return Described(**{**written, **shapes, "parameters": inner, "parts": parts})


def _read(written: dict) -> Tensor:
    dtype, shape = getattr(torch, written["dtype"]), torch.Size(written["shape"])
    stored = torch.Size(written.get("stored", shape))
    if "base64" in written:
        raw = bytearray(base64.b64decode(written["base64"]))
        value = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
    else:
        data = [float(x) if isinstance(x, str) else x for x in written["data"]]
        value = torch.tensor(data, dtype=dtype, device="cpu")
    return value.reshape(stored).expand(shape)
