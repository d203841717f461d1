"""Time whole runs of SVI on the first chapter's model: here, in Python and compiled; in Pyro; and in
NumPyro, its loop jitted whole. All in the same run, on one thread.

    pip install -c constraints.txt -e ".[bench]"
    python tests/benchmarks/svi_run.py [--points 4 1000 100000] [--rounds 5] [--json FILE]

Prints microseconds per step, the best of the rounds, and what each takes until its first step. What
a compiled run does once (capturing, compiling, loading) is in the second figure alone.
"""

import argparse
import json
import os
import tempfile
import time

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["PPLKIT_CACHE_DIR"] = os.path.join(tempfile.mkdtemp(), "programs")

import jax
import numpyro
import numpyro.distributions
import numpyro.infer
import pyro
import pyro.distributions
import pyro.infer
import pyro.optim
import torch

import pplkit
from pplkit import infer, optim


def program(ppl, dist, start, positive):
    """Program 3 of chapter 1: data around an unknown mean, and a normal guide for it."""

    def model(data):
        z = ppl.sample("z", dist.Normal(0.0, 1.0))
        with ppl.plate("data", len(data)):
            return ppl.sample("obs", dist.Normal(z, 0.5), obs=data)

    def guide(data):
        loc = ppl.param("loc", start(0.0))
        scale = ppl.param("scale", start(1.0), constraint=positive)
        ppl.sample("z", dist.Normal(loc, scale))

    return model, guide


def timed(action):
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def ours(data, compile, rounds, few, many):
    """Seconds per step, and until the first step."""
    dist = pplkit.distributions
    model, guide = program(pplkit, dist, torch.tensor, dist.constraints.positive)
    store = pplkit.ParamStore()
    svi = infer.SVI(model, guide, optim.Adam({"lr": 0.01}), infer.Trace_ELBO(), params=store)
    ready, _ = timed(lambda: svi.run(few, data, compile=compile))
    best = float("inf")
    for _ in range(rounds):  # the difference leaves out what a run does once
        short, _ = timed(lambda: svi.run(few, data, compile=compile))
        long, _ = timed(lambda: svi.run(few + many, data, compile=compile))
        best = min(best, (long - short) / many)
    return best, ready


def pyros(data, rounds, many):
    pyro.clear_param_store()
    dist = pyro.distributions
    model, guide = program(pyro, dist, torch.tensor, dist.constraints.positive)
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), pyro.infer.Trace_ELBO())
    ready, _ = timed(lambda: svi.step(data))

    def steps():
        for _ in range(many):
            svi.step(data)

    return min(timed(steps)[0] for _ in range(rounds)) / many, ready


def numpyros(data, rounds, many):
    dist = numpyro.distributions
    positive = dist.constraints.positive
    model, guide = program(numpyro, dist, jax.numpy.asarray, positive)
    adam, elbo = numpyro.optim.Adam(0.01), numpyro.infer.Trace_ELBO()
    svi = numpyro.infer.SVI(model, guide, adam, elbo)
    data = jax.numpy.asarray(data.numpy())
    state = svi.init(jax.random.PRNGKey(0), data)

    @jax.jit
    def loop(state):
        return jax.lax.scan(lambda s, _: svi.update(s, data), state, None, length=many)

    def run():
        return jax.block_until_ready(loop(state))

    ready, _ = timed(run)
    return min(timed(run)[0] for _ in range(rounds)) / many, ready


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, nargs="+", default=[4, 1000, 100_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="write the figures to this file too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    table = []
    for points in given.points:
        data = torch.tensor([1.2, 0.8, 1.5, -0.3]).repeat(points // 4 + 1)[:points]
        native = 3_000_000 if points < 10_000 else 10_000
        rows = {
            "pplkit, compiled": ours(data, True, given.rounds, 100, native),
            "pplkit, in Python": ours(data, False, given.rounds, 10, 200),
            "pyro svi.step": pyros(data, given.rounds, 200),
            "numpyro, lax.scan": numpyros(data, given.rounds, native // 10),
        }
        fastest = rows["pplkit, compiled"][0]
        print(f"{points} data points")
        for name, (step, ready) in rows.items():
            print(
                f"  {name:<18} {step * 1e6:>9.2f} µs a step, {step / fastest:>9.1f} times ours"
                f"   first after {ready:.2f} s"
            )
            table.append({"points": points, "who": name, "step": step, "ready": ready})
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump(table, file, indent=1)


if __name__ == "__main__":
    main()
