"""Estimators of the ELBO: against Pyro's with the same draws, and against closed forms."""

import math

import pyro
import pyro.distributions
import pyro.infer
import pyro.poutine
import pytest
import torch

import pplkit
import pplkit.distributions as dist
from pplkit import errors, handlers, infer, param, plate, sample
from pplkit.infer import ELBO, RenyiELBO, Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from pplkit.infer.elbo import plate_nesting

DATA = torch.tensor([1.2, 0.8, 1.5, -0.3], dtype=torch.float64)


@pytest.fixture(autouse=True)
def double_precision():
    pyro.clear_param_store()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def number(value):
    return torch.tensor(value, dtype=torch.float64)


# -- programs, each for either engine ----------------------------------------------------------


def normal_mean(ppl, dist):
    def model():
        z = ppl.sample("z", dist.Normal(0.0, 1.0))
        with ppl.plate("data", 4):
            ppl.sample("obs", dist.Normal(z, 0.5), obs=DATA)

    def guide():
        loc = ppl.param("loc", number(0.3))
        scale = ppl.param("scale", number(0.8), constraint=dist.constraints.positive)
        ppl.sample("z", dist.Normal(loc, scale))

    return model, guide


def hierarchy(ppl, dist):
    """Latent rows inside a subsampled plate, with scales; the same order in both."""
    rows = torch.tensor([0, 2])

    def model():
        mu = ppl.sample("mu", dist.Normal(0.0, 3.0))
        tau = ppl.sample("tau", dist.Gamma(2.0, 1.0))
        with ppl.plate("rows", 4, subsample=rows):
            theta = ppl.sample("theta", dist.Normal(mu, tau))
            ppl.sample("y", dist.Normal(theta, 1.0), obs=DATA[rows])

    def guide():
        loc = ppl.param("loc", number(0.1))
        rate = ppl.param("rate", number(1.5), constraint=dist.constraints.positive)
        locs = ppl.param("locs", torch.zeros(4))
        ppl.sample("mu", dist.Normal(loc, 0.5))
        ppl.sample("tau", dist.Gamma(3.0, rate))
        with ppl.plate("rows", 4, subsample=rows):
            ppl.sample("theta", dist.Normal(locs[rows], 0.3))

    return model, guide


def mixture(ppl, dist):
    """Discrete rows, a discrete variable outside them, and a continuous one between."""
    locs = torch.tensor([-1.0, 0.5, 2.0])

    def model():
        wide = ppl.sample("wide", dist.Bernoulli(0.3))
        shift = ppl.sample("shift", dist.Normal(0.0, 1.0))
        with ppl.plate("data", 4):
            k = ppl.sample("k", dist.Categorical(torch.tensor([0.3, 0.3, 0.4])))
            ppl.sample("obs", dist.Normal(locs[k] + shift, 0.5 + wide), obs=DATA)

    def guide():
        q = ppl.param("q", number(0.6), constraint=dist.constraints.unit_interval)
        loc = ppl.param("loc", number(0.2))
        logits = ppl.param("logits", torch.zeros(4, 3))
        wide = ppl.sample("wide", dist.Bernoulli(q))
        ppl.sample("shift", dist.Normal(loc + wide, 0.4))
        with ppl.plate("data", 4):
            ppl.sample("k", dist.Categorical(logits=logits))

    return model, guide


def chain(ppl, dist):
    """Two discrete variables; the second depends on the first, in model and guide."""

    def model():
        a = ppl.sample("a", dist.Bernoulli(0.4))
        b = ppl.sample("b", dist.Bernoulli(0.2 + 0.5 * a))
        ppl.sample("c", dist.Normal(b, 1.0), obs=number(0.7))
        ppl.sample("d", dist.Normal(a, 1.0), obs=number(-0.2))

    def guide():
        p = ppl.param("p", number(0.5), constraint=dist.constraints.unit_interval)
        r = ppl.param("r", torch.tensor([0.3, 0.6]), constraint=dist.constraints.unit_interval)
        a = ppl.sample("a", dist.Bernoulli(p))
        ppl.sample("b", dist.Bernoulli(r[a.long()]))

    return model, guide


def masked(ppl, dist):
    where = torch.tensor([True, False, True, True])

    def model():
        z = ppl.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with ppl.plate("data", 4), ppl.poutine.mask(mask=where), ppl.poutine.scale(scale=2.5):
            k = ppl.sample("k", dist.Bernoulli(0.3))
            ppl.sample("obs", dist.Normal(z.sum(-1) + k, 0.5), obs=DATA)

    def guide():
        loc = ppl.param("loc", torch.tensor([0.1, -0.4]))
        q = ppl.param("q", torch.full((4,), 0.4), constraint=dist.constraints.unit_interval)
        ppl.sample("z", dist.Normal(loc, 0.7).to_event(1))
        with ppl.plate("data", 4), ppl.poutine.mask(mask=where), ppl.poutine.scale(scale=2.5):
            ppl.sample("k", dist.Bernoulli(q))

    return model, guide


def loss_and_grads(ours: bool, program, name, **settings):
    """One estimate and its gradients, from the global generator's seed 0."""
    ppl, store = (pplkit, pplkit.get_param_store()) if ours else (pyro, pyro.get_param_store())
    model, guide = program(ppl, ppl.distributions)
    elbo = getattr(ppl.infer, name)(**settings)
    if ours:
        guide()
    else:
        with pyro.poutine.block():
            guide()
    torch.manual_seed(0)
    loss = elbo.loss_and_grads(model, guide)
    leaves = dict(store.named_parameters())
    return loss, {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}


def assert_same_as_pyro(program, name, **settings):
    loss, grads = loss_and_grads(True, program, name, **settings)
    expected, their_grads = loss_and_grads(False, program, name, **settings)
    assert loss == pytest.approx(expected, rel=1e-10)
    assert grads.keys() == their_grads.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(grad, their_grads[name], rtol=1e-8, atol=1e-8)


PROGRAMS = [normal_mean, hierarchy, mixture, chain, masked]
PARTICLES = [
    {},
    {"num_particles": 3},
    {"num_particles": 3, "vectorize_particles": True, "max_plate_nesting": 1},
]


@pytest.mark.parametrize("settings", PARTICLES, ids=["one", "three", "vectorised"])
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", ["Trace_ELBO", "TraceGraph_ELBO"])
def test_same_draws_same_loss_and_gradients(program, name, settings):
    if program is chain and settings.get("vectorize_particles"):
        settings = {**settings, "max_plate_nesting": 0}
    assert_same_as_pyro(program, name, **settings)


@pytest.mark.parametrize("settings", PARTICLES, ids=["one", "three", "vectorised"])
@pytest.mark.parametrize("program", [normal_mean, hierarchy])
def test_mean_field_same_as_pyro(program, settings):
    assert_same_as_pyro(program, "TraceMeanField_ELBO", **settings)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 2.0, -1.0])
@pytest.mark.parametrize("program", [normal_mean, hierarchy, chain])
@pytest.mark.parametrize("vectorised", [False, True])
def test_renyi_same_as_pyro(program, alpha, vectorised):
    settings = {"alpha": alpha, "num_particles": 4, "vectorize_particles": vectorised}
    assert_same_as_pyro(program, "RenyiELBO", max_plate_nesting=1, **settings)


def local(ppl, dist):
    """Every site inside one plate: each row has a bound of its own."""

    def model():
        with ppl.plate("data", 4):
            z = ppl.sample("z", dist.Normal(0.0, 1.0))
            ppl.sample("obs", dist.Normal(z, 0.5), obs=DATA)

    def guide():
        with ppl.plate("data", 4):
            ppl.sample("z", dist.Normal(ppl.param("locs", torch.zeros(4)), 0.6))

    return model, guide


@pytest.mark.parametrize("vectorised", [False, True])
def test_renyi_bounds_each_row(vectorised):
    settings = {"num_particles": 5, "vectorize_particles": vectorised, "max_plate_nesting": 1}
    assert_same_as_pyro(local, "RenyiELBO", **settings)


def test_renyi_approaches_the_evidence():
    """With many particles: log N(DATA; 0, 0.25 I + 1 1ᵀ), whatever the guide."""
    model, guide = normal_mean(pplkit, dist)
    covariance = 0.25 * torch.eye(4) + torch.ones(4, 4)
    evidence = torch.distributions.MultivariateNormal(torch.zeros(4), covariance).log_prob(DATA)
    with handlers.seed(rng_seed=0):
        elbo = RenyiELBO(num_particles=100_000, vectorize_particles=True, max_plate_nesting=1)
        assert elbo.loss(model, guide) == pytest.approx(-evidence.item(), abs=0.03)


# -- closed forms ------------------------------------------------------------------------------


def test_mean_field_has_no_noise_left_but_the_likelihoods():
    """KL(N(0.3, 0.8²) || N(0, 1)) in closed form; nothing else is in this model."""

    def model():
        sample("z", dist.Normal(0.0, 1.0))

    _, guide = normal_mean(pplkit, dist)
    loss = TraceMeanField_ELBO().loss(model, guide)
    assert loss == pytest.approx(0.5 * (0.8**2 + 0.3**2 - 1) - math.log(0.8), rel=1e-12)


@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceGraph_ELBO])
def test_score_gradients_agree_with_enumeration(elbo):
    model, guide = chain(pplkit, dist)
    guide()
    store = pplkit.get_param_store()
    leaves = [store.unconstrained("p"), store.unconstrained("r")]
    p, r = store["p"], store["r"]
    exact = 0.0
    for a in (0.0, 1.0):
        for b in (0.0, 1.0):
            normal, coin = torch.distributions.Normal, torch.distributions.Bernoulli
            log_p = coin(0.4).log_prob(number(a)) + coin(0.2 + 0.5 * a).log_prob(number(b))
            log_p = log_p + normal(b, 1.0).log_prob(number(0.7))
            log_p = log_p + normal(a, 1.0).log_prob(number(-0.2))
            log_q = coin(p).log_prob(number(a)) + coin(r[int(a)]).log_prob(number(b))
            exact = exact - log_q.exp() * (log_p - log_q)
    expected = torch.autograd.grad(exact, leaves)
    n = 40_000
    with handlers.seed(rng_seed=1):
        loss = elbo(num_particles=n, vectorize_particles=True, max_plate_nesting=0)
        loss = loss.differentiable_loss(vectorisable_chain, guide)
    grads = torch.autograd.grad(loss, leaves)
    assert loss.item() == pytest.approx(exact.item(), abs=0.02)
    for grad, exactly in zip(grads, expected, strict=True):
        torch.testing.assert_close(grad, exactly, rtol=0.0, atol=0.012)


def vectorisable_chain():
    a = sample("a", dist.Bernoulli(0.4))
    b = sample("b", dist.Bernoulli(0.2 + 0.5 * a))
    sample("c", dist.Normal(b, 1.0), obs=number(0.7))
    sample("d", dist.Normal(a, 1.0), obs=number(-0.2))


def gradient_noise(elbo, model, guide, name, runs=300):
    draws = []
    guide()
    leaf = pplkit.get_param_store().unconstrained(name)
    with handlers.seed(rng_seed=3):
        for _ in range(runs):
            loss = elbo.differentiable_loss(model, guide)
            draws.append(torch.autograd.grad(loss, leaf)[0])
    draws = torch.stack(draws)
    return draws.mean(0), draws.std(0)


def test_the_graph_leaves_out_what_a_draw_does_not_touch():
    """Two coins with nothing in common: the first's gradient has none of the second's noise."""

    def model():
        sample("a", dist.Bernoulli(0.4))
        b = sample("b", dist.Bernoulli(0.5))
        sample("c", dist.Normal(10.0 * b, 1.0), obs=number(0.0))

    def guide():
        p = param("p", number(0.5), constraint=dist.constraints.unit_interval)
        sample("a", dist.Bernoulli(p))
        sample("b", dist.Bernoulli(0.5))

    mean, noise = gradient_noise(Trace_ELBO(), model, guide, "p")
    graph_mean, graph_noise = gradient_noise(TraceGraph_ELBO(), model, guide, "p")
    assert graph_noise < 0.1 * noise
    assert abs(mean - graph_mean) < 4 * noise / 300**0.5


def test_a_baseline_lowers_the_noise_and_keeps_the_mean():
    baseline = {"use_decaying_avg_baseline": True, "baseline_beta": 0.8}

    def program(advice):
        def model():
            sample("a", dist.Bernoulli(0.4))
            sample("c", dist.Normal(0.0, 1.0), obs=number(6.0))

        def guide():
            p = param("p", number(0.5), constraint=dist.constraints.unit_interval)
            sample("a", dist.Bernoulli(p), infer=advice)

        return model, guide

    mean, noise = gradient_noise(Trace_ELBO(), *program({}), "p")
    other, less = gradient_noise(Trace_ELBO(), *program({"baseline": baseline}), "p")
    assert less[()] < 0.5 * noise
    assert abs(mean - other) < 4 * noise / 300**0.5
    assert "__baseline_avg_downstream_cost_a" in pplkit.get_param_store()


@pytest.mark.parametrize(
    "advice",
    [
        {"baseline_value": "learnt"},
        {"use_decaying_avg_baseline": True},
        {"nn_baseline": lambda x: 2.0 * x, "nn_baseline_input": number(-1.5)},
        {"use_decaying_avg_baseline": True, "baseline_value": "learnt", "baseline_beta": 0.5},
    ],
    ids=["value", "average", "network", "both"],
)
def test_baselines_are_pyros(advice):
    def program(ppl, dist):
        def model():
            with ppl.plate("data", 4):
                k = ppl.sample("k", dist.Bernoulli(0.3))
                ppl.sample("obs", dist.Normal(k, 0.5), obs=DATA)
            ppl.sample("one", dist.Bernoulli(0.5))

        def guide():
            q = ppl.param("q", torch.full((4,), 0.4), constraint=dist.constraints.unit_interval)
            value = ppl.param("value", number(1.5))
            given = {k: value if v == "learnt" else v for k, v in advice.items()}
            with ppl.plate("data", 4):
                ppl.sample("k", dist.Bernoulli(q))
            p = ppl.param("p", number(0.7), constraint=dist.constraints.unit_interval)
            ppl.sample("one", dist.Bernoulli(p), infer={"baseline": given})

        return model, guide

    assert_same_as_pyro(program, "TraceGraph_ELBO")


# -- particles ---------------------------------------------------------------------------------


def test_nesting_is_found_by_one_run():
    model, guide = hierarchy(pplkit, dist)
    elbo = Trace_ELBO(num_particles=7, vectorize_particles=True)
    with handlers.seed(rng_seed=0):
        loss = elbo.differentiable_loss(model, guide).detach()
    assert elbo.max_plate_nesting == 1
    assert loss.shape == () and math.isfinite(loss.item())
    with handlers.trace() as outside:
        assert plate_nesting(model, guide) == 1
    assert len(outside.trace) == 0  # nothing of the run is seen further out


def test_particles_at_once_are_particles_one_by_one():
    """Both estimate the same: means over many, within their noise."""
    model, guide = hierarchy(pplkit, dist)
    with handlers.seed(rng_seed=0):
        at_once = Trace_ELBO(num_particles=20_000, vectorize_particles=True).loss(model, guide)
        singly = [Trace_ELBO(num_particles=50).loss(model, guide) for _ in range(8)]
    spread = torch.tensor(singly).std() / 8**0.5
    assert abs(at_once - sum(singly) / 8) < 5 * spread


def test_loops_keep_to_their_rows():
    """A plate that is looped over: each row's score counts that row's terms alone."""

    def model():
        for i in plate("rows", 2):
            k = sample(f"k_{i}", dist.Bernoulli(0.5))
            sample(f"obs_{i}", dist.Normal(30.0 * i * k, 1.0), obs=number(0.0))

    def guide():
        p = param("p", torch.tensor([0.5, 0.5]), constraint=dist.constraints.unit_interval)
        for i in plate("rows", 2):
            sample(f"k_{i}", dist.Bernoulli(p[i]))

    _, noise = gradient_noise(Trace_ELBO(), model, guide, "p")
    assert noise[0] < 1 < 50 < noise[1]


# -- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Trace_ELBO(num_particles=0), "num_particles"),
        (lambda: Trace_ELBO(num_particles=2.0), "num_particles"),
        (lambda: Trace_ELBO(num_particles=True), "num_particles"),
        (lambda: ELBO(max_plate_nesting=-1), "max_plate_nesting"),
        (lambda: RenyiELBO(alpha=1), "for alpha = 1 use Trace_ELBO"),
        (lambda: RenyiELBO(alpha=math.inf), "alpha"),
        (lambda: RenyiELBO(alpha="0"), "alpha"),
    ],
)
def test_wrong_settings(build, message):
    with pytest.raises(errors.UsageError, match=message):
        build()


def test_settings_of_pyros_are_accepted():
    infer.JitTrace_ELBO(ignore_jit_warnings=True, jit_options={"check_trace": False})
    assert Trace_ELBO(max_iarange_nesting=2, retain_graph=True).max_plate_nesting == 2


def test_mean_field_needs_differentiable_draws():
    def model():
        sample("k", dist.Bernoulli(0.5))

    with pytest.raises(errors.ModelError, match="(?s)fully reparameterized: site 'k'.*Trace_ELBO"):
        TraceMeanField_ELBO().loss(model, model)


def test_mean_field_says_when_it_cannot_tell():
    def model():
        x = sample("x", dist.Normal(0.0, 1.0))
        sample("y", dist.Normal(x, 1.0))

    def guide():
        y = sample("y", dist.Normal(0.0, 1.0))
        sample("x", dist.Normal(y, 1.0))

    with pytest.warns(UserWarning, match="(?s)Failed to verify mean field.*Model: x, y"):
        TraceMeanField_ELBO().loss(model, guide)


@pytest.mark.parametrize(
    ("advice", "error", "message"),
    [
        ({"decay": 1.0}, errors.UsageError, "Unrecognized baseline options at site 'k': 'decay'"),
        (
            {"baseline_value": torch.zeros(3)},
            errors.ShapeError,
            r"Expected baseline at site 'k' to be \(\) instead got \(3,\)",
        ),
        (
            {"baseline_value": torch.zeros(()), "nn_baseline": lambda x: x},
            errors.UsageError,
            "cannot use baseline_value and nn_baseline simultaneously",
        ),
    ],
)
def test_wrong_baselines(advice, error, message):
    def model():
        sample("k", dist.Bernoulli(0.5))

    def guide():
        q = param("q", number(0.5), constraint=dist.constraints.unit_interval)
        sample("k", dist.Bernoulli(q), infer={"baseline": advice})

    with pytest.raises(error, match=message):
        Trace_ELBO().differentiable_loss(model, guide)
