"""Families of vectors and matrices."""

from __future__ import annotations

import math

import torch
import torch.distributions as torch_dist
from torch import Tensor
from torch.distributions.utils import clamp_probs, lazy_property

from . import constraints
from .base import Distribution, Family, floating, grown, parameters
from .bounded import Beta, straight_through
from .discrete import Weights, weighted
from .pathwise import dirichlet
from .positive import Chi2
from .real_line import ndtr
from .transforms import normalized

# -- on the simplex --------------------------------------------------------------------------------


class Dirichlet(Distribution, torch_dist.Dirichlet):
    """K probabilities with sum 1: density proportional to prod_i x_i^(concentration_i - 1).

    Args:
        concentration: > 0, shape `(..., K)`; like counts of what was seen before, plus 1.

    >>> Dirichlet(torch.tensor([1.0, 3.0])).mean
    tensor([0.2500, 0.7500])
    """

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        return dirichlet(self.concentration.expand(self._extended_shape(sample_shape)))

    def _log_prob(self, value: Tensor) -> Tensor:
        a = self.concentration
        return torch.xlogy(a - 1, value).sum(-1) + a.sum(-1).lgamma() - a.lgamma().sum(-1)


class LogisticNormal(Distribution, torch_dist.LogisticNormal):
    """K + 1 probabilities with sum 1: K normal numbers, broken off a stick of length 1 one after
    the other.

    Args:
        loc: means of the normal numbers, shape `(..., K)`.
        scale: their standard deviations, > 0.

    >>> LogisticNormal(torch.zeros(2), torch.ones(2)).event_shape
    torch.Size([3])
    """

    def relations(self):
        yield "loc", self.loc, constraints.real
        yield "scale", self.scale, constraints.positive


class RelaxedOneHotCategorical(Weights, Family, torch_dist.RelaxedOneHotCategorical):
    """A choice among K categories, softened: probabilities that tend to a one-hot vector as the
    temperature falls. They are softmax((logits + G) / temperature), with standard Gumbel numbers G.

    Args:
        temperature: > 0; a number, or batch-shaped.
        probs: non-negative weights, shape `(..., K)`, normalised to sum 1; or instead
        logits: their logarithms, up to a constant.

    >>> RelaxedOneHotCategorical(0.5, probs=torch.tensor([1.0, 3.0])).sample().shape
    torch.Size([2])
    """

    arg_constraints = {
        "temperature": constraints.positive,
        "probs": constraints.simplex,
        "logits": constraints.real_vector,
    }
    support = constraints.simplex
    has_rsample = True
    temperature: Tensor = None
    _inner = ("_categorical",)

    def __init__(self, temperature, probs=None, logits=None, validate_args=None):
        inner = self._categorical = weighted(self, probs, logits)
        if not isinstance(temperature, Tensor):
            temperature = inner._param.new_tensor(temperature)
        self.temperature = temperature.expand(
            torch.broadcast_shapes(temperature.shape, inner.batch_shape)
        )
        if inner.batch_shape != self.temperature.shape:
            self._categorical = inner.expand(self.temperature.shape)
        event_shape = inner.param_shape[-1:]
        torch_dist.Distribution.__init__(
            self, self.temperature.shape, event_shape, validate_args=validate_args
        )

    def stated(self) -> list[str]:
        return ["temperature", *self._categorical.stated()]

    @property
    def probs(self) -> Tensor:
        """Probabilities of the categories."""
        return self._categorical.probs

    @property
    def logits(self) -> Tensor:
        """Their logarithms."""
        return self._categorical.logits

    def _soft(self, sample_shape: torch.Size) -> Tensor:
        shape = self._extended(sample_shape)
        u = clamp_probs(torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device))
        scores = (self.logits - (-u.log()).log()) / self.temperature.unsqueeze(-1)
        return (scores - scores.logsumexp(-1, keepdim=True)).exp()

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        return self._soft(sample_shape)

    def _log_prob(self, value: Tensor) -> Tensor:
        # (K - 1)! t^(K - 1) prod_i (p_i x_i^(-t - 1)) / (sum_i p_i x_i^-t)^K
        k, t, log_x = self.event_shape[0], self.temperature, clamp_probs(value).log()
        scores = self.logits - t.unsqueeze(-1) * log_x
        scores = scores - scores.logsumexp(-1, keepdim=True)
        return math.lgamma(k) + (k - 1) * t.log() + (scores - log_x).sum(-1)

    @classmethod
    def _adopted(cls, fn):
        return cls(fn.temperature, logits=fn.logits)


class RelaxedOneHotCategoricalStraightThrough(RelaxedOneHotCategorical):
    """`RelaxedOneHotCategorical` with hard draws: one-hot vectors, whose gradient is the soft
    draw's.

    Args:
        temperature, probs, logits: as of `RelaxedOneHotCategorical`.

    The log-probability of a draw is that of the soft vector behind it.

    >>> d = RelaxedOneHotCategoricalStraightThrough(0.5, probs=torch.tensor([1.0, 3.0]))
    >>> d.rsample().sum()
    tensor(1.)
    """

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        return straight_through(self._soft(sample_shape), _one_hot)

    def _log_prob(self, value: Tensor) -> Tensor:
        return super()._log_prob(getattr(value, "_unquantize", value))


def _one_hot(soft: Tensor) -> Tensor:
    places = torch.arange(soft.shape[-1], device=soft.device)
    return (soft.argmax(-1, keepdim=True) == places).to(soft.dtype)


# -- in space --------------------------------------------------------------------------------------


def _cholesky(matrix: Tensor) -> Tensor:
    # Without a look at whether it worked: that would wait for the device. The check of the
    # parameters asks.
    return torch.linalg.cholesky_ex(matrix).L


def _tril_from_precision(precision: Tensor) -> Tensor:
    # P = L L^T reversed in both dimensions gives the inverse of an upper factor; one more solve
    # gives the lower.
    reverse = _cholesky(precision.flip(-2, -1)).flip(-2, -1).mT
    identity = torch.eye(precision.shape[-1], dtype=precision.dtype, device=precision.device)
    return torch.linalg.solve_triangular(reverse, identity, upper=False)


class _OfMatrix(Distribution):
    """A family with a covariance, given as itself, its inverse, or its Cholesky factor."""

    @lazy_property
    def _unbroadcasted_scale_tril(self) -> Tensor:
        if "scale_tril" in self.__dict__:
            return self.__dict__["scale_tril"]
        if "covariance_matrix" in self.__dict__:
            return _cholesky(self.__dict__["covariance_matrix"])
        return _tril_from_precision(self.__dict__["precision_matrix"])

    def stated(self) -> list[str]:
        # Constraints are asked of what was given; what was derived from it may be off by rounding.
        return [name for name in super().stated() if name in (self._form, "loc", "df")]

    _form = ""

    def expand(self, batch_shape, _instance=None):
        new = super().expand(batch_shape, _instance)
        new._form = self._form
        return new

    def _keep_matrix(self, batch_shape, **forms) -> Tensor:
        """Remember the one matrix that was given, with the batch's shape."""
        (self._form, matrix), *more = [(name, m) for name, m in forms.items() if m is not None] or [
            ("", None)
        ]
        if matrix is None or more:
            raise ValueError(f"Exactly one of {', '.join(forms)} may be specified.")
        if matrix.dim() < 2 or matrix.shape[-1] != matrix.shape[-2]:
            raise ValueError(f"{self._form} must be a square matrix, or a batch of them")
        batch_shape = torch.broadcast_shapes(batch_shape, matrix.shape[:-2])
        self.__dict__[self._form] = matrix.expand(batch_shape + matrix.shape[-2:])
        return matrix

    @classmethod
    def _adopted(cls, fn):
        names = [name for name in ("loc", "df") if hasattr(fn, name)]
        given = next(
            n for n in ("covariance_matrix", "precision_matrix", "scale_tril") if n in fn.__dict__
        )
        return cls(**{name: getattr(fn, name) for name in (*names, given)})


class MultivariateNormal(_OfMatrix, torch_dist.MultivariateNormal):
    """A normal vector: density proportional to exp(-(x - loc)^T C^-1 (x - loc) / 2).

    Args:
        loc: mean, shape `(..., D)`.
        covariance_matrix: C, symmetric and positive definite, shape `(..., D, D)`; or instead
        precision_matrix: its inverse; or instead
        scale_tril: its lower Cholesky factor, with a positive diagonal: the cheapest.

    >>> MultivariateNormal(torch.zeros(2), torch.eye(2)).log_prob(torch.zeros(2))
    tensor(-1.8379)
    """

    def __init__(
        self,
        loc,
        covariance_matrix=None,
        precision_matrix=None,
        scale_tril=None,
        validate_args=None,
    ):
        if loc.dim() < 1:
            raise ValueError("loc must be at least one-dimensional.")
        matrix = self._keep_matrix(
            loc.shape[:-1],
            covariance_matrix=covariance_matrix,
            precision_matrix=precision_matrix,
            scale_tril=scale_tril,
        )
        if loc.shape[-1] not in (1, matrix.shape[-1]):
            raise ValueError(f"{self._form} must have the size of loc")
        batch_shape = torch.broadcast_shapes(loc.shape[:-1], matrix.shape[:-2])
        self.loc = loc.expand(batch_shape + matrix.shape[-1:])
        torch_dist.Distribution.__init__(
            self, batch_shape, matrix.shape[-1:], validate_args=validate_args
        )

    arg_constraints = {
        "loc": constraints.real_vector,
        "covariance_matrix": constraints.positive_definite,
        "precision_matrix": constraints.positive_definite,
        "scale_tril": constraints.lower_cholesky,
    }


class NanMaskedMultivariateNormal(MultivariateNormal):
    """A normal vector for data with gaps: the log-probability is that of the elements that are not
    NaN.

    Args:
        loc, covariance_matrix, precision_matrix, scale_tril: as of `MultivariateNormal`.

    >>> d = NanMaskedMultivariateNormal(torch.zeros(2), torch.eye(2))
    >>> d.log_prob(torch.tensor([0.0, float("nan")]))
    tensor(-0.9189)
    """

    support = constraints.independent(constraints.anything, 1)

    def _log_prob(self, value: Tensor) -> Tensor:
        known = value.isfinite()
        # An unknown element becomes one of its own, independent, at its mean, of variance 1: it
        # then has density 1 / sqrt(2 pi), which is taken out again.
        both = known.unsqueeze(-1) & known.unsqueeze(-2)
        ones = (~known).to(value.dtype).diag_embed()
        tril = _cholesky(torch.where(both, self.covariance_matrix, 0.0) + ones)
        centred = torch.where(known, value - self.loc, 0.0)
        z = torch.linalg.solve_triangular(tril, centred.unsqueeze(-1), upper=False).squeeze(-1)
        log_det = tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * ((z * z).sum(-1) + known.sum(-1) * math.log(2 * math.pi)) - log_det


class LowRankMultivariateNormal(Distribution, torch_dist.LowRankMultivariateNormal):
    """A normal vector whose covariance is cov_factor cov_factor^T + diag(cov_diag): many
    dimensions, few numbers.

    Args:
        loc: mean, shape `(..., D)`.
        cov_factor: shape `(..., D, R)`, R at most a few.
        cov_diag: > 0, shape `(..., D)`.

    >>> LowRankMultivariateNormal(torch.zeros(2), torch.ones(2, 1), torch.ones(2)).covariance_matrix
    tensor([[2., 1.],
            [1., 2.]])
    """

    def __init__(self, loc, cov_factor, cov_diag, validate_args=None):
        if loc.dim() < 1 or cov_factor.dim() < 2 or cov_diag.dim() < 1:
            raise ValueError("loc and cov_diag must have a dimension at least, cov_factor two")
        size = cov_factor.shape[-2]
        if loc.shape[-1] != size or cov_diag.shape[-1] != size:
            raise ValueError(
                "loc (..., D), cov_factor (..., D, R) and cov_diag (..., D) disagree about D"
            )
        batch_shape = torch.broadcast_shapes(
            loc.shape[:-1], cov_factor.shape[:-2], cov_diag.shape[:-1]
        )
        self.loc, self.cov_diag = (
            loc.expand((*batch_shape, size)),
            cov_diag.expand((*batch_shape, size)),
        )
        self.cov_factor = cov_factor.expand(batch_shape + cov_factor.shape[-2:])
        self._unbroadcasted_cov_factor, self._unbroadcasted_cov_diag = cov_factor, cov_diag
        torch_dist.Distribution.__init__(
            self, batch_shape, loc.shape[-1:], validate_args=validate_args
        )

    @lazy_property
    def _capacitance_tril(self) -> Tensor:
        """The Cholesky factor of 1 + W^T D^-1 W, by which the covariance is inverted cheaply."""
        w, d = self._unbroadcasted_cov_factor, self._unbroadcasted_cov_diag
        inner = w.mT @ (w / d.unsqueeze(-1))
        return _cholesky(inner + torch.eye(w.shape[-1], dtype=w.dtype, device=w.device))

    @lazy_property
    def scale_tril(self) -> Tensor:
        """The covariance's lower Cholesky factor, shape `(..., D, D)`."""
        return _cholesky(self.covariance_matrix)


class MultivariateStudentT(Family):
    """A normal vector of unsure scale: density proportional to (1 + |z|^2 / df)^(-(df + D) / 2),
    where x = loc + scale_tril z.

    Args:
        df: degrees of freedom, > 0; the mean exists above 1, the variance above 2.
        loc: centre, shape `(..., D)`.
        scale_tril: lower triangular with a positive diagonal, shape `(..., D, D)`.

    >>> MultivariateStudentT(4.0, torch.zeros(2), torch.eye(2)).variance
    tensor([2., 2.])
    """

    arg_constraints = {
        "df": constraints.positive,
        "loc": constraints.real_vector,
        "scale_tril": constraints.lower_cholesky,
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, df, loc, scale_tril, validate_args=None):
        if scale_tril.shape[-2:] != 2 * loc.shape[-1:]:
            raise ValueError("loc (..., D) and scale_tril (..., D, D) disagree about D")
        df = df if isinstance(df, Tensor) else loc.new_tensor(df)
        batch_shape = torch.broadcast_shapes(df.shape, loc.shape[:-1], scale_tril.shape[:-2])
        self.df, self.loc = df.expand(batch_shape), loc.expand(batch_shape + loc.shape[-1:])
        self.scale_tril = scale_tril.expand(batch_shape + scale_tril.shape[-2:])
        super().__init__(batch_shape, loc.shape[-1:], validate_args=validate_args)

    @property
    def covariance_matrix(self) -> Tensor:
        """scale_tril scale_tril^T: the covariance but for the factor df / (df - 2)."""
        return self.scale_tril @ self.scale_tril.mT

    @property
    def precision_matrix(self) -> Tensor:
        """The inverse of `covariance_matrix`."""
        return torch.cholesky_inverse(self.scale_tril)

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        z = self.loc.new_empty(self._extended(sample_shape)).normal_()
        chi2 = Chi2(self.df)._rsample(sample_shape)
        z = z * torch.rsqrt(chi2 / self.df).unsqueeze(-1)
        return self.loc + (self.scale_tril @ z.unsqueeze(-1)).squeeze(-1)

    def _log_prob(self, value: Tensor) -> Tensor:
        d, df = self.event_shape[0], self.df
        centred = (value - self.loc).unsqueeze(-1)
        z = torch.linalg.solve_triangular(self.scale_tril, centred, upper=False).squeeze(-1)
        log_det = self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        normaliser = (
            (df / 2).lgamma() - ((df + d) / 2).lgamma() + d / 2 * (df * math.pi).log() + log_det
        )
        return -0.5 * (df + d) * torch.log1p((z * z).sum(-1) / df) - normaliser

    @property
    def mean(self) -> Tensor:
        return torch.where(self.df.unsqueeze(-1) > 1, self.loc, math.nan)

    @property
    def variance(self) -> Tensor:
        df = self.df.unsqueeze(-1)
        finite = (self.scale_tril**2).sum(-1) * df / torch.where(df > 2, df - 2, 1.0)
        return torch.where(df > 2, finite, torch.where(df > 1, math.inf, math.nan))


# -- on the sphere ---------------------------------------------------------------------------------


class ProjectedNormal(Family):
    """A direction: a normal vector around `concentration`, of variance 1, brought to length 1.

    Args:
        concentration: any vector, shape `(..., D)`; its direction is the mean direction, its length
            says how strongly the draws keep to it. The log-probability is known for D = 2, 3 and 4.

    >>> density = ProjectedNormal(torch.zeros(2)).log_prob(torch.tensor([1.0, 0.0])).exp()
    >>> density * 2 * torch.pi
    tensor(1.0000)
    """

    arg_constraints = {"concentration": constraints.real_vector}
    support = constraints.sphere
    has_rsample = True

    def __init__(self, concentration, *, validate_args=None):
        if concentration.dim() < 1:
            raise ValueError("concentration must be at least one-dimensional.")
        self.concentration = concentration
        super().__init__(
            concentration.shape[:-1], concentration.shape[-1:], validate_args=validate_args
        )

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        z = self.concentration.new_empty(self._extended(sample_shape)).normal_()
        return normalized(z + self.concentration)

    def _log_prob(self, value: Tensor) -> Tensor:
        # Along the ray r value, r > 0, the density is phi(r - t) r^(D - 1) times that of what is
        # perpendicular to it; the integral over r is known for each D by parts. phi and Phi are the
        # standard normal's.
        d = self.event_shape[0]
        if d not in (2, 3, 4):
            raise NotImplementedError(
                f"ProjectedNormal has a log_prob for vectors of size 2, 3 and 4, not {d}"
            )
        t = (self.concentration * value).sum(-1)
        perpendicular = (self.concentration**2).sum(-1) - t * t
        phi, below = (-0.5 * t * t).exp() / math.sqrt(2 * math.pi), ndtr(t)
        ray = {
            2: lambda: phi + t * below,
            3: lambda: t * phi + (1 + t * t) * below,
            4: lambda: (2 + t * t) * phi + t * (3 + t * t) * below,
        }[d]()
        ray = ray.clamp(min=torch.finfo(ray.dtype).tiny).log()
        return ray - 0.5 * perpendicular - (d - 1) / 2 * math.log(2 * math.pi)

    @property
    def mean(self) -> Tensor:
        """The mean direction."""
        return normalized(self.concentration)

    @property
    def mode(self) -> Tensor:
        """The most probable direction."""
        return normalized(self.concentration)


class VonMises3D(Family):
    """A direction in space: density proportional to exp(concentration . x), on vectors of length 1.

    Args:
        concentration: shape `(..., 3)`; its direction is the mean direction, its length says how
            strongly the draws keep to it.

    >>> VonMises3D(torch.zeros(3)).log_prob(torch.tensor([1.0, 0.0, 0.0])).exp() * 4 * torch.pi
    tensor(1.0000)
    """

    arg_constraints = {"concentration": constraints.real_vector}
    support = constraints.sphere
    has_rsample = True

    def __init__(self, concentration, validate_args=None):
        if concentration.shape[-1:] != (3,):
            raise ValueError("concentration must have rightmost dimension 3")
        self.concentration = concentration
        super().__init__(
            concentration.shape[:-1], concentration.shape[-1:], validate_args=validate_args
        )

    @property
    def _strength(self) -> Tensor:
        """The length of the concentration, never quite 0."""
        tiny = torch.finfo(self.concentration.dtype).eps
        return torch.linalg.vector_norm(self.concentration, dim=-1).clamp(min=tiny)

    def _log_prob(self, value: Tensor) -> Tensor:
        # The integral is 4 pi sinh(k) / k; sinh(k) = e^k (1 - e^-2k) / 2.
        k = self._strength
        log_sinh = k + (-torch.expm1(-2 * k)).log() - math.log(2)
        return (self.concentration * value).sum(-1) + k.log() - log_sinh - math.log(4 * math.pi)

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        # The height w along the concentration has density proportional to e^(k w) on (-1, 1),
        # inverted here; around it all directions are alike.
        shape, k = self._extended(sample_shape), self._strength
        u = torch.rand(shape[:-1], dtype=k.dtype, device=k.device)
        w = 1 + torch.log(u + (1 - u) * (-2 * k).exp()) / k
        w = w.clamp(-1, 1)
        mean = normalized(self.concentration)
        across = self.concentration.new_empty(shape).normal_()
        across = normalized(across - (across * mean).sum(-1, keepdim=True) * mean)
        return w.unsqueeze(-1) * mean + (1 - w * w).clamp(min=0).sqrt().unsqueeze(-1) * across


# -- matrices --------------------------------------------------------------------------------------


class Wishart(_OfMatrix, torch_dist.Wishart):
    """A random positive definite matrix: the sum of x x^T over `df` normal vectors x of covariance
    C, for whole df. Its mean is df C.

    Args:
        df: degrees of freedom, > D - 1.
        covariance_matrix: C, symmetric and positive definite, shape `(..., D, D)`; or instead
        precision_matrix: its inverse; or instead
        scale_tril: its lower Cholesky factor.

    >>> Wishart(3.0, torch.eye(2)).mean
    tensor([[3., 0.],
            [0., 3.]])
    """

    arg_constraints = {
        "df": constraints.positive,
        "covariance_matrix": constraints.positive_definite,
        "precision_matrix": constraints.positive_definite,
        "scale_tril": constraints.lower_cholesky,
    }
    support = constraints.positive_definite

    def __init__(
        self, df, covariance_matrix=None, precision_matrix=None, scale_tril=None, validate_args=None
    ):
        shape = df.shape if isinstance(df, Tensor) else torch.Size()
        matrix = self._keep_matrix(
            shape,
            covariance_matrix=covariance_matrix,
            precision_matrix=precision_matrix,
            scale_tril=scale_tril,
        )
        batch_shape = torch.broadcast_shapes(shape, matrix.shape[:-2])
        self.df = (df if isinstance(df, Tensor) else matrix.new_tensor(df)).expand(batch_shape)
        torch_dist.Distribution.__init__(
            self, batch_shape, matrix.shape[-2:], validate_args=validate_args
        )

    def relations(self):
        yield "df", self.df, constraints.greater_than(self.event_shape[-1] - 1)

    def expand(self, batch_shape, _instance=None):
        batch_shape = grown(self, batch_shape)
        new = self.__new__(type(self)) if _instance is None else _instance
        new._form, new.df = self._form, self.df.expand(batch_shape)
        new.__dict__[self._form] = self.__dict__[self._form].expand(batch_shape + self.event_shape)
        torch_dist.Distribution.__init__(new, batch_shape, self.event_shape, validate_args=False)
        return new

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        # Bartlett: the Cholesky factor in units of C's has chi on its diagonal and normal numbers
        # below it.
        size, like = self.event_shape[-1], self._unbroadcasted_scale_tril
        lost = torch.arange(size, dtype=like.dtype, device=like.device)
        chi = Chi2(self.df.unsqueeze(-1) - lost)._rsample(sample_shape).sqrt()
        shape = sample_shape + self.batch_shape
        below = torch.randn((*shape, size * (size - 1) // 2), dtype=like.dtype, device=like.device)
        rows, columns = torch.tril_indices(size, size, -1, device=like.device)
        flat = (rows * size + columns).expand(below.shape)
        tril = (
            below.new_zeros((*shape, size * size))
            .scatter(-1, flat, below)
            .unflatten(-1, (size, size))
        )
        factor = like @ (tril + chi.clamp(min=torch.finfo(chi.dtype).eps).diag_embed())
        return factor @ factor.mT

    @property
    def mean(self) -> Tensor:
        return self.df[..., None, None] * self.covariance_matrix

    @property
    def variance(self) -> Tensor:
        c = self.covariance_matrix
        d = c.diagonal(dim1=-2, dim2=-1)
        return self.df[..., None, None] * (c * c + d.unsqueeze(-1) * d.unsqueeze(-2))


class LKJCholesky(Distribution, torch_dist.LKJCholesky):
    """The lower Cholesky factor L of a random correlation matrix L L^T, of density proportional to
    det(L L^T)^(concentration - 1) as a correlation matrix.

    Args:
        dim: size D of the matrix, at least 2.
        concentration: > 0; at 1 all correlation matrices are alike, above 1 those near the identity
            are favoured.

    >>> LKJCholesky(3, 1.0).event_shape
    torch.Size([3, 3])
    """

    has_rsample = True

    def __init__(self, dim, concentration=1.0, validate_args=None):
        if not isinstance(dim, int) or dim < 2:
            raise ValueError(f"dim must be a whole number, at least 2, not {dim!r}")
        self.dim = dim
        (self.concentration,) = parameters(concentration)
        # How much of row i, from 0, lies off the diagonal: Beta(i / 2, concentration + (D - 1 - i)
        # / 2), after Lewandowski et al., 2009. (Torch's LKJCholesky has i - 1/2 in place of i / 2.)
        # Row 0 has nothing there.
        row = torch.arange(
            dim, dtype=self.concentration.dtype, device=self.concentration.device
        ).clamp(min=1)
        self._beta = Beta(row / 2, self.concentration.unsqueeze(-1) + (dim - 1 - row) / 2)
        torch_dist.Distribution.__init__(
            self, self.concentration.shape, torch.Size((dim, dim)), validate_args=validate_args
        )

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        # The onion: a row's share off the diagonal is a beta number, its direction uniform on a
        # sphere.
        share = self._beta._rsample(sample_shape).unsqueeze(-1)
        shape = self._extended_shape(sample_shape)
        direction = torch.randn(shape, dtype=share.dtype, device=share.device).tril(-1)
        first = torch.arange(self.dim, device=share.device).unsqueeze(-1) == 0
        length = torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
        direction = direction / torch.where(first, 1.0, length)
        w = share.sqrt() * direction
        rest = (1 - (w * w).sum(-1)).clamp(min=torch.finfo(w.dtype).tiny)
        return w + rest.sqrt().diag_embed()

    def _sample(self, sample_shape: torch.Size) -> Tensor:
        with torch.no_grad():
            return self._rsample(sample_shape)

    @property
    def _log_normaliser(self) -> Tensor:
        rows = self.dim - 1
        a = self.concentration + 0.5 * rows
        return 0.5 * rows * math.log(math.pi) + torch.mvlgamma(a - 0.5, rows) - rows * a.lgamma()

    def _log_prob(self, value: Tensor) -> Tensor:
        # det contributes L_ii^(2 concentration - 2), the step from L to L L^T a further L_ii^(D -
        # i).
        diagonal = value.diagonal(dim1=-2, dim2=-1)[..., 1:]
        i = torch.arange(2, self.dim + 1, dtype=value.dtype, device=value.device)
        powers = 2 * (self.concentration.unsqueeze(-1) - 1) + self.dim - i
        return (powers * diagonal.log()).sum(-1) - self._log_normaliser


class LKJ(Family):
    """A random correlation matrix, of density proportional to det(x)^(concentration - 1).

    Args:
        dim: size D of the matrix, at least 2.
        concentration: > 0; at 1 all correlation matrices are alike, above 1 those near the identity
            are favoured.

    >>> LKJ(2, 1.0).log_prob(torch.eye(2)).exp()
    tensor(0.5000)
    """

    arg_constraints = {"concentration": constraints.positive}
    support = constraints.corr_matrix
    has_rsample = True
    _inner = ("base_dist",)

    def __init__(self, dim, concentration=1.0, validate_args=None):
        self.base_dist = LKJCholesky(dim, concentration)
        self.dim, self.concentration = dim, self.base_dist.concentration
        base = self.base_dist
        super().__init__(base.batch_shape, base.event_shape, validate_args=validate_args)

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        tril = self.base_dist._rsample(sample_shape)
        return tril @ tril.mT

    def _log_prob(self, value: Tensor) -> Tensor:
        half_log_det = _cholesky(value).diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return 2 * (self.concentration - 1) * half_log_det - self.base_dist._log_normaliser

    @property
    def mean(self) -> Tensor:
        like = floating(self)
        return torch.eye(self.dim, dtype=like.dtype, device=like.device).expand(
            self.batch_shape + self.event_shape
        )
