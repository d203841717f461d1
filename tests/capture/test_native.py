"""Runs of SVI as native code: what they compute, when they compile, and what can go wrong."""

import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest
import torch

import pplkit
import pplkit.distributions as dist
from pplkit import errors, handlers, optim, param, plate, sample
from pplkit.capture import native
from pplkit.capture.native import Compilation
from pplkit.infer import SVI, Trace_ELBO, TraceMeanField_ELBO, autoguide, race

DATA = torch.tensor([1.2, 0.8, 1.5, -0.3])


@pytest.fixture(autouse=True)
def nothing_known():
    forget()
    yield
    forget()


def forget():
    """As a new process would: what is known is on disk."""
    race.forget()
    native._LIBRARIES.clear()


@pytest.fixture
def folder(programs, tmp_path, monkeypatch):
    """A folder of the test's own, with the first program in it."""
    run(3, DATA, compile=True)
    place = tmp_path / "own"
    shutil.copytree(programs, place, ignore=shutil.ignore_patterns("inductor"))
    place.chmod(0o700)
    monkeypatch.setenv("PPLKIT_CACHE_DIR", str(place))
    forget()
    return place


def model(data, prior=1.0):
    z = sample("z", dist.Normal(0.0, prior))
    with plate("data", len(data)):
        sample("obs", dist.Normal(z, 0.5), obs=data)


def guide(data, prior=1.0):
    loc = param("loc", lambda: torch.tensor(0.3, dtype=data.dtype))
    scale = param(
        "scale", lambda: torch.tensor(0.8, dtype=data.dtype), constraint=dist.constraints.positive
    )
    sample("z", dist.Normal(loc, scale))


def run(steps, *args, compile, seed=0, program=(model, guide), adam=None, elbo=None, **kwargs):
    """A run from the start, in a store of its own: its SVI and its result."""
    adam = adam or optim.Adam({"lr": 0.01})
    with handlers.seed(rng_seed=seed):
        svi = SVI(*program, adam, elbo or Trace_ELBO(), params=pplkit.ParamStore())
        return svi, svi.run(steps, *args, compile=compile, **kwargs)


def agree(ours, theirs, rtol):
    torch.testing.assert_close(ours.losses, theirs.losses, rtol=rtol, atol=rtol)
    assert ours.params.keys() == theirs.params.keys()
    for name, value in theirs.params.items():
        torch.testing.assert_close(ours.params[name], value, rtol=rtol, atol=rtol)


def compilations(action):
    before = Compilation.started
    result = action()
    return Compilation.started - before, result


# -- what is computed ------------------------------------------------------------------------------


def hierarchy(x, y):
    """Nested plates, a subsample, positive scales, a score-function site."""
    top = sample("top", dist.Normal(0.0, 2.0))
    spread = sample("spread", dist.LogNormal(0.0, 0.5))
    with plate("groups", x.shape[0], dim=-2):
        level = sample("level", dist.Normal(top, spread))
        with plate("rows", x.shape[1], subsample_size=5, dim=-1) as rows:
            sample("y", dist.StudentT(4.0, level * x[:, rows], 1.0), obs=y[:, rows])


class Encoded:
    """A small variational autoencoder: products of matrices, parameters of modules."""

    def __init__(self):
        torch.manual_seed(0)
        self.encoder = torch.nn.Sequential(
            torch.nn.Linear(6, 8), torch.nn.Softplus(), torch.nn.Linear(8, 4)
        ).double()
        self.decoder = torch.nn.Sequential(
            torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 6)
        ).double()

    def model(self, x):
        pplkit.module("decoder", self.decoder)
        with plate("images", len(x)):
            z = sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x):
        pplkit.module("encoder", self.encoder)
        with plate("images", len(x)):
            loc, log_scale = self.encoder(x).chunk(2, -1)
            sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


def gamma_poisson(counts):
    rate = sample("rate", dist.Gamma(2.0, 1.0))
    with plate("counts", len(counts)):
        sample("count", dist.Poisson(rate), obs=counts)


def gamma_guide(counts):
    shape = param("shape", torch.tensor(3.0, dtype=counts.dtype), dist.constraints.positive)
    rate = param("rate_q", torch.tensor(1.0, dtype=counts.dtype), dist.constraints.positive)
    sample("rate", dist.Gamma(shape, rate))


def programs():
    torch.manual_seed(1)
    x, y = torch.randn(2, 3, 11, dtype=torch.float64)
    yield "normal", lambda: ((model, guide), (DATA.double(),), {})
    yield (
        "hierarchy, automatic guide, ClippedAdam, particles",
        lambda: (
            (hierarchy, autoguide.AutoNormal(hierarchy)),
            (x, y),
            {
                "adam": optim.ClippedAdam({"lr": 0.02, "lrd": 0.999}),
                "elbo": Trace_ELBO(num_particles=3, vectorize_particles=False),
            },
        ),
    )
    images = (torch.rand(9, 6, dtype=torch.float64) > 0.5).double()

    def encoded():
        vae = Encoded()
        return (vae.model, vae.guide), (images,), {"elbo": TraceMeanField_ELBO()}

    yield "autoencoder", encoded
    counts = torch.tensor([3.0, 1.0, 4.0, 2.0, 2.0], dtype=torch.float64)
    yield (
        "gamma and poisson, SGD with momentum",
        lambda: (
            (gamma_poisson, gamma_guide),
            (counts,),
            {"adam": optim.SGD({"lr": 1e-3, "momentum": 0.8})},
        ),
    )


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(made, id=name, marks=pytest.mark.long if "," in name else ())
        for name, made in programs()
    ],
)
def test_a_compiled_run_is_the_run_in_python(made):
    results = []
    for compile in (False, True):
        program, args, kwargs = made()
        with warnings.catch_warnings():
            warnings.simplefilter("error", errors.PplkitWarning)
            results.append(run(500, *args, compile=compile, program=program, **kwargs)[1])
    agree(results[1], results[0], rtol=1e-6)


def test_in_single_precision_too():
    agree(run(500, DATA, compile=True)[1], run(500, DATA, compile=False)[1], rtol=1e-3)


# -- when it compiles ------------------------------------------------------------------------------


def test_one_program_for_all_sizes_priors_rates_and_numbers_of_steps():
    run(3, DATA, 1.0, compile=True)
    for size in (1, 2, 13, 1000, 10**5):
        data = torch.randn(size)
        for steps, prior, lr in ((7, 1.0, 0.01), (1500 if size <= 1000 else 40, 3.0, 0.002)):
            adam = optim.Adam({"lr": lr})
            count, (_, result) = compilations(
                lambda d=data, s=steps, p=prior, a=adam: run(s, d, p, compile=True, adam=a)
            )
            assert count == 0
            again = run(steps, data, prior, compile=False, adam=optim.Adam({"lr": lr}))[1]
            agree(result, again, rtol=2e-3)


def test_sizes_that_belong_together_and_sizes_that_do_not():
    """Two columns of one length, and crossed plates of any: one program. Sizes that are the same by
    chance may have another, and must be right as well.
    """

    def crossed(x, y, table):
        slope = sample("slope", dist.Normal(0.0, 1.0))
        with plate("rows", len(x)):
            sample("y", dist.Normal(slope * x.sort().values, 1.0), obs=y)
        with plate("i", table.shape[0], dim=-2), plate("j", table.shape[1], dim=-1):
            sample("t", dist.Normal(slope, 1.0), obs=table)

    def its_guide(x, y, table):
        sample("slope", dist.Normal(param("loc", torch.tensor(0.0)), 0.3))

    started = []
    for n, i, j in ((7, 3, 11), (40, 2, 9), (50_000, 6, 8), (7, 7, 7)):
        torch.manual_seed(n)
        args = torch.randn(n), torch.randn(n), torch.randn(i, j)
        count, (_, ours) = compilations(
            lambda a=args: run(30, *a, compile=True, program=(crossed, its_guide))
        )
        started.append(count)
        agree(ours, run(30, *args, compile=False, program=(crossed, its_guide))[1], rtol=1e-3)
    assert started[:3] == [1, 0, 0]


def test_what_the_model_closes_over_is_never_stale():
    scale = torch.tensor(0.5)

    def program(width):
        def closing(data):
            z = sample("z", dist.Normal(0.0, width))
            with plate("data", len(data)):
                sample("obs", dist.Normal(z, scale), obs=data)

        return closing, guide

    for width, value in ((1.0, 0.5), (1.0, 2.0), (3.0, 2.0)):
        scale.fill_(value)
        ours = run(50, DATA, compile=True, program=program(width))[1]
        agree(ours, run(50, DATA, compile=False, program=program(width))[1], rtol=1e-3)


def test_runs_follow_each_other_as_in_python():
    """The optimiser's past and the random stream go on, whoever takes the steps."""
    results = []
    for compiled in ((False, False, False), (True, False, True)):
        with handlers.seed(rng_seed=3):
            svi = SVI(
                model, guide, optim.Adam({"lr": 0.01}), Trace_ELBO(), params=pplkit.ParamStore()
            )
            parts = [svi.run(40, DATA, compile=c).losses for c in compiled]
        assert svi._steps == 120
        results.append(torch.cat(parts))
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-3)


# -- where it is kept ------------------------------------------------------------------------------

SECOND = """
import sys, torch, pplkit
from tests.capture.test_native import DATA, run
from pplkit.capture.native import Compilation
_, result = run(200, DATA, compile=True)
assert "torch._inductor.codegen.cpp" not in sys.modules  # it has a process of its own
print(Compilation.started, result.losses[-1].item())
"""


def in_another_process(**env):
    ended = subprocess.run(
        [sys.executable, "-c", SECOND],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        cwd=os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
    )
    assert ended.returncode == 0, ended.stderr
    started, loss = ended.stdout.split()
    return int(started), float(loss), ended.stderr


def test_a_second_process_compiles_nothing(folder):
    loss = run(200, DATA, compile=True)[1].losses[-1].item()
    assert in_another_process()[:2] == (0, pytest.approx(loss, rel=1e-5))
    assert not folder.stat().st_mode & 0o077
    assert all(not path.stat().st_mode & 0o077 for path in folder.glob("*.*"))


@pytest.mark.parametrize(
    "spoil",
    [
        "cut short",
        *(pytest.param(how, marks=pytest.mark.long) for how in ("anybody's", "link", "digest")),
    ],
)
def test_a_program_that_is_not_whole_and_private_is_not_run(folder, spoil, tmp_path):
    for code in folder.glob("*.step"):
        if spoil == "cut short":
            code.write_bytes(code.read_bytes()[:1000])
        elif spoil == "anybody's":
            code.chmod(0o666)
        elif spoil == "link":
            target = tmp_path / code.name
            code.rename(target)
            code.symlink_to(target)
        else:
            code.write_bytes(b"0" * 64 + code.read_bytes()[64:])
    count, (_, result) = compilations(lambda: run(20, DATA, compile=True))
    assert count == 1
    agree(result, run(20, DATA, compile=False)[1], rtol=1e-3)
    forget()
    assert compilations(lambda: run(20, DATA, compile=True))[0] == 0  # it is whole again


def test_a_folder_that_anybody_can_write_to_is_not_used(tmp_path, monkeypatch):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("PPLKIT_CACHE_DIR", str(shared))
    count, (_, result) = compilations(lambda: run(20, DATA, compile=True))
    assert count == 1 and not list(shared.iterdir())
    agree(result, run(20, DATA, compile=False)[1], rtol=1e-3)


# -- what can go wrong -----------------------------------------------------------------------------


def test_without_a_compiler_it_says_so_and_runs_in_python():
    started, _, said = in_another_process(CXX="no-such-compiler")
    assert started == 0
    assert "there is no C++ compiler on this machine (no-such-compiler was looked for)" in said


def test_what_cannot_be_captured_runs_in_python_and_says_where():
    def branching(data):
        z = sample("z", dist.Normal(0.0, 1.0))
        width = 0.5 if z > 0 else 0.6
        with plate("data", len(data)):
            sample("obs", dist.Normal(z, width), obs=data)

    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        result = run(20, DATA, compile=True, program=(branching, guide))[1]
    (said,) = [str(w.message) for w in shown if issubclass(w.category, errors.PplkitWarning)]
    assert said.startswith("SVI.run goes on in Python: ") and "test_native.py" in said
    assert torch.equal(
        result.losses, run(20, DATA, compile=False, program=(branching, guide))[1].losses
    )


@pytest.mark.parametrize(
    "made",
    [
        lambda: optim.PyroOptim(torch.optim.Adam, {"lr": 0.01}),
        lambda: optim.ExponentialLR(
            {"optimizer": torch.optim.Adadelta, "optim_args": {"lr": 0.1}, "gamma": 0.9}
        ),
    ],
    ids=["torch's", "torch's, scheduled"],
)
def test_an_optimiser_that_is_no_function_runs_in_python(made):
    with pytest.warns(errors.PplkitWarning, match="SVI.run goes on in Python"):
        result = run(10, DATA, compile=True, adam=made())[1]
    assert torch.equal(result.losses, run(10, DATA, compile=False, adam=made())[1].losses)


def test_handlers_around_the_run_and_seeds_inside_it_run_in_python():
    with pytest.warns(errors.PplkitWarning, match="handlers are in force around it"):
        with handlers.scale(scale=2.0):
            result = run(10, DATA, compile=True)[1]
    with handlers.scale(scale=2.0):
        assert torch.equal(result.losses, run(10, DATA, compile=False)[1].losses)
    program = (model, lambda data: handlers.seed(guide, rng_seed=1)(data))
    with pytest.warns(errors.PplkitWarning, match="a seed inside the program"):
        result = run(10, DATA, compile=True, program=program)[1]
    assert torch.equal(result.losses, run(10, DATA, compile=False, program=program)[1].losses)


def test_a_failing_step_is_told_as_in_python():
    def fragile(data):
        z = sample("z", dist.Normal(0.0, 1.0))
        width = torch.where(z > 2.5, -1.0, 1.0)
        with plate("data", len(data)):
            sample("obs", dist.Normal(z, width), obs=data)

    told = []
    for compile in (False, True):
        store = pplkit.ParamStore()
        with handlers.seed(rng_seed=5):
            adam = optim.Adam({"lr": 1e-4})
            svi = SVI(fragile, guide, adam, Trace_ELBO(), params=store)
            with pytest.raises(errors.DistributionError) as caught:
                svi.run(5000, DATA, compile=compile)
        told.append((str(caught.value), svi._steps, store["loc"].item()))
    assert told[0][:2] == told[1][:2] and told[0][1] > 10
    assert told[0][2] == pytest.approx(told[1][2], rel=1e-4)


def test_large_parameters_are_where_they_belong_after_any_number_of_steps():
    """What a step carries on changes places with what it came from, and goes home at the end."""
    x = torch.linspace(-1.0, 1.0, 40, dtype=torch.float64)

    def model(x, left):
        left = param("left", left)  # it falls with every step
        pplkit.factor("down", -left)
        with plate("data", len(x)):
            z = sample("z", dist.Normal(0.0, torch.where(left < 0, math.nan, 1.0)))
            sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x, left):
        loc = param("loc", lambda: torch.zeros_like(x))
        with plate("data", len(x)):
            sample("z", dist.Normal(loc, 0.5))

    def ended(compile, left, steps):
        store = pplkit.ParamStore()
        made = optim.SGD({"lr": 0.1, "momentum": 0.5})
        with handlers.seed(rng_seed=0):
            svi = SVI(model, guide, made, Trace_ELBO(), params=store)
            try:
                svi.run(steps, x, torch.tensor(left, dtype=x.dtype), compile=compile)
            except errors.PplkitError as fault:
                return svi._steps, dict(store), str(fault).partition("\n")[0]
            return svi._steps, dict(store), ""

    for left, steps in [(9.0, 1), (9.0, 2), (9.0, 7), (0.05, 50), (0.3, 50), (0.75, 50), (1.6, 50)]:
        ours, theirs = ended(True, left, steps), ended(False, left, steps)
        assert ours[0] == theirs[0] and ours[2] == theirs[2], (left, steps)
        assert bool(theirs[2]) == (steps == 50)
        for name, value in theirs[1].items():
            torch.testing.assert_close(ours[1][name], value, rtol=1e-9, atol=1e-12)


def interrupt_here():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def test_an_interrupt_keeps_what_is_reached():
    store = pplkit.ParamStore()
    run(3, DATA, compile=True)
    svi = SVI(model, guide, optim.Adam({"lr": 0.01}), Trace_ELBO(), params=store)

    def interrupt():
        while svi._steps < 5000:
            time.sleep(0.01)
        interrupt_here()

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt), handlers.seed(rng_seed=0):
        svi.run(10**9, DATA, compile=True)
    assert svi._steps >= 5000 and abs(store["loc"].item() - 12.8 / 17) < 0.15
    assert len(svi.run(10, DATA).losses) == 10


def test_an_interrupt_while_compiling_ends_the_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("PPLKIT_CACHE_DIR", str(tmp_path / "empty"))
    store, made = pplkit.ParamStore(), []
    begin = Compilation.__init__

    def begun(self, step, by=None):
        begin(self, step, by)
        made.append(self._process)
        threading.Timer(0.5, interrupt_here).start()

    monkeypatch.setattr(Compilation, "__init__", begun)
    svi = SVI(model, guide, optim.Adam({"lr": 0.01}), Trace_ELBO(), params=store)
    with pytest.raises(KeyboardInterrupt), handlers.seed(rng_seed=0):
        svi.run(100, DATA, compile=True)
    assert made[0].poll() is not None and svi._steps == 1 and "loc" in store


def test_nothing_else_changes():
    """Validation and errors of the eager engine stay as they are."""

    def wrong():
        return sample("x", dist.Normal(0.0, torch.tensor(-1.0)))

    told = str(pytest.raises(errors.DistributionError, wrong).value)
    validation = torch.distributions.Distribution._validate_args
    run(5, DATA, compile=True)
    assert str(pytest.raises(errors.DistributionError, wrong).value) == told
    assert torch.distributions.Distribution._validate_args == validation


def test_bad_arguments():
    svi = SVI(model, guide, optim.Adam({"lr": 0.01}), Trace_ELBO())
    with pytest.raises(errors.UsageError, match="compile"):
        svi.run(3, DATA, compile="fast")
