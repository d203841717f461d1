"""What all families have in common: shapes, support, seeds, gradients, complaints."""

import copy
import inspect
import math
import pickle

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import pplkit.distributions as dist
from pplkit import (
    checks,
    clear_param_store,
    errors,
    get_param_store,
    handlers,
    param,
    plate,
    sample,
)
from tests.engine.distribution_cases import CASES, F64, every_family


def test_every_family_has_a_case():
    without = {"Distribution", "TorchDistribution", "Unit", "ImproperUniform"}
    families = {n for n in dist.__all__ if inspect.isclass(getattr(dist, n))} - without
    assert families == {case.name for case in CASES}


@pytest.mark.parametrize(**every_family)
def test_shapes_of_draws_and_log_probabilities(case):
    d = case.make()
    event = tuple(d.event_shape)
    assert d.batch_shape[:1] == (2,) and d.batch_dim + d.event_dim == len(d.shape())
    for s in [(), (4,), (3, 2)]:
        x = d.sample(s)
        assert x.shape == (*s, *d.batch_shape, *event) == d.shape(s)
        assert not x.requires_grad
        assert d.log_prob(x).shape == (*s, *d.batch_shape)
        assert d.log_prob(x).dtype == F64


# Draws are among a few values, though the support is not.
FROM_A_FEW = {
    "Delta",
    "Empirical",
    "RelaxedBernoulliStraightThrough",
    "RelaxedOneHotCategoricalStraightThrough",
}


@pytest.mark.parametrize(**every_family)
def test_expanding_repeats(case):
    d = case.make()
    wide = d.expand((5, *d.batch_shape))
    assert type(wide).__name__ == case.name
    assert wide.batch_shape == (5, *d.batch_shape) == d.expand_by([5]).batch_shape
    assert wide.event_shape == d.event_shape
    x = wide.sample()
    assert x.shape == wide.shape()
    torch.testing.assert_close(wide.log_prob(x), d.log_prob(x))
    if not d.is_discrete and case.name not in FROM_A_FEW:
        assert len(x.reshape(5, -1).unique(dim=0)) == 5  # independent copies
    again = wide.expand((7, *wide.batch_shape))
    assert again.sample((2,)).shape == (2, 7, *wide.shape())


@pytest.mark.parametrize(**every_family)
def test_sizes_of_one_grow(case):
    row = {name: value[:1] for name, value in case.tensors().items()}
    d = case.family(**case.fixed, **row)
    wide = d.expand((3, *d.batch_shape[1:]))
    x = wide.sample((2,))
    assert x.shape == (2, 3, *d.batch_shape[1:], *d.event_shape)
    torch.testing.assert_close(wide.log_prob(x), d.log_prob(x))


@pytest.mark.parametrize(**every_family)
def test_declaring_events_sums(case):
    d = case.make()
    one = d.to_event()
    assert (one.batch_shape, one.event_shape) == ((), d.shape())
    x = one.sample((3,))
    summed = d.log_prob(x).flatten(1).sum(-1)
    torch.testing.assert_close(one.log_prob(x), summed)
    assert one.has_rsample == d.has_rsample and one.support.event_dim == one.event_dim
    assert d.to_event(0).shape() == d.shape()
    back = d.to_event(1).to_event(-1)
    assert (back.batch_shape, back.event_shape) == (d.batch_shape, d.event_shape)
    with pytest.raises(errors.ShapeError, match="reinterpreted_batch_ndims"):
        d.to_event(d.batch_dim + 1)


@pytest.mark.parametrize(**every_family)
def test_masks_switch_log_probabilities_off(case):
    d = case.make()
    mask = torch.tensor([True, False]).reshape(2, *[1] * (d.batch_dim - 1))
    half, x = d.mask(mask), d.sample()
    torch.testing.assert_close(half.log_prob(x), torch.where(mask, d.log_prob(x), 0.0))
    assert half.log_prob(x).shape == d.batch_shape
    assert (
        d.mask(False).log_prob(x).eq(0).all() and d.mask(False).log_prob(x).shape == d.batch_shape
    )
    torch.testing.assert_close(d.mask(True).log_prob(x), d.log_prob(x))
    assert (
        half.has_rsample == d.has_rsample and half.has_enumerate_support == d.has_enumerate_support
    )
    assert half.expand((3, *d.batch_shape)).log_prob(x)[:, 1].eq(0).all()
    assert d.mask(torch.ones(4, *d.batch_shape) == 1).sample().shape == (4, *d.shape())


@pytest.mark.parametrize(**every_family)
def test_draws_lie_in_the_support_and_keep_the_type(case):
    for dtype in (torch.float32, F64):
        d = case.make(dtype)
        x = d.sample((200,))
        if x.is_floating_point() and "temperature" not in case.fixed:
            assert x.dtype == dtype
        assert d.support.check(x).all()
        assert d.log_prob(x).isfinite().all()


@pytest.mark.parametrize(**every_family)
def test_the_seed_handler_alone_decides_the_draws(case):
    d = case.make()
    before = torch.get_rng_state()
    with handlers.seed(rng_seed=1):
        first, second = d.sample((20,)), d.sample((20,))
    with handlers.seed(rng_seed=1):
        again = d.sample((20,))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    if case.name != "Delta":
        assert not torch.equal(first, second)
    # Nothing but the torch generator of the seed is drawn from: the global one, so seeded, says the
    # same.
    torch.manual_seed(1)
    assert torch.equal(d.sample((20,)), first)


@pytest.mark.parametrize(**every_family)
def test_a_site_draws_inside_plates(case):
    d = case.make()
    plates = [plate(f"p{i}", n, dim=i - d.batch_dim) for i, n in enumerate(d.batch_shape)]
    outer = plate("outer", 3, dim=-d.batch_dim - 1)

    def model():
        for p in plates:
            p.__enter__()
        try:
            with outer:
                return sample("x", d)
        finally:
            for p in reversed(plates):
                p.__exit__(None, None, None)

    tr = handlers.trace(model).get_trace()
    site = tr.nodes["x"]
    assert site.value.shape == (3, *d.shape()) and site.log_prob.shape == (3, *d.batch_shape)
    assert site.value.requires_grad is False


def differentiable(case):
    """The parameters that a draw depends on smoothly."""
    return {n: t for n, t in case.tensors().items() if n != "total_count"}


WITH_GRADIENT = [case for case in CASES if case.make().has_rsample and case.name != "Delta"]


def drawn(case, params, fixed):
    return case.family(**case.fixed, **fixed, **params).rsample()


@pytest.mark.parametrize("case", WITH_GRADIENT, ids=repr)
def test_gradients_of_draws_through_torch_func(case):
    params = differentiable(case)
    fixed = {n: t for n, t in case.tensors().items() if n not in params}
    weight = torch.linspace(0.5, 1.5, drawn(case, params, fixed).numel(), dtype=F64)

    def loss(params):
        return (drawn(case, params, fixed).flatten() * weight).sum()

    with handlers.seed(rng_seed=0):
        functional = torch.func.grad(loss)(params)
    leaves = {n: t.clone().requires_grad_() for n, t in params.items()}
    with handlers.seed(rng_seed=0):
        eager = torch.autograd.grad(loss(leaves), list(leaves.values()))
    for name, gradient in zip(leaves, eager, strict=True):
        assert gradient.isfinite().all()
        torch.testing.assert_close(functional[name], gradient)
    assert any(g.abs().sum() > 0 for g in eager) or case.name == "MaskedMixture"


@pytest.mark.parametrize("case", WITH_GRADIENT, ids=repr)
@pytest.mark.filterwarnings("error")
def test_gradients_of_draws_inside_vmap(case):
    params = differentiable(case)
    fixed = {n: t for n, t in case.tensors().items() if n not in params}

    def loss(params, fixed):
        x = drawn(case, params, fixed)
        return (x * torch.linspace(0.5, 1.5, x.numel(), dtype=F64).reshape(x.shape)).sum()

    rows = torch.func.vmap(torch.func.grad(loss), randomness="different")
    with handlers.seed(rng_seed=0):
        inside = rows(params, fixed)
    leaves = {n: t.clone().requires_grad_() for n, t in params.items()}
    with handlers.seed(rng_seed=0):
        total = torch.func.vmap(loss, randomness="different")(leaves, fixed).sum()
        outside = torch.autograd.grad(total, list(leaves.values()))
    for name, gradient in zip(leaves, outside, strict=True):
        torch.testing.assert_close(inside[name], gradient)


@pytest.mark.parametrize(**every_family)
@pytest.mark.filterwarnings("error")
def test_log_probabilities_inside_vmap(case):
    d, params = case.make(), case.tensors()
    x = d.sample().clone()
    rows = torch.func.vmap(lambda p, x: case.family(**case.fixed, **p).log_prob(x))
    torch.testing.assert_close(rows(params, x), d.log_prob(x))


def test_rows_of_vmap_differ_unless_told_otherwise():
    for d in (
        dist.Beta(2.0, 3.0),
        dist.Dirichlet(torch.ones(3)),
        dist.Exponential(1.0),
        dist.Normal(0.0, 1.0),
    ):
        rows = torch.arange(5.0)
        different = torch.func.vmap(
            lambda r, d=d: d.rsample() + 0 * r.sum(), randomness="different"
        )(rows)
        same = torch.func.vmap(lambda r, d=d: d.rsample() + 0 * r.sum(), randomness="same")(rows)
        assert len(different.reshape(5, -1)[:, 0].unique()) == 5
        assert len(same.reshape(5, -1)[:, 0].unique()) == 1


def test_bad_rows_are_seen_inside_vmap():
    scales = torch.tensor([1.0, -1.0])
    with pytest.raises(errors.DistributionError, match="scale"):
        torch.func.vmap(lambda s: dist.Normal(0.0, s).log_prob(torch.tensor(0.0)))(scales)


# -- complaints ------------------------------------------------------------------------------------

NO_NAN = {("Delta", "v"), ("Empirical", "samples")}  # the values themselves
REFUSED = [
    pytest.param(case, name, values, id=f"{case.id}-{name}")
    for case in CASES
    for name, first in case.params.items()
    if (
        values := case.bad.get(name, [])
        + (
            []
            if (case.name, name) in NO_NAN
            else [torch.full_like(torch.tensor(first[0], dtype=F64), math.nan)]
        )
    )
]


@pytest.mark.parametrize(("case", "parameter", "values"), REFUSED)
def test_bad_parameters_are_refused_where_they_are_used(case, parameter, values):
    good = case.family(**case.fixed, **{n: t[0] for n, t in case.tensors().items()}).sample()
    for value in values:
        bad = case.spoilt(parameter, torch.as_tensor(value, dtype=F64))
        with pytest.raises(errors.DistributionError) as refused:
            sample("x", bad)
        assert refused.value.site == "x"
        assert f"parameter {parameter} " in str(refused.value) or case.name == "MaskedMixture"
        assert "test_distributions.py" in str(refused.value)
        with pytest.raises(errors.DistributionError) as in_plate, plate("rows", 3):
            sample("y", bad)
        assert in_plate.value.site == "y"
        with pytest.raises(errors.DistributionError):
            bad.log_prob(good)
        with pytest.raises(errors.DistributionError):
            bad.sample()


@pytest.mark.parametrize(**every_family)
def test_values_outside_the_support_are_refused(case):
    d = case.make()
    free = case.name in ("NanMaskedNormal", "NanMaskedMultivariateNormal")
    x = torch.full(d.shape(), math.nan, dtype=F64)
    if free:
        assert d.log_prob(x).eq(0).all()
        return
    with pytest.raises(errors.DistributionError, match="within the support"):
        d.log_prob(x)
    with pytest.raises(errors.DistributionError) as refused:
        sample("x", d, obs=x)
    assert refused.value.site == "x"
    with checks.validation_enabled(False):
        d.log_prob(d.sample())


SEVERAL = [
    case
    for case in CASES
    if len(case.params) > 1 and case.build is None and case.name != "Empirical"
]


@pytest.mark.parametrize("case", SEVERAL, ids=repr)
def test_shapes_that_do_not_broadcast_are_explained(case):
    params = case.tensors()
    (first, value), *_ = params.items()
    params[first] = torch.cat([value, value[:1]])  # three rows against two
    with pytest.raises(errors.PplkitError) as refused:
        case.family(**case.fixed, **params)
    text = str(refused.value)
    assert isinstance(refused.value, ValueError)
    for said in (case.name, *(f"{n} ({', '.join(map(str, t.shape))}" for n, t in params.items())):
        assert said in text
    assert "test_distributions.py" in text


def test_wrong_arguments_are_explained():
    with pytest.raises(errors.DistributionError, match="Bernoulli: Either `probs` or `logits`"):
        dist.Bernoulli()
    with pytest.raises(errors.DistributionError, match="Categorical"):
        dist.Categorical(probs=torch.ones(2), logits=torch.ones(2))
    with pytest.raises(TypeError, match="argument"):
        dist.Normal(0.0)
    with pytest.raises(TypeError, match="std"):
        dist.Normal(0.0, std=1.0)
    with pytest.raises(errors.PplkitError, match="Normal"):
        dist.Normal("zero", 1.0)
    with pytest.raises(errors.DistributionError, match="total_count"):
        dist.Multinomial(-1, torch.ones(3))
    with pytest.raises(errors.DistributionError, match="dim"):
        dist.LKJCholesky(1, 1.0)
    with pytest.raises(errors.UsageError, match="mask"):
        dist.Normal(0.0, 1.0).mask("yes")
    with pytest.raises(errors.DistributionError, match="could not be drawn"):
        sample("x", dist.ImproperUniform(dist.constraints.real, (), ()))


# -- kinds of arguments ----------------------------------------------------------------------------

NUMBERS = [
    c
    for c in CASES
    if c.build is None
    and c.name not in FROM_A_FEW
    and all(isinstance(v[0], float) for v in c.params.values())
]


@pytest.mark.parametrize("case", NUMBERS, ids=repr)
def test_parameters_can_be_numbers(case):
    numbers = {name: value[0] for name, value in case.params.items()}
    fixed = {n: float(v) if isinstance(v, torch.Tensor) else v for n, v in case.fixed.items()}
    d = case.family(**fixed, **numbers)
    assert d.batch_shape == ()
    x = d.sample((3,))
    assert x.dtype == torch.float32 and d.log_prob(x).shape == (3,)
    reference = case.family(
        **case.fixed, **{n: torch.tensor(v, dtype=F64) for n, v in numbers.items()}
    )
    with checks.validation_enabled(False):  # single precision is too little for double's support
        expected = reference.log_prob(x.double())
    torch.testing.assert_close(d.log_prob(x).double(), expected, rtol=1e-3, atol=1e-4)
    assert d.expand((2,)).sample().shape == (2, *d.event_shape)


@pytest.mark.parametrize(**every_family)
def test_parameters_can_be_lists_and_arrays(case):
    if case.build is not None:
        case = next(c for c in CASES if c.name == "Dirichlet")
    d = case.family(**case.fixed, **case.params)
    arrays = case.family(**case.fixed, **{n: t.numpy() for n, t in case.tensors().items()})
    assert d.shape() == arrays.shape() == case.make().shape()
    assert arrays.log_prob(arrays.sample()).dtype == F64


def test_whole_numbers_are_parameters_too():
    zero, one = torch.tensor(0), torch.tensor(1)
    d = dist.Normal(0.5, one)
    assert d.loc == 0.5 and d.sample().dtype == torch.float32
    assert dist.Normal(zero, one).log_prob(zero).item() == pytest.approx(-0.918938533)
    assert dist.Poisson(torch.tensor(3)).sample().dtype == torch.float32
    assert dist.Categorical(torch.tensor([1, 3])).probs.tolist() == [0.25, 0.75]
    assert dist.Dirichlet([1, 2, 3]).mean.shape == (3,)
    assert dist.Bernoulli(torch.tensor(True)).log_prob(torch.tensor(1)).item() == pytest.approx(
        0, abs=1e-6
    )
    assert dist.Gamma(2, 3).sample().dtype == torch.float32


DISCRETE = [case for case in CASES if case.make().is_discrete]


@pytest.mark.parametrize("case", DISCRETE, ids=repr)
def test_counts_can_be_whole_numbers(case):
    d = case.make()
    x = d.sample((10,))
    expected = d.log_prob(x.double())
    for dtype in (torch.int64, torch.int32, torch.uint8):
        torch.testing.assert_close(d.log_prob(x.to(dtype)), expected)
    if x.max() <= 1:
        torch.testing.assert_close(d.log_prob(x.bool()), expected)
    tr = handlers.trace(lambda: sample("x", d, obs=x[0].long())).get_trace()
    torch.testing.assert_close(tr.nodes["x"].unscaled_log_prob, expected[0])


def test_values_can_be_numbers():
    assert dist.Normal(0.0, 1.0).log_prob(0).item() == pytest.approx(-0.918938533)
    assert dist.Poisson(2.0).log_prob(3).item() == pytest.approx(math.log(8 / 6) - 2)
    assert dist.Categorical(torch.ones(4)).log_prob(2).item() == pytest.approx(math.log(0.25))
    assert dist.Normal(torch.zeros((), dtype=F64), 1.0).cdf(0).dtype == F64


ENUMERABLE = [
    case for case in CASES if case.make().has_enumerate_support and case.name != "Empirical"
]


@pytest.mark.parametrize("case", ENUMERABLE, ids=repr)
def test_enumerated_values_are_the_whole_support(case):
    params = case.tensors()
    if "total_count" in params:
        params["total_count"] = torch.full((2,), 4.0, dtype=F64)
    d = case.family(**case.fixed, **params)
    values, narrow = d.enumerate_support(), d.enumerate_support(expand=False)
    n = len(values)
    assert values.shape == (n, *d.batch_shape, *d.event_shape)
    assert narrow.shape == (n, *[1] * d.batch_dim, *d.event_shape)
    assert torch.equal(narrow.expand(values.shape), values)
    assert d.support.check(values).all()
    torch.testing.assert_close(
        d.log_prob(values).logsumexp(0), torch.zeros(d.batch_shape, dtype=F64)
    )
    torch.testing.assert_close(d.log_prob(narrow), d.log_prob(values))
    weights = d.log_prob(values).exp().reshape(n, *d.batch_shape, *[1] * d.event_dim)
    if case.name not in ("Categorical", "OrderedLogistic"):
        torch.testing.assert_close((weights * values).sum(0), d.mean)
    wide = d.expand((3, *d.batch_shape)).enumerate_support()
    assert wide.shape == (n, 3, *d.batch_shape, *d.event_shape)


def test_those_who_enumerate():
    names = {case.name for case in ENUMERABLE}
    assert names == {
        "Bernoulli",
        "BetaBinomial",
        "Binomial",
        "Categorical",
        "OneHotCategorical",
        "OneHotCategoricalStraightThrough",
        "OrderedLogistic",
    }


# -- what waits for the device ---------------------------------------------------------------------


class NoLooking(TorchDispatchMode):
    """Refuses what would fetch a number, or a shape that depends on numbers, from a device."""

    forbidden = (
        "_local_scalar_dense",
        "item",
        "nonzero",
        "masked_select",
        "is_nonzero",
        "equal",
        "unique",
    )

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.split("::")[1]
        looked = name in self.forbidden or (
            name in ("index", "index_put_", "index_put")
            and any(t is not None and t.dtype == torch.bool for t in args[1])
        )
        assert not looked, f"{name} waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(**every_family)
def test_log_probabilities_and_draws_do_not_wait_for_the_device(case, monkeypatch):
    # On a CPU a look is free, and Dirichlet takes it; elsewhere it goes another way.
    monkeypatch.setattr(dist.pathwise, "_needs_logarithms", lambda concentration: True)
    x, params = case.make().sample(), case.tensors()
    with checks.asked_together() as questions, NoLooking():
        d = case.family(**case.fixed, **params)
        d.log_prob(x.clone())
        d.expand((3, *d.batch_shape)).log_prob(x.clone())
        if d.has_rsample:
            d.rsample((2,))
    for question in questions:
        if not question.holds:
            raise question.error()


# -- others' distributions -------------------------------------------------------------------------

TORCH = {
    "Bernoulli": ([0.3],),
    "Beta": ([2.0], [3.0]),
    "Binomial": (3, [0.4]),
    "Categorical": ([[0.2, 0.8]],),
    "Cauchy": ([0.0], [1.0]),
    "Chi2": ([3.0],),
    "ContinuousBernoulli": ([0.3],),
    "Dirichlet": ([[1.0, 2.0]],),
    "Exponential": ([2.0],),
    "FisherSnedecor": ([2.0], [3.0]),
    "Gamma": ([2.0], [3.0]),
    "Geometric": ([0.3],),
    "GeneralizedPareto": ([0.0], [1.0], [0.3]),
    "Gumbel": ([0.0], [1.0]),
    "HalfCauchy": ([1.0],),
    "HalfNormal": ([1.0],),
    "InverseGamma": ([2.0], [3.0]),
    "Kumaraswamy": ([2.0], [3.0]),
    "LKJCholesky": (3, [1.0]),
    "Laplace": ([0.0], [1.0]),
    "LogNormal": ([0.0], [1.0]),
    "LogisticNormal": ([[0.0, 1.0]], [[1.0, 1.0]]),
    "LowRankMultivariateNormal": ([[0.0, 1.0]], [[[1.0], [1.0]]], [[1.0, 1.0]]),
    "Multinomial": (4, [[0.2, 0.8]]),
    "MultivariateNormal": ([[0.0, 1.0]], [[[1.0, 0.5], [0.5, 1.0]]]),
    "NegativeBinomial": ([3.0], [0.4]),
    "Normal": ([0.0], [1.0]),
    "OneHotCategorical": ([[0.2, 0.8]],),
    "OneHotCategoricalStraightThrough": ([[0.2, 0.8]],),
    "Pareto": ([1.0], [2.0]),
    "Poisson": ([2.0],),
    "RelaxedBernoulli": ([0.5], [0.3]),
    "RelaxedOneHotCategorical": ([0.5], [[0.2, 0.8]]),
    "StudentT": ([3.0],),
    "Uniform": ([0.0], [1.0]),
    "VonMises": ([0.0], [2.0]),
    "Weibull": ([1.0], [2.0]),
    "Wishart": ([3.0], [[[1.0, 0.5], [0.5, 1.0]]]),
}


@pytest.mark.parametrize("name", TORCH)
def test_torch_distributions_are_adopted(name):
    # Torch's own GeneralizedPareto takes single precision alone.
    dtype = torch.float32 if name == "GeneralizedPareto" else F64
    args = [torch.tensor(a, dtype=dtype) if isinstance(a, list) else a for a in TORCH[name]]
    theirs = getattr(torch.distributions, name)(*args)
    ours = dist.adopt(theirs)
    assert isinstance(ours, dist.Distribution)
    assert type(ours) is getattr(dist, name)
    assert ours.shape() == theirs.batch_shape + theirs.event_shape
    with plate("rows", 4, dim=-2):
        x = sample("x", theirs)
    assert x.shape == (4, *ours.shape())
    torch.testing.assert_close(ours.expand((4, *ours.batch_shape)).log_prob(x), theirs.log_prob(x))


def test_torch_wrappers_are_adopted_inside_out():
    td = torch.distributions
    mixture = td.MixtureSameFamily(td.Categorical(torch.ones(2)), td.Normal(torch.zeros(3, 2), 1.0))
    moved = td.TransformedDistribution(td.Normal(torch.zeros(3), 1.0), td.ExpTransform())
    for theirs in (mixture, moved, td.Independent(td.Beta(torch.ones(3), 2.0), 1)):
        ours = dist.adopt(theirs)
        assert all(isinstance(part, dist.Distribution) for part in ours.parts())
        x = ours.sample()
        torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x))
    bad = td.Independent(
        td.Normal(torch.zeros(2), torch.tensor([1.0, -1.0]), validate_args=False), 1
    )
    with pytest.raises(errors.DistributionError, match="scale"):
        sample("x", bad)


def test_a_family_of_ones_own():
    class Triangular(dist.TorchDistribution):
        """On (0, top), density 2 x / top^2; it says neither how to expand nor what its gradients
        are.
        """

        arg_constraints = {"top": dist.constraints.positive}
        support = dist.constraints.positive

        def __init__(self, top):
            self.top = torch.as_tensor(top)
            super().__init__(self.top.shape)

        def sample(self, sample_shape=()):
            return self.top * torch.rand(self.shape(sample_shape)).sqrt()

        def log_prob(self, value):
            return (2 * value / self.top**2).log()

    with handlers.seed(rng_seed=0), plate("rows", 5):
        x = sample("x", Triangular(3.0))
    assert x.shape == (5,) and len(x.unique()) == 5
    wide = Triangular(torch.tensor([[1.0], [2.0]])).expand((4, 2, 3))
    y = wide.sample((6,))
    assert y.shape == (6, 4, 2, 3) and y[:, :, 0].max() <= 1 < y[:, :, 1].max()
    assert wide.log_prob(y).shape == (6, 4, 2, 3)
    with pytest.raises(errors.DistributionError) as refused:
        sample("bad", Triangular(-1.0))
    assert refused.value.site == "bad" and "Triangular" in str(refused.value)


def test_distributions_can_be_pickled_and_copied():
    for case in CASES:
        d = case.make()
        x = d.sample()
        twins = [copy.copy(d), copy.deepcopy(d)]
        twins += [pickle.loads(pickle.dumps(d))] if case.name != "TransformedDistribution" else []
        for twin in twins:
            torch.testing.assert_close(twin.log_prob(x), d.log_prob(x))


def test_a_distribution_says_what_it_is():
    assert repr(dist.Normal(0, 2.5)) == "Normal(loc: 0, scale: 2.5)"
    assert (
        repr(dist.Gamma(torch.ones(3), 1.0).to_event(1))
        == "Independent(Gamma(concentration: (3,), rate: (3,)))"
    )
    assert repr(dist.Bernoulli(logits=1.0)) == "Bernoulli(logits: 1)"
    for case in CASES:
        assert repr(case.make()).startswith(case.name)


# -- constraints and their bijections --------------------------------------------------------------

C = dist.constraints
# A constraint, a point inside it, and points outside.
CONSTRAINED = {
    "real": (C.real, [0.3, -2.0], [math.nan]),
    "anything": (C.anything, [0.3, -2.0], None),
    "positive": (C.positive, [0.3, 2.0], [0.0, 1.0]),
    "nonnegative": (C.nonnegative, [0.3, 2.0], [-1.0, 1.0]),
    "softplus_positive": (C.softplus_positive, [0.3, 20.0], [-1.0, 1.0]),
    "greater_than": (C.greater_than(2.0), [2.5, 9.0], [2.0, 3.0]),
    "less_than": (C.less_than(2.0), [1.5, -9.0], [2.0, 1.0]),
    "interval": (C.interval(-1.0, 3.0), [0.5, 2.5], [3.5, 0.0]),
    "unit_interval": (C.unit_interval, [0.5, 0.9], [1.5, 0.0]),
    "simplex": (C.simplex, [0.2, 0.3, 0.5], [-0.2, 0.7, 0.5]),
    "ordered_vector": (C.ordered_vector, [-1.0, 0.5, 3.0], [0.0, 0.0, 1.0]),
    "positive_ordered_vector": (C.positive_ordered_vector, [0.5, 0.7, 3.0], [-1.0, 0.0, 1.0]),
    "lower_cholesky": (C.lower_cholesky, [[1.0, 0.0], [0.5, 2.0]], [[1.0, 0.0], [0.5, -2.0]]),
    "softplus_lower_cholesky": (
        C.softplus_lower_cholesky,
        [[1.0, 0.0], [0.5, 2.0]],
        [[1.0, 1.0], [0.5, 2.0]],
    ),
    "unit_lower_cholesky": (
        C.unit_lower_cholesky,
        [[1.0, 0.0], [0.5, 1.0]],
        [[2.0, 0.0], [0.5, 1.0]],
    ),
    "positive_definite": (C.positive_definite, [[1.0, 0.5], [0.5, 2.0]], [[1.0, 2.0], [2.0, 1.0]]),
    "torch_positive_definite": (
        torch.distributions.constraints.positive_definite,
        [[1.0, 0.5], [0.5, 2.0]],
        [[1.0, 2.0], [2.0, 1.0]],
    ),
    "corr_cholesky": (C.corr_cholesky, [[1.0, 0.0], [0.6, 0.8]], [[1.0, 0.0], [0.6, 0.9]]),
    "corr_matrix": (C.corr_matrix, [[1.0, 0.6], [0.6, 1.0]], [[1.0, 0.6], [0.6, 1.1]]),
    "independent": (C.independent(C.positive, 1), [0.3, 2.0], [0.0, 1.0]),
}


@pytest.mark.parametrize("name", CONSTRAINED)
def test_constraints_can_be_those_of_parameters(name):
    constraint, inside, outside = CONSTRAINED[name]
    inside = torch.tensor(inside, dtype=F64)
    assert constraint.check(inside).all()
    clear_param_store()
    value = param("p", inside, constraint=constraint)
    torch.testing.assert_close(value, inside)
    with torch.no_grad():  # wherever an optimiser goes, the value stays inside
        get_param_store().unconstrained("p").add_(
            torch.linspace(-0.7, 0.9, value.numel())[: value.numel()].sum() + 0.3
        )
    assert constraint.check(get_param_store()["p"].detach()).all()
    if outside is not None:
        with pytest.raises(errors.ParamError):
            param("q", torch.tensor(outside, dtype=F64), constraint=constraint)


@pytest.mark.parametrize("name", CONSTRAINED)
def test_bijections_and_their_jacobians(name):
    constraint, inside, _ = CONSTRAINED[name]
    transform = dist.biject_to(constraint)
    y = torch.tensor(inside, dtype=F64)
    x = transform.inv(y)
    torch.testing.assert_close(transform(x), y)
    torch.testing.assert_close(
        dist.transform_to(constraint)(dist.transform_to(constraint).inv(y)), y
    )
    assert (
        transform.forward_shape(x.shape) == y.shape and transform.inverse_shape(y.shape) == x.shape
    )
    # The determinant, over the free coordinates of y: as many as x has.
    jacobian = torch.func.jacrev(lambda x: free(name, transform(x)))(x)
    if transform.domain.event_dim == 0:
        expected = jacobian.diagonal().abs().log()
    else:
        expected = jacobian.reshape(x.numel(), x.numel()).det().abs().log()
    torch.testing.assert_close(transform.log_abs_det_jacobian(x, y), expected)


def free(name, y):
    """Those elements of a value that its constraint leaves free."""
    if name == "simplex":
        return y[..., :-1]
    if y.dim() < 2:
        return y
    diagonal = -1 if name in ("unit_lower_cholesky", "corr_cholesky", "corr_matrix") else 0
    rows, columns = torch.tril_indices(2, 2, diagonal)
    return y[rows, columns]


def test_batches_of_constrained_matrices():
    for constraint in (C.lower_cholesky, C.positive_definite, C.unit_lower_cholesky, C.corr_matrix):
        transform = dist.biject_to(constraint)
        size = 3 if constraint in (C.unit_lower_cholesky, C.corr_matrix) else 6
        x = torch.linspace(-1, 1, 5 * size, dtype=F64).reshape(5, size)
        y = transform(x)
        assert y.shape == (5, 3, 3) and constraint.check(y).all()
        torch.testing.assert_close(transform.inv(y), x)
        assert transform.log_abs_det_jacobian(x, y).shape == (5,)
    with pytest.raises(ValueError, match="do not fill"):
        dist.biject_to(C.lower_cholesky)(torch.zeros(4))


def test_a_direction_is_reached_from_any_vector():
    to = dist.transform_to(C.sphere)
    y = to(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    assert C.sphere.check(y).all() and y[1].tolist() == [1.0, 0.0]
    assert not C.sphere.check(torch.tensor([1.0, 0.1]))


TRANSFORMS = {
    "ELU": (dist.transforms.ELUTransform(), [-1.5, 0.3]),
    "LeakyReLU": (dist.transforms.LeakyReLUTransform(), [-1.5, 0.3]),
    "PositivePower": (dist.transforms.PositivePowerTransform(1.7), [-1.5, 0.3]),
    "Permute": (dist.transforms.Permute(torch.tensor([2, 0, 1])), [0.1, 0.2, 0.3]),
    "LowerCholeskyAffine": (
        dist.transforms.LowerCholeskyAffine(
            torch.ones(2, dtype=F64), torch.tensor([[1.0, 0.0], [0.5, 2.0]], dtype=F64)
        ),
        [0.3, -0.7],
    ),
    "Ordered": (dist.transforms.OrderedTransform(), [0.3, -0.7, 1.0]),
    "SimplexToOrdered": (dist.transforms.SimplexToOrderedTransform(0.5), [0.2, 0.3, 0.5]),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_against_their_jacobians(name):
    transform, x = TRANSFORMS[name]
    x = torch.tensor(x, dtype=F64)
    y = transform(x)
    torch.testing.assert_close(transform.inv(y), x)
    assert transform.codomain.check(y).all()
    assert transform == transform.with_cache(1) or name in ("Permute", "LowerCholeskyAffine")
    if name == "SimplexToOrdered":  # from the first elements, the last follows
        f = lambda head: transform(torch.cat([head, 1 - head.sum(-1, keepdim=True)]))
        expected = torch.func.jacrev(f)(x[:-1]).det().abs().log()
    else:
        jacobian = torch.func.jacrev(transform)(x)
        expected = (
            jacobian.det().abs().log() if transform.event_dim else jacobian.diagonal().abs().log()
        )
    torch.testing.assert_close(transform.log_abs_det_jacobian(x, y), expected)


# -- divergences -----------------------------------------------------------------------------------

VECTOR = dist.MultivariateNormal(torch.tensor([0.1, -0.4]), torch.tensor([[1.0, 0.5], [0.5, 2.0]]))
BELLS = dist.Normal(torch.tensor([0.5, -1.0]), torch.tensor([0.7, 1.5]))
PAIRS = {
    "events against a vector": (BELLS.to_event(1), VECTOR),
    "one event within another": (
        BELLS.expand((3, 2)).to_event(2),
        dist.Normal(0.0, 1.0).expand((3, 2)).to_event(2),
    ),
    "numbers against vectors": (BELLS.expand((3, 2)).to_event(2), VECTOR.expand((3,)).to_event(1)),
    "gamma": (dist.Gamma(2.0, 3.0), dist.Gamma(1.5, 1.0)),
    "beta": (dist.Beta(2.0, 3.0), dist.Beta(1.5, 1.0)),
    "a point": (dist.Delta(torch.tensor([0.3, 0.2]), event_dim=1), VECTOR),
    "points": (dist.Delta(torch.tensor([0.3, 0.2])).to_event(1), VECTOR),
}


@pytest.mark.parametrize("name", PAIRS)
def test_divergences_against_their_definition(name):
    p, q = PAIRS[name]
    kl = dist.kl_divergence(p, q)
    with handlers.seed(rng_seed=0):
        x = p.sample((20_000,))
    terms = p.log_prob(x) - q.log_prob(x)
    error = terms.std() / len(terms) ** 0.5 + 1e-5
    assert kl.shape == p.batch_shape and abs(kl - terms.mean()) < 4 * error


def test_masked_divergences():
    p, q, mask = BELLS, dist.Normal(0.0, 1.0), torch.tensor([True, False])
    whole = dist.kl_divergence(p, q)
    expected = torch.where(mask, whole, 0.0)
    for pair in (
        (p.mask(mask), q),
        (p, q.expand((2,)).mask(mask)),
        (p.mask(True), q.mask(mask)),
        (p.mask(mask), q.mask(mask)),
    ):
        torch.testing.assert_close(dist.kl_divergence(*pair), expected)
    assert dist.kl_divergence(p.mask(False), q).eq(0).all()
