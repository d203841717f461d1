"""What the corpus claims to know, against what the engine computes.

Where a guide can be the posterior, each of its draws must earn the log evidence, to rounding: the
one test that needs no tolerance for noise, and that no wrong density, scale or Jacobian survives.
"""

import itertools
import math

import pytest
import torch

import pplkit
from pplkit import handlers
from pplkit.infer import Trace_ELBO
from tests.conformance.test_corpus import Given
from tests.models import EIGHT_SCHOOLS_PUBLISHED, ENTRIES, backend

every_entry = pytest.mark.parametrize("name", ENTRIES)


def program(name, size=None, **kind):
    pplkit.clear_param_store()
    return ENTRIES[name].build(backend("pplkit"), size, **kind)


def test_the_corpus_is_wide():
    assert len(ENTRIES) >= 40
    tags = {tag for entry in ENTRIES.values() for tag in entry.tags}
    assert tags == {"score", "subsample", "loop", "branch"}
    assert all(entry.function.__doc__ for entry in ENTRIES.values())


@every_entry
def test_the_best_guide_earns_the_evidence(name, device):
    """Exactly, not on average over draws.

    Where draws differ, the mean over them is taken exactly as well: over every choice of a plate's
    rows, and over points that have a Normal's mean and covariance, for quadratic log-densities.
    """
    subsampled = "subsample" in ENTRIES[name].tags
    for size in (3,) if subsampled else ENTRIES[name].sizes[:3]:
        built = program(name, size, device=device)
        truth = built.truth()
        if truth.params is None or truth.gap is None:
            continue
        known = {key: value.to(device) for key, value in truth.params.items()}
        with handlers.seed(rng_seed=0), handlers.substitute(data=known):
            given = points(built) if subsampled or truth.gap else [{}, {}]
            elbos = []
            for values in given:
                with Given(values):
                    elbos.append(-Trace_ELBO().loss(built.model, built.guide, *built.args))
        expected = truth.log_evidence.item() - truth.gap
        assert sum(elbos) / len(elbos) == pytest.approx(expected, rel=1e-9, abs=1e-9), size
        if not (subsampled or truth.gap):
            assert elbos[0] == pytest.approx(elbos[1], rel=1e-9, abs=1e-9), size


def points(built) -> list[dict]:
    """Draws of the guide over which the mean of a quadratic form is its expectation."""
    with handlers.trace() as tracer:
        built.guide(*built.args)
        handlers.block(built.model, hide_types=["sample", "param", "deterministic"])(*built.args)
    plates = {p.name: p.fn for p in tracer.trace.sites("plate")}
    choices = [
        [torch.tensor(rows) for rows in itertools.combinations(range(fn.size), fn.subsample_size)]
        for fn in plates.values()
    ]
    found = []
    for rows in itertools.product(*choices):
        rows = dict(zip(plates, rows, strict=True))
        with Given(rows):
            sites = handlers.trace(built.guide).get_trace(*built.args).sites("sample")
        found += [rows | values for values in sigma_points(sites)]
    return found


def sigma_points(sites) -> list[dict]:
    """Two per coordinate, at plus and minus sqrt(dimension) standard deviations from the mean."""
    means = {s.name: s.fn.mean for s in sites}
    dimension = sum(mean.numel() for mean in means.values())
    found = []
    for site in sites:
        for at in range(means[site.name].numel()):
            step = torch.zeros_like(means[site.name]).flatten()
            step[at] = dimension**0.5
            step = step.reshape(means[site.name].shape) * site.fn.variance.sqrt()
            for sign in (1, -1):
                found.append(means | {site.name: means[site.name] + sign * step})
    return found


VECTORISED = [name for name in ENTRIES if "branch" not in ENTRIES[name].tags]


@pytest.mark.parametrize("name", VECTORISED)
def test_particles_drawn_at_once(name, device):
    """A plate around guide and model, further left than theirs: the same evidence, thrice over."""
    built = program(name, device=device)
    truth = built.truth()
    known = {key: value.to(device) for key, value in (truth.params or {}).items()}
    elbo = Trace_ELBO(num_particles=3, vectorize_particles=True)
    with handlers.seed(rng_seed=0), handlers.substitute(data=known):
        loss = elbo.loss(built.model, built.guide, *built.args)
    assert math.isfinite(loss)
    if truth.params and truth.gap == 0.0 and "subsample" not in ENTRIES[name].tags:
        assert -loss == pytest.approx(truth.log_evidence.item(), rel=1e-9, abs=1e-9)


@every_entry
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_one_dtype_throughout(name, dtype, device):
    """Whatever floats is of the entry's dtype: values, log-probabilities, parameters, the loss."""
    built = program(name, dtype=dtype, device=device)
    tracer = handlers.trace(built.guide)
    with handlers.seed(rng_seed=0):
        guide = tracer.get_trace(*built.args)
        model = handlers.trace(handlers.replay(built.model, trace=guide)).get_trace(*built.args)
        loss = Trace_ELBO().differentiable_loss(built.model, built.guide, *built.args)
    sites = [s for tr in (guide, model) for s in tr.sites("sample", "param", "deterministic")]
    found = {f"value of {s.name}": s.value for s in sites}
    found |= {f"log_prob of {s.name}": s.log_prob for s in sites if s.type == "sample"}
    found |= dict(pplkit.get_param_store().named_parameters()) | {"loss": loss}
    floats = {key: tensor for key, tensor in found.items() if tensor.is_floating_point()}
    assert {k: t.dtype for k, t in floats.items() if t.dtype != dtype} == {}
    assert {k: t.device for k, t in found.items() if t.device.type != device.type} == {}


@every_entry
def test_the_largest_size(name, device):
    entry = ENTRIES[name]
    built = program(name, entry.sizes[-1], device=device)
    with handlers.seed(rng_seed=0):
        loss = Trace_ELBO().loss(built.model, built.guide, *built.args)
    assert math.isfinite(loss)


def test_eight_schools_as_published():
    """Our quadrature against posteriordb's draws, within four of their standard errors."""
    truth = program("eight_schools").truth()
    for site, (mean, error) in EIGHT_SCHOOLS_PUBLISHED.items():
        difference = (truth.mean[site] - torch.tensor(mean, dtype=torch.float64)).abs()
        assert bool((difference < 4 * torch.tensor(error)).all()), site


QUADRATURE = {
    "logistic_regression": {"a_loc", "b_loc"},
    "poisson_regression": {"a_loc", "b_loc"},
    "robust_regression": {"a_loc", "b_loc"},
    "laplace_regression": {"a_loc", "b_loc"},
    "cauchy_location": {"loc_loc"},
    "negative_binomial_rate": {"logit_loc"},
    "ordinal_opinion": {"leaning_loc"},
    "half_normal_scale": {"scale_loc"},
    "weibull_scale": {"scale_loc"},
    "mixture_gap": {"gap_loc"},
    "zero_inflation": set(),
}


@pytest.mark.parametrize("name", QUADRATURE)
def test_quadrature_agrees_with_importance_sampling(name):
    """Weighted draws of a guide near the posterior know evidence, mean and spread, with errors."""
    built, count = program(name), 20_000
    truth = built.truth()
    known = {}
    for key in QUADRATURE[name]:
        site = key.removesuffix("_loc")
        mean, sd = truth.mean[site], truth.sd[site]
        if name in ("half_normal_scale", "weibull_scale", "mixture_gap"):
            mean, sd = mean.log(), sd / mean
        known |= {key: mean, f"{site}_scale": 1.4 * sd}
    repeats = pplkit.plate("repeats", count, dim=-2)
    with handlers.seed(rng_seed=0), handlers.substitute(data=known):
        guide = handlers.trace(repeats(built.guide)).get_trace(*built.args)
        model = handlers.replay(repeats(built.model), trace=guide)
        model = handlers.trace(model).get_trace(*built.args)
    log_weight = total(model, count) - total(guide, count)
    weight = (log_weight - truth.log_evidence).exp()
    assert abs(weight.mean() - 1) < 5 * weight.std() / count**0.5
    p = weight / weight.sum()
    for site, mean in truth.mean.items():
        z = guide.nodes[site].value.flatten()
        assert abs(p @ z - mean) < 5 * (p**2 @ (z - mean) ** 2).sqrt()
        spread, sd = (z - mean) ** 2, truth.sd[site]
        assert abs(p @ spread - sd**2) < 5 * (p**2 @ (spread - sd**2) ** 2).sqrt()


def total(trace, count):
    """Log-probability of each repeat."""
    return sum(s.log_prob.expand(count, -1).sum(-1) for s in trace.sites("sample"))
