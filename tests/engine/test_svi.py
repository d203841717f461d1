import math

import pytest
import torch

import pplkit
import pplkit.distributions as dist
from pplkit import errors, handlers, param, plate, sample
from pplkit.infer import SVI, Trace_ELBO
from pplkit.optim import Adam


def model(data):
    z = sample("z", dist.Normal(0.0, 1.0))
    with plate("data", len(data)):
        sample("obs", dist.Normal(z, 0.5), obs=data)


def guide(data):
    loc = param("loc", torch.tensor(0.3))
    scale = param("scale", torch.tensor(0.8), constraint=dist.constraints.positive)
    sample("z", dist.Normal(loc, scale))


DATA = torch.tensor([1.2, 0.8, 1.5, -0.3])


def negative_elbo(loc, scale):
    """In closed form: expected negative log-joint, less the guide's entropy."""
    prior = 0.5 * (loc**2 + scale**2) + 0.5 * math.log(2 * math.pi)
    terms = (
        0.5 * ((DATA - loc) ** 2 + scale**2) / 0.25 + math.log(0.5) + 0.5 * math.log(2 * math.pi)
    )
    return prior + terms.sum() - (0.5 + 0.5 * math.log(2 * math.pi) + torch.log(scale))


def test_loss_and_gradient_are_unbiased():
    loc, log_scale = torch.tensor(0.3, requires_grad=True), torch.tensor(0.8).log().requires_grad_()
    exact = negative_elbo(loc, log_scale.exp())
    exact_grads = torch.autograd.grad(exact, [loc, log_scale])
    repeats = plate("repeats", 10_000, dim=-2)
    with handlers.seed(rng_seed=0):
        loss = Trace_ELBO().differentiable_loss(repeats(model), repeats(guide), DATA) / 10_000
    store = pplkit.get_param_store()
    grads = torch.autograd.grad(loss, [store.unconstrained("loc"), store.unconstrained("scale")])
    assert abs(loss - exact) < 0.15
    torch.testing.assert_close(torch.stack(grads), torch.stack(exact_grads), rtol=0.02, atol=0.2)


def test_score_function_gradients_are_unbiased():
    """Against the derivative of the ELBO summed over all values."""
    weights = torch.tensor([0.3, -1.2, 0.7])

    def program():
        with plate("data", 3):
            k = sample("k", dist.Bernoulli(0.4))
            sample("w", dist.Normal(weights * k, 1.0), obs=torch.tensor([1.0, 0.5, -0.2]))

    def coins():
        q = param("q", torch.full((3,), 0.5), constraint=dist.constraints.unit_interval)
        with plate("data", 3):
            sample("k", dist.Bernoulli(q))

    handlers.seed(coins, rng_seed=0)()
    leaf = pplkit.get_param_store().unconstrained("q")
    q = torch.distributions.biject_to(dist.constraints.unit_interval)(leaf)
    exact = 0.0
    for k in (0.0, 1.0):
        k = torch.full((3,), k)
        log_p = torch.distributions.Bernoulli(0.4).log_prob(k) + torch.distributions.Normal(
            weights * k, 1.0
        ).log_prob(torch.tensor([1.0, 0.5, -0.2]))
        log_q = torch.distributions.Bernoulli(q).log_prob(k)
        exact = exact - (log_q.exp() * (log_p - log_q)).sum()
    (expected,) = torch.autograd.grad(exact, leaf)
    repeats = plate("repeats", 10_000, dim=-2)
    with handlers.seed(rng_seed=1):
        loss = Trace_ELBO().differentiable_loss(repeats(program), repeats(coins)) / 10_000
    (grad,) = torch.autograd.grad(loss, leaf)
    # Rao-Blackwell: a row's gradient has the noise of that row alone.
    torch.testing.assert_close(grad, expected, rtol=0.0, atol=0.015)


def test_a_step_waits_for_the_device_once(monkeypatch):
    svi = SVI(model, guide, Adam({"lr": 0.01}), Trace_ELBO())
    svi.step(DATA)
    waits = []
    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "numpy", "cpu", "__index__"):
        original = getattr(torch.Tensor, name)

        def counted(self, *args, _name=name, _original=original, **kwargs):
            waits.append(_name)
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, counted)
    svi.step(DATA)
    assert len(waits) == 1


def test_run_is_step_repeated():
    with handlers.seed(rng_seed=0):
        svi = SVI(model, guide, Adam({"lr": 0.01}), Trace_ELBO())
        steps = [svi.step(DATA) for _ in range(20)]
    stepped = pplkit.get_param_store()["loc"].item()
    pplkit.clear_param_store()
    with handlers.seed(rng_seed=0):
        svi = SVI(model, guide, Adam({"lr": 0.01}), Trace_ELBO())
        first, second = svi.run(12, DATA), svi.run(8, DATA)
    assert torch.equal(torch.cat([first.losses, second.losses]), torch.tensor(steps))
    assert second.params["loc"].item() == stepped


def test_run_zero_steps():
    result = SVI(model, guide, Adam({"lr": 0.01}), Trace_ELBO()).run(0, DATA)
    assert result.losses.shape == (0,) and result.params == {}


@pytest.mark.parametrize("num_steps", [-1, 2.0, None, True])
def test_run_impossible_steps(num_steps):
    with pytest.raises(errors.UsageError, match="num_steps"):
        SVI(model, guide, Adam({"lr": 0.01}), Trace_ELBO()).run(num_steps, DATA)


def test_adam_is_torchs_adam():
    start, grads = torch.randn(3), torch.randn(50, 3)
    theirs = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([theirs], lr=0.03, betas=(0.8, 0.99), weight_decay=0.1)
    ours, adam = start.clone(), Adam({"lr": 0.03, "betas": (0.8, 0.99), "weight_decay": 0.1})
    for grad in grads:
        theirs.grad = grad.clone()
        optimiser.step()
        adam.move({"x": ours}, {"x": grad})
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-6)


def test_settings_by_parameter():
    def settings(name):
        return {"lr": 0.5 if name == "loc" else 0.001}

    svi = SVI(model, guide, Adam(settings), Trace_ELBO())
    svi.step(DATA)
    store = pplkit.get_param_store()
    assert abs(abs(store["loc"].item() - 0.3) - 0.5) < 1e-4
    assert abs(store["scale"].item() - 0.8) < 0.01


def test_a_guide_that_lacks_a_site():
    with pytest.raises(errors.ModelError, match="(?s)in model but not in guide: {'z'}"):
        SVI(model, lambda data: None, Adam({"lr": 0.1}), Trace_ELBO()).step(DATA)


def test_a_guide_with_a_misspelt_site():
    def wrong(data):
        sample("zz", dist.Normal(0.0, 1.0))

    with pytest.raises(errors.ModelError, match="(?s)not in model: {'zz'}.*did you mean 'z'"):
        SVI(model, wrong, Adam({"lr": 0.1}), Trace_ELBO()).step(DATA)


def test_a_guide_of_another_shape():
    def wrong(data):
        sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    with pytest.raises(errors.ShapeError, match="(?s)shapes disagree at site 'z'"):
        SVI(model, wrong, Adam({"lr": 0.1}), Trace_ELBO()).step(DATA)


def test_data_without_a_plate():
    def unplated(data):
        z = sample("z", dist.Normal(0.0, 1.0))
        sample("obs", dist.Normal(z, 0.5), obs=data)

    expected = r"(?s)at site 'obs', invalid log_prob shape.*plate\(..., 4\).*\.to_event\(1\)"
    with pytest.raises(errors.ShapeError, match=expected):
        SVI(unplated, guide, Adam({"lr": 0.1}), Trace_ELBO()).step(DATA)


def test_a_failed_step_changes_nothing():
    svi = SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO())
    svi.step(DATA)
    store = pplkit.get_param_store()
    before = {name: value.clone() for name, value in store.items()}
    expected = r"(?s)the loss of step 2 is not finite|at site 'obs' to be within the support"
    with pytest.raises((errors.InferenceError, errors.DistributionError), match=expected):
        svi.step(torch.tensor([1.0, float("nan")]))
    assert all(torch.equal(before[name], store[name]) for name in before)
    assert math.isfinite(svi.step(DATA))


def test_an_infinite_loss_names_the_site():
    def infinite(data):
        sample("z", dist.Normal(0.0, 1.0))
        sample("obs", dist.Delta(torch.tensor(1.0)), obs=torch.tensor(2.0))

    with pytest.raises(errors.InferenceError, match="(?s)the loss of step 1.*first at site 'obs'"):
        SVI(infinite, guide, Adam({"lr": 0.1}), Trace_ELBO()).step(DATA)


def test_an_interrupted_run_keeps_what_it_reached():
    seen = []

    def interrupted(data):
        seen.append(1)
        if len(seen) == 10:
            raise KeyboardInterrupt
        model(data)

    with pytest.raises(KeyboardInterrupt), handlers.seed(rng_seed=0):
        SVI(interrupted, guide, Adam({"lr": 0.1}), Trace_ELBO()).run(100, DATA)
    assert pplkit.get_param_store()["loc"] != 0.3


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SVI(None, guide, Adam({"lr": 0.1}), Trace_ELBO()), "SVI cannot use this model"),
        (lambda: SVI(model, guide, {"lr": 0.1}, Trace_ELBO()), "SVI cannot use this optim"),
        (lambda: SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO), "an instance"),
        (lambda: Adam({"learning_rate": 0.1}), "Adam has no setting 'learning_rate'"),
        (lambda: Adam({"lr": -0.1}), "learning rate"),
        (lambda: Adam(0.1), "settings in a dictionary"),
        (lambda: Trace_ELBO(num_particles=0), "num_particles"),
    ],
)
def test_wrong_settings(build, message):
    with pytest.raises(errors.UsageError, match=message):
        build()
