"""What all families have in common: shapes, support, seeds, gradients, complaints."""

import inspect
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import pplkit.distributions as dist
from pplkit import checks, errors, handlers, plate, sample

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
FROM_A_FEW = {"Delta", "Empirical", "RelaxedBernoulliStraightThrough", "RelaxedOneHotCategoricalStraightThrough"}


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
    assert d.mask(False).log_prob(x).eq(0).all() and d.mask(False).log_prob(x).shape == d.batch_shape
    torch.testing.assert_close(d.mask(True).log_prob(x), d.log_prob(x))
    assert half.has_rsample == d.has_rsample and half.has_enumerate_support == d.has_enumerate_support
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
    # Nothing but the torch generator of the seed is drawn from: the global one, so seeded, says the same.
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
    for d in (dist.Beta(2.0, 3.0), dist.Dirichlet(torch.ones(3)), dist.Exponential(1.0), dist.Normal(0.0, 1.0)):
        rows = torch.arange(5.0)
        different = torch.func.vmap(lambda r, d=d: d.rsample() + 0 * r.sum(), randomness="different")(rows)
        same = torch.func.vmap(lambda r, d=d: d.rsample() + 0 * r.sum(), randomness="same")(rows)
        assert len(different.reshape(5, -1)[:, 0].unique()) == 5
        assert len(same.reshape(5, -1)[:, 0].unique()) == 1


def test_bad_rows_are_seen_inside_vmap():
    scales = torch.tensor([1.0, -1.0])
    with pytest.raises(errors.DistributionError, match="scale"):
        torch.func.vmap(lambda s: dist.Normal(0.0, s).log_prob(torch.tensor(0.0)))(scales)


# -- complaints --------------------------------------------------------------------------------------------------

BAD = [
    pytest.param(case, name, value, id=f"{case.id}-{name}-{value}")
    for case in CASES
    for name, values in case.bad.items()
    for value in values
]
NAN = [
    pytest.param(case, name, torch.full_like(torch.tensor(value[0], dtype=F64), math.nan), id=f"{case.id}-{name}-nan")
    for case in CASES
    for name, value in case.params.items()
    if (case.name, name) not in {("Delta", "v"), ("Empirical", "samples")}
]


@pytest.mark.parametrize(("case", "parameter", "value"), BAD + NAN)
def test_bad_parameters_are_refused_at_their_site(case, parameter, value):
    value = torch.as_tensor(value, dtype=F64)
    with pytest.raises(errors.DistributionError) as refused:
        sample("x", case.spoilt(parameter, value))
    assert refused.value.site == "x"
    assert f"parameter {parameter} " in str(refused.value) or case.name == "MaskedMixture"
    assert "test_distributions.py" in str(refused.value)


@pytest.mark.parametrize(("case", "parameter", "value"), BAD)
def test_bad_parameters_are_refused_wherever_they_are_used(case, parameter, value):
    value = torch.as_tensor(value, dtype=F64)
    good = case.family(**case.fixed, **{n: t[0] for n, t in case.tensors().items()}).sample()
    with pytest.raises(errors.DistributionError):
        case.spoilt(parameter, value).log_prob(good)
    with pytest.raises(errors.DistributionError):
        case.spoilt(parameter, value).sample()
    with pytest.raises(errors.DistributionError) as in_plate, plate("rows", 3):
        sample("x", case.spoilt(parameter, value))
    assert in_plate.value.site == "x"


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


SEVERAL = [case for case in CASES if len(case.params) > 1 and case.build is None and case.name != "Empirical"]


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


# -- kinds of arguments --------------------------------------------------------------------------------------------

NUMBERS = [
    c
    for c in CASES
    if c.build is None and c.name not in FROM_A_FEW and all(isinstance(v[0], float) for v in c.params.values())
]


@pytest.mark.parametrize("case", NUMBERS, ids=repr)
def test_parameters_can_be_numbers(case):
    numbers = {name: value[0] for name, value in case.params.items()}
    fixed = {n: float(v) if isinstance(v, torch.Tensor) else v for n, v in case.fixed.items()}
    d = case.family(**fixed, **numbers)
    assert d.batch_shape == ()
    x = d.sample((3,))
    assert x.dtype == torch.float32 and d.log_prob(x).shape == (3,)
    reference = case.family(**case.fixed, **{n: torch.tensor(v, dtype=F64) for n, v in numbers.items()})
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
    assert dist.Bernoulli(torch.tensor(True)).log_prob(torch.tensor(1)).item() == pytest.approx(0, abs=1e-6)
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


ENUMERABLE = [case for case in CASES if case.make().has_enumerate_support and case.name != "Empirical"]


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
    torch.testing.assert_close(d.log_prob(values).logsumexp(0), torch.zeros(d.batch_shape, dtype=F64))
    torch.testing.assert_close(d.log_prob(narrow), d.log_prob(values))
    weights = d.log_prob(values).exp().reshape(n, *d.batch_shape, *[1] * d.event_dim)
    if case.name not in ("Categorical", "OrderedLogistic"):
        torch.testing.assert_close((weights * values).sum(0), d.mean)
    wide = d.expand((3, *d.batch_shape)).enumerate_support()
    assert wide.shape == (n, 3, *d.batch_shape, *d.event_shape)


def test_those_who_enumerate():
    names = {case.name for case in ENUMERABLE}
    assert names == {
        "Bernoulli", "BetaBinomial", "Binomial", "Categorical", "OneHotCategorical",
        "OneHotCategoricalStraightThrough", "OrderedLogistic",
    }  # fmt: skip


# -- what waits for the device ---------------------------------------------------------------------------------------


class NoLooking(TorchDispatchMode):
    """Refuses what would fetch a number, or a shape that depends on numbers, from a device."""

    forbidden = ("_local_scalar_dense", "item", "nonzero", "masked_select", "is_nonzero", "equal", "unique")

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
    checks.settle(questions)


# -- others' distributions --------------------------------------------------------------------------------------------

TORCH = {
    "Bernoulli": ([0.3],), "Beta": ([2.0], [3.0]), "Binomial": (3, [0.4]), "Categorical": ([[0.2, 0.8]],),
    "Cauchy": ([0.0], [1.0]), "Chi2": ([3.0],), "ContinuousBernoulli": ([0.3],), "Dirichlet": ([[1.0, 2.0]],),
    "Exponential": ([2.0],), "FisherSnedecor": ([2.0], [3.0]), "Gamma": ([2.0], [3.0]), "Geometric": ([0.3],),
    "GeneralizedPareto": ([0.0], [1.0], [0.3]), "Gumbel": ([0.0], [1.0]), "HalfCauchy": ([1.0],),
    "HalfNormal": ([1.0],), "InverseGamma": ([2.0], [3.0]), "Kumaraswamy": ([2.0], [3.0]), "LKJCholesky": (3, [1.0]),
    "Laplace": ([0.0], [1.0]), "LogNormal": ([0.0], [1.0]), "LogisticNormal": ([[0.0, 1.0]], [[1.0, 1.0]]),
    "LowRankMultivariateNormal": ([[0.0, 1.0]], [[[1.0], [1.0]]], [[1.0, 1.0]]), "Multinomial": (4, [[0.2, 0.8]]),
    "MultivariateNormal": ([[0.0, 1.0]], [[[1.0, 0.5], [0.5, 1.0]]]), "NegativeBinomial": ([3.0], [0.4]),
    "Normal": ([0.0], [1.0]), "OneHotCategorical": ([[0.2, 0.8]],), "OneHotCategoricalStraightThrough": ([[0.2, 0.8]],),
    "Pareto": ([1.0], [2.0]), "Poisson": ([2.0],), "RelaxedBernoulli": ([0.5], [0.3]),
    "RelaxedOneHotCategorical": ([0.5], [[0.2, 0.8]]), "StudentT": ([3.0],), "Uniform": ([0.0], [1.0]),
    "VonMises": ([0.0], [2.0]), "Weibull": ([1.0], [2.0]), "Wishart": ([3.0], [[[1.0, 0.5], [0.5, 1.0]]]),
}  # fmt: skip


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
    bad = td.Independent(td.Normal(torch.zeros(2), torch.tensor([1.0, -1.0]), validate_args=False), 1)
    with pytest.raises(errors.DistributionError, match="scale"):
        sample("x", bad)


def test_a_family_of_ones_own():
    class Triangular(dist.TorchDistribution):
        """On (0, top), density 2 x / top^2; it says neither how to expand nor what its gradients are."""

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


def test_a_distribution_says_what_it_is():
    assert repr(dist.Normal(0, 2.5)) == "Normal(loc: 0, scale: 2.5)"
    assert repr(dist.Gamma(torch.ones(3), 1.0).to_event(1)) == "Independent(Gamma(concentration: (3,), rate: (3,)))"
    assert repr(dist.Bernoulli(logits=1.0)) == "Bernoulli(logits: 1)"
    for case in CASES:
        assert repr(case.make()).startswith(case.name)
