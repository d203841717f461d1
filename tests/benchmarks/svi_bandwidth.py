"""How near a compiled run of SVI comes to what a device's memory gives.

    python tests/benchmarks/svi_bandwidth.py --device cuda [--points 10000000] [--json FILE]

A plate of many points around an unknown mean: a step has to read each point once, and the rest is
small. The bytes of the points, divided by the time of a step, stand beside the bytes that a copy
within the device's memory reads and writes in a second, measured in the same run, rounds in turn.
Prints both and their ratio; with `--waits`, how often a run of 1000 steps waits for the device.
"""

import argparse
import json
import statistics
import time
import warnings
from pathlib import Path

import torch

import pplkit
import pplkit.distributions as dist
from pplkit import infer, optim


def model(data):
    z = pplkit.sample("z", dist.Normal(0.0, 1.0))
    with pplkit.plate("data", len(data)):
        pplkit.sample("obs", dist.Normal(z, 0.5), obs=data)


def guide(data):
    loc = pplkit.param("loc", lambda: torch.zeros((), device=data.device))
    scale = pplkit.param("scale", lambda: torch.full((), 0.1, device=data.device))
    pplkit.sample("z", dist.Normal(loc, scale))


class Timed:
    """Seconds of something, the device's work included."""

    def __init__(self, device):
        self.wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None

    def __call__(self, action):
        self.wait()
        start = time.perf_counter()
        action()
        self.wait()
        return time.perf_counter() - start


def stepping(svi, data):
    """A function of a number of steps that takes them."""

    def run(steps):
        with warnings.catch_warnings():
            warnings.simplefilter("error", pplkit.errors.PplkitWarning)  # it must be compiled
            svi.run(steps, data, compile=True, progress_bar=False)

    return run


def waits(run):
    """How often 1000 steps wait for the device, as torch counts it."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            run(1000)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in told)


def measured(device, points, rounds, steps):
    data = torch.randn(points, device=device) + 1.0
    into, timed = torch.empty_like(data), Timed(device)
    adam, store = optim.Adam({"lr": 1e-3}), pplkit.ParamStore()
    run = stepping(infer.SVI(model, guide, adam, infer.Trace_ELBO(), params=store), data)
    run(2 + steps)  # compiled, loaded and recorded
    copies, taken = [], []
    for _ in range(rounds):
        copies.append(timed(lambda: [into.copy_(data) for _ in range(steps)]) / steps)
        once = timed(lambda: run(2))  # what a run does once
        taken.append((timed(lambda: run(2 + steps)) - once) / steps)
    bytes_ = data.numel() * data.element_size()
    copy, step = 2 * bytes_ / min(copies), bytes_ / min(taken)
    return run, {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "points": points,
        "copy_gb_per_s": copy / 1e9,
        "step_us": min(taken) * 1e6,
        "median_step_us": statistics.median(taken) * 1e6,
        "step_gb_per_s": step / 1e9,
        "share": step / copy,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--points", type=int, default=10**7)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--waits", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    given = parser.parse_args()
    device = torch.empty(0, device=given.device).device
    run, found = measured(device, given.points, given.rounds, given.steps)
    print(f"{found['device']}, {found['points']:,} points")
    print(f"copy: {found['copy_gb_per_s']:,.1f} GB/s read and written")
    print(f"step: {found['step_us']:,.1f} µs, {found['step_gb_per_s']:,.1f} GB/s read")
    print(f"share of the copy's: {found['share']:.0%}")
    if given.waits and device.type == "cuda":
        found["waits"] = waits(run)
        print(f"1000 steps wait {found['waits']} times")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
