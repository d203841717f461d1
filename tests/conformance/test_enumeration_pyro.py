"""Enumeration against Pyro's: losses, gradients, posteriors, marks, indices."""

import functools
import warnings

import pyro
import pyro.infer
import pytest
import torch
from pyro.ops.indexing import Vindex as PyroVindex

import pplkit
import pplkit.infer
from pplkit.ops.indexing import Vindex
from tests.engine.enumeration_models import ALL, CASES, F64, engine, new, noise, nothing, rows

CLOSE = {"rtol": 0, "atol": 1e-5}
ROOTS = {"pplkit": pplkit, "pyro": pyro}
PROGRAMS = {case.name: (case.build, case.nesting, {}) for case in CASES}


def also(nesting, **settings):
    def added(build):
        PROGRAMS[build.__name__] = build, nesting, settings
        return build

    return added


# -- the shapes of programs that Pyro's users write ------------------------------------------------


@also(2)
def music_that_depends_on_its_past(ppl):
    """Sequences of unequal length, padded and masked; many notes at once; notes that persist."""
    lengths, notes = torch.tensor([4, 2]), (noise(2, 4, 3, seed=1) > 0).to(F64)

    def model():
        move = ppl.param("move", rows(3, 3), constraint=ppl.dist.constraints.simplex)
        on = ppl.param("on", rows(3, 2, 3)[..., :3])
        tones = ppl.plate("tones", 3, dim=-1)
        with ppl.plate("sequences", 2, dim=-2) as i:
            before, last = torch.tensor(0), torch.zeros(2, 3, dtype=torch.long)
            for t in ppl.markov(range(4)):
                with ppl.handlers.mask(mask=(t < lengths[i]).unsqueeze(-1)):
                    before = ppl.sample(f"x_{t}", ppl.dist.Categorical(move[before]), infer=ALL)
                    with tones as j:
                        probs = ppl.Vindex(on)[before, last, j]
                        ppl.sample(f"y_{t}", ppl.dist.Bernoulli(probs), obs=notes[:, t])
                last = notes[:, t].long()

    return model, nothing


@also(1)
def votes_of_annotators(ppl):
    """Items of a hidden class, labelled by annotators each with a table of confusion."""

    def model():
        simplex = ppl.dist.constraints.simplex
        prior = ppl.param("prior", rows(2), constraint=simplex)
        confusion = ppl.param("confusion", rows(3, 2, 2, seed=3), constraint=simplex)
        with ppl.plate("items", 4):
            c = ppl.sample("c", ppl.dist.Categorical(prior), infer=ALL)
            for a in range(3):
                seen = (noise(3, 4, seed=4) > 0).long()[a]
                ppl.sample(f"vote_{a}", ppl.dist.Categorical(confusion[a][c]), obs=seen)

    return model, nothing


@also(1)
def animals_that_are_caught_again(ppl):
    """Alive or not, seen or not: states that cannot come back, in a plate, over seasons."""
    caught = torch.tensor([[1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]], dtype=F64)

    def model():
        unit = ppl.dist.constraints.unit_interval
        stay, see = ppl.param("stay", new(0.8), unit), ppl.param("see", new(0.6), unit)
        with ppl.plate("animals", 2):
            z = torch.ones(2, dtype=F64)
            for t in ppl.markov(range(4)):
                if t > 0:
                    z = ppl.sample(f"z_{t}", ppl.dist.Bernoulli(stay * z), infer=ALL)
                    ppl.sample(f"y_{t}", ppl.dist.Bernoulli(see * z), obs=caught[:, t])

    return model, nothing


@also(1, num_particles=3, vectorize_particles=True)
def particles_of_points(ppl):
    def model():
        loc = ppl.sample("loc", ppl.dist.Normal(new(0.0), 3.0))
        with ppl.plate("data", 3):
            z = ppl.sample("z", ppl.dist.Bernoulli(new(0.5)), infer=ALL)
            ppl.sample("x", ppl.dist.Normal(loc * z, 1.0), obs=noise(3))

    def guide():
        ppl.sample("loc", ppl.dist.Delta(ppl.param("at", new(0.7))))

    return model, guide


@also(2)
def subsampled_groups_with_local_choices(ppl):
    def model():
        loc = ppl.param("loc", noise(2, 2))
        with ppl.plate("groups", 6, subsample=torch.tensor([1, 4]), dim=-2) as i:
            z = ppl.sample("z", ppl.dist.Bernoulli(new(0.3)), infer=ALL).long()
            with ppl.plate("rows", 3, dim=-1):
                w = ppl.sample("w", ppl.dist.Bernoulli(new([0.2, 0.6])[z]), infer=ALL).long()
                ppl.sample("x", ppl.dist.Normal(loc[z, w], 1.0), obs=noise(6, 3)[i])

    return model, nothing


@also(1)
def scaled_as_a_whole(ppl):
    build, _, _ = PROGRAMS["regime_and_components"]
    return ppl.handlers.scale(build(ppl).model, scale=0.5), nothing


def loss_and_gradients(name, which):
    build, nesting, settings = PROGRAMS[name]
    root = ROOTS[which]
    root.clear_param_store()
    built = build(engine(which))
    model, guide = built if isinstance(built, tuple) else (built.model, built.guide)
    elbo = root.infer.TraceEnum_ELBO(max_plate_nesting=nesting, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loss = elbo.differentiable_loss(model, guide)
        number = elbo.loss(model, guide)
    store = root.get_param_store()
    leaves = {n: store[n].unconstrained() for n in store}
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    zeros = [torch.zeros_like(p) for p in leaves.values()]
    grads = [z if g is None else g for g, z in zip(found, zeros, strict=True)]
    return loss.detach(), number, dict(zip(leaves, grads, strict=True))


@pytest.mark.parametrize("name", PROGRAMS)
def test_loss_and_gradients_are_pyros(name):
    ours, number, our_grads = loss_and_gradients(name, "pplkit")
    theirs, their_number, their_grads = loss_and_gradients(name, "pyro")
    torch.testing.assert_close(ours, theirs, **CLOSE)
    assert abs(number - their_number) <= 1e-5 and abs(number - ours.item()) <= 1e-9
    assert our_grads.keys() == their_grads.keys() and our_grads
    for leaf, grad in our_grads.items():
        torch.testing.assert_close(grad, their_grads[leaf], **CLOSE)


# -- posteriors ------------------------------------------------------------------------------------

# Pyro makes no marginal of a Binomial's values.
ANSWERED = [
    "explaining_away", "mixture", "nested_plates", "chain", "chains_in_a_plate",
    "chain_around_a_plate", "one_hot", "two_chains_at_once", "topics",
]  # fmt: skip


@pytest.mark.parametrize("name", ANSWERED)
def test_marginals_are_pyros(name):
    found = {}
    for which, root in ROOTS.items():
        root.clear_param_store()
        build, nesting, _ = PROGRAMS[name]
        elbo = root.infer.TraceEnum_ELBO(max_plate_nesting=nesting)
        found[which] = elbo.compute_marginals(build(engine(which)).model, nothing)
    assert found["pplkit"].keys() == found["pyro"].keys()
    for site, ours in found["pplkit"].items():
        theirs = found["pyro"][site]
        assert type(ours).__name__ == type(theirs).__name__
        torch.testing.assert_close(ours.probs, theirs.probs, **CLOSE)


# Nor does its infer_discrete take a vector for a value.
DECODED = [n for n in ANSWERED if n != "one_hot"] + ["hidden_counts", "root_of_a_chain"]


@pytest.mark.parametrize("name", DECODED)
def test_the_most_probable_values_are_pyros(name):
    found = {}
    for which, root in ROOTS.items():
        root.clear_param_store()
        build, nesting, _ = PROGRAMS[name]
        ppl = engine(which)
        decode = root.infer.infer_discrete(build(ppl).model, -1 - nesting, temperature=0)
        run = ppl.handlers.trace(decode).get_trace()
        sites = [s for s in run.nodes.values() if s["type"] == "sample" and not s["is_observed"]]
        found[which] = {s["name"]: s["value"] for s in sites if type(s["fn"]).__name__[0] != "_"}
    assert found["pplkit"].keys() == found["pyro"].keys()
    for site, value in found["pplkit"].items():
        assert torch.equal(value, found["pyro"][site].expand_as(value)), site


@pytest.mark.parametrize(
    "settings",
    [{}, {"expand": True}, {"default": "sequential"}, {"num_samples": 3}, {"default": None}],
    ids=str,
)
def test_marks_are_pyros(settings):
    marks = {}
    for which, root in ROOTS.items():
        ppl = engine(which)

        def model(ppl=ppl):
            ppl.sample("x", ppl.dist.Normal(0.0, 1.0))
            ppl.sample("z", ppl.dist.Bernoulli(0.5))
            ppl.sample("n", ppl.dist.Poisson(2.0))
            ppl.sample("c", ppl.dist.Categorical(torch.ones(2)), infer={"enumerate": "sequential"})
            ppl.sample("e", ppl.dist.Bernoulli(torch.ones(2) / 2).to_event(1))
            ppl.sample("y", ppl.dist.Bernoulli(0.5), obs=torch.tensor(1.0))

        run = ppl.handlers.trace(root.infer.config_enumerate(model, **settings)).get_trace()
        marks[which] = {n: run.nodes[n]["infer"] for n in "xznce"}
    for name, theirs in marks["pyro"].items():
        ours = marks["pplkit"][name]
        assert ours == {k: v for k, v in theirs.items() if not k.startswith("_")}, name


@pytest.mark.parametrize(
    ("shape", "index"),
    [
        ((2, 3, 4), lambda i: (..., i((5, 2, 1), 4))),
        ((2, 3, 4), lambda i: (..., i((2,), 3), slice(None))),
        ((2, 3, 4), lambda i: (..., i((2,), 3), i((6, 1), 4))),
        ((2, 3, 4), lambda i: (i((2, 1), 2), i((5,), 3))),
        ((2, 3, 4), lambda i: (slice(None), i((5,), 3), i((5,), 4))),
        ((3, 4), lambda i: (..., 1, i((5, 2), 4))),
        ((3, 4), lambda i: i((5, 2), 3)),
    ],
)
def test_vindex_is_pyros(shape, index):
    tensor = noise(*shape)
    places = index(lambda size, n: (noise(*size).abs() * 100).long() % n)
    ours, theirs = Vindex(tensor)[places], PyroVindex(tensor)[places]
    assert ours.shape == theirs.shape and torch.equal(ours, theirs)


def test_an_enumerated_run_has_pyros_shapes():
    shapes = {}
    for which, root in ROOTS.items():
        root.clear_param_store()
        build, nesting, _ = PROGRAMS["nested_plates"]
        ppl = engine(which)
        make = functools.partial(ppl.handlers.enum, first_available_dim=-1 - nesting)
        run = ppl.handlers.trace(make(build(ppl).model)).get_trace()
        sites = [run.nodes[n] for n in ("g", "z", "y", "w", "x")]
        shapes[which] = [(s["value"].shape, s["fn"].log_prob(s["value"]).shape) for s in sites]
    assert shapes["pplkit"] == shapes["pyro"]


LISTED = {
    "Bernoulli": lambda d: d.Bernoulli(rows(3)),
    "Categorical": lambda d: d.Categorical(rows(2, 3)),
    "OrderedLogistic": lambda d: d.OrderedLogistic(noise(2), new([-1.0, 0.5])),
    "OneHotCategorical": lambda d: d.OneHotCategorical(rows(2, 3)),
    "OneHotCategoricalStraightThrough": lambda d: d.OneHotCategoricalStraightThrough(rows(3)),
    "Binomial": lambda d: d.Binomial(3, rows(2)),
    "BetaBinomial": lambda d: d.BetaBinomial(new([1.0, 2.0]), new(1.5), 3),
    "expanded": lambda d: d.Bernoulli(new(0.3)).expand([2, 3]),
    "expanded twice": lambda d: d.ExpandedDistribution(d.Categorical(rows(1, 3)), [2, 2]),
    "masked": lambda d: d.Categorical(rows(2, 3)).mask(torch.tensor([True, False])),
    "to_event(0)": lambda d: d.Bernoulli(rows(3)).to_event(0),
    "Empirical": lambda d: d.Empirical(noise(3), noise(3, seed=1)),
}


@pytest.mark.parametrize("expand", [True, False])
@pytest.mark.parametrize("name", LISTED)
def test_lists_of_values_are_pyros(name, expand):
    ours, theirs = LISTED[name](pplkit.distributions), LISTED[name](pyro.distributions)
    assert ours.has_enumerate_support and theirs.has_enumerate_support
    found, expected = ours.enumerate_support(expand), theirs.enumerate_support(expand)
    assert found.dtype == expected.dtype and torch.equal(found, expected)
    one_by_one = torch.stack([theirs.log_prob(value) for value in expected])  # as Empirical asks
    torch.testing.assert_close(ours.log_prob(found).expand_as(one_by_one), one_by_one)


def test_the_families_whose_values_can_be_listed_are_pyros():
    listed = {"pplkit": set(), "pyro": set()}
    for which, root in ROOTS.items():
        for name in pplkit.distributions.__all__:
            family = getattr(root.distributions, name, None)
            if isinstance(family, type) and getattr(family, "has_enumerate_support", False):
                listed[which].add(name)
    # Of a wrapper the class itself tells nothing: a property of what is inside.
    assert listed["pplkit"] == listed["pyro"] >= {"Bernoulli", "Binomial", "Categorical"}
