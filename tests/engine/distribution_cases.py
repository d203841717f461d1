"""One entry per family: good parameters for two rows, and bad ones, for the tests that concern all
families.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import scipy.stats as st
import torch

import pplkit.distributions as dist

F64 = torch.float64
TRIL = [[1.0, 0.0], [0.5, 2.0]]
COV = [[1.0, 0.5], [0.5, 4.25]]


@dataclass
class Case:
    name: str
    params: dict  # by name: a list of one value per row
    bad: dict = field(default_factory=dict)  # by name: values for one row, each of them refused
    fixed: dict = field(default_factory=dict)  # what is not batched
    build: Callable | None = None
    pyro: bool = True  # whether Pyro has a class of this name with the same arguments
    id: str = ""

    def __post_init__(self):
        self.id = self.id or self.name

    @property
    def family(self):
        return self.build or getattr(dist, self.name)

    def tensors(self, dtype=F64) -> dict:
        return {name: torch.tensor(value, dtype=dtype) for name, value in self.params.items()}

    def make(self, dtype=F64, **changes):
        return self.family(**self.fixed, **{**self.tensors(dtype), **changes})

    def spoilt(self, name, value):
        """One row's parameters, one of them bad."""
        row = {n: torch.tensor(v[0], dtype=F64) for n, v in self.params.items()}
        return self.family(**self.fixed, **{**row, name: value})

    def __repr__(self):
        return self.id


NOT_POSITIVE = [0.0, -1.0]
ASYMMETRIC = [[1.0, 0.5], [0.0, 1.0]]
INDEFINITE = [[1.0, 2.0], [2.0, 1.0]]
loc, scale = [0.5, -1.0], [1.5, 0.7]
conc, rate = [0.8, 3.0], [2.0, 0.5]
probs, logits = [0.3, 0.8], [-1.0, 0.4]
weights = [[0.2, 0.3, 0.5], [2.0, 1.0, 1.0]]
scores = [[0.0, 1.0, -1.0], [0.3, 0.2, 0.1]]
BAD_WEIGHTS = [[-1.0, -1.0, -2.0], [0.5, -0.5, 1.0], [0.0, 0.0, 0.0]]
BAD_PROBS = [-0.1, 1.1]


def location_scale(name, **more):
    return Case(
        name,
        {"loc": loc, "scale": scale, **more.pop("params", {})},
        {"scale": NOT_POSITIVE},
        **more,
    )


def asymmetric(name, **params):
    bad = {"scale": NOT_POSITIVE, "asymmetry": NOT_POSITIVE}
    return Case(name, {"loc": loc, "scale": scale, "asymmetry": [0.7, 2.0], **params}, bad)


def mvn_forms(name, **params):
    bad = {"covariance_matrix": [INDEFINITE, ASYMMETRIC], "precision_matrix": [INDEFINITE]}
    bad["scale_tril"] = [[[1.0, 0.0], [0.5, -1.0]], [[1.0, 0.3], [0.5, 1.0]]]
    forms = {
        "covariance_matrix": COV,
        "precision_matrix": [[1.0, -0.2], [-0.2, 0.5]],
        "scale_tril": TRIL,
    }
    for form, matrix in forms.items():
        extra = {"df": [1.0, 0.5]} if name == "Wishart" else {}
        yield Case(
            name,
            {**params, form: [matrix, matrix]},
            {form: bad[form], **extra},
            id=f"{name}-{form}",
        )


def masked(base, mask):
    return dist.Normal(base, 1.0).mask(torch.tensor([True, False]) if base.dim() else mask)


CASES = [
    *(
        location_scale(n)
        for n in ("Normal", "Cauchy", "Laplace", "Gumbel", "Logistic", "SoftLaplace")
    ),
    *(location_scale(n) for n in ("LogNormal", "NanMaskedNormal")),
    Case(
        "StudentT",
        {"df": [3.0, 5.5], "loc": loc, "scale": scale},
        {"df": NOT_POSITIVE, "scale": NOT_POSITIVE},
    ),
    asymmetric("SkewLogistic"),
    asymmetric("AsymmetricLaplace"),
    asymmetric("SoftAsymmetricLaplace", softness=[0.5, 1.5]),
    Case("Exponential", {"rate": rate}, {"rate": NOT_POSITIVE}),
    *(
        Case(
            n,
            {"concentration": conc, "rate": rate},
            {"concentration": NOT_POSITIVE, "rate": NOT_POSITIVE},
        )
        for n in ("Gamma", "InverseGamma", "GammaPoisson")
    ),
    Case("Chi2", {"df": [1.0, 4.0]}, {"df": NOT_POSITIVE}),
    Case("HalfNormal", {"scale": scale}, {"scale": NOT_POSITIVE}),
    Case("HalfCauchy", {"scale": scale}, {"scale": NOT_POSITIVE}),
    Case(
        "Weibull",
        {"scale": scale, "concentration": [0.8, 2.5]},
        {"scale": NOT_POSITIVE, "concentration": [0.0]},
    ),
    Case(
        "Pareto",
        {"scale": scale, "alpha": [2.5, 4.0]},
        {"scale": NOT_POSITIVE, "alpha": NOT_POSITIVE},
    ),
    Case(
        "GeneralizedPareto",
        {"loc": loc, "scale": scale, "concentration": [0.3, -0.4]},
        {"scale": NOT_POSITIVE},
    ),
    Case(
        "FisherSnedecor",
        {"df1": [2.0, 5.0], "df2": [5.0, 8.0]},
        {"df1": NOT_POSITIVE, "df2": NOT_POSITIVE},
    ),
    Case("Uniform", {"low": [0.0, -1.0], "high": [1.0, 3.0]}, {"high": [-2.0, 0.0]}),
    Case(
        "LogUniform",
        {"low": [0.1, 1.0], "high": [1.0, 30.0]},
        {"low": [0.0], "high": [0.05]},
        pyro=False,
    ),
    *(
        Case(
            n,
            {"concentration1": conc, "concentration0": rate},
            {"concentration1": [0.0], "concentration0": [-1.0]},
        )
        for n in ("Beta", "Kumaraswamy")
    ),
    Case(
        "AffineBeta",
        {"concentration1": conc, "concentration0": rate, "loc": loc, "scale": scale},
        {"concentration1": [0.0], "concentration0": [-1.0], "scale": NOT_POSITIVE},
    ),
    Case(
        "TruncatedNormal",
        {"loc": loc, "scale": scale, "low": [0.0, -2.0], "high": [2.0, 1.0]},
        {"scale": NOT_POSITIVE, "high": [-1.0, 0.0]},
        pyro=False,
    ),
    Case("VonMises", {"loc": loc, "concentration": [0.5, 6.0]}, {"concentration": NOT_POSITIVE}),
    *(
        Case(
            n, {form: value}, {form: BAD_PROBS if form == "probs" else []}, fixed, id=f"{n}-{form}"
        )
        for n, fixed in (
            ("Bernoulli", {}),
            ("ContinuousBernoulli", {}),
            ("RelaxedBernoulli", {"temperature": torch.tensor(0.7, dtype=F64)}),
            ("RelaxedBernoulliStraightThrough", {"temperature": torch.tensor(0.7, dtype=F64)}),
        )
        for form, value in (("probs", probs), ("logits", logits))
    ),
    Case(
        "RelaxedBernoulli",
        {"temperature": [0.5, 2.0], "probs": probs},
        {"temperature": NOT_POSITIVE},
        id="RelaxedBernoulli-temperature",
    ),
    Case("Geometric", {"probs": probs}, {"probs": [0.0, 1.5, -0.1]}, id="Geometric-probs"),
    Case("Geometric", {"logits": logits}, id="Geometric-logits"),
    Case(
        "Binomial",
        {"total_count": [3.0, 10.0], "probs": probs},
        {"total_count": [-1.0, 2.5], "probs": BAD_PROBS},
    ),
    Case("Binomial", {"total_count": [3.0, 10.0], "logits": logits}, id="Binomial-logits"),
    Case("Poisson", {"rate": rate}, {"rate": [-1.0]}),
    Case(
        "NegativeBinomial",
        {"total_count": [0.5, 3.0], "probs": probs},
        {"total_count": [-1.0], "probs": [-0.1, 1.0]},
    ),
    Case(
        "NegativeBinomial",
        {"total_count": [0.5, 3.0], "logits": logits},
        id="NegativeBinomial-logits",
    ),
    Case(
        "BetaBinomial",
        {"concentration1": conc, "concentration0": rate, "total_count": [5.0, 5.0]},
        {"concentration1": [0.0], "concentration0": [0.0], "total_count": [-1.0, 0.5]},
    ),
    *(
        Case(
            n,
            {form: value},
            {form: BAD_WEIGHTS if form == "probs" else []},
            fixed,
            id=f"{n}-{form}",
        )
        for n, fixed in (
            ("Categorical", {}),
            ("OneHotCategorical", {}),
            ("OneHotCategoricalStraightThrough", {}),
            ("Multinomial", {"total_count": 4}),
            ("RelaxedOneHotCategorical", {"temperature": torch.tensor(0.7, dtype=F64)}),
            (
                "RelaxedOneHotCategoricalStraightThrough",
                {"temperature": torch.tensor(0.7, dtype=F64)},
            ),
        )
        for form, value in (("probs", weights), ("logits", scores))
    ),
    Case(
        "RelaxedOneHotCategorical",
        {"temperature": [0.5, 2.0], "probs": weights},
        {"temperature": NOT_POSITIVE},
        pyro=False,
        id="RelaxedOneHotCategorical-temperature",
    ),
    Case(
        "OrderedLogistic",
        {"predictor": loc, "cutpoints": [[-1.0, 0.5], [0.0, 2.0]]},
        {"cutpoints": [[1.0, 0.0], [1.0, 1.0]]},
    ),
    Case(
        "DirichletMultinomial",
        {"concentration": weights},
        {"concentration": [[0.0, 1.0, 1.0]]},
        {"total_count": 4},
    ),
    Case("ZeroInflatedPoisson", {"rate": rate, "gate": probs}, {"rate": [-1.0], "gate": BAD_PROBS}),
    Case(
        "ZeroInflatedPoisson",
        {"rate": rate, "gate_logits": logits},
        id="ZeroInflatedPoisson-logits",
    ),
    Case(
        "ZeroInflatedNegativeBinomial",
        {"total_count": conc, "probs": probs, "gate": probs},
        {"total_count": [-1.0], "probs": [1.0], "gate": BAD_PROBS},
    ),
    Case(
        "ZeroInflatedDistribution",
        {"rate": rate, "gate": probs},
        {"rate": [-1.0], "gate": BAD_PROBS},
        build=lambda rate, gate: dist.ZeroInflatedDistribution(dist.Poisson(rate), gate=gate),
        pyro=False,
    ),
    Case(
        "Dirichlet",
        {"concentration": weights},
        {"concentration": [[0.0, 1.0, 1.0], [-1.0, 1.0, 1.0]]},
    ),
    Case(
        "LogisticNormal",
        {"loc": [[0.5, 0.0], [-1.0, 1.0]], "scale": [[1.5, 1.0], [0.7, 0.5]]},
        {"scale": [[0.0, 1.0], [-1.0, 1.0]]},
    ),
    *mvn_forms("MultivariateNormal", loc=[[0.5, 0.0], [-1.0, 1.0]]),
    *mvn_forms("NanMaskedMultivariateNormal", loc=[[0.5, 0.0], [-1.0, 1.0]]),
    *mvn_forms("Wishart", df=[3.0, 4.5]),
    Case(
        "LowRankMultivariateNormal",
        {
            "loc": [[0.5, 0.0], [-1.0, 1.0]],
            "cov_factor": [[[1.0], [2.0]], [[0.5], [0.0]]],
            "cov_diag": [[1.0, 2.0], [0.5, 0.5]],
        },
        {"cov_diag": [[0.0, 1.0], [-1.0, 1.0]]},
    ),
    Case(
        "MultivariateStudentT",
        {"df": [3.0, 5.0], "loc": [[0.5, 0.0], [-1.0, 1.0]], "scale_tril": [TRIL, TRIL]},
        {"df": NOT_POSITIVE, "scale_tril": [[[1.0, 0.0], [0.5, -1.0]]]},
    ),
    Case("ProjectedNormal", {"concentration": [[0.5, 1.0, -1.0], [0.0, 0.0, 2.0]]}),
    Case("VonMises3D", {"concentration": [[0.5, 1.0, -1.0], [0.0, 0.0, 2.0]]}),
    Case("LKJCholesky", {"concentration": [0.7, 2.0]}, {"concentration": NOT_POSITIVE}, {"dim": 3}),
    Case("LKJ", {"concentration": [0.7, 2.0]}, {"concentration": NOT_POSITIVE}, {"dim": 3}),
    Case("Delta", {"v": loc, "log_density": [0.0, 1.0]}, pyro=True),
    Case(
        "MaskedDistribution",
        {"loc": loc, "scale": scale},
        {"scale": NOT_POSITIVE},
        pyro=False,
        build=lambda loc, scale: dist.Normal(loc, scale).mask(torch.ones_like(loc) == 1),
    ),
    Case(
        "Independent",
        {"loc": [[0.5, 0.0], [-1.0, 1.0]], "scale": [[1.5, 1.0], [0.7, 0.5]]},
        {"scale": [[0.0, 1.0]]},
        pyro=False,
        build=lambda loc, scale: dist.Normal(loc, scale).to_event(1),
    ),
    Case(
        "ExpandedDistribution",
        {"loc": [[0.5], [-1.0]], "scale": [[1.5], [0.7]]},
        {"scale": [[0.0]]},
        pyro=False,
        build=lambda loc, scale: dist.ExpandedDistribution(
            dist.Normal(loc, scale), (*loc.shape[:-1], 3)
        ),
    ),
    Case(
        "TransformedDistribution",
        {"loc": loc, "scale": scale},
        {"scale": NOT_POSITIVE},
        pyro=False,
        build=lambda loc, scale: dist.TransformedDistribution(
            dist.Normal(loc, scale),
            [dist.transforms.ExpTransform(), dist.transforms.AffineTransform(1.0, 2.0)],
        ),
    ),
    Case(
        "FoldedDistribution",
        {"loc": loc, "scale": scale},
        {"scale": NOT_POSITIVE},
        pyro=False,
        build=lambda loc, scale: dist.FoldedDistribution(dist.Normal(loc, scale)),
    ),
    Case(
        "MixtureSameFamily",
        {
            "probs": [[0.3, 0.7], [0.5, 0.5]],
            "loc": [[0.0, 3.0], [-1.0, 1.0]],
            "scale": [[1.0, 0.5], [0.7, 0.7]],
        },
        {"probs": [[-1.0, -1.0]], "scale": [[0.0, 1.0]]},
        pyro=False,
        build=lambda probs, loc, scale: dist.MixtureSameFamily(
            dist.Categorical(probs), dist.Normal(loc, scale)
        ),
    ),
    Case(
        "MaskedMixture",
        {"loc": loc, "scale": scale},
        {"scale": NOT_POSITIVE},
        pyro=False,
        build=lambda loc, scale: dist.MaskedMixture(
            loc > 0, dist.Exponential(scale), dist.Normal(loc, scale)
        ),
    ),
    Case("Empirical", {"samples": [[1.0, 2.0, 2.0], [0.0, 5.0, 7.0]], "log_weights": scores}),
    Case(
        "SineSkewed",
        {"loc": [[0.5, 0.0], [-1.0, 1.0]], "skewness": [[0.3, -0.5], [0.2, 0.2]]},
        {"skewness": [[0.8, -0.8], [1.5, 0.0]]},
        pyro=False,
        build=lambda loc, skewness: dist.SineSkewed(dist.VonMises(loc, 2.0).to_event(1), skewness),
    ),
]

every_family = {"argnames": "case", "argvalues": CASES, "ids": repr}


# -- the same families, by SciPy -------------------------------------------------------------------


@dataclass
class Reference:
    """A family of numbers: its parameters over a grid, and SciPy's distribution of the same
    parameters.
    """

    name: str
    grid: dict  # by name: values; all combinations are tried
    scipy: Callable  # of the same arguments, as arrays
    variance_from: Callable | None = None  # where mean and variance are finite
    build: Callable | None = None

    @property
    def id(self):
        return self.name

    def combinations(self):
        values = torch.meshgrid(
            *(torch.tensor(v, dtype=F64) for v in self.grid.values()), indexing="ij"
        )
        return dict(zip(self.grid, (v.flatten() for v in values), strict=True))

    def __repr__(self):
        return self.name


LOC, SCALE = [-2.0, 0.0, 30.0], [0.01, 1.0, 7.0]
POSITIVE = [0.1, 1.0, 2.5, 40.0]
UNIT = [1e-3, 0.3, 0.5, 0.99]


def references():
    def both(**more):
        return {"loc": LOC, "scale": SCALE, **more}

    def mean_above(name, least):
        return lambda p: p[name] > least

    yield Reference("Normal", both(), lambda loc, scale: st.norm(loc, scale))
    yield Reference(
        "Cauchy", both(), lambda loc, scale: st.cauchy(loc, scale), lambda p: p["loc"] > math.inf
    )
    yield Reference("Laplace", both(), lambda loc, scale: st.laplace(loc, scale))
    yield Reference("Gumbel", both(), lambda loc, scale: st.gumbel_r(loc, scale))
    yield Reference("Logistic", both(), lambda loc, scale: st.logistic(loc, scale))
    yield Reference("SoftLaplace", both(), lambda loc, scale: st.hypsecant(loc, scale))
    yield Reference(
        "StudentT",
        {"df": [0.5, 1.5, 3.0, 50.0], **both()},
        lambda df, loc, scale: st.t(df, loc, scale),
        mean_above("df", 2),
    )
    yield Reference(
        "SkewLogistic",
        both(asymmetry=[0.3, 1.0, 4.0]),
        lambda loc, scale, asymmetry: st.genlogistic(asymmetry, loc, scale),
    )
    yield Reference(
        "AsymmetricLaplace",
        both(asymmetry=[0.3, 1.0, 4.0]),
        lambda loc, scale, asymmetry: st.laplace_asymmetric(asymmetry, loc, scale),
    )
    yield Reference("Exponential", {"rate": POSITIVE}, lambda rate: st.expon(scale=1 / rate))
    yield Reference(
        "Gamma",
        {"concentration": POSITIVE, "rate": POSITIVE},
        lambda concentration, rate: st.gamma(concentration, scale=1 / rate),
    )
    yield Reference(
        "InverseGamma",
        {"concentration": POSITIVE, "rate": POSITIVE},
        lambda concentration, rate: st.invgamma(concentration, scale=rate),
        mean_above("concentration", 2),
    )
    yield Reference("Chi2", {"df": POSITIVE}, lambda df: st.chi2(df))
    yield Reference(
        "LogNormal",
        {"loc": [-2.0, 0.0, 3.0], "scale": [0.1, 1.0, 2.0]},
        lambda loc, scale: st.lognorm(scale, scale=np.exp(loc)),
    )
    yield Reference("HalfNormal", {"scale": SCALE}, lambda scale: st.halfnorm(scale=scale))
    yield Reference(
        "HalfCauchy",
        {"scale": SCALE},
        lambda scale: st.halfcauchy(scale=scale),
        lambda p: p["scale"] < 0,
    )
    yield Reference(
        "Weibull",
        {"scale": SCALE, "concentration": [0.5, 1.0, 3.0]},
        lambda scale, concentration: st.weibull_min(concentration, scale=scale),
    )
    yield Reference(
        "Pareto",
        {"scale": SCALE, "alpha": [0.5, 1.5, 3.0, 20.0]},
        lambda scale, alpha: st.pareto(alpha, scale=scale),
        mean_above("alpha", 2),
    )
    yield Reference(
        "GeneralizedPareto",
        both(concentration=[-0.7, 0.0, 0.3, 1.5]),
        lambda loc, scale, concentration: st.genpareto(concentration, loc, scale),
        lambda p: p["concentration"] < 0.5,
    )
    yield Reference(
        "FisherSnedecor",
        {"df1": [0.5, 3.0, 20.0], "df2": [1.0, 5.0, 30.0]},
        lambda df1, df2: st.f(df1, df2),
        mean_above("df2", 4),
    )
    yield Reference(
        "Uniform",
        {"low": [-3.0, 0.0], "high": [0.5, 9.0]},
        lambda low, high: st.uniform(low, high - low),
    )
    yield Reference(
        "LogUniform",
        {"low": [0.001, 0.5], "high": [0.7, 900.0]},
        lambda low, high: st.loguniform(low, high),
    )
    yield Reference(
        "Beta",
        {"concentration1": POSITIVE, "concentration0": POSITIVE},
        lambda concentration1, concentration0: st.beta(concentration1, concentration0),
    )
    yield Reference(
        "AffineBeta",
        {
            "concentration1": [0.5, 3.0],
            "concentration0": [1.0, 8.0],
            "loc": [-2.0, 5.0],
            "scale": [0.1, 4.0],
        },
        lambda concentration1, concentration0, loc, scale: st.beta(
            concentration1, concentration0, loc, scale
        ),
    )
    yield Reference(
        "TruncatedNormal",
        {
            "loc": [-2.0, 0.0, 1.0],
            "scale": [0.3, 1.0, 5.0],
            "low": [-3.0, 0.0],
            "high": [0.5, 4.0, math.inf],
        },
        lambda loc, scale, low, high: st.truncnorm(
            (low - loc) / scale, (high - loc) / scale, loc, scale
        ),
    )
    yield Reference(
        "VonMises",
        {"loc": [-1.0, 0.0, 2.0], "concentration": [0.01, 1.0, 50.0]},
        lambda loc, concentration: st.vonmises(concentration, loc),
        lambda p: p["loc"] > math.inf,
    )
    yield Reference(
        "FoldedDistribution",
        {"loc": [-2.0, 0.0, 1.0], "scale": [0.3, 2.0]},
        lambda loc, scale: st.foldnorm(np.abs(loc) / scale, scale=scale),
        lambda p: p["scale"] < 0,
        build=lambda loc, scale: dist.FoldedDistribution(dist.Normal(loc, scale)),
    )
    yield Reference("Bernoulli", {"probs": UNIT}, lambda probs: st.bernoulli(probs))
    yield Reference("Geometric", {"probs": UNIT}, lambda probs: st.geom(probs, loc=-1))
    yield Reference("Poisson", {"rate": [0.01, 1.0, 30.0]}, lambda rate: st.poisson(rate))
    yield Reference(
        "Binomial",
        {"total_count": [1.0, 7.0, 200.0], "probs": UNIT},
        lambda total_count, probs: st.binom(total_count, probs),
    )
    yield Reference(
        "NegativeBinomial",
        {"total_count": [0.5, 3.0, 30.0], "probs": UNIT},
        lambda total_count, probs: st.nbinom(total_count, 1 - probs),
    )
    yield Reference(
        "GammaPoisson",
        {"concentration": [0.5, 3.0, 30.0], "rate": [0.1, 2.0]},
        lambda concentration, rate: st.nbinom(concentration, rate / (1 + rate)),
    )
    yield Reference(
        "BetaBinomial",
        {"concentration1": [0.5, 3.0], "concentration0": [1.0, 8.0], "total_count": [1.0, 20.0]},
        lambda concentration1, concentration0, total_count: st.betabinom(
            total_count.astype(int), concentration1, concentration0
        ),
    )


REFERENCES = list(references())
