"""The corpus: models, guides, and what is known of them without any inference engine.

Each entry is written once, as a function of a backend: a namespace that offers `sample`, `param`,
`plate`, `dist` and the rest by Pyro's names. `backend("pplkit")` is ours, `backend("pyro")` the
reference; a model cannot tell which it is given.

    program = ENTRIES["beta_bernoulli"].build(backend("pplkit"), 7, torch.float64)
    program.model(*program.args)
    program.truth().mean["p"]

An entry builds at any size in a dtype and on a device: it makes its tensors with `new`. Its truth
is computed here, in float64, from the mathematics named in its docstring:

- conjugate pairs and linear-Gaussian models have posteriors in closed form;
- models with one or two continuous unknowns are integrated over a grid;
- models with few discrete unknowns are summed over all their values.

Most guides can become the posterior itself. There, every single draw gives the same ELBO, the log
evidence: no tolerance for noise is needed to tell whether truth, model and engine agree.
"""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch import distributions as td

# -- what an entry is made of ---------------------------------------------------------------------


def backend(name: str) -> SimpleNamespace:
    """The statements of an engine with Pyro's names, as the entries below take them."""
    root = importlib.import_module(name)
    statements = "sample param plate deterministic factor subsample module markov"
    return SimpleNamespace(
        name=name,
        dist=importlib.import_module(f"{name}.distributions"),
        handlers=importlib.import_module(f"{name}.poutine" if name == "pyro" else f"{name}.handlers"),
        **{s: getattr(root, s) for s in statements.split() if hasattr(root, s)},
    )


class Maker:
    """Makes an entry's tensors, all of one dtype on one device. Noise comes from fixed seeds."""

    def __init__(self, dtype: torch.dtype = torch.float64, device: Any = "cpu"):
        self.kind = {"dtype": dtype, "device": torch.device(device)}

    def __call__(self, values) -> Tensor:
        if isinstance(values, Tensor):
            return values.to(**self.kind)
        return torch.tensor(values, **self.kind)

    def zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, **self.kind)

    def full(self, shape, value: float) -> Tensor:
        return torch.full(tuple(shape), value, **self.kind)

    def eye(self, n: int) -> Tensor:
        return torch.eye(n, **self.kind)

    def noise(self, *shape: int, seed: int = 0) -> Tensor:
        """Standard normal."""
        return self(torch.randn(shape, generator=_generator(seed), dtype=torch.float64))

    def uniform(self, *shape: int, seed: int = 0) -> Tensor:
        return self(torch.rand(shape, generator=_generator(seed), dtype=torch.float64))


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed + 1)


@dataclass
class Truth:
    """What is known of a posterior; tensors in float64 on the CPU.

    Attributes:
        mean, sd: of the posterior of each site named.
        log_evidence: log p(data), the ELBO's upper bound.
        params: parameter values at which the guide is as near to the posterior as it can be.
        gap: log evidence less the ELBO there; 0 where the guide can be the posterior itself.
        source: whence it is known.
    """

    mean: dict[str, Tensor] = field(default_factory=dict)
    sd: dict[str, Tensor] = field(default_factory=dict)
    log_evidence: Tensor | None = None
    params: dict[str, Tensor] | None = None
    gap: float | None = 0.0
    source: str = "closed form"


@dataclass
class Program:
    """An entry, built: `model(*args)` and `guide(*args)` run; `truth()` is computed when asked."""

    model: Callable
    guide: Callable
    args: tuple
    truth: Callable[[], Truth]


@dataclass(frozen=True)
class Entry:
    """A model/guide pair, to be built by an engine at a size.

    Attributes:
        sizes: 1, 2, a prime and a large one, where the model has a size at all.
        tags: `score` (a latent that cannot be drawn differentiably), `subsample`, `loop` (a Python
            loop over sites), `branch` (Python branches on a draw), `fixed` (one size only).
    """

    name: str
    function: Callable
    sizes: tuple[int, ...]
    tags: frozenset[str]

    def build(self, ppl, size=None, dtype=torch.float64, device="cpu") -> Program:
        """The program at a size; the prime one, unless told."""
        return self.function(ppl, self.sizes[-2:][0] if size is None else size, Maker(dtype, device))


ENTRIES: dict[str, Entry] = {}


def entry(*tags: str, sizes: tuple[int, ...] = (1, 2, 7, 1000)):
    """Put a function of (backend, size, maker) into the corpus."""

    def register(function):
        ENTRIES[function.__name__] = Entry(function.__name__, function, sizes, frozenset(tags))
        return function

    return register


# -- three ways to the truth ----------------------------------------------------------------------


def f64(value) -> Tensor:
    """As the truth is computed: in float64 on the CPU."""
    return torch.as_tensor(value).detach().to("cpu", torch.float64)


def gaussian_truth(log_joint: Callable[..., Tensor], **shapes: tuple[int, ...]) -> Truth:
    """The posterior of a linear-Gaussian model, whose log-joint is a quadratic form.

    With log p(z, x) = c + h'z - z'Lz/2, the posterior is Normal(L^-1 h, L^-1). The nearest
    factorised Normal, in the sense of the ELBO, has the same mean and precisions L_ii (Bishop,
    2006, "Pattern recognition and machine learning", section 10.1.2); `params` are those, named
    `<site>_loc` and `<site>_scale`, and `gap` what they leave.
    """
    sizes = [math.prod(shape) for shape in shapes.values()]

    def split(z: Tensor) -> dict[str, Tensor]:
        parts = z.split(sizes)
        return {name: part.reshape(shapes[name]) for name, part in zip(shapes, parts, strict=True)}

    def of_vector(z: Tensor) -> Tensor:
        return log_joint(**split(z))

    start = torch.zeros(sum(sizes), dtype=torch.float64)
    h = torch.func.grad(of_vector)(start)
    precision = -torch.autograd.functional.hessian(of_vector, start, vectorize=True)
    mean = torch.linalg.solve(precision, h)
    log_det = torch.linalg.slogdet(precision).logabsdet
    evidence = of_vector(start) + 0.5 * (h @ mean - log_det + len(h) * math.log(2 * math.pi))
    factor_sd = precision.diagonal().rsqrt()
    params = {f"{name}_loc": part for name, part in split(mean).items()}
    params |= {f"{name}_scale": part for name, part in split(factor_sd).items()}
    gap = 0.5 * (precision.diagonal().log().sum() - log_det)
    sd = torch.linalg.inv(precision).diagonal().sqrt()
    return Truth(split(mean), split(sd), evidence, params, gap.item())


def grid_truth(log_joint: Callable[..., Tensor], points: int = 201, **axes: Any) -> Truth:
    """The posterior of one or two continuous unknowns, by the trapezoidal rule.

    Each axis is "real", "positive" or "unit" (between 0 and 1); these last two are integrated on
    the log and logit scales. The box shrinks to where the mass is before the final grid is laid:
    for a smooth integrand that fades out at its ends the rule's error is far below 1e-6.

    `log_joint` takes the unknowns by name, each of shape (points, 1), data to the right of it.
    """
    transforms = {"real": td.AffineTransform(0.0, 1.0), "positive": td.ExpTransform()}
    transforms["unit"] = td.SigmoidTransform()

    def laid_out(box, count):
        lines = [torch.linspace(lo, hi, count, dtype=torch.float64) for lo, hi in box]
        u = torch.cartesian_prod(*lines).reshape(-1, len(lines))
        z = {name: transforms[kind](u[:, i, None]) for i, (name, kind) in enumerate(axes.items())}
        jacobian = sum(
            transforms[kind].log_abs_det_jacobian(u[:, i], z[name][:, 0])
            for i, (name, kind) in enumerate(axes.items())
        )
        chunks = zip(*(part.split(2048) for part in z.values()), strict=True)
        values = [log_joint(**dict(zip(axes, chunk, strict=True))) for chunk in chunks]
        weight = sum(math.log((hi - lo) / (count - 1)) for lo, hi in box)
        return u, z, torch.cat(values) + jacobian + weight

    box = [(-30.0, 30.0) if kind == "real" else (-15.0, 15.0) for kind in axes.values()]
    for count in (81, 81, 81, 81):
        u, _, log_mass = laid_out(box, count)
        inside = u[log_mass > log_mass.max() - 45.0]
        steps = [(hi - lo) / (count - 1) for lo, hi in box]
        ends = zip(inside.amin(0).tolist(), inside.amax(0).tolist(), steps, strict=True)
        box = [(lo - step, hi + step) for lo, hi, step in ends]
    _, z, log_mass = laid_out(box, points)
    evidence = log_mass.logsumexp(0)
    p = (log_mass - evidence).exp()
    mean = {name: (p * part[:, 0]).sum() for name, part in z.items()}
    sd = {
        name: (p * (part[:, 0] - mean[name]) ** 2).sum().sqrt() for name, part in z.items()
    }
    return Truth(mean, sd, evidence, None, None, "quadrature")


def enumerated_truth(log_joint: Callable[..., Tensor], **values: int) -> Truth:
    """The posterior of discrete unknowns, by summing over all their values.

    Args:
        log_joint: of one value each, a scalar.
        values: how many values each unknown has.
    """
    cells = list(itertools.product(*(range(n) for n in values.values())))
    table = torch.stack([log_joint(**dict(zip(values, cell, strict=True))) for cell in cells])
    evidence = table.logsumexp(0)
    p = (table - evidence).exp()
    at = torch.tensor(cells, dtype=torch.float64)
    mean = {name: (p * at[:, i]).sum() for i, name in enumerate(values)}
    sd = {name: (p * (at[:, i] - mean[name]) ** 2).sum().sqrt() for i, name in enumerate(values)}
    return Truth(mean, sd, evidence, source="enumeration")


def exact(evidence: Tensor, params: dict[str, Any], **posterior: td.Distribution) -> Truth:
    """The truth where posteriors are known families."""
    return Truth(
        {name: q.mean for name, q in posterior.items()},
        {name: q.stddev for name, q in posterior.items()},
        evidence,
        {name: f64(value) for name, value in params.items()},
    )


def normal_factor(ppl, name: str, loc: Tensor, scale: Tensor, event_dim: int = 0) -> Tensor:
    """A factor of a guide: Normal, with parameters `<name>_loc` and `<name>_scale`."""
    loc = ppl.param(f"{name}_loc", loc)
    scale = ppl.param(f"{name}_scale", scale, constraint=ppl.dist.constraints.positive)
    fn = ppl.dist.Normal(loc, scale)
    return ppl.sample(name, fn.to_event(event_dim) if event_dim else fn)


def lognormal_factor(ppl, name: str, loc: Tensor, scale: Tensor) -> Tensor:
    """A factor of a guide for a positive unknown: LogNormal."""
    loc = ppl.param(f"{name}_loc", loc)
    scale = ppl.param(f"{name}_scale", scale, constraint=ppl.dist.constraints.positive)
    return ppl.sample(name, ppl.dist.LogNormal(loc, scale))


def positive(ppl, name: str, start: Tensor) -> Tensor:
    return ppl.param(name, start, constraint=ppl.dist.constraints.positive)


# -- conjugate pairs ------------------------------------------------------------------------------


def _normal_location(data: Tensor, sd: float, weights: Tensor | float = 1.0) -> Truth:
    """z ~ Normal(0, 1), each row ~ Normal(z, sd), its log-likelihood times its weight."""
    data, weights = f64(data), torch.as_tensor(weights, dtype=torch.float64).expand(len(data))
    precision = 1 + weights.sum() / sd**2
    loc, scale = (weights * data).sum() / sd**2 / precision, precision.rsqrt()
    zero = torch.zeros((), dtype=torch.float64)
    at_zero = td.Normal(zero, 1.0).log_prob(zero)
    at_zero = at_zero + (weights * td.Normal(zero, sd).log_prob(data)).sum()
    posterior = td.Normal(loc, scale)
    evidence = at_zero - posterior.log_prob(zero)
    return exact(evidence, {"z_loc": loc, "z_scale": scale}, z=posterior)


@entry()
def normal_normal(ppl, n, new):
    """A location with a Normal prior, seen n times through noise of known scale.

    Truth: the posterior is Normal; precisions add up.
    """
    dist = ppl.dist

    def model(data):
        z = ppl.sample("z", dist.Normal(new(0.0), new(1.0)))
        with ppl.plate("data", len(data)):
            return ppl.sample("obs", dist.Normal(z, 0.5), obs=data)

    def guide(data):
        normal_factor(ppl, "z", new(0.3), new(0.8))

    data = 0.7 + 0.5 * new.noise(n)
    return Program(model, guide, (data,), lambda: _normal_location(data, 0.5))


@entry()
def normal_precision(ppl, n, new):
    """The precision of centred noise, with a Gamma prior.

    Truth: Gamma(3 + n/2, 2 + sum(y^2)/2).
    """
    dist = ppl.dist

    def model(data):
        precision = ppl.sample("precision", dist.Gamma(new(3.0), new(2.0)))
        with ppl.plate("data", len(data)):
            ppl.sample("obs", dist.Normal(0.0, precision.rsqrt()), obs=data)

    def guide(data):
        a, b = positive(ppl, "a", new(4.0)), positive(ppl, "b", new(3.0))
        ppl.sample("precision", dist.Gamma(a, b))

    data = 0.8 * new.noise(n)

    def truth():
        y, one = f64(data), torch.ones((), dtype=torch.float64)
        a, b = 3 + n / 2, 2 + (y**2).sum() / 2
        posterior = td.Gamma(one * a, b)
        evidence = td.Gamma(3 * one, 2 * one).log_prob(one) + td.Normal(0, one).log_prob(y).sum()
        params = {"a": a, "b": b}
        return exact(evidence - posterior.log_prob(one), params, precision=posterior)

    return Program(model, guide, (data,), truth)


@entry()
def normal_inverse_gamma(ppl, n, new):
    """Mean and variance of Normal data, both unknown; the mean's prior scales with the noise.

    Truth: Normal-inverse-gamma, as in Murphy, 2007, "Conjugate Bayesian analysis of the Gaussian
    distribution", section 6. The guide draws the mean given the variance, so it can be exact.
    """
    dist = ppl.dist

    def model(data):
        v = ppl.sample("variance", dist.InverseGamma(new(4.0), new(3.0)))
        m = ppl.sample("m", dist.Normal(new(0.5), (v / 2).sqrt()))
        with ppl.plate("data", len(data)):
            ppl.sample("obs", dist.Normal(m, v.sqrt()), obs=data)

    def guide(data):
        a, b = positive(ppl, "a", new(5.0)), positive(ppl, "b", new(4.0))
        v = ppl.sample("variance", dist.InverseGamma(a, b))
        loc, count = ppl.param("loc", new(0.2)), positive(ppl, "count", new(3.0))
        ppl.sample("m", dist.Normal(loc, (v / count).sqrt()))

    data = 1.0 + 0.9 * new.noise(n)

    def truth():
        y = f64(data)
        count, a = 2.0 + n, 4.0 + n / 2
        loc = (2 * 0.5 + y.sum()) / count
        b = 3.0 + 0.5 * ((y**2).sum() + 2 * 0.25 - count * loc**2)
        evidence = (
            math.lgamma(a) - math.lgamma(4.0) + 4 * math.log(3.0) - a * b.log()
            + 0.5 * math.log(2.0 / count) - n / 2 * math.log(2 * math.pi)
        )  # fmt: skip
        variance = td.InverseGamma(torch.tensor(a, dtype=torch.float64), b)
        m = td.StudentT(2 * a, loc, (b / (a * count)).sqrt())
        params = {"a": a, "b": b, "loc": loc, "count": count}
        return exact(evidence, params, variance=variance, m=m)

    return Program(model, guide, (data,), truth)


def _beta(a, b) -> td.Beta:
    return td.Beta(torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64))


def _beta_evidence(a: float, b: float, posterior: td.Beta) -> Tensor:
    """log B(posterior) - log B(prior)."""
    c, d = posterior.concentration1, posterior.concentration0
    prior = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    return torch.lgamma(c) + torch.lgamma(d) - torch.lgamma(c + d) - prior


@entry()
def beta_bernoulli(ppl, n, new):
    """A coin of unknown bias, tossed n times.

    Truth: Beta(2 + heads, 2 + tails).
    """
    dist = ppl.dist

    def model(data):
        p = ppl.sample("p", dist.Beta(new(2.0), new(2.0)))
        with ppl.plate("data", len(data)):
            ppl.sample("obs", dist.Bernoulli(p), obs=data)

    def guide(data):
        a, b = positive(ppl, "a", new(3.0)), positive(ppl, "b", new(2.5))
        ppl.sample("p", dist.Beta(a, b))

    data = (new.uniform(n) < 0.7).to(new.kind["dtype"])

    def truth():
        heads = f64(data).sum()
        posterior = _beta(2 + heads, 2 + n - heads)
        params = {"a": 2 + heads, "b": 2 + n - heads}
        return exact(_beta_evidence(2.0, 2.0, posterior), params, p=posterior)

    return Program(model, guide, (data,), truth)


@entry()
def beta_binomial(ppl, n, new):
    """Successes in n groups of known sizes, of one unknown probability.

    Truth: Beta(1.5 + successes, 2.5 + failures).
    """
    dist = ppl.dist

    def model(trials, data):
        p = ppl.sample("p", dist.Beta(new(1.5), new(2.5)))
        with ppl.plate("data", len(data)):
            ppl.sample("obs", dist.Binomial(trials, p), obs=data)

    def guide(trials, data):
        a, b = positive(ppl, "a", new(3.0)), positive(ppl, "b", new(3.0))
        ppl.sample("p", dist.Beta(a, b))

    trials = new([float(3 + i % 5) for i in range(n)])
    data = (trials * new.uniform(n)).floor()

    def truth():
        y, t = f64(data), f64(trials)
        posterior = _beta(1.5 + y.sum(), 2.5 + (t - y).sum())
        choices = (torch.lgamma(t + 1) - torch.lgamma(y + 1) - torch.lgamma(t - y + 1)).sum()
        params = {"a": posterior.concentration1, "b": posterior.concentration0}
        return exact(choices + _beta_evidence(1.5, 2.5, posterior), params, p=posterior)

    return Program(model, guide, (trials, data), truth)


@entry()
def beta_geometric(ppl, n, new):
    """How often one fails before the first success, n times over.

    Truth: Beta(2 + n, 3 + failures).
    """
    dist = ppl.dist

    def model(data):
        p = ppl.sample("p", dist.Beta(new(2.0), new(3.0)))
        with ppl.plate("data", len(data)):
            ppl.sample("obs", dist.Geometric(p), obs=data)

    def guide(data):
        a, b = positive(ppl, "a", new(3.0)), positive(ppl, "b", new(4.0))
        ppl.sample("p", dist.Beta(a, b))

    data = (new.uniform(n).log() / math.log(0.6)).floor()

    def truth():
        posterior = _beta(2.0 + n, 3.0 + f64(data).sum())
        params = {"a": posterior.concentration1, "b": posterior.concentration0}
        return exact(_beta_evidence(2.0, 3.0, posterior), params, p=posterior)

    return Program(model, guide, (data,), truth)


@entry()
def gamma_poisson(ppl, n, new):
    """Counts of one unknown rate.

    Truth: Gamma(3 + sum, 1 + n).
    """
    dist = ppl.dist

    def model(data):
        rate = ppl.sample("rate", dist.Gamma(new(3.0), new(1.0)))
        with ppl.plate("data", len(data)):
            ppl.sample("obs", dist.Poisson(rate), obs=data)

    def guide(data):
        a, b = positive(ppl, "a", new(4.0)), positive(ppl, "b", new(1.5))
        ppl.sample("rate", dist.Gamma(a, b))

    data = (5 * new.uniform(n)).floor()

    def truth():
        y = f64(data)
        a, b = 3 + y.sum(), torch.tensor(1.0 + n, dtype=torch.float64)
        evidence = torch.lgamma(a) - math.lgamma(3.0) - a * b.log() - torch.lgamma(y + 1).sum()
        return exact(evidence, {"a": a, "b": b}, rate=td.Gamma(a, b))

    return Program(model, guide, (data,), truth)


@entry()
def gamma_exponential(ppl, n, new):
    """Waiting times of one unknown rate.

    Truth: Gamma(2 + n, 1.5 + sum).
    """
    dist = ppl.dist

    def model(data):
        rate = ppl.sample("rate", dist.Gamma(new(2.0), new(1.5)))
        with ppl.plate("data", len(data)):
            ppl.sample("obs", dist.Exponential(rate), obs=data)

    def guide(data):
        a, b = positive(ppl, "a", new(3.0)), positive(ppl, "b", new(2.0))
        ppl.sample("rate", dist.Gamma(a, b))

    data = -new.uniform(n).log() / 1.3

    def truth():
        a, b = torch.tensor(2.0 + n, dtype=torch.float64), 1.5 + f64(data).sum()
        evidence = torch.lgamma(a) - math.lgamma(2.0) + 2 * math.log(1.5) - a * b.log()
        return exact(evidence, {"a": a, "b": b}, rate=td.Gamma(a, b))

    return Program(model, guide, (data,), truth)


def _dirichlet_evidence(prior: Tensor, posterior: Tensor) -> Tensor:
    """log B(posterior) - log B(prior)."""
    return (
        torch.lgamma(posterior).sum() - torch.lgamma(posterior.sum())
        - torch.lgamma(prior).sum() + torch.lgamma(prior.sum())
    )  # fmt: skip


@entry()
def dirichlet_categorical(ppl, n, new):
    """A die of three faces and unknown bias, thrown n times.

    Truth: Dirichlet(prior + counts).
    """
    dist, prior = ppl.dist, [1.0, 2.0, 1.5]

    def model(data):
        p = ppl.sample("p", dist.Dirichlet(new(prior)))
        with ppl.plate("data", len(data)):
            ppl.sample("obs", dist.Categorical(p), obs=data)

    def guide(data):
        ppl.sample("p", dist.Dirichlet(positive(ppl, "a", new([2.0, 3.0, 2.5]))))

    data = (3 * new.uniform(n)).long()

    def truth():
        before = torch.tensor(prior, dtype=torch.float64)
        after = before + torch.bincount(data.cpu(), minlength=3)
        return exact(_dirichlet_evidence(before, after), {"a": after}, p=td.Dirichlet(after))

    return Program(model, guide, (data,), truth)


@entry()
def dirichlet_multinomial(ppl, n, new):
    """Counts over four kinds, five at a time, of unknown proportions.

    Truth: Dirichlet(1 + totals).
    """
    dist = ppl.dist

    def model(data):
        p = ppl.sample("p", dist.Dirichlet(new.full((4,), 1.0)))
        with ppl.plate("data", len(data)):
            ppl.sample("obs", dist.Multinomial(5, p), obs=data)

    def guide(data):
        ppl.sample("p", dist.Dirichlet(positive(ppl, "a", new([2.0, 3.0, 2.5, 2.0]))))

    throws = (4 * new.uniform(n, 5)).long()
    data = new((throws[..., None] == torch.arange(4, device=throws.device)).sum(-2))

    def truth():
        y, before = f64(data), torch.ones(4, dtype=torch.float64)
        after = before + y.sum(0)
        orders = n * math.lgamma(6.0) - torch.lgamma(y + 1).sum()
        evidence = orders + _dirichlet_evidence(before, after)
        return exact(evidence, {"a": after}, p=td.Dirichlet(after))

    return Program(model, guide, (data,), truth)


@entry()
def pareto_uniform(ppl, n, new):
    """The unknown end of an interval from which n points were drawn.

    Truth: Pareto(max(1, largest point), 3 + n), the prior being Pareto(1, 3).
    """
    dist = ppl.dist

    def model(data):
        end = ppl.sample("end", dist.Pareto(new(1.0), new(3.0)))
        with ppl.plate("data", len(data)):
            ppl.sample("obs", dist.Uniform(new(0.0), end), obs=data)

    def guide(data):
        alpha = positive(ppl, "alpha", new(4.0))
        ppl.sample("end", dist.Pareto(data.max().clamp(min=1.0), alpha))

    data = 2.0 * new.uniform(n)

    def truth():
        start = f64(data).max().clamp(min=1.0)
        alpha = torch.tensor(3.0 + n, dtype=torch.float64)
        evidence = math.log(3.0) - alpha.log() - alpha * start.log()
        return exact(evidence, {"alpha": alpha}, end=td.Pareto(start, alpha))

    return Program(model, guide, (data,), truth)


@entry()
def lognormal_scale(ppl, n, new):
    """A positive size, seen through multiplicative noise.

    Truth: on the log scale it is `normal_normal`; the Jacobian of the data shifts the evidence.
    """
    dist = ppl.dist

    def model(data):
        size = ppl.sample("size", dist.LogNormal(new(0.0), new(1.0)))
        with ppl.plate("data", len(data)):
            ppl.sample("obs", dist.LogNormal(size.log(), 0.5), obs=data)

    def guide(data):
        lognormal_factor(ppl, "size", new(0.2), new(0.6))

    data = (0.4 + 0.5 * new.noise(n)).exp()

    def truth():
        logs = _normal_location(f64(data).log(), 0.5)
        params = {"size_loc": logs.params["z_loc"], "size_scale": logs.params["z_scale"]}
        evidence = logs.log_evidence - f64(data).log().sum()
        return exact(evidence, params, size=td.LogNormal(*params.values()))

    return Program(model, guide, (data,), truth)


@entry("score")
def von_mises_direction(ppl, n, new):
    """A direction on the circle, seen through von Mises noise of known concentration.

    Truth: von Mises again; concentrations add up as vectors (Mardia and El-Atoum, 1976, "Bayesian
    inference for the von Mises-Fisher distribution"). Sampled by rejection: no pathwise gradient.
    """
    dist = ppl.dist

    def model(data):
        angle = ppl.sample("angle", dist.VonMises(new(0.5), new(1.0)))
        with ppl.plate("data", len(data)):
            ppl.sample("obs", dist.VonMises(angle, new(2.0)), obs=data)

    def guide(data):
        loc, k = ppl.param("loc", new(0.2)), positive(ppl, "k", new(3.0))
        ppl.sample("angle", dist.VonMises(loc, k))

    data = 1.0 + 0.5 * new.noise(n).clamp(-3, 3)

    def truth():
        y, one = f64(data), torch.ones((), dtype=torch.float64)
        c, s = math.cos(0.5) + 2 * y.cos().sum(), math.sin(0.5) + 2 * y.sin().sum()
        posterior = td.VonMises(torch.atan2(s, c), torch.hypot(c, s))
        joint = td.VonMises(0.5 * one, one).log_prob(one) + td.VonMises(one, 2.0).log_prob(y).sum()
        params = {"loc": posterior.loc, "k": posterior.concentration}
        return Truth({}, {}, joint - posterior.log_prob(one), params)

    return Program(model, guide, (data,), truth)


@entry()
def multivariate_mean(ppl, n, new):
    """A point in three dimensions, seen through correlated noise.

    Truth: linear-Gaussian; the guide's covariance is free, so it can be exact.
    """
    dist = ppl.dist
    noise = new([[1.0, 0.0, 0.0], [0.5, 0.8, 0.0], [-0.3, 0.2, 0.6]])

    def model(data):
        m = ppl.sample("m", dist.MultivariateNormal(new.zeros(3), 2.0 * new.eye(3)))
        with ppl.plate("data", len(data)):
            ppl.sample("obs", dist.MultivariateNormal(m, scale_tril=noise), obs=data)

    def guide(data):
        loc = ppl.param("loc", new([0.1, 0.2, -0.1]))
        tril = 0.5 * new.eye(3) + 0.1 * new.eye(3)[[1, 0, 2]].tril()
        tril = ppl.param("tril", tril, constraint=dist.constraints.lower_cholesky)
        ppl.sample("m", dist.MultivariateNormal(loc, scale_tril=tril))

    data = new([1.0, -0.5, 0.2]) + new.noise(n, 3) @ noise.T

    def truth():
        y, tril = f64(data), f64(noise)
        prior = 2.0 * torch.eye(3, dtype=torch.float64)
        seen = torch.linalg.inv(tril @ tril.T)
        covariance = torch.linalg.inv(torch.linalg.inv(prior) + n * seen)
        loc = covariance @ (seen @ y.sum(0))
        posterior = td.MultivariateNormal(loc, covariance)
        joint = td.MultivariateNormal(torch.zeros_like(loc), prior).log_prob(loc)
        joint = joint + td.MultivariateNormal(loc, scale_tril=tril).log_prob(y).sum()
        params = {"loc": loc, "tril": posterior.scale_tril}
        return exact(joint - posterior.log_prob(loc), params, m=posterior)

    return Program(model, guide, (data,), truth)


@entry()
def improper_prior(ppl, n, new):
    """A location with a flat prior over the line, which integrates to nothing at all.

    Truth: Normal(mean of the data, 0.5/sqrt(n)); the "evidence" is the likelihood's integral.
    """
    dist = ppl.dist

    def model(data):
        flat = dist.ImproperUniform(dist.constraints.real, (), ())
        z = ppl.sample("z", flat)
        with ppl.plate("data", len(data)):
            ppl.sample("obs", dist.Normal(z, 0.5), obs=data)

    def guide(data):
        normal_factor(ppl, "z", new(0.3), new(0.8))

    data = 0.7 + 0.5 * new.noise(n)

    def truth():
        y = f64(data)
        posterior = td.Normal(y.mean(), torch.tensor(0.5 / math.sqrt(n), dtype=torch.float64))
        joint = td.Normal(y.mean(), 0.5).log_prob(y).sum()
        params = {"z_loc": posterior.loc, "z_scale": posterior.scale}
        return exact(joint - posterior.log_prob(posterior.loc), params, z=posterior)

    return Program(model, guide, (data,), truth)
