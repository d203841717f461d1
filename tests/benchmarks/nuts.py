"""Effective draws per second of NUTS: here, as native code and in Python; in NumPyro; in Pyro. The
same models, data, precision (double), target acceptance (0.8) and shape of run for all: as many
transitions to adapt as draws.

    pip install -c constraints.txt -e ".[bench]"
    OMP_NUM_THREADS=1 python tests/benchmarks/nuts.py [--only eight_schools] [--rounds 3] [--keep]

Each engine runs each model in a process of its own; rounds alternate and the best counts. A rate is
the least bulk effective sample size over the parameters (ArviZ's, for all engines) by the seconds
of warm-up and draws together; what is done once, capturing and compiling, is told apart: the first
run of all on this machine, and what a further run in a new process costs before it samples. NumPyro
is the faster of its sequential and vectorised chains, its whole run jitted. Prints tables, and
writes JSON beside this file with `--keep`, after each model.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
RECORD = HERE / "nuts.json"
ENGINES = {
    "native": "pplkit, compiled",
    "eager": "pplkit, in Python",
    "numpyro": "NumPyro",
    "pyro": "Pyro",
}
MODELS = ("eight_schools", "logistic_regression", "gaussian")
CHAINS = {"native": 4, "eager": 4, "numpyro": 4, "pyro": 1}
DRAWS = {"native": 1000, "eager": 250, "numpyro": 1000, "pyro": 250}

# With one thread, processor time is what a run takes on a machine that does nothing else.
clock = time.process_time if os.environ.get("OMP_NUM_THREADS") == "1" else time.perf_counter


# -- the models, for an engine's names of things ---------------------------------------------------


def data(model):
    import numpy

    random = numpy.random.default_rng(0)
    if model == "eight_schools":
        return [28, 8, -3, 7, -1, 1, 18, 12], [15, 10, 16, 11, 9, 11, 10, 18]
    if model == "logistic_regression":
        x = random.normal(size=(500, 10))
        weights = numpy.linspace(-1, 1, 10)
        return x, (random.uniform(size=500) < 1 / (1 + numpy.exp(-x @ weights))).astype(float)
    mixed = numpy.eye(50) + 0.5 * random.normal(size=(50, 50)) / 50**0.5
    scales = numpy.logspace(-1, 1, 50)
    return (numpy.linalg.cholesky((mixed @ mixed.T) * numpy.outer(scales, scales)),)


def programs(sample, plate, dist, zeros):
    def eight_schools(y, sigma):
        mu = sample("mu", dist.Normal(zeros(()), 5.0))
        tau = sample("tau", dist.HalfCauchy(5.0 + zeros(())))
        with plate("schools", 8):
            standard = sample("standard", dist.Normal(zeros(()), 1.0))
            sample("y", dist.Normal(mu + tau * standard, sigma), obs=y)

    def logistic_regression(x, y):
        weights = sample("weights", dist.Normal(zeros((10,)), 2.0).to_event(1))
        with plate("data", 500):
            sample("y", dist.Bernoulli(logits=x @ weights), obs=y)

    def gaussian(root):
        sample("x", dist.MultivariateNormal(zeros((50,)), scale_tril=root))

    return locals()


# -- the engines: draws by name, `(chains, draws, ...)`, and the steps that they took --------------


def with_pplkit(model, given, chains, draws, seed, compile):
    import torch

    import pplkit
    from pplkit.infer import MCMC, NUTS

    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    program = programs(pplkit.sample, pplkit.plate, pplkit.distributions, torch.zeros)[model]
    mcmc = MCMC(
        NUTS(program), draws, num_chains=chains, seed=seed, compile=compile, progress_bar=False
    )
    inner, begun = mcmc._run, []

    def timed(chains, kept):
        if compile:
            with mcmc._racing(chains) as racing:
                racing(0, 1)  # compiled, or taken from disk
        begun.append(clock())
        inner(chains, kept)

    mcmc._run = timed
    before = clock()
    mcmc.run(*(torch.tensor(x) + 0.0 for x in given))
    end = clock()
    steps = int(mcmc.get_extra_fields()["num_steps"].sum())
    found = {k: x.numpy() for k, x in mcmc.get_samples(group_by_chain=True).items()}
    return found, end - begun[0], begun[0] - before, steps


def with_numpyro(model, given, chains, draws, seed):
    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_platforms", "cpu")
    import jax.numpy as jnp
    import numpy
    import numpyro
    from numpyro.infer import MCMC, NUTS

    program = programs(numpyro.sample, numpyro.plate, numpyro.distributions, jnp.zeros)[model]
    given = [jnp.asarray(x, dtype=float) for x in given]
    best = None
    for method in ("sequential", "vectorized"):

        def whole(key, *given, method=method):
            mcmc = MCMC(
                NUTS(program), num_warmup=draws, num_samples=draws, num_chains=chains,
                chain_method=method, progress_bar=False,
            )  # fmt: skip
            mcmc.run(key, *given, extra_fields=("num_steps",))
            steps = mcmc.get_extra_fields()["num_steps"]
            return mcmc.get_samples(group_by_chain=True), steps

        # `run` compiles its loop whenever it is called: compiled from outside, once, it is faster.
        before = clock()
        run = jax.jit(whole).lower(jax.random.PRNGKey(seed), *given).compile()
        start = clock()
        found, steps = jax.block_until_ready(run(jax.random.PRNGKey(seed), *given))
        taken = clock() - start
        if best is None or taken < best[1]:
            found = {name: numpy.asarray(x) for name, x in found.items()}
            best = found, taken, start - before, int(steps.sum())
    return best


def with_pyro(model, given, chains, draws, seed):
    import pyro
    import torch
    from pyro.infer import MCMC, NUTS

    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    pyro.set_rng_seed(seed)
    program = programs(pyro.sample, pyro.plate, pyro.distributions, torch.zeros)[model]
    kernel, steps = NUTS(program), [0]
    mcmc = MCMC(kernel, draws, draws, num_chains=chains, disable_progbar=True)
    start = clock()
    mcmc.run(*(torch.tensor(x) + 0.0 for x in given))
    taken = clock() - start
    found = mcmc.get_samples(group_by_chain=True)
    return {k: x.numpy() for k, x in found.items()}, taken, 0.0, steps[0]


def measured(engine, model, seed):
    """One engine's run of one model."""
    import arviz

    given, shape = data(model), (CHAINS[engine], DRAWS[engine], seed)
    if engine == "numpyro":
        found, seconds, once, steps = with_numpyro(model, given, *shape)
    elif engine == "pyro":
        found, seconds, once, steps = with_pyro(model, given, *shape)
    else:
        found, seconds, once, steps = with_pplkit(model, given, *shape, engine == "native")
    effective = arviz.ess(arviz.convert_to_dataset(found), method="bulk")
    least = min(float(effective[name].min()) for name in found)
    return {"ess": least, "seconds": seconds, "once": once, "steps": steps}


# -- the table -------------------------------------------------------------------------------------


def asked(engine, model, seed, folder):
    words = [sys.executable, __file__, "--measure", engine, model, str(seed)]
    env = {**os.environ, "PPLKIT_CACHE_DIR": folder}
    ended = subprocess.run(words, env=env, check=True, capture_output=True, text=True)
    return json.loads(ended.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--only", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    if given.measure:
        engine, model, seed = given.measure
        print(json.dumps(measured(engine, model, int(seed))))
        return
    record = {
        "versions": {name: version(name) for name in ("torch", "pyro-ppl", "numpyro", "jax")},
        "processor": platform.processor() or platform.machine(),
        "models": {},
    }
    with tempfile.TemporaryDirectory(prefix="pplkit-bench-") as folder:
        for model in given.only:
            rounds = {engine: [] for engine in given.engines}
            for seed in range(given.rounds + 1):  # the first run of all compiles
                for engine in given.engines:
                    if seed and (engine in ("pyro", "eager")) and seed > 2:
                        continue
                    if seed or engine == "native":
                        rounds[engine].append(asked(engine, model, seed, folder))
            record["models"][model] = summed(rounds)
            show(model, record["models"][model])
            if given.keep:
                RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def summed(rounds):
    found = {}
    for engine, runs in rounds.items():
        first = runs.pop(0)["once"] if engine == "native" else None
        best = max(runs, key=lambda run: run["ess"] / run["seconds"])
        found[engine] = best | {"rate": best["ess"] / best["seconds"], "first": first}
    return found


def show(model, found):
    print(f"\n{model}: effective draws per second, the least over its parameters")
    print(f"{'':22}{'rate':>12}{'ESS':>9}{'seconds':>10}{'once':>8}  first of all")
    for engine, row in found.items():
        first = "" if row["first"] is None else f"{row['first']:8.1f} s"
        print(
            f"{ENGINES[engine]:22}{row['rate']:>12.1f}{row['ess']:>9.0f}{row['seconds']:>10.3f}"
            f"{row['once']:>8.1f}  {first}",
            flush=True,
        )


if __name__ == "__main__":
    main()
