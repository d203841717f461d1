"""The corpus run by pplkit and by Pyro, from the same functions: the same sites, the same numbers.

Numbers are compared in two ways. *Substituted*: Pyro draws, and both engines take these draws as
given constants. *Same seed*: each engine draws for itself, site by site, from the same seed; now
gradients flow through the draws too.
"""

from dataclasses import dataclass

import pyro
import pytest
import torch
from torch import Tensor

import pplkit
from pplkit import handlers
from pplkit.effects import Handler
from pplkit.infer import Trace_ELBO
from tests.models import ENTRIES, backend

CLOSE = {"rtol": 1e-7, "atol": 1e-7}

# Pyro takes von Mises' normaliser from torch's polynomials, good to 1e-7, gradients to 1e-6.
CLOSE_BY_ENTRY = {"von_mises_direction": {"rtol": 1e-5, "atol": 1e-5}}

# Where the engines part on purpose: what is not compared, and which test holds it instead.
PARTINGS = {
    # Rows of a looped plate are independent, so a row's score-function term need not hear of the
    # others; Pyro's Trace_ELBO knows this of vectorised plates alone. Ours has the same mean and
    # less variance: test_score.py.
    "sequential_switches": {"grads"},
}

every_entry = pytest.mark.parametrize("name", ENTRIES)


@dataclass
class Site:
    """What both engines say of a site, in one form."""

    name: str
    value: Tensor | None
    observed: bool = False
    batch_shape: tuple = ()
    event_shape: tuple = ()
    plates: frozenset = frozenset()
    log_prob: Tensor | None = None


@dataclass
class Outcome:
    """What one engine makes of a program."""

    model: list[Site]
    guide: list[Site]
    loss: Tensor
    params: dict[str, Tensor]
    grads: dict[str, Tensor]


class Given(Handler):
    """Draws, and rows of plates, that are decided beforehand."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def process_message(self, msg):
        if msg.type in ("sample", "plate") and not msg.is_observed and msg.name in self.values:
            msg.value = self.values[msg.name]


class PyroGiven(pyro.poutine.messenger.Messenger):
    """The same for Pyro, where the rows of a plate are a sample too."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg):
        if not msg["is_observed"] and msg["name"] in self.values:
            msg["value"] = self.values[msg["name"]]


def gradients(loss: Tensor, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    zipped = zip(leaves.items(), found, strict=True)
    return {n: torch.zeros_like(leaf) if g is None else g for (n, leaf), g in zipped}


# -- Pyro -----------------------------------------------------------------------------------------


def is_rows(site) -> bool:
    return type(site["fn"]).__name__ == "_Subsample"


def sites_by_pyro(trace) -> list[Site]:
    trace.compute_log_prob()
    found = []
    for name, site in trace.nodes.items():
        if site["type"] == "param":
            found.append(Site(name, site["value"].detach()))
        if site["type"] != "sample" or is_rows(site):
            continue
        if site["infer"].get("_deterministic"):
            found.append(Site(name, site["value"].detach()))
            continue
        frames = site["cond_indep_stack"]
        # Pyro counts the rows of a looped plate from 1, pplkit from 0, as Python does.
        frames = frozenset((f.name, f.dim, f.size, f.counter - (f.dim is None)) for f in frames)
        fn = site["fn"]
        found.append(
            Site(
                name,
                site["value"].detach(),
                site["is_observed"],
                tuple(fn.batch_shape),
                tuple(fn.event_shape),
                frames,
                site["log_prob"].detach(),
            )
        )
    return found


def by_pyro(program, values=None) -> Outcome:
    with PyroGiven(values or {}):
        guide = pyro.poutine.trace(program.guide).get_trace(*program.args)
        model = pyro.poutine.replay(program.model, trace=guide)
        model = pyro.poutine.trace(model).get_trace(*program.args)
    elbo = pyro.infer.Trace_ELBO()
    model.compute_log_prob()
    guide.compute_score_parts()
    loss, surrogate = elbo._differentiable_loss_particle(without_rows(model), without_rows(guide))
    leaves = {name: pyro.param(name).unconstrained() for name in pyro.get_param_store()}
    grads = gradients(surrogate, leaves) if surrogate.requires_grad else {}
    loss = torch.as_tensor(loss, dtype=torch.float64)
    params = {name: pyro.param(name).detach() for name in leaves}
    return Outcome(sites_by_pyro(model), sites_by_pyro(guide), loss, params, grads)


def without_rows(trace):
    return pyro.poutine.util.prune_subsample_sites(trace)


# -- pplkit ---------------------------------------------------------------------------------------


def sites_by_us(trace) -> list[Site]:
    found = []
    for site in trace.sites("sample", "deterministic", "param"):
        if site.type != "sample":
            found.append(Site(site.name, site.value.detach()))
            continue
        frames = frozenset((f.name, f.dim, f.size, f.counter) for f in site.plates)
        fn = site.fn
        found.append(
            Site(
                site.name,
                site.value.detach(),
                site.is_observed,
                tuple(fn.batch_shape),
                tuple(fn.event_shape),
                frames,
                site.log_prob.detach(),
            )
        )
    return found


def by_us(program, values=None) -> Outcome:
    elbo = Trace_ELBO()
    with Given(values or {}):
        guide = handlers.trace(program.guide).get_trace(*program.args)
        model = handlers.replay(program.model, trace=guide)
        model = handlers.trace(model).get_trace(*program.args)
    # The rows and draws of this very run, once more, for the estimator.
    drawn = {s.name: s.value for s in guide.sites("sample", "plate") if not s.is_observed}
    drawn |= {s.name: s.value for s in model.sites("plate")}
    with Given(drawn):
        loss = elbo.differentiable_loss(program.model, program.guide, *program.args)
    store = pplkit.get_param_store()
    leaves = dict(store.named_parameters())
    grads = gradients(loss, leaves) if loss.requires_grad else {}
    params = {name: store[name].detach() for name in leaves}
    return Outcome(sites_by_us(model), sites_by_us(guide), loss.detach(), params, grads)


# -- the comparison -------------------------------------------------------------------------------


def same(entry: str, ours: Outcome, theirs: Outcome) -> None:
    close = CLOSE_BY_ENTRY.get(entry, CLOSE)
    for which in ("guide", "model"):
        same_sites(getattr(ours, which), getattr(theirs, which), which, close)
    torch.testing.assert_close(ours.loss, theirs.loss, **close)
    for what in {"params", "grads"} - PARTINGS.get(entry, set()):
        mine, other = getattr(ours, what), getattr(theirs, what)
        assert set(mine) == set(other)
        for name in mine:
            msg = f"{what} of {name}: {mine[name]} by us, {other[name]} by Pyro"
            torch.testing.assert_close(mine[name], other[name], **close, msg=msg)


def labelled(where: str):
    return lambda message: f"{where}: {message}"


def same_sites(ours: list[Site], theirs: list[Site], which: str, close: dict) -> None:
    assert [site.name for site in ours] == [site.name for site in theirs], f"order in the {which}"
    for mine, other in zip(ours, theirs, strict=True):
        where = f"{which}, site {mine.name}"
        for what in ("observed", "batch_shape", "event_shape", "plates"):
            pair = getattr(mine, what), getattr(other, what)
            assert pair[0] == pair[1], f"{where}: {what} {pair[0]} by us, {pair[1]} by Pyro"
        assert mine.value.shape == other.value.shape, f"{where}: shape"
        assert mine.value.dtype == other.value.dtype, f"{where}: dtype"
        torch.testing.assert_close(mine.value, other.value, **close, msg=labelled(where))
        if other.log_prob is not None:
            assert mine.log_prob.shape == other.log_prob.shape, f"{where}: log_prob's shape"
            # Pyro's ImproperUniform answers in float32, whatever it is asked in.
            assert mine.log_prob.dtype == torch.float64, f"{where}: {mine.log_prob.dtype}"
            torch.testing.assert_close(
                mine.log_prob, other.log_prob.double(), **close, msg=labelled(where)
            )


def pyro_program(name: str, size=None):
    """An entry built by Pyro, and the rows of plates that were drawn as it was built."""
    pyro.clear_param_store()
    with pyro.poutine.trace() as built:
        program = ENTRIES[name].build(backend("pyro"), size)
    return program, {n: site["value"] for n, site in built.trace.nodes.items()}


def draws_of_pyro(program, seed: int) -> dict[str, Tensor]:
    pyro.set_rng_seed(seed)
    guide = pyro.poutine.trace(program.guide).get_trace(*program.args)
    model = pyro.poutine.replay(program.model, trace=guide)
    model = pyro.poutine.trace(model).get_trace(*program.args)
    return {
        name: site["value"].detach()
        for trace in (guide, model)
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not site["is_observed"]
    }


@every_entry
@pytest.mark.parametrize("which", [0, 1, 2], ids=["one", "two", "prime"])
def test_substituted(name, which):
    sizes = ENTRIES[name].sizes
    size = sizes[min(which, len(sizes) - 1)]
    theirs, rows = pyro_program(name, size)
    values = rows | draws_of_pyro(theirs, seed=which)
    pplkit.clear_param_store()
    ours = ENTRIES[name].build(backend("pplkit"), size)
    same(name, by_us(ours, values), by_pyro(theirs, values))


@every_entry
def test_same_seed(name):
    theirs, rows = pyro_program(name)
    pyro.set_rng_seed(3)
    expected = by_pyro(theirs)
    pplkit.clear_param_store()
    ours = ENTRIES[name].build(backend("pplkit"))
    with handlers.seed(rng_seed=3):
        same(name, by_us(ours, rows), expected)
