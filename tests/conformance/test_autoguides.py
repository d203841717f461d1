"""Automatic guides beside Pyro's: the same parameters, losses and gradients from the same seed.

Both start from the same values, so that neither engine's search for a start is compared.
"""

import warnings

import pyro
import pyro.infer.autoguide
import pytest
import torch

import pplkit
import pplkit.infer.autoguide
from pplkit import handlers
from tests.conformance.test_corpus import CLOSE, gradients
from tests.models import ENTRIES, backend

# Discrete sites have no automatic guide; a plate made outside a run, or one that is subsampled,
# needs plates made by hand; a flat prior has no draw to start from.
CONTINUOUS = [
    name
    for name, entry in ENTRIES.items()
    if not {"score", "branch", "subsample"} & entry.tags
    and name not in ("improper_prior", "maximum_likelihood", "correlation")
]
FEW = ["normal_normal", "transformed_size", "dirichlet_categorical", "nested_plates",
       "eight_schools", "linear_vae"]  # fmt: skip


def start_values(name):
    """One draw of the guide for every unknown; the same for both engines."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    program = ENTRIES[name].build(backend("pyro"))
    guide = pyro.poutine.trace(program.guide).get_trace(*program.args)
    return {n: guide.nodes[n]["value"].detach() for n in guide.stochastic_nodes
            if type(guide.nodes[n]["fn"]).__name__ != "_Subsample"}  # fmt: skip


def outcome(engine, name, kind, values):
    root = {"pyro": pyro, "pplkit": pplkit}[engine]
    root.clear_param_store()
    program = ENTRIES[name].build(backend(engine))
    start = root.infer.autoguide.init_to_value(values=values)
    model = program.model
    if engine == "pyro":
        model = pyro.poutine.block(model, hide_types=["param"])
    else:
        model = handlers.block(model, hide_types=["param"])
    guide = getattr(root.infer.autoguide, kind)(model, init_loc_fn=start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root.set_rng_seed(1)
        guide(*program.args)
        root.set_rng_seed(2)
        loss = root.infer.Trace_ELBO().differentiable_loss(model, guide, *program.args)
    store = root.get_param_store()
    leaves = {n: store[n] for n in store if n.startswith("Auto")}
    leaves = {n: p.unconstrained() if engine == "pyro" else store.unconstrained(n)
              for n, p in leaves.items()}  # fmt: skip
    return loss.detach(), leaves, gradients(loss, leaves)


def compare(name, kind):
    values = start_values(name)
    theirs, ours = (outcome(engine, name, kind, values) for engine in ("pyro", "pplkit"))
    torch.testing.assert_close(ours[0], torch.as_tensor(theirs[0]), **CLOSE)
    assert ours[1] and set(ours[1]) == set(theirs[1])
    for what in (1, 2):
        for key in ours[1]:
            torch.testing.assert_close(ours[what][key], theirs[what][key], **CLOSE)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_auto_normal(name):
    compare(name, "AutoNormal")


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("kind", ["AutoDelta", "AutoDiagonalNormal", "AutoMultivariateNormal"])
def test_other_kinds(name, kind):
    compare(name, kind)
