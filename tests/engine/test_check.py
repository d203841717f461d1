"""`check`: every mistake at once, no false alarm, and nothing left changed."""

import ast
import random
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import pplkit
import pplkit.distributions as dist
from pplkit import (
    ParamStore,
    check,
    clear_param_store,
    deterministic,
    effects,
    errors,
    factor,
    get_param_store,
    handlers,
    param,
    plate,
    sample,
)
from pplkit.distributions import constraints
from pplkit.infer import SVI, Trace_ELBO
from pplkit.infer.autoguide import AutoNormal
from pplkit.optim import Adam

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.catalogue.cases import catalogue
from tests.catalogue.run import namespace
from tests.models import ENTRIES, backend


def headlines(report):
    return [problem.headline for problem in report.problems]


def model(data):
    mu = sample("mu", dist.Normal(0.0, 1.0))
    with plate("data", 3):
        sample("x", dist.Normal(mu, 1.0), obs=data)


def guide(data):
    sample("mu", dist.Normal(param("loc", torch.tensor(0.0)), 1.0))


DATA = torch.zeros(3)


# -- what is found -------------------------------------------------------------------------------


def test_a_sound_program_gets_a_short_friendly_answer():
    report = check(model, DATA, guide=guide)
    assert report.ok and bool(report) and report.problems == () and report.stopped is None
    assert str(report).split("\n") == [
        "check of model and guide: nothing found",
        "✓ every name once in a run: 2 sites",
        "✓ every dimension in a plate; plates, parameters and data of one size: data",
        "✓ parameters of distributions inside their domains: 2 distributions",
        "✓ data, and other given values, inside the supports: x",
        "✓ parameters start inside their constraints; none is left over: 1 of them",
        "✓ finite values and log-probabilities",
        "✓ the guide draws what the model draws: names, shapes, plates, supports: mu",
        "✓ a finite gradient reaches every parameter: loc",
    ]


def test_five_mistakes_are_told_at_once():
    def wrong(data):
        mu = sample("mu", dist.Normal(0.0, 1.0))
        sample("mu", dist.Normal(0.0, 1.0))
        sample("w", dist.Normal(torch.zeros(5), 1.0))
        with plate("data", 3):
            sample("x", dist.Normal(mu, 1.0), obs=data)
            sample("p", dist.Bernoulli(1.5), obs=torch.ones(3))
        sample("u", dist.Uniform(0.0, 1.0), obs=torch.tensor(2.0))

    report = check(wrong, torch.zeros(4))
    assert not report and {p.kind for p in report.problems} == {"error"}
    assert [(p.site, p.where.line - wrong.__code__.co_firstlineno) for p in report.problems] == [
        ("mu", 2),
        ("x", 5),
        ("p", 6),
        ("u", 7),
        ("w", 3),
    ]
    said = str(report)
    assert said.startswith("check of wrong: 5 errors\n") and said.count("✗") == 4
    for words in (
        "Multiple sample sites",
        "the observed value 4",
        "probs = 1.5",
        "value 2",
        "(5,)",
    ):
        assert words in said


def test_all_that_guide_and_model_disagree_about_is_told():
    def ours():
        sample("a", dist.Normal(0.0, 1.0))
        sample("b", dist.Gamma(1.0, 1.0))
        sample("c", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        sample("d", dist.Normal(0.0, 1.0))

    def theirs():
        sample("aa", dist.Normal(0.0, 1.0))
        sample("b", dist.Normal(0.0, 1.0))
        sample("c", dist.Normal(0.0, 1.0))
        sample("d", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))

    report = check(ours, guide=theirs)
    assert sorted((p.site, type(p.told).__name__) for p in report.problems) == [
        ("a", "ModelError"),
        ("aa", "ModelError"),
        ("b", "ModelError"),
        ("c", "ShapeError"),
        ("d", "ModelError"),
    ]
    assert {p.aspect for p in report.problems} == {"guide"}


def empty_plate():
    with plate("e", 2):
        pass


@pytest.mark.parametrize(
    ("statements", "aspect", "kind", "words"),
    [
        (empty_plate, "plates", "warning", "'e' holds no statement"),
        (lambda: sample("k", dist.Bernoulli(0.5)), "latent", "warning", "without enumeration"),
        (lambda: deterministic("r", torch.zeros(2) / 0), "density", "error", r"nan at \[0\], 2 of"),
        (lambda: factor("f", torch.tensor(-float("inf"))), "density", "error", "-inf"),
        (
            lambda: param("s", torch.tensor(-1.0), constraint=constraints.positive),
            "params",
            "error",
            "starts outside",
        ),
        (lambda: param("s", torch.tensor(1)), "params", "error", "int64"),
        (lambda: param("s", torch.tensor(1.0)), "gradient", "warning", "no gradient reaches"),
        (
            lambda: sample("x", dist.Normal(0.0, 1.0), obs=torch.ones((), device="meta")),
            "distributions",
            "error",
            "same device",
        ),
    ],
)
def test_other_mistakes(statements, aspect, kind, words):
    report = check(statements)
    told = [p for p in report.problems if p.aspect == aspect]
    assert told and told[0].kind == kind and re.search(words, str(told[0]))


def test_one_value_for_all_rows():
    def program():
        with plate("rows", 3):
            sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(1.0))

    assert headlines(check(program)) == [
        "site 'x' observes one value for all 3 rows of plate 'rows'"
    ]


def test_an_exception_of_the_models_own_is_reported_with_its_line():
    def program():
        sample("x", dist.Normal(0.0, -1.0))
        return 1 / 0

    report = check(program)
    first, second = report.problems
    assert first.aspect == "distributions" and second.aspect == "run"
    assert second.headline == "the model raised ZeroDivisionError: division by zero"
    assert second.where == (__file__, program.__code__.co_firstlineno + 2)
    assert (
        report.stopped == "the model's run stopped at an error: what comes after it was not checked"
    )
    assert str(report).endswith(f"– {report.stopped}")


def test_names_that_handlers_do_not_find_are_told():
    report = check(handlers.condition(model, data={"mo": 1.0}), DATA)
    assert headlines(report) == ["condition names 'mo', which the model does not have"]


def test_leftovers_of_another_fit_are_told():
    def other(data):
        sample("mu", dist.Normal(param("loc", torch.tensor(0.0)), 1.0))

    SVI(model, other, Adam({"lr": 0.5}), Trace_ELBO()).step(DATA)
    before = get_param_store()["loc"].item()
    (problem,) = check(model, DATA, guide=guide).problems
    assert (problem.kind, problem.aspect, problem.site) == ("warning", "params", "loc")
    assert check(model, DATA, guide=other).ok
    assert not check(model, DATA, guide=guide).ok, "the first check has left no mark"
    assert get_param_store()["loc"].item() == before


def test_a_parameter_of_another_shape_is_told_and_the_rest_is_looked_at():
    param("loc", torch.zeros(2))

    def theirs(data):
        sample("mu", dist.Normal(param("loc", torch.tensor(0.0)), -1.0))

    report = check(model, DATA, guide=theirs)
    assert {p.aspect for p in report.problems} == {"params", "distributions"}
    assert get_param_store()["loc"].shape == (2,)


def test_a_model_that_was_called_is_refused():
    with pytest.raises(errors.UsageError, match="(?s)check cannot use this model.*not model\\("):
        check(model(DATA), DATA)


# -- no false alarms -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENTRIES)
def test_nothing_is_found_in_the_corpus(name):
    program = ENTRIES[name].build(backend("pplkit"))
    report = check(program.model, *program.args, guide=program.guide)
    assert report.ok, str(report)


def test_an_automatic_guide_is_checked_and_left_as_it_was():
    automatic = AutoNormal(model)
    assert check(model, DATA, guide=automatic).ok
    with pytest.raises(errors.UsageError, match="has not seen the model yet"):
        _ = automatic.latents


# -- the catalogue ---------------------------------------------------------------------------------


def subject(program, names):
    """What a program of the catalogue runs last, as `check` takes it; None if that is no model."""
    *before, last = ast.parse(program).body
    exec(compile(ast.Module(before, []), "program.py", "exec"), names)
    call = last.value
    while isinstance(call, ast.Attribute | ast.Subscript):
        call = call.value
    if isinstance(call, ast.Call) and getattr(call.func, "attr", None) == "log_prob_sum":
        call = call.func.value

    def value(node):
        return eval(compile(ast.Expression(node), "program.py", "eval"), names)

    if not isinstance(call, ast.Call):
        return None
    target, guide = call.func, None
    if getattr(target, "attr", None) == "get_trace":
        target = target.value.args[0]
    elif getattr(target, "attr", None) == "step" and isinstance(target.value, ast.Call):
        target, guide = target.value.args[:2]
    if isinstance(target, ast.Name) and target.id not in ("model", "first", "second", "guide"):
        return None
    if isinstance(target, ast.Attribute):
        return None
    fn = value(target)
    given = [value(arg) for arg in call.args]
    return fn, given, value(guide) if guide is not None else None


# `check` sees what the statement itself says of it before inference comes to it, or names no step.
OTHERWISE = {
    "guide_param_for_sample": "Found vars in model but not guide: {'mu'}",
    "impossible_observation": "Encountered NaN or infinity: a number of the model is not finite",
    "nan_in_between": "Encountered NaN or infinity: a number of the model is not finite",
    "nan_in_a_gradient": "Encountered NaN or infinity: a gradient is not finite",
}
# About the call of inference, not about a model.
OF_INFERENCE = {"learning_rate_as_text", "loss_not_a_scalar", "posterior_sample_misspelt"}


def subjects():
    """The mistakes that a model makes, with what is to be checked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in catalogue():
            if case.answer.startswith("accepted: ") or case.name in OF_INFERENCE:
                continue
            try:
                found = subject(case.program, namespace("pplkit"))
            except errors.PplkitError:
                continue  # a mistake in a call of the engine's: there is no model yet
            if found is not None:
                yield case, found


CASES = {case.name: case for case, _ in subjects()}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_the_catalogues_mistakes_are_found(case):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fn, args, theirs = subject(case.program, namespace("pplkit"))
        report = check(fn, *args, guide=theirs)
    expected = OTHERWISE.get(case.name, case.answer.split("\n")[0].partition(": ")[2])
    assert expected in headlines(report)


def test_most_of_the_catalogue_can_be_checked():
    assert len(CASES) >= 75


# -- nothing is left changed -----------------------------------------------------------------------


def test_it_leaves_no_trace():
    net = torch.nn.Linear(1, 1)
    calls = {"model": 0, "guide": 0}

    def program(data):
        calls["model"] += 1
        pplkit.module("net", net)
        random.random(), np.random.rand(), torch.rand(2)
        return model(data)

    def theirs(data):
        calls["guide"] += 1
        param("fresh", torch.tensor(1.0))
        return guide(data)

    param("loc", torch.tensor(3.0))
    weights = {k: v.clone() for k, v in net.state_dict().items()}
    leaf, stack = get_param_store().unconstrained("loc"), effects._STACK.get()
    states = [random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tolist()]
    for _ in range(2):
        check(program, DATA, guide=theirs)
        check(lambda: 1 / 0)
    assert calls == {"model": 4, "guide": 2}
    assert list(get_param_store()) == ["loc"] and get_param_store()["loc"].item() == 3.0
    assert get_param_store().unconstrained("loc") is leaf and leaf.grad is None
    assert effects._STACK.get() == stack
    assert all(torch.equal(v, weights[k]) for k, v in net.state_dict().items())
    after = [random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tolist()]
    assert states[0] == after[0] and torch.equal(states[1], after[1]) and states[2] == after[2]


def test_a_store_of_ones_own_and_a_seed_are_left_as_they_were():
    with ParamStore() as store, handlers.seed(rng_seed=1):
        first = sample("a", dist.Normal(0.0, 1.0))
    with ParamStore() as store, handlers.seed(rng_seed=1):
        check(model, DATA, guide=guide)
        assert sample("a", dist.Normal(0.0, 1.0)) == first
    assert len(store) == 0


def test_handlers_in_force_hold_and_a_trace_around_sees_nothing():
    with handlers.trace() as around, handlers.condition(data={"mu": torch.tensor(float("nan"))}):
        report = check(model, DATA)
    assert [p.site for p in report.problems] == ["mu"]
    assert len(around.trace) == 0


def test_a_handlers_names_are_told_after_a_check_too():
    conditioned = handlers.condition(model, data={"mo": 1.0})
    check(conditioned, DATA)
    with pytest.warns(errors.PplkitWarning, match="'mo', which the model does not have"):
        conditioned(DATA)


def test_it_says_the_same_each_time():
    clear_param_store()

    def wrong():
        x = sample("x", dist.Normal(0.0, 1.0))
        sample("y", dist.Exponential(x), obs=torch.tensor(1.0))
        sample("z", dist.Uniform(0.0, 1.0), obs=x)

    assert str(check(wrong)) == str(check(wrong))


# -- how it is shown -------------------------------------------------------------------------------


def test_names_are_text_in_html():
    def program():
        sample("<script>alert(1)</script>", dist.Normal(0.0, -1.0))

    shown = check(program)._repr_html_()
    assert "<script>" not in shown and "&lt;script&gt;" in shown
    assert 'aria-label="error"' in shown and 'aria-label="well"' in shown


def test_a_terminal_without_the_marks_gets_others(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")
    said = str(check(lambda: sample("é", dist.Normal(0.0, -1.0))))
    assert said.isascii() and "[no] parameters of distributions" in said and "[ok]" in said
