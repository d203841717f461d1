"""Steps recorded on a device and played: the device decides, the host asks once."""

import pytest
import torch
import torch.utils._pytree as pytree

import pplkit
import pplkit.distributions as dist
from pplkit import optim, param, plate, sample
from pplkit.capture import capture_step
from pplkit.capture.program import _inputs
from pplkit.capture.replay import Gated, Replay, recording
from pplkit.infer import SVI, Trace_ELBO
from pplkit.infer.feed import Feed


def model(data):
    z = sample("z", dist.Normal(torch.zeros((), device=data.device), 1.0))
    with plate("data", len(data)):
        sample("obs", dist.Normal(z, 0.5), obs=data)


def guide(data):
    loc = param("loc", lambda: torch.full((), 0.3, device=data.device))
    scale = param("scale", lambda: torch.full((), 0.8, device=data.device))
    sample("z", dist.Normal(loc, scale))


@pytest.fixture(scope="module")
def data(device):
    return torch.tensor([1.2, 0.8, 1.5, -0.3, 0.4], device=device)


@pytest.fixture(scope="module")
def step(data):
    svi = SVI(model, guide, optim.Adam({"lr": 0.01}), Trace_ELBO(), params=pplkit.ParamStore())
    return capture_step(svi, data)


@pytest.fixture(scope="module")
def program(step, data):
    return step.captured._program_for((step.carried(), step.rates(), (data,), {}))[0]


@pytest.fixture(scope="module")
def replay(step, program, device):
    gated = Gated(program.traced.graph, parts(step))
    return Replay(gated, program, parts(step), recording(device))


def parts(step):
    return len(pytree.tree_leaves(step.carried()))


def noise(steps, device):
    return torch.randn(steps, device=device, generator=torch.Generator(device).manual_seed(1))


def played(replay, step, data, rows):
    """Steps played from the start: how many went well, what was carried on, and the losses."""
    carried = step.carried()
    program, leaves, sizes = step.captured._program_for((carried, step.rates(), (data,), {}))
    losses = torch.empty(len(rows), device=data.device)
    taken = replay.run(len(rows), sizes, [*_inputs(program, leaves), rows], losses)
    return taken, carried, losses


def taken_singly(step, data, rows):
    carried, losses = step.carried(), []
    for row in rows:
        carried, loss, _ = step(carried, data, noise=[row])
        losses.append(loss)
    return carried, torch.stack(losses)


@pytest.mark.parametrize("steps", [1, 31, 32, 75])
def test_played_steps_are_the_steps(device, data, step, replay, steps):
    rows = noise(steps, device)
    taken, carried, losses = played(replay, step, data, rows)
    expected, singly = taken_singly(step, data, rows)
    assert taken == steps
    torch.testing.assert_close(losses, singly)
    torch.testing.assert_close(carried, expected)
    assert carried["past"]["loc"]["steps"].item() == steps


def test_other_data_and_another_size(device, data, step, replay):
    rows = noise(40, device)
    for other in (data, data + 1.0, torch.linspace(-2.0, 4.0, 1001, device=device)):
        _, carried, losses = played(replay, step, other, rows)
        expected, singly = taken_singly(step, other, rows)
        torch.testing.assert_close(losses, singly, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(carried, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bad", [0, 5, 31, 32, 63, 69])
def test_after_a_step_that_fails_none_changes_anything(device, data, step, replay, bad):
    rows = noise(70, device)
    rows[bad] = torch.nan
    taken, carried, _ = played(replay, step, data, rows)
    assert taken == bad
    expected, _ = taken_singly(step, data, rows[:bad]) if bad else (step.carried(), None)
    torch.testing.assert_close(carried, expected)


def test_a_run_is_played_in_stretches(device, data, step):
    start = step.carried()
    torch.manual_seed(3)
    carried, losses = step._played(recording(device), start, 1100, (data,), {})
    torch.manual_seed(3)
    feed, rows = Feed(), []
    for k in range(1100):
        feed.at(k)
        rows.append(feed.take("normal", (), torch.float32, device))
    expected, singly = taken_singly(step, data, rows)
    torch.testing.assert_close(losses, singly, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(carried["free"], expected["free"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(start, step.carried())  # what was given is as it was
