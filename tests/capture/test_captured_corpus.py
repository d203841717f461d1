"""Each model of the corpus, captured at one size, gives what it gives eagerly at every size.

A model that fixes a size (it loops over rows, or closes over tensors of so many) is captured anew
for each, and the captured program of another size must not answer in its place.
"""

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_structure

import pplkit
from pplkit import handlers
from pplkit.capture import capture
from pplkit.errors import CaptureError, PplkitError
from tests import models

FAULTS = (PplkitError, IndexError, RuntimeError, ValueError)
ENGINE = models.backend("pplkit")
MANY = 100_000
# Not at 10^5: a Python loop over rows, or work that grows with the square or cube of the size.
LARGEST = {
    **{name: e.sizes[-1] for name, e in models.ENTRIES.items() if "loop" in e.tags},
    **dict.fromkeys(["gaussian_process", "square_plates", "crossed_plates"], 300),
    "low_rank_noise": 1000,
    "three_levels": 40,
    "change_point": 1000,
}
REFUSED = {
    "subsampled_loop": "asking a tensor for its number cannot be captured",
    "stochastic_branch": "asking a tensor for its number cannot be captured",
    "recursion": "asking a tensor for its number cannot be captured",
}
NO_DRAWS = {"improper_prior"}
# Data are indexed before they are forgotten: a graph leaves out what nothing depends on.
INDEXED_IN_VAIN = {"subsampled_nested_plates", "shared_plate"}
CAPTURED = [name for name in models.ENTRIES if name not in REFUSED]


def log_joint(program):
    def run(latent, *args):
        given = handlers.condition(program.model, data=latent)
        return handlers.trace(given).get_trace(*args).log_prob_sum()

    return run


def prior_draw(program):
    def run(*args):
        tr = handlers.trace(handlers.uncondition(program.model)).get_trace(*args)
        return {site.name: site.value for site in tr.sites("sample") if site.value.numel()}

    return run


def built(name, size):
    """The program at a size, and values for what it does not observe."""
    pplkit.clear_param_store()
    program = models.ENTRIES[name].build(ENGINE, size)
    with handlers.seed(rng_seed=size or 0), torch.no_grad():
        drawn = handlers.trace(program.guide).get_trace(*program.args)
    return program, {n: drawn.nodes[n].value.detach() for n in drawn.stochastic_nodes}


def sizes_of(name, many=True):
    entry = models.ENTRIES[name]
    if len(entry.sizes) == 1:
        return [1]
    return [*entry.sizes[:-1], LARGEST.get(name, MANY)] if many else entry.sizes[:-1]


def agree(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9, equal_nan=True)


def replayed(captured, args):
    """The captured program on these arguments and noise, against the function on the same."""
    noise = captured.draw_noise(*args, seed=3)
    found = captured(*args, noise=noise)
    agree(found, captured.eager(*args, noise=noise))
    if not captured.noise:
        agree(found, captured.fn(*args))


def on_others(captured, fn, args, told=True):
    """The program on another size's arguments. Where the function it was made from takes them,
    they agree; where not, it is captured anew.
    """
    same_structure = tree_structure(args) == captured._spec
    try:
        captured.fn(*args)
        runs = same_structure
    except FAULTS:
        runs = False
    if runs:
        replayed(captured, args)
    elif told:
        with pytest.raises(FAULTS):
            captured(*args)
    if not runs or closes_over_sizes(captured.fn, fn, args):
        replayed(capture(fn, *args, check=False), args)


def closes_over_sizes(one, other, args):
    """Whether the two functions differ on these arguments: they are for different sizes."""
    with handlers.seed(rng_seed=0):
        ours = tree_leaves(one(*args))
    with handlers.seed(rng_seed=0):
        theirs = tree_leaves(other(*args))
    return any(
        a.shape != b.shape or bool((a != b).any()) for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("name", CAPTURED)
def test_log_joint(name):
    program, latent = built(name, None)
    captured = capture(log_joint(program), latent, *program.args, check=False)
    for size in sizes_of(name):
        program, latent = built(name, size)
        on_others(captured, log_joint(program), (latent, *program.args))


@pytest.mark.parametrize(
    "many", [False, pytest.param(True, marks=pytest.mark.long)], ids=["few", "many"]
)
@pytest.mark.parametrize("name", [name for name in CAPTURED if name not in NO_DRAWS])
def test_prior_draw(name, many):
    program, _ = built(name, None)
    captured = capture(prior_draw(program), *program.args, check=False)
    for size in sizes_of(name, many):
        program, _ = built(name, size)
        told = name not in INDEXED_IN_VAIN
        on_others(captured, prior_draw(program), program.args, told)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_refused_is_refused_by_name(name):
    program, latent = built(name, None)
    for fn, args in ((log_joint(program), (latent,)), (prior_draw(program), ())):
        with pytest.raises(CaptureError, match=REFUSED[name]) as told:
            capture(fn, *args, *program.args)
        assert told.value.where.filename == models.__file__


def test_a_prior_without_draws_says_so_as_it_does_eagerly():
    program, _ = built("improper_prior", None)
    with pytest.raises(PplkitError, match="ImproperUniform has no draws"):
        capture(prior_draw(program), *program.args)
