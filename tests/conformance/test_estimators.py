"""Every estimator of the ELBO, the corpus under each, against Pyro's from the same seed.

The loss and its gradient, on draws that both engines make for themselves. Guides whose rows are
subsampled outside the programs, and programs with branches where an estimator cannot have them,
are left to `test_corpus.py`.
"""

import warnings

import pyro
import pytest
import torch

import pplkit
from pplkit import handlers
from tests.conformance.test_corpus import CLOSE, CLOSE_BY_ENTRY, PARTINGS, gradients
from tests.models import ENTRIES, backend

# `shared_plate`: Pyro draws its rows once for all, as the plate is made; ours in each run.
HERE = [name for name in ENTRIES if name != "shared_plate"]
PATHWISE = [name for name in HERE if not {"score", "branch"} & ENTRIES[name].tags]


def by_pyro(name, estimator, settings):
    pyro.clear_param_store()
    program = ENTRIES[name].build(backend("pyro"))
    pyro.set_rng_seed(5)
    elbo = getattr(pyro.infer, estimator)(**settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loss = elbo.loss_and_grads(program.model, program.guide, *program.args)
    store = pyro.get_param_store()
    leaves = {n: store[n].unconstrained() for n in store}
    grads = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in leaves.items()}
    return loss, grads


def by_us(name, estimator, settings):
    pplkit.clear_param_store()
    program = ENTRIES[name].build(backend("pplkit"))
    elbo = getattr(pplkit.infer, estimator)(**settings)
    with handlers.seed(rng_seed=5):
        loss = elbo.differentiable_loss(program.model, program.guide, *program.args)
    leaves = dict(pplkit.get_param_store().named_parameters())
    return loss.item(), gradients(loss, leaves) if loss.requires_grad else {}


def compare(name, estimator, settings):
    close = CLOSE_BY_ENTRY.get(name, CLOSE)
    theirs, their_grads = by_pyro(name, estimator, settings)
    ours, our_grads = by_us(name, estimator, settings)
    assert ours == pytest.approx(float(theirs), rel=close["rtol"], abs=close["atol"])
    assert our_grads.keys() == their_grads.keys()
    for key in {} if "grads" in PARTINGS.get(name, ()) else our_grads:
        msg = f"gradient of {key}: {our_grads[key]} by us, {their_grads[key]} by Pyro"
        torch.testing.assert_close(our_grads[key], their_grads[key], **close, msg=msg)


@pytest.mark.parametrize("name", HERE)
def test_three_particles(name):
    compare(name, "Trace_ELBO", {"num_particles": 3})


@pytest.mark.parametrize("name", PATHWISE)
def test_analytic_divergences(name):
    compare(name, "TraceMeanField_ELBO", {})


@pytest.mark.parametrize("name", PATHWISE)
def test_renyi(name):
    compare(name, "RenyiELBO", {"alpha": 0.5, "num_particles": 3})
