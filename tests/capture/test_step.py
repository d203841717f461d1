"""A captured step of SVI does what an eager step does, parameters of any size included."""

import pytest
import torch

import pplkit
from pplkit import handlers, optim
from pplkit.capture import GivenNoise, capture_step
from pplkit.capture.loop import loop
from pplkit.errors import CaptureError
from pplkit.infer import (
    SVI,
    RenyiELBO,
    Trace_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    autoguide,
)
from tests import models
from tests.capture.steps import agrees

ENGINE = models.backend("pplkit")
REFUSED = {"subsampled_loop", "stochastic_branch", "recursion"}
# Of several makes: conjugate, subsampled plates, discrete unknowns, networks.
SOME = [
    "normal_normal",
    "gamma_poisson",
    "subsampled_local_unknowns",
    "cluster_labels",
    "variational_autoencoder",
]


def program(name, size=None):
    return models.ENTRIES[name].build(ENGINE, size)


def inference(built, optimiser=None, loss=None, guide=None):
    optimiser = optimiser or optim.Adam({"lr": 0.01})
    guide = guide or built.guide
    return SVI(built.model, guide, optimiser, loss or Trace_ELBO(), params=pplkit.ParamStore())


@pytest.mark.parametrize("name", SOME)
def test_models(name):
    built = program(name)
    agrees(inference(built), *built.args)


@pytest.mark.long
@pytest.mark.parametrize("name", [n for n in models.ENTRIES if n not in {*SOME, *REFUSED}])
def test_all_models(name):
    built = program(name)
    agrees(inference(built), *built.args)


LOSSES = {
    "particles": lambda: Trace_ELBO(num_particles=3),
    "vectorised": lambda: Trace_ELBO(num_particles=3, vectorize_particles=True),
    "mean-field": lambda: TraceMeanField_ELBO(),
    "graph": lambda: TraceGraph_ELBO(),
    "renyi": lambda: RenyiELBO(alpha=0.5, num_particles=2),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_losses(loss):
    built = program("normal_normal")
    agrees(inference(built, loss=LOSSES[loss]()), *built.args)


@pytest.mark.long
@pytest.mark.parametrize("loss", [name for name in LOSSES if name != "mean-field"])
@pytest.mark.parametrize("name", ["cluster_labels", "hidden_markov", "eight_schools"])
def test_losses_of_other_models(name, loss):
    built = program(name)
    agrees(inference(built, loss=LOSSES[loss]()), *built.args)


OPTIMISERS = {
    "Adam with amsgrad and clipping": lambda: optim.Adam(
        {"lr": 0.02, "amsgrad": True, "weight_decay": 0.01}, {"clip_norm": 1.0}
    ),
    "a rate for each": lambda: optim.Adam(
        lambda name: {"lr": 0.05 if name == "z_loc" else 0.01, "betas": (0.8, 0.99)}
    ),
    "ClippedAdam": lambda: optim.ClippedAdam({"lr": 0.02, "lrd": 0.99}),
    "AdamW": lambda: optim.AdamW({"lr": 0.02}),
    "SGD": lambda: optim.SGD({"lr": 1e-3, "momentum": 0.9, "dampening": 0.1}),
    "RMSprop": lambda: optim.RMSprop({"lr": 0.01, "centered": True, "momentum": 0.5}),
    "Adagrad": lambda: optim.Adagrad({"lr": 0.1, "lr_decay": 0.01}),
    "a schedule": lambda: optim.PyroLRScheduler(
        torch.optim.lr_scheduler.ExponentialLR,
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.02}, "gamma": 0.9},
    ),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers(name):
    built = program("normal_normal")
    agrees(inference(built, OPTIMISERS[name]()), *built.args)


@pytest.mark.parametrize(
    "optimizer, more",
    [
        (torch.optim.Adam, {}),
        pytest.param(torch.optim.SGD, {"momentum": 0.8}, marks=pytest.mark.long),
        pytest.param(torch.optim.RMSprop, {"momentum": 0.5}, marks=pytest.mark.long),
    ],
)
def test_a_schedule_of_rates_and_momentum(optimizer, more):
    settings = {"optimizer": optimizer, "optim_args": {"lr": 0.01, **more}}
    built = program("normal_normal")
    svi = inference(built, optim.OneCycleLR({**settings, "max_lr": 0.05, "total_steps": 20}))
    with handlers.seed(rng_seed=1):
        svi.step(*built.args)
    step = capture_step(svi, *built.args)
    carried, seen = step.carried(), []
    for i in range(10):
        rows = step.draw_noise(carried, *built.args, seed=i)
        seen.append({key: rate.item() for key, rate in step.rates().items()})
        carried, loss, _ = step(carried, *built.args, noise=rows)
        given = iter(rows)
        with GivenNoise(lambda kind, shape, dtype, device, given=given: next(given)):
            expected = svi.step(*built.args)
        assert loss.item() == pytest.approx(expected, rel=1e-6)
        svi.optim.step()
    assert len({tuple(rates.values()) for rates in seen}) == 10 and len(seen[0]) == 4
    for name, value in carried["free"].items():
        leaf = svi.params.unconstrained(name).detach()
        torch.testing.assert_close(value, leaf, rtol=1e-6, atol=1e-9)


LONG = [pytest.param(g, marks=pytest.mark.long) for g in ("AutoMultivariateNormal", "AutoDelta")]


@pytest.mark.parametrize("guide", ["AutoNormal", *LONG])
def test_autoguides(guide):
    built = program("eight_schools")
    agrees(inference(built, guide=getattr(autoguide, guide)(built.model)), *built.args)


def test_a_running_mean_of_the_cost_goes_on():
    def model(y):
        k = pplkit.sample("k", ENGINE.dist.Bernoulli(0.5))
        pplkit.sample("y", ENGINE.dist.Normal(k, 1.0), obs=y)

    def guide(y):
        p = pplkit.param("p", torch.tensor(0.4), constraint=ENGINE.dist.constraints.unit_interval)
        advice = {"baseline": {"use_decaying_avg_baseline": True, "baseline_beta": 0.8}}
        pplkit.sample("k", ENGINE.dist.Bernoulli(p), infer=advice)

    svi = SVI(model, guide, optim.Adam({"lr": 0.05}), Trace_ELBO(), params=pplkit.ParamStore())
    agrees(svi, torch.tensor(0.7))


@pytest.mark.parametrize("name", ["normal_normal", "empirical_bayes", "nested_plates"])
def test_one_program_serves_every_number_of_rows(name):
    built = program(name)
    step = agrees(inference(built), *built.args)
    for size in (1, 2, 30):
        if name != "normal_normal":
            break  # its guide closes over the number of rows
        other = program(name, size)
        svi = inference(other)
        agrees(svi, *other.args, steps=3, step=_with(step, svi))
    assert len(step.captured.programs) == 1


def test_parameters_with_a_row_for_each_datum():
    def model(y):
        with pplkit.plate("rows", len(y)):
            z = pplkit.sample("z", ENGINE.dist.Normal(torch.zeros(()), 2.0))
            pplkit.sample("y", ENGINE.dist.Normal(z, 1.0), obs=y)

    def guide(y):
        loc = pplkit.param("loc", lambda: torch.zeros(len(y)))
        with pplkit.plate("rows", len(y)):
            pplkit.sample("z", ENGINE.dist.Normal(loc, 0.8))

    def fresh():
        return SVI(model, guide, optim.Adam({"lr": 0.1}), Trace_ELBO(), params=pplkit.ParamStore())

    step = agrees(fresh(), torch.randn(5), steps=5)
    for n in (1, 2, 40):
        svi = fresh()
        agrees(svi, torch.randn(n), steps=5, step=_with(step, svi))
    assert len(step.captured.programs) == 1


def test_sizes_that_are_the_same_by_chance_are_not_taken_for_one():
    def model(x, y, table):
        slope = pplkit.sample("slope", ENGINE.dist.Normal(0.0, 1.0))
        with pplkit.plate("rows", len(x)):
            pplkit.sample("y", ENGINE.dist.Normal(slope * x, 1.0), obs=y)
        with pplkit.plate("i", table.shape[0], dim=-2), pplkit.plate("j", table.shape[1], dim=-1):
            pplkit.sample("t", ENGINE.dist.Normal(slope, 1.0), obs=table)

    def guide(x, y, table):
        loc = pplkit.param("loc", torch.zeros(7))
        pplkit.sample("slope", ENGINE.dist.Normal(loc.sum(), 0.3))

    def args(n, i, j):
        return torch.randn(n), torch.randn(n), torch.randn(i, j)

    def fresh():
        return SVI(model, guide, optim.Adam({"lr": 0.1}), Trace_ELBO(), params=pplkit.ParamStore())

    svi = fresh()
    svi.step(*args(7, 7, 7))
    step = agrees(svi, *args(7, 7, 7), steps=3)
    for sizes in ((40, 2, 9), (7, 8, 8), (5, 7, 6)):
        other = fresh()
        agrees(other, *args(*sizes), steps=3, step=_with(step, other))
    assert len(step.captured.programs) == 1


def _with(step, svi):
    """The same program, for another inference's parameters."""
    twin = object.__new__(type(step))
    twin.__dict__.update(step.__dict__, svi=svi)
    return twin


def test_a_step_that_fails_changes_nothing():
    built = program("normal_normal")
    svi = inference(built)
    svi.step(*built.args)
    step = capture_step(svi, *built.args)
    carried = step.carried()
    after, loss, well = step(carried, torch.full_like(built.args[0], torch.nan))
    assert loss.isnan() and not well
    for part in ("free", "past"):
        for ours, theirs in zip(*map(torch.utils._pytree.tree_leaves, (after, carried))):
            assert torch.equal(ours, theirs), part


def test_capturing_a_step_changes_nothing():
    built = program("normal_normal")
    svi = inference(built)
    state = torch.get_rng_state()
    capture_step(svi, *built.args)
    assert len(svi.params) == 0 and torch.equal(torch.get_rng_state(), state)
    assert svi.optim.state == {}


def test_learning_rates_are_inputs():
    built = program("normal_normal")
    svi = inference(built)
    step = agrees(svi, *built.args, steps=2)
    svi.optim.optim_args["lr"] = 0.5
    svi.optim.reset()
    svi.optim._options.clear()
    agrees(svi, *built.args, steps=2, step=step)
    assert len(step.captured.programs) == 1


def test_optimisers_that_are_no_functions_are_refused():
    built = program("normal_normal")
    with pytest.raises(CaptureError, match="Adadelta.*cannot be captured"):
        capture_step(inference(built, torch.optim.Adadelta), *built.args)


@pytest.mark.parametrize("name", sorted(REFUSED - {"subsampled_loop"}))
def test_models_that_branch_on_draws_are_refused(name):
    built = program(name)
    with pytest.raises(CaptureError, match="asking a tensor for its number") as told:
        capture_step(inference(built), *built.args)
    assert told.value.where.filename == models.__file__


# -- the loop, as one program ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["normal_normal", "gamma_poisson", "most_probable_bias"])
def test_the_whole_loop_is_one_exported_program(name):
    built = program(name)
    svi = inference(built)
    svi.step(*built.args)
    step = capture_step(svi, *built.args)
    flat = torch.utils._pytree.tree_leaves(step.carried())
    exported = loop(step.captured.programs[0], len(flat)).module()
    for size, steps in ((7, 5), (30, 9)):
        args = program(name, size).args
        carried = step.carried()
        noise = [step.draw_noise(carried, *args, seed=i) for i in range(steps)]
        rows = [torch.stack(row) for row in zip(*noise, strict=True)] or [torch.zeros(steps)]
        found = exported(*flat, *torch.utils._pytree.tree_leaves((step.rates(), args)), *rows)
        losses = []
        for given in noise:
            carried, loss, _ = step(carried, *args, noise=given)
            losses.append(loss)
        torch.testing.assert_close(found[len(flat)], torch.stack(losses))
        assert found[len(flat) + 1].all()
        for ours, theirs in zip(found, torch.utils._pytree.tree_leaves(carried), strict=False):
            torch.testing.assert_close(ours, theirs)
