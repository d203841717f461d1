"""What tests of captured steps share."""

import torch

from pplkit import handlers
from pplkit.capture import GivenNoise, capture_step


def agrees(svi, *args, steps=50, step=None):
    """Hold losses and parameters of captured steps, uncompiled, to `svi.step` on the same noise.

    Returns:
        The captured step.
    """
    with handlers.seed(rng_seed=1):
        svi.step(*args)  # makes the parameters
    step = step or capture_step(svi, *args)
    carried, first = step.carried(), step.carried()
    noise = [step.draw_noise(carried, *args, seed=i) for i in range(steps)]
    losses = []
    for rows in noise:
        carried, loss, well = step(carried, *args, noise=rows)
        assert well
        losses.append(loss)
    rows = iter([row for step in noise for row in step])
    with GivenNoise(lambda kind, shape, dtype, device: next(rows)):
        expected = [svi.step(*args) for _ in range(steps)]
    assert next(rows, None) is None
    expected = torch.tensor(expected, dtype=losses[0].dtype)
    torch.testing.assert_close(torch.stack(losses), expected, rtol=1e-6, atol=1e-9)
    for name, value in carried["free"].items():
        leaf = svi.params.unconstrained(name)
        torch.testing.assert_close(value, leaf.detach(), rtol=1e-6, atol=1e-9)
    moved = [(carried["free"][name] != first["free"][name]).any() for name in first["free"]]
    assert not moved or any(moved)
    return step
