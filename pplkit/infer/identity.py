"""Whether a program is still the one that it was: everything that its functions can reach, written
down.

A captured graph holds what Python decided while it was made. It may be used again only where Python
would decide the same: where code, defaults, closures, the globals that are read, and the state of
every object among these are what they were. What cannot be looked through has no identity; a graph
of it is not used again.
"""

from __future__ import annotations

import builtins
import collections
import dis
import enum
import functools
import hashlib
import sys
import types
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

_MOST = 50_000  # things that are looked at; more take longer than a capture
_LARGE = 1 << 24  # bytes of an array that is looked through
# What these hold does not change, and what their functions do follows from their arguments.
_TRUSTED = {
    "abc", "builtins", "cmath", "collections", "contextlib", "copy", "dataclasses", "enum",
    "functools", "itertools", "math", "numbers", "numpy", "operator", "pplkit", "torch", "types",
    "typing", "typing_extensions", "warnings",
}  # fmt: skip
# Of these, what reads a clock, a file, a random stream, or names that nobody can foresee.
_NOT_TRUSTED = {"numpy.random", "torch.hub", "torch.utils.data"}
_READS_ELSEWHERE = {
    builtins.globals, builtins.eval, builtins.exec, builtins.open, builtins.input,
    builtins.__import__, builtins.vars, builtins.locals, torch.load, torch.initial_seed, torch.seed,
    torch.get_rng_state,
}  # fmt: skip
_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented))
_WRITTEN = (torch.dtype, torch.device, torch.layout, torch.memory_format, range, slice)
_OF_EVERY_CLASS = {"__dict__", "__weakref__", "__doc__", "__module__", "__annotations__"}
_OF_EVERY_CLASS |= {"__firstlineno__", "__static_attributes__", "__abstractmethods__", "_abc_impl"}


class Unknown(Exception):
    """What a program reaches that cannot be looked through, in a few words."""


class Identity:
    """What the given things are now, all that they reach included.

    Args:
        roots: by what each is called where it has changed.
        apart: things that are not looked into, whoever reaches them.

    Attributes:
        told: in words; the same in another process.

    Raises:
        Unknown: among what they reach is something whose state cannot be told.

    >>> width = [1.0]
    >>> before = Identity({"model": lambda: width[0]})
    >>> width[0] = 2.0
    >>> Identity({"model": lambda: width[0]}).same(before)
    False
    """

    def __init__(self, roots: Mapping[str, Any], apart: Iterable = ()):
        walk = _Walk()
        for x in apart:
            walk.pass_by(x)
        try:
            for label, root in roots.items():
                walk.label = label
                walk.see(root)
        except RecursionError as fault:
            raise Unknown(f"{walk.label} lies deeper than can be looked at") from fault
        self.told = tuple(walk.told)
        self._labels = walk.labels
        self._tensors = [weakref.ref(x) for x in walk.tensors]
        self._marks = tuple(walk.marks)  # kept, so that nothing new has the address of one of these

    def same(self, other: Identity) -> bool:
        """Whether nothing has changed; tensors are the same when they are the very same objects,
        whatever numbers they hold.
        """
        return (
            self.told == other.told
            and len(self._marks) == len(other._marks)
            and all(a is b for a, b in zip(self._marks, other._marks, strict=True))
            and all(
                a() is b() is not None for a, b in zip(self._tensors, other._tensors, strict=True)
            )
        )

    def difference(self, other: Identity) -> str | None:
        """The name of what has changed in words; None where nothing has."""
        for mine, theirs, label in zip(self.told, other.told, self._labels, strict=False):
            if mine != theirs:
                return label
        return None if len(self.told) == len(other.told) else "what it holds"

    @property
    def digest(self) -> str:
        """The words, in short."""
        return hashlib.sha256("\n".join(self.told).encode(errors="replace")).hexdigest()[:40]


class _Walk:
    """Looks at things, and at what they refer to, each once and in an order of its own."""

    def __init__(self):
        self.told: list[str] = []
        self.labels: list[str] = []
        self.tensors: list[Tensor] = []
        self.marks: list[Any] = []  # what is the same only if it is the very same thing
        self.label = ""
        self._known: dict[int, int] = {}
        self._held: list = []  # so that no two things met have one address

    def tell(self, *words: Any) -> None:
        if len(self.told) > _MOST:
            raise Unknown(f"{self.label} holds more than can be looked through")
        self.told.append(" ".join(map(str, words)))
        self.labels.append(self.label)

    def see(self, x: Any) -> None:
        if isinstance(x, _PLAIN) and type(x) in _PLAIN:
            self.tell(repr(x))
            return
        if isinstance(x, _WRITTEN):
            self.tell(type(x).__name__, repr(x))
            return
        if id(x) in self._known:
            self.tell("again", self._known[id(x)])
            return
        self.pass_by(x)
        for kind, look in _LOOKS:
            if isinstance(x, kind):
                look(self, x)
                return
        self._instance(x)

    def pass_by(self, x: Any) -> None:
        self._known[id(x)] = len(self._known)
        self._held.append(x)

    def named(self, label: str, x: Any) -> None:
        before, self.label = self.label, label
        self.see(x)
        self.label = before

    def all(self, things: Iterable) -> None:
        for thing in things:
            self.see(thing)

    # -- data ----------------------------------------------------------------------------------
    def _tensor(self, x: Tensor) -> None:
        kind = type(x).__name__
        self.tell(kind, x.dtype, tuple(x.shape), x.device, x.requires_grad, x.layout)
        self.tensors.append(x)
        if type(x) not in (Tensor, torch.nn.Parameter):
            self.see(type(x))

    def _sequence(self, x: Any) -> None:
        self.tell(type(x).__name__, len(x))
        if type(x) not in (tuple, list, torch.Size):
            self.see(type(x))
        self.all(x)

    def _mapping(self, x: dict) -> None:
        self.tell(type(x).__name__, len(x))
        if type(x) is not dict:
            self._about(x)
        for key, value in list(x.items()):
            self.see(key)
            self.named(repr(key) if type(key) is str else self.label, value)

    def _set(self, x: Any) -> None:
        if not all(isinstance(part, _PLAIN) for part in x):
            parts = [p for p in x if not isinstance(p, _PLAIN)]
            if not all(isinstance(p, (type, types.FunctionType)) for p in parts):
                raise Unknown(f"{self.label} holds a set of objects, in no order")
        self.tell(type(x).__name__, len(x))
        self.all(sorted(x, key=lambda part: repr(getattr(part, "__qualname__", part))))

    def _weak(self, x: weakref.ref) -> None:
        self.tell("weak")
        self.see(x())

    # -- functions -----------------------------------------------------------------------------
    def _function(self, f: types.FunctionType) -> None:
        self.tell("function", f.__qualname__)
        if _trusted(f.__globals__.get("__name__", "")):
            self.marks.append(f.__code__)
            if f in _READS_ELSEWHERE:
                raise Unknown(f"{self.label} reads what lies outside the program")
        else:
            self._code(f.__code__, f.__globals__)
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            self.named(f"{name!r}", cell)
        self.see(f.__defaults__)
        self.see(f.__kwdefaults__)
        self.see({k: v for k, v in vars(f).items() if k != "__wrapped__"})
        if "__wrapped__" in vars(f):
            self.see(f.__wrapped__)

    def _code(self, code: types.CodeType, scope: dict) -> None:
        self.tell("code", code.co_code.hex(), code.co_names, code.co_varnames, code.co_flags)
        self.tell(code.co_argcount, code.co_kwonlyargcount, code.co_posonlyargcount)
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._code(constant, scope)
            else:
                self.see(constant)
        for name, attributes in _reads(code):
            if name is None:
                self._imported(attributes[0])
            elif name in scope:
                self._read(name, scope[name], attributes)
            elif hasattr(builtins, name):
                self._read(name, getattr(builtins, name), attributes)
            else:
                self.tell("no", name)

    def _read(self, name: str, value: Any, attributes: tuple) -> None:
        """A global that is read; of a module, what is read of it."""
        path = name
        for attribute in attributes:
            if not isinstance(value, types.ModuleType):
                break
            if not hasattr(value, attribute):
                self.tell("no", path, attribute)
                return
            value, path = getattr(value, attribute), f"{path}.{attribute}"
        self.named(f"{path!r}", value)

    def _imported(self, name: str) -> None:
        if not _trusted(name):
            raise Unknown(f"it imports {name!r} while it runs")

    def _cell(self, cell: types.CellType) -> None:
        try:
            found = cell.cell_contents
        except ValueError:
            self.tell("empty")
            return
        self.see(found)

    def _method(self, x: types.MethodType) -> None:
        self.tell("method")
        self.all((x.__func__, x.__self__))

    def _builtin(self, x: Any) -> None:
        owner = getattr(x, "__self__", None)
        self.tell("builtin", getattr(x, "__qualname__", x.__name__))
        if x in _READS_ELSEWHERE:
            raise Unknown(f"{self.label} reads what lies outside the program")
        home = (x.__module__ or "").removeprefix("_")
        if owner is None or isinstance(owner, types.ModuleType):
            # Operations of torch have no module of their own.
            if home and not _trusted(home) and home != "VariableFunctions":
                raise Unknown(f"{self.label} is a function of {home!r}")
            self.marks.append(x)
        else:
            self.see(owner)

    def _partial(self, x: functools.partial) -> None:
        self.tell("partial")
        self.all((x.func, x.args, x.keywords, vars(x)))

    def _wrapping(self, x: Any) -> None:
        self.tell(type(x).__name__)
        self.all((x.__func__,))

    def _property(self, x: property) -> None:
        self.tell("property")
        self.all((x.fget, x.fset, x.fdel))

    def _descriptor(self, x: Any) -> None:
        self.tell(type(x).__name__, x.__name__)

    # -- classes and objects -------------------------------------------------------------------
    def _class(self, x: type) -> None:
        self.tell("class", x.__module__, x.__qualname__)
        if _is_trusted_class(x):
            self.marks += [x, *vars(x).values()]
            self.all(base for base in x.__bases__ if base is not object)
            return
        if type(x) is not type:
            self.see(type(x))
        self.all(x.__bases__)
        for name, value in list(vars(x).items()):
            if name not in _OF_EVERY_CLASS:
                self.tell(name)
                self.named(f"'{x.__name__}.{name}'", value)

    def _module(self, x: types.ModuleType) -> None:
        if not _trusted(x.__name__):
            raise Unknown(f"{self.label} is a module, handed about as a whole")
        self.tell("module", x.__name__)

    def _member(self, x: enum.Enum) -> None:
        self.tell("member", type(x).__qualname__, x.name)
        self.see(type(x))

    def _array(self, x: Any) -> None:
        if x.dtype.hasobject or x.nbytes > _LARGE:
            raise Unknown(f"{self.label} is an array")
        self.tell("array", x.dtype, x.shape, hashlib.sha256(x.tobytes()).hexdigest())

    def _instance(self, x: Any) -> None:
        cls = type(x)
        if cls.__module__.partition(".")[0] == "numpy" and hasattr(x, "tobytes"):
            self._array(x)
            return
        self.tell("a", cls.__module__, cls.__qualname__)
        self.see(cls)
        self._about(x)

    def _about(self, x: Any) -> None:
        """The state of an object: its attributes, in its dictionary and in slots."""
        cls = type(x)
        slots = [n for base in cls.__mro__ for n in _slots(base)]
        if any(not _of_python(base) and base not in _SEEN_THROUGH for base in cls.__mro__):
            whose = f"an object of {cls.__module__}.{cls.__qualname__}"
            raise Unknown(f"{self.label} is {whose}, whose state cannot be told")
        if isinstance(x, collections.defaultdict):
            self.see(x.default_factory)
        scratch = _SCRATCH.get((cls.__module__, cls.__qualname__), ())
        for name, value in list(getattr(x, "__dict__", {}).items()):
            if name not in scratch:
                self.tell(name)
                self.named(f"'.{name}'", value)
        for name in slots:
            if name not in scratch and hasattr(x, name):
                self.tell(name)
                self.named(f"'.{name}'", getattr(x, name))


_LOOKS = [
    (Tensor, _Walk._tensor),
    (enum.Enum, _Walk._member),
    ((tuple, list), _Walk._sequence),
    (dict, _Walk._mapping),
    ((set, frozenset), _Walk._set),
    (types.FunctionType, _Walk._function),
    (types.MethodType, _Walk._method),
    (types.CellType, _Walk._cell),
    (types.ModuleType, _Walk._module),
    (type, _Walk._class),
    ((types.BuiltinFunctionType, types.MethodWrapperType), _Walk._builtin),
    (functools.partial, _Walk._partial),
    ((staticmethod, classmethod), _Walk._wrapping),
    (property, _Walk._property),
    (weakref.ref, _Walk._weak),
    (
        (
            types.MemberDescriptorType,
            types.GetSetDescriptorType,
            types.WrapperDescriptorType,
            types.MethodDescriptorType,
            types.ClassMethodDescriptorType,
        ),
        _Walk._descriptor,
    ),
]

# State that each run makes afresh.
_SCRATCH: dict[tuple[str, str], tuple[str, ...]] = {
    ("pplkit.handlers", "trace"): ("trace",),
    ("pplkit.names", "Names"): ("open",),
    ("pplkit.params", "ParamStore"): ("_tokens",),
}


def _trusted(module: str) -> bool:
    module = module.removeprefix("_")
    if any(module == name or module.startswith(f"{name}.") for name in _NOT_TRUSTED):
        return False
    return module.partition(".")[0] in _TRUSTED


def _is_trusted_class(cls: type) -> bool:
    """Whether a class is where it says it is, in a library."""
    if not _trusted(cls.__module__):
        return False
    found: Any = sys.modules.get(cls.__module__)
    for part in cls.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is cls


def _slots(cls: type) -> list[str]:
    named = vars(cls).get("__slots__", ())
    named = [named] if isinstance(named, str) else list(named)
    return [name for name in named if name not in ("__dict__", "__weakref__")]


def _of_python(cls: type) -> bool:
    """Whether a class statement has made it: then its objects hold no more than dictionary, slots
    and weak references.
    """
    if not cls.__flags__ & (1 << 9):  # a static type of C
        return False
    own = cls.__basicsize__ - (cls.__base__ or object).__basicsize__
    return own <= _POINTER * (len(_slots(cls)) + 2)


_POINTER = object.__basicsize__ // 2


# Classes made in C of whose objects nothing is hidden; others may hold more than can be seen.
_SEEN_THROUGH = {
    object, dict, list, tuple, set, frozenset, collections.OrderedDict, collections.defaultdict,
    types.SimpleNamespace, BaseException, Exception,
}  # fmt: skip


@functools.lru_cache(maxsize=4096)
def _reads(code: types.CodeType) -> tuple:
    """The globals that code reads, each with the attributes that are read off it at once; and what
    it imports, without a name.
    """
    found: dict[tuple, None] = {}
    lines = [i for i in dis.get_instructions(code) if i.opname not in ("EXTENDED_ARG", "CACHE")]
    for at, line in enumerate(lines):
        if line.opname == "IMPORT_NAME":
            found[None, (line.argval,)] = None
        elif line.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            attributes, after = [], at + 1
            while after < len(lines) and lines[after].opname in ("LOAD_ATTR", "LOAD_METHOD"):
                attributes.append(lines[after].argval)
                after += 1
            found[line.argval, tuple(attributes)] = None
    return tuple(found)
