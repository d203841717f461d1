"""Chains as native code: the numbers of Python, to rounding."""

import _thread
import math
import threading
import time
import warnings

import pytest
import torch

import pplkit
import pplkit.distributions as dist
from pplkit.capture.native import Compilation
from pplkit.infer import HMC, MCMC, NUTS
from pplkit.infer.mcmc import Draws
from pplkit.infer.native_chains import Native

Y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0], dtype=torch.float64)
SIGMA = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0], dtype=torch.float64)


@pytest.fixture(scope="module", autouse=True)
def own_folder(tmp_path_factory):
    """Native code is made here once, whatever this machine has kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PPLKIT_CACHE_DIR", str(tmp_path_factory.mktemp("native chains")))
        yield


def schools(y, sigma):
    zero = torch.zeros((), dtype=torch.float64)
    mu = pplkit.sample("mu", dist.Normal(zero, 5.0))
    tau = pplkit.sample("tau", dist.HalfCauchy(zero + 5.0))
    with pplkit.plate("schools", len(y)):
        standard = pplkit.sample("standard", dist.Normal(zero, 1.0))
        pplkit.sample("y", dist.Normal(mu + tau * standard, sigma), obs=y)


def ran(kernel, compile, data=(Y, SIGMA), draws=15, warmup=30, chains=3):
    mcmc = MCMC(kernel, draws, warmup, num_chains=chains, seed=4, compile=compile)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that it went on in Python would be told
        warnings.filterwarnings("ignore", ".*diverged")
        mcmc.run(*data)
    return mcmc


def check_same(ours, theirs):
    torch.testing.assert_close(ours._draws.rows, theirs._draws.rows, rtol=1e-5, atol=1e-5)
    fields = theirs.get_extra_fields()
    for name, found in ours.get_extra_fields().items():
        torch.testing.assert_close(found, fields[name], rtol=1e-5, atol=1e-5)
    for part in ("covariance", "root"):
        mine, other = (getattr(run.chains.metric, part) for run in (ours, theirs))
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(ours.chains.step, theirs.chains.step, rtol=1e-5, atol=0)


def simplex_and_correlations():
    a = torch.tensor([6.0, 2.5, 2.0, 2.0], dtype=torch.float64)
    pplkit.sample("p", dist.Dirichlet(a))
    pplkit.sample("root", dist.LKJCholesky(3, a.new_tensor(2.0)))


@pytest.mark.parametrize(
    "kernel",
    [
        NUTS(schools),
        NUTS(schools, full_mass=True, max_tree_depth=3),
        NUTS(schools, adapt_step_size=False, adapt_mass_matrix=False, step_size=0.3),
        HMC(schools, trajectory_length=1.0),
        HMC(schools, num_steps=3, full_mass=True),
        NUTS(schools, full_mass=[("tau", "standard")], max_tree_depth=3),
        NUTS(simplex_and_correlations),
    ],
    ids=["nuts", "dense", "fixed", "hmc", "steps", "blocks", "simplex"],
)
def test_native_chains_are_those_of_python(kernel):
    data = (Y, SIGMA) if kernel.model is schools else ()
    check_same(ran(kernel, True, data), ran(kernel, False, data))


@pytest.mark.long
def test_other_data_are_served_by_the_same_code():
    ran(NUTS(schools), True)
    before = Compilation.started
    more = torch.cat([Y, Y + 1]), torch.cat([SIGMA, SIGMA])
    check_same(ran(NUTS(schools), True, more), ran(NUTS(schools), False, more))
    assert Compilation.started == before


@pytest.mark.long
def test_threads_change_nothing():
    one = ran(NUTS(schools), True, chains=5)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        several = ran(NUTS(schools), True, chains=5)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one._draws.rows, several._draws.rows)


@pytest.mark.long
def test_native_code_goes_on_where_python_has_stopped():
    whole = ran(NUTS(schools), False)
    mcmc = MCMC(NUTS(schools), 15, 30, num_chains=3, seed=4)
    moved = []

    def stop(kernel, values, stage, i):
        moved.append(i)
        if len(moved) == 12:
            raise KeyboardInterrupt

    mcmc.hook_fn = stop
    with pytest.raises(KeyboardInterrupt):
        mcmc.run(Y, SIGMA)
    native, draws = Native(mcmc.chains), Draws(3, 15, 10, torch.device("cpu"))
    native.wait()
    while mcmc.chains.age < 45:
        native.take(draws)
    torch.testing.assert_close(draws.rows, whole._draws.rows, rtol=1e-5, atol=1e-5)


@pytest.mark.long
def test_a_run_in_single_precision():
    data = Y.float(), SIGMA.float()

    def model(y, sigma):
        mu = pplkit.sample("mu", dist.Normal(0.0, 5.0))
        with pplkit.plate("schools", len(y)):
            pplkit.sample("y", dist.Normal(mu, sigma), obs=y)

    native = ran(NUTS(model), True, data, draws=2000, warmup=300, chains=2)
    precision = 1 / 25 + (1 / SIGMA**2).sum()
    mean = (Y / SIGMA**2).sum() / precision
    mu = native.get_samples()["mu"]
    assert mu.dtype == torch.float32
    assert abs(mu.mean() - mean) < 0.3 and abs(mu.std() - precision**-0.5) < 0.3


def test_an_interrupt_ends_native_chains_with_their_draws():
    ran(NUTS(schools), True)
    mcmc = MCMC(NUTS(schools), 400_000, 50, num_chains=2, seed=4, compile=True)

    def interrupt():
        while mcmc._draws is None or mcmc._draws.done < 1000:
            time.sleep(0.05)
        _thread.interrupt_main()

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        mcmc.run(Y, SIGMA)
    kept = mcmc.get_samples(group_by_chain=True)["tau"]
    assert 1000 <= kept.shape[1] < 400_000 and (kept > 0).all()


@pytest.mark.long
def test_each_chain_with_data_of_its_own():
    y, sigma = torch.stack([Y, -Y, Y + 3]), SIGMA.expand(3, 8)
    both = []
    for compile in (True, False):
        mcmc = MCMC(NUTS(schools), 15, 30, num_chains=3, seed=4, compile=compile)
        mcmc.run_each(y, sigma)
        both.append(mcmc)
    check_same(*both)
    first = ran(NUTS(schools), False)
    torch.testing.assert_close(both[0]._draws.rows[0], first._draws.rows[0], rtol=1e-5, atol=1e-5)
    assert both[0].get_samples(group_by_chain=True)["standard"].shape == (3, 15, 8)
    with pytest.raises(pplkit.errors.UsageError, match="run_each"):
        mcmc.run_each(Y, SIGMA)


def test_what_cannot_be_compiled_is_told_once():
    def branching(y):
        x = pplkit.sample("x", dist.Normal(0.0, 1.0))
        pplkit.sample("y", dist.Normal(x if x > 0 else -x, 1.0), obs=y)

    mcmc = MCMC(NUTS(branching), 5, 5, seed=0, compile=True)
    with pytest.warns(pplkit.errors.PplkitWarning, match="MCMC goes on in Python") as told:
        mcmc.run(torch.tensor(0.5))
    assert len(told) == 1 and "line" in str(told[0].message)
    assert mcmc.get_samples()["x"].shape == (5,)


def test_short_runs_are_not_compiled_by_themselves():
    before = Compilation.started

    def model():
        pplkit.sample("x", dist.Normal(0.0, math.pi))

    MCMC(NUTS(model), 5, 5, seed=0).run()
    assert Compilation.started == before
