"""Log-probabilities, moments, distribution functions: against SciPy, against integrals, and against
Pyro.
"""

import math

import numpy as np
import pyro.distributions as pyro_dist
import pytest
import scipy.special as sp
import scipy.stats as st
import torch
from scipy import integrate

import pplkit.distributions as dist
from pplkit import handlers
from pplkit.distributions.special import betainc
from tests.engine.distribution_cases import CASES, F64, REFERENCES

PROBABILITIES = np.array([1e-12, 1e-6, 0.01, 0.2, 0.5, 0.7, 0.99, 1 - 1e-6])[:, None]


def tensor(x):
    return torch.tensor(np.array(x), dtype=F64)


def made(case):
    params = case.combinations()
    theirs = case.scipy(*(v.numpy() for v in params.values()))
    return (case.build or getattr(dist, case.name))(**params), theirs, params


@pytest.mark.parametrize("case", REFERENCES, ids=repr)
def test_log_prob_against_scipy(case):
    d, theirs, _ = made(case)
    x = tensor(theirs.ppf(PROBABILITIES))
    logp = theirs.logpmf if d.is_discrete else theirs.logpdf
    if case.name == "VonMises":
        x = (x + math.pi) % (2 * math.pi) - math.pi
    expected = tensor(logp(x.numpy()))
    kept = expected.isfinite()
    assert kept.float().mean() > 0.9
    # Single digits get lost where SciPy adds large logarithms.
    torch.testing.assert_close(d.log_prob(x)[kept], expected[kept], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", REFERENCES, ids=repr)
def test_moments_against_scipy(case):
    d, theirs, params = made(case)
    finite = case.variance_from(params) if case.variance_from else torch.ones(d.batch_shape) == 1
    if not finite.any():
        return
    mean, variance = (
        tensor(np.broadcast_to(m, d.batch_shape)) for m in (theirs.mean(), theirs.var())
    )
    torch.testing.assert_close(d.mean[finite], mean[finite], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(d.variance[finite], variance[finite], rtol=1e-8, atol=1e-12)


WITHOUT_ICDF = {
    "AffineBeta",
    "Beta",
    "BetaBinomial",
    "Binomial",
    "Chi2",
    "FisherSnedecor",
    "FoldedDistribution",
    "Gamma",
    "GammaPoisson",
    "InverseGamma",
    "Bernoulli",
    "Geometric",
    "NegativeBinomial",
    "Poisson",
    "StudentT",
    "VonMises",
}


def areas(d, x):
    """What lies under densities of angles, from -pi to `x`, of shape (points, rows)."""
    loc, k = d.loc.numpy(), d.concentration.numpy()

    def area(i, value):
        peak = np.clip(loc[i] + np.array([-1.0, 0.0, 1.0]) / np.sqrt(k[i]), -math.pi, value)
        parts = np.concatenate([[-math.pi], peak, [value]])
        pdf = st.vonmises(k[i], loc[i]).pdf
        return sum(
            integrate.quad(pdf, a, b, epsabs=0, epsrel=1e-12)[0]
            for a, b in zip(parts[:-1], parts[1:], strict=True)
        )

    return tensor([[area(i, v) for i, v in enumerate(row)] for row in x.tolist()])


@pytest.mark.parametrize("case", REFERENCES, ids=repr)
def test_cdf_against_scipy(case):
    d, theirs, _ = made(case)
    x = tensor(theirs.ppf(PROBABILITIES))
    expected = tensor(theirs.cdf(x.numpy()))
    if case.name == "VonMises":  # SciPy's is approximate, and of angles around loc
        x = tensor(np.linspace(-math.pi, math.pi, 9)[:, None]).expand(9, *d.batch_shape)
        expected = areas(d, x)
    torch.testing.assert_close(d.cdf(x), expected, rtol=1e-8, atol=1e-14)
    assert (d.cdf(x[1:]) >= d.cdf(x[:-1])).all()


@pytest.mark.parametrize("case", REFERENCES, ids=repr)
def test_icdf_undoes_cdf(case):
    d, theirs, _ = made(case)
    p = tensor(PROBABILITIES).expand(-1, *d.batch_shape)
    if case.name in WITHOUT_ICDF:
        with pytest.raises(NotImplementedError):
            d.icdf(p)
        return
    x = d.icdf(p)
    torch.testing.assert_close(d.cdf(x), p, rtol=1e-7, atol=1e-12)
    torch.testing.assert_close(x, tensor(theirs.ppf(p.numpy())), rtol=1e-6, atol=1e-9)


def test_the_incomplete_beta_function_over_its_range():
    rng = np.random.default_rng(0)
    for low, high in ((-2, 0), (-1, 1), (0, 2), (0, 4), (3, 6), (-2, 6)):
        a, b = 10 ** rng.uniform(low, high, (2, 3000))
        x = np.where(rng.random(3000) < 0.5, rng.beta(a, b), rng.random(3000))
        ours, theirs = betainc(tensor(a), tensor(b), tensor(x)), tensor(sp.betainc(a, b, x))
        torch.testing.assert_close(ours, theirs, rtol=0.0, atol=1e-12)
        small = (theirs > 1e-280) & tensor(
            x * (a + b) <= a
        ).bool()  # below the mean: to relative precision
        torch.testing.assert_close(ours[small], theirs[small], rtol=2e-12, atol=0.0)
        single = betainc(*(tensor(v).float() for v in (a, b, x)))
        normal = tensor(x) > 1e-37  # numbers with fewer digits than this lose theirs
        rounded = sp.betainc(*(tensor(v).float().double().numpy() for v in (a, b, x)))
        # One rounding of x moves the result by up to about sqrt(a + b) of its own size.
        bound = 4e-6 + 6e-8 * tensor(np.sqrt(a + b))
        assert ((single.double() - tensor(rounded)).abs() <= bound)[normal].all()
    edges = torch.tensor([-1.0, 0.0, 1.0, 2.0, math.nan])
    assert betainc(torch.tensor(2.0), torch.tensor(3.0), edges)[:4].tolist() == [0, 0, 1, 1]
    assert betainc(torch.tensor(2.0), torch.tensor(3.0), edges)[4].isnan()


def test_gradients_of_the_incomplete_beta_function():
    rng = np.random.default_rng(1)
    a, b = (tensor(v).requires_grad_() for v in 10 ** rng.uniform(-1.5, 2, (2, 40)))
    x = tensor(rng.beta(a.detach().numpy(), b.detach().numpy()).clip(1e-3, 1 - 1e-3))
    assert torch.autograd.gradcheck(betainc, (a, b, x.requires_grad_()), atol=1e-6, rtol=1e-5)
    slope = torch.func.vmap(torch.func.grad(betainc, argnums=2))(a, b, x)
    torch.testing.assert_close(slope, dist.Beta(a, b).log_prob(x).exp(), rtol=1e-9, atol=0.0)


def test_cdfs_of_counts_step_at_whole_numbers():
    for d in (
        dist.Binomial(4, probs=0.3),
        dist.NegativeBinomial(2.5, probs=0.4),
        dist.GammaPoisson(2.0, 0.7),
        dist.BetaBinomial(2.0, 3.0, 4),
        dist.ZeroInflatedNegativeBinomial(2.5, probs=0.4, gate=0.2),
        dist.Categorical(torch.tensor([0.2, 0.3, 0.1, 0.3, 0.1])),
        dist.OrderedLogistic(0.3, torch.tensor([-1.0, 0.0, 0.5, 2.0])),
    ):
        k = torch.arange(5.0)
        steps = d.log_prob(k).exp().cumsum(0)
        torch.testing.assert_close(d.cdf(k), steps, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(d.cdf(k + 0.75), steps, rtol=1e-5, atol=1e-6)
        assert d.cdf(torch.tensor([-0.5, -3.0])).tolist() == [0.0, 0.0]
    assert dist.Binomial(4, probs=0.3).cdf(torch.tensor([4.0, 9.0])).tolist() == [1.0, 1.0]
    assert dist.NegativeBinomial(0.0, probs=0.4).cdf(torch.tensor(0.0)) == 1.0


def test_cdfs_of_what_is_made_of_others():
    x = torch.tensor([-1.0, 0.5, 2.0], dtype=F64)
    normal, other = dist.Normal(tensor(0.0), 1.0), dist.Normal(tensor(1.0), 2.0)
    which = torch.tensor([True, False, True])
    assert dist.Delta(tensor(0.5)).cdf(x).tolist() == [0, 1, 1]
    assert dist.Empirical(x, tensor([0.0, 0.0, 0.0])).cdf(tensor(0.6)).item() == pytest.approx(
        2 / 3
    )
    torch.testing.assert_close(normal.mask(False).cdf(x), normal.cdf(x))
    for how in ("cdf", "icdf"):
        at = x if how == "cdf" else tensor([0.1, 0.5, 0.9])
        one, two = getattr(normal, how)(at), getattr(other, how)(at)
        both = dist.MaskedMixture(which, normal, other)
        torch.testing.assert_close(getattr(both, how)(at), torch.where(which, two, one))
        grown = dist.ExpandedDistribution(normal, (2, 3))
        torch.testing.assert_close(getattr(grown, how)(at), one.expand(2, 3))
    d = dist.SoftAsymmetricLaplace(tensor(0.5), 1.5, 0.7, 0.4)
    for value in (-9.0, 0.3, 4.0):
        area, _ = integrate.quad(lambda t: d.log_prob(tensor(t)).exp().item(), -60, value)
        assert d.cdf(tensor(value)).item() == pytest.approx(area, rel=1e-7)


def test_cdfs_keep_small_probabilities():
    zero, one = torch.zeros((), dtype=F64), torch.ones((), dtype=F64)
    for d, theirs, x in (
        (dist.Beta(20 * one, 3 * one), st.beta(20, 3), 1e-12),
        (dist.StudentT(3 * one), st.t(3), -1e60),
        (dist.StudentT(3 * one), st.t(3), -1e-12),
        (dist.FisherSnedecor(9 * one, 4 * one), st.f(9, 4), 1e-30),
        (dist.Normal(zero, one), st.norm, -30.0),
        (dist.Laplace(zero, one), st.laplace, -300.0),
        (dist.Cauchy(zero, one), st.cauchy, -1e20),
        (dist.Logistic(zero, one), st.logistic, -300.0),
        (dist.Exponential(one), st.expon, 1e-20),
        (dist.HalfCauchy(one), st.halfcauchy, 1e-20),
    ):
        x = torch.tensor(x, dtype=F64)
        torch.testing.assert_close(d.cdf(x), tensor(theirs.cdf(x.numpy())), rtol=1e-6, atol=0.0)
    angles = dist.VonMises(zero, torch.tensor([30.0, 1e6], dtype=F64))
    x = torch.tensor([[-2.5, -0.005]], dtype=F64)
    torch.testing.assert_close(angles.cdf(x), areas(angles, x), rtol=1e-8, atol=0.0)


def test_a_normal_distribution_cut_far_out_in_its_tail():
    low = torch.tensor([5.0, 10.0, 35.0, 0.0, -math.inf], dtype=F64)
    high = torch.tensor([math.inf, 10.5, math.inf, 1e-3, -20.0], dtype=F64)
    d = dist.TruncatedNormal(0.0, 1.0, low=low, high=high)
    theirs = st.truncnorm(low.numpy(), high.numpy())
    x = tensor(theirs.ppf(PROBABILITIES))
    torch.testing.assert_close(
        d.log_prob(x), tensor(theirs.logpdf(x.numpy())), rtol=1e-8, atol=1e-8
    )
    torch.testing.assert_close(d.icdf(tensor(PROBABILITIES)), x, rtol=1e-8, atol=1e-8)
    # With no bounds at all it is the normal distribution, gradients included.
    loc = torch.tensor(0.3, requires_grad=True)
    whole = dist.TruncatedNormal(loc, 2.0)
    assert torch.allclose(
        whole.log_prob(torch.tensor(1.0)), dist.Normal(0.3, 2.0).log_prob(torch.tensor(1.0))
    )
    with handlers.seed(rng_seed=0):
        whole.rsample((50,)).mean().backward()
    assert loc.grad == pytest.approx(1.0)


INTEGRALS = {
    "SoftAsymmetricLaplace": (dist.SoftAsymmetricLaplace(0.5, 1.5, 0.7, 0.4), -math.inf, math.inf),
    "SoftAsymmetricLaplace-2": (
        dist.SoftAsymmetricLaplace(0.0, 0.5, 2.0, 3.0),
        -math.inf,
        math.inf,
    ),
    "Kumaraswamy": (dist.Kumaraswamy(2.5, 1.5), 0.0, 1.0),
    "ContinuousBernoulli": (dist.ContinuousBernoulli(0.2), 0.0, 1.0),
    "ContinuousBernoulli-flat": (dist.ContinuousBernoulli(0.5001), 0.0, 1.0),
    "TransformedDistribution": (
        dist.TransformedDistribution(dist.Normal(0.5, 0.5), dist.transforms.ExpTransform()),
        0.0,
        math.inf,
    ),
    "MixtureSameFamily": (
        dist.MixtureSameFamily(dist.Categorical([0.3, 0.7]), dist.Normal([0.0, 3.0], [1.0, 0.5])),
        -math.inf,
        math.inf,
    ),
}


@pytest.mark.parametrize("name", INTEGRALS)
def test_density_mean_and_variance_by_integration(name):
    d, low, high = INTEGRALS[name]

    def expectation(f):
        def integrand(x):
            return f(x) * d.log_prob(torch.tensor(x, dtype=F64)).exp().item()

        return integrate.quad(integrand, low, high, epsabs=1e-10, limit=200)[0]

    assert expectation(lambda x: 1.0) == pytest.approx(1.0, abs=1e-6)
    if not name.startswith("Transformed"):
        assert expectation(lambda x: x) == pytest.approx(d.mean.item(), abs=1e-5)
        assert expectation(lambda x: (x - d.mean.item()) ** 2) == pytest.approx(
            d.variance.item(), rel=1e-5
        )


@pytest.mark.parametrize("dim", [2, 3, 4])
def test_projected_normal_by_integration_along_rays(dim):
    loc = torch.tensor([0.5, -1.0, 0.7, 0.2], dtype=F64)[:dim]
    direction = torch.tensor([1.0, 1.0, -1.0, 0.5], dtype=F64)[:dim]
    direction = direction / direction.norm()
    normal = st.multivariate_normal(loc.numpy())
    ray = integrate.quad(lambda r: r ** (dim - 1) * normal.pdf(r * direction.numpy()), 0, math.inf)[
        0
    ]
    assert dist.ProjectedNormal(loc).log_prob(direction).exp().item() == pytest.approx(
        ray, rel=1e-8
    )


def test_vectors_and_matrices_against_scipy():
    loc = torch.tensor([0.5, -1.0, 2.0], dtype=F64)
    a = torch.tensor([[1.0, 0.3, 0.0], [0.2, 2.0, -0.5], [0.1, 0.7, 1.5]], dtype=F64)
    cov = a @ a.T
    tril, precision = torch.linalg.cholesky(cov), torch.linalg.inv(cov)
    x = torch.tensor([[0.0, 0.0, 0.0], [3.0, -4.0, 1.0]], dtype=F64)
    expected = tensor(st.multivariate_normal(loc, cov).logpdf(x))
    for given in (
        {"covariance_matrix": cov},
        {"precision_matrix": precision},
        {"scale_tril": tril},
    ):
        d = dist.MultivariateNormal(loc, **given)
        torch.testing.assert_close(d.log_prob(x), expected)
        torch.testing.assert_close(d.covariance_matrix, cov)
        torch.testing.assert_close(d.precision_matrix, precision)
        torch.testing.assert_close(d.scale_tril, tril)
        torch.testing.assert_close(d.variance, cov.diagonal())
    w, diag = (
        torch.tensor([[1.0], [0.5], [-2.0]], dtype=F64),
        torch.tensor([1.0, 0.3, 2.0], dtype=F64),
    )
    low = dist.LowRankMultivariateNormal(loc, w, diag)
    low_cov = w @ w.T + diag.diag()
    torch.testing.assert_close(
        low.log_prob(x), tensor(st.multivariate_normal(loc, low_cov).logpdf(x))
    )
    torch.testing.assert_close(low.scale_tril @ low.scale_tril.T, low_cov)
    torch.testing.assert_close(low.precision_matrix, torch.linalg.inv(low_cov))
    t = dist.MultivariateStudentT(3.5, loc, tril)
    torch.testing.assert_close(t.log_prob(x), tensor(st.multivariate_t(loc, cov, 3.5).logpdf(x)))
    s = torch.stack([cov, cov @ cov])
    for given in (
        {"covariance_matrix": cov},
        {"precision_matrix": precision},
        {"scale_tril": tril},
    ):
        wishart = dist.Wishart(4.5, **given)
        torch.testing.assert_close(
            wishart.log_prob(s), tensor(st.wishart(4.5, cov).logpdf(s.numpy().transpose(1, 2, 0)))
        )
        torch.testing.assert_close(wishart.mean, tensor(st.wishart(4.5, cov).mean()))
        torch.testing.assert_close(wishart.variance, tensor(st.wishart(4.5, cov).var()))


def test_probability_vectors_against_scipy():
    conc = torch.tensor([0.5, 1.0, 4.0], dtype=F64)
    p = torch.tensor([[0.2, 0.3, 0.5], [0.9, 0.05, 0.05]], dtype=F64)
    theirs = st.dirichlet(conc.numpy())
    d = dist.Dirichlet(conc)
    torch.testing.assert_close(d.log_prob(p), tensor(theirs.logpdf(p.numpy().T)))
    torch.testing.assert_close(d.mean, tensor(theirs.mean()))
    torch.testing.assert_close(d.variance, tensor(theirs.var()))
    counts = torch.tensor([[1.0, 2.0, 4.0], [0.0, 0.0, 7.0]], dtype=F64)
    torch.testing.assert_close(
        dist.Multinomial(7, p[0]).log_prob(counts),
        tensor(st.multinomial(7, p[0].numpy()).logpmf(counts.numpy())),
    )
    dm = dist.DirichletMultinomial(conc, 7)
    dm_theirs = st.dirichlet_multinomial(conc.numpy(), 7)
    torch.testing.assert_close(
        dm.log_prob(counts), tensor(dm_theirs.logpmf(counts.numpy().astype(int)))
    )
    torch.testing.assert_close(dm.mean, tensor(dm_theirs.mean()))
    torch.testing.assert_close(dm.variance, tensor(dm_theirs.var()))
    # A category of weight 0 is no trouble until it comes up.
    never = dist.Multinomial(2, torch.tensor([0.0, 1.0], dtype=F64))
    assert never.log_prob(torch.tensor([0.0, 2.0])).item() == pytest.approx(0.0, abs=1e-12)
    direction = torch.tensor([1.0, 2.0, -2.0], dtype=F64) / 3
    for strength in (0.01, 2.0, 300.0):
        theirs = st.vonmises_fisher([0, 0, 1], strength).logpdf(direction.numpy())
        ours = dist.VonMises3D(torch.tensor([0.0, 0.0, strength], dtype=F64)).log_prob(direction)
        assert ours.item() == pytest.approx(theirs, rel=1e-9)


def test_correlation_matrices_integrate_to_one():
    # In two dimensions the density of the correlation r is (1 - r^2)^(concentration - 1),
    # normalised.
    for concentration in (0.5, 1.0, 3.0):
        d = dist.LKJ(2, torch.tensor(concentration, dtype=F64))

        def density(r, d=d):
            return d.log_prob(torch.tensor([[1.0, r], [r, 1.0]], dtype=F64)).exp().item()

        assert integrate.quad(density, -1 + 1e-9, 1 - 1e-9)[0] == pytest.approx(1.0, abs=1e-3)


def test_missing_numbers_are_left_out():
    nan = math.nan
    x = torch.tensor([[1.0, nan, 0.5], [nan, nan, nan], [0.3, 0.2, 0.1]], dtype=F64)
    a = torch.tensor([[1.0, 0.3, 0.0], [0.2, 2.0, -0.5], [0.1, 0.7, 1.5]], dtype=F64)
    cov, loc = a @ a.T, torch.tensor([0.1, 0.2, 0.3], dtype=F64)
    d = dist.NanMaskedMultivariateNormal(loc, cov)
    keep = [0, 2]
    part = st.multivariate_normal(loc[keep], cov[keep][:, keep]).logpdf(x[0, keep])
    whole = st.multivariate_normal(loc, cov).logpdf(x[2])
    torch.testing.assert_close(d.log_prob(x), torch.tensor([part, 0.0, whole], dtype=F64))
    loc.requires_grad_()
    dist.NanMaskedMultivariateNormal(loc, cov).log_prob(x).sum().backward()
    assert loc.grad.isfinite().all()
    leaf = torch.zeros((), requires_grad=True)
    dist.NanMaskedNormal(leaf, 1.0).log_prob(torch.tensor([1.0, nan])).sum().backward()
    assert leaf.grad == 1


def test_counts_with_extra_zeros():
    x = torch.arange(6.0, dtype=F64)
    base = tensor(st.poisson(2.0).pmf(x))
    expected = (0.7 * base + 0.3 * (x == 0)).log()
    for gate in ({"gate": 0.3}, {"gate_logits": math.log(0.3 / 0.7)}):
        d = dist.ZeroInflatedPoisson(torch.tensor(2.0, dtype=F64), **gate)
        torch.testing.assert_close(d.log_prob(x), expected, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(d.cdf(x), expected.exp().cumsum(0), rtol=1e-6, atol=1e-6)
        assert d.mean.item() == pytest.approx(1.4)
        assert d.variance.item() == pytest.approx(0.7 * 6 - 1.4**2)
    assert dist.ZeroInflatedPoisson(2.0, gate=1.0).log_prob(torch.tensor(0.0)) == 0


def test_ordered_categories():
    cut = torch.tensor([-1.0, 0.5, 2.0], dtype=F64)
    d = dist.OrderedLogistic(torch.tensor([0.3, 40.0, -40.0], dtype=F64), cut)
    below = torch.sigmoid(cut - 0.3)
    edges = torch.cat([torch.zeros(1), below, torch.ones(1)]).double()
    torch.testing.assert_close(d.probs[0], edges.diff())
    # Far out, where differences of probabilities would be 0, the logarithms are still right.
    torch.testing.assert_close(d.logits[1, 0], torch.tensor(-41.0, dtype=F64))
    assert d.logits.isfinite().all()


# -- the same by Pyro ------------------------------------------------------------------------------

PYRO = [case for case in CASES if case.pyro and hasattr(pyro_dist, case.name)]
# Where Pyro's value is wrong, missing, or means something else: why.
NO_PYRO_LOG_PROB = {
    "Empirical": "refuses a batch of draws",
    "GeneralizedPareto": "takes single precision alone",
}
OTHER_DRAWS = {
    "LKJCholesky": "Pyro's, as torch's, are from another distribution in three dimensions or more",
    "LKJ": "as LKJCholesky",
    "Wishart": "Pyro draws again what it takes for singular",
    "VonMises3D": "Pyro has no draws",
}


def by_pyro(case):
    return getattr(pyro_dist, case.name)(**case.fixed, **case.tensors())


@pytest.mark.parametrize("case", PYRO, ids=repr)
def test_log_prob_against_pyro(case):
    ours, theirs = case.make(), by_pyro(case)
    assert (ours.batch_shape, ours.event_shape) == (theirs.batch_shape, theirs.event_shape)
    assert ours.has_enumerate_support == theirs.has_enumerate_support
    if case.name in NO_PYRO_LOG_PROB:
        return
    x = ours.sample((30,))
    torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("case", PYRO, ids=repr)
def test_moments_against_pyro(case):
    for moment in ("mean", "variance"):
        try:
            expected = getattr(by_pyro(case), moment)
        except NotImplementedError:
            continue
        actual = getattr(case.make(), moment)
        expected = expected.expand(actual.shape)
        torch.testing.assert_close(actual, expected, equal_nan=True, check_dtype=case.name != "LKJ")


@pytest.mark.parametrize("case", PYRO, ids=repr)
def test_draws_against_pyro(case):
    if case.name in OTHER_DRAWS:
        return
    torch.manual_seed(7)
    expected = by_pyro(case)(torch.Size((6,)))
    with handlers.seed(rng_seed=7):
        actual = case.make()(torch.Size((6,)))
    torch.testing.assert_close(actual, expected)
    assert case.make().has_rsample == by_pyro(case).has_rsample
