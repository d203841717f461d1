"""The three programs of the first chapter, against closed forms and against Pyro."""

import math

import pyro
import pyro.distributions as pyro_dist
import pytest
import torch

import pplkit
import pplkit.distributions as dist
from pplkit import handlers, param, plate, sample
from pplkit.infer import SVI, Trace_ELBO
from pplkit.optim import Adam

DATA = (1.2, 0.8, 1.5, -0.3)


@pytest.fixture
def data(device):
    return torch.tensor(DATA, device=device)


def normal():
    return sample("x", dist.Normal(0.0, 1.0))


def coins(probs):
    with plate("data", len(probs)):
        return sample("y", dist.Bernoulli(probs))


def location(data):
    z = sample("z", dist.Normal(torch.zeros((), device=data.device), 1.0))
    with plate("data", len(data)):
        return sample("obs", dist.Normal(z, 0.5), obs=data)


def location_guide(data):
    loc = param("loc", torch.zeros((), device=data.device))
    scale = param("scale", torch.ones((), device=data.device), constraint=dist.constraints.positive)
    sample("z", dist.Normal(loc, scale))


# -- program 1 ------------------------------------------------------------------------------------


def test_without_a_plate_a_draw_is_a_scalar():
    assert normal().shape == ()


def test_in_a_plate_the_same_statement_draws_every_row():
    with plate("data", size=3):
        x = normal()
    assert x.shape == (3,)
    assert len(set(x.tolist())) == 3


def test_a_plate_needs_no_model_around_it():
    with plate("data", 3) as rows:
        assert rows.tolist() == [0, 1, 2]


def test_the_draws_are_those_of_the_distribution():
    with handlers.seed(rng_seed=0), plate("data", 100_000):
        x = normal()
    assert abs(x.mean()) < 4 / math.sqrt(1e5)
    assert abs(x.var() - 1) < 4 * math.sqrt(2 / 1e5)


# -- program 2 ------------------------------------------------------------------------------------


def test_coins_in_a_plate(device):
    y = coins(torch.tensor([0.2, 0.6, 0.9], device=device))
    assert y.shape == (3,)
    assert set(y.tolist()) <= {0.0, 1.0}
    assert y.device.type == device.type


def test_each_coin_keeps_its_own_probability():
    probs = torch.tensor([0.2, 0.6, 0.9])
    with handlers.seed(rng_seed=1), plate("repeats", 20_000, dim=-2):
        frequencies = coins(probs).mean(0)
    standard_errors = (probs * (1 - probs) / 20_000).sqrt()
    assert bool(((frequencies - probs).abs() < 4 * standard_errors).all())


def test_coins_are_one_statement_not_a_loop(device):
    tr = handlers.trace(coins).get_trace(torch.tensor([0.2, 0.6, 0.9], device=device))
    assert tr.stochastic_nodes == ["y"]


# -- program 3 ------------------------------------------------------------------------------------


def test_the_observed_tensor_comes_back(data):
    assert location(data) is data


def test_the_trace_knows_every_site(data):
    tr = handlers.trace(location).get_trace(data)
    z, obs = tr.nodes["z"], tr.nodes["obs"]
    assert (z.is_observed, obs.is_observed) == (False, True)
    assert type(z.fn) is type(obs.fn) is dist.Normal
    assert obs.value is data
    expected_z = -0.5 * z.value**2 - 0.5 * math.log(2 * math.pi)
    expected = -0.5 * ((data - z.value) / 0.5) ** 2 - math.log(0.5) - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(z.log_prob, expected_z)
    torch.testing.assert_close(obs.log_prob, expected)
    torch.testing.assert_close(tr.log_prob_sum(), expected_z + expected.sum())


def test_the_trace_agrees_with_pyro(data):
    def pyro_location(data):
        z = pyro.sample("z", pyro_dist.Normal(torch.zeros((), device=data.device), 1.0))
        with pyro.plate("data", len(data)):
            return pyro.sample("obs", pyro_dist.Normal(z, 0.5), obs=data)

    with handlers.seed(rng_seed=7):
        ours = handlers.trace(location).get_trace(data)
    pyro.set_rng_seed(7)
    theirs = pyro.poutine.trace(pyro_location).get_trace(data)
    theirs.compute_log_prob()
    if data.device.type == "cpu":
        assert ours.nodes["z"].value == theirs.nodes["z"]["value"]
    conditioned = handlers.condition(location, data={"z": theirs.nodes["z"]["value"]})
    ours = handlers.trace(conditioned).get_trace(data)
    for name in ("z", "obs"):
        torch.testing.assert_close(ours.nodes[name].log_prob, theirs.nodes[name]["log_prob"])
    assert ours.nodes["obs"].fn.batch_shape == theirs.nodes["obs"]["fn"].batch_shape


def test_svi_reaches_the_exact_posterior(data):
    def fitted(lr, steps):
        elbo = Trace_ELBO(num_particles=8)
        return SVI(location, location_guide, Adam({"lr": lr}), loss=elbo).run(steps, data)

    with handlers.seed(rng_seed=0):
        fitted(0.05, 300)
        result = fitted(0.003, 700)
    assert abs(result.params["loc"].item() - 12.8 / 17) < 0.02
    assert abs(result.params["scale"].item() - 1 / math.sqrt(17)) < 0.02
    assert result.params["loc"].device.type == data.device.type


def test_svi_step_by_step_as_in_pyro(data):
    pplkit.set_rng_seed(0)
    svi = SVI(location, location_guide, pplkit.optim.Adam({"lr": 0.01}), loss=Trace_ELBO())
    losses = [svi.step(data) for _ in range(2500)]
    store = pplkit.get_param_store()
    assert abs(store["loc"].item() - 12.8 / 17) < 0.02
    assert abs(store["scale"].item() - 1 / math.sqrt(17)) < 0.02
    assert all(isinstance(loss, float) for loss in losses[:3])
    # At the exact posterior every draw gives the same loss: the evidence.
    evidence = torch.distributions.MultivariateNormal(
        torch.zeros(4), 0.25 * torch.eye(4) + torch.ones(4, 4)
    ).log_prob(data.cpu())
    assert abs(sum(losses[-200:]) / 200 + evidence.item()) < 0.05
