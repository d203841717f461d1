"""What a learner is told when something is wrong.

Every error says what happened and at which site, where in the learner's own file, what was found,
what was expected, and what to do about it. The wording lives here; the engine only says which error
it is. First lines keep the phrases that users of Pyro search for.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import functools
import inspect
import os
import pickle
import re
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .effects import Message, PlateFrame

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
# What may stand between a statement and the user's line: the engine, and what it goes through.
_NOT_THE_USER = (
    _HERE,
    os.path.dirname(os.path.abspath(torch.__file__)) + os.sep,
    contextlib.__file__,
    functools.__file__,
)


class PplkitError(Exception):
    """Any error that the engine raises itself.

    Attributes:
        site: the name of the statement it is about, or None.
        where: the user's file and line, or None.
        path: in a recorded run, the statement's way through the handlers, as text; else None.
    """

    path: str | None = None
    statement: Message | None = None  # which a run could not go on after, if it is known

    def __init__(self, headline, *, site=None, where=None, found=None, expected=None, remedy=None):
        self.site, self.where, self.headline = site, where, headline
        self.found, self.expected, self.remedy = found, expected, remedy
        super().__init__(_told(headline, where, found, expected, remedy))

    @property
    def _render_traceback_(self):
        """IPython's question how to show this error. No such attribute: as it shows any other."""
        from . import tracebacks

        if not tracebacks.wanted_short():
            raise AttributeError("_render_traceback_")
        return lambda: tracebacks.short(self)


class ModelError(PplkitError, RuntimeError):
    """Statements that contradict each other: a name used twice, a guide unlike its model."""


class PlateError(PplkitError, ValueError):
    """A plate with an impossible size or dimension."""


class ShapeError(PplkitError, ValueError):
    """A tensor whose shape does not fit its distribution or its plates."""


class DistributionError(PplkitError, ValueError):
    """A distribution's parameters, or a value, outside what the distribution allows."""


class ParamError(PplkitError, ValueError):
    """A parameter that is missing, left over from another model, or outside its constraint."""


class InferenceError(PplkitError, RuntimeError):
    """Inference that cannot go on: a loss that is not finite."""


class UsageError(PplkitError, TypeError):
    """A call with the wrong kind of argument."""


class CaptureError(PplkitError, RuntimeError):
    """A program that has no graph: what it does next depends on numbers, or leaves torch."""


class PplkitWarning(UserWarning):
    """A legal program that is likely a mistake. Made and told as errors are, and shown by `warn`.

    Attributes:
        site: the name of the statement it is about, or None.
        where: the user's file and line, or None.
    """

    def __init__(self, headline, *, site=None, where=None, found=None, expected=None, remedy=None):
        self.site, self.where, self.headline = site, where, headline
        self.found, self.expected, self.remedy = found, expected, remedy
        super().__init__(_told(headline, where, found, expected, remedy))


def warn(warning: PplkitWarning) -> None:
    """Show a warning, at its place in the user's code: once for each place, unless told otherwise.

    The place is `warning.where`, or else the user's line that runs now. In a notebook the warning
    starts with `Cell In [n]:k`, never with the path of a temporary file. Python's filters hold as
    for every warning: under `warnings.simplefilter("error")` it is raised.

    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as shown:
    ...     warn(PplkitWarning("the guide has no site 'z'", remedy="name it as the model does"))
    >>> print(shown[0].message)
    the guide has no site 'z'
      remedy:   name it as the model does
    """
    if (noted := _NOTED.get()) is not None:
        noted.append(warning)
        return
    from . import tracebacks

    tracebacks.show(warning)


# Where `check` runs a program: what it has found so far. Elsewhere None.
_NOTED: ContextVar[list | None] = ContextVar("pplkit_noted", default=None)


def tell(error: PplkitError) -> None:
    """Raise an error; where `check` runs the program, note it, for the run can go on.

    >>> with noting() as noted:
    ...     tell(ModelError("two sites have one name"))
    >>> [error.headline for error in noted]
    ['two sites have one name']
    """
    noted = _NOTED.get()
    if noted is None:
        raise error
    noted.append(error)


def is_noting() -> bool:
    """Whether `check` runs the program: what can be mended is, so that the run goes on."""
    return _NOTED.get() is not None


@contextlib.contextmanager
def noting(noted: list | None = None) -> Iterator[list]:
    """Inside, errors that a run can go on after, and warnings, are put into a list."""
    noted = [] if noted is None else noted
    token = _NOTED.set(noted)
    try:
        yield noted
    finally:
        _NOTED.reset(token)


def _told(headline: str, where, found, expected, remedy) -> str:
    lines = [headline]
    parts = {"where": where, "found": found, "expected": expected, "remedy": remedy}
    lines += [f"  {label + ':':<10}{text}" for label, text in parts.items() if text]
    return without_addresses("\n".join(lines))


def without_addresses(text: str) -> str:
    """A text without the places of objects in memory, which are others in the next run."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def full_tracebacks(full: bool = True) -> None:
    """In a notebook, show every line that led to an error, the engine's too; or no longer.

    Errors of pplkit show the user's own lines alone. To see all for a single error, run `%tb Plain`
    or `%tb Verbose` in the next cell.

    >>> full_tracebacks(True)
    >>> full_tracebacks(False)
    """
    from . import tracebacks

    tracebacks.full = bool(full)


# -- where -------------------------------------------------------------------------------------


class Where(NamedTuple):
    """A line of the user's own code."""

    filename: str
    line: int

    def __str__(self) -> str:
        cell = _notebook_cell(self.filename)
        if cell:
            return f"{cell}, line {self.line}"
        return f"{_shortest(self.filename)}, line {self.line}"


def user_frame() -> Where | None:
    """The innermost line outside the engine: the user's own."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_NOT_THE_USER):
        frame = frame.f_back
    return Where(frame.f_code.co_filename, frame.f_lineno) if frame is not None else None


def is_engine(filename: str) -> bool:
    """Whether a file is one of the engine's own."""
    return filename.startswith(_HERE)


def _notebook_cell(filename: str) -> str | None:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    compiler = getattr(shell, "compile", None)
    name = compiler.format_code_name(filename) if hasattr(compiler, "format_code_name") else None
    return " ".join(name).replace("In[", "In [") if name else None


def _shortest(filename: str) -> str:
    if filename.startswith("<"):
        return filename
    relative = (
        os.path.relpath(filename)
        if os.path.splitdrive(filename)[0] == os.path.splitdrive(os.getcwd())[0]
        else filename
    )
    return filename if relative.startswith("..") else relative


def nearest(name: str, known: list[str]) -> str:
    """'did you mean ...?', or the list of what there is."""
    close = difflib.get_close_matches(str(name), known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    # Inside and outside of a `scope`, a site has two names.
    scoped = [k for k in known if k.endswith(f"/{name}") or str(name).endswith(f"/{k}")]
    if scoped:
        return f"did you mean {scoped[0]!r}?"
    return f"there is {_those(known)}"


def _those(known: list[str]) -> str:
    """Names in a row, the first dozen of them."""
    shown = list(dict.fromkeys(known))
    more = f" and {len(shown) - 12} more" if len(shown) > 13 else ""
    shown = shown[:12] if more else shown
    return ", ".join(map(repr, shown)) + more if shown else "none"


# -- what went wrong ---------------------------------------------------------------------------


# What one calls a thing that a handler was given a name of, but does not concern itself with.
_KINDS = {
    "sample": "a site that is drawn",
    "observed": "observed",
    "param": "a parameter",
    "plate": "a plate",
    "deterministic": "a deterministic site: computed, not drawn",
}
_INSTEAD = {
    "param": "fix a parameter with substitute(model, data={...})",
    "deterministic": "name the sites that it is computed from",
    "observed": "replace an observation with condition(model, data={...})",
    "plate": "name the sites inside it",
    "sample": "name parameters",
}
_CONCERNS = {
    "substitute": "names of parameters, or of sites that are drawn",
    "lift": "names of parameters",
    "replay(params=...)": "names of parameters",
    "init_to_value": "names of continuous sites that are not observed",
}


def name_unknown(handler: str, name: str, known: list[str], where) -> PplkitWarning:
    said = nearest(name, known)
    close = said.startswith("did you mean")
    return PplkitWarning(
        f"{handler} names {name!r}, which the model does not have",
        site=name,
        where=where,
        found=f"no statement of the name {name!r}: nothing was done for it",
        expected=f"names that the model has: {_those(known)}",
        remedy=said if close else "use one of these names, or leave it out",
    )


def name_hidden(handler: str, name: str, by: str, where) -> PplkitWarning:
    return PplkitWarning(
        f"{handler} does not see {name!r}: {by}, further in, hides it",
        site=name,
        where=where,
        found=f"the program has a {name!r}, hidden from {handler} by {by}",
        remedy=f"put {handler} inside: {by}({handler}(model, ...), ...)",
    )


def name_of_another_kind(handler: str, msg: Message, where) -> PplkitWarning:
    kind = "observed" if msg.is_observed else msg.type
    return PplkitWarning(
        f"{handler} leaves {msg.name!r} as it is: it is {_KINDS.get(kind, kind).split(':')[0]}",
        site=msg.name,
        where=where,
        found=f"{msg.name!r} is there, at {msg.where}, but is {_KINDS.get(kind, kind)}",
        expected=_CONCERNS.get(handler, "names of sample sites"),
        remedy=_INSTEAD.get(kind) if handler != "init_to_value" else "leave it out",
    )


def not_callable(handler: str, found: Any) -> UsageError:
    return UsageError(
        f"{type(found).__name__} is not callable, did you mean to pass it as a keyword arg?",
        where=user_frame(),
        found=f"{handler}({_called(found)}, ...)",
        expected=f"the model first: {handler}(model, ...)",
        remedy=f"without a model give keywords alone: with {handler}(...=...):",
    )


def wrong_call(callee: type, args: tuple, kwargs: dict) -> UsageError | None:
    """Arguments that a class does not take; None if it is something else that went wrong."""
    signature = inspect.signature(callee.__init__)
    kwargs = {key: value for key, value in kwargs.items() if key != "validate_args"}
    try:
        signature.bind(None, *args, **kwargs)
    except TypeError as refusal:
        said = str(refusal)
    else:
        return None
    known = [name for name in signature.parameters if name not in ("self", "validate_args")]
    unknown = [name for name in kwargs if name not in signature.parameters]
    if len(args) > len(known):  # of which validate_args has taken one
        said = "too many positional arguments"
    given = [_called(value) for value in args]
    given += [f"{key}={_called(value)}" for key, value in kwargs.items()]
    close = difflib.get_close_matches(unknown[0], known, n=1) if unknown else []
    missing = re.search(r"missing a required (?:keyword-only )?argument: '(\w+)'", said)
    remedy = f"did you mean {close[0]}=?" if close else None
    if unknown and not close:
        remedy = f"its arguments are called {', '.join(known)}"
    elif missing and not unknown:
        remedy = f"give {missing[1]}= as well"
    head = f"got an unexpected keyword argument {unknown[0]!r}" if unknown else said
    return UsageError(
        f"{callee.__name__} {head}",
        where=user_frame(),
        found=f"{callee.__name__}({', '.join(given)})",
        expected=f"{callee.__name__}({', '.join(known)})",
        remedy=remedy,
    )


def decorator_needs_function(handler: str) -> UsageError:
    return UsageError(
        f"{handler}(...) was called without a model to run",
        where=user_frame(),
        found="a call whose one argument is no function",
        expected=f"{handler}(model, ...)(*args), or {handler}(...) as a decorator or in a `with`",
    )


def name_not_string(statement: str, found: Any) -> UsageError:
    numbered = isinstance(found, int) and statement != "plate"
    return UsageError(
        f"{statement} needs a name first",
        where=user_frame(),
        found=_called(found),
        expected=f'a string, as in {statement}("x", ...)',
        remedy='number the names: f"x_{i}"'
        if numbered
        else f'the name comes first: {statement}("x", {_called(found)}, ...)',
    )


def tensor_in_name(statement: str, name: str) -> PplkitWarning:
    return PplkitWarning(
        f"a tensor has been written into the name of {statement} {name!r}",
        site=name,
        where=user_frame(),
        found=f"the name {name!r}",
        expected="a name that is the same in every run",
        remedy="`with plate(...) as i` runs once, and i holds all its rows: one name is enough; "
        "to number names, loop: for i in plate(...)",
    )


def not_a_distribution(name: str, found: Any) -> UsageError:
    return UsageError(
        f"site {name!r} has no distribution",
        site=name,
        where=user_frame(),
        found="nothing after the name" if found is None else _called(found),
        expected=f"a distribution, as in sample({name!r}, dist.Normal(0., 1.))",
        remedy=_remedy_for_no_distribution(name, found),
    )


def _remedy_for_no_distribution(name: str, found: Any) -> str:
    if isinstance(found, type) and issubclass(found, torch.distributions.Distribution):
        parameters = ", ".join(list(inspect.signature(found.__init__).parameters)[1:])
        parameters = parameters.removesuffix(", validate_args")
        return f"call it with its parameters: {found.__name__}({parameters})"
    if found is None:
        return f"to read a parameter: param({name!r})"
    if callable(found):
        return f"call it, if it returns a distribution: {getattr(found, '__name__', 'fn')}(...)"
    return f"a fixed value: deterministic({name!r}, ...); one to be learnt: param({name!r}, ...)"


def not_obs(name: str, args: tuple, kwargs: dict) -> UsageError:
    """What sample cannot use, and what was most likely meant as data."""
    given = [_called(value) for value in args]
    given += [f"{key}={_called(value)}" for key, value in kwargs.items()]
    misspelt = next(iter(kwargs), None)
    near = difflib.get_close_matches(misspelt, ("obs", "obs_mask", "infer"), 1) if misspelt else ()
    meant = near[0] if near else "obs"
    return UsageError(
        f"sample {name!r} got an unexpected argument"
        + (f" {misspelt!r}" if misspelt is not None else " after its distribution"),
        site=name,
        where=user_frame(),
        found=", ".join(given),
        expected="sample(name, distribution, obs=..., obs_mask=..., infer=...)",
        remedy=f"data are given as obs=: sample({name!r}, ..., obs=...)"
        if meant == "obs"
        else f"did you mean {meant}=?",
    )


def value_not_tensor(name: str, found: Any) -> UsageError:
    return UsageError(
        f"site {name!r} was given a value that is no number",
        site=name,
        where=user_frame(),
        found=_called(found),
        expected="a tensor, a NumPy array, a number, or lists of numbers",
        remedy=_remedy_for_value(found),
    )


def _remedy_for_value(found: Any) -> str | None:
    rows = isinstance(found, (list, tuple)) or hasattr(found, "__array__")
    if any(isinstance(value, str) for value in (found if rows else (found,))):
        return "convert text to numbers: float(...); number categories: 0, 1, 2, ..."
    if rows and any(isinstance(value, Tensor) for value in found):
        return "make one tensor of several: torch.stack([...])"
    return None


def duplicate_site(msg: Message, first: Message) -> ModelError:
    kinds = {first.type, msg.type}
    if kinds == {"sample"}:
        head = f"Multiple sample sites named {msg.name!r}"
    elif len(kinds) == 1:
        head = f"Multiple {msg.type} sites named {msg.name!r}"
    else:
        head = f"{msg.name!r} is already in the trace as a {first.type} site, not a {msg.type}"
    numbered = f'f"{msg.name}_{{i}}"'
    if first.where == msg.where and all(frame.vectorized for frame in msg.plates):
        remedy = f"number the names: {numbered}; in place of a loop, `with plate(...):` makes all "
        remedy += "rows at once; to a function that is called twice, pass the name"
    elif first.where == msg.where:
        frame = next(frame for frame in msg.plates if not frame.vectorized)
        remedy = f"number the names: {numbered}; or, in place of the loop, "
        remedy += f"`with plate({frame.name!r}, {frame.full_size}):`, which makes all rows at once"
    elif "param" in kinds:
        remedy = f"give the parameter another name, as '{msg.name}_param'"
    else:
        remedy = "give one of them another name"
    return ModelError(
        head,
        site=msg.name,
        where=msg.where,
        found="first used at the same line, earlier in this run"
        if first.where == msg.where
        else f"first used at {first.where}",
        expected="every name once in a run",
        remedy=remedy,
    )


def missing_argument(handler: str, argument: str, expected: str) -> UsageError:
    return UsageError(f"{handler} needs {argument}", where=user_frame(), expected=expected)


def wrong_argument(
    handler: str, argument: str, found: Any, expected: str, remedy: str | None = None
) -> UsageError:
    return UsageError(
        f"{handler} cannot use this {argument.rstrip('=')}",
        where=user_frame(),
        found=f"{argument}{_called(found)}",
        expected=expected,
        remedy=remedy,
    )


def block_both_ways(given: dict[str, Any]) -> UsageError:
    return UsageError(
        "block was told both what to hide and what to expose",
        where=user_frame(),
        found=", ".join(f"{key}={_called(v)}" for key, v in given.items() if v is not None),
        expected="one of the two: hide=[...] hides these alone, expose=[...] hides all others",
        remedy="leave the other out",
    )


def replayed_site_differs(msg: Message, then: Message) -> ModelError:
    kind = "an observed" if then.is_observed else f"a {then.type}"
    return ModelError(
        f"site {msg.name!r} must be sample in trace",
        site=msg.name,
        where=msg.where,
        found=f"the trace that is replayed has {kind} site {msg.name!r}, from {then.where}",
        expected=f"a {msg.type} site that was drawn",
        remedy=f"in a guide, say sample({msg.name!r}, ...); a parameter of it has another name"
        if then.type == "param"
        else None,
    )


def plate_size(name: str, size: Any, what: str = "size") -> PlateError:
    plain = isinstance(size, (int, float)) and not isinstance(size, bool)
    if size is None or (plain and size < 0):
        remedy = "say how many rows there are: len(data)"
    elif plain and size == 0 and what == "subsample_size":
        remedy = "at least one row takes part; without subsample_size, all do"
    elif plain and size == 0:
        remedy = "is the data empty? a plate needs at least one row"
    elif plain:
        remedy = "a division by / gives a float: divide by //, or round with int(...)"
    else:
        remedy = "give the number of rows, not the rows: len(data)"
    return PlateError(
        f"plate {name!r}: Expected {what} > 0 but got {size if plain else _called(size)}",
        site=name,
        where=user_frame(),
        found=f"no {what}" if size is None else f"{what}={size if plain else _called(size)}",
        expected="a whole number, at least 1",
        remedy=remedy,
    )


def plate_has_no_len(name: str, size: int, subsample_size: int) -> UsageError:
    return UsageError(
        f"object of type 'plate' has no len(): plate {name!r}",
        site=name,
        where=user_frame(),
        found=f"{size} rows in all, {subsample_size} of them in a run",
        expected="the one of the two that is meant",
        remedy="write plate.size or plate.subsample_size",
    )


# What torch says where Python wants one number of a tensor that has several.
_ONE_NUMBER = re.compile(
    "^(Boolean value of Tensor with more|only one element tensors|a Tensor with .* to Scalar)"
)


def one_number_of_rows(frame: PlateFrame, fault: BaseException, tb) -> ModelError | None:
    """Python's `if` cannot go both ways, and a Python number cannot be several."""
    return _one_number(
        fault,
        tb,
        frame.name,
        f"inside plate({frame.name!r})",
        f"a tensor with a value for each row: the plate has {frame.size}",
        "; or go through the rows in a loop, with numbered names: "
        f"for i in plate({frame.name!r}, {frame.full_size}):",
    )


def one_number_of_values(names: list[str], fault: BaseException, tb) -> ModelError | None:
    """The same, where a variable is enumerated: a run stands for all of its values."""
    those = " or ".join(map(repr, names))
    return _one_number(
        fault,
        tb,
        names[0] if len(names) == 1 else None,
        f"after {those} was enumerated",
        f"a tensor that goes through all values of {those} along a dimension of its own",
        "",
    )


def _one_number(fault, tb, site, when: str, found: str, otherwise: str) -> ModelError | None:
    where, said = None, str(fault).rstrip(".")
    if type(fault) not in (RuntimeError, ValueError) or not _ONE_NUMBER.search(said):
        return None
    asked = "Boolean" in said
    what = "`if`, `while`, `and` or `or`" if asked else "float(), int() or .item()"
    remedy = "choose row by row with torch.where(condition, a, b)"
    if not asked:
        remedy = "compute with the tensor itself, and with torch's functions in place of math's"
    elif not otherwise:
        remedy = "choose for all of them at once with torch.where(condition, a, b)"
    while tb is not None:
        if not tb.tb_frame.f_code.co_filename.startswith(_NOT_THE_USER):
            where = Where(tb.tb_frame.f_code.co_filename, tb.tb_lineno)
        tb = tb.tb_next
    return ModelError(
        f"{said}: {what} {when}",
        site=site,
        where=where,
        found=found,
        expected="a single True or False" if asked else "a single number",
        remedy=remedy + otherwise,
    )


def subsample_too_large(name: str, size: int, subsample_size: int) -> PlateError:
    return PlateError(
        f"plate {name!r}: the subsample is larger than the plate",
        site=name,
        where=user_frame(),
        found=f"size={size}, subsample_size={subsample_size}",
        expected=f"subsample_size between 1 and {size}",
        remedy="rows are drawn without replacement; for batches of at most "
        f"{subsample_size} rows: subsample_size=min({subsample_size}, len(data))",
    )


def subsample_not_rows(name: str, rows: Tensor) -> PlateError:
    if rows.numel() == 0:
        remedy = "at least one row takes part; without a subsample, all do"
    elif rows.dtype == torch.bool:
        remedy = "of a mask, take the numbers of its true rows: mask.nonzero().squeeze(-1)"
    else:
        remedy = "give the numbers of the rows that take part, then index the data by them: data[i]"
    return PlateError(
        f"plate {name!r}: the subsample is not made of row numbers",
        site=name,
        where=user_frame(),
        found=f"a subsample of {rows.dtype} and of shape {_shape(rows.shape)}",
        expected="whole numbers, one for each row that takes part: torch.tensor([0, 2])",
        remedy=remedy,
    )


def subsample_outside(name: str, rows: Tensor, size: int, where) -> PlateError:
    at = ((rows < 0) | (rows >= size)).nonzero()[0].item()
    return PlateError(
        f"plate {name!r}: the subsample has a row that the plate does not",
        site=name,
        where=where,
        found=f"row {rows[at].item()} at [{at}] of the subsample; the plate's size is {size}",
        expected=f"rows from 0 to {size - 1}",
        remedy=f"draw them from the plate's own: torch.randperm({size})[:{len(rows)}]",
    )


def subsample_mismatch(name: str, subsample_size: int, indices: int) -> PlateError:
    return PlateError(
        f"plate {name!r}: subsample does not have subsample_size={subsample_size} rows",
        site=name,
        where=user_frame(),
        found=f"a subsample of {indices} rows, subsample_size={subsample_size}",
        remedy="leave subsample_size out: it is the number of rows in the subsample",
    )


def plate_dim_positive(name: str, dim: Any) -> PlateError:
    return PlateError(
        f"plate {name!r}: Expected dim < 0 to index from the right, actual {_brief(dim)}",
        site=name,
        where=user_frame(),
        found=f"dim={_called(dim)}",
        expected="a negative dimension: -1 is the rightmost batch dimension, -2 the one left of it",
        remedy="leave dim= out, and a free one is chosen",
    )


def plate_dim_taken(name: str, dim: int, other: PlateFrame, free: int) -> PlateError:
    return PlateError(
        f"collide at dim={dim}: plates {other.name!r} and {name!r}",
        site=name,
        where=user_frame(),
        found=f"plate {other.name!r} already has dim {dim}",
        expected="one plate for each dimension",
        remedy=f"leave dim= out, and a free one is chosen; or give one of them dim={free}",
    )


def plate_inside_itself(name: str) -> PlateError:
    return PlateError(
        f"plate {name!r} is entered inside itself",
        site=name,
        where=user_frame(),
        found=f"plate {name!r} is open around this line",
        remedy="give the inner plate a name of its own; or close the outer one first",
    )


def plate_resized(msg: Message, first: Message) -> PlateError:
    return PlateError(
        f"plate {msg.name!r} has two sizes in one run",
        site=msg.name,
        where=msg.where,
        found=_sizes(msg.fn, first),
        expected="one size for a name",
        remedy="give the two plates two names",
    )


def _sizes(rows, first: Message) -> str:
    if rows.size != first.fn.size:
        return f"size {rows.size} here, {first.fn.size} at {first.where}"
    return f"subsample_size {rows.subsample_size} here, {first.fn.subsample_size} at {first.where}"


def plate_against_distribution(
    msg: Message, frame: PlateFrame, found: int, plates: list[PlateFrame]
) -> ShapeError:
    return ShapeError(
        f"Shape mismatch inside plate({frame.name!r}) at site {msg.name!r}: "
        f"dim {frame.dim}, {frame.size} vs {found}",
        site=msg.name,
        where=msg.where,
        found=f"{_family(msg.fn)} with batch shape {_shape(msg.fn.batch_shape)}: "
        f"{found} at dim {frame.dim}",
        expected=f"1 or {frame.size} at dim {frame.dim}, the {_size_of(frame)}",
        remedy=_remedy_for_batch(msg, frame, found, plates),
    )


def _size_of(frame: PlateFrame) -> str:
    if frame.size == frame.full_size:
        return f"size of plate {frame.name!r}"
    return f"rows of plate {frame.name!r} that take part in this run"


def _remedy_for_batch(msg: Message, frame: PlateFrame, found: int, plates) -> str:
    """What the shapes tell of what was meant; `plates` are all that are open."""
    if frame.size < frame.full_size and found == frame.full_size:
        return _index_by(frame, "the parameters", "loc[i]")
    if _is_transposed(msg.fn.batch_shape, plates):
        return _TRANSPOSE.format("the parameters")
    value = msg.value.shape if isinstance(msg.value, Tensor) else ()
    value = value[: len(value) - msg.fn.event_dim]
    known = [shape for shape in (value, msg.fn.batch_shape) if len(shape) >= 1 - frame.dim]
    if any(shape[frame.dim] == found and shape[frame.dim - 1] == frame.size for shape in known):
        return (
            f"the {frame.size} rows of the plate are vectors of {found}: declare each one variable,"
            f" {_family(msg.fn)}(...).to_event(1)"
        )
    if len(value) >= -frame.dim and value[frame.dim] == found:
        return f"make the plate's size {found}, as the data: plate({frame.name!r}, len(data))"
    return (
        f"if each of the {frame.size} rows is a vector of {found}, declare it one variable: "
        f".to_event(1); if the {found} are the rows, make the plate's size {found}"
    )


_TRANSPOSE = (
    "the plates stand the other way round: exchange their dim=, or the dimensions of {0}, .mT"
)


def _is_transposed(shape, plates) -> bool:
    """Whether a shape has the sizes of two plates, each at the other's dimension."""
    frames = [frame for frame in plates if frame.vectorized]
    if len(frames) != 2 or len(shape) < max(-frame.dim for frame in frames):
        return False
    one, other = frames
    crosswise = shape[one.dim] == other.size and shape[other.dim] == one.size
    return crosswise and one.size != other.size


def _index_by(frame: PlateFrame, what: str, indexed: str) -> str:
    return (
        f"index {what} with the plate's rows: with plate({frame.name!r}, ...) as i: ... {indexed}"
    )


def plate_against_value(msg: Message, frame: PlateFrame, found: int) -> ShapeError:
    shape = msg.value.shape[: msg.value.dim() - msg.fn.event_dim]
    remedy = f"make the plate's size agree with the data: plate({frame.name!r}, len(data))"
    if frame.size < frame.full_size and found == frame.full_size:
        remedy = _index_by(frame, "the data", "data[i]")
    elif _is_transposed(shape, msg.plates):
        remedy = _TRANSPOSE.format("the data")
    elif len(shape) >= 1 - frame.dim and shape[frame.dim - 1] == frame.size:
        remedy = f"each of the {frame.size} rows is a vector of {found}: give it a distribution of "
        remedy += f"vectors, as {_family(msg.fn)}(...).expand([{found}]).to_event(1)"
    return ShapeError(
        f"Shape mismatch inside plate({frame.name!r}) at site {msg.name!r}: "
        f"the plate has {frame.size} rows, the {_origin(msg)} value {found}",
        site=msg.name,
        where=msg.where,
        found=f"value of shape {_shape(msg.value.shape)}: {found} at dim {frame.dim}{_giver(msg)}",
        expected=f"{frame.size} at dim {frame.dim}, the {_size_of(frame)}",
        remedy=remedy,
    )


def value_against_distribution(msg: Message) -> ShapeError:
    error = ShapeError(
        f"Shape mismatch at site {msg.name!r}: {_origin(msg)} value against distribution",
        site=msg.name,
        where=msg.where,
        found=f"value of shape {_shape(msg.value.shape)}{_giver(msg)}",
        expected=f"shape {_shape(msg.fn.batch_shape + msg.fn.event_shape)} from {_family(msg.fn)} "
        f"(batch {_shape(msg.fn.batch_shape)}, event {_shape(msg.fn.event_shape)})",
        remedy=_remedy_for_event(msg),
    )
    error.statement = msg
    return error


def _remedy_for_event(msg: Message) -> str:
    event, value = msg.fn.event_shape, msg.value.shape
    if len(value) < len(event):
        return f"one variable is of shape {_shape(event)}: give the value as many dimensions"
    tail = value[len(value) - len(event) :]
    if tail != event:
        return (
            f"one variable is of shape {_shape(event)} here, and {_shape(tail)} in the data: "
            "give the parameters the data's length, or the data the parameters'"
        )
    return "bring the parameters and the data to one length"


def weights_apart(kind: str, msg: Message, inner: Any, outer: Any) -> ShapeError:
    return ShapeError(
        f"Shape mismatch at site {msg.name!r}: two {kind}s that do not broadcast",
        site=msg.name,
        where=msg.where,
        found=f"{kind}s of shape {_shape(inner.shape)} and, further out, {_shape(outer.shape)}",
        expected="shapes that broadcast: equal sizes, or 1, counted from the right",
    )


def weights_against_site(site: Message, shape) -> ShapeError:
    weights = {"mask": site.mask, "scale": site.scale}
    found = [f"{k} of shape {_shape(w.shape)}" for k, w in weights.items() if isinstance(w, Tensor)]
    return ShapeError(
        f"Shape mismatch at site {site.name!r}: {' and '.join(found)} "
        f"against log_prob of shape {_shape(shape)}",
        site=site.name,
        where=site.where,
        found=", ".join(found),
        expected=f"what broadcasts with its log-probabilities, shape {_shape(shape)}: that of the "
        "enclosing plates",
    )


def not_in_a_plate(site: Message, dim: int, size: int, shape) -> ShapeError:
    frames = [f for f in site.plates if f.vectorized]
    inside = ", ".join(f"{f.name!r} (dim {f.dim}, size {f.size})" for f in frames) or "no plate"
    batch = site.fn.batch_shape
    is_factor = type(site.fn).__name__ == "Unit"
    made = f"{'factor' if is_factor else _family(site.fn) + ' of batch'} shape {_shape(batch)}"
    if not is_factor and site.value.shape[: site.value.dim() - site.fn.event_dim] != batch:
        made = f"value of shape {_shape(site.value.shape)} under {made}"
    return ShapeError(
        f"at site {site.name!r}, invalid log_prob shape {_shape(shape)}: "
        f"dimension {dim} has size {size} and belongs to no plate",
        site=site.name,
        where=site.where,
        found=f"log-probabilities of shape {_shape(shape)} inside {inside}; {made}",
        expected="each dimension of the log-probability to belong to a plate, or to one event",
        remedy=_remedy_without_plate(site, dim, size),
    )


def _remedy_without_plate(site: Message, dim: int, size: int) -> str:
    taken = {frame.name for frame in site.plates}
    name = next((name for name in ("data", "rows", "more") if name not in taken), "outer")
    in_plate = f"put the statement in `with plate({name!r}, {size}):`"
    if type(site.fn).__name__ == "Unit":
        return f"sum the term: factor({site.name!r}, term.sum()); if it has {size} rows, {in_plate}"
    value = site.value.shape[: site.value.dim() - site.fn.event_dim]
    inner = [frame for frame in site.plates if frame.vectorized and frame.dim > dim]
    twice = next((frame.name for frame in inner if frame.size == size), None)
    rows = f"if the {size} are independent, {in_plate}"
    if twice is not None and (len(value) < -dim or 1 in value[dim:] or not site.is_observed):
        what = "one of the parameters"
        if site.is_observed and value[dim:] == (size, *(1,) * (-dim - 1)):
            what, rows = "the value observed", ""
        column = f"{what} is a column, of shape ({size}, 1), across the rows of plate {twice!r}: "
        return f"{column}bring them together, .squeeze(-1)" + (f"; {rows}" if rows else "")
    if inner:
        return f"{rows}; if they come of shapes that broadcast by mistake, make the shapes agree"
    vector = f"if the {size} are the parts of one variable, declare it: .to_event({-dim})"
    return f"{rows}; {vector}" if site.is_observed else f"{vector}; {rows}"


def bad_parameter(
    name: str | None, where, fn, parameter: str, value: Tensor, constraint
) -> DistributionError:
    site = f" at site {name!r}" if name else ""
    return DistributionError(
        f"Expected parameter {parameter} of distribution {_family(fn)}{site} "
        f"to satisfy the constraint {constraint}",
        site=name,
        where=where,
        found=f"{parameter} = {_offender(value, constraint)}{_flaw(value, constraint)}",
        expected=f"{parameter} {in_words(constraint)}",
        remedy=_remedy_for_parameter(fn, parameter, value, constraint),
    )


def not_constructed(family: str, given: dict[str, Any], fault: Exception) -> PplkitError:
    """A distribution's constructor refused its arguments."""
    described = {
        name: f"{name} {_shape(v.shape)}" if isinstance(v, Tensor) else f"{name} {_brief(v)}"
        for name, v in given.items()
    }
    shapes = {v.shape for v in given.values() if isinstance(v, Tensor)}
    found = ", ".join(described.values()) or "no parameters"
    said = str(fault).split("\n")[0]
    if len(shapes) > 1 and any(word in said for word in ("broadcast", "match", "expand")):
        return ShapeError(
            f"{family}: the parameters' shapes do not fit together",
            where=user_frame(),
            found=found,
            expected="shapes that broadcast: equal sizes, or 1, counted from the right",
            remedy="add a dimension of size 1 where a parameter is to be repeated: .unsqueeze(-1)",
        )
    kind, expected = UsageError if isinstance(fault, TypeError) else DistributionError, None
    if any(isinstance(v, str) or v is None for v in given.values()):
        expected = "numbers, lists of numbers, arrays or tensors"
    elif isinstance(fault, AttributeError) and "'dim'" in said:
        said = "one of the parameters is a vector or a matrix, not a single number"
        expected = "a tensor with dimensions, as torch.tensor([0.2, 0.8])"
    return kind(f"{family}: {said}", where=user_frame(), found=found, expected=expected)


def sample_shape_not_a_shape(found: Any) -> UsageError:
    return UsageError(
        "sample_shape is no shape",
        where=user_frame(),
        found=_called(found),
        expected="a tuple of sizes",
        remedy=f"write .sample(({_called(found)},))"
        if isinstance(found, int)
        else "write .sample()",
    )


def wrong_event_dims(fn, asked: int, declared: int) -> ShapeError:
    """`to_event` with more dimensions than there are."""
    return ShapeError(
        f"{_family(fn)} cannot make {asked} batch dimensions parts of one variable",
        where=user_frame(),
        found=f"batch shape {_shape(fn.batch_shape)}, {declared} event dimensions by .to_event",
        expected=f"Expected reinterpreted_batch_ndims <= {len(fn.batch_shape)} and >= {-declared}",
        remedy=f"call .to_event({len(fn.batch_shape)}), or .to_event(), which takes all there are"
        if asked > 0 and len(fn.batch_shape)
        else "leave .to_event out"
        if asked > 0
        else None,
    )


def cannot_expand(fn, batch_shape) -> ShapeError:
    return ShapeError(
        f"Cannot broadcast distribution of shape {_shape(fn.batch_shape)} to shape "
        f"{_shape(batch_shape)}",
        where=user_frame(),
        found=f"{_family(fn)} of batch shape {_shape(fn.batch_shape)}, asked to expand to "
        f"{_shape(batch_shape)}",
        expected="as many dimensions or more, and other sizes only where there is a 1",
        remedy="expand(...) is told the whole batch shape; expand_by(...) the dimensions to add",
    )


def invalid_obs_mask(name: str, keep: Tensor, fn, value: Tensor) -> ShapeError:
    batch = value.shape[: value.dim() - fn.event_dim]
    return ShapeError(
        f"Invalid obs_mask shape {_shape(keep.shape)} at site {name!r}; should be broadcastable to "
        f"batch_shape = {_shape(batch)}",
        site=name,
        where=user_frame(),
        found=f"obs_mask of shape {_shape(keep.shape)}, values of batch shape {_shape(batch)}",
        expected="a truth value for each row: the shape of the enclosing plates",
    )


def outside_support(
    name: str | None, where, fn, value: Tensor, origin: str | Message
) -> DistributionError:
    site = f" at site {name!r}" if name else ""
    giver = "" if isinstance(origin, str) else _giver(origin)
    drawn = not isinstance(origin, str) and _is_replayed(origin)
    statement = None if isinstance(origin, str) else origin
    origin = origin if isinstance(origin, str) else _origin(origin)
    support = _where_broken(fn.support, value)
    error = DistributionError(
        f"Expected value argument{site} to be within the support {support} "
        f"of distribution {_family(fn)}",
        site=name,
        where=where,
        found=f"{origin} value {_offender(value, fn.support)}{_flaw(value, support)}{giver}",
        expected=f"every value {in_words(support)}",
        remedy="draw it, in the guide, from a family with the same support as the model's"
        if drawn
        else _remedy_for_data(value, support),
    )
    error.statement = statement
    return error


def _remedy_for_data(value: Tensor, support) -> str:
    if _has_nan(value):
        return "NaN marks a missing value: leave such rows out, or pass obs_mask=~data.isnan()"
    if "Simplex" in str(support):
        return "divide by the sum: data / data.sum(-1, keepdim=True)"
    return "check the data, or choose a distribution whose support holds them"


def _is_wrapped(value: Tensor) -> bool:
    from .checks import unwrapped  # here, for checks imports this module

    return unwrapped(value) is not value


def _has_nan(value: Tensor) -> bool:
    return not _is_wrapped(value) and bool(torch.isnan(value).any())


def _where_broken(constraint, value: Tensor):
    """A constraint with bounds of tensors, as it is for the first element that breaks it."""
    base = constraint
    while hasattr(base, "base_constraint"):
        base = base.base_constraint
    bounds = {
        key: bound
        for key, bound in vars(base).items()
        if key.endswith("bound") and isinstance(bound, Tensor)
    }
    if not bounds or _is_wrapped(value):
        return constraint
    try:
        shape = torch.broadcast_shapes(value.shape, *(bound.shape for bound in bounds.values()))
        broken = (~base.check(value)).broadcast_to(shape).nonzero()
    except RuntimeError:  # bounds of events: their shapes mean something else
        return constraint
    if len(broken) == 0:
        return constraint
    at = tuple(broken[0].tolist())
    local = copy.copy(base)
    for key, bound in bounds.items():
        setattr(local, key, bound.detach().broadcast_to(shape)[at].item())
    return local


def _flaw(value: Tensor, constraint) -> str:
    """What a number alone does not show: a sum, an eigenvalue."""
    if _is_wrapped(value):
        return ""
    text, value = str(constraint), value.detach()
    if "Simplex" in text and value.dim() == 1:
        return f", whose sum is {_brief(value.sum())}"
    if "PositiveDefinite" in text and value.dim() == 2:
        if not torch.allclose(value, value.mT, atol=1e-6):
            return ", which is not symmetric"
        return f", whose smallest eigenvalue is {_brief(torch.linalg.eigvalsh(value)[0])}"
    return ""


def rows_against_plate(msg: Message, frame: PlateFrame, found: int) -> ShapeError:
    return ShapeError(
        f"{msg.type} {msg.name!r} has not one row for each of plate {frame.name!r}'s",
        site=msg.name,
        where=msg.where,
        found=f"shape {_shape(msg.value.shape)}: {found} rows, event_dim={msg.kwargs['event_dim']}",
        expected=f"{frame.full_size} rows, the whole plate's, or 1",
    )


def boolean_mask(name: str, mask: Any) -> Tensor:
    """The mask of a partly observed site, as booleans."""
    if isinstance(mask, Tensor) and mask.dtype == torch.bool:
        return mask
    if isinstance(mask, bool):
        return torch.tensor(mask)
    raise UsageError(
        f"site {name!r} cannot use this obs_mask",
        site=name,
        where=user_frame(),
        found=f"obs_mask={_brief(mask)}",
        expected="a tensor of booleans: which rows are observed",
        remedy="compare, as in ~torch.isnan(data), or call .bool()",
    )


def reparam_observed(msg: Message) -> ModelError:
    return ModelError(
        f"site {msg.name!r} is observed and cannot be reparameterised",
        site=msg.name,
        where=msg.where,
        remedy="leave it out of reparam's config: only what is inferred gains from another form",
    )


def reparam_family(msg: Message, expected: str) -> ModelError:
    return ModelError(
        f"site {msg.name!r} cannot be reparameterised in this way",
        site=msg.name,
        where=msg.where,
        found=_family(msg.fn),
        expected=expected,
    )


def unknown_param(name: str, known: list[str]) -> ParamError:
    class MissingParam(ParamError, KeyError):
        __str__ = ParamError.__str__

    return MissingParam(
        f"no parameter named {name!r}", site=name, where=user_frame(), found=nearest(name, known)
    )


def param_without_value(name: str, known: list[str], where) -> ParamError:
    return ParamError(
        f"parameter {name!r} has no value yet",
        site=name,
        where=where,
        found=f"param({name!r}) without an initial value; {nearest(name, known)}",
        remedy=f"give one: param({name!r}, torch.tensor(0.))",
    )


def stale_param(name: str, what: str, old, new, where, twice: bool = False) -> ParamError:
    """`twice`: no step has used the parameter yet, so it may be this very run that made it."""
    remedy = "call clear_param_store() before fitting the changed model, or use another name"
    if twice:
        remedy += f"; two statements of one run need the same {what}"
    return ParamError(
        f"parameter {name!r} is left over from an earlier run with another {what}",
        site=name,
        where=where,
        found=f"{what} {old} in the parameter store",
        expected=f"{what} {new}, as asked for here",
        remedy=remedy,
    )


def param_outside_constraint(name: str, value: Tensor, constraint, where) -> ParamError:
    return ParamError(
        f"parameter {name!r} starts outside its constraint {constraint}",
        site=name,
        where=where or user_frame(),
        found=_offender(value, constraint),
        expected=f"a value {in_words(constraint)}",
        remedy="give the value itself, as the model uses it, not its logarithm or another form",
    )


def not_a_parameter_file(filename, fault: Exception) -> ParamError:
    refused = isinstance(fault, pickle.UnpicklingError)
    return ParamError(
        f"{os.fspath(filename)!r} is no file of parameters",
        where=user_frame(),
        found="a pickle that would run code, or a damaged file; nothing in it was run"
        if refused
        else _brief(str(fault)),
        expected="what ParamStore.save has written",
    )


def param_not_float(name: str, value: Tensor, where) -> ParamError:
    return ParamError(
        f"parameter {name!r} is made of {value.dtype}, which has no gradient",
        site=name,
        where=where or user_frame(),
        found=_brief(value),
        expected="floating-point numbers",
        remedy=f"write torch.tensor({value.double().tolist()}), or call .float()"
        if value.numel() <= 6
        else "call .float()",
    )


def guide_site_missing(guide_msg: Message, model_names: list[str], there=None) -> ModelError:
    """`there`: what the model has under this name, if it is no variable that is drawn."""
    name = guide_msg.name
    found = f"the guide samples {name!r}; {nearest(name, model_names)}"
    remedy = "use the model's name; a variable only the guide has: infer={'is_auxiliary': True}"
    if there is not None:
        kind = _KINDS.get("observed" if there.is_observed else there.type, there.type)
        found = f"the guide samples {name!r}; in the model ({there.where}) it is {kind}"
        remedy = f"leave {name!r} out of the guide: it is for what the model draws"
    return ModelError(
        f"Found non-auxiliary vars in guide but not model: {{{name!r}}}",
        site=name,
        where=guide_msg.where,
        found=found,
        expected="each unobserved sample of the guide to be one of the model",
        remedy=remedy,
    )


def model_site_missing(
    msg: Message, guide_names: list[str], there=None, returned: Any = None
) -> ModelError:
    """`there`: what the guide has under this name; `returned`: what the guide has returned."""
    name = msg.name
    found = f"the model samples {name!r}, the guide does not; {nearest(name, guide_names)}"
    remedy = f"add sample({name!r}, ...) to the guide, or observe it in the model with obs="
    if there is not None:
        kind = _KINDS.get("observed" if there.is_observed else there.type, there.type)
        found = f"the model samples {name!r}; in the guide ({there.where}) it is {kind}"
    elif _holds_distribution(returned):
        found = f"the guide returns {_returned(returned)} and samples nothing of the name {name!r}"
        remedy = f"draw from it, inside the guide: sample({name!r}, ...)"
    elif msg.fn.support.is_discrete and not msg.fn.has_rsample:
        remedy = (
            "sum it out: infer={'enumerate': 'parallel'} at the model's site, with TraceEnum_ELBO; "
            f"or add sample({name!r}, ...) to the guide"
        )
    return ModelError(
        f"Found vars in model but not guide: {{{name!r}}}",
        site=name,
        where=msg.where,
        found=found,
        expected="each unobserved sample of the model to be one of the guide",
        remedy=remedy,
    )


def _holds_distribution(returned: Any) -> bool:
    inside = returned.values() if isinstance(returned, dict) else returned
    inside = inside if isinstance(returned, (dict, list, tuple)) else [returned]
    return any(isinstance(x, torch.distributions.Distribution) for x in inside)


def _returned(returned: Any) -> str:
    if isinstance(returned, torch.distributions.Distribution):
        return f"a distribution, {_family(returned)},"
    return f"a {type(returned).__name__} of distributions"


def guide_observes(guide_msg: Message, swapped: bool) -> ModelError:
    """`swapped`: whether the model observes nothing, as a guide does."""
    name = guide_msg.name
    order = "; or have the two changed places? SVI(model, guide, ...)" if swapped else ""
    return ModelError(
        f"the guide observes site {name!r}",
        site=name,
        where=guide_msg.where,
        found=f"{name!r} has a value in the guide that was not drawn there: obs=, or a `condition`",
        expected="a guide that draws the model's latent variables; data belong to the model",
        remedy=f"take sample({name!r}, ...) out of the guide{order}",
    )


def guide_shape(msg: Message, guide_msg: Message) -> ShapeError:
    def said(m):
        inside = ", ".join(f"{f.name!r} (dim {f.dim})" for f in m.plates if f.vectorized)
        shapes = f"batch {_shape(m.fn.batch_shape)}, event {_shape(m.fn.event_shape)}"
        return f"{shapes}, in {'plate ' + inside if inside else 'no plate'}"

    remedy = "give the guide the same plates and .to_event as the model"
    ours, theirs = _plates_of(msg), _plates_of(guide_msg)
    event = len(msg.fn.event_shape) - len(guide_msg.fn.event_shape)
    if msg.fn.shape() == guide_msg.fn.shape() and event:
        cure = f".to_event({event})" if event > 0 else "one .to_event less"
        cure += " in the guide"
        plated = {frame.dim for frame in msg.plates}
        if event < 0 and any(dim not in plated for dim in range(event, 0)):
            cure = f".to_event({-event}) in the model, where they belong to no plate"
        remedy = f"the values have the same shape, but not the same parts: {cure}"
    elif missing := [name for name in ours if name not in theirs]:
        remedy = f"put the guide's statement in plate {missing[0]!r} too"
    elif extra := [name for name in theirs if name not in ours]:
        remedy = f"take the guide's statement out of plate {extra[0]!r}, where the model's is not"
    parts = (len(msg.fn.event_shape), len(guide_msg.fn.event_shape))
    return ShapeError(
        f"Model and guide event_dims disagree at site {msg.name!r}: {parts[0]} vs {parts[1]}"
        if event
        else f"Model and guide shapes disagree at site {msg.name!r}",
        site=msg.name,
        where=guide_msg.where,
        found=f"in the guide {_family(guide_msg.fn)}: {said(guide_msg)}",
        expected=f"as in the model ({msg.where}) {_family(msg.fn)}: {said(msg)}",
        remedy=remedy,
    )


def _plates_of(msg: Message) -> list[str]:
    return [frame.name for frame in msg.plates]


def guide_support(msg: Message, guide_msg: Message) -> ModelError:
    wanted = in_words(msg.fn.support)
    remedy = "draw it from a family with the model's support"
    if wanted in ("greater than 0", "0 or greater"):
        remedy += ": LogNormal or Gamma, say"
    elif wanted == "between 0 and 1":
        remedy += ": Beta, say"
    return ModelError(
        f"the guide draws site {msg.name!r} from outside the model's support",
        site=msg.name,
        where=guide_msg.where,
        found=f"in the guide {_family(guide_msg.fn)}, which draws "
        f"{in_words(guide_msg.fn.support).removesuffix(', not NaN').replace('a real', 'any real')}",
        expected=f"as in the model ({msg.where}) {_family(msg.fn)}: {wanted}",
        remedy=remedy,
    )


def guide_subsample(msg: Message, ours: PlateFrame, theirs: PlateFrame, guide_msg) -> PlateError:
    return PlateError(
        f"model and guide subsample site {msg.name!r} by different plates",
        site=msg.name,
        where=guide_msg.where,
        found=f"in the guide plate {theirs.name!r}: {theirs.size} of {theirs.full_size} rows",
        expected=f"plate {ours.name!r}, as in the model ({msg.where}): "
        f"{ours.size} of {ours.full_size} rows, the same ones",
        remedy="give both plates one name: then both have the rows of one draw",
    )


def arguments_do_not_fit(what: str, fn: Any, args, kwargs, signature) -> UsageError:
    given = [_called(arg) for arg in args] + [f"{k}={_called(v)}" for k, v in kwargs.items()]
    code = getattr(_innermost(fn), "__code__", None)
    place = f" at {Where(code.co_filename, code.co_firstlineno)}" if code is not None else ""
    name = getattr(fn, "__name__", what)
    return UsageError(
        f"{name}{signature} was called with other arguments",
        where=user_frame(),
        found=f"the {what}{place} was given ({', '.join(given)})",
        expected="model and guide to take the same arguments: step's, or run's after num_steps",
        remedy=f"give the {what} the other's parameters; it need not use them all",
    )


def _innermost(fn: Any) -> Any:
    while hasattr(fn, "__wrapped__") or getattr(fn, "fn", None) is not None:
        fn = getattr(fn, "__wrapped__", None) or fn.fn
    return fn


def loss_not_scalar(loss: Any) -> UsageError:
    return UsageError(
        "the loss is no scalar tensor",
        where=user_frame(),
        found=f"a loss function that returned {_called(loss)}"
        + (f" of shape {_shape(loss.shape)}" if isinstance(loss, Tensor) else ""),
        expected="a tensor of shape (), which knows its gradient",
        remedy="sum it, as in loss.sum(); call neither .item() nor .detach()"
        if isinstance(loss, Tensor)
        else "return the tensor itself: call neither .item() nor float()",
    )


def inference_mode() -> UsageError:
    return UsageError(
        "a step of SVI inside torch.inference_mode()",
        where=user_frame(),
        found="tensors made here can have no gradient",
        expected="a place where gradients can be taken",
        remedy="take the step outside the block",
    )


def no_gradient(sites: list[Message]) -> PplkitWarning:
    names = ", ".join(repr(site.name) for site in sites)
    one = len(sites) == 1
    return PplkitWarning(
        f"no gradient reaches parameter{'' if one else 's'} {names}",
        site=sites[0].name,
        where=sites[0].where,
        found=f"the loss does not depend on {'it' if one else 'them'}, or a .detach(), .item() or "
        "torch.no_grad() stands between",
        expected="every parameter to have a part in the loss: the others never move",
        remedy="use it in a sample statement, as a tensor",
    )


def stale_values(leftovers: list[tuple[Message, Tensor]]) -> PplkitWarning:
    names = ", ".join(repr(msg.name) for msg, _ in leftovers)
    said = [
        f"{msg.name!r} is {_brief(value)}" + _as_stated(msg.args[0]) for msg, value in leftovers[:3]
    ]
    more = f", and {len(leftovers) - 3} more" if len(leftovers) > 3 else ""
    plural = "s" if len(leftovers) > 1 else ""
    return PplkitWarning(
        f"parameter{plural} left over from an earlier run: {names}",
        site=leftovers[0][0].name,
        where=leftovers[0][0].where,
        found="; ".join(said) + more,
        expected="a new fit to start from the values that its param statements give",
        remedy="call clear_param_store() before it; to go on from there, keep the same optimiser",
    )


def _as_stated(init: Any) -> str:
    return "" if callable(init) else f", not {_brief(torch.as_tensor(init))} as stated"


def init_needs_gradient(name: str, where) -> PplkitWarning:
    return PplkitWarning(
        f"parameter {name!r} starts from a computed value, and no gradient flows back into it",
        site=name,
        where=where,
        found="an initial value that has a gradient of its own",
        expected="a plain tensor: the parameter is a new leaf, which starts there",
        remedy=f"param({name!r}, value.detach()), if that is meant",
    )


def not_finite(
    what: str, step: int | None, culprit: Message | None, clue: str | None = None
) -> InferenceError:
    """`culprit`: the first statement whose numbers are not finite; `clue`: what else is known."""
    found = clue
    if culprit is not None and culprit.type == "sample":
        found = f"first at site {culprit.name!r}: {_failed_numbers(culprit)}"
    elif culprit is not None:
        kind = "parameter" if culprit.type == "param" else f"{culprit.type} site"
        found = f"first at {kind} {culprit.name!r}: {_failed(culprit.value)}"
    if found is not None and culprit is not None and clue is not None:
        found += f"; {clue}"
    return InferenceError(
        f"Encountered NaN or infinity: {what} of step {step} is not finite"
        if step is not None
        else f"Encountered NaN or infinity: {what} is not finite",
        site=culprit.name if culprit is not None else None,
        where=culprit.where if culprit is not None else None,
        found=found,
        expected="finite numbers"
        + ("; the parameters are as they were before this step" if step is not None else ""),
        remedy=_against_infinity(culprit),
    )


def bad_gradient(
    step: int | None, param: Message | None, names: list[str], grad: Tensor, born: tuple | None
) -> InferenceError:
    """`born`: the first site whose own gradient is not finite, and with respect to what."""
    found = f"the gradient of parameter {names[0]!r}: {_failed(grad)}"
    found += f", at {_brief(param.value)}" if param is not None else ""
    found += f"; of {', '.join(map(repr, names[1:]))} too" if len(names) > 1 else ""
    where, site = (param.where, param.name) if param is not None else (None, names[0])
    if born is not None:
        msg, part = born
        where, site = msg.where, msg.name
        found += f"; it comes from site {msg.name!r}, by the {part} of {_described(msg.fn)}"
    else:
        found += "; all log-probabilities are finite, so it comes from what is computed in between"
    return InferenceError(
        "Encountered NaN or infinity: a gradient "
        + (f"of step {step} is not finite" if step is not None else "is not finite"),
        site=site,
        where=where,
        found=found,
        expected="finite numbers"
        + ("; the parameters are as they were before this step" if step is not None else ""),
        remedy="look for sqrt, log or a division at 0, also where a mask or torch.where hides the "
        "result",
    )


def program_failed(label: str, fault: Exception) -> ModelError:
    """An exception of the program's own, for `check` to report."""
    where, tb = None, fault.__traceback__
    while tb is not None:
        if not tb.tb_frame.f_code.co_filename.startswith(_NOT_THE_USER):
            where = Where(tb.tb_frame.f_code.co_filename, tb.tb_lineno)
        tb = tb.tb_next
    said = str(fault).split("\n")[0]
    return ModelError(
        f"the {label} raised {type(fault).__name__}" + (f": {said}" if said else ""),
        where=where,
    )


def discrete_not_summed(msg: Message) -> PplkitWarning:
    return PplkitWarning(
        f"discrete latent variable {msg.name!r} without enumeration",
        site=msg.name,
        where=msg.where,
        found=f"{_family(msg.fn)}, which has no gradient in its draws",
        expected="continuous variables, for automatic guides and for NUTS",
        remedy="sum it out: infer={'enumerate': 'parallel'} with TraceEnum_ELBO; or give the guide "
        "a site of this name",
    )


def plate_unused(msg: Message) -> PplkitWarning:
    return PplkitWarning(
        f"plate {msg.name!r} holds no statement",
        site=msg.name,
        where=msg.where,
        found="no sample statement inside it",
        expected="the statements that are made for each of its rows",
        remedy=f"indent them under `with plate({msg.name!r}, ...):`, or leave the plate out",
    )


def observed_repeatedly(msg: Message, frame: PlateFrame) -> PplkitWarning:
    return PplkitWarning(
        f"site {msg.name!r} observes one value for all {frame.size} rows of plate {frame.name!r}",
        site=msg.name,
        where=msg.where,
        found=f"value of shape {_shape(msg.value.shape)}{_giver(msg)}: it counts {frame.size} "
        "times",
        expected=f"{frame.size} values at dim {frame.dim}, one for each row",
        remedy="put the statement outside the plate, or repeat the value with .expand if that is "
        "meant",
    )


def _against_infinity(culprit: Message | None) -> str:
    is_site = culprit is not None and culprit.type == "sample"
    if is_site and bool((culprit.log_prob == -torch.inf).any() & culprit.value.isfinite().all()):
        return (
            "the value is impossible there: keep the parameters off the edge of their range, or "
            "check the data"
        )
    if culprit is not None and culprit.type == "deterministic":
        return "look at how it is computed: log(0), a division by 0, exp of a large number"
    return "try a smaller learning rate, another start, or a constraint on a parameter"


def _failed_numbers(site: Message) -> str:
    """A sample site whose value or log-probability is not finite: which element, under what."""
    value, log_prob = site.value.detach(), site.log_prob.detach()
    if not torch.isfinite(value).all():
        return f"value {_failed(value)} under {_described(site.fn)}"
    index = _first(~torch.isfinite(log_prob))
    row = _row(value, index, len(log_prob.shape), site.fn.event_dim)
    return (
        f"log-probability {_failed(log_prob)}, of value {_brief(row)} under "
        f"{_described(site.fn, index)}"
    )


def _failed(value: Tensor) -> str:
    """The first element that is not finite: `nan at [2], 1 of 5`."""
    value = torch.as_tensor(value).detach()
    bad = ~torch.isfinite(value)
    index = _first(bad)
    if not index:
        return _brief(value)
    at = ", ".join(map(str, index))
    return f"{_brief(value[index])} at [{at}], {int(bad.sum())} of {bad.numel()}"


def _first(bad: Tensor) -> tuple[int, ...]:
    found = bad.nonzero()
    return tuple(found[0].tolist()) if bad.dim() and len(found) else ()


def _row(value: Tensor, index: tuple[int, ...], batch_dim: int, event_dim: int = 0) -> Tensor:
    """The part of a value that stands at an index of the batch."""
    own = value.dim() - event_dim
    if not index or own <= 0:
        return value
    at = tuple(
        min(i, size - 1)
        for i, size in zip(index[batch_dim - own :], value.shape[:own], strict=False)
    )
    return value[at]


def two_devices(fault: Exception, fn, name: str | None, where, value=None) -> Exception:
    """What torch refused, told as tensors on two devices, if that it is; else the fault itself."""
    if isinstance(fault, PplkitError):
        return fault
    places = {}
    for part in [fn, *_all_parts(fn)]:
        for parameter in part.stated():
            tensor = getattr(part, parameter, None)
            if isinstance(tensor, Tensor):
                places[f"{parameter} of {_family(part)}"] = tensor.device
    if isinstance(value, Tensor):
        places["the value"] = value.device
    if len(set(places.values())) < 2:
        return fault
    site = f" at site {name!r}" if name else ""
    said = str(fault).split("\n")[0]
    return DistributionError(
        f"Expected all tensors to be on the same device{site}",
        site=name,
        where=where or user_frame(),
        found=", ".join(f"{what} on {device}" for what, device in places.items()),
        expected="parameters and data on one device" + (f" ({said})" if "meta" not in said else ""),
        remedy=f"move one to the other's: .to({str(next(iter(places.values())))!r})",
    )


def _all_parts(fn) -> Iterator:
    for part in fn.parts():
        yield part
        yield from _all_parts(part)


def not_compiled(why: str) -> PplkitWarning:
    return PplkitWarning(
        f"SVI.run goes on in Python: {why}",
        remedy="compile=False says that this is meant",
    )


def chains_not_compiled(why: str) -> PplkitWarning:
    return PplkitWarning(
        f"MCMC goes on in Python: {why}",
        remedy="compile=False says that this is meant",
    )


def native_chains_failed() -> InferenceError:
    return InferenceError(
        "the native code of the chains has failed",
        where=user_frame(),
        remedy="run in Python, MCMC(..., compile=False), which tells more",
    )


def failed_draw(msg: Message, fault: Exception) -> Exception:
    told = two_devices(fault, msg.fn, msg.name, msg.where)
    if told is not fault:
        return told
    return DistributionError(
        f"site {msg.name!r} could not be drawn from {_family(msg.fn)}",
        site=msg.name,
        where=msg.where,
        found=str(fault).split("\n")[0],
    )


def nothing_to_sample(discrete: list[str], run) -> ModelError:
    found = "no unobserved sample statement"
    remedy = "nothing is unknown; leave out obs= where the model shall infer"
    if discrete:
        found = f"discrete sites alone: {', '.join(map(repr, discrete))}"
        remedy = "their posterior is exact: TraceEnum_ELBO().compute_marginals, or infer_discrete"
    elif run.sites("param"):
        names = ", ".join(repr(site.name) for site in run.sites("param"))
        remedy = f"parameters ({names}) are fitted by SVI; give them priors, by sample, to sample"
    return ModelError(
        "MCMC found no latent variables to sample",
        where=user_frame(),
        found=found,
        expected="at least one continuous sample statement that is not observed",
        remedy=remedy,
    )


def discrete_for_mcmc(msg: Message) -> ModelError:
    summed = "sum it out: infer={'enumerate': 'parallel'} at the site, or config_enumerate(model)"
    if not msg.fn.has_enumerate_support:
        summed = "write the model without it: sum it out by hand, or choose a continuous relaxation"
    return ModelError(
        f"Continuous inference cannot handle discrete sample site {msg.name!r}",
        site=msg.name,
        where=msg.where,
        found=f"{_family(msg.fn)}, whose values can be counted, not marked for enumeration",
        expected="continuous latent variables, for HMC and NUTS, or discrete ones that are summed",
        remedy=summed,
    )


def subsampled_for_mcmc(msg: Message, frame: PlateFrame) -> ModelError:
    return ModelError(
        f"MCMC does not support subsampling: plate {frame.name!r} around site {msg.name!r}",
        site=msg.name,
        where=msg.where,
        found=f"{frame.size} of {frame.full_size} rows",
        expected="all rows in every evaluation: with fewer, the target is another each time",
        remedy=(
            f"leave subsample_size out: plate({frame.name!r}, {frame.full_size}); SVI subsamples"
        ),
    )


def improper_posterior(names: list[str], upwards: bool | None = None) -> InferenceError:
    found = "step sizes grow without end: nothing holds the chains back"
    if len(names) == 1:
        end = {True: "grows", False: "falls", None: "moves"}[upwards]
        found = f"the joint density does not fall off as {names[0]!r} {end} without end"
    elif names:
        shown = ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
        found = f"the joint density does not fall off as {shown} move together without end"
    return InferenceError(
        "the posterior is improper: it has no finite integral",
        site=names[0] if len(names) == 1 else None,
        where=user_frame(),
        found=found,
        expected="a density that falls off in every direction",
        remedy="give each variable a proper prior, or data that tell of it",
    )


def no_start(culprit: Message | None, how: str, fault: Exception | None = None) -> InferenceError:
    found = None
    if isinstance(fault, PplkitError):
        where, site = fault.where, fault.site
        found = fault.headline + (f": {fault.found}" if fault.found else "")
    else:
        where = culprit.where if culprit is not None else user_frame()
        site = culprit.name if culprit is not None else None
        if culprit is not None:
            found = f"first at site {culprit.name!r}: {_failed_numbers(culprit)}"
    return InferenceError(
        f"Cannot find valid initial parameters {how}: the density is zero or not a number there",
        site=site,
        where=where,
        found=found,
        expected="a point where log-density and gradient are finite",
        remedy="look at what the model observes there; or start elsewhere: "
        "init_strategy=init_to_value(values={...}), or initial_params=",
    )


def initial_params(found: str, expected: str) -> UsageError:
    return UsageError(
        "initial_params do not fit the model's latent variables",
        where=user_frame(),
        found=found,
        expected=expected,
        remedy="values are unconstrained; their first dimension is that of the chains",
    )


def variables_come_and_go(name: str, site: Message | None) -> ModelError:
    there = "has it, the first had not" if site is not None else "has it not, the first had"
    return ModelError(
        f"latent variable {name!r} is not in every run of the model",
        site=name,
        where=user_frame() if site is None else site.where,
        found=f"a run at other values of the variables that {there}",
        expected="the same variables, whatever their values: chains move in all of them together",
        remedy=f"sample {name!r} in every run, and choose by torch.where whether it counts",
    )


def not_a_variable(what: str, argument: str, name: str, known: list[str]) -> UsageError:
    said = nearest(name, known)
    return UsageError(
        f"{what} found no latent variable named {name!r}",
        where=user_frame(),
        found=f"{argument.rstrip('=')} tells of {name!r}",
        expected=f"continuous latent variables alone: {', '.join(map(repr, known))}",
        remedy=said if said.startswith("did you mean") else None,
    )


def nothing_drawn() -> UsageError:
    return UsageError(
        "MCMC has no draws yet",
        where=user_frame(),
        expected="a run that came at least to the first draw after its warm-up",
        remedy="call run, with the model's arguments, first",
    )


def divergences(number: int, total: int) -> PplkitWarning:
    return PplkitWarning(
        f"{number} of {total} draws diverged: the chains may not have come everywhere",
        remedy="write the model with milder curvature, handlers.reparam with LocScaleReparam(0.0) "
        "say; or take smaller steps: target_accept_prob=0.95",
    )


def optim_args_not_mapping(optimiser: str, found: Any) -> UsageError:
    return UsageError(
        f"{optimiser} needs its settings in a dictionary",
        where=user_frame(),
        found=f"{optimiser}({_called(found)})",
        expected="settings by their names",
        remedy=f'write {optimiser}({{"lr": 0.01}})',
    )


def unknown_option(optimiser: str, key: str, known: list[str]) -> UsageError:
    return UsageError(
        f"{optimiser} has no setting {key!r}",
        where=user_frame(),
        found=key,
        expected=", ".join(known),
        remedy=nearest(key, known),
    )


def learning_rate(optimiser: str, found: Any) -> UsageError:
    return UsageError(
        f"{optimiser} cannot use this learning rate",
        where=user_frame(),
        found=f"lr={_brief(found)}",
        expected="a positive number",
        remedy=f'write {optimiser}({{"lr": 0.01}})',
    )


def torch_refuses_settings(what: str, given: Any, fault: Exception) -> UsageError:
    return UsageError(
        f"{what} cannot use these settings",
        where=user_frame(),
        found=f"{_brief(given)}: {str(fault).split(chr(10))[0]}",
        expected=f"the settings of torch's {what}",
    )


def scheduler_arguments(schedule: str, found: Any) -> UsageError:
    return UsageError(
        f"{schedule} needs an optimiser and its settings",
        where=user_frame(),
        found=_brief(found),
        expected=f'{schedule}({{"optimizer": torch.optim.Adam, "optim_args": {{...}}, ...}})',
    )


def parameter_not_held(name: str) -> UsageError:
    return UsageError(
        f"the torch optimiser does not hold parameter {name!r}",
        site=name,
        where=user_frame(),
        found=f"the program reads parameter {name!r}, which this optimiser would never move",
        remedy="use one of pplkit.optim, as Adam({'lr': 0.01}): it moves what the program reads",
    )


def optimiser_state_shape(name: str, leaf: Tensor, state: dict) -> UsageError:
    return UsageError(
        f"the optimiser's state for parameter {name!r} is of another shape",
        site=name,
        where=user_frame(),
        found=", ".join(f"{key} {_shape(value.shape)}" for key, value in state.items()),
        expected=_shape(leaf.shape),
        remedy="load the state that was saved with this model, or call .reset()",
    )


def not_an_optimiser_file(filename, fault: Exception) -> UsageError:
    return UsageError(
        f"{os.fspath(filename)!r} does not hold an optimiser's state",
        where=user_frame(),
        found=str(fault).split("\n")[0],
        expected="a file that an optimiser's save() has written",
        remedy="files that would run code are refused, whoever sent them",
    )


def missing_package(name: str, what: str) -> PplkitError:
    class MissingPackage(PplkitError, ImportError):
        pass

    return MissingPackage(
        f"{what} needs the package {name!r}", where=user_frame(), remedy=f"pip install {name}"
    )


def cannot_be_captured(
    what: str, where: Where | None, found: str | None = None, remedy: str | None = None
) -> CaptureError:
    return CaptureError(
        f"{what} cannot be captured",
        where=where,
        found=found,
        expected="the same torch operations whatever the numbers are",
        remedy=remedy or "run this part outside of what is captured",
    )


def number_asked_for(where: Where | None) -> CaptureError:
    return cannot_be_captured(
        "asking a tensor for its number",
        where,
        "`if`, `while`, .item(), float(), int(), bool(), .tolist(), NumPy, or a plate's size",
        "compute with the tensor itself: torch.where(condition, a, b) for `if`, torch.log for "
        "math.log; a size is a whole number among the arguments",
    )


def shape_from_numbers(operation: str, where: Where | None) -> CaptureError:
    return cannot_be_captured(
        operation,
        where,
        "a result whose shape depends on numbers, as of x[x > 0] or nonzero",
        "keep every row and mask: torch.where(condition, x, 0.), or handlers.mask; count with "
        "(x.unsqueeze(-1) == torch.arange(n)).sum(0)",
    )


def optimiser_not_captured(optim: Any) -> CaptureError:
    return CaptureError(
        f"a step of {optim!r} cannot be captured",
        where=user_frame(),
        expected="an optimiser of pplkit.optim, whose step is a function of its inputs: Adam, "
        "ClippedAdam, AdamW, SGD, RMSprop, Adagrad",
        remedy="use one of these, or run the inference as it is",
    )


def input_changed(operation: str, where: Where | None) -> CaptureError:
    return cannot_be_captured(
        "changing an input in place",
        where,
        f"{operation} on an argument, or on a tensor or a module's buffer that the function closes "
        "over",
        "make a new tensor and return it: x = x + 1 for x += 1; a module in eval mode changes no "
        "buffer",
    )


def untested_torch(version: str, tested: tuple[str, ...]) -> CaptureError:
    return CaptureError(
        "this version of torch is not one that capture is tested with",
        found=f"torch {version}",
        expected=f"torch {' or '.join(tested)}",
        remedy="install that version; everything else of the engine runs on this one",
    )


def other_arguments(what: str, found: Any, expected: Any) -> CaptureError:
    return CaptureError(
        f"a captured program was called with arguments of another {what}",
        where=user_frame(),
        found=str(found),
        expected=f"{expected}, as in the example it was captured with",
        remedy="capture the function with an example of this kind",
    )


def other_noise(kind: str, shape: tuple, given: Tensor | None) -> CaptureError:
    found = "no more" if given is None else f"{given.dtype} tensor of shape {_shape(given.shape)}"
    return CaptureError(
        "a run was given noise that does not fit",
        where=user_frame(),
        found=found,
        expected=f"{kind} noise of shape {_shape(shape)}",
        remedy="draw it with draw_noise, for these very arguments",
    )


def too_many_programs(most: int, guard: Any) -> CaptureError:
    return CaptureError(
        f"a captured function has needed {most} programs already, one for each size",
        where=getattr(guard, "where", None),
        found=f"this line fixes a size: {getattr(guard, 'holds', '')}",
        remedy="keep sizes open: vectorise loops over rows, compute with len(data) by torch, write "
        "1.0 * n for float(n)",
    )


def disagrees(sizes: dict | None) -> CaptureError:
    at = "the example's sizes" if sizes is None else f"sizes {sorted(sizes.values())}"
    return CaptureError(
        "the captured program does not compute what the function does",
        where=user_frame(),
        found=f"different results at {at}",
        expected="the same from the same noise",
        remedy="a function of its arguments alone: no state kept between runs, no random numbers "
        "from outside torch",
    )


def kept_from_a_step(where: Where | None) -> CaptureError:
    return cannot_be_captured(
        "what a step of `SVI.run` has computed, kept for after the run,",
        where,
        remedy="compute it from the parameters that the run has reached",
    )


def cannot_be_published(operation: str, where: Where | None) -> CaptureError:
    return CaptureError(
        f"{operation} cannot be published: a page has no such operation",
        where=where,
        expected="operations that ONNX has, or that pplkit.capture.published is written in",
        remedy="compute it in another way, or publish a table of results instead",
    )


def no_program(leaves: list) -> CaptureError:
    return CaptureError(
        "no program could be captured for arguments of these sizes",
        where=user_frame(),
        found=", ".join(_shape(x.shape) if isinstance(x, Tensor) else _brief(x) for x in leaves),
    )


def different_numbers_of_draws(shapes: dict[str, Any]) -> ShapeError:
    return ShapeError(
        "posterior_samples have different numbers of draws",
        where=user_frame(),
        found=", ".join(f"{name!r}: {_shape(shape)}" for name, shape in shapes.items()),
        expected="the same size at the leftmost dimension of all",
    )


def predictive_size_unknown() -> UsageError:
    return UsageError(
        "Either posterior_samples or num_samples must be specified",
        where=user_frame(),
        expected="Predictive(model, posterior_samples) or Predictive(model, num_samples=100), "
        "or guide= and num_samples=",
    )


def samples_and_guide() -> UsageError:
    return UsageError(
        "`posterior_samples` cannot be provided with the `guide` argument",
        where=user_frame(),
        expected="one of the two: a guide draws num_samples= itself",
    )


def unknown_return_site(name: str, known: list[str]) -> UsageError:
    return UsageError(
        f"return_sites names {name!r}, which the model does not have",
        site=name,
        where=user_frame(),
        found=f"return_sites=[..., {name!r}, ...]",
        expected=f"names that the model has: {_those(known)}",
        remedy=said if (said := nearest(name, known)).startswith("did") else "use one of these",
    )


def baseline_options(msg: Message, unknown: list[str], known: list[str]) -> UsageError:
    return UsageError(
        f"Unrecognized baseline options at site {msg.name!r}: {', '.join(map(repr, unknown))}",
        site=msg.name,
        where=msg.where,
        found=nearest(unknown[0], known),
        expected=", ".join(known),
    )


def baseline_twice(msg: Message) -> UsageError:
    return UsageError(
        f"cannot use baseline_value and nn_baseline simultaneously, at site {msg.name!r}",
        site=msg.name,
        where=msg.where,
    )


def baseline_shape(msg: Message, found, expected) -> ShapeError:
    return ShapeError(
        f"Expected baseline at site {msg.name!r} to be {_shape(expected)} "
        f"instead got {_shape(found)}",
        site=msg.name,
        where=msg.where,
        found=f"baseline of shape {_shape(found)}",
        expected=f"{_shape(expected)}: the shape of the plates around the site",
    )


def not_reparameterized(msg: Message, what: str) -> ModelError:
    return ModelError(
        f"All distributions in the guide must be fully reparameterized: site {msg.name!r} is not",
        site=msg.name,
        where=msg.where,
        found=f"{_family(msg.fn)}, whose draws have no gradient",
        expected=f"families with differentiable draws, under {what}",
        remedy="use Trace_ELBO",
    )


def not_verified_mean_field(model_names: list[str], guide_names: list[str]) -> PplkitWarning:
    return PplkitWarning(
        "Failed to verify mean field restriction on the guide: the sites are in different orders",
        where=user_frame(),
        found=f"Model: {', '.join(model_names)}. Guide: {', '.join(guide_names)}",
        expected="the same order in both",
        remedy="put them in the same order, or use Trace_ELBO",
    )


def draws_outnumber(size: int, num_samples: int) -> PplkitWarning:
    return PplkitWarning(
        f"posterior_samples hold {size} draws, not num_samples={num_samples}: {size} are made",
        where=user_frame(),
        remedy="leave num_samples out: it is the number of draws",
    )


def discrete_latent(guide: str, msg: Message) -> ModelError:
    return ModelError(
        f"Continuous inference cannot handle discrete sample site {msg.name!r}",
        site=msg.name,
        where=msg.where,
        found=f"{_family(msg.fn)}, whose values can be counted",
        expected=f"continuous latent variables, for {guide}",
        remedy=f"hide it from the guide, {guide}(block(model, hide=[{msg.name!r}])), and sum it "
        "out: infer={'enumerate': 'parallel'} at the site, with TraceEnum_ELBO; or give it a guide "
        "of its own in an AutoGuideList",
    )


def no_bijection(guide: str, msg: Message) -> ModelError:
    return ModelError(
        f"{guide} cannot reach the support of site {msg.name!r} from real numbers",
        site=msg.name,
        where=msg.where,
        found=f"{_family(msg.fn)} with support {msg.fn.support}",
        remedy=f"hide it from the guide: {guide}(block(model, hide=[{msg.name!r}]))",
    )


def sequential_plate_in_guide(guide: str, msg: Message, frame: PlateFrame) -> ModelError:
    return ModelError(
        f"{guide} does not support sequential plates: {frame.name!r} around site {msg.name!r}",
        site=msg.name,
        where=msg.where,
        expected=f"with plate({frame.name!r}, {frame.full_size}): in place of the loop",
    )


def no_latent(guide: str) -> ModelError:
    return ModelError(
        f"{guide} found no latent variables; use an empty guide instead",
        where=user_frame(),
        expected="a model with at least one sample statement that is not observed",
    )


def guide_not_run(guide: str, asked: str) -> UsageError:
    return UsageError(
        f"{guide} has not seen the model yet",
        where=user_frame(),
        found=f"{asked} before the guide's first run",
        remedy="call the guide, or take a step of SVI, with the model's arguments first",
    )


def initial_value(msg: Message, found, expected) -> ShapeError:
    return ShapeError(
        f"the initial value of site {msg.name!r} has another shape than the site",
        site=msg.name,
        where=msg.where,
        found=f"initial value of shape {_shape(found)}",
        expected=_shape(expected),
    )


def initial_outside_support(msg: Message, value: Tensor) -> DistributionError:
    return DistributionError(
        f"the initial value of site {msg.name!r} is outside the support {msg.fn.support}",
        site=msg.name,
        where=msg.where,
        found=_offender(value, msg.fn.support),
        expected=f"every value {in_words(msg.fn.support)}",
    )


def no_initial_value(msg: Message) -> ModelError:
    return ModelError(
        f"No init strategy specified for site {msg.name!r}",
        site=msg.name,
        where=msg.where,
        remedy="name a value for it, or a fallback= strategy",
    )


def not_a_maximum(guide: str) -> InferenceError:
    return InferenceError(
        f"{guide}: the density does not fall away in every direction here",
        where=user_frame(),
        found="a matrix of second derivatives that is not positive definite",
        expected="a point close to a maximum of the joint density",
        remedy="take more steps of SVI first",
    )


def parts_overlap(guide: str, names: list[str]) -> ModelError:
    return ModelError(
        f"{guide}: two parts sample the same sites",
        where=user_frame(),
        found=", ".join(map(repr, names)),
        expected="each latent variable in one part; block(model, hide=[...]) leaves sites out",
    )


# -- enumeration -------------------------------------------------------------------------------


def cannot_enumerate(msg: Message, why: str | None = None) -> ModelError:
    support, family = msg.fn.support, _family(msg.fn)
    if type(msg.fn).__name__ == "Independent":
        why = f"{_described(msg.fn)} with .to_event: one variable of several parts, whose values "
        why += "are all combinations of theirs"
        remedy = "put a plate in the place of .to_event, if the parts are independent in all that "
        remedy += "follows; or make each a site of its own"
    elif why is not None:
        why, remedy = f"{family}: {why}", "give all rows the same number of values"
    elif support.is_discrete:
        why = f"{family} with support {support}, whose values have no end or no list"
        remedy = "use a Categorical over as many values as matter; or sample it in the guide"
    else:
        why = f"{family} with support {support}, whose values cannot be counted"
        remedy = f"sample {msg.name!r} in the guide, and leave enumeration to discrete sites"
    return ModelError(
        f"Enumeration over site {msg.name!r} is not possible: its values cannot be listed",
        site=msg.name,
        where=msg.where,
        found=why,
        expected="a distribution with has_enumerate_support: Bernoulli, Categorical, Binomial, ...",
        remedy=remedy,
    )


def unknown_strategy(msg: Message, found: Any, known: list[str]) -> ModelError:
    return ModelError(
        f"site {msg.name!r} asks for an enumeration that there is not",
        site=msg.name,
        where=msg.where,
        found=f"infer={{'enumerate': {_brief(found)}}}; {nearest(found, known)}",
        expected="'parallel', 'sequential' or None",
    )


def number_of_samples(msg: Message, found: Any) -> ModelError:
    return ModelError(
        f"Invalid num_samples at site {msg.name!r}",
        site=msg.name,
        where=msg.where,
        found=f"infer={{'num_samples': {_brief(found)}}}",
        expected="None for all values, or a whole number, at least 1, with 'enumerate': 'parallel'",
    )


def draws_in_model(msg: Message) -> ModelError:
    return ModelError(
        f"Site {msg.name!r} is multiply sampled in model",
        site=msg.name,
        where=msg.where,
        found="num_samples at a site of the model that the guide does not sample",
        expected="num_samples at sites of the guide; all values at a site of the model",
        remedy=f"leave num_samples out, or sample {msg.name!r} in the guide",
    )


def sequential_in_model(msg: Message) -> ModelError:
    return ModelError(
        f"site {msg.name!r} is enumerated sequentially, and the guide does not sample it",
        site=msg.name,
        where=msg.where,
        found="infer={'enumerate': 'sequential'} at a site of the model",
        expected="in the model 'parallel'; 'sequential' is for sites of the guide",
        remedy="infer={'enumerate': 'parallel'}, or config_enumerate(model)",
    )


def too_many_dimensions(msg: Message, before: int) -> ModelError:
    return ModelError(
        f"site {msg.name!r} finds no dimension free for its values",
        site=msg.name,
        where=msg.where,
        found=f"{before} enumerated sites before it, each with a dimension that is still in use",
        expected="at most about 60 variables that are remembered together",
        remedy="loop over markov(range(n)): a step that is forgotten gives its dimension back",
    )


def dimension_shared(msg: Message, dim: int, one: str, other: str) -> ModelError:
    return ModelError(
        f"site {msg.name!r} sees two enumerated variables at one dimension",
        site=msg.name,
        where=msg.where,
        found=f"{one!r} and {other!r}, both at dimension {dim}",
        expected="the markov loops around to keep what a step depends on in sight",
        remedy="a longer history= in markov, or keep=True where branches meet",
    )


def dimension_out_of_scope(msg: Message, dim: int, size: int) -> ModelError:
    seen = msg.infer.get("_enumerated", {})
    held = ", ".join(f"dim {d} of {seen[d]!r}" for d in sorted(seen, reverse=True))
    return ModelError(
        f"site {msg.name!r} depends on an enumerated variable that is out of its scope, or is "
        "indexed by one in a wrong way",
        site=msg.name,
        where=msg.where,
        found=f"size {size} at dimension {dim}; enumerated variables that it may depend on: "
        f"{held or 'none'}",
        expected="left of the plates, dimensions of such variables alone, of their sizes",
        remedy="in a markov loop a longer history=, and nothing after it that depends on its "
        "steps; for a table with rows of a plate, Vindex(table)[..., index]",
    )


def rows_without_plate(msg: Message, dim: int, size: int) -> ShapeError:
    return ShapeError(
        f"at site {msg.name!r}, dimension {dim} has size {size} and belongs to no plate",
        site=msg.name,
        where=msg.where,
        found=f"{_family(msg.fn)} of batch shape {_shape(msg.fn.batch_shape)}, to be enumerated",
        expected="each dimension of an enumerated site to belong to a plate, or to an enumerated "
        "variable that it depends on",
        remedy=f"put the statement in `with plate('data', {size}):`",
    )


def plate_among_alternatives(name: str, dim: int, first: int) -> PlateError:
    return PlateError(
        f"plate {name!r} collides with the dimensions of enumeration: max_plate_nesting is too "
        "small",
        site=name,
        where=user_frame(),
        found=f"plate {name!r} at dim {dim}; enumeration has the dimensions from {first} to the "
        "left",
        expected=f"plates at dims -1 to {first + 1}" if first < -1 else "no plates at all",
        remedy=f"max_plate_nesting={-dim}; for infer_discrete and enum, "
        f"first_available_dim={dim - 1}",
    )


def crossing_plates(msg: Message, variables: list[str], plates: list[str]) -> ModelError:
    return ModelError(
        "Expected tree-structured plate nesting, but found dependencies on independent plates "
        f"[{', '.join(plates)}]",
        site=msg.name,
        where=msg.where,
        found=f"{' and '.join(map(repr, variables))} in plates that cross, and something inside "
        "both plates that depends on both",
        expected="enumerated variables that depend on each other in nested plates, not in "
        "crossing ones: the sum over crossing ones does not fall apart into rows",
        remedy="Try converting one of the vectorized plates to a sequential plate: for i in "
        "plate(...); the work then grows exponentially with its length",
    )


def different_scales(msg: Message, variables: list[str], scales: list) -> ModelError:
    return ModelError(
        "Expected all enumerated sample sites to share a common poutine.scale, but found "
        f"{len(scales)} different scales",
        site=msg.name,
        where=msg.where,
        found=f"{' and '.join(map(_brief, scales))}, at sites that {msg.name!r} connects",
        expected="one scale, a single number, for sites that an enumerated variable connects",
        remedy="a subsampled plate scales what stands inside it alone: a variable outside of it "
        "cannot be enumerated in the model; enumerate it in the guide",
    )


def guide_inside_plate(msg: Message, variables: list[str], plates: list[str]) -> ModelError:
    names = " and ".join(map(repr, plates))
    return ModelError(
        "Expected model enumeration to be no more global than guide enumeration, but found model "
        f"enumeration sites upstream of guide site {variables[0]!r} in plate {names}",
        site=msg.name,
        where=msg.where,
        found="a variable of the model, outside the plate, that is summed over all rows together",
        remedy="Try converting some model enumeration sites to guide enumeration sites",
    )


def add_enumerated(fault: BaseException, given: dict[str, tuple[int, int]]) -> None:
    """Add to an error about shapes which of the batch dimensions are enumeration's."""
    last = {dim: (name, size) for name, (dim, size) in given.items()}  # the latest of each
    some = list(last.items())[-4:]
    said = ", ".join(f"dim {dim} holds the {n} values of {name!r}" for dim, (name, n) in some)
    line = f"  enumerated: {said}; plates are right of these. Rows of a table for rows of a plate "
    line += "are looked up by Vindex(table)[..., index]"
    if isinstance(fault, PplkitError):
        fault.args = (f"{fault}\n{line}",)
    else:
        fault.add_note(line)


def large_table(size: int, variables: list[str]) -> PplkitWarning:
    some = ", ".join(map(repr, variables[:4])) + (", ..." if len(variables) > 4 else "")
    return PplkitWarning(
        f"enumeration makes a table of {size:.3g} elements",
        where=user_frame(),
        found=f"variables that depend on each other jointly, among them {some}",
        remedy="markov loops and plates tell what is independent; so do sites that depend on fewer "
        "variables",
    )


def nothing_enumerated(what: str) -> PplkitWarning:
    return PplkitWarning(
        f"{what} found no sample sites configured for enumeration",
        where=user_frame(),
        expected="infer={'enumerate': 'parallel'} at a site, or config_enumerate(model)",
        remedy="use Trace_ELBO where nothing is to be enumerated",
    )


def probability_zero(what: str) -> InferenceError:
    return InferenceError(
        f"{what}: the observations have probability zero",
        where=user_frame(),
        found="no combination of the enumerated variables' values that allows them",
        expected="at least one that does",
        remedy="look for a probability of exactly 0 among the model's parameters",
    )


def exact_needs(what: str, found: str, expected: str) -> UsageError:
    return UsageError(
        f"{what} is not compatible with {found}",
        where=user_frame(),
        expected=expected,
    )


def cannot_index(args: Any, found: Any) -> UsageError:
    shown = f"a tensor of {found.dtype}" if isinstance(found, Tensor) else _brief(found)
    return UsageError(
        "Vindex cannot use this index",
        where=user_frame(),
        found=shown,
        expected="whole numbers, tensors of whole numbers, `:`, and `...` in the first place",
        remedy="call .long() on values of a Bernoulli site" if isinstance(found, Tensor) else None,
    )


def too_many_indices(tensor: Tensor, number: int) -> UsageError:
    return UsageError(
        "Vindex was given too many indices",
        where=user_frame(),
        found=f"{number} for a tensor of shape {_shape(tensor.shape)}",
    )


def not_a_recording(found: str) -> UsageError:
    return UsageError(
        "this is no recording",
        where=user_frame(),
        found=found,
        expected="the text that Recording.to_json() has written, of version 1",
    )


def only_described(text: str) -> UsageError:
    return UsageError(
        f"{text} is the description of a distribution in a recording",
        where=user_frame(),
        found="a value that was not recorded with it",
        expected="the value of its site, whose log-probability is known",
    )


def weights_all_zero(what: str, number: int, culprit: Message | None) -> InferenceError:
    at = f"site {culprit.name!r} is impossible for all of them" if culprit is not None else ""
    return InferenceError(
        f"{what}: all weights are zero: Failed to find a draw of nonzero probability",
        site=culprit.name if culprit is not None else None,
        where=culprit.where if culprit is not None else user_frame(),
        found=f"log-weights of -inf for all {number} draws" + (f"; {at}" if at else ""),
        expected="at least one draw of the guide that the model, with its observations, allows",
        remedy="a guide that draws where the posterior is, or observations that the model can make",
    )


def weights_not_finite(what: str, log_weights: Tensor, culprit: Message | None) -> InferenceError:
    nan, inf = int(log_weights.isnan().sum()), int((log_weights == torch.inf).sum())
    counts = [f"{n} {kind}" for n, kind in ((nan, "NaN"), (inf, "infinite")) if n]
    return InferenceError(
        f"{what}: weights that are not finite",
        site=culprit.name if culprit is not None else None,
        where=culprit.where if culprit is not None else user_frame(),
        found=f"of {len(log_weights)} log-weights {' and '.join(counts)}",
        expected="log p(x, z) - log q(z) to be a number, or -inf where the model rules a draw out",
        remedy="look for 0/0, a log or a root in the model; handlers.trace(model) shows one run",
    )


def weights_for_draws(what: str, weights: int, draws: int) -> ShapeError:
    return ShapeError(
        f"{what}: weights and draws differ in number",
        where=user_frame(),
        found=f"{weights} log-weights for {draws} draws",
        expected="one weight for each draw",
    )


def weights_without_draws() -> UsageError:
    return UsageError(
        "Predictive was given log_weights, and no draws that they belong to",
        where=user_frame(),
        expected="Predictive(model, posterior_samples, log_weights=...)",
        remedy="a guide's draws are weighed by WeighedPredictive or Importance",
    )


def not_run(what: str, expected: str) -> UsageError:
    return UsageError(f"{what} has not been run yet", where=user_frame(), expected=expected)


def no_draws_of(name: str, known: list[str]) -> UsageError:
    said = nearest(name, known)
    return UsageError(
        f"there are no draws of {name!r}",
        site=name,
        where=user_frame(),
        expected=f"one of {_those(known)}",
        remedy=said if said.startswith("did") else None,
    )


def result_no_tensor(found: Any) -> UsageError:
    return UsageError(
        "the model's results are no tensors of one shape",
        where=user_frame(),
        found=_called(found),
        expected="a model that returns a tensor, for a marginal distribution of '_RETURN'",
        remedy='name a site: EmpiricalMarginal(posterior, sites="z")',
    )


def other_arviz(asked: str, version: str) -> PplkitError:
    return UsageError(
        f"{asked} does not know this version of ArviZ",
        where=user_frame(),
        found=f"arviz {version}",
        expected="arviz of a version before 1",
        remedy='pip install "arviz<1"',
    )


def guide_writes_state(key: Any) -> ModelError:
    return ModelError(
        "Guide cannot write to SMCState",
        where=user_frame(),
        found=f"state[{key!r}] = ..., in the guide",
        expected="the model to write it: what the guide proposes is in the model's run, too",
    )


def state_no_tensor(key: Any, found: Any) -> UsageError:
    return UsageError(
        f"Only Tensors can be stored in an SMCState, but got {type(found).__name__}",
        where=user_frame(),
        found=f"state[{key!r}] = {_called(found)}",
        expected="a tensor with a row for each particle",
        remedy="keep what all particles share in the model object itself, as self.t += 1",
    )


def state_rows(key: Any, value: Tensor, number: int) -> ShapeError:
    return ShapeError(
        f"Expected leading dim of size {number} but got shape {_shape(value.shape)}",
        where=user_frame(),
        found=f"state[{key!r}] of shape {_shape(value.shape)}, with {number} particles",
        expected="a row for each particle: what was drawn, or computed from it",
        remedy="max_plate_nesting= must be the number of dimensions that the model's plates take; "
        "what all particles share belongs to the model object",
    )


def all_particles_impossible(site: Message, number: int, nan: bool) -> InferenceError:
    return InferenceError(
        f"Failed to find feasible hypothesis after site {site.name}",
        site=site.name,
        where=site.where,
        found=f"log-weights of {'NaN' if nan else '-inf'} for all {number} particles",
        expected="at least one particle that the observation is possible for",
        remedy="more particles, a guide that looks at the observation, or noise with wider tails",
    )


def no_error_of_filter() -> UsageError:
    return UsageError(
        "the error of a filter's log-evidence cannot be told from one run",
        where=user_frame(),
        expected="filter.log_evidence, of several runs with other seeds",
    )


def log_likelihood_of_others(names: list[str]) -> UsageError:
    return UsageError(
        "the log-likelihood depends on latent variables that there are no draws of",
        site=names[0],
        where=user_frame(),
        found=f"no draws of {_those(names)}",
        expected="draws of all latent variables, for log_likelihood=True",
        remedy="leave log_likelihood= out; or, for discrete variables that were summed out, a "
        "model that observes their mixture",
    )


def draws_by_chain(size: int, chains: int) -> ShapeError:
    return ShapeError(
        "the draws do not fall into chains",
        where=user_frame(),
        found=f"{size} draws, num_chains={chains}",
        expected="as many draws of each chain, one chain after the other",
    )


def dims_of_variable(name: str, names: list, shape: list) -> ShapeError:
    return ShapeError(
        f"dims= names other dimensions of {name!r} than it has",
        site=name,
        where=user_frame(),
        found=f"{name!r}: {names!r}, for draws of shape {_shape(shape)} each",
        expected=f"{len(shape)} names",
    )


def labels_along(dim: str, labels: int, size: int, name: str) -> ShapeError:
    return ShapeError(
        f"coords= has another number of labels along {dim!r} than {name!r} has rows",
        site=name,
        where=user_frame(),
        found=f"{labels} labels for {size} rows",
        expected="a label for each row",
    )


def unknown_dimension(name: str, known: list[str]) -> UsageError:
    said = nearest(name, known)
    return UsageError(
        f"coords= names {name!r}, which no variable has as a dimension",
        where=user_frame(),
        expected=f"one of {_those(known)}: plates go by their names",
        remedy=said if said.startswith("did") else None,
    )


def cannot_simulate(site: Message, found: str) -> UsageError:
    return UsageError(
        f"data cannot be simulated from this model, at site {site.name!r}",
        site=site.name,
        where=site.where,
        found=found,
        expected="all that the posterior depends on to be drawn from a distribution, all rows",
    )


def nothing_to_calibrate(nothing_observed: bool) -> UsageError:
    return UsageError(
        "simulation_based_calibration needs a model with latent variables and observed sites",
        where=user_frame(),
        found=f"no {'observed site' if nothing_observed else 'latent variable'}",
        expected="sample(name, distribution, obs=data) with data among the model's arguments, in "
        "the shapes of what is to be simulated",
    )


def simulations_differ(name: str) -> ModelError:
    return ModelError(
        f"site {name!r} is not in every simulation with the same shape",
        site=name,
        where=user_frame(),
        expected="the same sites, of the same shapes, whatever values are drawn",
    )


def sampler_made_already(name: str) -> UsageError:
    return UsageError(
        "simulation_based_calibration makes the sampler itself, for a model with simulated data",
        where=user_frame(),
        found=f"a {name} that has its model already",
        expected=f"the class, {name}, or functools.partial({name}, target_accept_prob=0.9)",
    )


def guide_sees_no_data(names: list[str]) -> PplkitWarning:
    return PplkitWarning(
        "the guide cannot see the simulated data: it draws the same for all of them",
        site=names[0],
        where=user_frame(),
        found=f"observations of {_those(names)} that are no argument of the model",
        expected="obs=data where data is an argument as it is; or num_steps=, to fit the guide "
        "anew",
    )


# -- words -------------------------------------------------------------------------------------

_WORDS = {
    "Real()": "a real number, not NaN",
    "Boolean()": "0 or 1",
    "Simplex()": "non-negative, with sum 1",
    "GreaterThan(lower_bound=0.0)": "greater than 0",
    "GreaterThan(lower_bound=0)": "greater than 0",
    "GreaterThanEq(lower_bound=0.0)": "0 or greater",
    "GreaterThanEq(lower_bound=0)": "0 or greater",
    "IntegerGreaterThan(lower_bound=0)": "a whole number, 0 or greater",
    "OrderedVector()": "in increasing order",
    "PositiveOrderedVector()": "positive and in increasing order",
    "Sphere()": "a vector of length 1",
    "CorrMatrix()": "a correlation matrix: symmetric, positive definite, with ones on its diagonal",
    "UnitLowerCholesky()": "a lower triangle with ones on its diagonal",
    "SoftplusPositive(lower_bound=0.0)": "greater than 0",
    "SoftplusLowerCholesky()": "a lower triangle with positive diagonal",
    "Weights()": "non-negative, finite, and not all 0",
    "Integer()": "a whole number",
    "OneHot()": "zeros and a single 1",
    "CorrCholesky()": "a lower triangle with positive diagonal and rows of length 1",
    "LowerCholesky()": "a lower triangle with positive diagonal",
    "PositiveDefinite()": "symmetric and positive definite",
}


def in_words(constraint) -> str:
    """A constraint as one would say it: 'greater than 0'."""
    inner = getattr(constraint, "base_constraint", None)
    if inner is not None:
        return in_words(inner)
    text = str(constraint)
    if text in _WORDS:
        return _WORDS[text]
    lower, upper = (
        getattr(constraint, "lower_bound", None),
        getattr(constraint, "upper_bound", None),
    )
    whole = "a whole number " if "Integer" in type(constraint).__name__ else ""
    if lower is not None and upper is not None:
        return f"{whole}between {_brief(lower)} and {_brief(upper)}"
    if lower is not None:
        return f"{whole}greater than {_brief(lower)}"
    if upper is not None:
        return f"{whole}less than {_brief(upper)}"
    return f"such that it satisfies {text}"


def _remedy_for_parameter(fn, parameter: str, value: Tensor, constraint) -> str | None:
    text = str(constraint)
    if _has_nan(value):
        return f"{parameter} was computed before this line: look there for 0/0, a log or a root"
    if "GreaterThan" in text and "lower_bound=0" in text:
        return (
            f"for a learnt {parameter}: param(name, value, constraint=constraints.positive); "
            "for a drawn one, a distribution of positive numbers, as dist.HalfNormal(1.)"
        )
    if parameter == "high":
        return "the lower bound comes first: Uniform(low, high)"
    if parameter == "probs" and "logits" in fn.arg_constraints:
        return (
            f"for scores, which are any real numbers: {_family(fn)}(logits=...); for a learnt "
            f"probs: constraint=constraints."
            + ("unit_interval" if "Interval" in text else "simplex")
        )
    if "PositiveDefinite" in text:
        return (
            "give the Cholesky factor, scale_tril=; for a learnt one: "
            "constraint=constraints.lower_cholesky"
        )
    return None


def _offender(value: Tensor, constraint) -> str:
    """The first element that breaks the constraint, and how many do."""
    value = torch.as_tensor(value).detach()
    bad = ~constraint.check(value)
    from .checks import unwrapped  # here, for checks imports this module

    plain = unwrapped(value)
    if plain is not value:
        return f"{_brief(plain)}, its rows under vmap"
    if value.dim() == 0:
        return _brief(value)
    where = bad.nonzero()
    if len(where) == 0:
        return _brief(value)
    index = where[0].tolist()
    at = f"[{', '.join(map(str, index))}]" if index else ""
    return (
        f"{_brief(value[tuple(index)])} at {at}, {len(where)} of {bad.numel()}"
        if index
        else _brief(value)
    )


def _called(value: Any) -> str:
    """A value as one would have typed it, in a few characters."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, torch.distributions.Distribution):
        return f"{_family(value)}(...)"
    if isinstance(value, Tensor) and value.numel() <= 6:
        return " ".join(repr(value.detach()).split())
    if isinstance(value, float):
        return min(repr(value), f"{value:.6g}", key=lambda text: (len(text) > 12, len(text) < 3))
    if callable(value) and hasattr(value, "__name__"):
        return f"the function {value.__name__}"
    return _brief(value)


def _brief(value: Any) -> str:
    """A value in a few characters."""
    if isinstance(value, Tensor):
        value = value.detach()
        if value.dim() == 0:
            return f"{value.item():.6g}" if value.is_floating_point() else str(value.item())
        if value.numel() <= 6:
            return "[" + ", ".join(_brief(v) for v in value) + "]"
        return f"{value.dtype} tensor of shape {_shape(value.shape)}"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(value))  # another one in each run
    return text if len(text) <= 60 else text[:57] + "..."


def _shape(shape) -> str:
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def _family(fn) -> str:
    base = fn
    while type(base).__name__ == "Independent":
        base = base.base_dist
    return type(base).__name__


def _described(fn, index: tuple[int, ...] = ()) -> str:
    """A distribution with its parameters' values, at one place of the batch: Normal(loc=0, ...)."""
    base, batch_dim = fn, len(fn.batch_shape)
    while type(base).__name__ == "Independent":
        base = base.base_dist
    names = [name for name in base.arg_constraints if name in base.__dict__]
    values = {name: getattr(base, name) for name in names}
    if index:
        values = {
            name: _row(v, index, batch_dim, v.dim() - batch_dim)
            if isinstance(v, Tensor) and v.dim() >= batch_dim
            else v
            for name, v in values.items()
        }
    return f"{_family(fn)}({', '.join(f'{name}={_brief(v)}' for name, v in values.items())})"


_ORIGINS = {"condition": "observed", "do": "intervened", "substitute": "substituted"}


def _origin(msg: Message) -> str:
    """Where a value comes from, in a word."""
    if msg.given_by is None:
        return "observed" if msg.is_observed else "given"
    return "replayed" if _is_replayed(msg) else _ORIGINS.get(type(msg.given_by).__name__, "given")


def _giver(msg: Message) -> str:
    """Where a value comes from, with its line."""
    giver = msg.given_by
    if giver is None:
        return ""
    if _is_replayed(msg):
        return f"; drawn from {_family(giver.fn)} at {giver.where}"
    names = getattr(giver, "given_names", None)
    return f"; from {type(giver).__name__} at {names.where}" if names is not None else ""


def _is_replayed(msg: Message) -> bool:
    return type(msg.given_by) is type(msg)
