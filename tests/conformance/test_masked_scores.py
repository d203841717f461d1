"""Score functions of draws that are masked: on average the exact gradient, of both engines or ours.

A mask takes a draw out of the ELBO, but what the draw influences is still there: so its score is
that of the distribution it came from, without the mask. Averages are exact here: the estimate's
gradient at each value of the draws, weighted by its probability.
"""

from __future__ import annotations

import itertools

import pyro
import pytest
import torch

import pplkit
from tests.models import backend

ENGINES = {"pplkit": pplkit, "pyro": pyro}
MASK = torch.tensor([True, False])
PRIOR = torch.tensor([0.4, 0.3], dtype=torch.float64)
Y = torch.tensor([0.7, -0.2], dtype=torch.float64)
VALUES = [torch.tensor(v).double().reshape(2, 2) for v in itertools.product((0, 1), repeat=4)]


def by_handler(ppl, fn, loop=None):
    mask = MASK if loop is None else bool(MASK[loop])
    return ppl.handlers.mask(mask=mask), fn


def by_distribution(ppl, fn, loop=None):
    return ppl.handlers.mask(mask=True), fn.mask(MASK if loop is None else MASK[loop])


def by_distribution_wholly(ppl, fn, loop=None):
    return ppl.handlers.mask(mask=True), fn.mask(False)


def by_parts_of_one_event(ppl, fn, loop=None):
    return ppl.handlers.mask(mask=True), fn.expand([2]).mask(MASK).to_event(1)


def unmasked(ppl, fn, loop=None):
    return ppl.handlers.mask(mask=True), fn


def program(ppl, masked, looped):
    """Two masked coins, one coin below each; with `looped`, in a sequential plate."""
    event = masked is by_parts_of_one_event

    def rows(p, below, how, observe):
        if looped:
            for i in ppl.plate("rows", 2):
                row(f"_{i}", p[i], below, how, i, observe and Y[i])
        elif event:
            row("", p, below, how, None, observe and Y)
        else:
            with ppl.plate("rows", 2):
                row("", p, below, how, None, observe and Y)

    def whole(fn):
        return fn.expand([2]).to_event(1) if event else fn

    def row(suffix, p, below, how, i, y):
        handler, fn = how(ppl, ppl.dist.Bernoulli(p), i)
        with handler:
            k = ppl.sample(f"k{suffix}", fn if fn.event_shape else whole(fn))
        b = ppl.sample(f"b{suffix}", whole(ppl.dist.Bernoulli(below + 0.2 * k)))
        if y is not False:
            ppl.sample(f"y{suffix}", whole(ppl.dist.Normal(k + 2 * b, 1.0)), obs=y)

    def model():
        rows(PRIOR, 0.1, unmasked, True)

    def guide():
        unit = ppl.dist.constraints.unit_interval
        p = ppl.param("p", torch.tensor([0.3, 0.6], dtype=torch.float64), constraint=unit)
        r = ppl.param("r", torch.tensor(0.2, dtype=torch.float64), constraint=unit)
        rows(p, r, masked, False)

    return model, guide


def leaves(ppl):
    store = ENGINES[ppl.name].get_param_store()
    return [store["p"].unconstrained(), store["r"].unconstrained()]


def probabilities(p, r, value):
    coin = torch.distributions.Bernoulli
    return coin(p).log_prob(value[0]), coin(r + 0.2 * value[0]).log_prob(value[1])


def exactly(ppl, masked):
    """The gradient of the loss: the sum over all values of the draws."""
    total = 0.0
    store = ENGINES[ppl.name].get_param_store()
    counts = torch.zeros(2) if masked is by_distribution_wholly else MASK.double()
    for value in VALUES:
        k, b = probabilities(store["p"], store["r"], value)
        y = torch.distributions.Normal(value[0] + 2 * value[1], 1.0).log_prob(Y)
        log_p = sum(probabilities(PRIOR, 0.1, value)) + y
        total = total + (k + b).sum().exp() * (counts * k + b - log_p).sum()
    return torch.autograd.grad(total, leaves(ppl))


def on_average(ppl, elbo, model, guide):
    """The mean of the estimate's gradient, over all that the guide may draw."""
    mean = [0.0, 0.0]
    store = ENGINES[ppl.name].get_param_store()
    for value in VALUES:
        with drawing(ppl, value):
            loss = elbo.differentiable_loss(model, guide)
        k, b = probabilities(store["p"], store["r"], value)
        weight = (k + b).sum().exp().detach()
        found = torch.autograd.grad(loss, leaves(ppl), allow_unused=True)
        found = [0.0 if g is None else g for g in found]
        mean = [m + weight * g for m, g in zip(mean, found, strict=True)]
    return [m + torch.zeros_like(leaf) for m, leaf in zip(mean, leaves(ppl), strict=True)]


def drawing(ppl, value):
    """A handler under which every unobserved site takes these values."""
    given = {"k": value[0], "b": value[1]}
    given |= {f"{name}_{i}": whole[i] for name, whole in [*given.items()] for i in (0, 1)}
    if ppl.name == "pyro":

        class Given(pyro.poutine.messenger.Messenger):
            def _pyro_sample(self, msg):
                if msg["name"] in given:
                    msg["value"] = given[msg["name"]]

        return Given()

    class Given(pplkit.handlers.Handler):
        def process_message(self, msg):
            if msg.type == "sample" and msg.name in given:
                msg.value = given[msg.name]

    return Given()


MASKS = [by_handler, by_distribution, by_distribution_wholly, by_parts_of_one_event]
CASES = [(m, looped) for m in MASKS for looped in (False, True)]
CASES.remove((by_parts_of_one_event, True))
IDS = [f"{m.__name__}{'-looped' * looped}" for m, looped in CASES]


def means(engine, masked, looped, elbo):
    ppl = backend(engine)
    ENGINES[engine].clear_param_store()
    model, guide = program(ppl, masked, looped)
    guide()
    both = on_average(ppl, elbo, model, guide), exactly(ppl, masked)
    return [torch.cat([gradient.reshape(-1) for gradient in found]) for found in both]


@pytest.mark.filterwarnings("ignore:TraceEnum_ELBO found no sample sites")
@pytest.mark.parametrize("elbo", ["Trace_ELBO", "TraceGraph_ELBO", "TraceEnum_ELBO"])
@pytest.mark.parametrize(("masked", "looped"), CASES, ids=IDS)
def test_ours_is_exact_on_average(masked, looped, elbo):
    mean, exact = means("pplkit", masked, looped, getattr(pplkit.infer, elbo)())
    torch.testing.assert_close(mean, exact, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("masked", "looped"), CASES, ids=IDS)
def test_pyros_is_but_where_the_mask_is_a_bool_or_below_an_event(masked, looped):
    mean, exact = means("pyro", masked, looped, pyro.infer.Trace_ELBO())
    biased = masked in (by_distribution_wholly, by_parts_of_one_event)
    assert torch.allclose(mean, exact, rtol=1e-9, atol=1e-12) != biased
