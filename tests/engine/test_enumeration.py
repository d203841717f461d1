"""Enumeration against sums over all combinations, closed forms, and formulas written by hand."""

import functools
import itertools
import math
import sys
import warnings
from types import MappingProxyType

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import pplkit
import pplkit.distributions as dist
from pplkit import deterministic, errors, handlers, markov, param, plate, sample
from pplkit.infer import SVI, TraceEnum_ELBO, config_enumerate, infer_discrete
from pplkit.infer.autoguide import AutoNormal
from pplkit.ops import elimination
from pplkit.ops.elimination import Elimination, Factor, cheapest_order, connected, log_sum
from pplkit.ops.indexing import Vindex, vindex
from pplkit.optim import Adam
from tests.engine.enumeration_models import (
    ALL,
    CASES,
    F64,
    brute_force,
    combinations,
    engine,
    log_joint,
    new,
    noise,
    nothing,
    parts,
    rows,
)

PROGRAMS = {case.name: case for case in CASES}
# Those in which everything that is latent is summed in the model.
SUMMED = [c.name for c in CASES if c.build(engine("pplkit")).guide is nothing]


def program(name):
    return PROGRAMS[name].build(engine("pplkit"))


def gradients(value):
    store = pplkit.get_param_store()
    names = sorted(store)
    leaves = [store.unconstrained(name) for name in names]
    found = torch.autograd.grad(value, leaves, allow_unused=True, retain_graph=True)
    return {n: torch.zeros(()) if g is None else g for n, g in zip(names, found, strict=True)}


@functools.cache
def posterior(name):
    """All combinations of values, and the probability of each, by plain traces alone."""
    model = program(name).model
    values = list(combinations(model))
    with torch.no_grad():
        weights = torch.stack([log_joint(model, v) for v in values])
    return values, weights.softmax(0), weights


def close(found, expected, atol=1e-9):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


# -- exact against all combinations ----------------------------------------------------------------


def test_there_are_more_than_twenty_programs():
    assert len(CASES) >= 30 and len(SUMMED) >= 24


@pytest.mark.parametrize("name", PROGRAMS)
def test_loss_and_gradients_are_those_of_the_sum_over_all_combinations(name):
    tested = program(name)
    elbo = TraceEnum_ELBO(max_plate_nesting=PROGRAMS[name].nesting)
    loss = elbo.differentiable_loss(tested.model, tested.guide)
    exact = -brute_force(tested)
    close(loss, exact)
    found, expected = gradients(loss), gradients(exact)
    assert found.keys() == expected.keys() and len(found) > 0
    for leaf, gradient in found.items():
        close(gradient, expected[leaf].expand_as(gradient))
    close(new(elbo.loss(tested.model, tested.guide)), exact.detach())


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_nesting_of_the_plates_is_found_out(name):
    tested = program(name)
    told = TraceEnum_ELBO(max_plate_nesting=PROGRAMS[name].nesting + 1)  # more than it takes
    guessed = TraceEnum_ELBO()
    close(new(guessed.loss(tested.model, tested.guide)), new(told.loss(tested.model, tested.guide)))
    assert guessed.max_plate_nesting == PROGRAMS[name].nesting


def indices(values, fn):
    """Which of a distribution's values these are, along the leftmost dimension."""
    support = fn.enumerate_support(expand=False)
    support = support.reshape(support.shape[:1] + (1,) * (values.dim() - fn.event_dim)
                              + fn.event_shape)  # fmt: skip
    same = values == support
    return (same.flatten(-fn.event_dim).all(-1) if fn.event_dim else same).long().argmax(0)


@pytest.mark.parametrize("name", SUMMED)
def test_marginals_are_those_of_all_combinations(name):
    model = program(name).model
    values, probs, _ = posterior(name)
    found = TraceEnum_ELBO().compute_marginals(model, nothing)
    sites = handlers.trace(model).get_trace().nodes
    assert found.keys() == values[0].keys()
    for site, marginal in found.items():
        fn = sites[site].fn
        assert marginal.batch_shape == fn.batch_shape
        support = fn.enumerate_support(expand=True)
        for value in support:
            each = torch.stack([v[site] == value for v in values])
            each = each.flatten(-fn.event_dim).all(-1) if fn.event_dim else each
            weights = probs.reshape((-1,) + (1,) * (each.dim() - 1))
            close(marginal.log_prob(value).exp(), (weights * each).sum(0))


@pytest.mark.parametrize("name", SUMMED)
def test_the_most_probable_values_are_those_of_all_combinations(name):
    model, first = program(name).model, -1 - PROGRAMS[name].nesting
    run = handlers.trace(infer_discrete(model, first, temperature=0)).get_trace()
    sites = {s.name: s for s in run.sites("sample") if not s.is_observed}
    _, _, weights = posterior(name)
    close(run.log_prob_sum(), weights.max())
    for site in sites.values():
        assert site.value.shape == site.fn.shape()


@pytest.mark.parametrize("name", SUMMED)
def test_posterior_draws_are_as_frequent_as_all_combinations_say(name):
    """A chi-square test of whole combinations, on a plate of independent copies of the program."""
    copies, values, probs = 4000, *posterior(name)[:2]
    left = -1 - PROGRAMS[name].nesting
    model = plate("copies", copies, dim=left)(program(name).model)
    plain = handlers.trace(program(name).model).get_trace().nodes
    with handlers.seed(rng_seed=1), handlers.trace() as recorder:
        infer_discrete(model, left - 1, temperature=1)()
    code, expected_code = torch.zeros(copies, dtype=torch.long), [0] * len(values)
    for site in values[0]:
        fn = plain[site].fn
        drawn = recorder.trace.nodes[site].value
        rows_ = fn.batch_shape
        drawn = drawn.reshape((copies, *(1,) * (drawn.dim() - 1 - len(fn.shape())), *fn.shape()))
        drawn = drawn.reshape((copies, *fn.shape()))
        size = len(fn.enumerate_support(expand=False))
        for digit in indices(drawn, fn).reshape(copies, rows_.numel()).unbind(1):
            code = code * size + digit
        for k, combination in enumerate(values):
            for digit in indices(combination[site], fn).reshape(-1).tolist():
                expected_code[k] = expected_code[k] * size + digit
    place = {c: k for k, c in enumerate(expected_code)}
    counts = torch.zeros(len(values), dtype=F64)
    for c in code.tolist():
        counts[place[c]] += 1
    expected = copies * probs
    assert counts[expected == 0].sum() == 0
    often = expected >= 5
    observed = torch.cat([counts[often], counts[~often].sum()[None]])
    wanted = torch.cat([expected[often], expected[~often].sum()[None]])
    chi_square = ((observed - wanted) ** 2 / wanted.clamp(min=1e-9)).sum()
    degrees = len(wanted) - 1
    # Far beyond what 4000 right draws would ever show: 5 standard deviations above the mean.
    assert chi_square < degrees + 5 * math.sqrt(2 * degrees) + 5


def test_draws_of_one_seed_are_the_same_and_those_of_a_session_are_not():
    draw = infer_discrete(plate("copies", 50)(program("chain").model), -2)
    seen = []
    for seed in (1, 1, 2):
        with handlers.seed(rng_seed=seed), handlers.trace() as recorder:
            draw()
        seen.append(recorder.trace.nodes["z_2"].value)
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])


def test_conditionals_are_those_of_the_combinations_that_agree():
    name, given = "explaining_away", {"earthquake": new(1.0)}
    values, probs, _ = posterior(name)
    agree = torch.stack([v["earthquake"] == 1.0 for v in values])
    chance = sum(p for v, p in zip(values, probs * agree, strict=True) if v["burglar"] == 1.0)
    elbo, model = TraceEnum_ELBO(), program(name).model
    found = elbo.compute_conditionals(model, nothing, given)
    assert set(found) == {"burglar", "alarm_rings"}
    close(found["burglar"].probs, chance / (probs * agree).sum())
    # An earthquake explains the calls: a burglar is less likely than without knowing of it.
    assert found["burglar"].probs < elbo.compute_marginals(model, nothing)["burglar"].probs
    close(elbo.conditional(model, nothing, given)["burglar"].probs, found["burglar"].probs)


# -- formulas by hand ------------------------------------------------------------------------------


def two_components(loc, x):
    """log p(x), for each row, of an even mixture of Normal(0, 1) and Normal(loc, 1)."""
    each = torch.stack([dist.Normal(0.0 * loc, 1.0).log_prob(x), dist.Normal(loc, 1.0).log_prob(x)])
    return each.logsumexp(0) - math.log(2)


DATA = noise(6, seed=5)


def gap(x, size=6, **how):
    loc = param("loc", new(1.5))
    with plate("data", size, **how) as i:
        z = sample("z", dist.Bernoulli(new(0.5)), infer=ALL)
        sample("x", dist.Normal(loc * z, 1.0), obs=x[i])


def loss_and_slope(model, *args, **settings):
    loss = TraceEnum_ELBO(**settings).differentiable_loss(model, nothing, *args)
    return loss.detach(), gradients(loss)["loc"]


def expected_and_slope(total):
    loc = new(1.5).requires_grad_()
    value = total(loc)
    return value.detach(), torch.autograd.grad(value, loc)[0]


@pytest.mark.parametrize("by", ["handler", "distribution"])
def test_masked_rows_count_for_nothing(by):
    keep = torch.tensor([True, False, True, True, False, True])

    def model(x):
        if by == "handler":
            with handlers.mask(mask=keep):
                gap(x)
            return
        loc = param("loc", new(1.5))
        with plate("data", 6):
            z = sample("z", dist.Bernoulli(new(0.5)).expand([6]).mask(keep), infer=ALL)
            sample("x", dist.Normal(loc * z, 1.0).mask(keep), obs=x)

    found = loss_and_slope(model, DATA)
    close(found, expected_and_slope(lambda loc: -two_components(loc, DATA)[keep].sum()))


def test_rows_that_are_partly_observed():
    seen = torch.tensor([True, False, True])

    def model():
        loc = param("loc", new(1.5))
        with plate("data", 3):
            z = sample("z", dist.Bernoulli(new(0.5)), obs=new([1.0, 0.0, 0.0]), obs_mask=seen,
                       infer=ALL)  # fmt: skip
            sample("x", dist.Normal(loc * z, 1.0), obs=DATA[:3])

    def expected(loc):
        known = dist.Normal(loc * new([1.0, 0.0]), 1.0).log_prob(DATA[[0, 2]]) - math.log(2)
        return -known.sum() - two_components(loc, DATA[1])

    close(loss_and_slope(model), expected_and_slope(expected))


def test_a_scale_multiplies_the_logarithm_of_the_sum():
    model = handlers.scale(gap, scale=0.25)
    expected = expected_and_slope(lambda loc: -0.25 * two_components(loc, DATA).sum())
    close(loss_and_slope(model, DATA), expected)


def test_a_subsample_stands_for_the_whole_plate():
    chosen = torch.tensor([4, 0])
    found = loss_and_slope(functools.partial(gap, DATA, subsample=chosen))
    close(found, expected_and_slope(lambda loc: -3.0 * two_components(loc, DATA[chosen]).sum()))


def test_plates_of_two_scales_have_one_each():
    def model():
        loc = param("loc", new(1.5))
        for k, of in enumerate((6, 4)):
            with plate(f"data_{k}", of, subsample=torch.tensor([1, 3])) as i:
                z = sample(f"z_{k}", dist.Bernoulli(new(0.5)), infer=ALL)
                sample(f"x_{k}", dist.Normal(loc * z, 1.0), obs=DATA[i])

    def expected(loc):
        return -(3.0 + 2.0) * two_components(loc, DATA[[1, 3]]).sum()

    close(loss_and_slope(model), expected_and_slope(expected))


def test_a_guide_that_enumerates_in_a_scaled_plate():
    def model(x):
        loc = param("loc", new(1.5))
        with plate("data", 6, subsample=torch.tensor([2, 5])) as i:
            z = sample("z", dist.Bernoulli(new(0.5)))
            sample("x", dist.Normal(loc * z, 1.0), obs=x[i])

    def guide(x):
        with plate("data", 6, subsample=torch.tensor([2, 5])):
            sample("z", dist.Bernoulli(new(0.3)), infer=ALL)

    def expected(loc):
        x, q = DATA[[2, 5]], new([0.7, 0.3])
        z = new([[0.0], [1.0]])
        costs = dist.Normal(loc * z, 1.0).log_prob(x) + math.log(0.5) - q.log()[:, None]
        return -3.0 * (q[:, None] * costs).sum()

    loss = TraceEnum_ELBO().differentiable_loss(model, guide, DATA)
    close((loss.detach(), gradients(loss)["loc"]), expected_and_slope(expected))


class Coin(dist.Distribution):
    """A family of a user's, whose rows are told apart by their values alone."""

    arg_constraints = MappingProxyType({})
    support = dist.constraints.boolean
    has_enumerate_support = True

    def __init__(self, batch_shape=(), validate_args=None):
        super().__init__(torch.Size(batch_shape), validate_args=validate_args)

    def expand(self, batch_shape, _instance=None):
        return Coin(batch_shape)

    def sample(self, sample_shape=()):
        return torch.rand(self.shape(sample_shape), dtype=F64).round()

    def log_prob(self, value):
        return torch.full_like(value, -math.log(2))

    def enumerate_support(self, expand=True):
        return torch.arange(2, dtype=F64).reshape((2,) + (1,) * self.batch_dim)


def test_a_family_of_ones_own_counts_in_every_row():
    def model():
        loc = param("loc", new(1.5))
        with plate("data", 6):
            z = sample("z", Coin(), infer=ALL)
            sample("x", dist.Normal(loc * z, 1.0), obs=DATA)

    expected = expected_and_slope(lambda loc: -two_components(loc, DATA).sum())
    close(loss_and_slope(model), expected)


def test_impossible_values_leave_the_gradient_finite():
    def model():
        weights = param("weights", new([0.5, 0.5, 0.0]))
        z = sample("z", dist.Categorical(logits=new([0.0, -math.inf, -math.inf])), infer=ALL)
        w = sample("w", dist.Categorical(logits=new([[0.0, 0.0], [-math.inf, 0.0], [0.0, 0.0]])[z]),
                   infer=ALL)  # fmt: skip
        sample("x", dist.Normal(weights[z] + w, 1.0), obs=new(0.5))

    loss = TraceEnum_ELBO().differentiable_loss(model, nothing)
    close(loss, -new(math.log(0.5)) - dist.Normal(new([0.5, 1.5]), 1.0).log_prob(new(0.5))
          .logsumexp(0))  # fmt: skip
    slope = gradients(loss)["weights"]
    assert torch.isfinite(slope).all() and slope[0] != 0 and (slope[1:] == 0).all()


def test_sum_of_nothing_but_impossible_terms():
    x = torch.tensor([[0.0, 1.0], [-math.inf, -math.inf]], dtype=F64, requires_grad=True)
    total = log_sum(x, 1)
    close(total, new([math.log1p(math.e), -math.inf]))
    total.exp().sum().backward()
    close(x.grad, new([[1.0, math.e], [0.0, 0.0]]))


# -- long chains -----------------------------------------------------------------------------------


def long_chain(steps, states, dtype):
    move = torch.rand(states, states, generator=torch.Generator().manual_seed(2), dtype=F64)
    move = (move / move.sum(-1, keepdim=True)).to(dtype)
    loc = torch.linspace(-30, 30, states, dtype=dtype)  # far apart: densities down to exp(-1800)
    data = 20 * noise(steps, seed=3).to(dtype)

    def model():
        z = torch.tensor(0)
        at = param("loc", loc)
        for t in markov(range(steps)):
            z = sample(f"z_{t}", dist.Categorical(move[z]), infer=ALL)
            sample(f"x_{t}", dist.Normal(at[z], 1.0), obs=data[t])

    emitted = dist.Normal(loc.double(), 1.0).log_prob(data.double()[:, None])
    ahead = move[0].double().log() + emitted[0]
    for t in range(1, steps):
        ahead = (ahead[:, None] + move.double().log()).logsumexp(0) + emitted[t]
    return model, ahead.logsumexp(0)


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
def test_a_chain_of_a_thousand_steps_neither_overflows_nor_loses_digits(dtype):
    model, truth = long_chain(1000, 16, dtype)
    loss = TraceEnum_ELBO(max_plate_nesting=0).differentiable_loss(model, nothing)
    relative = 1e-6 if dtype is torch.float32 else 1e-12
    assert abs(loss.item() + truth.item()) <= relative * abs(truth.item())
    assert torch.isfinite(gradients(loss)["loc"]).all()


class Counting(TorchDispatchMode):
    """How many operations there are, and how many elements they make."""

    def __init__(self):
        super().__init__()
        self.operations = self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.operations += 1
        made = result if isinstance(result, tuple | list) else [result]
        self.elements += sum(x.numel() for x in made if isinstance(x, torch.Tensor))
        return result


@pytest.mark.parametrize("what", ["loss", "marginals", "guide"])
def test_work_grows_as_the_chain_does(what):
    counts = []
    sizes = (250, 500, 1000) if what == "loss" else (30, 60, 120)
    for steps in sizes:
        model, _ = long_chain(steps, 16 if what == "loss" else 3, torch.float32)
        elbo = TraceEnum_ELBO(max_plate_nesting=0, strict_enumeration_warning=False)
        with Counting() as counting:
            if what == "loss":
                loss = elbo.differentiable_loss(model, nothing)
                loss.backward()
            elif what == "marginals":
                elbo.compute_marginals(model, nothing)
            else:  # the same chain as its own guide, but for the observations
                elbo.loss(model, handlers.block(model, hide_fn=lambda site: site.is_observed))
        counts.append((counting.operations, counting.elements))
    for one, two, four in zip(*counts, strict=True):
        assert one > 10 * sizes[0]
        # Twice as long, twice the work; four times as long, four times.
        assert abs((two - one) * 2 - (four - two)) <= 0.02 * (four - two)
        assert abs(four / one - 4) < 0.1


def test_dimensions_are_given_back_along_a_chain():
    model, _ = long_chain(40, 3, torch.float32)
    run = handlers.trace(handlers.enum(model, first_available_dim=-1)).get_trace()
    assert {run.nodes[f"z_{t}"].infer["_enumerate_dim"] for t in range(40)} == {-1, -2, -3}
    model = program("chain_without_markov").model
    run = handlers.trace(handlers.enum(model, first_available_dim=-3)).get_trace()
    assert [run.nodes[f"z_{t}"].infer["_enumerate_dim"] for t in range(4)] == [-3, -4, -5, -6]


def test_a_chain_of_many_variables_fits_into_a_tensors_dimensions():
    def model():
        z = [torch.zeros(())] * 25
        for t in markov(range(3)):
            z = [sample(f"z_{t}_{k}", dist.Bernoulli(0.3 + 0.4 * z[k]), infer=ALL)
                 for k in range(25)]  # fmt: skip

    assert abs(TraceEnum_ELBO(max_plate_nesting=0).loss(model, nothing)) < 1e-5


def test_branches_of_markov_loops_that_meet_share_no_dimension():
    """A grid whose cells depend on the one above and the one on the left."""
    move = rows(2, 2, 2)

    def model(plain):
        inner = range(2) if plain else markov(range(2), keep=True)
        z = {}
        for i in range(3) if plain else markov(range(3)):
            for j in inner:
                up, left = (z.get(k, torch.tensor(0)) for k in ((i - 1, j), (i, j - 1)))
                z[i, j] = sample(f"z_{i}_{j}", dist.Categorical(move[up, left]), infer=ALL)
                sample(f"x_{i}_{j}", dist.Normal(new(1.0) * z[i, j], 1.0), obs=DATA[2 * i + j])

    elbo = TraceEnum_ELBO(max_plate_nesting=0)
    close(new(elbo.loss(model, lambda plain: None, False)),
          new(elbo.loss(model, lambda plain: None, True)))  # fmt: skip


# -- guides ----------------------------------------------------------------------------------------


def conjugate(x):
    z = sample("z", dist.Normal(new(0.0), 1.0))
    sample("x", dist.Normal(z, 1.0), obs=x)


def exactly(x):
    loc = param("loc", x / 2)
    sample("z", dist.Normal(loc, new(0.5).sqrt()))


@pytest.mark.parametrize("number", [1, 5])
def test_several_draws_of_a_continuous_site(number):
    x, elbo = new(1.3), TraceEnum_ELBO(max_plate_nesting=0)
    guide = config_enumerate(exactly, num_samples=number)
    # The guide is the posterior: every draw tells the evidence, and nothing can be gained.
    loss = elbo.differentiable_loss(conjugate, guide, x)
    close(loss, -dist.Normal(new(0.0), new(2.0).sqrt()).log_prob(x))
    run = elbo.traces(conjugate, guide, x)[1]
    assert run.nodes["z"].value.shape == ((number,) if number > 1 else (1,))


class Coarse(dist.Normal):
    """Draws without gradient."""

    has_rsample = False


def slopes(model, guide, repeats, **settings):
    """Means and standard errors of the gradient with respect to the parameter q."""
    elbo, found = TraceEnum_ELBO(**settings), []
    with handlers.seed(rng_seed=4):
        for _ in range(repeats):
            found.append(gradients(elbo.differentiable_loss(model, guide))["q"])
    found = torch.stack(found)
    return found.mean(0), found.std(0) / math.sqrt(repeats)


@pytest.mark.parametrize("scored", ["above the model's sum", "below a sum of the guide"])
def test_draws_that_are_not_enumerated_are_scored(scored):
    """The gradient with a site drawn and scored is, on average, that with the site enumerated."""
    table, data = noise(2, 2, 2), noise(3, seed=2)

    def model():
        g = sample("g", dist.Bernoulli(new(0.4)), infer=ALL).long()
        with plate("data", 3):
            z = sample("z", dist.Bernoulli(new(0.5))).long()
            w = sample("w", dist.Bernoulli(new([0.3, 0.6])[z]), infer=ALL).long()
            sample("x", dist.Normal(table[g, z, w], 0.7), obs=data)

    def guide(marks):
        q = param("q", new([0.3, -0.4]))
        g = 0
        if scored == "below a sum of the guide":
            g = sample("g", dist.Bernoulli(new(0.4)), infer=ALL).long()
        with plate("data", 3):
            sample("z", dist.Bernoulli(logits=q[g] + q[1]), infer=marks)

    if scored == "above the model's sum":  # g ties all rows together: rows cannot be enumerated
        q = param("q", new([0.3, -0.4]))

        def exact():
            total = 0.0
            for rows_ in torch.cartesian_prod(*[torch.arange(2.0, dtype=F64)] * 3):
                log_q = dist.Bernoulli(logits=q[0] + q[1]).log_prob(rows_).sum()
                fixed = handlers.condition(model, data={"z": rows_})
                elbo = -TraceEnum_ELBO().differentiable_loss(fixed, nothing) - log_q
                total = total - log_q.exp() * elbo
            return total

        expected = gradients(exact())["q"]
    else:
        loss = TraceEnum_ELBO().differentiable_loss(model, functools.partial(guide, ALL))
        expected = gradients(loss)["q"]
    mean, error = slopes(
        model, functools.partial(guide, {}), 60, num_particles=200, vectorize_particles=True
    )
    assert (error < 0.05).all() and (error > 0).any()
    assert ((mean - expected).abs() <= 4.5 * error + 1e-9).all()


def test_a_draw_without_gradient_in_several_copies():
    def guide():
        q = param("q", new(0.2))
        marks = {"enumerate": "parallel", "num_samples": 50}
        sample("z", Coarse(q, 1.0), infer=marks)

    mean, error = slopes(functools.partial(conjugate, new(1.0)), guide, 300, max_plate_nesting=0)
    # KL(q || posterior) has the gradient (q - 1/2) / (1/2), less no entropy's.
    assert abs(mean - (0.2 - 0.5) * 2) <= 4.5 * error and error < 0.1


@pytest.mark.parametrize("name", ["nested_plates", "all_in_the_guide", "sequential_above_parallel"])
def test_particles_one_by_one_or_all_at_once(name):
    tested = program(name)
    single = TraceEnum_ELBO().differentiable_loss(tested.model, tested.guide)
    for together in (False, True):
        elbo = TraceEnum_ELBO(num_particles=3, vectorize_particles=together)
        loss = elbo.differentiable_loss(tested.model, tested.guide)
        close(loss, single)
        for leaf, gradient in gradients(loss).items():
            close(gradient, gradients(single)[leaf])


def test_a_guide_whose_loops_are_not_the_models():
    loc, move = noise(2), rows(2, 2)

    def model():
        for s in markov(range(2)):
            z = torch.tensor(0)
            for t in markov(range(2)):
                z = sample(f"z_{s}_{t}", dist.Categorical(move[z]))
                sample(f"x_{s}_{t}", dist.Normal(loc[z], 1.0), obs=DATA[2 * s + t])

    def guide():
        for s in range(2):
            z = torch.tensor(0)
            for t in markov(range(2)):
                z = sample(f"z_{s}_{t}", dist.Categorical(rows(2, 2, seed=9)[z]), infer=ALL)

    loss = TraceEnum_ELBO(max_plate_nesting=0).differentiable_loss(model, guide)
    close(loss, -brute_force(parts(model, guide)))


def test_sequential_guides_may_branch_on_a_value():
    def model():
        z = sample("z", dist.Categorical(new([0.2, 0.3, 0.5])))
        sample("x", dist.Normal(z * new(1.0), 1.0), obs=new(0.7))

    def guide():
        z = sample("z", dist.Categorical(param("q", new([0.3, 0.3, 0.4]))),
                   infer={"enumerate": "sequential"})  # fmt: skip
        seen.append(int(z))

    seen = []
    loss = TraceEnum_ELBO(max_plate_nesting=0).loss(model, guide)
    assert sorted(seen) == [0, 1, 2]
    q, p = new([0.3, 0.3, 0.4]), new([0.2, 0.3, 0.5])
    likelihood = dist.Normal(new([0.0, 1.0, 2.0]), 1.0).log_prob(new(0.7))
    close(new(loss), -(q * (p.log() + likelihood - q.log())).sum())


def test_sequential_combinations_of_dependent_sites():
    def model():
        a = sample("a", dist.Bernoulli(new(0.5)))
        sample("b" if a > 0 else "c", dist.Categorical(new([0.1, 0.2, 0.7])))

    def guide():
        turn = {"enumerate": "sequential"}
        a = sample("a", dist.Bernoulli(param("p", new(0.4))), infer=turn)
        probs = param("q", rows(3))
        sample("b" if a > 0 else "c", dist.Categorical(probs), infer=turn)

    q, a = rows(3), new([0.6, 0.4])
    expected = (a * (a.log() - math.log(0.5))).sum()
    expected = expected + (q * (q.log() - new([0.1, 0.2, 0.7]).log())).sum()
    close(new(TraceEnum_ELBO(max_plate_nesting=0).loss(model, guide)), expected)


def test_svi_fits_a_mixture_with_its_components_summed_out():
    data = torch.cat([noise(30) * 0.5 - 2, noise(30, seed=1) * 0.5 + 2]).float()

    @config_enumerate
    def model():
        loc = sample("loc", dist.Normal(torch.zeros(2), 5.0).to_event(1))
        with plate("data", 60):
            z = sample("z", dist.Categorical(torch.tensor([0.5, 0.5])))
            sample("x", dist.Normal(loc[z], 0.5), obs=data)

    guide = AutoNormal(handlers.block(model, hide=["z"]))
    svi = SVI(model, guide, Adam({"lr": 0.05}), TraceEnum_ELBO(), params=pplkit.ParamStore())
    with handlers.seed(rng_seed=0):
        first = svi.step()
        svi.run(150, progress_bar=False)
        with svi.params:
            found = guide.median()["loc"].sort().values
            drawn = handlers.trace(guide).get_trace()
            which = infer_discrete(handlers.replay(model, trace=drawn), -2, temperature=0)
            z = handlers.trace(which).get_trace().nodes["z"].value
    assert math.isfinite(first)
    torch.testing.assert_close(found, torch.tensor([-2.0, 2.0]), atol=0.3, rtol=0)
    assert len(z[:30].unique()) == len(z[30:].unique()) == 1 and z[0] != z[-1]


def test_a_loss_of_an_impossible_observation_stops_svi():
    def model():
        z = sample("z", dist.Bernoulli(param("p", torch.tensor(0.5))), infer=ALL)
        sample("x", dist.Categorical(logits=torch.tensor([0.0, -torch.inf]).expand(2, 2)[z.long()]),
               obs=torch.tensor(1))  # fmt: skip

    svi = SVI(model, nothing, Adam({"lr": 0.1}), TraceEnum_ELBO())
    with pytest.raises(errors.InferenceError, match="Encountered NaN or infinity"):
        svi.step()


# -- answers ---------------------------------------------------------------------------------------


def test_sample_posterior_runs_the_model_with_the_drawn_values():
    @config_enumerate
    def model():
        loc = sample("loc", dist.Normal(new(0.0), 1.0))
        with plate("data", 500):
            z = sample("z", dist.Bernoulli(new(0.25)))
            sample("x", dist.Normal(loc + 4.0 * z, 1.0), obs=new([2.0]).expand(500))
        return z

    def guide():
        sample("loc", dist.Delta(new(0.0)))

    elbo = TraceEnum_ELBO()
    with handlers.seed(rng_seed=2), handlers.trace() as recorder:
        z = elbo.sample_posterior(model, guide)
    assert torch.equal(recorder.trace.nodes["z"].value, z) and z.shape == (500,)
    assert recorder.trace.nodes["loc"].value == 0.0
    assert abs(z.mean() - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 500)
    close(elbo.compute_marginals(model, guide)["z"].probs, new(0.25).expand(500))


def test_infer_discrete_is_consistent_with_what_it_draws_besides():
    """A latent variable of the prior keeps, in the answer, the value that the answer is given."""

    @config_enumerate
    def model():
        loc = sample("loc", dist.Normal(new(0.0), 10.0))
        z = sample("z", dist.Bernoulli(new(0.5)))
        sample("x", dist.Normal(loc * z, 0.01), obs=loc)
        y = sample("y", dist.Normal(100.0 * z, 0.1))  # depends on what is enumerated
        return loc, z, y

    for _ in range(5):
        loc, z, y = infer_discrete(model, -1, temperature=0)()
        assert z == 1 and abs(y - 100) < 1 and loc != 0
        assert loc.shape == z.shape == y.shape == ()


def test_masked_rows_do_not_speak_for_the_most_probable_values():
    """Nor do the probabilities of their own variables, whose largest is less than 1."""
    even, sure = [1 / 3, 1 / 3, 1 / 3], [0.01, 0.98, 0.01]

    def model():
        a = sample("a", dist.Categorical(new([0.55, 0.45])), infer=ALL)
        with plate("rows", 3), handlers.mask(mask=torch.tensor([False, False, False])):
            sample("b", dist.Categorical(new([even, sure])[a]), infer=ALL)

    run = handlers.trace(infer_discrete(model, -2, temperature=0)).get_trace()
    assert run.nodes["a"].value == 0


def test_infer_discrete_hides_its_own_run():
    model = program("mixture").model
    with handlers.trace() as recorder:
        infer_discrete(model, first_available_dim=-2)()
    names = [s.name for s in recorder.trace.sites("sample")]
    assert names == ["z", "x"] and recorder.trace.nodes["z"].value.shape == (4,)


def test_marginals_of_counts_can_be_asked_for_their_mean():
    name = "hidden_counts"
    values, probs, _ = posterior(name)
    found = TraceEnum_ELBO().compute_marginals(program(name).model, nothing)["n"]
    mean = sum(p * v["n"] for v, p in zip(values, probs, strict=True))
    close(found.mean, mean)


def test_a_variable_of_one_value_is_no_special_case():
    def model():
        with plate("data", 3):
            z = sample("z", dist.Categorical(torch.ones(1, dtype=F64)), infer=ALL)
            sample("x", dist.Normal(new(1.0) * z, 1.0), obs=DATA[:3])

    elbo = TraceEnum_ELBO()
    close(new(elbo.loss(model, nothing)), -dist.Normal(new(0.0), 1.0).log_prob(DATA[:3]).sum())
    assert elbo.compute_marginals(model, nothing)["z"].probs.shape == (3, 1)
    run = handlers.trace(infer_discrete(model, -2, temperature=0)).get_trace()
    assert torch.equal(run.nodes["z"].value, torch.zeros(3, dtype=torch.long))


def test_marks_and_what_they_do_to_shapes():
    @config_enumerate(expand=True)
    def model():
        with plate("data", 4):
            x = sample("x", dist.Normal(0.0, 1.0))
            kept = sample("kept", dist.Bernoulli(0.5), infer={"enumerate": "sequential"})
            z = sample("z", dist.Categorical(torch.ones(3)))
            sample("seen", dist.Bernoulli(0.5), obs=torch.ones(4))
            return deterministic("sum", x + kept + z)

    run = handlers.trace(handlers.enum(model, first_available_dim=-2)).get_trace()
    marks = {s.name: s.infer.get("enumerate") for s in run.sites("sample")}
    assert marks == {"x": None, "kept": "sequential", "z": "parallel", "seen": None}
    assert run.nodes["z"].value.shape == (3, 4) == run.nodes["sum"].value.shape
    broadcast = handlers.trace(handlers.enum(program("mixture").model, first_available_dim=-3))
    assert broadcast.get_trace().nodes["z"].value.shape == (3, 1, 1)
    plain = handlers.trace(model).get_trace()
    assert plain.nodes["z"].value.shape == (4,)


# -- the order of sums -----------------------------------------------------------------------------


def grid(side):
    """Tables of neighbours on a square grid."""
    at = "v{}_{}".format
    right = [{at(i, j), at(i, j + 1)} for i in range(side) for j in range(side - 1)]
    down = [{at(i, j), at(i + 1, j)} for i in range(side - 1) for j in range(side)]
    return right + down, {at(i, j): 4 for i in range(side) for j in range(side)}


def largest(scopes, sizes, order):
    """The largest table, by playing the sums through."""
    scopes, most = [set(s) for s in scopes], 1
    for v in order:
        joint = set().union(*(s for s in scopes if v in s))
        most = max(most, math.prod(sizes[d] for d in joint))
        scopes = [s for s in scopes if v not in s] + [joint - {v}]
    return most


@pytest.mark.parametrize("side", [3, 6, 8])
def test_the_order_and_its_largest_table(side, monkeypatch):
    scopes, sizes = grid(side)
    order, most = cheapest_order(scopes, sizes, list(sizes))
    assert sorted(order) == sorted(sizes) and most == largest(scopes, sizes, order)
    elimination._cheapest.cache_clear()
    monkeypatch.setitem(sys.modules, "opt_einsum", None)  # as if it were not installed
    plain, greedy = cheapest_order(scopes, sizes, list(sizes))
    assert greedy == largest(scopes, sizes, plain)
    elimination._cheapest.cache_clear()
    assert most <= greedy <= 4 ** (side + 1)  # as if row after row


def test_the_sum_does_not_depend_on_the_order():
    scopes, sizes = grid(3)
    factors = [Factor(noise(*[4] * len(s), seed=i), tuple(sorted(s))) for i, s in enumerate(scopes)]
    sums = []
    for order in (list(sizes), list(sizes)[::-1]):
        run = Elimination(sizes)
        (left,) = [f for f in run.sum_out(factors, order)]
        sums.append(left.tensor)
        marginal = run.log_marginals()[-1].tensor
        close(marginal.flatten().logsumexp(0), new(0.0))
    letters = {v: chr(97 + i) for i, v in enumerate(sizes)}
    equation = ",".join("".join(letters[d] for d in f.dims) for f in factors) + "->"
    close(sums[0], torch.einsum(equation, *(f.tensor.exp() for f in factors)).log())
    close(sums[0], sums[1])


def test_parts_that_share_no_variable_are_summed_apart():
    scopes = [("a", "b"), ("c",), ("b", "d"), ("e", "p"), ("p",)]
    factors = [Factor(torch.zeros([2] * len(s)), s) for s in scopes]
    parts = connected(factors, ["a", "b", "c", "d", "e"])
    assert [sorted(names) for _, names in parts] == [["a", "b", "d"], ["c"], ["e"], []]


def test_a_huge_table_is_told_of_before_it_is_made():
    factors = [Factor(torch.zeros(()).expand(2000, 300, 200), ("a", "b", "c"))]
    with pytest.warns(errors.PplkitWarning, match=r"a table of 1.2e\+08 elements"):
        Elimination(
            {"a": 2000, "b": 300, "c": 200}, reduce=lambda x, dim: x.select(dim, 0)
        ).sum_out(factors, ["a"])


# -- indexing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "index"),
    [
        ((4, 3), (..., (4,))),
        ((4, 3), (..., (5, 1))),
        ((4, 3), ((4,), (4,))),
        ((4, 3), ((2, 1), (4,))),
        ((2, 4, 3), (..., (5, 2), slice(None))),
        ((2, 4, 3), (..., (2,), (5, 1))),
        ((4, 3, 5), (..., slice(None), (4,))),
        ((4, 3, 5), (..., (6, 4), slice(None))),
        ((3, 5), ((6, 4),)),
        ((3, 5, 2), (slice(None), (6, 1), (4,))),
        ((3, 5), (1, (4,))),
        ((4, 3), (..., 2)),
        ((4, 3), (...,)),
        ((3,), (2,)),
    ],
    ids=str,
)
def test_vindex_looks_up_row_by_row(shape, index):
    tensor = torch.arange(math.prod(shape)).reshape(shape)
    covered = index[0] is Ellipsis
    places = list(index[1:] if covered else index)
    left = len(shape) - len(places) if covered else 0
    places += [slice(None)] * (len(shape) - left - len(places))
    made = []
    for k, place in enumerate(places):
        if isinstance(place, tuple):
            values = torch.arange(math.prod(place)).reshape(place) * (k + 3) % shape[left + k]
            made.append(values)
        else:
            made.append(place)
    found = Vindex(tensor)[(..., *made) if covered else tuple(made)]
    sizes = [m.shape for m in made if isinstance(m, torch.Tensor)]
    batch = torch.broadcast_shapes(shape[:left], *sizes)
    kept = [n for n, m in zip(shape[left:], made, strict=True) if isinstance(m, slice)]
    assert found.shape == (*batch, *kept)
    for at in itertools.product(*map(range, batch)):
        one = [at[len(batch) - left + r] if shape[r] > 1 else 0 for r in range(left)]
        for m in made:
            full = m.expand(batch) if isinstance(m, torch.Tensor) else m
            one.append(int(full[at]) if isinstance(full, torch.Tensor) else full)
        assert torch.equal(found[at], tensor[tuple(one)])
    assert torch.equal(vindex(tensor, (..., *made) if covered else tuple(made)), found)


# -- errors ----------------------------------------------------------------------------------------


def failing(model, guide=nothing, **settings):
    with pytest.raises(errors.PplkitError) as caught:
        TraceEnum_ELBO(**settings).loss(model, guide)
    return caught.value


@pytest.mark.parametrize(
    ("fn", "found", "remedy"),
    [
        (dist.Poisson(2.0), "Poisson", "Categorical"),
        (dist.Geometric(0.5), "Geometric", "Categorical"),
        (dist.Normal(0.0, 1.0), "cannot be counted", "in the guide"),
        (dist.Bernoulli(torch.ones(3) / 2).to_event(1), ".to_event", "plate"),
    ],
    ids=["poisson", "geometric", "normal", "event"],
)
def test_values_that_cannot_be_listed(fn, found, remedy):
    def model():
        sample("n", fn, infer=ALL)

    fault = failing(model, max_plate_nesting=0)
    assert fault.site == "n" and found in str(fault) and remedy in fault.remedy
    assert str(fault).startswith("Enumeration over site 'n' is not possible")
    assert "test_enumeration.py" in str(fault.where)


def test_rows_with_different_numbers_of_values():
    def model():
        with plate("data", 2):
            sample("n", dist.Binomial(torch.tensor([1.0, 2.0]), 0.5), infer=ALL)

    assert "Inhomogeneous total count" in failing(model).found


def test_an_enumeration_that_there_is_not():
    def model():
        sample("z", dist.Bernoulli(0.5), infer={"enumerate": "paralel"})

    assert "did you mean 'parallel'" in failing(model, max_plate_nesting=0).found


def test_a_discrete_site_that_nobody_sums_or_draws():
    def model():
        sample("z", dist.Bernoulli(0.5))

    fault = failing(model, strict_enumeration_warning=False)
    assert "Found vars in model but not guide" in str(fault)
    assert "infer={'enumerate': 'parallel'}" in fault.remedy


@pytest.mark.parametrize(
    "ask, kind",
    [
        (lambda z: 1.0 if z > 0 else 2.0, "a single True or False"),
        (lambda z: 1.0 + float(z), "a single number"),
    ],
)
def test_python_cannot_ask_all_values_at_once(ask, kind):
    def model():
        z = sample("z", dist.Categorical(torch.ones(3)), infer={"enumerate": "parallel"})
        sample("x", dist.Normal(0.0, ask(z)), obs=torch.tensor(1.0))

    with pytest.raises(errors.ModelError, match="after 'z' was enumerated") as caught:
        TraceEnum_ELBO().loss(model, lambda: None)
    assert caught.value.site == "z"
    assert caught.value.expected == kind
    assert caught.value.where.filename == __file__
    assert isinstance(caught.value.__cause__, (RuntimeError, ValueError))


def test_sequential_in_the_model():
    def model():
        sample("z", dist.Bernoulli(0.5), infer={"enumerate": "sequential"})

    assert "parallel" in failing(model).remedy
    with pytest.raises(errors.ModelError, match="enumerated sequentially"):
        infer_discrete(model, -1)()


def test_nothing_is_marked():
    guide = functools.partial(exactly, new(1.0))
    with pytest.warns(errors.PplkitWarning, match="found no sample sites configured"):
        TraceEnum_ELBO().loss(functools.partial(conjugate, new(1.0)), guide)
    with pytest.warns(errors.PplkitWarning, match="infer_discrete found no sample sites"):
        infer_discrete(nothing, -1)()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quiet = TraceEnum_ELBO(strict_enumeration_warning=False)
        quiet.loss(functools.partial(conjugate, new(1.0)), guide)
        infer_discrete(nothing, -1, strict_enumeration_warning=False)()


def test_a_plate_beyond_max_plate_nesting():
    fault = failing(program("nested_plates").model, max_plate_nesting=1)
    assert isinstance(fault, errors.PlateError) and fault.site == "groups"
    assert "max_plate_nesting is too small" in str(fault) and "max_plate_nesting=2" in fault.remedy
    with pytest.raises(errors.PlateError, match="first_available_dim=-3"):
        infer_discrete(program("nested_plates").model, first_available_dim=-2)()


def test_rows_of_no_plate_are_not_taken_for_values():
    def model():
        sample("z", dist.Bernoulli(torch.ones(3) / 2), infer=ALL)

    fault = failing(model, max_plate_nesting=1)
    assert "dimension -1 has size 3 and belongs to no plate" in str(fault)


def test_an_observation_that_meets_the_values():
    def model():
        z = sample("z", dist.Categorical(torch.ones(3)), infer=ALL)
        with plate("data", 5):
            sample("x", dist.Normal(torch.zeros(5, 3)[:, z], 1.0), obs=torch.zeros(5))

    text = str(failing(model, max_plate_nesting=1))
    assert "dim -2 of 'z'" in text and "Vindex" in text


def test_shapes_that_do_not_fit_are_told_with_the_dimensions_of_enumeration():
    def ours():
        sample("z", dist.Categorical(torch.ones(3)), infer=ALL)
        with plate("data", 5):
            sample("x", dist.Normal(torch.zeros(4), 1.0), obs=torch.zeros(4))

    assert "enumerated: dim -2 holds the 3 values of 'z'" in str(failing(ours, max_plate_nesting=1))

    def torchs():
        z = sample("z", dist.Categorical(torch.ones(3)), infer=ALL)
        sample("x", dist.Normal(torch.zeros(5) + z, 1.0), obs=torch.zeros(()))

    with pytest.raises(RuntimeError, match="size of tensor") as caught:
        TraceEnum_ELBO(max_plate_nesting=0).loss(torchs, nothing)
    assert "dim -1 holds the 3 values of 'z'" in caught.value.__notes__[0]


def test_a_step_that_depends_on_one_that_is_forgotten():
    def model():
        z = [torch.tensor(0)] * 2
        for t in markov(range(4)):
            z.append(sample(f"z_{t}", dist.Categorical(torch.ones(2, 2)[z[-2]]), infer=ALL))

    fault = failing(model, max_plate_nesting=0)
    assert fault.site == "z_2" and "history=" in fault.remedy

    def observed():
        z = [torch.tensor(0)]
        for t in markov(range(4)):
            z.append(sample(f"z_{t}", dist.Categorical(torch.ones(2, 2)[z[-1]]), infer=ALL))
            sample(f"x_{t}", dist.Normal(1.0 * z[max(0, t - 1)], 1.0), obs=torch.tensor(0.0))

    assert failing(observed, max_plate_nesting=0).site == "x_2"

    def after():
        z = torch.tensor(0)
        for t in markov(range(4)):
            z = sample(f"z_{t}", dist.Categorical(torch.ones(2, 2)[z]), infer=ALL)
        sample("x", dist.Normal(1.0 * z, 1.0), obs=torch.tensor(0.0))

    assert failing(after, max_plate_nesting=0).site == "x"


def test_more_variables_than_a_tensor_has_dimensions():
    def model():
        for i in range(70):
            sample(f"z_{i}", dist.Bernoulli(0.5), infer=ALL)

    assert "markov" in failing(model, max_plate_nesting=0).remedy


def test_plates_that_cross():
    def model():
        with plate("a", 2, dim=-1):
            z = sample("z", dist.Bernoulli(0.5), infer=ALL)
        with plate("b", 3, dim=-2):
            w = sample("w", dist.Bernoulli(0.5), infer=ALL)
            with plate("a", 2, dim=-1):
                sample("x", dist.Normal(z + w, 1.0), obs=torch.zeros(3, 2))

    fault = failing(model)
    assert "Expected tree-structured plate nesting" in str(fault) and "[a, b]" in str(fault)
    assert fault.where is not None


def test_scales_that_differ_among_connected_sites():
    def model():
        z = sample("z", dist.Bernoulli(0.5), infer=ALL)
        with plate("data", 10, subsample_size=2):
            sample("x", dist.Normal(z, 1.0), obs=torch.zeros(2))

    fault = failing(model)
    assert "share a common poutine.scale" in str(fault) and "1 and 5" in fault.found
    by_row = handlers.scale(gap, scale=torch.ones(6))
    assert "different scales" in str(failing(functools.partial(by_row, DATA)))


@pytest.mark.parametrize("how", ["parallel", "sequential"])
def test_a_guide_that_enumerates_below_what_the_model_sums(how):
    def model():
        g = sample("g", dist.Bernoulli(0.5), infer=ALL)
        with plate("data", 2):
            z = sample("z", dist.Bernoulli(0.5))
            sample("x", dist.Normal(z + g, 1.0), obs=torch.zeros(2))

    def guide():
        with plate("data", 2):
            sample("z", dist.Bernoulli(0.5), infer={"enumerate": how})

    fault = failing(model, guide)
    assert "no more global than guide enumeration" in str(fault) and fault.where is not None


def test_numbers_of_draws():
    def model():
        sample("z", dist.Bernoulli(0.5), infer={"enumerate": "parallel", "num_samples": 3})

    assert "multiply sampled in model" in str(failing(model, max_plate_nesting=0))

    def guide():
        sample("z", dist.Bernoulli(0.5), infer={"enumerate": "parallel", "num_samples": 0})

    plain = handlers.infer_config(model, config_fn=lambda site: {"enumerate": None})
    assert "at least 1" in str(failing(plain, guide, max_plate_nesting=0))


@pytest.mark.parametrize("ask", ["compute_marginals", "sample_posterior"])
def test_questions_without_an_exact_answer(ask):
    def impossible():
        z = sample("z", dist.Bernoulli(0.5), infer=ALL)
        sample("x", dist.Delta(z), obs=torch.tensor(2.0))

    with pytest.raises(errors.InferenceError, match="probability zero"):
        getattr(TraceEnum_ELBO(), ask)(impossible, nothing)
    with pytest.raises(errors.InferenceError, match="probability zero"):
        infer_discrete(impossible, -1, temperature=0)()
    tested = program("all_in_the_guide")
    with pytest.raises(errors.UsageError, match="not compatible with guide enumeration"):
        getattr(TraceEnum_ELBO(), ask)(tested.model, tested.guide)
    with pytest.raises(errors.UsageError, match="not compatible with multiple particles"):
        getattr(TraceEnum_ELBO(num_particles=2), ask)(impossible, nothing)


@pytest.mark.parametrize(
    "call",
    [
        lambda: config_enumerate(nothing, default="all"),
        lambda: config_enumerate(nothing, expand=1),
        lambda: config_enumerate(nothing, num_samples=0),
        lambda: config_enumerate(nothing, default="sequential", num_samples=2),
        lambda: infer_discrete(nothing),
        lambda: infer_discrete(nothing, first_available_dim=0),
        lambda: infer_discrete(nothing, first_available_dim=-1, temperature=0.5),
        lambda: handlers.enum(nothing, first_available_dim=1),
        lambda: Vindex(torch.zeros(3))[0, 0],
        lambda: Vindex(torch.zeros(3))[torch.tensor([0.0, 1.0])],
        lambda: Vindex(torch.zeros(3))[0:2],
        lambda: Vindex(torch.zeros(3, 3))[0, ...],
    ],
)
def test_arguments_that_make_no_sense(call):
    with pytest.raises(errors.UsageError):
        call()


def test_the_automatic_guides_name_enumeration_as_a_way_out():
    def model():
        z = sample("z", dist.Bernoulli(0.5), infer=ALL)
        sample("x", dist.Normal(z, 1.0), obs=torch.tensor(0.0))

    with pytest.raises(errors.ModelError, match="enumerate") as caught:
        AutoNormal(model)()
    assert "TraceEnum_ELBO" in caught.value.remedy and "block" in caught.value.remedy
