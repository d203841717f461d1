"""Program 3 as a figure: exact where it has a closed form, and the fit agrees with it
everywhere.
"""

from __future__ import annotations

import itertools
import math

import ipywidgets
import pytest
import torch

import pplwidgets

from .conftest import same

EXTREMES = itertools.product((-3.0, 3.0), (0.1, 2.0), (0.1, 2.0), (1, 300))
FEW = [
    *EXTREMES,
    (0.0, 1.0, 0.5, 4),
    (0.0, 2.0, 2.0, 2),
    (1.0, 0.5, 1.0, 17),
    (3.0, 2.0, 2.0, 30),
]


@pytest.fixture(scope="module")
def figure():
    made = pplwidgets.prior_to_posterior()
    yield made
    made.close()


def test_it_starts_at_the_chapters_program(figure):
    assert repr(figure) == "LiveFigure(prior_mean=0.0, prior_scale=1.0, noise=0.5, plate_size=4)"
    made = figure.evaluate(prior_mean=0.0, prior_scale=1.0, noise=0.5, plate_size=4)
    assert torch.equal(made["points"]["z"], torch.tensor([1.2, 0.8, 1.5, -0.3]))
    assert math.isclose(made["exact"]["mean"], 12.8 / 17, abs_tol=1e-6)
    assert math.isclose(made["exact"]["sd"], 17**-0.5, abs_tol=1e-6)


@pytest.mark.parametrize(("mean", "scale", "noise", "size"), FEW)
def test_the_exact_posterior_is_exact_and_the_fit_agrees(figure, mean, scale, noise, size):
    made = figure.evaluate(prior_mean=mean, prior_scale=scale, noise=noise, plate_size=size)
    data = made["points"]["z"].double()
    precision = scale**-2 + size * noise**-2
    exact = (mean * scale**-2 + data.sum().item() * noise**-2) / precision
    assert math.isclose(made["exact"]["mean"], exact, abs_tol=1e-5)
    assert math.isclose(made["exact"]["sd"], precision**-0.5, rel_tol=1e-5)
    assert abs(made["fitted"]["mean"].item() - exact) < 0.02
    assert abs(made["fitted"]["sd"].item() - precision**-0.5) < 0.02


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_fit_agrees_for_every_draw(figure, seed):
    made = figure.evaluate(prior_mean=3.0, prior_scale=2.0, noise=2.0, plate_size=1, seed=seed)
    for name in ("mean", "sd"):
        assert abs(made["fitted"][name].item() - made["exact"][name].item()) < 0.02


def test_curves_are_what_they_are_called(figure):
    made = figure.evaluate(prior_mean=-1.0, prior_scale=0.5, noise=1.0, plate_size=9)
    data = made["points"]["z"]
    truths = {
        "prior": (-1.0, 0.5),
        "likelihood": (data.mean().item(), 1 / 3),
        "posterior": (made["exact"]["mean"].item(), made["exact"]["sd"].item()),
        "guide": (made["fitted"]["mean"].item(), made["fitted"]["sd"].item()),
    }
    for name, (mean, sd) in truths.items():
        z, height = made[name]["z"], made[name]["height"]
        assert torch.allclose(height, torch.exp(-0.5 * ((z - mean) / sd) ** 2), atol=1e-4), name
        assert height.max() == 1.0


def test_a_growing_plate_appends_whatever_else_moves(figure):
    rows = figure.evaluate(plate_size=300)["points"]["z"]
    for size, noise in ((1, 0.5), (5, 2.0), (16, 0.1), (299, 1.0)):
        made = figure.evaluate(plate_size=size, noise=noise, prior_mean=2.0)
        assert torch.equal(made["points"]["z"], rows[:size])


def test_a_new_draw_keeps_what_was_observed(figure):
    one, other = (figure.evaluate(plate_size=20, seed=seed)["points"]["z"] for seed in (0, 1))
    assert torch.equal(one[:4], other[:4]) and not torch.equal(one[4:], other[4:])
    assert figure._words["random"]


def test_the_same_controls_give_the_same_picture(figure):
    assert same(figure.evaluate(noise=1.0), figure.evaluate(noise=1.0))


def test_its_controls_and_data_are_open():
    slider = ipywidgets.FloatSlider(min=0.2, max=0.8, value=0.4)
    made = pplwidgets.prior_to_posterior(observed=[0.0, 1.0], noise=slider)
    assert made.plate_size == 2 and made.noise == 0.4
    made.noise = 0.6
    assert slider.value == 0.6


def test_it_has_the_names_that_readers_meet(figure):
    labels = [control["label"] for control in figure._controls]
    assert labels == ["prior mean", "prior scale", "noise", "plate size"]
    html = figure.still()
    for name in ("prior", "likelihood", "exact posterior", "fitted guide"):
        assert f'aria-label="{name}"' in html
