"""Time whole runs of SVI: here, in Python and compiled; in Pyro; in NumPyro, its loop a jitted scan;
and in plain PyTorch by hand, as the floor. Same models, optimiser and precision (single) for all.

    pip install -c constraints.txt -e ".[bench]"
    python tests/benchmarks/svi_run.py [--only normal-4 vae] [--rounds 5] [--quick] [--threads 1]

Each engine runs each model in a process of its own; the rounds of one model's engines alternate, and
the best counts. Prints tables; the committed figures and the picture, both in the book, are renewed
by `--keep`, after each model. Microseconds per step are of long runs: what a run does once (capturing,
compiling, loading) is in the time until the first step alone.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENGINES = {
    "compiled": "pplkit, compiled",
    "eager": "pplkit, in Python",
    "pyro": "Pyro",
    "numpyro": "NumPyro",
    "torch": "PyTorch by hand",
}
PACKAGES = ("torch", "pyro-ppl", "numpyro", "jax")
BOOK = HERE.parents[1] / "book"  # its chapter on fitting shows both
RECORD, PICTURE = BOOK / "data" / "svi_run.json", BOOK / "_static" / "svi_run.png"


# With one thread, processor time is what a step takes on a machine that does nothing else.
clock = time.process_time if os.environ.get("OMP_NUM_THREADS") == "1" else time.perf_counter


def seconds(action):
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def mebibytes(who=resource.RUSAGE_SELF):
    peak = resource.getrusage(who).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def processor():
    """Seconds of processor time, this process's and its children's."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


# -- the engines: each is a class with `first`, `losses(steps)` and `steps(seconds)` ---------------


class _Library:
    """What the models ask for, from one of the libraries."""

    def __init__(self, module, distributions, array, softplus, exp):
        self.sample, self.plate, self.param = module.sample, module.plate, module.param
        self.dist, self.positive = distributions, distributions.constraints.positive
        self.array, self.softplus, self.exp = array, softplus, exp

    def program(self, case, autoguides, init):
        def bound(function):
            return lambda *data: function(self, *data)

        model = bound(case.model)
        if callable(case.guide):
            return model, bound(case.guide)
        start = {name: self.array(value) for name, value in case.start.items()}
        guide = getattr(autoguides, case.guide)
        return model, guide(model, init_loc_fn=init(values=start), init_scale=0.1)


class _Torches:
    def __init__(self, case):
        import torch

        self.case, self.torch = case, torch
        torch.manual_seed(0)
        self.data = [torch.as_tensor(x) for x in case.data()]

    def library(self, module):
        torch, number = self.torch, self.torch.float32
        return _Library(
            module,
            module.distributions,
            lambda x: torch.as_tensor(x, dtype=number),
            torch.nn.functional.softplus,
            torch.exp,
        )


class Compiled(_Torches):
    compile = True

    def __init__(self, case):
        super().__init__(case)
        import pplkit
        from pplkit.infer import autoguide

        lib = self.library(pplkit)
        program = lib.program(case, autoguide, autoguide.init_to_value)
        adam = pplkit.optim.Adam({"lr": case.lr})
        elbo, store = pplkit.infer.Trace_ELBO(), pplkit.ParamStore()
        self.svi = pplkit.infer.SVI(*program, adam, elbo, params=store)

    def run(self, steps):
        return self.svi.run(steps, *self.data, compile=self.compile, progress_bar=False)

    def losses(self, steps):
        return self.run(steps).losses.tolist()

    def first(self):
        self.run(2)

    def steps(self, budget):
        # The difference of two runs leaves out what a run does once.
        def took(steps):
            start = clock()
            self.run(steps)
            return clock() - start

        self.many = getattr(self, "many", 16)
        while True:
            once = min(took(2), took(2))
            step = max(took(2 + self.many) - once, 1e-9) / self.many
            if step * self.many > budget / 2:
                return step
            self.many = max(4 * self.many, min(int(budget / step), 1000 * self.many))


class Eager(Compiled):
    compile = False


class _Stepping(_Torches):
    """One step after the other, in Python."""

    def first(self):
        self.step()

    def losses(self, steps):
        return [float(self.step()) for _ in range(steps)]

    def steps(self, budget):
        count, start = 0, clock()
        while clock() < start + budget:
            for _ in range(10):
                self.step()
            count += 10
        return (clock() - start) / count


class Pyro(_Stepping):
    def __init__(self, case):
        super().__init__(case)
        import pyro
        import pyro.distributions
        import pyro.optim
        from pyro.infer import SVI, Trace_ELBO, autoguide

        program = self.library(pyro).program(case, autoguide, autoguide.init_to_value)
        svi = SVI(*program, pyro.optim.Adam({"lr": case.lr}), Trace_ELBO())
        self.step = lambda: svi.step(*self.data)


class Hand(_Stepping):
    def __init__(self, case):
        super().__init__(case)
        params, loss = case.by_hand(*self.data)
        adam = self.torch.optim.Adam(params, lr=case.lr, fused=True)

        def step():
            adam.zero_grad()
            value = loss()
            value.backward()
            adam.step()
            return value.detach()

        self.step = step


class NumPyro:
    def __init__(self, case):
        import jax
        import numpyro
        import numpyro.distributions
        from numpyro.infer import SVI, Trace_ELBO, autoguide, init_to_value

        self.jax = jax
        lib = _Library(
            numpyro,
            numpyro.distributions,
            lambda x: jax.numpy.asarray(x, dtype=jax.numpy.float32),
            jax.nn.softplus,
            jax.numpy.exp,
        )
        program = lib.program(case, autoguide, init_to_value)
        self.svi = SVI(*program, numpyro.optim.Adam(case.lr), Trace_ELBO())
        self.data = tuple(jax.numpy.asarray(x) for x in case.data())
        self.state, self.loops = None, {}

    def loop(self, steps):
        """The steps as one compiled scan; the data are its arguments, not constants."""
        if steps not in self.loops:

            def scan(state, data):
                return self.jax.lax.scan(
                    lambda state, _: self.svi.update(state, *data), state, None, length=steps
                )

            self.loops[steps] = self.jax.jit(scan)
        return self.loops[steps]

    def run(self, steps):
        return self.jax.block_until_ready(self.loop(steps)(self.state, self.data))[1]

    def first(self):
        self.state = self.svi.init(self.jax.random.PRNGKey(0), *self.data)
        self.run(2)

    def losses(self, steps):
        return self.run(steps).tolist()

    def steps(self, budget):
        steps, took = max(self.loops), 0.0
        while took < budget / 4:
            self.run(steps)  # compiled, and warm
            start = clock()
            self.run(steps)
            took = clock() - start
            if took < budget / 4:
                steps = int(steps * budget / took)
        return took / steps


WORKERS = {
    "compiled": Compiled,
    "eager": Eager,
    "pyro": Pyro,
    "numpyro": NumPyro,
    "torch": Hand,
}


def work(name: str, engine: str) -> None:
    """One engine on one model: told what to do by lines of input, answers with lines of JSON."""
    from svi_models import CASES  # needs torch

    case = CASES[name]
    worker, before = WORKERS[engine](case), mebibytes()
    spent = processor()
    ready, _ = seconds(worker.first)
    answer = {"first": ready, "first_processor": processor() - spent}
    answer["compiler_memory"] = mebibytes(resource.RUSAGE_CHILDREN)
    losses = worker.losses(case.check)
    last = losses[-len(losses) // 4 :]
    answer["loss"] = sum(last) / len(last)
    print(json.dumps(answer), flush=True)
    for line in sys.stdin:
        print(json.dumps({"step": worker.steps(float(line))}), flush=True)
        if not line.strip():
            break
    print(json.dumps({"memory": mebibytes(), "memory_before": before}), flush=True)


# -- the race --------------------------------------------------------------------------------------


class Worker:
    """A process with one engine and one model."""

    def __init__(self, name, engine, threads, cache):
        flag = "true" if threads > 1 else "false"
        env = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={flag} "
            f"intra_op_parallelism_threads={threads}",
            "PPLKIT_CACHE_DIR": cache,
        }
        words = [sys.executable, __file__, "--work", name, engine]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )
        self.found = self.read()
        self.best = float("inf")

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"no answer: {' '.join(self.process.args)}")
        return json.loads(line)

    def race(self, budget):
        print(budget, file=self.process.stdin, flush=True)
        self.best = min(self.best, self.read()["step"])

    def end(self):
        self.process.stdin.close()
        self.found.update(self.read(), step=self.best)
        self.process.stdout.close()
        self.process.wait()
        return self.found


def raced(name, engines, rounds, budget, threads):
    with tempfile.TemporaryDirectory(prefix="bench-") as cache:
        workers = {engine: Worker(name, engine, threads, cache) for engine in engines}
        for _ in range(rounds):
            for worker in workers.values():
                worker.race(budget)
        return {engine: worker.end() for engine, worker in workers.items()}


def machine(threads):
    """What the figures were taken on; no name of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next(x.partition(":")[2].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    return {
        "processor": cpu,
        "cores": os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def with_others(record, path):
    """The record, with the models that it leaves out as they were on the same machine."""
    from svi_models import CASES

    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if before.get("machine") != record["machine"]:
        return record
    whole = {"machine": record["machine"]}
    for part in ("models", "results"):
        known = {**before[part], **record[part]}
        whole[part] = {name: known[name] for name in CASES if name in known}
    return whole


# -- what is shown ---------------------------------------------------------------------------------


def shown(value, unit=1.0):
    scaled = value * unit
    return f"{scaled:,.0f}" if scaled >= 99.5 else f"{scaled:.3g}"


def table(head, rows):
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        first, *rest = zip(row, widths, strict=True)
        print("  ".join([first[0].ljust(first[1]), *(x.rjust(w) for x, w in rest)]))
    print()


def report(results, titles, engines):
    def across(title, what):
        rows = []
        for name, found in results.items():
            rows.append([titles[name], *(what(found[e]) for e in engines)])
        table([title, *(ENGINES[e] for e in engines)], rows)

    across("µs per step", lambda f: shown(f["step"], 1e6))
    if "compiled" in engines:
        others = [e for e in engines if e != "compiled"]
        rows = [
            [titles[name], *(shown(f[e]["step"] / f["compiled"]["step"]) for e in others)]
            for name, f in results.items()
        ]
        table(["times the compiled step", *(ENGINES[e] for e in others)], rows)
    across("seconds to the first step", lambda f: f"{f['first']:.1f} ({f['first_processor']:.1f})")
    across(
        "peak memory, MiB", lambda f: f"{f['memory']:.0f} (+{f['memory'] - f['memory_before']:.0f})"
    )
    across("mean loss at the end", lambda f: f"{f['loss']:.4g}")
    print("Seconds in brackets: of processor time. Memory in brackets: beyond imports and data.")


def disagreements(results, tolerance=0.03):
    """Models on which an engine's loss is not like Pyro's: somebody races another problem."""
    found = []
    for name, engines in results.items():
        truth = engines.get("pyro") or next(iter(engines.values()))
        for engine, of in engines.items():
            if not abs(of["loss"] - truth["loss"]) <= tolerance * (1 + abs(truth["loss"])):
                found.append(
                    f"{name}, {ENGINES[engine]}: {of['loss']:.5g}, not {truth['loss']:.5g}"
                )
    return found


def drawn(results, titles, path):
    """Dots on a logarithmic scale, one row a model."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    marks = {
        "compiled": ("o", "#0b6e4f"),
        "numpyro": ("s", "#c1440e"),
        "torch": ("|", "#444444"),
        "eager": ("D", "#3c6fb0"),
        "pyro": ("^", "#7b3f9e"),
    }
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(results) + 1.6), layout="constrained")
    for engine, (mark, colour) in marks.items():
        steps = [found[engine]["step"] * 1e6 for found in results.values()]
        places = range(len(results))
        axes.plot(steps, places, mark, color=colour, label=ENGINES[engine], markersize=8, alpha=0.9)
    axes.set_yticks(range(len(results)), [titles[name] for name in results])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("microseconds per step (less is faster)")
    axes.grid(axis="both", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.legend(loc="outside upper center", ncols=5, frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)


def main() -> None:
    sys.path.insert(0, str(HERE))
    if sys.argv[1:2] == ["--work"]:
        work(*sys.argv[2:4])
        return
    from svi_models import CASES

    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="MODEL")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--keep", action="store_true", help="renew the committed figures")
    given = parser.parse_args()
    rounds, budget = (1, 0.3) if given.quick else (given.rounds, 1.0)
    results, titles = {}, {}
    for name in given.only:
        results[name] = raced(name, given.engines, rounds, budget, given.threads)
        titles[name] = CASES[name].title
        steps = ", ".join(f"{ENGINES[e]} {shown(f['step'], 1e6)}" for e, f in results[name].items())
        print(f"{titles[name]}: {steps}", flush=True)
        record = {"machine": machine(given.threads), "models": titles, "results": results}
        for path in [given.json, RECORD if given.keep else None]:
            if path is not None:
                kept = with_others(record, path) if path == RECORD else record
                path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print()
    report(results, titles, given.engines)
    wrong = disagreements(results)
    print("\n".join(["", "Losses that do not agree:", *wrong]) if wrong else "All losses agree.")
    if given.keep:
        kept = json.loads(RECORD.read_text(encoding="utf-8"))
        drawn(kept["results"], kept["models"], PICTURE)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
