"""Runs that go over to native code by themselves, callbacks, schedules, and what may go wrong."""

import math
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings

import pytest
import torch

import pplkit
import pplkit.distributions as dist
from pplkit import errors, handlers, optim, plate, sample
from pplkit.capture import native
from pplkit.capture.native import Compilation
from pplkit.infer import SVI, Trace_ELBO, race
from tests.capture.test_native import DATA, agree, compilations, forget, guide, model, run

SCHEDULES = {
    "exponential": lambda made: optim.ExponentialLR({**made, "gamma": 0.99}),
    "steps": lambda made: optim.StepLR({**made, "step_size": 7, "gamma": 0.5}),
    "cosine": lambda made: optim.CosineAnnealingLR({**made, "T_max": 50}),
    "a function": lambda made: optim.LambdaLR({**made, "lr_lambda": lambda i: 1 / (1 + i)}),
    "plateau": lambda made: optim.ReduceLROnPlateau({**made, "patience": 2, "factor": 0.5}),
}
CYCLES = {"one cycle": lambda made: optim.OneCycleLR({**made, "max_lr": 0.05, "total_steps": 500})}


@pytest.fixture(autouse=True)
def nothing_known():
    forget()
    yield
    forget()
    for compilation in list(Compilation.going.values()):
        compilation.stop()


def worth(monkeypatch, it: bool):
    """Whatever is left is worth compiling for, or nothing is; however fast this machine is."""
    monkeypatch.setattr(race, "_WORTH_IT", 0.0 if it else math.inf)
    if not it:
        monkeypatch.setattr(race, "_WORTH_CAPTURING", math.inf)


def told(action):
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        result = action()
    said = [str(w.message) for w in shown if issubclass(w.category, errors.PplkitWarning)]
    return result, [text for text in said if "goes on in Python" in text]


# -- by itself -------------------------------------------------------------------------------------


def test_short_runs_are_python_alone(monkeypatch):
    worth(monkeypatch, False)
    ours = run(300, DATA, compile="auto")[1]
    assert torch.equal(ours.losses, run(300, DATA, compile=False)[1].losses)
    assert Compilation.going == {} and not race._MEMORY


def test_a_program_that_is_known_is_used_at_once():
    run(3, DATA, compile=True)
    before = len(race._MEMORY)
    count, (svi, ours) = compilations(lambda: run(10**5, DATA, compile="auto"))
    assert count == 0 and len(race._MEMORY) == before == 1 and svi._steps == 10**5
    agree(ours, run(10**5, DATA, compile=True)[1], rtol=5e-3)


def test_a_program_on_disk_is_used_soon(monkeypatch):
    run(3, DATA, compile=True)
    forget()
    monkeypatch.setattr(race, "_WORTH_CAPTURING", -1.0)
    count, (svi, _) = compilations(lambda: run(10**5, DATA, compile="auto"))
    assert count == 0 and svi._steps == 10**5 and len(race._MEMORY) == 1


def test_a_compilation_goes_on_after_the_run(monkeypatch, tmp_path):
    """What one run has begun to compile serves the next; nobody has waited."""
    run(3, DATA, compile=True)
    forget()
    monkeypatch.setenv("PPLKIT_CACHE_DIR", str(tmp_path / "empty"))
    worth(monkeypatch, True)
    count, _ = compilations(lambda: run(1000, DATA, compile="auto"))
    assert count == 1 and len(Compilation.going) == 1
    count, (_, ours) = compilations(lambda: run(100, DATA, compile=True))
    assert count == 0 and Compilation.going == {}
    agree(ours, run(100, DATA, compile=False)[1], rtol=1e-3)


def test_one_program_is_compiled_at_a_time_on_the_side(monkeypatch, tmp_path):
    """A figure that fits a model at each move of a control has as many programs as moves."""
    monkeypatch.setenv("PPLKIT_CACHE_DIR", str(tmp_path / "empty"))
    worth(monkeypatch, True)

    def moved(scale):
        def model(data):
            z = sample("z", dist.Normal(0.0, scale))
            with plate("data", len(data)):
                sample("obs", dist.Normal(z, 0.5), obs=data)

        return run(1000, DATA, compile="auto", program=(model, guide))

    count, _ = compilations(lambda: [moved(1.0), moved(2.0)])
    assert count == 1 and len(Compilation.going) == 1
    first = next(iter(Compilation.going.values()))
    first._process.wait()
    count, _ = compilations(lambda: moved(9.0))
    assert count == 1 and first.step.key not in Compilation.going
    assert native.found(first.step) is not None  # nobody has asked for it: it is kept


def branching(data):
    z = sample("z", dist.Normal(0.0, 1.0))
    with plate("data", len(data)):
        sample("obs", dist.Normal(z, 0.5 if z > 0 else 0.6), obs=data)


def test_what_cannot_be_compiled_is_told_once_for_a_program_and_when_it_matters(monkeypatch):
    program = branching, guide
    worth(monkeypatch, False)
    assert told(lambda: run(400, DATA, compile="auto", program=program))[1] == []
    worth(monkeypatch, True)
    _, said = told(lambda: run(400, DATA, compile="auto", program=program))
    assert len(said) == 1 and "test_run_auto.py, line" in said[0]
    assert told(lambda: run(400, DATA, compile="auto", program=program))[1] == []
    for _ in range(2):  # who asks for it is told each time
        assert len(told(lambda: run(10, DATA, compile=True, program=program))[1]) == 1


def test_native_code_that_is_no_faster_is_left_again(monkeypatch):
    run(3, DATA, compile=True)
    monkeypatch.setattr(race, "_SLOW", 0.0)
    svi, ours = run(3000, DATA, compile="auto")
    assert svi._steps == 3000
    agree(ours, run(3000, DATA, compile=True)[1], rtol=5e-3)


def test_a_program_that_changes_from_step_to_step_runs_in_python():
    class Annealed:
        steps = 0

        def model(self, data):
            self.steps += 1
            with handlers.scale(scale=min(1.0, self.steps / 1e9)):
                model(data)

    _, said = told(lambda: run(20, DATA, compile=True, program=(Annealed().model, guide)))
    assert len(said) == 1 and "'.steps', which the program reaches, changes" in said[0]


def test_such_a_program_is_not_even_captured_unasked(monkeypatch):
    worth(monkeypatch, True)
    seen = []

    def counted(data):
        seen.append(len(seen))
        model(data)

    _, said = told(lambda: run(1000, DATA, compile="auto", program=(counted, guide)))
    assert len(said) == 1 and "changes from step to step" in said[0] and len(seen) == 1000


# -- callbacks -------------------------------------------------------------------------------------


def called(compile, ending=None, steps=1000, every=100):
    seen, params = [], pplkit.ParamStore()

    def callback(step, loss):
        seen.append((step, loss, params["loc"].item()))
        return ending(step) if ending else None

    with handlers.seed(rng_seed=0):
        svi = SVI(model, guide, optim.Adam({"lr": 0.01}), Trace_ELBO(), params=params)
        result = svi.run(steps, DATA, compile=compile, callback=callback, every=every)
    return svi, result, seen


def test_callbacks_see_the_parameters_reached():
    _, plain, ours = called(False)
    assert [step for step, _, _ in ours] == list(range(100, 1001, 100))
    assert ours[-1][2] == plain.params["loc"].item()
    assert [loss for _, loss, _ in ours] == [plain.losses[s - 1].item() for s, _, _ in ours]
    assert torch.equal(plain.losses, run(1000, DATA, compile=False)[1].losses)
    _, _, theirs = called(True)
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), rtol=1e-3, atol=1e-3)


def stopping(step):
    if step >= 300:
        raise StopIteration


@pytest.mark.parametrize("compile", [False, True, "auto"])
@pytest.mark.parametrize("ending", [lambda step: step >= 300, stopping], ids=["True", "stopping"])
def test_a_callback_ends_a_run(compile, ending):
    svi, result, seen = called(compile, ending)
    assert len(result.losses) == svi._steps == 300 and seen[-1][0] == 300
    assert result.params["loc"].item() == svi.params["loc"].item() == seen[-1][2]


@pytest.mark.parametrize("compile", [False, True])
def test_an_error_in_a_callback_keeps_the_parameters(compile):
    def ending(step):
        raise KeyError(step)

    with pytest.raises(KeyError):
        called(compile, ending)
    _, result, _ = called(compile, lambda step: True)
    assert len(result.losses) == 100


@pytest.mark.parametrize("compile", [False, True])
def test_what_a_callback_changes_counts(compile):
    """Parameters set anew, tensors that the model reads."""
    temper, params = torch.tensor(0.1), pplkit.ParamStore()

    def tempered(data):
        with handlers.scale(scale=temper):
            model(data)

    def callback(step, loss):
        temper.fill_(step / 400)
        params["loc"] = torch.tensor(5.0)

    with handlers.seed(rng_seed=0):
        svi = SVI(tempered, guide, optim.Adam({"lr": 0.01}), Trace_ELBO(), params=params)
        ours = svi.run(400, DATA, compile=compile, callback=callback)
    assert params["loc"].item() == 5.0 and ours.losses[101] > 2 * ours.losses[90]
    if compile:
        temper.fill_(0.1)
        with handlers.seed(rng_seed=0):
            svi = SVI(tempered, guide, optim.Adam({"lr": 0.01}), Trace_ELBO(), params=params)
            params.clear()
            agree(ours, svi.run(400, DATA, compile=False, callback=callback), rtol=1e-3)


@pytest.mark.long
def test_a_plain_number_that_a_callback_changes_counts():
    results = []
    for compile in (False, True):
        held = {"temper": 0.1}

        def tempered(data, held=held):
            with handlers.scale(scale=held["temper"]):
                model(data)

        def callback(step, loss, held=held):
            held["temper"] = 1.0

        with handlers.seed(rng_seed=0):
            svi = SVI(tempered, guide, optim.Adam({"lr": 0.01}), Trace_ELBO(), params=None)
            pplkit.clear_param_store()
            result = svi.run(300, DATA, compile=compile, callback=callback, every=200)
        results.append(result)
    agree(results[1], results[0], rtol=1e-3)


def test_what_a_callback_may_change_unseen_keeps_the_run_in_python():
    def callback(step, loss):
        pass

    stream = iter([0.5] * 10**6)

    def streaming(data):
        z = sample("z", dist.Normal(0.0, 1.0))
        with plate("data", len(data)):
            sample("obs", dist.Normal(z, next(stream)), obs=data)

    program = streaming, guide
    _, said = told(lambda: run(20, DATA, compile=True, program=program, callback=callback, every=5))
    assert len(said) == 1 and "a callback may change what the program reaches" in said[0]


def test_bad_callbacks():
    with pytest.raises(errors.UsageError, match="callback="):
        run(3, DATA, compile=False, callback=3)
    with pytest.raises(errors.UsageError, match="every="):
        run(3, DATA, compile=False, callback=print, every=0)


# -- schedules -------------------------------------------------------------------------------------


def scheduled(schedule, optimizer=torch.optim.Adam, lr=0.05, **more):
    return schedule({"optimizer": optimizer, "optim_args": {"lr": lr, **more}})


def same_schedule(made):
    results, rates = [], []
    for compile in (False, True):
        adam = made()
        with warnings.catch_warnings():
            warnings.simplefilter("error", errors.PplkitWarning)
            parts = [run(200, DATA.double(), compile=compile, adam=adam)]
            parts.append(run(100, DATA.double(), compile=compile, adam=adam))
        results.append(parts[1][1])
        rates.append(adam.options("loc"))
    agree(results[1], results[0], rtol=1e-6)
    assert rates[0].keys() == rates[1].keys()
    assert all(a == pytest.approx(b, rel=1e-6) for a, b in zip(*map(flat, rates), strict=True))


def flat(options):
    return [x for value in options.values() for x in (value if type(value) is tuple else [value])]


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_run_natively(name):
    same_schedule(lambda: scheduled(SCHEDULES[name]))


OPTIMISERS = {
    "Adam": (torch.optim.Adam, {}),
    "AdamW": (torch.optim.AdamW, {}),
    "ClippedAdam": (optim.ClippedAdam, {"lrd": 0.999}),
    "SGD": (torch.optim.SGD, {"momentum": 0.8, "lr": 1e-3}),
    "RMSprop": (torch.optim.RMSprop, {"momentum": 0.5}),
    "Adagrad": (torch.optim.Adagrad, {}),
}


@pytest.mark.long
@pytest.mark.parametrize("name", ["AdamW", "ClippedAdam", "SGD", "RMSprop", "Adagrad"])
def test_schedules_over_each_optimiser(name):
    optimizer, more = OPTIMISERS[name]
    same_schedule(lambda: scheduled(SCHEDULES["exponential"], optimizer, **more))


@pytest.mark.long
@pytest.mark.parametrize("name", ["Adam", "SGD", "RMSprop"])
def test_schedules_of_momentum_too(name):
    optimizer, more = OPTIMISERS[name]
    same_schedule(lambda: scheduled(CYCLES["one cycle"], optimizer, **more))


def test_a_schedule_stands_where_a_failed_step_has_left_it():
    def fragile(data):
        z = sample("z", dist.Normal(0.0, 1.0))
        with plate("data", len(data)):
            sample("obs", dist.Normal(z, torch.where(z > 2.5, math.nan, 1.0)), obs=data)

    made = scheduled(SCHEDULES["exponential"], lr=1e-4)
    params = pplkit.ParamStore()
    with handlers.seed(rng_seed=5):
        svi = SVI(fragile, guide, made, Trace_ELBO(), params=params)
        with pytest.raises(errors.PplkitError):
            svi.run(5000, DATA, compile=True)
    assert svi._steps > 10
    assert made.options("loc")["lr"] == pytest.approx(1e-4 * 0.99**svi._steps)


# -- what may go wrong -----------------------------------------------------------------------------


def test_an_error_inside_the_native_loop_is_told_and_met_in_python():
    table = torch.tensor([0.5, 0.6])

    def reaching(data):
        z = sample("z", dist.Normal(0.0, 1.0))
        width = table[(z > 2.5).long() * 5 + torch.zeros(1, dtype=torch.long)]
        with plate("data", len(data)):
            sample("obs", dist.Normal(z, width), obs=data)

    seen = []
    for compile in (False, True):
        params = pplkit.ParamStore()
        with handlers.seed(rng_seed=5):
            svi = SVI(reaching, guide, optim.Adam({"lr": 1e-4}), Trace_ELBO(), params=params)
            with warnings.catch_warnings(record=True) as shown:
                warnings.simplefilter("always")
                with pytest.raises(IndexError, match="out of bounds"):
                    svi.run(5000, DATA, compile=compile)
        seen.append((svi._steps, params["loc"].item()))
    assert seen[1] == (seen[0][0], pytest.approx(seen[0][1], abs=1e-3)) and seen[0][0] > 1
    said = [str(w.message) for w in shown]
    assert any(f"come upon an error at step {seen[0][0] + 1}" in text for text in said)


def test_divisions_of_whole_numbers_by_tensors_are_left_to_python():
    by = torch.tensor([2])

    def dividing(data):
        z = sample("z", dist.Normal(0.0, 1.0))
        with plate("data", len(data)):
            sample("obs", dist.Normal(z, 1.0 + (by // by).float()), obs=data)

    _, said = told(lambda: run(10, DATA, compile=True, program=(dividing, guide)))
    assert len(said) == 1 and "divides whole numbers by a tensor" in said[0]


def unusable(tmp_path, how):
    """A folder in which nothing can be put."""
    place = tmp_path / "kept"
    if how == "in a file":
        place.write_text("")
        return place / "in it"
    place.mkdir(mode=0o700)
    if how == "read-only":
        place.chmod(0o500)
    return place


@pytest.mark.parametrize("how", ["in a file", pytest.param("read-only", marks=pytest.mark.long)])
def test_a_folder_that_cannot_be_used(how, tmp_path, monkeypatch):
    monkeypatch.setenv("PPLKIT_CACHE_DIR", str(unusable(tmp_path, how)))
    count, ((_, ours), said) = compilations(lambda: told(lambda: run(50, DATA, compile=True)))
    assert count == 1 and said == []
    agree(ours, run(50, DATA, compile=False)[1], rtol=1e-3)
    assert compilations(lambda: run(50, DATA, compile=True))[0] == 0  # in this process it is there


FULL = """
import resource, sys, warnings
from tests.capture.test_native import DATA, run
from pplkit.capture.native import Compilation
make = Compilation.loop
def loop(self):  # once it is compiled, the disk is full
    self._process.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    return make(self)
Compilation.loop = loop
result = run(50, DATA, compile=True)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(len(result.losses))
"""
HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def started(code, **env):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    env = {**os.environ, **env}
    return subprocess.Popen([sys.executable, "-c", code], env=env, cwd=HOME, **pipes)


@pytest.mark.long
def test_a_full_disk(tmp_path):
    process = started(FULL, PPLKIT_CACHE_DIR=str(tmp_path / "kept"))
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert out.split() == ["50"] and "goes on in Python" in err
    assert not list((tmp_path / "kept").glob("*.step"))


TOGETHER = """
from tests.capture.test_native import DATA, run
from pplkit.capture.native import Compilation
print(run(50, DATA, compile=True)[1].losses[-1].item(), Compilation.started)
"""


@pytest.mark.long
def test_two_processes_that_compile_one_program_at_once(tmp_path):
    kept = str(tmp_path / "kept")
    both = [started(TOGETHER, PPLKIT_CACHE_DIR=kept) for _ in range(2)]
    told = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    losses = [float(out.split()[0]) for out, _ in told]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    third = started(TOGETHER, PPLKIT_CACHE_DIR=kept)
    assert third.communicate()[0].split()[1] == "0"
    assert len(list((tmp_path / "kept").glob("*.step"))) == 1


def test_another_version_has_another_key(monkeypatch):
    before = key()
    monkeypatch.setattr(torch, "__version__", "2.13.9")
    native._machine.cache_clear()
    other = key()
    monkeypatch.undo()
    native._machine.cache_clear()
    assert other != before == key()


def test_a_batch_and_data_of_any_sizes_have_one_key():
    def batches(data, many):
        z = sample("z", dist.Normal(0.0, 1.0))
        with plate("data", len(data), subsample_size=many) as rows:  # asks: is it the lesser?
            sample("obs", dist.Normal(z, 0.5), obs=data[rows])

    sizes = ((37, 9), (3, 2), (100_000, 256))
    assert len({key(torch.zeros(n), many, of=batches) for n, many in sizes}) == 1


def key(*args, of=None):
    from pplkit.capture import capture_step

    args = args or (DATA,)
    program = of or model, guide if of is None else lambda data, many: guide(data)
    svi = SVI(*program, optim.Adam({"lr": 0.01}), Trace_ELBO(), params=pplkit.ParamStore())
    step = capture_step(svi, *args)
    carried = step.carried()
    program, _, sizes = step.captured._program_for((carried, step.rates(), args, {}))
    return native.Step(program, len(torch.utils._pytree.tree_leaves(carried)), sizes).key


def in_a_child(queue):
    count, (_, result) = compilations(lambda: run(100, DATA, compile=True))
    queue.put((count, result.losses[-1].item()))


@pytest.mark.parametrize("how", ["spawn", pytest.param("fork", marks=pytest.mark.long)])
def test_in_a_child_process(how):
    loss = run(100, DATA, compile=True)[1].losses[-1].item()
    context = multiprocessing.get_context(how)
    queue = context.Queue()
    child = context.Process(target=in_a_child, args=(queue,))
    child.start()
    assert queue.get(timeout=300) == (0, pytest.approx(loss, rel=1e-5))
    child.join()
    assert child.exitcode == 0


def test_an_interrupt_ends_what_is_compiled_on_the_side(monkeypatch, tmp_path):
    worth(monkeypatch, True)
    monkeypatch.setenv("PPLKIT_CACHE_DIR", str(tmp_path / "empty"))
    params = pplkit.ParamStore()
    svi = SVI(model, guide, optim.Adam({"lr": 0.01}), Trace_ELBO(), params=params)
    made = []

    def interrupt():
        while not Compilation.going:
            time.sleep(0.01)
        made.extend(Compilation.going.values())
        import signal

        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt), handlers.seed(rng_seed=0):
        svi.run(10**9, DATA, compile="auto")
    assert made[0]._process.poll() is not None and Compilation.going == {}
    assert svi._steps > 0 and "loc" in params
    assert len(svi.run(10, DATA).losses) == 10


WRONG = """
import torch, pplkit, pplkit.distributions as dist
from pplkit import errors
from tests.capture.test_native import DATA, run
def unguided(data):
    pplkit.sample("a", dist.Normal(0.0, 1.0))
def wrong():
    told = []
    for act in (
        lambda: pplkit.sample("x", dist.Normal(0.0, torch.tensor(-1.0))),
        lambda: dist.Normal(torch.zeros(2), torch.ones(3)),
        lambda: pplkit.sample("x", dist.Bernoulli(0.5), obs=torch.tensor(2.0)),
        lambda: torch.distributions.Normal(0.0, -1.0),
        lambda: run(3, DATA, compile=False, program=(unguided, lambda data: None)),
    ):
        try:
            act()
            told.append("nothing")
        except Exception as fault:
            told.append(f"{type(fault).__name__}: {fault}")
    return [*told, torch.distributions.Distribution._validate_args, len("four")]
first = {order[0]}
run(5, DATA, compile=True)
second = wrong()
assert first in (None, second), (first, second)
print(repr(second))
"""


def test_errors_elsewhere_are_the_same_in_both_orders():
    run(5, DATA, compile=True)
    both = [started(WRONG.replace("{order[0]}", first)) for first in ("wrong()", "None")]
    told = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert told[0][0] == told[1][0] and "DistributionError" in told[0][0]
