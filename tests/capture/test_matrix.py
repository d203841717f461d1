"""Every estimator with every guide on models of several makes: a captured graph's steps are the
engine's own, in double precision. Inductor is held on the sample, and in `test_native.py`.
"""

import itertools
import warnings

import pytest
import torch

import pplkit
from pplkit import errors, handlers, optim
from pplkit.capture import capture_step
from pplkit.infer import (
    SVI,
    RenyiELBO,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    autoguide,
)
from tests import models
from tests.capture.steps import agrees

ENGINE = models.backend("pplkit")

LOSSES = {
    "Trace": lambda: Trace_ELBO(),
    "Trace, 2 particles": lambda: Trace_ELBO(num_particles=2),
    "Trace, 2 particles at once": lambda: Trace_ELBO(num_particles=2, vectorize_particles=True),
    "Graph": lambda: TraceGraph_ELBO(),
    "MeanField": lambda: TraceMeanField_ELBO(),
    "Renyi": lambda: RenyiELBO(alpha=0.5, num_particles=2),
    "Enum": lambda: TraceEnum_ELBO(),
}
GUIDES = {
    "its own": lambda built: built.guide,
    "AutoDelta": lambda built: autoguide.AutoDelta(built.model),
    "AutoNormal": lambda built: autoguide.AutoNormal(built.model),
    "AutoDiagonalNormal": lambda built: autoguide.AutoDiagonalNormal(built.model),
    "AutoMultivariateNormal": lambda built: autoguide.AutoMultivariateNormal(built.model),
    "AutoLowRankMultivariateNormal": lambda built: autoguide.AutoLowRankMultivariateNormal(
        built.model, rank=1
    ),
    "AutoLaplaceApproximation": lambda built: autoguide.AutoLaplaceApproximation(built.model),
}
# Conjugate, positive unknowns, a simplex, vectors, nested and subsampled plates, masks, a network.
MODELS = [
    "normal_normal",
    "gamma_poisson",
    "dirichlet_categorical",
    "logistic_regression",
    "nested_plates",
    "subsampled_local_unknowns",
    "masked_unknowns",
    "eight_schools",
    "variational_autoencoder",
]
ALL = list(itertools.product(LOSSES, GUIDES, MODELS))
# Each loss, each guide and each model at least once.
SAMPLE = [
    (list(LOSSES)[i % len(LOSSES)], list(GUIDES)[(3 * i + 1) % len(GUIDES)], MODELS[i % 8])
    for i in range(8)
]
# Eight schools have no most probable point: on the way to it a change of 1e-15 grows to 2e-5.
COMPILED = [
    (loss, "AutoNormal" if (guide, model) == ("AutoDelta", "eight_schools") else guide, model)
    for loss, guide, model in SAMPLE
]


def inference(loss, guide, model, dtype=torch.float64):
    built = models.ENTRIES[model].build(ENGINE, dtype=dtype)
    guide = GUIDES[guide](built)
    svi = SVI(built.model, guide, optim.Adam({"lr": 0.01}), LOSSES[loss](), params=store())
    return svi, built.args


def store():
    return pplkit.ParamStore()


def same(loss, guide, model):
    """50 steps of the graph, uncompiled, against as many in Python on the same noise."""
    torch.manual_seed(0)
    svi, args = inference(loss, guide, model)
    try:
        with handlers.seed(rng_seed=1):
            svi.step(*args)  # makes the parameters
    except errors.PplkitError as fault:
        # Not every loss takes every guide: the captured step says the same.
        with pytest.raises(type(fault)), handlers.seed(rng_seed=1):
            capture_step(svi, *args)
        return
    step = agrees(svi, *args, steps=50)
    assert all(leaf.dtype == torch.float64 for leaf in step.carried()["free"].values())


@pytest.mark.parametrize("loss, guide, model", SAMPLE)
def test_a_sample(loss, guide, model):
    same(loss, guide, model)


@pytest.mark.long
@pytest.mark.parametrize("loss, guide, model", [c for c in ALL if c not in SAMPLE])
def test_all(loss, guide, model):
    same(loss, guide, model)


@pytest.mark.long
@pytest.mark.parametrize("dtype, rtol", [(torch.float64, 1e-6), (torch.float32, 1e-3)])
@pytest.mark.parametrize("loss, guide, model", COMPILED)
def test_the_sample_compiled(loss, guide, model, dtype, rtol):
    """500 steps by Inductor's kernels against as many in Python."""
    runs = []
    for compile in (True, False):
        torch.manual_seed(0)
        svi, args = inference(loss, guide, model, dtype)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", errors.PplkitWarning)  # as where it is not compiled
                runs.append(svi.run(500, *args, compile=compile, progress_bar=False))
        except errors.PplkitError as fault:
            runs.append(type(fault))
    compiled, eager = runs
    if isinstance(eager, type):
        assert compiled is eager
        return
    torch.testing.assert_close(compiled.losses, eager.losses, rtol=rtol, atol=rtol)
    for name, value in eager.params.items():
        torch.testing.assert_close(compiled.params[name], value, rtol=rtol, atol=rtol)


def test_the_sample_covers_everything():
    for cases in (SAMPLE, COMPILED):
        for part, whole in zip(zip(*cases, strict=True), (LOSSES, GUIDES, MODELS[:8]), strict=True):
            assert set(part) == set(whole)
