"""`SVI.run` within a captured function: one loop in the graph, the same numbers as in Python.

The function runs twice on one noise: as it is, where a run draws blocks of base noise and moves its
parameters in place, and as a graph.
"""

import math

import pytest
import torch
from torch.utils._pytree import tree_flatten, tree_leaves

import pplkit
import pplkit.distributions as dist
from pplkit.capture import capture
from pplkit.capture.program import evaluated
from pplkit.errors import CaptureError
from pplkit.infer import (
    SVI,
    RenyiELBO,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
)
from pplkit.infer.autoguide import (
    AutoDiagonalNormal,
    AutoLowRankMultivariateNormal,
    AutoNormal,
)
from pplkit.optim import SGD, Adam, ClippedAdam, PyroLRScheduler
from pplkit.randomness import ROWS, SOURCE

DATA = torch.tensor([1.2, 0.8, 1.5, -0.3, 2.0], dtype=torch.float64)
MU = torch.tensor(0.3, dtype=torch.float64)


class Noise:
    """Numbers that follow from which draw it is and from their place in it."""

    def __init__(self):
        self.draws, self._blocks = 0, {}

    def numbers(self, draw, kind, shape, dtype, first=0):
        start = first * math.prod(shape[1:])
        places = torch.arange(start, start + math.prod(shape), dtype=torch.float64)
        u = torch.frac((places * 0.754877666 + draw * 0.569840290).sin().abs() * 977.0 + 0.1)
        u = (u * 0.998 + 0.001).reshape(shape)
        return (torch.special.ndtri(u) if kind == "normal" else u).to(dtype)

    def take(self, kind, shape, dtype, device):
        block, first = ROWS.get() or (self.draws, 0)
        if block not in self._blocks:
            self.draws += 1
            self._blocks[block] = self.draws
        return self.numbers(self._blocks[block], kind, shape, dtype, first)


def in_python(fn, *args):
    noise, token = Noise(), None
    try:
        token = SOURCE.set(noise.take)
        with pplkit.ParamStore():
            return fn(*args), noise.draws
    finally:
        SOURCE.reset(token)


def as_a_graph(fn, *args, at=None):
    """The captured function on the same noise, at these arguments or at others."""
    captured = capture(fn, *args, check=False)
    at = args if at is None else at
    program, _, sizes = captured._program_for(at)
    assert program is captured.programs[0]
    noise, given = [], Noise()
    for i, spec in enumerate(captured.noise):
        shape = tuple(evaluated(n, sizes) for n in spec.shape)
        noise.append(given.numbers(i + 1, spec.kind, shape, spec.dtype))
    return captured(*at, noise=noise), captured


def same(fn, *args, at=None):
    found, captured = as_a_graph(fn, *args, at=at)
    expected, draws = in_python(fn, *(args if at is None else at))
    assert draws == len(captured.noise)
    ours, spec = tree_flatten(found)
    theirs, other = tree_flatten(expected)
    assert spec == other
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-6, atol=1e-9)
    assert any(bool(x.isfinite().all()) and x.numel() for x in tree_leaves(found))
    return captured


def model(mu, data):
    z = pplkit.sample("z", dist.Normal(mu, 1.0))
    s = pplkit.sample("s", dist.LogNormal(torch.zeros((), dtype=torch.float64), 0.3))
    with pplkit.plate("data", len(data)):
        w = pplkit.sample("w", dist.Normal(z, 1.0))
        pplkit.sample("x", dist.Normal(w, s), obs=data)


def by_hand(mu, data):
    zero = torch.zeros((), dtype=torch.float64)
    loc = pplkit.param("loc", zero)
    scale = pplkit.param("scale", zero + 0.5, constraint=dist.constraints.positive)
    pplkit.sample("z", dist.Normal(loc, scale))
    pplkit.sample("s", dist.LogNormal(zero, 0.1))
    with pplkit.plate("data", len(data)):
        rows = pplkit.param("rows", lambda: torch.zeros_like(data))
        pplkit.sample("w", dist.Normal(rows, 0.3))


def fitted(model=model, guide=by_hand, loss=Trace_ELBO, optim=None, runs=1, after=None):
    optim = optim or (lambda: Adam({"lr": 0.02}))

    def fn(mu, data):
        made = guide(model) if isinstance(guide, type) else guide
        svi = SVI(model, made, optim(), loss())
        for _ in range(runs):
            result = svi.run(12, mu, data)
        found = {"params": result.params, "losses": result.losses}
        return found if after is None else {**found, "after": after(made, svi, mu, data)}

    return fn


def flips(mu, data):
    with pplkit.plate("data", len(data)):
        k = pplkit.sample("k", dist.Bernoulli(0.3 * torch.ones_like(data)))
        pplkit.sample("x", dist.Normal(mu + 2 * k, 1.0), obs=data)


def flips_guide(mu, data):
    unit = dist.constraints.unit_interval
    q = pplkit.param("q", lambda: 0.5 * torch.ones_like(data), constraint=unit)
    with pplkit.plate("data", len(data)):
        pplkit.sample("k", dist.Bernoulli(q))


def sides(mu, data):
    p = pplkit.sample("p", dist.Beta(2.0 * torch.ones((), dtype=torch.float64), 2.0))
    with pplkit.plate("data", len(data)):
        k = pplkit.sample("k", dist.Bernoulli(p), infer={"enumerate": "parallel"})
        pplkit.sample("x", dist.Normal(mu + 2 * k, 1.0), obs=data)


class SidesGuide(AutoNormal):
    def __init__(self, model):
        super().__init__(pplkit.handlers.block(model, hide=["k"]))


def rates(mu, data):
    z = pplkit.sample("z", dist.Gamma(2.0 * torch.ones((), dtype=torch.float64), 1.0))
    with pplkit.plate("data", len(data)):
        pplkit.sample("x", dist.Poisson(z), obs=data.abs().round())


def rates_guide(mu, data):
    two, positive = 2.0 * torch.ones((), dtype=torch.float64), dist.constraints.positive
    a, b = (pplkit.param(name, two, constraint=positive) for name in "ab")
    pplkit.sample("z", dist.Gamma(a, b))


def waiting_guide(mu, data):
    two = 2.0 * torch.ones((), dtype=torch.float64)
    b = pplkit.param("b", two, constraint=dist.constraints.positive)
    pplkit.sample("z", dist.Exponential(b))  # drawn in place, by torch


def schedule():
    settings = {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.05}, "gamma": 0.8}
    return PyroLRScheduler(torch.optim.lr_scheduler.ExponentialLR, settings)


def quantiles(guide, svi, *args):
    return guide.quantiles([0.25, 0.5])


def stored(guide, svi, *args):
    return pplkit.param("loc") * pplkit.get_param_store()["scale"]


class OfRankTwo(AutoLowRankMultivariateNormal):
    """Its entropy has a number of the size, log(2π) times it, that no step changes."""

    def __init__(self, model):
        super().__init__(model, rank=2)


CASES = {
    "by hand, twice in a row": fitted(runs=2, after=stored),
    "AutoNormal and its quantiles": fitted(guide=AutoNormal, after=quantiles),
    "a schedule": fitted(optim=schedule),
    "particles": fitted(loss=lambda: Trace_ELBO(num_particles=3, vectorize_particles=True)),
    "score function, TraceGraph": fitted(flips, flips_guide, TraceGraph_ELBO),
    "enumeration": fitted(sides, SidesGuide, lambda: TraceEnum_ELBO(max_plate_nesting=1)),
    "gamma draws": fitted(rates, rates_guide),
}
MORE = {
    "AutoDiagonalNormal": fitted(guide=AutoDiagonalNormal),
    "a covariance of low rank": fitted(guide=OfRankTwo),
    "particles one by one": fitted(loss=lambda: Trace_ELBO(num_particles=2)),
    "closed-form terms": fitted(loss=TraceMeanField_ELBO),
    "Renyi": fitted(loss=lambda: RenyiELBO(num_particles=2)),
    "score function": fitted(flips, flips_guide),
    "draws made in place": fitted(rates, waiting_guide),
    "momentum": fitted(optim=lambda: SGD({"lr": 1e-3, "momentum": 0.5})),
    "decay": fitted(optim=lambda: ClippedAdam({"lr": 0.02, "lrd": 0.99})),
}


@pytest.mark.parametrize(
    "fn",
    [*CASES.values(), *(pytest.param(fn, marks=pytest.mark.long) for fn in MORE.values())],
    ids=[*CASES, *MORE],
)
def test_a_run_gives_what_it_gives_in_python_at_another_size_too(fn):
    same(fn, MU, DATA, at=(MU + 1, torch.cat([DATA, DATA, DATA[:1]])))


def test_steps_and_learning_rate_are_inputs_and_one_step_is_recorded():
    def fn(steps, rate, data):
        return SVI(model, by_hand, Adam({"lr": rate}), Trace_ELBO()).run(steps, MU, data).losses

    rate = torch.tensor(0.02, dtype=torch.float64)
    captured = same(fn, 6, rate, DATA, at=(25, 3 * rate, DATA[:3]))
    loops = [node for node in captured.graph.graph.nodes if "scan" in str(node.target)]
    assert len(loops) == 1
    assert len(captured.graph.graph.nodes) + len(captured.graph.steps_0.graph.nodes) < 300


def test_what_a_run_moves_is_as_it_was_once_a_graph_is_made_of_it():
    optim, net = Adam({"lr": 0.02}), torch.nn.Linear(1, 1).double()

    def through(mu, data):
        pplkit.module("net", net)
        with pplkit.plate("data", len(data)):
            pplkit.sample("x", dist.Normal(net(data[:, None])[:, 0] + mu, 1.0), obs=data)

    svi = SVI(through, lambda mu, data: None, optim, Trace_ELBO())
    before = net.weight.detach().clone()
    captured = capture(lambda data: svi.run(5, MU, data).params, DATA)
    first, second = captured(DATA), captured(DATA)
    assert torch.equal(net.weight, before)
    assert not optim.state
    name = next(name for name in first if name.endswith("weight"))
    assert torch.equal(first[name], second[name])
    assert not torch.equal(first[name], before)
    with torch.no_grad():
        net.weight.add_(1.0)
    assert not torch.equal(captured(DATA)[name], first[name])  # it is what the run starts from


def test_what_is_refused_names_its_reason():
    def kept(mu, data):
        seen = []

        def leaky(mu, data):
            seen.append(pplkit.sample("z", dist.Normal(pplkit.param("loc", mu * 0), 1.0)))

        def plain(mu, data):
            pplkit.sample("z", dist.Normal(mu, 1.0))

        SVI(plain, leaky, Adam({"lr": 0.02}), Trace_ELBO()).run(5, mu, data)
        return seen[-1] + 1

    with pytest.raises(CaptureError, match="what a step of `SVI.run` has computed, kept for"):
        capture(kept, MU, DATA)

    def following(steps):
        return SVI(model, by_hand, schedule(), Trace_ELBO()).run(steps, MU, DATA).losses

    with pytest.raises(CaptureError, match="a schedule of learning rates cannot be captured"):
        capture(following, 5)

    def watched():
        svi = SVI(model, by_hand, Adam({"lr": 0.02}), Trace_ELBO())
        return svi.run(5, MU, DATA, callback=lambda step, loss: None).losses

    with pytest.raises(CaptureError, match="a callback of `SVI.run` cannot be captured"):
        capture(watched)
    foreign = fitted(optim=lambda: torch.optim.Adadelta)
    with pytest.raises(CaptureError, match="cannot be captured") as told:
        capture(foreign, MU, DATA)
    assert "an optimiser of pplkit.optim" in str(told.value)
