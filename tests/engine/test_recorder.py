"""A recorded run: what is written down is what happened, and nothing happens otherwise."""

import asyncio
import json
import math
import subprocess
import sys
import threading

import pytest
import torch

import pplkit
import pplkit.distributions as dist
from pplkit import (
    deterministic,
    effects,
    errors,
    factor,
    get_param_store,
    handlers,
    param,
    plate,
    sample,
    subsample,
)
from pplkit.effects import Handler, active_handlers
from pplkit.infer import SVI, Trace_ELBO
from pplkit.infer.reparam import LocScaleReparam
from pplkit.inspect import Recording, record
from pplkit.inspect.recorder import RecordedError
from pplkit.inspect.snapshots import Thing, alike
from pplkit.optim import Adam
from tests.models import ENTRIES, backend

DATA = torch.tensor([1.2, 0.8, 1.5, -0.3])


# The three programs of chapter 1.
def one_number():
    return sample("x", dist.Normal(0.0, 1.0))


def coins(probs):
    with plate("data", len(probs)):
        return sample("y", dist.Bernoulli(probs))


def measure(data):
    z = sample("z", dist.Normal(0.0, 1.0))
    with plate("data", len(data)):
        return sample("obs", dist.Normal(z, 0.5), obs=data)


def assert_same_trace(told, made, arguments=True):
    """Two traces tell of the same run."""
    skip = () if arguments else ("_INPUT", "_RETURN")
    assert [n for n in told.nodes if n not in skip] == [n for n in made.nodes if n not in skip]
    for site in made.nodes.values():
        if site.name in skip:
            continue
        ours = told.nodes[site.name]
        assert (ours.type, ours.is_observed) == (site.type, site.is_observed)
        assert ours.plates == site.plates
        if site.type in ("args", "return"):
            continue
        assert str(ours.where) == str(site.where) or site.name == "particles"
        assert alike(ours.value, site.value), site.name
        assert alike(ours.scale, site.scale) and alike(ours.mask, site.mask), site.name
        if site.type == "sample":
            assert ours.fn.batch_shape == site.fn.batch_shape
            assert ours.fn.event_shape == site.fn.event_shape
            assert alike(ours.log_prob, site.log_prob.detach()), site.name
            assert alike(ours.unscaled_log_prob, site.unscaled_log_prob.detach()), site.name
    assert alike(told.log_prob_sum(), made.log_prob_sum().detach())


def both(recording):
    """A recording, and what is read back of it."""
    text = recording.to_json()
    again = Recording.from_json(text)
    assert again.to_json() == text
    assert str(again) == str(recording)
    return recording, again


# -- the promise ---------------------------------------------------------------------------------

PROGRAMS = [
    (one_number, (), {"x": torch.tensor(0.5)}),
    (coins, (torch.tensor([0.2, 0.6, 0.9]),), {"y": torch.tensor([0.0, 1.0, 1.0])}),
    (measure, (DATA,), {"z": torch.tensor(0.75)}),
]


@pytest.mark.parametrize(
    ("model", "args", "data"), PROGRAMS, ids=lambda x: getattr(x, "__name__", "")
)
@pytest.mark.parametrize("held", [True, False], ids=["conditioned", "drawn"])
def test_the_log_of_chapter_ones_programs_replays_to_the_same_trace(model, args, data, held):
    program = handlers.condition(model, data=data) if held else model
    with handlers.seed(rng_seed=3):
        made = handlers.trace(program).get_trace(*args)
    with handlers.seed(rng_seed=3):
        whole = record(handlers.trace(program), *args)
    with handlers.seed(rng_seed=3), handlers.trace() as around:
        inside = record(program, *args)
    for recording in both(whole) + both(inside):
        assert recording.error is None
        assert_same_trace(recording.trace(), made)
        tracers = [place.number for place in recording.handlers if place.name == "trace"]
        assert_same_trace(recording.trace(by=tracers[0]), made, arguments=False)
        replayed = handlers.trace(handlers.replay(program, trace=recording.trace()))
        assert_same_trace(replayed.get_trace(*args), made)
    assert_same_trace(around.trace, made, arguments=False)


@pytest.mark.parametrize("name", ENTRIES)
def test_every_model_of_the_corpus_is_told_as_it_runs(name):
    program = ENTRIES[name].build(backend("pplkit"), ENTRIES[name].sizes[0])
    with handlers.seed(rng_seed=1):
        drawn = handlers.trace(program.guide).get_trace(*program.args)
    for run in (program.guide, handlers.replay(program.model, trace=drawn)):
        pplkit.clear_param_store()
        with handlers.seed(rng_seed=1):
            made = handlers.trace(run).get_trace(*program.args)
            after = dist.Normal(0.0, 1.0).sample()
        pplkit.clear_param_store()
        with handlers.seed(rng_seed=1):
            recording = record(run, *program.args)
            assert dist.Normal(0.0, 1.0).sample() == after
        for told in both(recording):
            assert_same_trace(told.trace(), made)


def test_recording_changes_neither_draws_nor_result_nor_gradients(data=DATA):
    def guide(data):
        loc = param("loc", torch.tensor(0.0))
        sample("z", dist.Normal(loc, 1.0))

    outcomes = []
    for watch in (lambda f, *a: f(*a), lambda f, *a: record(f, *a).result):
        pplkit.clear_param_store()
        pplkit.set_rng_seed(4)
        svi = SVI(measure, guide, Adam({"lr": 0.1}), Trace_ELBO())
        losses = [watch(svi.step, data) for _ in range(3)]
        assert watch(measure, data) is data
        outcomes.append((losses, get_param_store()["loc"].item(), torch.rand(3).tolist()))
    assert outcomes[0] == outcomes[1]


def test_a_step_of_inference_holds_two_traces():
    def guide(data):
        sample("z", dist.Normal(param("loc", torch.tensor(0.0)), 1.0))

    svi = SVI(measure, guide, Adam({"lr": 0.1}), Trace_ELBO())
    recording = record(svi.step, DATA)
    tracers = [place.number for place in recording.handlers if place.name == "trace"]
    of_guide, of_model = (recording.trace(by=number) for number in tracers)
    assert [*of_guide] == ["loc", "z"] and [*of_model] == ["z", "data", "obs"]
    assert of_guide.nodes["z"].value == of_model.nodes["z"].value
    loss = of_guide.log_prob_sum() - of_model.log_prob_sum()
    assert recording.result == pytest.approx(loss.item(), rel=1e-6)
    with pytest.raises(errors.ModelError, match="Multiple sample sites named 'z'"):
        recording.trace()


# -- recording off costs nothing -----------------------------------------------------------------


def plain_perform(msg, outside=None):
    """The walk of a message with no place in it for a recorder."""
    stack = effects._in_force()
    if outside is not None:
        stack = stack[: max(i for i, entry in enumerate(stack) if entry.handler is outside)]
    reached = []
    for entry in reversed(stack):
        handler = entry.handler
        reached.append(handler)
        handler.process_message(msg)
        if msg.stop:
            break
    effects._answer(msg)
    for handler in reversed(reached):
        handler.postprocess_message(msg)
    return msg.value


def work_of(perform, depth):
    """Python calls and bytecodes of a statement under `depth` handlers."""
    counts = {"call": 0, "opcode": 0}

    def tracer(frame, event, arg):
        frame.f_trace_opcodes = True
        if event in counts:
            counts[event] += 1
        return tracer

    message = effects.Message("deterministic", "x", None, value=torch.tensor(1.0))
    for _ in range(depth):
        Handler().__enter__()
    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        perform(message)
    finally:
        sys.settrace(before)
        effects._STACK.set(())
    return counts


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_recording_off_costs_no_call_and_no_bytecode(depth):
    before = work_of(effects.perform, depth)
    record(measure, DATA)
    after = work_of(effects.perform, depth)
    bare = work_of(plain_perform, depth)
    assert after == before
    assert after["call"] == bare["call"]
    assert after["opcode"] <= bare["opcode"]


def test_the_stack_is_the_very_same_after_a_recording():
    with handlers.trace(), handlers.seed(rng_seed=0):
        before = effects._STACK.get()
        record(measure, DATA)
        assert effects._STACK.get() is before or effects._STACK.get() == before
        assert all(e.down == e.handler.process_message for e in effects._STACK.get())
    assert active_handlers() == []


# -- handlers, one by one ------------------------------------------------------------------------


def model():
    scale = param("scale", torch.tensor(2.0), constraint=dist.constraints.positive)
    z = sample("z", dist.Normal(0.0, scale))
    with plate("rows", 6, subsample_size=3), plate("columns", 2):
        x = sample("x", dist.Normal(z, 1.0), infer={"note": 1})
        deterministic("twice", 2 * x)
        factor("penalty", -x.abs())
        weights = param("weights", torch.arange(12.0).reshape(2, 6), event_dim=0)
        subsample(torch.arange(12.0).reshape(2, 6), event_dim=0)
    for i in plate("loop", 2):
        sample(f"y_{i}", dist.Poisson(3.0), obs=torch.tensor(2 + i))
    return weights


def hidden_too():
    with handlers.block(hide=["x", "rows"]), handlers.mask(mask=False):
        return model()


def markov_chain():
    x = torch.tensor(0.0)
    for t in pplkit.markov(range(3)):
        x = sample(f"x_{t}", dist.Normal(x, 1.0))


WRAPPED = {
    "plain": lambda: model,
    "condition": lambda: handlers.condition(model, data={"z": 0.5, "x": torch.ones(2, 3)}),
    "do": lambda: handlers.do(model, data={"z": torch.tensor(0.5)}),
    "substitute": lambda: handlers.substitute(model, data={"scale": 1.0, "z": 3.0}),
    "replay": lambda: handlers.replay(
        model, trace=handlers.trace(handlers.seed(model, rng_seed=9)).get_trace()
    ),
    "uncondition": lambda: handlers.uncondition(model),
    "block": lambda: handlers.block(model, hide=["x"]),
    "block inside": lambda: hidden_too,
    "mask": lambda: handlers.mask(model, mask=torch.tensor([True, False, True])),
    "mask off": lambda: handlers.mask(model, mask=False),
    "scale": lambda: handlers.scale(model, scale=3.0),
    "seed": lambda: handlers.seed(model, rng_seed=2),
    "lift": lambda: handlers.lift(model, prior={"scale": dist.LogNormal(0.0, 1.0)}),
    "infer_config": lambda: handlers.infer_config(model, config_fn=lambda site: {"who": site}),
    "scope": lambda: handlers.scope(model, prefix="left"),
    "reparam": lambda: handlers.reparam(model, config={"z": LocScaleReparam(0.0)}),
    "markov": lambda: markov_chain,
    "plate around": lambda: plate("particles", 5, dim=-3)(model),
    "two": lambda: handlers.scale(handlers.condition(model, data={"z": 0.1}), scale=0.5),
}


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("where", ["inside", "outside"])
def test_under_every_handler_the_log_tells_the_trace(name, where):
    program = WRAPPED[name]()
    with handlers.seed(rng_seed=5):
        made = handlers.trace(program).get_trace()
    pplkit.clear_param_store()
    if where == "inside" or name in ("block inside", "markov", "plain", "plate around"):
        with handlers.seed(rng_seed=5):
            recording = record(program)
        wanted = made
    else:
        pplkit.clear_param_store()
        with handlers.seed(rng_seed=5), handlers.trace() as wanted, program:
            recording = record(model)
        with handlers.seed(rng_seed=5), program, handlers.trace() as seen:
            pass
        with handlers.seed(rng_seed=5), program:
            wanted = handlers.trace(model).get_trace()
        assert [*seen.trace] == []
    for told in both(recording):
        assert told.error is None
        assert_same_trace(told.trace(), wanted, arguments=False)


def test_each_handler_tells_what_it_has_changed():
    data = {"x": torch.tensor([1.0, 2.0])}

    def program():
        with plate("rows", 2):
            return sample("x", dist.Normal(0.0, 1.0))

    recording = record(handlers.scale(handlers.condition(program, data=data), scale=2.0))
    for told in both(recording):
        steps = [
            (e.kind, str(e.handler), e.changed) for e in told.of(1) if e.kind in ("down", "up")
        ]
        assert [step[:2] for step in steps] == [
            ("down", "plate(rows)"),
            ("down", "condition(x)"),
            ("down", "scale(2)"),
            ("up", "scale(2)"),
            ("up", "condition(x)"),
            ("up", "plate(rows)"),
        ]
        changed = [step[2] for step in steps]
        assert set(changed[0]) == {"fn", "plates"}
        old, new = changed[0]["fn"]
        assert (old.batch_shape, new.batch_shape) == ((), (2,))
        assert changed[0]["plates"][1][0].name == "rows"
        assert set(changed[1]) == {"value", "is_observed"}
        assert alike(changed[1]["value"][1], data["x"])
        assert changed[2] == {"scale": (1.0, 2.0)}
        assert changed[3:] == [{}, {}, {}]
        answer = next(e for e in told.of(1) if e.kind == "answer")
        assert (answer.how, answer.hidden) == ("observed", False)
        score = told.of(1)[-1]
        assert score.kind == "log_prob"
        assert alike(score.log_prob, 2 * dist.Normal(0.0, 1.0).log_prob(data["x"]))
        assert alike(score.unscaled, dist.Normal(0.0, 1.0).log_prob(data["x"]))


def test_what_is_changed_on_the_way_up_is_told():
    class double(Handler):
        def postprocess_message(self, msg):
            msg.value = msg.value * 2
            msg.infer["seen"] = True

    recording = record(double(lambda: deterministic("x", torch.tensor(1.5))))
    assert recording.result == 3.0
    for told in both(recording):
        (up,) = [e for e in told.events if e.kind == "up"]
        assert up.changed["value"][0] == 1.5 and up.changed["value"][1] == 3.0
        assert up.changed["infer"] == ({}, {"seen": True})
        assert told.trace().nodes["x"].value == 1.5 * 2 or up.handler.outside is False


def test_where_values_come_from():
    def program():
        param("p", torch.tensor(1.0))
        for name in "abc":
            sample(name, dist.Normal(0.0, 1.0))
        sample("d", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))
        deterministic("e", torch.tensor(2.0))
        with plate("f", 2):
            pass

    held = handlers.condition(program, data={"a": 1.0})
    recording = record(handlers.substitute(held, data={"b": torch.tensor(2.0)}))
    answers = {e.site: e.how for e in recording.events if e.kind == "answer"}
    assert answers == {
        "p": "read",
        "a": "observed",
        "b": "substituted",
        "c": "drawn",
        "d": "observed",
        "e": "computed",
        "f": "computed",
    }


def test_what_a_block_hides_is_told_as_hidden():
    def program():
        with handlers.block(hide=["z"]):
            sample("z", dist.Normal(0.0, 1.0))
        sample("x", dist.Normal(0.0, 1.0))

    recording = record(program)
    answers = {e.site: e.hidden for e in recording.events if e.kind == "answer"}
    assert answers == {"z": True, "x": False}
    assert recording.trace().stochastic_nodes == ["x"]
    assert {e.site for e in recording.events if e.kind == "log_prob"} == {"z", "x"}


def test_a_statement_that_a_handler_makes_is_told_as_its():
    recording = record(handlers.reparam(one_number, config={"x": LocScaleReparam(0.0)}))
    outer, inner = recording.statements
    assert (outer.site, inner.site, inner.within) == ("x", "x_decentered", outer.number)
    assert outer.within is None
    places = [recording.handlers[number].name for number in outer.stack]
    assert places == ["reparam"]
    recording = record(handlers.do(one_number, data={"x": torch.tensor(1.0)}))
    assert [s.site for s in recording.statements] == ["x", "x"]
    assert recording.trace().stochastic_nodes == ["x"]
    with handlers.do(data={"x": torch.tensor(1.0)}):  # the outermost of all
        recording = record(one_number)
    assert recording.result == 1.0
    assert [s.site for s in recording.statements] == ["x", "x"]


def test_a_statement_is_told_with_the_users_line():
    recording = record(measure, DATA)
    line = measure.__code__.co_firstlineno
    for told in both(recording):
        assert [(str(s.where), s.source) for s in told.statements] == [
            (
                f"tests/engine/test_recorder.py, line {line + 1}",
                'z = sample("z", dist.Normal(0.0, 1.0))',
            ),
            (f"tests/engine/test_recorder.py, line {line + 2}", 'with plate("data", len(data)):'),
            (
                f"tests/engine/test_recorder.py, line {line + 3}",
                'return sample("obs", dist.Normal(z, 0.5), obs=data)',
            ),
        ]


def test_in_a_notebook_the_place_is_a_cell():
    script = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
from ipykernel.compiler import XCachingCompiler
shell.compile = XCachingCompiler()
shell.run_cell("import pplkit, pplkit.distributions as dist", store_history=True)
shell.run_cell("x = 1\\ndef model(): pplkit.sample('x', dist.Normal(0., 1.))", store_history=True)
shell.run_cell("from pplkit.inspect import record\\nr = record(model)", store_history=True)
text = shell.user_ns["r"].to_json()
import json
print(json.loads(text)["events"][0]["where"], "/tmp" in text)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    where = "{'file': 'Cell In [2]', 'line': 2, 'text': 'Cell In [2], line 2'}"
    assert done.stdout.strip().splitlines()[-1] == f"{where} False"


# -- snapshots -----------------------------------------------------------------------------------


def test_later_changes_do_not_reach_the_log():
    data, loc = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0])
    kept = []

    def program(data):
        with plate("rows", 2):
            x = sample("x", dist.Normal(loc, 1.0))
            kept.append(x.clone())
            x.add_(100.0)
            y = sample("y", dist.Normal(loc, 1.0), obs=data, infer={"list": (note := [1])})
        note.append(2)
        y.zero_()
        return y

    recording = record(program, data)
    loc.fill_(7.0)
    recording.result.fill_(9.0)
    for told in both(recording):
        run = told.trace()
        assert alike(run.nodes["x"].value, kept[0])
        assert run.nodes["y"].value.tolist() == [1.0, 2.0]
        assert run.nodes["y"].infer == {"list": [1]}
        assert run.nodes["_INPUT"].args[0].tolist() == [1.0, 2.0]
        assert run.nodes["_RETURN"].value.tolist() == [0.0, 0.0]
        assert run.nodes["x"].fn.parameters["loc"].tolist() == [0.0, 0.0]
        expected = dist.Normal(0.0, 1.0).log_prob(torch.tensor([1.0, 2.0]))
        assert alike(run.nodes["y"].log_prob, expected)


def test_a_handler_that_changes_a_tensor_in_place_is_seen():
    class shift(Handler):
        def postprocess_message(self, msg):
            msg.value.add_(1.0)

    recording = record(shift(lambda: deterministic("x", torch.zeros(2))))
    (up,) = [e for e in recording.events if e.kind == "up"]
    assert up.changed["value"][0].tolist() == [0, 0] and up.changed["value"][1].tolist() == [1, 1]


VALUES = [
    torch.tensor([1.0, math.nan, math.inf, -math.inf, -0.0, 1e-45, 0.1]),
    torch.tensor([0.1, 1 / 3, 5e-324, math.nan], dtype=torch.float64),
    torch.tensor([0.1, math.inf], dtype=torch.float16),
    torch.tensor([0.1, math.nan], dtype=torch.bfloat16),
    torch.tensor([2**62, -(2**63), 0]),
    torch.tensor([[1, 2], [3, 4]], dtype=torch.int32),
    torch.tensor([255], dtype=torch.uint8),
    torch.tensor([True, False]),
    torch.tensor(3),
    torch.tensor(True),
    torch.zeros(0, 3),
    torch.zeros(2, 0, dtype=torch.int64),
    torch.tensor([1 + 2j, complex(math.nan, 1)]),
    torch.randn(3, 5000, generator=torch.Generator().manual_seed(0)),
    torch.randint(0, 9, (2000,), generator=torch.Generator().manual_seed(0)),
    torch.rand(1500, generator=torch.Generator().manual_seed(0)) > 0.5,
    torch.tensor([[1.0], [2.0]]).expand(2, 1000),
    torch.tensor(1.5).expand(4),
    torch.arange(6.0).reshape(2, 3).T,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: f"{v.dtype}-{tuple(v.shape)}")
def test_tensors_are_written_whole_and_exactly(value):
    recording = record(lambda: deterministic("x", value))
    text = recording.to_json()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    again = Recording.from_json(text).trace().nodes["x"].value
    assert again.dtype == value.dtype and again.shape == value.shape
    assert alike(again, value)
    if value.is_floating_point():
        assert torch.equal(torch.signbit(again), torch.signbit(value))


PLAIN = [
    None,
    True,
    7,
    2**80,
    0.1,
    math.inf,
    1 + 2j,
    "text with \u2028 and \U0001f600",
    [1, [2.0, None]],
    (1, (2,)),
    {"a": 1, 2: (3, "b")},
    torch.Size([2, 3]),
    effects.PlateFrame("rows", -1, 2, 4),
]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_values_are_written_exactly(value):
    recording = record(lambda given: given, value)
    run = Recording.from_json(recording.to_json()).trace()
    for told in (run.nodes["_INPUT"].args[0], run.nodes["_RETURN"].value):
        assert told == value and type(told) is type(value)


def test_what_cannot_be_written_is_described():
    loop = []
    loop.append(loop)
    things = [math.sqrt, object(), torch.nn.Linear(2, 1), {1, 2}, torch.float32, loop]
    recording = record(lambda *given: None, *things)
    for told in both(recording):
        args = told.trace().nodes["_INPUT"].args
        assert all(isinstance(thing, Thing) for thing in args[:5])
        assert str(args[0]) == "sqrt"
    assert "0x" not in recording.to_json()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": "pplkit recording", "version": 99}', '{"format": 3}', "null"],
)
def test_other_text_is_refused(text):
    with pytest.raises(errors.UsageError, match="this is no recording"):
        Recording.from_json(text)


def test_a_description_knows_the_recorded_value_alone():
    run = record(one_number).trace()
    site = run.nodes["x"]
    assert site.unscaled_log_prob == site.log_prob == site.fn.log_prob(site.value)
    with pytest.raises(errors.UsageError, match="description of a distribution"):
        site.fn.log_prob(torch.tensor(0.25))


# -- failing runs --------------------------------------------------------------------------------


def scale_negative():
    sample("before", dist.Normal(0.0, 1.0))
    param("added", torch.tensor(1.0))
    sample("x", dist.Normal(0.0, -1.0))


def twice():
    sample("x", dist.Normal(0.0, 1.0))
    sample("x", dist.Normal(0.0, 1.0))


def wrong_rows():
    with plate("rows", 3):
        sample("x", dist.Normal(0.0, 1.0), obs=torch.zeros(4))


def no_rows():
    sample("before", dist.Normal(0.0, 1.0))
    with plate("x", 0):
        pass


def shape_in_plate():
    with plate("rows", 3):
        sample("x", dist.Normal(torch.zeros(4), 1.0))


FAILING = [
    (scale_negative, errors.DistributionError, 2),
    (handlers.trace(twice), errors.ModelError, 1),
    (wrong_rows, errors.ShapeError, 1),
    (no_rows, errors.PlateError, 1),
    (shape_in_plate, errors.ShapeError, 1),
]


@pytest.mark.parametrize(
    ("program", "kind", "number"), FAILING, ids=lambda x: getattr(x, "__name__", "")
)
def test_an_error_is_tied_to_its_statement(program, kind, number):
    param("old", torch.tensor(1.0))
    recording = record(program)
    assert type(recording.error) is kind
    assert active_handlers() == [] and list(get_param_store()) == ["old"]
    for told in both(recording):
        assert told.culprit is told.statements[-1]
        assert (told.culprit.site, told.culprit.number) == ("x", number)
        assert told.culprit.where.line == recording.error.where.line
        assert str(told.error) == str(recording.error)
        assert "failed" in repr(told)
        told.trace()
    assert recording.error.path == recording.path()
    assert recording.path().startswith(("sample 'x'", "plate 'x'"))
    assert isinstance(Recording.from_json(recording.to_json()).error, RecordedError)


def test_the_path_of_a_failing_statement_ends_at_the_handler_that_refused_it():
    recording = record(handlers.trace(twice))
    last = recording.events[-1]
    assert (last.kind, last.handler.name) == ("down", "trace")
    assert last.error == "ModelError: Multiple sample sites named 'x'"
    assert "raised ModelError" in recording.path()


def test_an_error_of_the_users_own_has_no_culprit():
    def program():
        sample("x", dist.Normal(0.0, 1.0))
        raise ValueError("mine")

    recording = record(program)
    assert str(recording.error) == "mine" and recording.culprit is None
    assert recording.trace().stochastic_nodes == ["x"]
    assert "_RETURN" not in recording.trace()
    assert str(Recording.from_json(recording.to_json()).error) == "mine"


def test_an_error_that_the_program_catches_is_no_error():
    def program():
        try:
            with plate("rows", 3):
                sample("x", dist.Normal(torch.zeros(4), 1.0))
        except errors.ShapeError:
            pass
        return sample("y", dist.Normal(0.0, 1.0))

    recording = record(program)
    assert recording.error is None and recording.trace().stochastic_nodes == ["y"]
    assert [s.within for s in recording.statements] == [None, None, None]


def test_a_draw_that_torch_refuses_is_tied_to_its_site():
    class Broken(dist.Distribution):
        arg_constraints = {}
        support = dist.constraints.real

        def sample(self, sample_shape=()):
            raise RuntimeError("no draws today")

    recording = record(lambda: sample("x", Broken(validate_args=False)))
    assert isinstance(recording.error, errors.DistributionError)
    assert recording.culprit.site == "x"


@pytest.mark.parametrize("fault", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_goes_through_and_leaves_nothing(fault):
    def program():
        with plate("rows", 2):
            raise fault

    with pytest.raises(fault):
        record(program)
    assert active_handlers() == []


def test_only_functions_are_recorded():
    with pytest.raises(errors.UsageError, match="not callable"):
        record(3)


# -- several at once -----------------------------------------------------------------------------


def test_a_recording_inside_another():
    def outer():
        sample("a", dist.Normal(0.0, 1.0))
        with plate("rows", 2):
            inner = record(handlers.scale(one_number, scale=2.0))
        sample("b", dist.Normal(0.0, 1.0))
        return inner

    recording = record(handlers.trace(outer))
    inner = recording.result
    assert [s.site for s in recording.statements] == ["a", "rows", "x", "b"]
    assert [s.site for s in inner.statements] == ["x"]
    assert [(p.name, p.outside) for p in inner.handlers] == [
        ("trace", True),
        ("plate", True),
        ("scale", False),
    ]
    assert [e.handler.name for e in recording.of(2) if e.kind == "down"] == [
        "scale",
        "plate",
        "trace",
    ]
    assert inner.trace().nodes["x"].value.shape == (2,)
    assert alike(inner.trace().nodes["x"].log_prob, recording.trace().nodes["x"].log_prob)


def test_threads_record_each_for_itself():
    told, ready = {}, threading.Barrier(4)

    def run(i):
        ready.wait()
        with handlers.seed(rng_seed=i):
            for _ in range(5):
                told[i] = record(measure, DATA)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all([s.site for s in told[i].statements] == ["z", "data", "obs"] for i in range(4))
    assert len({told[i].trace().nodes["z"].value.item() for i in range(4)}) == 4


def test_tasks_that_outlive_a_recording_write_no_more():
    async def later():
        await asyncio.sleep(0)
        return one_number()

    async def main():
        tasks = []
        recording = record(lambda: (one_number(), tasks.append(asyncio.ensure_future(later()))))
        count = len(recording.events)
        await tasks[0]
        return count, len(recording.events)

    count, after = asyncio.run(main())
    assert count == after == 3


def test_a_generator_that_outlives_the_recording_keeps_its_plate():
    def rows():
        with plate("rows", 3):
            yield one_number()
            yield sample("later", dist.Normal(0.0, 1.0))

    generator = rows()
    recording = record(lambda: next(generator))
    assert recording.result.shape == (3,)
    assert active_handlers() == []
    assert next(generator).shape == (3,)
    generator.close()
    assert effects._STACK.get() == ()
    assert [s.site for s in recording.statements] == ["rows", "x"]


# -- told ----------------------------------------------------------------------------------------


def test_a_recording_is_told_in_lines(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")
    data = {"z": torch.tensor(0.75)}
    recording = record(handlers.trace(handlers.condition(measure, data=data)), DATA)
    line = measure.__code__.co_firstlineno
    here = "at tests/engine/test_recorder.py, line"
    assert str(recording) == "\n".join(
        [
            "measure: 3 statements",
            f"0: sample 'z'  {here} {line + 1}",
            "  down condition(z)  value: None -> 0.75; is_observed: no -> yes",
            "  observed 0.75  Normal(loc=0, scale=1)",
            "  log_prob -1.2002",
            f"1: plate 'data'  {here} {line + 2}",
            "  computed [0, 1, 2, 3]",
            f"2: sample 'obs'  {here} {line + 3}",
            "  down plate(data)  batch shape: () -> (4,); plates: none -> data",
            "  observed [1.2, 0.8, 1.5, -0.3]  Normal(loc=0.75, scale=0.5)",
            "  log_prob -4.6432",
        ]
    )
    assert repr(recording) == "<Recording of measure: 3 statements>"


def test_names_are_text_in_html():
    def program():
        return sample("<script>alert(1)</script>", dist.Normal(0.0, -1.0))

    page = record(program)._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert "Expected parameter scale" in page
