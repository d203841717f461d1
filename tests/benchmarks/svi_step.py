"""Time one eager step of SVI on the first chapter's model, here and in Pyro, in the same run.

    python tests/benchmarks/svi_step.py [--points 4] [--steps 50] [--rounds 40] [--json FILE]

Prints microseconds of processor time per step: the best round of each and the median. Rounds
alternate, so that a busy machine slows both. Pyro comes with the test extra.
"""

import argparse
import json
import statistics
import time

import pyro
import pyro.distributions
import pyro.infer
import pyro.optim
import torch

import pplkit
from pplkit import infer, optim


def program(ppl, dist):
    """Program 3 of chapter 1: data around an unknown mean, and a normal guide for it."""

    def model(data):
        z = ppl.sample("z", dist.Normal(0.0, 1.0))
        with ppl.plate("data", len(data)):
            return ppl.sample("obs", dist.Normal(z, 0.5), obs=data)

    def guide(data):
        loc = ppl.param("loc", torch.tensor(0.0))
        scale = ppl.param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
        ppl.sample("z", dist.Normal(loc, scale))

    return model, guide


def by_hand(data):
    """The same step in plain torch: what the machine needs at least."""
    loc, log_scale = (torch.zeros((), requires_grad=True) for _ in range(2))
    optimiser = torch.optim.Adam([loc, log_scale], lr=0.01)
    normal = torch.distributions.Normal

    def step():
        guide = normal(loc, log_scale.exp(), validate_args=False)
        z = guide.rsample()
        log_p = normal(0.0, 1.0, validate_args=False).log_prob(z)
        log_p = log_p + normal(z, 0.5, validate_args=False).log_prob(data).sum()
        loss = guide.log_prob(z) - log_p
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    return step


def contestants(data):
    model, guide = program(pplkit, pplkit.distributions)
    ours = infer.SVI(model, guide, optim.Adam({"lr": 0.01}), infer.Trace_ELBO())
    model, guide = program(pyro, pyro.distributions)
    theirs = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), pyro.infer.Trace_ELBO())
    return {
        "pplkit svi.step": lambda: ours.step(data),
        "pyro svi.step": lambda: theirs.step(data),
        "torch by hand": by_hand(data),
    }


def measured(steps: dict, number: int, rounds: int) -> dict[str, list[float]]:
    """Microseconds per step of each, round by round."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        for _ in range(number):
            step()
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.process_time()
            for _ in range(number):
                step()
            times[name].append((time.process_time() - start) / number * 1e6)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, default=4, help="data points")
    parser.add_argument("--steps", type=int, default=50, help="steps in a round")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", help="write the figures to this file too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = torch.tensor([1.2, 0.8, 1.5, -0.3]).repeat(given.points // 4 + 1)[: given.points]
    times = measured(contestants(data), given.steps, given.rounds)
    rows = {
        name: {"best": min(each), "median": statistics.median(each)} for name, each in times.items()
    }
    pyros = rows["pyro svi.step"]
    print(f"{given.points} data points   {'best':>9} {'median':>9}   of Pyro's best, median")
    for name, row in rows.items():
        row["ratio"] = {key: row[key] / pyros[key] for key in ("best", "median")}
        print(
            f"{name:<16} {row['best']:>8.0f} µs {row['median']:>6.0f} µs"
            f"   {row['ratio']['best']:.2f}  {row['ratio']['median']:.2f}"
        )
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump({"points": given.points, "microseconds": rows}, file, indent=1)


if __name__ == "__main__":
    main()
