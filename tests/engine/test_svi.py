import math

import pytest
import torch

import pplkit
import pplkit.distributions as dist
from pplkit import errors, handlers, optim, param, plate, sample
from pplkit.infer.feed import Feed
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


def stepped(svi, steps):
    """Steps taken one by one, on the noise that a run draws."""
    feed, losses = Feed(), []
    for step in range(steps):
        feed.at(step)
        with feed.serving(everywhere=False):
            losses.append(svi.step(DATA))
    return losses


def test_run_is_step_repeated():
    with handlers.seed(rng_seed=0):
        svi = SVI(model, guide, Adam({"lr": 0.01}), Trace_ELBO())
        steps = [*stepped(svi, 12), *stepped(svi, 8)]
    reached = pplkit.get_param_store()["loc"].item()
    pplkit.clear_param_store()
    with handlers.seed(rng_seed=0):
        svi = SVI(model, guide, Adam({"lr": 0.01}), Trace_ELBO())
        first, second = svi.run(12, DATA), svi.run(8, DATA)
    assert torch.equal(torch.cat([first.losses, second.losses]), torch.tensor(steps))
    assert second.params["loc"].item() == reached


def test_run_zero_steps():
    result = SVI(model, guide, Adam({"lr": 0.01}), Trace_ELBO()).run(0, DATA)
    assert result.losses.shape == (0,) and result.params == {}


@pytest.mark.parametrize("num_steps", [-1, 2.0, None, True])
def test_run_impossible_steps(num_steps):
    with pytest.raises(errors.UsageError, match="num_steps"):
        SVI(model, guide, Adam({"lr": 0.01}), Trace_ELBO()).run(num_steps, DATA)


def test_settings_by_parameter():
    def settings(name):
        return {"lr": 0.5 if name == "loc" else 0.001}

    svi = SVI(model, guide, Adam(settings), Trace_ELBO())
    svi.step(DATA)
    store = pplkit.get_param_store()
    assert abs(abs(store["loc"].item() - 0.3) - 0.5) < 1e-4
    assert abs(store["scale"].item() - 0.8) < 0.01


def test_a_guide_that_lacks_a_site():
    with pytest.raises(errors.ModelError, match="(?s)in model but not guide: {'z'}"):
        SVI(model, lambda data: None, Adam({"lr": 0.1}), Trace_ELBO()).step(DATA)


def test_a_guide_with_a_misspelt_site():
    def wrong(data):
        sample("zz", dist.Normal(0.0, 1.0))

    with pytest.raises(errors.ModelError, match="(?s)not model: {'zz'}.*did you mean 'z'"):
        SVI(model, wrong, Adam({"lr": 0.1}), Trace_ELBO()).step(DATA)


def test_a_guide_of_another_shape():
    def wrong(data):
        sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    with pytest.raises(errors.ShapeError, match="(?s)event_dims disagree at site 'z'"):
        SVI(model, wrong, Adam({"lr": 0.1}), Trace_ELBO()).step(DATA)


def test_data_without_a_plate():
    def unplated(data):
        z = sample("z", dist.Normal(0.0, 1.0))
        sample("obs", dist.Normal(z, 0.5), obs=data)

    expected = r"(?s)at site 'obs', invalid log_prob shape.*plate\('data', 4\).*\.to_event\(1\)"
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
        (lambda: SVI(model, guide, torch.optim.LBFGS, Trace_ELBO()), "needs no closure"),
        (lambda: SVI(model, guide, Adam({}), Trace_ELBO(), params={}), "a ParamStore"),
        (lambda: SVI(model, guide, Adam({}), loss=1.0), "an instance"),
    ],
)
def test_wrong_settings(build, message):
    with pytest.raises(errors.UsageError, match=message):
        build()


# -- parameters of its own ---------------------------------------------------------------------


def test_an_inference_can_own_its_parameters():
    """What another cell has left in the current store is neither used nor touched."""
    param("loc", torch.zeros(3))
    own = pplkit.ParamStore()
    svi = SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO(), params=own)
    svi.step(DATA)
    result = svi.run(5, DATA)
    assert math.isfinite(svi.evaluate_loss(DATA))
    assert result.params["loc"] == own["loc"].detach() != 0.3
    assert pplkit.get_param_store()["loc"].shape == (3,)
    with svi.params:
        assert param("loc").shape == ()


def test_a_failed_first_step_leaves_no_parameters():
    def broken(data):
        param("left", torch.tensor(1.0))
        sample("z", dist.Normal(param("loc", torch.tensor(math.inf)), 1.0))

    for attempt in (lambda svi: svi.step(DATA), lambda svi: svi.run(3, DATA)):
        with pytest.raises((errors.InferenceError, errors.DistributionError)):
            attempt(SVI(model, broken, Adam({"lr": 0.1}), Trace_ELBO()))
        assert len(pplkit.get_param_store()) == 0


# -- runs --------------------------------------------------------------------------------------


def failing_at(number, bad):
    """A model whose step of this number, counted from 1, has the given observation."""
    taken = []

    def program(data):
        taken.append(1)
        z = sample("z", dist.Normal(0.0, 1.0))
        with plate("data", len(data)):
            x = bad if len(taken) >= number else data
            sample("obs", dist.Normal(z, 0.5), obs=x)

    return program


@pytest.mark.parametrize("number", [1, 2, 7, 30])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(
    "make", [Adam, optim.ClippedAdam, lambda a: optim.PyroOptim(torch.optim.Adamax, a)]
)
def test_a_run_that_fails_stops_where_it_failed(number, bad, make):
    """Parameters as after the steps before, and the error tells step and site."""
    with handlers.seed(rng_seed=0):
        svi = SVI(model, guide, make({"lr": 0.05}), Trace_ELBO())
        svi.run(number - 1, DATA)
    reached = {name: value.item() for name, value in pplkit.get_param_store().items()}
    pplkit.clear_param_store()
    broken = failing_at(number, torch.full((4,), bad))
    with handlers.seed(rng_seed=0):
        svi = SVI(broken, guide, make({"lr": 0.05}), Trace_ELBO())
        with pytest.raises((errors.InferenceError, errors.DistributionError)) as caught:
            svi.run(60, DATA)
    assert caught.value.site == "obs"
    if isinstance(caught.value, errors.InferenceError):
        assert f"the loss of step {number} " in str(caught.value)
    store = pplkit.get_param_store()
    assert {name: value.item() for name, value in store.items()} == reached


def test_the_failed_step_is_taken_again_with_its_own_draws():
    """One draw in many breaks the model: the error shows the very one, and nothing moves after."""

    def fragile(data):
        z = sample("z", dist.Normal(0.0, 1.0))
        sample("y", dist.Normal(0.0, torch.where(z > 2.5, math.nan, 1.0)), obs=torch.tensor(0.0))

    def still(data):
        sample("z", dist.Normal(param("loc", torch.tensor(0.0)), 1.0))

    messages = []  # site, steps taken, parameter reached
    for together in (False, True):
        pplkit.clear_param_store()
        with handlers.seed(rng_seed=5):
            svi = SVI(fragile, still, optim.SGD({"lr": 1e-4}), Trace_ELBO())
            with pytest.raises((errors.InferenceError, errors.DistributionError)) as caught:
                svi.run(2000, DATA) if together else stepped(svi, 2000)
        reached = pplkit.get_param_store()["loc"].item()
        messages.append((caught.value.site, svi._steps, reached))
    assert messages[0] == messages[1] and messages[0][0] == "y" and messages[0][1] > 10


def waits_during(monkeypatch, action):
    waits = []
    with monkeypatch.context() as patch:
        for name in ("item", "tolist", "__bool__", "__float__", "__int__", "numpy", "__index__"):
            original = getattr(torch.Tensor, name)

            def counted(self, *args, _name=name, _original=original, **kwargs):
                waits.append(_name)
                return _original(self, *args, **kwargs)

            patch.setattr(torch.Tensor, name, counted)
        action()
    return len(waits)


@pytest.mark.parametrize("make", [Adam, optim.ClippedAdam, optim.SGD, optim.RMSprop])
def test_a_run_does_not_wait_for_each_step(monkeypatch, make):
    svi = SVI(model, guide, make({"lr": 0.01}), Trace_ELBO(num_particles=2))
    svi.run(1, DATA)
    monkeypatch.setattr("pplkit.infer.svi._SECONDS", math.inf)
    assert waits_during(monkeypatch, lambda: svi.run(300, DATA)) == 3


def test_losses_stay_where_they_were_computed(device):
    data = DATA.to(device)

    def program(data):
        z = sample("z", dist.Normal(torch.zeros((), device=device), 1.0))
        with plate("data", len(data)):
            sample("obs", dist.Normal(z, 0.5), obs=data)

    def normal(data):
        sample("z", dist.Normal(param("loc", torch.tensor(0.3, device=device)), 0.5))

    result = SVI(program, normal, Adam({"lr": 0.01}), Trace_ELBO()).run(5, data)
    assert result.losses.shape == (5,) and result.losses.device.type == device.type
    assert not result.losses.requires_grad and not result.params["loc"].requires_grad


def test_a_parameter_that_appears_late():
    """A step that makes a new parameter is looked at before the next."""
    seen = []

    def growing(data):
        seen.append(1)
        loc = param("loc", torch.tensor(0.0))
        if len(seen) > 5:
            loc = loc + param("late", torch.tensor(0.0))
        sample("z", dist.Normal(loc, 1.0))

    result = SVI(model, growing, Adam({"lr": 0.1}), Trace_ELBO()).run(20, DATA)
    assert set(result.params) == {"loc", "late"} and result.params["late"] != 0


def test_a_progress_bar_only_when_asked(capsys):
    svi = SVI(model, guide, Adam({"lr": 0.01}), Trace_ELBO())
    svi.run(10, DATA)
    assert capsys.readouterr() == ("", "")
    svi.run(10, DATA, progress_bar=True)
    shown = capsys.readouterr().err
    assert "10/10" in shown and "loss=" in shown


def test_a_schedule_goes_on_with_every_step_of_a_run():
    settings = {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": 0.9}
    scheduler = optim.ExponentialLR(settings)
    SVI(model, guide, scheduler, Trace_ELBO()).run(10, DATA)
    assert scheduler.options("loc")["lr"] == pytest.approx(0.1 * 0.9**10)
    ours = optim.ExponentialLR(settings)
    svi = SVI(model, guide, ours, Trace_ELBO())
    svi.step(DATA)
    assert ours.options("loc")["lr"] == 0.1  # by step, the caller says when
    ours.step()
    assert ours.options("loc")["lr"] == pytest.approx(0.09)


# -- losses and optimisers of others -----------------------------------------------------------


def test_a_loss_of_ones_own():
    def negative_log_joint(model, guide, data):
        run = handlers.trace(guide).get_trace(data)
        return -handlers.trace(handlers.replay(model, trace=run)).get_trace(data).log_prob_sum()

    def point(data):
        sample("z", dist.Delta(param("loc", torch.tensor(0.0))))

    svi = SVI(model, point, Adam({"lr": 0.05}), negative_log_joint)
    svi.run(400, DATA)
    assert abs(pplkit.get_param_store()["loc"] - 12.8 / 17) < 0.01
    assert isinstance(svi.evaluate_loss(DATA), float)


@pytest.mark.parametrize("of_torch", [False, True])
def test_optimisers_of_torch_move_modules(of_torch):
    net = torch.nn.Linear(2, 1)
    before = net.weight.detach().clone()

    def program(x, y):
        pplkit.module("net", net)
        with plate("data", len(x)):
            sample("y", dist.Normal(net(x).squeeze(-1), 0.1), obs=y)

    x = torch.randn(20, 2)
    y = x @ torch.tensor([1.0, -2.0]) + 0.5
    optimiser = torch.optim.Adam(net.parameters(), lr=0.05) if of_torch else Adam({"lr": 0.05})
    SVI(program, lambda x, y: None, optimiser, Trace_ELBO()).run(400, x, y)
    assert not torch.equal(net.weight, before)
    torch.testing.assert_close(net.weight[0], torch.tensor([1.0, -2.0]), rtol=0, atol=0.02)


def test_an_optimiser_of_torch_must_hold_what_is_read():
    svi = SVI(model, guide, torch.optim.Adam([torch.zeros(1)]), Trace_ELBO())
    with pytest.raises(errors.UsageError, match="does not hold parameter 'loc'"):
        svi.step(DATA)


def test_a_class_of_torch_will_do():
    result = SVI(model, guide, torch.optim.Adam, Trace_ELBO()).run(3, DATA)
    assert result.params["loc"] != 0.3
