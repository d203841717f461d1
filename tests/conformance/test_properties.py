"""Random programs on pplkit and on Pyro: the same outcome, or an error of the engine's own.

Draws are equal because both engines draw site by site from torch's generator, from one seed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pyro
import pytest
import torch
from hypothesis import assume
from torch import Tensor

import pplkit
from pplkit import errors
from tests.conformance.program_strategies import programs
from tests.conformance.property_profiles import law
from tests.conformance.random_programs import (
    FAMILIES,
    Data,
    Deterministic,
    Expected,
    Factor,
    Fn,
    Handled,
    Markov,
    Param,
    Plate,
    Prior,
    Program,
    Runner,
    Sample,
    Under,
    quiet,
    state,
    walk,
)
from tests.models import backend

OURS, PYRO = backend("pplkit"), backend("pyro")
CLOSE = {"rtol": 1e-6, "atol": 1e-6}


@dataclass
class Site:
    """What both engines say of a site, in one form."""

    name: str
    kind: str
    value: Tensor
    observed: bool = False
    batch: tuple = ()
    event: tuple = ()
    plates: tuple = ()
    log_prob: Tensor | None = None
    note: Any = None
    auxiliary: bool = False


@dataclass
class Outcome:
    """What an engine makes of a program."""

    fault: BaseException | None = None
    sites: list[Site] = field(default_factory=list)
    returned: list = field(default_factory=list)
    total: Tensor | None = None


# -- the two engines ------------------------------------------------------------------------------


def clean_pyro() -> None:
    """Pyro leaves dimensions of plates taken where a run fails."""
    pyro.poutine.runtime._PYRO_STACK.clear()
    pyro.poutine.runtime._DIM_ALLOCATOR._stack.clear()
    pyro.clear_param_store()


def run_pyro(program: Program) -> Outcome:
    clean_pyro()
    runner = Runner(PYRO)
    try:
        with quiet():
            model = runner.whole(program)
            torch.manual_seed(1)
            trace = pyro.poutine.trace(model).get_trace()
            trace.compute_log_prob()
    except Exception as fault:
        return Outcome(fault, returned=runner.returned)
    finally:
        clean_pyro()
    sites = [
        pyro_site(site) for site in trace.nodes.values() if site["type"] in ("sample", "param")
    ]
    counted = [s.log_prob for s in sites if s.kind == "sample"]
    total = sum((lp.sum() for lp in counted), torch.zeros(()))
    return Outcome(None, sites, runner.returned, total)


def pyro_site(site) -> Site:
    value = site["value"].detach()
    if site["type"] == "param":
        return Site(site["name"], "param", value)
    if type(site["fn"]).__name__ == "_Subsample":
        return Site(site["name"], "plate", value)
    if site["infer"].get("_deterministic"):
        return Site(site["name"], "deterministic", value)
    # Pyro counts the rows of a looped plate from 1, pplkit from 0, as Python does.
    frames = [
        (f.name, f.dim, f.size, f.counter - (f.dim is None)) for f in site["cond_indep_stack"]
    ]
    return sample_site(site, tuple(frames))


def sample_site(site, frames: tuple) -> Site:
    fn, infer = site["fn"], site["infer"]
    return Site(
        site["name"],
        "sample",
        site["value"].detach(),
        site["is_observed"],
        tuple(fn.batch_shape),
        tuple(fn.event_shape),
        frames,
        site["log_prob"].detach(),
        (infer.get("note"), infer.get("_markov_depth"), scope_of(infer)),
        bool(infer.get("is_auxiliary")),
    )


def scope_of(infer: dict) -> dict:
    """Names in a markov scope but those of deterministics, which Pyro counts too: in these programs
    named d..., or observed in part."""
    past = infer.get("_markov_scope") or {}
    partly = {name.removesuffix("_observed") for name in past if name.endswith("_observed")}
    names = [n for n in past if n not in partly and not n.split("/")[-1].startswith("d")]
    return {name: past[name] for name in names}


def run_us(program: Program) -> Outcome:
    pplkit.clear_param_store()
    runner = Runner(OURS)
    before = state()
    params = []
    try:
        with quiet():
            model = runner.whole(program)
            params = list(pplkit.get_param_store())
            torch.manual_seed(1)
            trace = pplkit.handlers.trace(model).get_trace()
            params = list(pplkit.get_param_store())  # the run itself has not failed
            trace.compute_log_prob()
        outcome = Outcome(None, [our_site(s) for s in trace.sites(*KINDS)], runner.returned)
        outcome.total = trace.log_prob_sum().detach()
    except Exception as fault:
        outcome = Outcome(fault, returned=runner.returned)
        assert list(pplkit.get_param_store()) == params
    assert state() == before
    return outcome


KINDS = ("sample", "param", "plate", "deterministic")


def our_site(site) -> Site:
    value = site.value.detach()
    if site.type != "sample":
        return Site(site.name, site.type, value)
    return sample_site(site, tuple((f.name, f.dim, f.size, f.counter) for f in site.plates))


# -- where the engines part on purpose ------------------------------------------------------------


def handled(program: Program) -> list[Handled]:
    return [node for node in walk(program) if isinstance(node, Handled)]


def kinds_of(program: Program) -> set[str]:
    return {said.kind for said in handled(program)}


def names_given(program: Program, kind: str) -> bool:
    """Whether a handler of this kind has something to do."""
    return any(
        said.kind == kind and any(getattr(value, "items", True) for value in said.keywords.values())
        for said in handled(program)
    )


def types_blocked(program: Program) -> bool:
    return any("types" in key for said in handled(program) for key in said.keywords)


def do_restarts(program: Program) -> bool:
    """Pyro sends the variable that `do` leaves behind through the whole stack once more, so that
    inner scales multiply twice and inner scopes prefix twice; ours sends it on outwards."""
    inner = {"scale", "scope", "block", "do", "condition", "uncondition", "lift"}
    others = [said for said in handled(program) if said.kind in inner]
    again = any(isinstance(n, Markov) or getattr(n, "rows", None) for n in walk(program))
    return names_given(program, "do") and (again or len(others) > 1)


def lifted_and_substituted(program: Program) -> bool:
    """`substitute` gives values to variables too, so to a parameter that was lifted; Pyro's does
    not."""
    return names_given(program, "substitute") and "lift" in kinds_of(program)


def rows_hidden_by_type(program: Program) -> bool:
    """To Pyro the rows of a plate are a sample that `block(hide_types=["sample"])` hides, from a
    replay, say."""
    random = any(isinstance(getattr(n, "rows", None), int) for n in walk(program))
    return types_blocked(program) and random and "replay" in kinds_of(program)


def lifted_between_plates(program: Program) -> bool:
    """A prior stands in the plates outside of its `lift`. In Pyro, where there is one, even one
    that is looped over, it is widened by those inside too."""

    def found(body: tuple, outside: bool, lifted: bool) -> bool:
        for node in body:
            plate = isinstance(node, Plate)
            lift = outside and isinstance(node, Under) and node.handler.kind == "lift"
            if plate and lifted:
                return True
            if found(getattr(node, "body", ()), outside or plate, lifted or lift):
                return True
        return False

    return found(program.body, False, False)


def factor_hidden_by_type(program: Program) -> bool:
    """Unconditioned, a factor is a drawn sample to Pyro, which `block(hide_types=["sample"])`
    hides; here it stays a factor, observed."""
    factors = any(isinstance(node, Factor) for node in walk(program))
    return factors and types_blocked(program) and "uncondition" in kinds_of(program)


# Programs whose outcomes are not compared.
PARTINGS = [
    do_restarts,
    lifted_and_substituted,
    rows_hidden_by_type,
    lifted_between_plates,
    factor_hidden_by_type,
]


@dataclass(frozen=True)
class Rule:
    """A documented difference: one engine raises, the other goes on."""

    why: str
    message: str  # of the error, a regular expression
    kind: type[BaseException] = Exception
    applies: Callable[[Program], bool] = lambda program: True


STRICTER = [
    Rule(
        "a value has all the dimensions of its distribution's event; Pyro broadcasts it",
        r"Shape mismatch at site .*: \w+ value against distribution",
        errors.ShapeError,
    ),
    Rule(
        "a value has a row for each of its plate's, or one for all; a plate of one row is no plate "
        "to Pyro",
        r"Shape mismatch inside plate\(.*: the plate has 1 rows, the \w+ value \d+",
        errors.ShapeError,
    ),
    Rule(
        "a parameter that is read again has the shape and the constraint that it had",
        "is left over from an earlier run with another (shape|constraint)",
        errors.ParamError,
    ),
    Rule(
        "a plate stands around a statement once; Pyro does not look where the inner one is looped "
        "over, its name hidden by a block",
        r"plate '.*' is entered inside itself",
        errors.PlateError,
    ),
]
LAXER = [
    Rule(
        "a plate is a message of its own, so may be made anew under its name, of the same size",
        r"Multiple sample sites named '(\w+/)*P",
        RuntimeError,
    ),
    Rule(
        "`do` inside `do` on one variable never ends in Pyro",
        "maximum recursion depth",
        RecursionError,
        lambda program: names_given(program, "do"),
    ),
    Rule(
        "a value substituted for a parameter may be any tensor; Pyro asks for a parameter's",
        "has no attribute 'unconstrained'",
        AttributeError,
        lambda program: names_given(program, "substitute"),
    ),
    Rule(
        "a factor, or a deterministic, is never unobserved, so no draw that a replay could lack",
        r"site (\w+/)*[fd]\w+ must be sampled in trace",
        RuntimeError,
        lambda program: {"uncondition", "replay"} <= kinds_of(program),
    ),
    Rule(
        "a deterministic is no variable of its plates: its value may have any shape",
        r"Shape mismatch inside plate\('(\w+/)*P\w+'\) at site (\w+/)*d\w+ dim",
        ValueError,
    ),
]


def settled(rules: list[Rule], fault: BaseException, program: Program) -> str:
    """Which rule a one-sided error belongs to; the error itself where there is none."""
    for rule in rules:
        told = re.search(rule.message, str(fault)) and isinstance(fault, rule.kind)
        if told and rule.applies(program):
            return rule.why
    raise AssertionError(f"one engine alone raises {type(fault).__name__}: {fault}") from fault


# -- the comparison -------------------------------------------------------------------------------


def same(program: Program, ours: Outcome, theirs: Outcome) -> None:
    """The same sites in the same order, the same numbers, the same answers to statements."""
    kinds = set(KINDS)
    if types_blocked(program):  # plates and deterministics are samples in Pyro
        kinds -= {"plate", "deterministic"}
    redrawn = "uncondition" in kinds_of(program)
    notes = not {"replay", "lift"} & kinds_of(program)  # there Pyro forgets the model's own advice
    left = [site for site in ours.sites if site.kind in kinds]
    right = [site for site in theirs.sites if site.kind in kinds]
    assert [(s.name, s.kind) for s in left] == [(s.name, s.kind) for s in right]
    for mine, other in zip(left, right, strict=True):
        same_site(mine, other, redrawn, notes)
    assert [name for name, _ in ours.returned] == [name for name, _ in theirs.returned]
    for (name, mine), (_, other) in zip(ours.returned, theirs.returned, strict=True):
        if redrawn and name.startswith("d"):  # Pyro draws it, widened by its plates
            mine = mine.expand(other.shape)
        assert mine.shape == other.shape, f"{name}: {mine.shape} by us, {other.shape} by Pyro"
        torch.testing.assert_close(mine, other, **CLOSE, msg=lambda m, name=name: f"{name}: {m}")
    torch.testing.assert_close(ours.total.double(), theirs.total.double(), **CLOSE)


def same_site(mine: Site, other: Site, redrawn: bool, notes: bool) -> None:
    if redrawn and mine.auxiliary:  # a factor stays one
        mine.observed = other.observed
    if redrawn and (mine.auxiliary or mine.kind == "deterministic"):  # Pyro draws it in its plates
        mine.value = mine.value.expand(other.value.shape)
    for what in ("observed", "batch", "event", "plates", "auxiliary", *(("note",) * notes)):
        pair = getattr(mine, what), getattr(other, what)
        assert pair[0] == pair[1], f"{mine.name}: {what} {pair[0]} by us, {pair[1]} by Pyro"
    for what in ("value", "log_prob"):
        one, two = getattr(mine, what), getattr(other, what)
        if two is None:
            assert one is None
            continue
        label = f"{what} of {mine.name}"
        assert one.shape == two.shape, f"{label}: {one.shape} by us, {two.shape} by Pyro"
        torch.testing.assert_close(
            one.double(), two.double(), **CLOSE, msg=lambda m, label=label: f"{label}: {m}"
        )


def judge(program: Program) -> str:
    """Which rule settles the case; raises where none does."""
    ours = run_us(program)
    right_shapes(program, ours)
    theirs = run_pyro(program)
    if ours.fault is not None:
        if not isinstance(ours.fault, errors.PplkitError):
            raise AssertionError("an error that is not the engine's own") from ours.fault
        return "both raise" if theirs.fault is not None else settled(STRICTER, ours.fault, program)
    if theirs.fault is not None:
        return settled(LAXER, theirs.fault, program)
    for parting in PARTINGS:
        if parting(program):
            return parting.__name__
    same(program, ours, theirs)
    return "same"


def right_shapes(program: Program, ours: Outcome) -> None:
    """Every answer has the shape that the tree alone tells, or that of a value it was given."""
    expected, redrawn = Expected().run(program.body), "uncondition" in kinds_of(program)
    given = {}
    for said in handled(program):
        for value in said.keywords.values():
            for name, _, shape in getattr(value, "items", ()):
                given.setdefault(name, set()).add(tuple(shape))
    for name, value in ours.returned:
        shape = expected.shapes.get(name)
        if shape is not None and expected.times[name] == 1:
            if f"{name}_unobserved" in given or (redrawn and name in expected.parts):
                continue
            if redrawn and name in expected.hidden:  # drawn anew, out of reach of some plates
                continue
            fits = {shape} | given.get(name, set())
            if redrawn and name in expected.sites:
                _, batch, event = expected.sites[name]
                fits.add(batch + event)
            assert tuple(value.shape) in fits, f"{name}: {tuple(value.shape)}, not {fits}"


# -- the properties -------------------------------------------------------------------------------


@law(200, programs())
def test_a_right_program_is_the_same_in_both_engines(program):
    judge(program)


@law(150, programs(wrong=12))
def test_a_program_with_a_mistake_is_the_same_or_an_error_of_the_engines_own(program):
    judge(program)


@law(150, programs(wrong=35))
def test_a_program_full_of_mistakes_is_the_same_or_an_error_of_the_engines_own(program):
    judge(program)


WEIGHTS = ("mask", "scale", "infer_config")


@law(150, programs(kinds=WEIGHTS, inside=WEIGHTS))
def test_the_elbo_of_a_program_and_a_guide_made_from_it(program):
    latent = [n for n in walk(program) if isinstance(n, Sample) and n.obs is None]
    assume(latent and not any(n.fn.family == "Delta" for n in latent))
    assume(not any(isinstance(n, Sample) and n.obs_mask is not None for n in walk(program)))
    pplkit.clear_param_store()
    try:
        ours = loss_and_gradients(program, OURS, pplkit.infer.Trace_ELBO())
    except errors.ShapeError as fault:  # a weight that widens a site beyond its plates
        assert re.search("invalid log_prob shape|(mask|scale) of shape", str(fault))
        ours = None
    clean_pyro()
    if ours is None:
        with pytest.raises(
            (ValueError, RuntimeError), match="invalid log_prob shape|size of tensor"
        ):
            loss_and_gradients(program, PYRO, pyro.infer.Trace_ELBO())
        return
    try:
        theirs = loss_and_gradients(program, PYRO, pyro.infer.Trace_ELBO())
    except ValueError as fault:  # a deterministic value, which is a sample to Pyro, under a mask
        assert re.search(r'at site "d\w+", invalid log_prob shape', str(fault))
        return
    torch.testing.assert_close(ours[0], theirs[0], equal_nan=True, **CLOSE)
    # Of draws without a derivative Pyro's score-function terms differ: it does not know that rows of
    # a looped plate are independent, and leaves out draws under `.mask(False)`, which still
    # influence (see test_masked_scores).
    scored = [n for n in latent if not FAMILIES[n.fn.family].has_rsample]
    looped = any(isinstance(n, Plate) and n.how == "for" for n in walk(program))
    if scored and (looped or any(n.fn.mask is False for n in scored)):
        return
    assert ours[1].keys() == theirs[1].keys()
    for name, gradient in ours[1].items():
        torch.testing.assert_close(gradient, theirs[1][name], rtol=1e-5, atol=1e-5, equal_nan=True)


def loss_and_gradients(program: Program, ppl, elbo) -> tuple[Tensor, dict[str, Tensor]]:
    def model():
        return Runner(ppl).whole(program)()

    def guide():
        return Runner(ppl, guide=True).run(program.body)

    torch.manual_seed(1)
    with quiet():
        loss = elbo.differentiable_loss(model, guide)
    store = (pyro if ppl is PYRO else pplkit).get_param_store()
    leaves = {name: store[name].unconstrained() for name in store}
    if not loss.requires_grad:
        return loss.detach().double(), {}
    found = torch.autograd.grad(loss, [*leaves.values()], allow_unused=True)
    zeros = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    known = {n: g for n, g in zip(leaves, found, strict=True) if g is not None}
    return loss.detach().double(), zeros | known


# -- the differences, one program each ------------------------------------------------------------

X = Fn("Normal", ((), ()))
HIDING = Handled("block", (("expose", ()),))
LOOPED = Plate("P0", 1, (Sample("x1", X),), how="for")
ONE_SIDED = [
    (STRICTER[0], Program((Sample("x1", replace(X, expand=(1, 2), to_event=2), obs=(2,)),))),
    (STRICTER[1], Program((Plate("P0", 1, (Sample("x1", X, obs=(2,)),)),))),
    (STRICTER[2], Program((Param("p1", (2,)), Param("p1", (3,))))),
    (
        STRICTER[3],
        Program((Plate("P0", 1, (Under(HIDING, (LOOPED,)),)),)),
    ),
    (LAXER[0], Program((Plate("P0", 2, (Sample("x1", X),)), Plate("P0", 2, (Sample("x2", X),))))),
    (
        LAXER[1],
        Program(
            (Sample("x1", X),),
            (Handled("do", (("data", Data((("x1", "Normal", ()),))),)),) * 2,
        ),
    ),
    (
        LAXER[2],
        Program(
            (Plate("P0", 4, (Param("p1", (4,), event_dim=0),), rows=2),),
            (Handled("substitute", (("data", Data((("p1", "Normal", (4,)),))),)),),
        ),
    ),
    (
        LAXER[3],
        Program((Factor("f1", ()),), (Handled("uncondition"), Handled("replay"))),
    ),
    (LAXER[4], Program((Plate("P0", 3, (Deterministic("d1", (2,), 0),)),))),
]


@pytest.mark.parametrize(("rule", "program"), ONE_SIDED, ids=[rule.why for rule, _ in ONE_SIDED])
def test_where_one_engine_alone_raises(rule, program):
    ours, theirs = run_us(program).fault, run_pyro(program).fault
    alone, other = (ours, theirs) if rule in STRICTER else (theirs, ours)
    assert other is None
    assert isinstance(alone, rule.kind) and re.search(rule.message, str(alone))
    assert judge(program) == rule.why


def test_every_rule_has_its_program():
    assert [rule for rule, _ in ONE_SIDED] == STRICTER + LAXER


LIFT = Handled("lift", (("prior", Prior((3,), "p1")),))
AGAIN = Plate("P0", 3, (Param("p1", (3,), event_dim=0),), rows=(1,))


@pytest.mark.parametrize("body", [(AGAIN, replace(AGAIN, how="again")), (Markov(2, 0, (AGAIN,)),)])
def test_a_lifted_parameter_is_the_same_when_read_again(body):
    assert judge(Program(body, (LIFT,))) == "same"


INSIDE = Plate("P1", 3, (Param("p1", (3,), event_dim=0),))
LIFTED = Under(Handled("lift", (("prior", Prior((), "p1")),)), (INSIDE,))
HIDDEN = Handled("block", (("hide_types", ("sample",)),))
PARTED = [
    (lifted_between_plates, Program((Plate("P0", 2, (LIFTED,)),))),
    (lifted_between_plates, Program((Plate("P0", 1, (LIFTED,), how="for"),))),
    (factor_hidden_by_type, Program((Factor("f1", ()),), (Handled("uncondition"), HIDDEN))),
]


@pytest.mark.parametrize(("parting", "program"), PARTED)
def test_where_outcomes_differ(parting, program):
    assert judge(program) == parting.__name__
    with pytest.raises(AssertionError):
        same(program, run_us(program), run_pyro(program))


def test_a_prior_with_plates_on_one_side_of_it_alone_is_the_same():
    for body in ((LIFTED,), (Plate("P0", 2, (replace(LIFTED, body=INSIDE.body),)),)):
        assert judge(Program(body)) == "same"


def test_a_plate_that_is_entered_again_keeps_its_dimension():
    first = Plate("P0", 3, (Sample("x1", X),))
    again = replace(first, body=(Sample("x2", X),), how="again")
    program = Program((Plate("P1", 2, (first,)), again))
    assert judge(program) == "same"
    assert dict(run_us(program).returned)["x2"].shape == (3, 1)
