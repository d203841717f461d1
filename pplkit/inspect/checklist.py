"""A program's mistakes, all of them, before inference is attempted.

`check` runs model and guide once, and the model once more with the guide's draws. A mistake that
would end a run is noted instead, and mended so that the run goes on (`errors.noting`, `mending`).
"""

from __future__ import annotations

import copy
import html
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .. import checks, display, errors
from ..distributions import Unit
from ..effects import _STACK, Handler, Message
from ..errors import PplkitError, PplkitWarning, Where
from ..handlers import replay, seed, trace
from ..mending import StandIn
from ..params import ParamStore, get_param_store
from ..trace import Trace

# What is looked at, in the order of the report: a key, and how it is told.
ASPECTS = {
    "names": "every name once in a run",
    "handlers": "names given to handlers are the program's",
    "plates": "every dimension in a plate; plates, parameters and data of one size",
    "distributions": "parameters of distributions inside their domains",
    "data": "data, and other given values, inside the supports",
    "params": "parameters start inside their constraints; none is left over",
    "density": "finite values and log-probabilities",
    "latent": "discrete variables are summed out, or drawn by a guide",
    "guide": "the guide draws what the model draws: names, shapes, plates, supports",
    "gradient": "a finite gradient reaches every parameter",
    "run": "the program runs to its end",
}


@dataclass(frozen=True)
class Problem:
    """One mistake that `check` has found; `str()` of it is the error or warning, word for word.

    Attributes:
        kind: "error" or "warning".
        aspect: what it is about: a key of `ASPECTS`.
        headline, found, expected, remedy: as the error tells them; None where there is nothing.
        site: the name of the statement it is about, or None.
        where: the user's file and line, or None.
        told: the error or warning itself.

    >>> import pplkit, pplkit.distributions as dist
    >>> report = pplkit.check(lambda: pplkit.sample("x", dist.Normal(0.0, -1.0)))
    >>> report.problems[0].kind, report.problems[0].aspect, report.problems[0].found
    ('error', 'distributions', 'scale = -1')
    """

    kind: str
    aspect: str
    headline: str
    site: str | None
    where: Where | None
    found: str | None
    expected: str | None
    remedy: str | None
    told: Exception = field(repr=False, compare=False)

    def __str__(self) -> str:
        return str(self.told)


@dataclass(frozen=True)
class Report:
    """What `check` has looked at, and what it has found. True if it has found nothing.

    Attributes:
        problems: each a `Problem`; in the order of the run.
        looked_at: by aspect, what was seen of it; None where it could not be looked at.
        stopped: what could not be gone on after, or None.
        subject: what was checked.

    >>> import pplkit, pplkit.distributions as dist
    >>> report = pplkit.check(lambda: pplkit.sample("x", dist.Normal(0.0, 1.0)))
    >>> report.ok, report.problems
    (True, ())
    """

    problems: tuple[Problem, ...]
    looked_at: dict[str, str | None]
    stopped: str | None
    subject: str

    @property
    def ok(self) -> bool:
        """Whether nothing was found, neither an error nor a warning."""
        return not self.problems

    def __bool__(self) -> bool:
        return self.ok

    @property
    def title(self) -> str:
        """What was found, in a line."""
        if self.ok:
            return f"{self.subject}: nothing found"
        kinds = [problem.kind for problem in self.problems]
        counts = [(kinds.count(kind), kind) for kind in ("error", "warning")]
        return f"{self.subject}: " + ", ".join(
            f"{count} {kind}{'s' if count > 1 else ''}" for count, kind in counts if count
        )

    def rows(self) -> Iterator[tuple[str, str, list[Problem]]]:
        """By aspect: its mark ("ok", "error", "warning", "open"), its text, and its problems."""
        for aspect, text in ASPECTS.items():
            mine = [problem for problem in self.problems if problem.aspect == aspect]
            if aspect not in self.looked_at and not mine:
                continue
            seen = self.looked_at.get(aspect)
            if mine:
                worst = "error" if any(p.kind == "error" for p in mine) else "warning"
                yield worst, text, mine
            elif seen is None:
                yield "open", f"{text}: not looked at, for there were errors before", []
            else:
                yield "ok", f"{text}: {seen}" if seen else text, []

    def __str__(self) -> str:
        in_ascii = display.is_ascii()
        marks = _ASCII_MARKS if in_ascii else _MARKS
        lines = [self.title]
        for mark, text, problems in self.rows():
            lines.append(f"{marks[mark]} {text}")
            for problem in problems:
                lines += [f"    {line}" for line in str(problem).split("\n")]
        if self.stopped:
            lines.append(f"{marks['open']} {self.stopped}")
        return "\n".join(display.printable(line, in_ascii) for line in lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        parts = [_STYLE, '<div class="pplkit pplkit-check">', f"<p>{_safe(self.title)}</p>", "<ul>"]
        for mark, text, problems in self.rows():
            inside = "".join(f"<pre>{_safe(str(problem))}</pre>" for problem in problems)
            label = {"ok": "well", "error": "error", "warning": "warning", "open": "open"}[mark]
            parts.append(
                f'<li class="{mark}"><span role="img" aria-label="{label}">{_MARKS[mark]}</span> '
                f"{_safe(text)}{inside}</li>"
            )
        if self.stopped:
            parts.append(f'<li class="open">{_MARKS["open"]} {_safe(self.stopped)}</li>')
        return "".join([*parts, "</ul></div>"])


_MARKS = {"ok": "✓", "error": "✗", "warning": "!", "open": "–"}
_ASCII_MARKS = {"ok": "[ok]", "error": "[no]", "warning": "[ !]", "open": "[--]"}
_STYLE = """<style>
.pplkit.pplkit-check {overflow-x: auto}
.pplkit.pplkit-check p {font-weight: bold; margin: 0.3em 0}
.pplkit.pplkit-check ul {list-style: none; margin: 0; padding: 0}
.pplkit.pplkit-check li {margin: 0.15em 0; padding-left: 1.4em; text-indent: -1.4em}
.pplkit.pplkit-check li > span {display: inline-block; width: 1.4em; text-indent: 0}
.pplkit.pplkit-check li.error > span {font-weight: bold}
.pplkit.pplkit-check pre {margin: 0.2em 0 0.6em; padding: 0; text-indent: 0; white-space: pre-wrap;
background: transparent; color: inherit}
</style>"""


def _safe(text: str) -> str:
    return html.escape("\n".join(display.printable(line) for line in text.split("\n")))


def check(model: Callable, *args, guide: Callable | None = None, **kwargs) -> Report:
    """Look for mistakes before inference is attempted: all of them, not only the first.

    The model is run once; with a guide, the guide too, and the model again with the guide's draws.
    Parameters, random streams, the guide and the handlers in force are as before afterwards. An
    exception of the model's own is reported with its line, and ends that run.

    Args:
        model: a function, called with `args` and `kwargs`, as is the guide.
        guide: also looked at: does it fit the model, and does a gradient reach every parameter?

    Returns:
        A `Report`: `print` it, or look at `report.problems`.

    >>> import pplkit, pplkit.distributions as dist
    >>> def model(data):
    ...     mu = pplkit.sample("mu", dist.Normal(0.0, 1.0))
    ...     with pplkit.plate("data", 3):
    ...         pplkit.sample("x", dist.Normal(mu, -1.0), obs=data)
    >>> report = check(model, torch.zeros(4))
    >>> [problem.headline for problem in report.problems]  # doctest: +NORMALIZE_WHITESPACE
    ["Expected parameter scale of distribution Normal at site 'x' to satisfy the constraint
      GreaterThan(lower_bound=0.0)",
     "Shape mismatch inside plate('data') at site 'x': the plate has 3 rows, the observed value 4"]
    """
    for label, fn in (("model", model), ("guide", guide)):
        if not callable(fn) and (label == "model" or fn is not None):
            called = f"the function itself: {label}, not {label}(...), which runs it"
            raise errors.wrong_argument("check", f"{label}=", fn, "a function", called)
    inspection = _Inspection(args, kwargs)
    with _as_if_nothing_happened():
        inspection.look(_untouched(model), _untouched(guide))
    subject = f"check of {_named(model)}" + (f" and {_named(guide)}" if guide is not None else "")
    return Report(
        tuple(inspection.problems), inspection.looked_at, inspection.stopped_text(), subject
    )


def _named(fn: Callable) -> str:
    name = getattr(fn, "__name__", None) or type(fn).__name__
    return "a function" if name == "<lambda>" else name


# -- looking -------------------------------------------------------------------------------------


class _Inspection:
    """What is found out in the course of one `check`."""

    def __init__(self, args: tuple, kwargs: dict):
        self.args, self.kwargs = args, kwargs
        self.problems: list[Problem] = []
        self.looked_at: dict[str, str | None] = dict.fromkeys(
            ("names", "plates", "distributions", "data", "density")
        )
        self.stopped: list[str] = []

    def look(self, model: Callable, guide: Callable | None) -> None:
        """Run the program, and look at its traces."""
        run, ended = self.run("model", model)
        self.look_at("model", run, ended)
        params = dict.fromkeys(run.param_nodes)
        if guide is None:
            self.look_at_discrete(run)
            pair = (run, Trace())
        else:
            self.looked_at["guide"] = self.looked_at["gradient"] = None
            theirs, guide_ended = self.run("guide", guide)
            params.update(dict.fromkeys(theirs.param_nodes))
            self.match(run, theirs, ended and guide_ended)
            self.look_at("guide", theirs, guide_ended)
            pair = self.together(model, run, theirs) if ended and guide_ended else None
            ended = ended and guide_ended
        if params:
            self.looked_at["params"] = f"{len(params)} of them" if ended else None
            self.looked_at["gradient"] = None
        if params and guide is not None:
            self.look_at_leftovers([run, theirs], guide)
        if ended and pair is not None and not any(p.kind == "error" for p in self.problems):
            self.look_at_gradient(*pair, params)
        if ended:
            self.count(run)

    def run(self, label: str, fn: Callable) -> tuple[Trace, bool]:
        """A run, as far as it goes; and whether it went to its end."""
        with errors.noting() as noted, seed(rng_seed=0), torch.enable_grad():
            recorder, ended = trace(), True
            try:
                with recorder:
                    self.returned = self.called(label, fn)
            except PplkitError as fault:
                noted.append(fault)
                ended = False
            except Exception as fault:  # noqa: BLE001 - the program's own; it is reported
                noted.append(errors.program_failed(label, fault))
                ended = False
        for told in noted:
            self.note(told)
        if not ended:
            self.stopped.append(label)
        return recorder.trace, ended

    def called(self, label: str, fn: Callable) -> Any:
        from ..infer.elbo import called  # it stands above this room

        return called(label, fn, self.args, self.kwargs)

    def note(self, told: Exception, aspect: str | None = None) -> None:
        """Add a problem, unless it has been told."""
        kind = "warning" if isinstance(told, PplkitWarning) else "error"
        problem = Problem(
            kind,
            aspect or _aspect(told),
            told.headline,
            told.site,
            told.where,
            told.found,
            told.expected,
            told.remedy,
            told,
        )
        if _likeness(problem) not in map(_likeness, self.problems):
            self.problems.append(problem)

    def stopped_text(self) -> str | None:
        if not self.stopped:
            return None
        runs = " and ".join(f"the {label}'s run" for label in dict.fromkeys(self.stopped))
        return f"{runs} stopped at an error: what comes after it was not checked"

    # -- one trace -------------------------------------------------------------------------------
    def look_at(self, label: str, run: Trace, ended: bool) -> None:
        """What a trace shows of plates and numbers."""
        wrong = {problem.site for problem in self.problems if problem.kind == "error"}
        unscored = set()
        with torch.enable_grad():  # what is computed here is kept, also for the gradient
            for site in run.sites("sample"):
                if isinstance(site.fn, StandIn):
                    continue
                try:
                    checks.plated(site)
                except PplkitError as fault:
                    if site.name not in wrong:
                        self.note(fault)
                    if not isinstance(fault, errors.ShapeError):
                        unscored.add(site.name)
                except Exception as fault:  # noqa: BLE001 - a log_prob of the user's own
                    whose = f"log_prob of site {site.name!r} in the {label}"
                    self.note(errors.program_failed(whose, fault))
                    unscored.add(site.name)
            culprit = first_not_finite(run, wrong | unscored)
            if culprit is not None:
                self.note(errors.not_finite(f"a number of the {label}", None, culprit))
        if label == "model" and ended:
            for told in _surprises(run):
                if told.site not in {problem.site for problem in self.problems}:
                    self.note(told, "plates")

    def count(self, run: Trace) -> None:
        """Say of each aspect what was seen, now that all runs have ended."""
        sites = run.sites("sample")
        data = [s for s in sites if s.is_observed and not isinstance(s.fn, Unit)]
        plates = [site.name for site in run.sites("plate")]
        self.looked_at["names"] = _counted(len(run.sites("sample", "deterministic")), "site")
        self.looked_at["plates"] = ", ".join(plates) if plates else "no plates"
        self.looked_at["distributions"] = _counted(len(sites), "distribution")
        self.looked_at["data"] = ", ".join(s.name for s in data) if data else "nothing is observed"
        self.looked_at["density"] = ""

    def look_at_discrete(self, run: Trace) -> None:
        sites = run.sites("sample")
        drawn = [s for s in sites if not s.is_observed and not isinstance(s.fn, StandIn)]
        discrete = [s for s in drawn if s.fn.support is not None and s.fn.support.is_discrete]
        if discrete:
            self.looked_at["latent"] = "they are marked"
        for site in discrete:
            if not site.infer.get("enumerate"):
                self.note(errors.discrete_not_summed(site), "latent")

    # -- guide and model -------------------------------------------------------------------------
    def match(self, run: Trace, theirs: Trace, ended: bool) -> None:
        """Whether the guide draws what the model draws, and as it does."""
        from ..infer.elbo import check_match, check_sites  # it stands above this room

        run = run.copy()
        for site in run.sites("sample"):
            if site.infer.get("enumerate"):  # summed out: no guide needs to draw it
                site.infer = {**site.infer, "is_auxiliary": True}
        with errors.noting() as noted:
            if ended:
                check_match(run, theirs, self.returned)
            else:  # a site that is missing may come later
                check_sites(run, theirs)
        for told in noted:
            self.note(told, "guide")
        if not ended:
            return
        latent = [s.name for s in theirs.sites("sample") if s.name in run.stochastic_nodes]
        self.looked_at["guide"] = ", ".join(latent) if latent else "nothing to draw"

    def together(self, model: Callable, run: Trace, theirs: Trace) -> tuple[Trace, Trace] | None:
        """The model's run with the guide's draws, of those sites that fit."""
        amiss = {problem.site for problem in self.problems}
        fitting = Trace()
        for name, site in theirs.nodes.items():
            ours = run.nodes.get(name)
            both_drawn = ours is not None and not (site.is_observed or ours.is_observed)
            if both_drawn and ours.type == site.type and name not in amiss:
                fitting.nodes[name] = site
        both, ended = self.run("model", replay(model, trace=fitting))
        if not ended:
            return None
        self.look_at("model with the guide's draws", both, ended)
        return both, theirs

    # -- parameters ------------------------------------------------------------------------------
    def look_at_leftovers(self, runs: list[Trace], guide: Callable) -> None:
        from ..infer.svi import differs  # it stands above this room

        store = get_param_store()
        said = {site.name: site for run in runs for site in run.sites("param")}
        names = store.fitted_by([name for name in said if name in store], _original(guide))
        left = [(said[name], store[name]) for name in names if differs(said[name], store)]
        if left:
            self.note(errors.stale_values(left), "params")

    def look_at_gradient(self, run: Trace, theirs: Trace, params: dict[str, None]) -> None:
        """Whether the loss depends on every parameter, and smoothly."""
        from ..infer.elbo import Trace_ELBO  # it stands above this room

        store = get_param_store()
        said = {site.name: site for site in (*run.sites("param"), *theirs.sites("param"))}
        leaves = {name: store.unconstrained(name) for name in params if name in store}
        if not leaves:
            return
        with torch.enable_grad():
            _, surrogate = Trace_ELBO().estimate([(run, theirs)])
        grads: list[Tensor | None] = [None] * len(leaves)
        if surrogate.requires_grad:
            grads = list(
                torch.autograd.grad(
                    surrogate, list(leaves.values()), allow_unused=True, retain_graph=True
                )
            )
        found = dict(zip(leaves, grads, strict=True))
        self.looked_at["gradient"] = ", ".join(found)
        still = [said[name] for name, grad in found.items() if grad is None]
        if still:
            self.note(errors.no_gradient(still), "gradient")
        bad = [n for n, grad in found.items() if grad is not None and not grad.isfinite().all()]
        if bad:
            self.note(errors.bad_gradient(None, said[bad[0]], bad, found[bad[0]], None), "gradient")


def _likeness(problem: Problem) -> tuple:
    """What two tellings of one mistake have in common: one run's numbers are not the next one's."""
    headline = None if problem.aspect == "density" else problem.headline
    return type(problem.told), problem.aspect, problem.site, problem.where, headline


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def first_not_finite(run: Trace, told: set) -> Message | None:
    """The first statement with a number that is not finite, of those not told of yet."""
    for site in run.sites("param", "deterministic", "sample"):
        if site.name in told or isinstance(site.fn, StandIn):
            continue
        numbers = [site.value, *([site.log_prob] if site.type == "sample" else [])]
        if not all(torch.isfinite(x).all() for x in numbers if isinstance(x, Tensor)):
            return site
    return None


def _surprises(run: Trace) -> Iterator[PplkitWarning]:
    """What is legal, and seldom meant: a plate around nothing, one value for all rows."""
    inside = {frame.name for site in run.nodes.values() for frame in site.plates}
    for site in run.sites("plate"):
        if site.name not in inside:
            yield errors.plate_unused(site)
    for site in run.sites("sample"):
        if not site.is_observed or isinstance(site.fn, (Unit, StandIn)):
            continue
        own = site.value.shape[: site.value.dim() - site.fn.event_dim]
        for frame in site.plates:
            if frame.vectorized and frame.size > 1 and (0, *own)[max(frame.dim, -len(own) - 1)] < 2:
                yield errors.observed_repeatedly(site, frame)


_BY_HEADLINE = (
    ("names", ("Multiple ",)),
    ("density", ("Encountered NaN",)),
    ("params", ("parameter ", "parameters ")),
    ("data", ("Expected value argument",)),
    ("guide", ("Model and guide", "the guide ", "Found vars", "Found non-aux", "Continuous inf")),
)


def _aspect(told: Exception) -> str:
    """What an error is about."""
    for aspect, phrases in _BY_HEADLINE:
        if told.headline.startswith(phrases):
            return aspect
    if "is already in the trace" in told.headline:
        return "names"
    kinds = {
        PplkitWarning: "handlers",
        errors.PlateError: "plates",
        errors.ShapeError: "plates",
        errors.DistributionError: "distributions",
        errors.ParamError: "params",
    }
    return next((aspect for kind, aspect in kinds.items() if isinstance(told, kind)), "run")


# -- leaving no trace ------------------------------------------------------------------------------


@contextmanager
def _as_if_nothing_happened() -> Iterator[None]:
    """Inside, parameters are made and random numbers drawn that nobody outside will see."""
    before = get_param_store()
    twin = ParamStore()
    twin._entries = {name: copy.copy(entry) for name, entry in before._entries.items()}
    twin._fresh, twin._fitted = dict(before._fresh), dict(before._fitted)
    numpy = sys.modules.get("numpy")
    python_state, torch_state = random.getstate(), torch.get_rng_state()
    numpy_state = numpy.random.get_state() if numpy is not None else None
    # A trace around the check would take its statements for the program's.
    stack = tuple(entry for entry in _STACK.get() if not isinstance(entry.handler, trace))
    token = _STACK.set(stack)
    with ExitStack() as cleanup:
        cleanup.enter_context(twin)
        cleanup.callback(_STACK.reset, token)
        cleanup.callback(random.setstate, python_state)
        cleanup.callback(torch.set_rng_state, torch_state)
        if numpy is not None:
            cleanup.callback(numpy.random.set_state, numpy_state)
        yield


def _untouched(fn: Any) -> Any:
    """A copy of a handler or an automatic guide, for these remember what they have met."""
    if fn is None or not (isinstance(fn, Handler) or hasattr(type(fn), "latents")):
        return fn
    twin = copy.copy(fn)
    twin.__dict__["_original"] = fn
    if isinstance(fn, Handler):
        if fn.given_names is not None:
            twin.given_names = fn.given_names.fresh()
        twin.fn = _untouched(fn.fn)
    if isinstance(getattr(fn, "parts", None), list):
        twin.parts = [_untouched(part) for part in fn.parts]
    return twin


def _original(fn: Any) -> Any:
    return getattr(fn, "__dict__", {}).get("_original", fn)
