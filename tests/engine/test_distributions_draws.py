"""Do draws come from the distributions whose names they bear? Goodness-of-fit tests with fixed
seeds.

A right sampler passes each of them with probability 0.9999, and seeds are fixed; a wrong one, off
by a twentieth of a standard deviation, fails.
"""

import math

import numpy as np
import pytest
import scipy.stats as st
import torch

import pplkit.distributions as dist
from pplkit import handlers
from tests.engine.distribution_cases import F64, REFERENCES

N = 10_000
LEAST_P = 1e-4


def draws(d, n=N, seed=0):
    with handlers.seed(rng_seed=seed):
        return d.sample((n,))


def fits(x, cdf) -> float:
    """Kolmogorov and Smirnov's p-value: are numbers drawn from this distribution function?"""
    x = np.asarray(x, dtype=float).ravel()
    # A floating-point number stands for all between its neighbours: put it anywhere among them.
    low, high = cdf(np.nextafter(x, -np.inf)), cdf(np.nextafter(x, np.inf))
    return st.kstest(low + np.random.default_rng(0).random(len(x)) * (high - low), "uniform").pvalue


def counts_fit(x, pmf, values) -> float:
    """The chi-square p-value: are whole numbers drawn with these masses? Rare values are pooled."""
    expected = np.asarray(pmf(values), dtype=float) * len(x)
    observed = np.array([(np.asarray(x) == v).sum() for v in values], dtype=float)
    expected = np.append(expected, len(x) - expected.sum()).clip(0)
    observed = np.append(observed, len(x) - observed.sum())
    often = expected >= 5
    expected = np.append(expected[often], expected[~often].sum())
    observed = np.append(observed[often], observed[~often].sum())
    if expected[-1] < 1e-9:
        assert observed[-1] == 0
        expected, observed = expected[:-1], observed[:-1]
    return (
        st.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue
        if len(expected) > 1
        else 1.0
    )


@pytest.mark.parametrize("case", REFERENCES, ids=repr)
def test_numbers(case):
    params = case.combinations()
    some = torch.arange(len(next(iter(params.values()))))[
        :: max(1, len(next(iter(params.values()))) // 4)
    ]
    params = {name: value[some] for name, value in params.items()}
    x = draws((case.build or getattr(dist, case.name))(**params)).numpy()
    for i in range(len(some)):
        theirs = case.scipy(*(value[i : i + 1].numpy() for value in params.values()))
        if theirs.dist.__class__.__module__.endswith("_discrete_distns"):
            low, high = int(theirs.ppf(1e-6)[0]), int(theirs.ppf(1 - 1e-6)[0])
            if high - low < 300:
                p = counts_fit(x[:, i], theirs.pmf, np.arange(low, high + 1))
            else:  # so many values that a continuous test, made fit by jitter, will do
                jitter = np.random.default_rng(0).random(N)
                p = fits(x[:, i] + jitter, lambda y, d=theirs: _jittered(d, y))
        elif case.name == "VonMises":
            p = fits(
                (x[:, i] - params["loc"][i].item() + math.pi) % (2 * math.pi) - math.pi,
                st.vonmises(params["concentration"][i].item()).cdf,
            )
        else:
            p = fits(x[:, i], theirs.cdf)
        assert p > LEAST_P, {name: value[i].item() for name, value in params.items()}


def _jittered(d, y):
    """The distribution function of a count plus a uniform number."""
    k = np.floor(y)
    return d.cdf(k - 1) + (y - k) * d.pmf(k)


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
@pytest.mark.parametrize("small", [1e-4, 1e-3, 0.01, 0.05])
def test_beta_and_dirichlet_with_small_concentrations(dtype, small):
    # Nearly all draws lie at a corner, most of them nearer than a float can say.
    a = torch.tensor([small, 2 * small], dtype=dtype)
    x = draws(dist.Beta(a[0], a[1]), 4000)
    assert x.isfinite().all() and ((x >= 0) & (x <= 1)).all()
    near_zero, near_one = ((x < 1e-3).float().mean().item(), (x > 0.5).float().mean().item())
    for found, expected in (
        (near_zero, st.beta(small, 2 * small).cdf(1e-3)),
        (near_one, st.beta(small, 2 * small).sf(0.5)),
    ):
        assert found == pytest.approx(expected, abs=0.035)
    y = draws(dist.Dirichlet(torch.full((3,), small, dtype=dtype)), 4000)
    assert y.isfinite().all()
    torch.testing.assert_close(y.sum(-1), torch.ones(4000, dtype=dtype), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.mean(0), torch.full((3,), 1 / 3, dtype=dtype), atol=0.035, rtol=0)
    assert (y[:, 0] > 0.5).float().mean().item() == pytest.approx(
        st.beta(small, 2 * small).sf(0.5), abs=0.035
    )


@pytest.mark.parametrize("family", ["Beta", "Dirichlet"])
def test_gradients_of_small_concentrations_are_finite_and_right(family):
    # The mean of Beta(a, b) is a / (a + b): a thousand gradients of draws must average to its
    # slope.
    for a, b in ((0.3, 0.5), (0.01, 0.015), (0.001, 0.002)):
        conc = torch.tensor([a, b], dtype=F64).expand(40_000, 2).requires_grad_()
        d = dist.Beta(conc[:, 0], conc[:, 1]) if family == "Beta" else dist.Dirichlet(conc)
        with handlers.seed(rng_seed=0):
            x = d.rsample()
        x = x if family == "Beta" else x[:, 0]
        (gradient,) = torch.autograd.grad(x.sum(), conc)
        assert gradient.isfinite().all()
        slope = torch.tensor([b, -a], dtype=F64) / (a + b) ** 2
        error = gradient.std(0) / math.sqrt(len(gradient))
        assert ((gradient.mean(0) - slope).abs() < 4.5 * error).all()


def test_the_two_ways_to_draw_a_dirichlet_agree(monkeypatch):
    conc = torch.tensor([0.5, 1.0, 3.0], dtype=F64)
    monkeypatch.setattr(dist.pathwise, "_needs_logarithms", lambda concentration: True)
    x = draws(dist.Dirichlet(conc)).numpy()
    for i in range(3):
        assert fits(x[:, i], st.beta(conc[i].item(), 4.5 - conc[i].item()).cdf) > LEAST_P


def test_draws_inside_vmap_have_the_same_distribution():
    rows = torch.zeros(N, dtype=F64)
    one = torch.ones((), dtype=F64)
    for make, cdf in (
        (lambda r: dist.Normal(r, one), st.norm.cdf),
        (lambda r: dist.Exponential(one + r), st.expon.cdf),
        (lambda r: dist.Exponential(one), st.expon.cdf),
        (lambda r: dist.Cauchy(r, one), st.cauchy.cdf),
        (lambda r: dist.Gamma(2 + r, one), st.gamma(2).cdf),
        (lambda r: dist.Beta(2 + r, 3 * one), st.beta(2, 3).cdf),
        (lambda r: dist.Beta(2 * one, 3 * one), st.beta(2, 3).cdf),
        (lambda r: dist.Geometric(0.01 + r), st.geom(0.01, loc=-1).cdf),
        (lambda r: dist.Laplace(r, one), st.laplace.cdf),
    ):
        with handlers.seed(rng_seed=3):
            x = torch.func.vmap(lambda r, make=make: make(r).sample() + r, randomness="different")(
                rows
            )
        if len(x.unique()) < N // 2:
            x = x + 0  # a count
            assert counts_fit(x.numpy(), st.geom(0.01, loc=-1).pmf, np.arange(1500)) > LEAST_P
        else:
            assert fits(x.numpy(), cdf) > LEAST_P


def test_categories():
    p = torch.tensor([0.1, 0.2, 0.7], dtype=F64)
    values = np.arange(3)

    def pmf(v):
        return p.numpy()[v]

    assert counts_fit(draws(dist.Categorical(5 * p)).numpy(), pmf, values) > LEAST_P
    assert counts_fit(draws(dist.Categorical(logits=p.log() + 3)).numpy(), pmf, values) > LEAST_P
    for family in (dist.OneHotCategorical, dist.OneHotCategoricalStraightThrough):
        hot = draws(family(p))
        assert hot.sum(-1).eq(1).all()
        assert counts_fit(hot.argmax(-1).numpy(), pmf, values) > LEAST_P
    t = torch.tensor(0.5, dtype=F64)
    # The largest of the softened scores is the category itself (Gumbel).
    for family in (dist.RelaxedOneHotCategorical, dist.RelaxedOneHotCategoricalStraightThrough):
        assert counts_fit(draws(family(t, p)).argmax(-1).numpy(), pmf, values) > LEAST_P
    ordered = dist.OrderedLogistic(
        torch.tensor(0.3, dtype=F64), torch.tensor([-1.0, 0.5], dtype=F64)
    )
    assert counts_fit(draws(ordered).numpy(), lambda v: ordered.probs.numpy()[v], values) > LEAST_P
    emp = dist.Empirical(torch.tensor([4.0, 5.0, 9.0]), p.log())
    assert (
        counts_fit(draws(emp).numpy(), lambda v: pmf([[4, 5, 9].index(i) for i in v]), [4, 5, 9])
        > LEAST_P
    )
    counts = draws(dist.Multinomial(9, p))
    assert counts.sum(-1).eq(9).all()
    for i in range(3):
        assert (
            counts_fit(counts[:, i].numpy(), st.binom(9, p[i].item()).pmf, np.arange(10)) > LEAST_P
        )
    conc = 4 * p
    counts = draws(dist.DirichletMultinomial(conc, 9))
    for i in range(3):
        theirs = st.betabinom(9, conc[i].item(), 4 - conc[i].item())
        assert counts_fit(counts[:, i].numpy(), theirs.pmf, np.arange(10)) > LEAST_P


def test_softened_coins():
    t, logit = torch.tensor(0.5, dtype=F64), torch.tensor(0.8, dtype=F64)
    for d in (
        dist.RelaxedBernoulli(t, logits=logit),
        dist.RelaxedBernoulli(t, probs=logit.sigmoid()),
    ):
        x = draws(d)
        assert fits(x.logit().numpy(), st.logistic(0.8 / 0.5, 1 / 0.5).cdf) > LEAST_P
        assert fits(x.numpy(), lambda v, d=d: d.cdf(torch.as_tensor(v)).numpy()) > LEAST_P
        assert (
            fits(
                d.icdf(torch.linspace(1e-4, 1 - 1e-4, N, dtype=F64)).numpy(),
                lambda v, d=d: d.cdf(torch.as_tensor(v)).numpy(),
            )
            > LEAST_P
        )
    hard = draws(dist.RelaxedBernoulliStraightThrough(t, logits=logit))
    assert (
        counts_fit(hard.numpy(), st.bernoulli(logit.sigmoid().item()).pmf, np.arange(2)) > LEAST_P
    )
    for probs in (0.05, 0.5, 0.9):
        d = dist.ContinuousBernoulli(torch.tensor(probs, dtype=F64))
        assert fits(draws(d).numpy(), lambda v, d=d: d.cdf(torch.as_tensor(v)).numpy()) > LEAST_P


def test_extra_zeros():
    gate, p = torch.tensor(0.3, dtype=F64), torch.tensor(0.4, dtype=F64)
    for d, base in (
        (dist.ZeroInflatedPoisson(2 * torch.ones((), dtype=F64), gate=gate), st.poisson(2)),
        (
            dist.ZeroInflatedPoisson(2 * torch.ones((), dtype=F64), gate_logits=gate.logit()),
            st.poisson(2),
        ),
        (dist.ZeroInflatedNegativeBinomial(3.0, probs=p, gate=gate), st.nbinom(3, 0.6)),
        (dist.ZeroInflatedDistribution(dist.Binomial(7, p), gate=gate), st.binom(7, 0.4)),
    ):
        pmf = lambda v, base=base: 0.7 * base.pmf(v) + 0.3 * (v == 0)
        assert counts_fit(draws(d).numpy(), pmf, np.arange(30)) > LEAST_P


def test_sums_of_slopes_and_bells():
    d = dist.SoftAsymmetricLaplace(0.5, 1.5, 0.7, 0.4 * torch.ones((), dtype=F64))
    grid = torch.linspace(-30, 30, 60_001, dtype=F64)
    below = torch.cumulative_trapezoid(d.log_prob(grid).exp(), grid)
    assert fits(draws(d).numpy(), lambda v: np.interp(v, grid[1:].numpy(), below.numpy())) > LEAST_P


def test_mixtures():
    mix = dist.MixtureSameFamily(
        dist.Categorical(torch.tensor([[0.3, 0.7], [0.9, 0.1]], dtype=F64)),
        dist.Normal(torch.tensor([0.0, 3.0], dtype=F64), torch.tensor([1.0, 0.5], dtype=F64)),
    )
    assert mix.batch_shape == (2,)
    x = draws(mix).numpy()
    for i, share in enumerate((0.3, 0.9)):
        cdf = lambda v, s=share: s * st.norm.cdf(v) + (1 - s) * st.norm(3, 0.5).cdf(v)
        assert fits(x[:, i], cdf) > LEAST_P
    which = torch.tensor([False, True])
    x = draws(
        dist.MaskedMixture(
            which, dist.Exponential(torch.ones((), dtype=F64)), dist.Normal(5.0, 2.0)
        )
    ).numpy()
    assert fits(x[:, 0], st.expon.cdf) > LEAST_P and fits(x[:, 1], st.norm(5, 2).cdf) > LEAST_P
    base = dist.Normal(torch.tensor(0.5, dtype=F64), 1.0)
    moved = dist.TransformedDistribution(
        base, [dist.transforms.ExpTransform(), dist.transforms.AffineTransform(1.0, 2.0)]
    )
    assert fits(draws(moved).numpy(), st.lognorm(1, loc=1, scale=2 * math.exp(0.5)).cdf) > LEAST_P
    angles = dist.SineSkewed(
        dist.VonMises(torch.zeros(1, dtype=F64), 1.5).to_event(1), torch.tensor([0.7], dtype=F64)
    )
    grid = torch.linspace(-math.pi, math.pi, 20_001, dtype=F64)
    below = torch.cumulative_trapezoid(angles.log_prob(grid.unsqueeze(-1)).exp(), grid)
    assert (
        fits(draws(angles).numpy(), lambda v: np.interp(v, grid[1:].numpy(), below.numpy()))
        > LEAST_P
    )


def test_vectors():
    loc = torch.tensor([0.5, -1.0, 2.0], dtype=F64)
    a = torch.tensor([[1.0, 0.3, 0.0], [0.2, 2.0, -0.5], [0.1, 0.7, 1.5]], dtype=F64)
    cov = a @ a.T
    w, diag = (
        torch.tensor([[1.0], [0.5], [-2.0]], dtype=F64),
        torch.tensor([1.0, 0.3, 2.0], dtype=F64),
    )
    normals = [
        dist.MultivariateNormal(loc, cov),
        dist.MultivariateNormal(loc, precision_matrix=torch.linalg.inv(cov)),
        dist.MultivariateNormal(loc, scale_tril=torch.linalg.cholesky(cov)),
        dist.LowRankMultivariateNormal(loc, w, diag),
    ]
    for d in normals:
        z = torch.linalg.solve_triangular(d.scale_tril, (draws(d) - loc).T, upper=False)
        assert fits((z * z).sum(0).numpy(), st.chi2(3).cdf) > LEAST_P
        for i in range(3):
            assert fits(z[i].numpy(), st.norm.cdf) > LEAST_P
        assert abs(np.corrcoef(z.numpy()) - np.eye(3)).max() < 0.05
    t = dist.MultivariateStudentT(3.5, loc, torch.linalg.cholesky(cov))
    z = torch.linalg.solve_triangular(t.scale_tril, (draws(t) - loc).T, upper=False)
    assert fits((z * z).sum(0).numpy() / 3, st.f(3, 3.5).cdf) > LEAST_P
    assert fits(z[1].numpy(), st.t(3.5).cdf) > LEAST_P
    conc = torch.tensor([0.5, 1.0, 3.0], dtype=F64)
    x = draws(dist.Dirichlet(conc)).numpy()
    for i in range(3):
        assert fits(x[:, i], st.beta(conc[i].item(), 4.5 - conc[i].item()).cdf) > LEAST_P
    x = draws(dist.LogisticNormal(loc, torch.ones(3, dtype=F64)))
    back = dist.transforms.StickBreakingTransform().inv(x)
    for i in range(3):
        assert fits(back[:, i].numpy(), st.norm(loc[i].item(), 1).cdf) > LEAST_P


def test_directions():
    axis = torch.tensor([1.0, -2.0, 2.0], dtype=F64) / 3
    for strength in (0.1, 3.0):
        w = (draws(dist.VonMises3D(strength * axis)) @ axis).numpy()
        k = strength

        def cdf(v, k=k):
            return (np.exp(k * v) - np.exp(-k)) / (np.exp(k) - np.exp(-k))

        assert fits(w, cdf) > LEAST_P
        # The projected normal's height, from its density: rings around the axis are of equal width.
        d = dist.ProjectedNormal(strength * axis)
        grid = torch.linspace(-1, 1, 20_001, dtype=F64)
        across = torch.tensor([0.0, 1.0, 1.0], dtype=F64) / math.sqrt(2)
        ring = grid.unsqueeze(-1) * axis + (1 - grid**2).clamp(min=0).sqrt().unsqueeze(-1) * across
        below = 2 * math.pi * torch.cumulative_trapezoid(d.log_prob(ring).exp(), grid)
        assert below[-1].item() == pytest.approx(1, abs=1e-6)
        assert (
            fits(
                (draws(d) @ axis).numpy(),
                lambda v, g=grid, b=below: np.interp(v, g[1:].numpy(), b.numpy()),
            )
            > LEAST_P
        )
    around = draws(dist.VonMises3D(torch.tensor([0.0, 0.0, 2.0], dtype=F64)))
    assert (
        fits(torch.atan2(around[:, 1], around[:, 0]).numpy(), st.uniform(-math.pi, 2 * math.pi).cdf)
        > LEAST_P
    )


def test_matrices():
    a = torch.tensor([[1.0, 0.3, 0.0], [0.2, 2.0, -0.5], [0.1, 0.7, 1.5]], dtype=F64)
    cov = a @ a.T
    for given in (
        {"covariance_matrix": cov},
        {"precision_matrix": torch.linalg.inv(cov)},
        {"scale_tril": torch.linalg.cholesky(cov)},
    ):
        d = dist.Wishart(torch.tensor(4.5, dtype=F64), **given)
        x = draws(d)
        for i in range(3):
            assert fits((x[:, i, i] / cov[i, i]).numpy(), st.chi2(4.5).cdf) > LEAST_P
        # The Cholesky factor, whitened: chi on the diagonal, normal below it (Bartlett).
        white = torch.linalg.solve_triangular(d.scale_tril, torch.linalg.cholesky(x), upper=False)
        for i in range(3):
            assert fits((white[:, i, i] ** 2).numpy(), st.chi2(4.5 - i).cdf) > LEAST_P
            for j in range(i):
                assert fits(white[:, i, j].numpy(), st.norm.cdf) > LEAST_P
    for dim in (2, 4):
        for eta in (0.6, 1.0, 3.0):
            conc = torch.tensor(eta, dtype=F64)
            tril = draws(dist.LKJCholesky(dim, conc))
            both = {"factor": tril @ tril.mT, "matrix": draws(dist.LKJ(dim, conc))}
            for x in both.values():
                for i, j in (
                    (1, 0),
                    (dim - 1, 0),
                    (dim - 1, dim - 2),
                ):  # all alike, wherever they stand
                    share = st.beta(eta - 1 + dim / 2, eta - 1 + dim / 2)
                    assert fits((x[:, i, j].numpy() + 1) / 2, share.cdf) > LEAST_P
