"""Nothing leaks: past exceptions, interrupts, abandoned generators; between threads and tasks."""

import asyncio
import contextlib
import gc
import threading

import pytest
import torch

import pplkit
import pplkit.distributions as dist
from pplkit import get_param_store, handlers, param, plate, sample
from pplkit.effects import active_handlers
from pplkit.infer import SVI, Trace_ELBO
from pplkit.optim import Adam


def x():
    return sample("x", dist.Normal(0.0, 1.0))


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("how", ["call", "with"])
def test_an_exception_takes_everything_with_it(fault, how):
    def model():
        param("a", torch.tensor(1.0))
        with plate("data", 3), handlers.seed(rng_seed=0):
            param("b", torch.tensor(1.0))
            raise fault

    param("before", torch.tensor(1.0))
    with pytest.raises(fault):
        if how == "call":
            handlers.trace(handlers.seed(model, rng_seed=0))()
        else:
            with handlers.trace(), handlers.condition(data={}):
                model()
    assert active_handlers() == []
    assert list(get_param_store()) == ["before"]
    assert x().shape == ()


def bad_models():
    def scale_negative():
        param("a", torch.tensor(1.0))
        sample("x", dist.Normal(0.0, -1.0))

    def twice():
        param("a", torch.tensor(1.0))
        x(), x()

    def outside_support():
        param("a", torch.tensor(1.0))
        sample("x", dist.Bernoulli(0.5), obs=torch.tensor(2.0))

    def no_plate():
        param("a", torch.tensor(1.0))
        with plate("empty", 0):
            x()

    def dim_taken():
        param("a", torch.tensor(1.0))
        with plate("one", 2, dim=-1), plate("two", 2, dim=-1):
            x()

    return [scale_negative, twice, outside_support, no_plate, dim_taken]


@pytest.mark.parametrize("model", bad_models(), ids=lambda m: m.__name__)
@pytest.mark.parametrize("run", ["trace", "svi"])
def test_a_wrong_call_names_the_site_and_leaves_no_trace(model, run):
    def guide():
        param("g", torch.tensor(0.0))

    with pytest.raises(pplkit.errors.PplkitError, match="'x'|'empty'|'two'") as caught:
        if run == "trace":
            handlers.trace(model).get_trace()
        else:
            SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO()).step()
    assert caught.value.where.filename == __file__
    assert active_handlers() == []
    assert len(get_param_store()) == 0


def in_plate():
    with plate("data", 3):
        yield x()
        yield sample("y", dist.Normal(0.0, 1.0))


def test_a_generator_abandoned_inside_a_plate():
    generator = in_plate()
    assert next(generator).shape == (3,)
    assert x().shape == ()  # while it hangs
    assert active_handlers() == []
    assert next(generator).shape == (3,)  # it is still in its own plate
    del generator
    gc.collect()
    assert x().shape == ()
    assert active_handlers() == []


def test_a_generator_that_outlives_the_handlers_around_it():
    with handlers.seed(rng_seed=0):
        generator = in_plate()
        next(generator)
    assert active_handlers() == []
    assert next(generator).shape == (3,)
    generator.close()
    assert active_handlers() == []


def test_generators_in_two_plates_do_not_meet():
    def rows(n):
        with plate("data", n):
            while True:
                yield x()

    two, three = rows(2), rows(3)
    assert [next(g).shape[0] for g in (two, three, two, three)] == [2, 3, 2, 3]
    two.close()
    assert next(three).shape == (3,)
    three.close()


def test_a_parameter_made_in_an_abandoned_plate_goes_with_it():
    def model():
        with plate("data", 3):
            param("a", torch.zeros(3))
            yield

    generator = model()
    next(generator)
    generator.close()
    assert len(get_param_store()) == 0


def test_a_context_manager_made_of_a_generator_is_in_force():
    @contextlib.contextmanager
    def rows():
        with plate("data", 3):
            yield

    with rows():
        assert x().shape == (3,)
    assert x().shape == ()


@pytest.fixture
def three_rows():
    with plate("data", 3):
        yield


def test_so_is_a_fixture(three_rows):
    assert x().shape == (3,)


def test_an_interrupt_between_two_handlers_is_mended():
    outer, lost = handlers.seed(rng_seed=0), handlers.trace()
    with outer:
        lost.__enter__()  # and nobody leaves it
    assert active_handlers() == []


def fitted(rng_seed, target, rendezvous):
    """SVI under a seed of its own; meets the other runner between steps."""

    def model():
        z = sample("z", dist.Normal(0.0, 1.0))
        with plate("data", 2 + rng_seed):
            sample("x", dist.Normal(z, 0.1), obs=torch.tensor(target))

    def guide():
        sample("z", dist.Normal(param("loc", torch.tensor(0.0)), 0.1))

    svi = SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO())
    losses = []
    with handlers.seed(rng_seed=rng_seed):
        for _ in range(30):
            losses.append(svi.step())
            yield
    rendezvous.append((losses, get_param_store()["loc"].item(), list(get_param_store())))


def alone(rng_seed, target):
    out = []
    pplkit.clear_param_store()
    for _ in fitted(rng_seed, target, out):
        pass
    pplkit.clear_param_store()
    return out[0]


def test_two_threads_never_meet():
    expected = [alone(0, 1.0), alone(1, -1.0)]
    param("mine", torch.tensor(0.0))
    results, barrier, faults = [[], []], threading.Barrier(2, timeout=60), []

    def work(k, target):
        try:
            for _ in fitted(k, target, results[k]):
                barrier.wait()
        except BaseException as fault:  # shown below, by the main thread
            barrier.abort()
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(k, t)) for k, t in enumerate((1.0, -1.0))]
    before = torch.get_rng_state()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert [results[0][0], results[1][0]] == expected
    assert torch.equal(before, torch.get_rng_state())
    assert list(get_param_store()) == ["mine"]


def test_two_interleaved_tasks_never_meet():
    expected = [alone(0, 1.0), alone(1, -1.0)]
    results = [[], []]

    async def work(k, target):
        for _ in fitted(k, target, results[k]):
            await asyncio.sleep(0)

    async def both():
        await asyncio.gather(work(0, 1.0), work(1, -1.0))

    asyncio.run(both())
    assert [results[0][0], results[1][0]] == expected
    assert len(get_param_store()) == 0


def test_tasks_hold_plates_across_an_await():
    async def rows(n):
        with plate("data", n), handlers.trace() as t:
            await asyncio.sleep(0)
            x()
            await asyncio.sleep(0)
            return t.trace.nodes["x"].value.shape[0]

    async def both():
        return await asyncio.gather(rows(2), rows(3), rows(4))

    assert asyncio.run(both()) == [2, 3, 4]


def test_a_task_starts_from_its_creators_parameters():
    param("shared", torch.tensor(1.0))

    async def work():
        value = param("shared").item()
        param("own", torch.tensor(0.0))
        get_param_store()["shared"] = torch.tensor(5.0)
        return value

    assert asyncio.run(work()) == 1.0
    assert param("shared").item() == 1.0
    assert list(get_param_store()) == ["shared"]


def test_seeding_a_thread_leaves_the_process_alone():
    draws = {}

    def work(rng_seed):
        pplkit.set_rng_seed(rng_seed)
        draws[rng_seed] = x().item()

    before = torch.get_rng_state()
    for rng_seed in (1, 2):
        thread = threading.Thread(target=work, args=(rng_seed,))
        thread.start()
        thread.join()
    assert torch.equal(before, torch.get_rng_state())
    for rng_seed in (1, 2):
        pplkit.set_rng_seed(rng_seed)
        assert x().item() == draws[rng_seed]
