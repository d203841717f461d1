"""Score-function gradients, against sums over everything the guide can draw: no noise, no bound.

For a guide with few outcomes the ELBO is a sum, and its gradient is autograd's. The estimator is
unbiased if its gradient, averaged over the outcomes with the guide's probabilities, is that very
number. Both come from the densities that `test_corpus.py` holds to Pyro's.
"""

import itertools
import math

import pytest
import torch

import pplkit
from pplkit import handlers
from pplkit.infer import Trace_ELBO
from tests.conformance.test_corpus import Given, gradients
from tests.models import ENTRIES, backend

SIZES = {
    "one_switch": 1,
    "sprinkler": 1,
    "cluster_labels": 3,
    "sequential_switches": 4,
    "hidden_markov": 2,
    "change_point": 7,
    "switches_in_nested_plates": 1,
    "masked_unknowns": 4,
}


def built(name: str, size: int):
    pplkit.clear_param_store()
    program = ENTRIES[name].build(backend("pplkit"), size)
    handlers.seed(program.guide, rng_seed=0)(*program.args)
    return program, dict(pplkit.get_param_store().named_parameters())


def outcomes(program) -> list[dict]:
    """Every joint value of the guide's sites."""
    sites = handlers.seed(handlers.trace(program.guide), rng_seed=0)
    tracer = handlers.trace(program.guide)
    with handlers.seed(rng_seed=0):
        sites = tracer.get_trace(*program.args).sites("sample")
    columns = []
    for site in sites:
        support = site.fn.enumerate_support(expand=False).flatten()
        cells = itertools.product(support.tolist(), repeat=site.value.numel())
        columns.append(
            [torch.tensor(c).reshape(site.value.shape).to(site.value.dtype) for c in cells]
        )
    names = [site.name for site in sites]
    return [dict(zip(names, row, strict=True)) for row in itertools.product(*columns)]


def expected_and_exact(program, leaves, draws, weights=None):
    """The estimator's gradient on average over the draws, and the gradient of the ELBO itself."""
    average = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    elbo = 0.0
    for i, values in enumerate(draws):
        with Given(values):
            guide = handlers.trace(program.guide).get_trace(*program.args)
            model = handlers.trace(program.model).get_trace(*program.args)
            loss = Trace_ELBO().differentiable_loss(program.model, program.guide, *program.args)
        log_q = sum(site.unscaled_log_prob.sum() for site in guide.sites("sample"))
        q = log_q.exp() if weights is None else weights[i] * log_q.exp()
        elbo = elbo + q * (model.log_prob_sum() - guide.log_prob_sum())
        for name, grad in gradients(loss, leaves).items():
            average[name] -= q.detach() * grad
    return average, gradients(elbo, leaves)


def agree(average, exact):
    assert any(grad.abs().max() > 1e-3 for grad in exact.values())
    for name in exact:
        torch.testing.assert_close(average[name], exact[name], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", SIZES)
def test_unbiased(name):
    program, leaves = built(name, SIZES[name])
    agree(*expected_and_exact(program, leaves, outcomes(program)))


def test_unbiased_in_recursion():
    program, leaves = built("recursion", 1)
    heads, tails = torch.tensor(1.0).double(), torch.tensor(0.0).double()
    # After 45 tails the guide has less than 1e-17 of its probability left.
    draws = [
        {f"heads_{i}": tails for i in range(count)} | {f"heads_{count}": heads}
        for count in range(45)
    ]
    agree(*expected_and_exact(program, leaves, draws))


def test_unbiased_where_a_draw_is_continuous():
    """Over the circle the trapezoidal rule is exact to rounding for a smooth function."""
    program, leaves = built("von_mises_direction", 3)
    angles = torch.linspace(-math.pi, math.pi, 301, dtype=torch.float64)[:-1]
    draws = [{"angle": angle} for angle in angles]
    weights = [2 * math.pi / 300] * 300
    agree(*expected_and_exact(program, leaves, draws, weights))


@pytest.mark.parametrize("name", ["cluster_labels", "sequential_switches", "masked_unknowns"])
def test_a_row_hears_of_itself_alone(name):
    """Rao-Blackwellised: whatever the other rows drew, a row's gradient is the same."""
    program, leaves = built(name, 4)
    by_first_row = {}
    first, leaf = next(iter(outcomes(program)[0])), next(iter(leaves))
    for values in outcomes(program):
        with Given(values):
            loss = Trace_ELBO().differentiable_loss(program.model, program.guide, *program.args)
        mine = values[first] if values[first].dim() == 0 else values[first][0]
        by_first_row.setdefault(mine.item(), []).append(gradients(loss, leaves)[leaf][0])
    assert len(by_first_row) > 1
    for grads in by_first_row.values():
        grads = torch.stack(grads)
        torch.testing.assert_close(grads, grads[:1].expand_as(grads))


def test_pathwise_and_score_function_in_one_guide():
    """`switched_location` draws a switch, then a Normal: 2e4 draws against the closed form."""
    program, leaves = built("switched_location", 2)
    repeats, count = pplkit.plate("repeats", 20_000, dim=-2), 20_000
    with handlers.seed(rng_seed=1):
        loss = Trace_ELBO().differentiable_loss(
            repeats(program.model), repeats(program.guide), *program.args
        )
    found = gradients(loss / count, leaves)
    exact = gradients(-switched_location_elbo(program.args[0], leaves), leaves)
    for name in leaves:
        # A row's gradients have standard deviations up to about 4: 0.15 is five standard errors.
        torch.testing.assert_close(found[name], exact[name], rtol=0.0, atol=0.15)


def switched_location_elbo(y, leaves):
    q, loc, scale = leaves["q"].sigmoid(), leaves["loc"], leaves["scale"].exp()
    off, on = (
        -0.5 * ((loc[i] - level) ** 2 + scale**2)
        - 0.5 * ((y - loc[i]) ** 2 + scale**2) / 0.25
        + scale.log()
        for i, level in enumerate((-1.0, 1.5))
    )
    on = on + math.log(0.4) - q.log()
    off = off + math.log(0.6) - (1 - q).log()
    return (q * on + (1 - q) * off).sum()
