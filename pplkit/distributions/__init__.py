"""Distributions, with Pyro's names: torch's families, and those that programs need besides."""

from . import constraints, transforms
from .base import Distribution, Independent, TorchDistribution, adopt
from .bounded import (
    AffineBeta,
    Beta,
    ContinuousBernoulli,
    Kumaraswamy,
    LogUniform,
    RelaxedBernoulli,
    RelaxedBernoulliStraightThrough,
    TruncatedNormal,
    Uniform,
    VonMises,
)
from .discrete import (
    Bernoulli,
    BetaBinomial,
    Binomial,
    Categorical,
    DirichletMultinomial,
    GammaPoisson,
    Geometric,
    Multinomial,
    NegativeBinomial,
    OneHotCategorical,
    OneHotCategoricalStraightThrough,
    OrderedLogistic,
    Poisson,
    ZeroInflatedDistribution,
    ZeroInflatedNegativeBinomial,
    ZeroInflatedPoisson,
)
from .divergences import kl_divergence, register_kl
from .multivariate import (
    LKJ,
    Dirichlet,
    LKJCholesky,
    LogisticNormal,
    LowRankMultivariateNormal,
    MultivariateNormal,
    MultivariateStudentT,
    NanMaskedMultivariateNormal,
    ProjectedNormal,
    RelaxedOneHotCategorical,
    RelaxedOneHotCategoricalStraightThrough,
    VonMises3D,
    Wishart,
)
from .positive import (
    Chi2,
    Exponential,
    FisherSnedecor,
    Gamma,
    GeneralizedPareto,
    HalfCauchy,
    HalfNormal,
    InverseGamma,
    LogNormal,
    Pareto,
    Weibull,
)
from .real_line import (
    AsymmetricLaplace,
    Cauchy,
    Gumbel,
    Laplace,
    Logistic,
    NanMaskedNormal,
    Normal,
    SkewLogistic,
    SoftAsymmetricLaplace,
    SoftLaplace,
    StudentT,
)
from .transforms import biject_to, transform_to
from .wrappers import (
    Delta,
    Empirical,
    ExpandedDistribution,
    FoldedDistribution,
    ImproperUniform,
    MaskedDistribution,
    MaskedMixture,
    MixtureSameFamily,
    SineSkewed,
    TransformedDistribution,
    Unit,
)

__all__ = [
    # on the real line
    "AsymmetricLaplace", "Cauchy", "Gumbel", "Laplace", "Logistic", "NanMaskedNormal", "Normal",
    "SkewLogistic", "SoftAsymmetricLaplace", "SoftLaplace", "StudentT",
    # positive numbers
    "Chi2", "Exponential", "FisherSnedecor", "Gamma", "GeneralizedPareto", "HalfCauchy",
    "HalfNormal", "InverseGamma", "LogNormal", "Pareto", "Weibull",
    # between two bounds, and angles
    "AffineBeta", "Beta", "ContinuousBernoulli", "Kumaraswamy", "LogUniform", "RelaxedBernoulli",
    "RelaxedBernoulliStraightThrough", "TruncatedNormal", "Uniform", "VonMises",
    # counts and categories
    "Bernoulli", "BetaBinomial", "Binomial", "Categorical", "DirichletMultinomial", "GammaPoisson",
    "Geometric", "Multinomial", "NegativeBinomial", "OneHotCategorical",
    "OneHotCategoricalStraightThrough", "OrderedLogistic", "Poisson", "ZeroInflatedDistribution",
    "ZeroInflatedNegativeBinomial", "ZeroInflatedPoisson",
    # vectors and matrices
    "Dirichlet", "LKJ", "LKJCholesky", "LogisticNormal", "LowRankMultivariateNormal",
    "MultivariateNormal", "MultivariateStudentT", "NanMaskedMultivariateNormal", "ProjectedNormal",
    "RelaxedOneHotCategorical", "RelaxedOneHotCategoricalStraightThrough", "VonMises3D", "Wishart",
    # made of values, of terms, of other distributions
    "Delta", "Empirical", "ExpandedDistribution", "FoldedDistribution", "ImproperUniform",
    "Independent", "MaskedDistribution", "MaskedMixture", "MixtureSameFamily", "SineSkewed",
    "TransformedDistribution", "Unit",
    # what they share
    "Distribution", "TorchDistribution", "adopt", "biject_to", "constraints", "kl_divergence",
    "register_kl",
    "transform_to", "transforms",
]  # fmt: skip
