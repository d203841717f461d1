"""Laws that hold for every program, whatever Pyro does: handlers compose, nothing leaks, shapes add
up, the parameter store is a dictionary."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from dataclasses import replace

import pytest
import torch
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from torch.distributions import constraints

import pplkit
from pplkit import errors, handlers
from pplkit.effects import Handler, active_handlers
from tests.conformance.program_strategies import failing_programs, programs
from tests.conformance.property_profiles import law, short
from tests.conformance.random_programs import (
    FAMILIES,
    OnPurpose,
    Param,
    Plate,
    Program,
    Runner,
    Sample,
    Under,
    booleans,
    broadcast,
    in_support,
    numbers,
    parameter,
    quiet,
    state,
    walk,
)
from tests.models import backend

OURS = backend("pplkit")

plain = programs(kinds=("infer_config",), at_most=0)


def bare(program: Program, *changes):
    """The program as a function, under handlers given as functions of a model."""

    def model():
        return Runner(OURS).run(program.body)

    for change in changes:
        model = change(model)
    return model


def drawn(model, seed: int = 1):
    pplkit.clear_param_store()
    torch.manual_seed(seed)
    with quiet():
        return handlers.trace(model).get_trace()


def same_run(one, other) -> None:
    assert list(one.nodes) == list(other.nodes)
    for name, site in one.nodes.items():
        if site.type in ("sample", "param", "plate", "deterministic"):
            assert torch.equal(site.value, other.nodes[name].value), name
    torch.testing.assert_close(one.log_prob_sum(), other.log_prob_sum(), rtol=0, atol=0)


def blocks_inside(program: Program) -> bool:
    return any(getattr(node, "kind", "") in ("block", "do", "condition") for node in walk(program))


# -- handlers compose -----------------------------------------------------------------------------


@law(30, plain)
def test_a_replayed_run_is_the_run(program):
    first = drawn(bare(program))
    again = drawn(bare(program, lambda m: handlers.replay(m, trace=first)), seed=2)
    if not blocks_inside(program) and not seeded_rows(program):
        same_run(first, again)


def seeded_rows(program: Program) -> bool:
    """Whether a lift or seed inside draws what a replay further out cannot see."""
    return any(getattr(node, "kind", "") in ("scope", "uncondition") for node in walk(program))


@law(30, plain, st.integers(0, 2**32 - 1))
def test_a_seeded_run_is_the_same_every_time_and_leaves_torch_alone(program, rng_seed):
    model = bare(program, lambda m: handlers.seed(m, rng_seed=rng_seed))
    first = drawn(model, seed=1)
    before = torch.get_rng_state()
    with quiet():
        pplkit.clear_param_store()
        again = handlers.trace(model).get_trace()
    assert torch.equal(before, torch.get_rng_state())
    same_run(first, again)


@law(30, plain, st.data())
def test_block_hides_what_it_names_and_nothing_else(program, data):
    names = [n for n in drawn(bare(program)).nodes if not n.startswith("_")]
    hide = data.draw(st.sets(st.sampled_from(names))) if names else set()
    seen = drawn(bare(program, lambda m: handlers.block(m, hide=hide)))
    assert [n for n in seen.nodes if not n.startswith("_")] == [n for n in names if n not in hide]
    shown = drawn(bare(program, lambda m: handlers.block(m, expose=sorted(hide))))
    if hide:
        assert {n for n in shown.nodes if not n.startswith("_")} == hide


@law(30, plain)
def test_conditioning_on_a_run_observes_it_and_unconditioning_forgets_it(program):
    first = drawn(bare(program))
    data = {name: first.nodes[name].value for name in first.stochastic_nodes}
    observed = drawn(bare(program, lambda m: handlers.condition(m, data=data)), seed=3)
    assert observed.stochastic_nodes == []
    if any(getattr(node, "kind", "") == "uncondition" for node in walk(program)):
        return
    if not blocks_inside(program) and not random_rows(program):
        torch.testing.assert_close(observed.log_prob_sum(), first.log_prob_sum())
    forgotten = bare(
        program, lambda m: handlers.condition(m, data=data), lambda m: handlers.uncondition(m)
    )
    again = drawn(forgotten)
    assert set(again.stochastic_nodes) >= set(first.stochastic_nodes)
    if not first.observation_nodes:
        same_run(first, again)


def random_rows(program: Program) -> bool:
    return any(isinstance(getattr(node, "rows", None), int) for node in walk(program))


@law(30, plain, st.floats(0.25, 4), st.floats(0.25, 4), st.booleans(), st.booleans())
def test_scales_multiply_and_masks_are_joined(program, one, two, keep, also):
    first = drawn(bare(program))
    twice = bare(program, lambda m: handlers.scale(m, scale=one))
    twice = handlers.scale(twice, scale=two)
    masked = handlers.mask(bare(program, lambda m: handlers.mask(m, mask=keep)), mask=also)
    scaled, masked = drawn(twice), drawn(masked)
    for site in first.sites("sample"):
        torch.testing.assert_close(scaled.nodes[site.name].log_prob, site.log_prob * one * two)
        expected = site.log_prob if keep and also else torch.zeros_like(site.log_prob)
        torch.testing.assert_close(masked.nodes[site.name].log_prob, expected)


@law(30, plain)
def test_lift_makes_every_parameter_a_variable(program):
    inside = {getattr(node, "kind", "") for node in walk(program)}
    assume(not {"substitute", "block", "scope", "lift"} & inside)
    first = drawn(bare(program))
    assume(first.param_nodes)
    prior = pplkit.distributions.Normal(0.0, 1.0)
    lifted = drawn(bare(program, lambda m: handlers.lift(m, prior=prior)))
    assert lifted.param_nodes == []
    assert set(lifted.stochastic_nodes) == {*first.stochastic_nodes, *first.param_nodes}
    assert [n for n in first.nodes if n in lifted.nodes] == [n for n in lifted.nodes]


# -- plates take dimensions -----------------------------------------------------------------------


@law(
    120,
    st.lists(st.tuples(st.one_of(st.none(), st.integers(-4, -1)), st.integers(1, 3)), max_size=5),
)
def test_plates_take_the_dimensions_they_ask_for_and_else_the_rightmost_free(asked):
    taken: dict[int, int] = {}
    collision = False
    for dim, size in asked:
        dim = dim or next(d for d in range(-1, -9, -1) if d not in taken)
        if dim in taken:
            collision = True
            break
        taken[dim] = size
    before = state()
    with contextlib.ExitStack() as stack, contextlib.suppress(errors.PlateError):
        for k, (dim, size) in enumerate(asked):
            stack.enter_context(pplkit.plate(f"P{k}", size, dim=dim))
        assert not collision
        tr = stack.enter_context(handlers.trace())
        value = pplkit.sample("x", pplkit.distributions.Normal(0.0, 1.0))
        frames = tr.trace.nodes["x"].plates
        assert {frame.dim: frame.size for frame in frames} == taken
        assert [frame.name for frame in frames] == [f"P{k}" for k in range(len(asked))]
        shape = [1] * max((-dim for dim in taken), default=0)
        for dim, size in taken.items():
            shape[dim] = size
        assert value.shape == tuple(shape)
        collision = None
    assert collision is not False
    assert state() == before


# -- nothing leaks --------------------------------------------------------------------------------


class Breaks(Handler):
    """Raises at the nth message, on the way down or up."""

    def __init__(self, at: int, way: str, fault: type[BaseException]):
        super().__init__()
        self.at, self.way, self.fault, self.count = at, way, fault, 0

    def step(self, way: str) -> None:
        self.count += way == self.way
        if way == self.way and self.count == self.at:
            raise self.fault

    def process_message(self, msg):
        self.step("down")

    def postprocess_message(self, msg):
        self.step("up")


FAULTS = st.sampled_from([OnPurpose, KeyboardInterrupt, GeneratorExit, SystemExit])


@law(30, failing_programs())
def test_an_exception_in_a_model_leaves_nothing(program):
    pplkit.clear_param_store()
    pplkit.param("before", torch.tensor(1.0))
    before, runner = state(), Runner(OURS)
    with quiet(), contextlib.suppress(OnPurpose, errors.PplkitError):
        handlers.trace(runner.whole(replace(program, handlers=unreplayed(program))))()
    assert state() == before
    known = list(pplkit.get_param_store())
    assert known[0] == "before"
    assert not runner.raised or known == ["before"]
    assert pplkit.sample("x", pplkit.distributions.Normal(0.0, 1.0)).shape == ()


def unreplayed(program: Program) -> tuple:
    return tuple(said for said in program.handlers if said.kind != "replay")


@law(60, plain, st.integers(1, 8), st.sampled_from(["down", "up"]), FAULTS, st.booleans())
def test_an_exception_in_a_handler_leaves_nothing(program, at, way, fault, inside):
    pplkit.clear_param_store()
    before, breaks = state(), Breaks(at, way, fault)
    model = bare(program)
    wrapped = (lambda: handlers.trace(under(breaks, model))()) if inside else under(breaks, model)
    raised = False
    with quiet():
        try:
            wrapped()
        except fault:
            raised = True
    assert raised == (breaks.count >= at)
    assert state() == before
    if raised:
        assert len(pplkit.get_param_store()) == 0


def under(handler, model):
    def run():
        with handler:
            return model()

    return run


def walked(runner: Runner, body: tuple, suffix: str = "", leaves: tuple = (Sample, Param)):
    """The program, pausing after every statement, inside whatever is open there."""
    for node in body:
        if isinstance(node, Plate) and node.how == "with":
            with pplkit.plate(node.name + suffix, node.size, dim=node.dim) as rows:
                runner.answer("rows", rows)
                yield from walked(runner, node.body, suffix, leaves)
        elif isinstance(node, Plate) and node.how == "for" and Param in leaves:
            for row in pplkit.plate(node.name + suffix, node.size):
                yield from walked(runner, node.body, f"{suffix}_{row}", leaves)
        elif isinstance(node, Under):
            with runner.handler(node.handler):
                yield from walked(runner, node.body, suffix, leaves)
        elif isinstance(node, leaves):
            with contextlib.suppress(errors.ShapeError):
                runner.run((node,), suffix)
            yield


@law(25, st.lists(plain, min_size=1, max_size=3), st.lists(st.integers(0, 2), max_size=25))
def test_generators_driven_in_any_order_and_abandoned_anywhere(many, order):
    pplkit.clear_param_store()
    before = state()
    with quiet():
        alone = [outcome_alone(program) for program in many]
        pplkit.clear_param_store()
        runners = [Runner(OURS) for _ in many]
        # No parameters: the walks share a store. No loops: `for i in progress(plate(...))` must
        # work, so a loop over a plate is open until its generator goes on or is let go.
        walks = [walked(r, p.body, "", (Sample,)) for r, p in zip(runners, many, strict=True)]
        for k in order:
            if k < len(walks):
                next(walks[k], None)
                assert active_handlers() == []
                assert pplkit.sample("x", pplkit.distributions.Normal(0.0, 1.0)).shape == ()
        for runner, expected in zip(runners, alone, strict=True):
            shapes = [(name, tuple(v.shape)) for name, v in runner.returned]
            assert shapes == expected[: len(shapes)]
        del walks
        assert pplkit.sample("x", pplkit.distributions.Normal(0.0, 1.0)).shape == ()
    assert state() == before


def outcome_alone(program: Program) -> list:
    pplkit.clear_param_store()
    runner = Runner(OURS)
    for _ in walked(runner, program.body, "", (Sample,)):
        pass
    return [(name, tuple(value.shape)) for name, value in runner.returned]


# -- threads and tasks ----------------------------------------------------------------------------


def seeded_outcome(program: Program, seed: int) -> list:
    """What a program that pauses answers, under a seed and a trace of its own."""
    runner = Runner(OURS)
    with handlers.seed(rng_seed=seed), handlers.trace() as recorder:
        for _ in walked(runner, program.body):
            yield
        yield [
            (site.name, site.value.tolist(), [f.name for f in site.plates])
            for site in recorder.trace.nodes.values()
        ]


def finished(generator) -> list:
    return [*generator][-1]


def alone(many: list[Program]) -> list:
    out = []
    for k, program in enumerate(many):
        with pplkit.ParamStore():
            out.append(finished(seeded_outcome(program, k)))
    return out


@law(15, st.lists(plain, min_size=2, max_size=3), st.lists(st.integers(0, 2), max_size=30))
def test_threads_in_any_order_never_meet(many, order):
    with quiet():
        expected, before = alone(many), state()
        turns, results = Turns(order, len(many)), [None] * len(many)

        def work(k):
            try:
                for result in seeded_outcome(many[k], k):
                    results[k] = result
                    turns.take(k)
            except BaseException as fault:  # told below, by the main thread
                results[k] = fault
            finally:
                turns.leave(k)

        threads = [threading.Thread(target=work, args=(k,)) for k in range(len(many))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == expected
    assert state() == before


class Turns:
    """Lets threads run one at a time, in the order given, then round and round."""

    def __init__(self, order: list[int], count: int):
        self.order = [k for k in order if k < count]
        self.here, self.changed = set(range(count)), threading.Condition()

    def next(self) -> int:
        while self.order and self.order[0] not in self.here:
            self.order.pop(0)
        return self.order[0] if self.order else min(self.here)

    def take(self, k: int) -> None:
        with self.changed:
            if self.order and self.order[0] == k:
                self.order.pop(0)
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.next() == k, timeout=60)

    def leave(self, k: int) -> None:
        with self.changed:
            self.here.discard(k)
            self.changed.notify_all()


@law(20, st.lists(plain, min_size=2, max_size=4), st.lists(st.integers(0, 2), max_size=20))
def test_tasks_in_any_order_never_meet(many, pauses):
    pplkit.clear_param_store()
    with quiet():
        expected, before = alone(many), state()

        async def work(k):
            runner, waits = Runner(OURS), iter(pauses[k:])
            with handlers.seed(rng_seed=k), handlers.trace() as recorder:
                await paused(runner, many[k].body, waits)
                return [
                    (site.name, site.value.tolist(), [f.name for f in site.plates])
                    for site in recorder.trace.nodes.values()
                ]

        async def all_of_them():
            return await asyncio.gather(*(work(k) for k in range(len(many))))

        assert asyncio.run(all_of_them()) == expected
    assert state() == before


async def paused(runner: Runner, body: tuple, waits, suffix: str = "") -> None:
    """`walked`, awaiting where that one yields."""
    for node in body:
        if isinstance(node, Plate) and node.how == "with":
            with pplkit.plate(node.name + suffix, node.size, dim=node.dim) as rows:
                runner.answer("rows", rows)
                await paused(runner, node.body, waits, suffix)
        elif isinstance(node, Plate) and node.how == "for":
            for row in pplkit.plate(node.name + suffix, node.size):
                await paused(runner, node.body, waits, f"{suffix}_{row}")
        elif isinstance(node, Under):
            with runner.handler(node.handler):
                await paused(runner, node.body, waits, suffix)
        elif isinstance(node, (Sample, Param)):
            with contextlib.suppress(errors.ShapeError):
                runner.run((node,), suffix)
            for _ in range(next(waits, 1)):
                await asyncio.sleep(0)


# -- distributions --------------------------------------------------------------------------------

SMALL = st.lists(st.integers(1, 3), max_size=2).map(tuple)


@st.composite
def shaped(draw):
    """A distribution, and the batch and event shape that torch's algebra gives it."""
    family = draw(st.sampled_from(sorted(set(FAMILIES) - {"Delta"})))
    batch = draw(SMALL)
    parts = [
        parameter(family, k, draw(st.sampled_from([batch, (1,) * len(batch), batch[1:], ()])))
        for k in range(len(FAMILIES[family].parameters))
    ]
    make = getattr(pplkit.distributions, family)
    fn = make(parts[0], scale_tril=parts[1]) if family == "MultivariateNormal" else make(*parts)
    batch, event = tuple(fn.batch_shape), FAMILIES[family].event
    events = [len(e) for e, _, _ in FAMILIES[family].parameters]
    assert batch == broadcast(
        *(tuple(p.shape)[: p.dim() - k] for p, k in zip(parts, events, strict=True))
    )
    for change in draw(
        st.lists(st.sampled_from(["expand_by", "expand", "to_event", "mask"]), max_size=4)
    ):
        if change == "expand_by":
            more = draw(SMALL)
            fn, batch = fn.expand_by(more), more + batch
        elif change == "expand":
            wide = tuple(draw(st.integers(1, 3)) if size == 1 else size for size in batch)
            fn, batch = fn.expand(wide), wide
        elif change == "to_event" and batch:
            n = draw(st.integers(1, len(batch)))
            fn, batch, event = fn.to_event(n), batch[:-n], batch[-n:] + event
        elif change == "mask":
            shape = draw(st.sampled_from([batch, batch[1:], (1,) * len(batch)]))
            fn = fn.mask(draw(st.booleans()) if draw(st.booleans()) else booleans(shape))
    return family, fn, batch, event


@law(60, shaped(), SMALL)
def test_shapes_of_draws_and_log_probabilities_add_up(made, more):
    family, fn, batch, event = made
    assert tuple(fn.batch_shape) == batch and tuple(fn.event_shape) == event
    with handlers.seed(rng_seed=0):
        value = fn(more)
    assert tuple(value.shape) == more + batch + event == tuple(fn.shape(more))
    assert tuple(fn.log_prob(value).shape) == more + batch
    fixed = in_support(family, batch + event)
    assert tuple(fn.log_prob(fixed).shape) == batch
    with pytest.raises(errors.ShapeError):
        fn.expand((*batch[:-1], 7)) if batch and batch[-1] != 1 else fn.to_event(len(batch) + 1)


# -- the parameter store --------------------------------------------------------------------------

CONSTRAINTS = {"real": constraints.real, "positive": constraints.positive}


class StoreMachine(RuleBasedStateMachine):
    """The store against a dictionary of (constraint, value)."""

    names = Bundle("names")

    def __init__(self):
        super().__init__()
        self.store, self.model, self.saved, self.clock = pplkit.ParamStore(), {}, None, 0

    def value(self, kind: str, shape: tuple) -> torch.Tensor:
        self.clock += 1
        return numbers(shape, 0.5, 2) * self.clock * (1 if kind == "positive" else -1)

    @rule(target=names, name=st.sampled_from("abc"))
    def a_name(self, name):
        return name

    @rule(name=names, kind=st.sampled_from(sorted(CONSTRAINTS)), shape=SMALL)
    def param(self, name, kind, shape):
        start = self.value(kind, shape)
        with self.store:
            stale = name in self.model and (
                self.model[name][0] != kind or self.model[name][1].shape != shape
            )
            if stale:
                with pytest.raises(errors.ParamError):
                    pplkit.param(name, start, constraint=CONSTRAINTS[kind])
                return
            read = pplkit.param(name, start, constraint=CONSTRAINTS[kind])
        self.model.setdefault(name, (kind, start))
        torch.testing.assert_close(read.detach(), self.model[name][1])
        assert read.unconstrained() is self.store.unconstrained(name)

    @rule(name=names, kind=st.sampled_from(sorted(CONSTRAINTS)), shape=SMALL)
    def a_failing_run(self, name, kind, shape):
        def model():
            pplkit.param(name, lambda: self.value(kind, shape), constraint=CONSTRAINTS[kind])
            raise OnPurpose

        with self.store, pytest.raises((OnPurpose, errors.ParamError)):
            handlers.trace(model)()

    @rule(name=names)
    def assign(self, name):
        kind, old = self.model.get(name, ("real", torch.zeros(2)))
        value = self.value(kind, tuple(old.shape))
        self.store[name] = value
        self.model[name] = (kind, value)

    @rule(name=names)
    def delete(self, name):
        if name in self.model:
            del self.store[name], self.model[name]
            return
        with pytest.raises(errors.ParamError):
            del self.store[name]

    @rule(name=names)
    def move(self, name):
        if name not in self.model:
            with pytest.raises(errors.ParamError):
                self.store.unconstrained(name)
            return
        with torch.no_grad():
            self.store.unconstrained(name).add_(0.5)
        kind, value = self.model[name]
        self.model[name] = (kind, value + 0.5 if kind == "real" else value * math.exp(0.5))

    @rule()
    def save(self):
        self.saved = (self.store.get_state(), dict(self.model))

    @rule()
    def load(self):
        if self.saved is not None:
            state, model = self.saved
            self.store.set_state(state)
            self.model.update(model)

    @rule()
    def clear(self):
        self.store.clear()
        self.model.clear()

    @invariant()
    def agree(self):
        assert set(self.store) == set(self.model) and len(self.store) == len(self.model)
        for name, (kind, value) in self.model.items():
            assert name in self.store
            torch.testing.assert_close(self.store[name].detach(), value, rtol=1e-6, atol=1e-9)
            assert repr(self.store.constraint(name)) == repr(CONSTRAINTS[kind])
            assert self.store.unconstrained(name).is_leaf
        assert list(self.store.keys()) == [name for name, _ in self.store.items()]


def test_the_parameter_store_is_a_dictionary_of_constrained_tensors():
    run_state_machine_as_test(StoreMachine, settings=short(30, stateful_step_count=25))
