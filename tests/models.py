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
        handlers=importlib.import_module(
            f"{name}.poutine" if name == "pyro" else f"{name}.handlers"
        ),
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
        gap: log evidence less the ELBO there, on average; 0 where the guide can be the posterior.
            None: not known.
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
        return self.function(
            ppl, self.sizes[-2:][0] if size is None else size, Maker(dtype, device)
        )


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
    value = value.detach() if isinstance(value, Tensor) else value
    return torch.as_tensor(value, dtype=torch.float64, device="cpu")


def normal(loc, scale) -> td.Normal:
    return td.Normal(f64(loc), f64(scale)) if not isinstance(loc, Tensor) else td.Normal(loc, scale)


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

    def gradient(z: Tensor) -> Tensor:
        z = z.requires_grad_()
        return torch.autograd.grad(of_vector(z), z)[0]

    start = torch.zeros(sum(sizes), dtype=torch.float64)
    h = gradient(start).clone()
    # The gradient of a quadratic form is linear: one difference gives a column, without error.
    columns = torch.eye(len(h), dtype=torch.float64)
    precision = torch.stack([h - gradient(column.clone()) for column in columns])
    mean = torch.linalg.solve(precision, h)
    log_det = torch.linalg.slogdet(precision).logabsdet
    evidence = of_vector(start).detach() + 0.5 * (
        h @ mean - log_det + len(h) * math.log(2 * math.pi)
    )
    factor_sd = precision.diagonal().rsqrt()
    params = {f"{name}_loc": part for name, part in split(mean).items()}
    params |= {f"{name}_scale": part for name, part in split(factor_sd).items()}
    gap = 0.5 * (precision.diagonal().log().sum() - log_det)
    sd = torch.linalg.inv(precision).diagonal().sqrt()
    return Truth(split(mean), split(sd), evidence, params, gap.item())


def grid_truth(
    log_joint: Callable[..., Tensor], points: int = 201, given: Callable | None = None, **axes: Any
) -> Truth:
    """The posterior of one or two continuous unknowns, by the trapezoidal rule.

    Each axis is "real", "positive" or "unit" (between 0 and 1); these last two are integrated on
    the log and logit scales. The box shrinks to where the mass is before the final grid is laid:
    for a smooth integrand that fades out at its ends the rule's error is far below 1e-6.

    `log_joint` takes the unknowns by name, each of shape (points, 1), data to the right of it.
    `given`, when there is one, takes them too and returns mean and variance, by name, of further
    unknowns whose posterior given these is known; shape (points, ...).
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
    for count in (41, 41, 41, 41):
        u, _, log_mass = laid_out(box, count)
        inside = u[log_mass > log_mass.max() - 45.0]
        steps = [(hi - lo) / (count - 1) for lo, hi in box]
        ends = zip(inside.amin(0).tolist(), inside.amax(0).tolist(), steps, strict=True)
        box = [(lo - step, hi + step) for lo, hi, step in ends]
    _, z, log_mass = laid_out(box, points)
    evidence = log_mass.logsumexp(0)
    p = (log_mass - evidence).exp()
    mean = {name: (p * part[:, 0]).sum() for name, part in z.items()}
    sd = {name: (p * (part[:, 0] - mean[name]) ** 2).sum().sqrt() for name, part in z.items()}
    for name, (centre, variance) in (given(**z) if given is not None else {}).items():
        mean[name] = p @ centre
        sd[name] = (p @ (variance + (centre - mean[name]) ** 2)).sqrt()
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


@entry()
def transformed_size(ppl, n, new):
    """`lognormal_scale` spelt out: Normals sent through an affine map and the exponential.

    Truth: on the log scale a linear-Gaussian model; both Jacobians count. The guide is a LogNormal,
    so it does not share the model's way of computing a density.
    """
    dist = ppl.dist
    exp = dist.transforms.ExpTransform()

    def model(data):
        stretch = dist.transforms.AffineTransform(new(0.3), new(1.5))
        prior = dist.TransformedDistribution(dist.Normal(new(0.0), new(1.0)), [stretch, exp])
        size = ppl.sample("size", prior)
        with ppl.plate("data", len(data)):
            noisy = dist.TransformedDistribution(dist.Normal(size.log(), 0.5), [exp])
            ppl.sample("obs", noisy, obs=data)

    def guide(data):
        lognormal_factor(ppl, "size", new(0.2), new(0.6))

    data = (0.4 + 0.5 * new.noise(n)).exp()

    def truth():
        logs = f64(data).log()

        def log_joint(log_size):
            likelihood = td.Normal(log_size, 0.5).log_prob(logs).sum() - logs.sum()
            return normal(0.3, 1.5).log_prob(log_size) + likelihood

        found = gaussian_truth(log_joint, log_size=())
        params = {"size_loc": found.mean["log_size"], "size_scale": found.sd["log_size"]}
        return exact(found.log_evidence, params, size=td.LogNormal(*params.values()))

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
        k = torch.hypot(c, s)
        # The exponents cancel; what is left are the normalisers, 2 pi I0(concentration).
        norm = torch.stack([one, f64(2.0), k])
        norm = math.log(2 * math.pi) + torch.special.i0e(norm).log() + norm
        return Truth({}, {}, norm[2] - norm[0] - n * norm[1], {"loc": torch.atan2(s, c), "k": k})

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


# -- regression -----------------------------------------------------------------------------------


def _design(new, n: int, columns: int) -> Tensor:
    """A column of ones, then standard normal covariates."""
    return torch.cat([new.full((n, 1), 1.0), new.noise(n, columns - 1, seed=3)], -1)


@entry()
def linear_regression(ppl, n, new):
    """Three weights as one vector-valued unknown; the guide may correlate them.

    Truth: linear-Gaussian.
    """
    dist, x = ppl.dist, _design(new, n, 3)

    def model(x, y):
        w = ppl.sample("w", dist.Normal(new.zeros(3), new(2.0)).to_event(1))
        with ppl.plate("data", len(y)):
            ppl.sample("obs", dist.Normal((w * x).sum(-1), 0.7), obs=y)

    def guide(x, y):
        loc = ppl.param("loc", new([0.1, 0.2, -0.1]))
        tril = ppl.param("tril", 0.4 * new.eye(3), constraint=dist.constraints.lower_cholesky)
        ppl.sample("w", dist.MultivariateNormal(loc, scale_tril=tril))

    y = x @ new([1.0, -0.5, 0.3]) + 0.7 * new.noise(n)

    def truth():
        design, seen = f64(x), f64(y)
        precision = torch.eye(3, dtype=torch.float64) / 4 + design.T @ design / 0.49
        posterior = td.MultivariateNormal(
            torch.linalg.solve(precision, design.T @ seen / 0.49), precision_matrix=precision
        )
        w = posterior.loc
        joint = td.Normal(torch.zeros_like(w), 2.0).log_prob(w).sum()
        joint = joint + td.Normal(design @ w, 0.7).log_prob(seen).sum()
        params = {"loc": w, "tril": posterior.scale_tril}
        return exact(joint - posterior.log_prob(w), params, w=posterior)

    return Program(model, guide, (x, y), truth)


@entry()
def linear_regression_mean_field(ppl, n, new):
    """Slope and intercept as two sites, with a guide that cannot correlate them.

    Truth: linear-Gaussian; the mean-field optimum has the right means and too small a spread.
    """
    dist, x = ppl.dist, 1.0 + new.noise(n, seed=3)

    def model(x, y):
        slope = ppl.sample("slope", dist.Normal(new(0.0), new(1.0)))
        intercept = ppl.sample("intercept", dist.Normal(new(0.0), new(3.0)))
        with ppl.plate("data", len(y)):
            ppl.sample("obs", dist.Normal(intercept + slope * x, 0.5), obs=y)

    def guide(x, y):
        normal_factor(ppl, "slope", new(0.1), new(0.5))
        normal_factor(ppl, "intercept", new(-0.1), new(0.6))

    y = 0.4 + 0.8 * x + 0.5 * new.noise(n)

    def truth():
        covariate, seen = f64(x), f64(y)

        def log_joint(slope, intercept):
            prior = normal(0.0, 1.0).log_prob(slope) + normal(0.0, 3.0).log_prob(intercept)
            return prior + td.Normal(intercept + slope * covariate, 0.5).log_prob(seen).sum()

        return gaussian_truth(log_joint, slope=(), intercept=())

    return Program(model, guide, (x, y), truth)


@entry()
def low_rank_noise(ppl, n, new):
    """A common shift of n readings whose errors share two hidden causes: one vector-valued datum.

    Truth: linear-Gaussian.
    """
    dist = ppl.dist
    loadings, own = 0.5 * new.noise(n, 2, seed=5), 0.3 + new.uniform(n)

    def model(data):
        shift = ppl.sample("shift", dist.Normal(new(0.0), new(2.0)))
        loc = shift[..., None].expand(*shift.shape, n)
        fn = dist.LowRankMultivariateNormal(loc, loadings, own)
        ppl.sample("obs", fn, obs=data)

    def guide(data):
        normal_factor(ppl, "shift", new(0.2), new(0.7))

    data = 0.6 + new.noise(n)

    def truth():
        factors = f64(loadings), f64(own)

        def log_joint(shift):
            fn = td.LowRankMultivariateNormal(shift.expand(n), *factors)
            return normal(0.0, 2.0).log_prob(shift) + fn.log_prob(f64(data))

        return gaussian_truth(log_joint, shift=())

    return Program(model, guide, (data,), truth)


@entry()
def gaussian_process(ppl, n, new):
    """A smooth function on a line, as one correlated vector, seen at its points through noise.

    Truth: linear-Gaussian (Rasmussen and Williams, 2006, "Gaussian processes for machine
    learning", section 2.2). At most 30 points.
    """
    dist, n = ppl.dist, min(n, 30)
    t = torch.linspace(0, 3, n, dtype=torch.float64)
    kernel = (-0.5 * (t[:, None] - t) ** 2).exp() + 1e-4 * torch.eye(n, dtype=torch.float64)
    tril = new(torch.linalg.cholesky(kernel))

    def model(data):
        f = ppl.sample("f", dist.MultivariateNormal(new.zeros(n), scale_tril=tril))
        ppl.sample("obs", dist.Normal(f, 0.4).to_event(1), obs=data)

    def guide(data):
        loc = ppl.param("loc", new.full((n,), 0.1))
        scale = ppl.param("tril", 0.5 * new.eye(n), constraint=dist.constraints.lower_cholesky)
        ppl.sample("f", dist.MultivariateNormal(loc, scale_tril=scale))

    data = new(t.sin()) + 0.4 * new.noise(n)

    def truth():
        y, k, eye = f64(data), f64(tril) @ f64(tril).T, torch.eye(n, dtype=torch.float64)
        marginal = td.MultivariateNormal(torch.zeros_like(y), k + 0.16 * eye)
        gain = k @ torch.linalg.inv(k + 0.16 * eye)
        covariance = k - gain @ k
        posterior = td.MultivariateNormal(gain @ y, 0.5 * (covariance + covariance.T))
        params = {"loc": posterior.loc, "tril": posterior.scale_tril}
        return exact(marginal.log_prob(y), params, f=posterior)

    return Program(model, guide, (data,), truth)


def _two_weights(ppl, n, new, likelihood, reference, y_of):
    """A regression with prior Normal(0, 1) on intercept `a` and slope `b`; truth by quadrature."""
    dist, x = ppl.dist, new.noise(n, seed=3)

    def model(x, y):
        a = ppl.sample("a", dist.Normal(new(0.0), new(1.0)))
        b = ppl.sample("b", dist.Normal(new(0.0), new(1.0)))
        with ppl.plate("data", len(y)):
            ppl.sample("obs", likelihood(a + b * x), obs=y)

    def guide(x, y):
        normal_factor(ppl, "a", new(0.1), new(0.4))
        normal_factor(ppl, "b", new(-0.1), new(0.5))

    y = y_of(0.3 + 0.7 * x)

    def truth():
        covariate, seen = f64(x), f64(y)

        def log_joint(a, b):
            prior = normal(0.0, 1.0).log_prob(a) + normal(0.0, 1.0).log_prob(b)
            return prior[:, 0] + reference(a + b * covariate).log_prob(seen).sum(-1)

        return grid_truth(log_joint, points=101, a="real", b="real")

    return Program(model, guide, (x, y), truth)


@entry(sizes=(1, 2, 7, 300))
def logistic_regression(ppl, n, new):
    """Zeros and ones whose log-odds are linear in a covariate. Truth: quadrature."""
    return _two_weights(
        ppl, n, new,
        lambda eta: ppl.dist.Bernoulli(logits=eta),
        lambda eta: td.Bernoulli(logits=eta),
        lambda eta: (new.uniform(n) < eta.sigmoid()).to(eta.dtype),
    )  # fmt: skip


@entry(sizes=(1, 2, 7, 300))
def poisson_regression(ppl, n, new):
    """Counts whose log-rate is linear in a covariate. Truth: quadrature."""
    return _two_weights(
        ppl, n, new,
        lambda eta: ppl.dist.Poisson(eta.exp()),
        lambda eta: td.Poisson(eta.exp(), validate_args=False),
        lambda eta: (2 * eta.exp() * new.uniform(n)).floor(),
    )  # fmt: skip


@entry(sizes=(1, 2, 7, 300))
def robust_regression(ppl, n, new):
    """A line through points with heavy-tailed errors, one outlier among them. Truth: quadrature."""

    def with_outlier(eta):
        y = eta + 0.5 * new.noise(n)
        return torch.cat([y[:1] + 4.0, y[1:]])

    return _two_weights(
        ppl, n, new,
        lambda eta: ppl.dist.StudentT(new(3.0), eta, new(0.5)),
        lambda eta: td.StudentT(3.0, eta, 0.5),
        with_outlier,
    )  # fmt: skip


@entry(sizes=(1, 2, 7, 300))
def laplace_regression(ppl, n, new):
    """A line by least absolute deviations, as a model: Laplace errors. Truth: quadrature."""
    return _two_weights(
        ppl, n, new,
        lambda eta: ppl.dist.Laplace(eta, new(0.6)),
        lambda eta: td.Laplace(eta, 0.6),
        lambda eta: eta + 0.5 * new.noise(n),
    )  # fmt: skip


def _one_unknown(ppl, new, name, kind, prior, likelihood, reference_prior, reference, data):
    """One continuous unknown with a Normal or LogNormal guide; truth by quadrature."""
    factor = normal_factor if kind == "real" else lognormal_factor

    def model(data):
        z = ppl.sample(name, prior())
        with ppl.plate("data", len(data)):
            ppl.sample("obs", likelihood(z), obs=data)

    def guide(data):
        factor(ppl, name, new(0.2), new(0.5))

    def truth():
        def log_joint(**z):
            z = z[name]
            return reference_prior.log_prob(z)[:, 0] + reference(z).log_prob(data.cpu()).sum(-1)

        return grid_truth(log_joint, 401, **{name: kind})

    return Program(model, guide, (data,), truth)


@entry(sizes=(1, 2, 7, 300))
def cauchy_location(ppl, n, new):
    """Where a Cauchy distribution sits: its data have no mean. Truth: quadrature."""
    dist = ppl.dist
    return _one_unknown(
        ppl, new, "loc", "real",
        lambda: dist.Normal(new(0.0), new(3.0)), lambda z: dist.Cauchy(z, new(1.0)),
        normal(0.0, 3.0), lambda z: td.Cauchy(z, 1.0),
        0.5 + (math.pi * (new.uniform(n) - 0.5)).tan(),
    )  # fmt: skip


@entry(sizes=(1, 2, 7, 300))
def half_normal_scale(ppl, n, new):
    """The spread of centred data, its prior half a Normal. Truth: quadrature."""
    dist = ppl.dist
    return _one_unknown(
        ppl, new, "scale", "positive",
        lambda: dist.HalfNormal(new(2.0)), lambda z: dist.Normal(new(0.0), z),
        td.HalfNormal(f64(2.0)), lambda z: td.Normal(0.0, z),
        0.8 * new.noise(n),
    )  # fmt: skip


@entry(sizes=(1, 2, 7, 300))
def weibull_scale(ppl, n, new):
    """Lifetimes that fail ever more often, with a Gamma prior on their scale. Truth: quadrature."""
    dist = ppl.dist
    return _one_unknown(
        ppl, new, "scale", "positive",
        lambda: dist.Gamma(new(3.0), new(2.0)), lambda z: dist.Weibull(z, new(1.7)),
        td.Gamma(f64(3.0), f64(2.0)), lambda z: td.Weibull(z, f64(1.7)),
        1.4 * (-new.uniform(n).log()) ** (1 / 1.7),
    )  # fmt: skip


@entry(sizes=(1, 2, 7, 300))
def negative_binomial_rate(ppl, n, new):
    """Overdispersed counts, their log-odds unknown. Truth: quadrature."""
    dist = ppl.dist
    return _one_unknown(
        ppl, new, "logit", "real",
        lambda: dist.Normal(new(0.0), new(1.0)),
        lambda z: dist.NegativeBinomial(new(3.0), logits=z),
        normal(0.0, 1.0), lambda z: td.NegativeBinomial(3.0, logits=z),
        (6 * new.uniform(n)).floor(),
    )  # fmt: skip


@entry(sizes=(1, 2, 7, 300))
def ordinal_opinion(ppl, n, new):
    """Answers on a scale of four, by an unknown leaning and known cut points. Truth: quadrature."""
    dist = ppl.dist
    cuts = [-1.0, 0.3, 1.5]

    def between_cuts(z):
        edges = torch.tensor([-math.inf, *cuts, math.inf], dtype=torch.float64)
        below = (edges - z).sigmoid()
        return td.Categorical(probs=below[..., 1:].sub(below[..., :-1])[:, None, :])

    return _one_unknown(
        ppl, new, "leaning", "real",
        lambda: dist.Normal(new(0.0), new(1.5)),
        lambda z: dist.OrderedLogistic(z, new(cuts)),
        normal(0.0, 1.5), between_cuts,
        (4 * new.uniform(n) ** 0.7).long().clamp(max=3),
    )  # fmt: skip


@entry(sizes=(1, 2, 7, 300))
def mixture_gap(ppl, n, new):
    """Two clusters, their labels summed out; how far apart are they? Truth: quadrature."""
    dist = ppl.dist

    def clusters(families, z, tensor):
        weights = families.Categorical(tensor([0.4, 0.6]))
        centres = z[..., None] * tensor([-0.5, 0.5])
        return families.MixtureSameFamily(weights, families.Normal(centres, tensor(0.6)))

    def f64_tensor(values):
        return torch.tensor(values, dtype=torch.float64)

    side = torch.where(new.uniform(n, seed=4) < 0.6, 1.0, -1.0)
    return _one_unknown(
        ppl, new, "gap", "positive",
        lambda: dist.Gamma(new(2.0), new(1.0)), lambda z: clusters(dist, z, new),
        td.Gamma(f64(2.0), f64(1.0)), lambda z: clusters(td, z, f64_tensor),
        1.1 * side + 0.6 * new.noise(n),
    )  # fmt: skip


@entry(sizes=(1, 2, 7, 300))
def zero_inflation(ppl, n, new):
    """Counts with more zeros than a Poisson distribution has: how many more? Truth: quadrature."""
    dist = ppl.dist

    def model(data):
        gate = ppl.sample("gate", dist.Beta(new(2.0), new(2.0)))
        with ppl.plate("data", len(data)):
            ppl.sample("obs", dist.ZeroInflatedPoisson(new(2.5), gate=gate), obs=data)

    def guide(data):
        a, b = positive(ppl, "a", new(2.5)), positive(ppl, "b", new(3.0))
        ppl.sample("gate", dist.Beta(a, b))

    data = (6 * new.uniform(n, seed=2) - 2).floor().clamp(min=0)

    def truth():
        y = f64(data)

        def log_joint(gate):
            counted = (1 - gate).log() + td.Poisson(f64(2.5)).log_prob(y)
            rows = torch.where(y == 0, torch.logaddexp(gate.log(), counted), counted)
            return _beta(2.0, 2.0).log_prob(gate)[:, 0] + rows.sum(-1)

        return grid_truth(log_joint, 401, gate="unit")

    return Program(model, guide, (data,), truth)


@entry(sizes=(1, 2, 7, 300))
def correlation(ppl, n, new):
    """The correlation of two standard normal readings, with an LKJ prior on its Cholesky factor.

    Truth: quadrature over the correlation r, whose prior is (1 - r^2)^(eta - 1), so that (1 + r)/2
    has a Beta distribution (Lewandowski, Kurowicka and Joe, 2009, "Generating random correlation
    matrices"). Reported as `r`; the guide is the most probable factor, a Delta.
    """
    dist = ppl.dist

    def model(data):
        tril = ppl.sample("tril", dist.LKJCholesky(2, new(1.5)))
        ppl.deterministic("r", tril[..., 1, 0])
        with ppl.plate("data", len(data)):
            ppl.sample("obs", dist.MultivariateNormal(new.zeros(2), scale_tril=tril), obs=data)

    def guide(data):
        start = new([[1.0, 0.0], [0.6, 0.8]])
        tril = ppl.param("map", start, constraint=dist.constraints.corr_cholesky)
        ppl.sample("tril", dist.Delta(tril, event_dim=2))

    pairs = new.noise(n, 2)
    data = torch.stack([pairs[:, 0], 0.6 * pairs[:, 0] + 0.8 * pairs[:, 1]], -1)

    def truth():
        y = f64(data)

        def log_joint(half):
            r = 2 * half - 1
            form = (y[:, 0] ** 2 - 2 * r * y[:, 0] * y[:, 1] + y[:, 1] ** 2) / (1 - r**2)
            rows = -0.5 * form - 0.5 * (1 - r**2).log() - math.log(2 * math.pi)
            return _beta(1.5, 1.5).log_prob(half)[:, 0] + rows.sum(-1)

        found = grid_truth(log_joint, 401, half="unit")
        mean, sd = {"r": 2 * found.mean["half"] - 1}, {"r": 2 * found.sd["half"]}
        return Truth(mean, sd, found.log_evidence, None, None, "quadrature")

    return Program(model, guide, (data,), truth)


# -- plates within, across and after plates -------------------------------------------------------


@entry()
def nested_plates(ppl, n, new):
    """Pupils (n) in schools (3): a grand mean, a mean for each school, a mark for each pupil.

    Truth: linear-Gaussian; mean-field guide.
    """
    dist = ppl.dist

    def model(marks):
        m = ppl.sample("m", dist.Normal(new(0.0), new(2.0)))
        with ppl.plate("schools", marks.shape[-1], dim=-1):
            school = ppl.sample("school", dist.Normal(m, 1.0))
            with ppl.plate("pupils", marks.shape[-2], dim=-2):
                ppl.sample("mark", dist.Normal(school, 0.5), obs=marks)

    def guide(marks):
        normal_factor(ppl, "m", new(0.2), new(0.7))
        with ppl.plate("schools", marks.shape[-1], dim=-1):
            normal_factor(ppl, "school", new([0.1, 0.0, -0.1]), new([0.3, 0.4, 0.5]))

    marks = new([0.8, -0.4, 1.5]) + 0.5 * new.noise(n, 3)

    def truth():
        seen = f64(marks)

        def log_joint(m, school):
            prior = normal(0.0, 2.0).log_prob(m) + td.Normal(m, 1.0).log_prob(school).sum()
            return prior + td.Normal(school, 0.5).log_prob(seen).sum()

        return gaussian_truth(log_joint, m=(), school=(3,))

    return Program(model, guide, (marks,), truth)


@entry(sizes=(1, 2, 7, 60))
def crossed_plates(ppl, n, new):
    """Each of n readers rates each of five books: a severity and a quality, added up.

    The plates cross: both are created first, and entered apart or together. Truth: linear-Gaussian.
    """
    dist = ppl.dist

    def plates(ratings):
        readers = ppl.plate("readers", ratings.shape[0], dim=-2)
        return readers, ppl.plate("books", ratings.shape[1], dim=-1)

    def model(ratings):
        readers, books = plates(ratings)
        with readers:
            severity = ppl.sample("severity", dist.Normal(new(0.0), new(1.0)))
        with books:
            quality = ppl.sample("quality", dist.Normal(new(0.0), new(1.5)))
        with readers, books:
            ppl.sample("rating", dist.Normal(quality - severity, 0.8), obs=ratings)

    def guide(ratings):
        readers, books = plates(ratings)
        with readers:
            normal_factor(ppl, "severity", new.full((n, 1), 0.1), new.full((n, 1), 0.6))
        with books:
            normal_factor(ppl, "quality", new.full((5,), 0.2), new.full((5,), 0.7))

    ratings = new.noise(5, seed=1) - new.noise(n, 1, seed=2) + 0.8 * new.noise(n, 5)

    def truth():
        seen = f64(ratings)

        def log_joint(severity, quality):
            prior = normal(0.0, 1.0).log_prob(severity).sum()
            prior = prior + normal(0.0, 1.5).log_prob(quality).sum()
            return prior + td.Normal(quality - severity, 0.8).log_prob(seen).sum()

        return gaussian_truth(log_joint, severity=(n, 1), quality=(5,))

    return Program(model, guide, (ratings,), truth)


@entry(sizes=(1, 2, 3, 12))
def three_levels(ppl, n, new):
    """Counties in states in a country: three plates, the innermost not the leftmost by choice.

    Truth: linear-Gaussian.
    """
    dist = ppl.dist

    def model(y):
        with ppl.plate("states", 2, dim=-2):
            state = ppl.sample("state", dist.Normal(new(0.0), new(1.0)))
            with ppl.plate("counties", n, dim=-1):
                county = ppl.sample("county", dist.Normal(state, 0.7))
                with ppl.plate("years", 4, dim=-3):
                    ppl.sample("obs", dist.Normal(county, 0.5), obs=y)

    def guide(y):
        with ppl.plate("states", 2, dim=-2):
            normal_factor(ppl, "state", new([[0.1], [0.2]]), new([[0.5], [0.6]]))
            with ppl.plate("counties", n, dim=-1):
                normal_factor(ppl, "county", new.full((2, n), 0.1), new.full((2, n), 0.4))

    y = new.noise(2, 1, seed=1) + 0.5 * new.noise(4, 2, n)

    def truth():
        seen = f64(y)

        def log_joint(state, county):
            prior = normal(0.0, 1.0).log_prob(state).sum()
            prior = prior + td.Normal(state, 0.7).log_prob(county).sum()
            return prior + td.Normal(county, 0.5).log_prob(seen).sum()

        return gaussian_truth(log_joint, state=(2, 1), county=(2, n))

    return Program(model, guide, (y,), truth)


@entry()
def two_plates_of_one_size(ppl, n, new):
    """Two groups of equally many readings, in two plates one after the other.

    Truth: `normal_normal` with twice the data. Nothing may confuse the plates for being alike.
    """
    dist = ppl.dist

    def model(left, right):
        z = ppl.sample("z", dist.Normal(new(0.0), new(1.0)))
        with ppl.plate("left", len(left)):
            ppl.sample("obs_left", dist.Normal(z, 0.5), obs=left)
        with ppl.plate("right", len(right)):
            ppl.sample("obs_right", dist.Normal(z, 0.5), obs=right)

    def guide(left, right):
        normal_factor(ppl, "z", new(0.3), new(0.8))

    left, right = 0.7 + 0.5 * new.noise(n), 0.6 + 0.5 * new.noise(n, seed=1)
    args = (left, right)
    return Program(model, guide, args, lambda: _normal_location(torch.cat(args), 0.5))


@entry(sizes=(1, 2, 7, 100))
def square_plates(ppl, n, new):
    """Rows and columns of a square table, equal in number: nothing but their names sets them apart.

    Truth: linear-Gaussian.
    """
    dist = ppl.dist

    def model(table):
        with ppl.plate("columns", n):
            effect = ppl.sample("effect", dist.Normal(new(0.0), new(1.0)))
            with ppl.plate("rows", n):
                ppl.sample("obs", dist.Normal(effect, 1.0), obs=table)

    def guide(table):
        with ppl.plate("columns", n):
            normal_factor(ppl, "effect", new.full((n,), 0.1), new.full((n,), 0.5))

    table = new.noise(n, seed=1) + new.noise(n, n)

    def truth():
        seen, scale = f64(table), (1.0 + n) ** -0.5
        posterior = td.Normal(seen.sum(0) / (1 + n), torch.full((n,), scale, dtype=torch.float64))
        zero = torch.zeros(n, dtype=torch.float64)
        joint = normal(0.0, 1.0).log_prob(zero).sum() + td.Normal(zero, 1.0).log_prob(seen).sum()
        evidence = joint - posterior.log_prob(zero).sum()
        params = {"effect_loc": posterior.loc, "effect_scale": posterior.scale}
        return exact(evidence, params, effect=posterior)

    return Program(model, guide, (table,), truth)


@entry(sizes=(1,))
def plate_of_one(ppl, n, new):
    """A plate with a single row: it has a dimension all the same. Truth: `normal_normal`, n = 1."""
    dist = ppl.dist

    def model(data):
        with ppl.plate("only", 1):
            z = ppl.sample("z", dist.Normal(new(0.0), new(1.0)))
            ppl.sample("obs", dist.Normal(z, 0.5), obs=data)

    def guide(data):
        with ppl.plate("only", 1):
            normal_factor(ppl, "z", new([0.3]), new([0.8]))

    data = new([1.2])

    def truth():
        found = _normal_location(data, 0.5)
        params = {name: value[None] for name, value in found.params.items()}
        return exact(found.log_evidence, params, z=td.Normal(*params.values()))

    return Program(model, guide, (data,), truth)


@entry("loop", sizes=(1, 2, 7, 40))
def sequential_plate(ppl, n, new):
    """`normal_normal` with one statement per row: the plate is looped over in Python."""
    dist = ppl.dist

    def model(data):
        z = ppl.sample("z", dist.Normal(new(0.0), new(1.0)))
        for i in ppl.plate("data", len(data)):
            ppl.sample(f"obs_{i}", dist.Normal(z, 0.5), obs=data[i])

    def guide(data):
        normal_factor(ppl, "z", new(0.3), new(0.8))

    data = 0.7 + 0.5 * new.noise(n)
    return Program(model, guide, (data,), lambda: _normal_location(data, 0.5))


@entry("loop", "score", sizes=(1, 2, 7, 40))
def sequential_switches(ppl, n, new):
    """One hidden switch a row, in a looped plate: a row's gradient must hear of that row alone.

    Truth: rows are independent; enumeration of each.
    """
    dist, levels = ppl.dist, new([-0.5, 1.0])

    def model(data):
        for i in ppl.plate("rows", len(data)):
            on = ppl.sample(f"on_{i}", dist.Bernoulli(new(0.4)))
            ppl.sample(f"obs_{i}", dist.Normal(levels[on.long()], 0.7), obs=data[i])

    def guide(data):
        q = ppl.param("q", new.full((n,), 0.45), constraint=dist.constraints.unit_interval)
        for i in ppl.plate("rows", len(data)):
            ppl.sample(f"on_{i}", dist.Bernoulli(q[i]))

    data = 0.5 + new.noise(n)

    def truth():
        seen = f64(data)
        off = math.log(0.6) + normal(-0.5, 0.7).log_prob(seen)
        on = math.log(0.4) + normal(1.0, 0.7).log_prob(seen)
        q = (on - off).sigmoid()
        mean = {f"on_{i}": q[i] for i in range(n)}
        evidence = torch.logaddexp(on, off).sum()
        return Truth(mean, {}, evidence, {"q": q}, source="enumeration")

    return Program(model, guide, (data,), truth)


@entry("subsample")
def subsampled_plate(ppl, n, new):
    """`normal_normal`, each run seeing about half of the rows, scaled up to the whole.

    Truth: that of all rows; the loss is an unbiased estimate of theirs.
    """
    dist = ppl.dist

    def model(data):
        z = ppl.sample("z", dist.Normal(new(0.0), new(1.0)))
        with ppl.plate("data", len(data), subsample_size=(len(data) + 1) // 2) as rows:
            ppl.sample("obs", dist.Normal(z, 0.5), obs=data[rows])

    def guide(data):
        normal_factor(ppl, "z", new(0.3), new(0.8))

    data = 0.7 + 0.5 * new.noise(n)
    return Program(model, guide, (data,), lambda: _normal_location(data, 0.5))


@entry("subsample", "loop", sizes=(1, 2, 7, 40))
def subsampled_loop(ppl, n, new):
    """As `subsampled_plate`, the rows that take part being looped over in Python."""
    dist = ppl.dist

    def model(data):
        z = ppl.sample("z", dist.Normal(new(0.0), new(1.0)))
        for i in ppl.plate("data", len(data), subsample_size=(len(data) + 1) // 2):
            ppl.sample(f"obs_{i}", dist.Normal(z, 0.5), obs=data[i])

    def guide(data):
        normal_factor(ppl, "z", new(0.3), new(0.8))

    data = 0.7 + 0.5 * new.noise(n)
    return Program(model, guide, (data,), lambda: _normal_location(data, 0.5))


@entry("subsample")
def subsampled_local_unknowns(ppl, n, new):
    """An unknown for each row, and rows subsampled: guide and model must agree on which.

    Truth: each row is `normal_normal` with one datum, so the guide can be exact.
    """
    dist = ppl.dist

    def rows_of(data):
        return ppl.plate("data", len(data), subsample_size=(len(data) + 1) // 2)

    def model(data):
        with rows_of(data) as rows:
            z = ppl.sample("z", dist.Normal(new(0.0), new(1.0)))
            ppl.sample("obs", dist.Normal(z, 0.5), obs=data[rows])

    def guide(data):
        loc = ppl.param("loc", new.full((n,), 0.2))
        scale = positive(ppl, "scale", new.full((n,), 0.6))
        with rows_of(data) as rows:
            ppl.sample("z", dist.Normal(loc[rows], scale[rows]))

    data = 0.7 + 1.1 * new.noise(n)

    def truth():
        seen = f64(data)
        scale = torch.full((n,), 5.0**-0.5, dtype=torch.float64)
        params = {"loc": 0.8 * seen, "scale": scale}
        evidence = normal(0.0, 1.25**0.5).log_prob(seen).sum()
        return exact(evidence, params, z=td.Normal(0.8 * seen, scale))

    return Program(model, guide, (data,), truth)


@entry("subsample")
def subsampled_nested_plates(ppl, n, new):
    """`nested_plates` with both plates subsampled: the two scales multiply. Truth: the same."""
    dist = ppl.dist
    whole = nested_plates(ppl, n, new)

    def model(marks):
        m = ppl.sample("m", dist.Normal(new(0.0), new(2.0)))
        with ppl.plate("schools", 3, subsample_size=2, dim=-1) as s:
            school = ppl.sample("school", dist.Normal(m, 1.0))
            with ppl.plate("pupils", n, subsample_size=(n + 1) // 2, dim=-2) as p:
                ppl.sample("mark", dist.Normal(school, 0.5), obs=marks[p][:, s])

    def guide(marks):
        normal_factor(ppl, "m", new(0.2), new(0.7))
        loc = ppl.param("school_loc", new([0.1, 0.0, -0.1]))
        scale = positive(ppl, "school_scale", new([0.3, 0.4, 0.5]))
        with ppl.plate("schools", 3, subsample_size=2, dim=-1) as s:
            ppl.sample("school", dist.Normal(loc[s], scale[s]))

    return Program(model, guide, whole.args, whole.truth)


@entry("subsample")
def shared_plate(ppl, n, new):
    """One plate object, made outside, entered by guide and model, and twice by the model.

    Truth: as `subsampled_local_unknowns`, each row having two readings.
    """
    dist = ppl.dist
    rows = ppl.plate("rows", n, subsample_size=(n + 1) // 2)

    def model(first, second):
        with rows as i:
            z = ppl.sample("z", dist.Normal(new(0.0), new(1.0)))
            ppl.sample("first", dist.Normal(z, 0.5), obs=first[i])
        with rows as i:
            ppl.sample("second", dist.Normal(z, 0.5), obs=second[i])

    def guide(first, second):
        loc = ppl.param("loc", new.full((n,), 0.2))
        scale = positive(ppl, "scale", new.full((n,), 0.6))
        with rows as i:
            ppl.sample("z", dist.Normal(loc[i], scale[i]))

    hidden = new.noise(n, seed=2)
    first, second = hidden + 0.5 * new.noise(n), hidden + 0.5 * new.noise(n, seed=1)

    def truth():
        pairs = f64(torch.stack([first, second], -1))
        loc, scale = pairs.sum(-1) * 4 / 9, torch.full((n,), 1 / 3, dtype=torch.float64)
        covariance = torch.ones(2, 2, dtype=torch.float64) + 0.25 * torch.eye(2).double()
        evidence = td.MultivariateNormal(torch.zeros(2).double(), covariance).log_prob(pairs).sum()
        return exact(evidence, {"loc": loc, "scale": scale}, z=td.Normal(loc, scale))

    return Program(model, guide, (first, second), truth)


@entry("subsample")
def subsample_statement(ppl, n, new):
    """As `subsampled_local_unknowns`; `subsample` cuts data and parameters down to the rows."""
    dist = ppl.dist
    whole = subsampled_local_unknowns(ppl, n, new)

    def rows_of(data):
        return ppl.plate("data", len(data), subsample_size=(len(data) + 1) // 2)

    def model(data):
        with rows_of(data):
            z = ppl.sample("z", dist.Normal(new(0.0), new(1.0)))
            ppl.sample("obs", dist.Normal(z, 0.5), obs=ppl.subsample(data, event_dim=0))

    def guide(data):
        with rows_of(data):
            loc = ppl.param("loc", new.full((n,), 0.2), event_dim=0)
            start = new.full((n,), 0.6)
            scale = ppl.param("scale", start, constraint=dist.constraints.positive, event_dim=0)
            ppl.sample("z", dist.Normal(loc, scale))

    return Program(model, guide, whole.args, whole.truth)


# -- eight schools --------------------------------------------------------------------------------

EFFECTS = (28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0)
ERRORS = (15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0)

# stan-dev/posteriordb, `eight_schools-eight_schools_noncentered`: 10,000 draws by Stan's NUTS.
# Means, each with the standard error of its estimate.
EIGHT_SCHOOLS_PUBLISHED = {
    "theta": (
        (6.1505, 4.9396, 3.9059, 4.7960, 3.6144, 4.0511, 6.3172, 4.8840),
        (0.0557, 0.0462, 0.0542, 0.0475, 0.0461, 0.0485, 0.0499, 0.0543),
    ),
    "mu": (4.4105, 0.0330),
    "tau": (3.6021, 0.0319),
}


def _schools(new, n: int) -> tuple[Tensor, Tensor]:
    """Effects and standard errors of n schools; beyond eight they start again."""
    repeated = [(EFFECTS[i % 8], ERRORS[i % 8]) for i in range(n)]
    effects, errors = zip(*repeated, strict=True)
    return new(list(effects)), new(list(errors))


def _schools_truth(y: Tensor, sigma: Tensor) -> Truth:
    """Given mu and tau, a school's effect is Normal: so a grid over these two is enough."""
    y, sigma = f64(y), f64(sigma)

    def log_joint(mu, tau):
        prior = normal(0.0, 5.0).log_prob(mu) + td.HalfCauchy(f64(5.0)).log_prob(tau)
        return prior[:, 0] + td.Normal(mu, (sigma**2 + tau**2).sqrt()).log_prob(y).sum(-1)

    def given(mu, tau):
        precision = sigma**-2 + tau**-2
        return {"theta": ((y / sigma**2 + mu / tau**2) / precision, 1 / precision)}

    return grid_truth(log_joint, 201, given, mu="real", tau="positive")


@entry(sizes=(1, 2, 8, 200))
def eight_schools(ppl, n, new):
    """What coaching did to test scores in eight schools (Rubin, 1981), centred.

    Truth: quadrature over mean and spread; Gelman et al., "Bayesian data analysis", section 5.5,
    with posteriordb's priors. `EIGHT_SCHOOLS_PUBLISHED` has posteriordb's numbers for n = 8.
    """
    dist = ppl.dist

    def model(sigma, y):
        mu = ppl.sample("mu", dist.Normal(new(0.0), new(5.0)))
        tau = ppl.sample("tau", dist.HalfCauchy(new(5.0)))
        with ppl.plate("schools", len(y)):
            theta = ppl.sample("theta", dist.Normal(mu, tau))
            ppl.sample("obs", dist.Normal(theta, sigma), obs=y)

    def guide(sigma, y):
        normal_factor(ppl, "mu", new(4.0), new(3.0))
        lognormal_factor(ppl, "tau", new(1.0), new(0.6))
        with ppl.plate("schools", len(y)):
            normal_factor(ppl, "theta", new.full((n,), 4.5), new.full((n,), 3.0))

    y, sigma = _schools(new, n)
    return Program(model, guide, (sigma, y), lambda: _schools_truth(y, sigma))


@entry(sizes=(1, 2, 8, 200))
def eight_schools_noncentred(ppl, n, new):
    """As `eight_schools`, with effects standardised: the funnel between tau and theta is gone."""
    dist = ppl.dist

    def model(sigma, y):
        mu = ppl.sample("mu", dist.Normal(new(0.0), new(5.0)))
        tau = ppl.sample("tau", dist.HalfCauchy(new(5.0)))
        with ppl.plate("schools", len(y)):
            standard = ppl.sample("standard", dist.Normal(new(0.0), new(1.0)))
            theta = ppl.deterministic("theta", mu + tau * standard)
            ppl.sample("obs", dist.Normal(theta, sigma), obs=y)

    def guide(sigma, y):
        normal_factor(ppl, "mu", new(4.0), new(3.0))
        lognormal_factor(ppl, "tau", new(1.0), new(0.6))
        with ppl.plate("schools", len(y)):
            normal_factor(ppl, "standard", new.full((n,), 0.1), new.full((n,), 0.9))

    y, sigma = _schools(new, n)
    return Program(model, guide, (sigma, y), lambda: _schools_truth(y, sigma))


# -- time -----------------------------------------------------------------------------------------


@entry()
def autoregression(ppl, n, new):
    """How strongly each value of a series holds on to the last: n steps, in one statement.

    Truth: given the series it is a linear regression of each value on the one before.
    """
    dist = ppl.dist

    def model(series):
        hold = ppl.sample("hold", dist.Normal(new(0.0), new(0.7)))
        with ppl.plate("steps", len(series) - 1):
            ppl.sample("obs", dist.Normal(hold * series[:-1], 0.5), obs=series[1:])

    def guide(series):
        normal_factor(ppl, "hold", new(0.2), new(0.4))

    series = [1.0]
    for step in new.noise(n).tolist():
        series.append(0.8 * series[-1] + 0.5 * step)
    series = new(series)

    def truth():
        y = f64(series)

        def log_joint(hold):
            steps = td.Normal(hold * y[:-1], 0.5).log_prob(y[1:]).sum()
            return normal(0.0, 0.7).log_prob(hold) + steps

        return gaussian_truth(log_joint, hold=())

    return Program(model, guide, (series,), truth)


@entry("loop", sizes=(1, 2, 7, 40))
def random_walk(ppl, n, new):
    """A hidden walk seen through noise: a state-space model, as a loop over time.

    Truth: linear-Gaussian (the Kalman smoother's), mean-field guide.
    """
    dist = ppl.dist

    def model(series):
        x = new(0.0)
        for t in ppl.markov(range(len(series))):
            x = ppl.sample(f"x_{t}", dist.Normal(x, 0.5))
            ppl.sample(f"y_{t}", dist.Normal(x, 0.8), obs=series[t])

    def guide(series):
        loc = ppl.param("x_loc", new.full((n,), 0.1))
        scale = positive(ppl, "x_scale", new.full((n,), 0.5))
        for t in ppl.markov(range(len(series))):
            ppl.sample(f"x_{t}", dist.Normal(loc[t], scale[t]))

    series = 0.5 * new.noise(n, seed=1).cumsum(0) + 0.8 * new.noise(n)

    def truth():
        seen = f64(series)

        def log_joint(x):
            before = torch.cat([torch.zeros(1, dtype=x.dtype), x[:-1]])
            walk = td.Normal(before, 0.5).log_prob(x).sum()
            return walk + td.Normal(x, 0.8).log_prob(seen).sum()

        found = gaussian_truth(log_joint, x=(n,))
        found.mean = {f"x_{t}": value for t, value in enumerate(found.mean["x"])}
        found.sd = {f"x_{t}": value for t, value in enumerate(found.sd["x"])}
        return found

    return Program(model, guide, (series,), truth)


@entry("loop", "score", sizes=(1, 2, 5, 20))
def hidden_markov(ppl, n, new):
    """Three hidden moods over n days after the first, told from one reading a day.

    Truth: forward and backward recursions; the posterior is a Markov chain, and so is the guide.
    """
    dist, levels = ppl.dist, new([-1.0, 0.5, 2.0])
    moves = new([[0.7, 0.2, 0.1], [0.3, 0.5, 0.2], [0.1, 0.3, 0.6]])

    def model(readings):
        mood = None
        for t in ppl.markov(range(len(readings))):
            probs = new([0.5, 0.3, 0.2]) if mood is None else moves[mood]
            mood = ppl.sample(f"mood_{t}", dist.Categorical(probs))
            ppl.sample(f"reading_{t}", dist.Normal(levels[mood], 0.9), obs=readings[t])

    def guide(readings):
        simplex = dist.constraints.simplex
        first = ppl.param("first", new([0.4, 0.4, 0.2]), constraint=simplex)
        later = ppl.param("later", new.full((n, 3, 3), 1 / 3), constraint=simplex)
        mood = ppl.sample("mood_0", dist.Categorical(first))
        for t in ppl.markov(range(1, len(readings))):
            mood = ppl.sample(f"mood_{t}", dist.Categorical(later[t - 1, mood]))

    readings = 0.4 + 1.2 * new.noise(n + 1)

    def truth():
        seen, step = f64(readings), f64(moves).log()
        emitted = td.Normal(f64(levels), 0.9).log_prob(seen[:, None])
        ahead = torch.zeros(3, dtype=torch.float64)
        later = []
        for t in range(n, 0, -1):
            joint = step + emitted[t] + ahead
            ahead = joint.logsumexp(-1)
            later.insert(0, (joint - ahead[:, None]).exp())
        joint = f64([0.5, 0.3, 0.2]).log() + emitted[0] + ahead
        evidence = joint.logsumexp(0)
        now = (joint - evidence).exp()
        params = {"first": now, "later": torch.stack(later)}
        mean = {}
        for t in range(n + 1):
            mean[f"mood_{t}"] = now @ torch.arange(3.0, dtype=torch.float64)
            now = now @ later[t] if t < n else now
        return Truth(mean, {}, evidence, params, source="enumeration")

    return Program(model, guide, (readings,), truth)


@entry("score", sizes=(1, 2, 7, 200))
def change_point(ppl, n, new):
    """A day on which a rate of accidents changed, one of n days: a discrete unknown.

    Truth: enumeration of the days.
    """
    dist = ppl.dist

    def model(counts):
        day = ppl.sample("day", dist.Categorical(new.full((n,), 1 / n)))
        rate = torch.where(torch.arange(n, device=counts.device) < day, new(3.0), new(1.2))
        with ppl.plate("days", n):
            ppl.sample("obs", dist.Poisson(rate), obs=counts)

    def guide(counts):
        start = new.full((n,), 1 / n)
        probs = ppl.param("probs", start, constraint=dist.constraints.simplex)
        ppl.sample("day", dist.Categorical(probs))

    rate = new([3.0 if i < n // 2 else 1.2 for i in range(n)])
    counts = (2 * rate * new.uniform(n)).floor()

    def truth():
        y, days = f64(counts), torch.arange(n)
        early = td.Poisson(f64(3.0)).log_prob(y)
        late = td.Poisson(f64(1.2)).log_prob(y)
        joint = torch.where(days < days[:, None], early, late).sum(-1) - math.log(n)
        probs, at = joint.softmax(0), days.double()
        mean = probs @ at
        sd = (probs @ (at - mean) ** 2).sqrt()
        evidence = joint.logsumexp(0)
        return Truth({"day": mean}, {"day": sd}, evidence, {"probs": probs}, source="enumeration")

    return Program(model, guide, (counts,), truth)


# -- discrete unknowns ----------------------------------------------------------------------------


@entry("score", sizes=(1,))
def one_switch(ppl, n, new):
    """The smallest program with a discrete unknown. Truth: enumeration of two values."""
    dist, levels = ppl.dist, new([-0.5, 1.0])

    def model(y):
        on = ppl.sample("on", dist.Bernoulli(new(0.3)))
        ppl.sample("obs", dist.Normal(levels[on.long()], 0.7), obs=y)

    def guide(y):
        q = ppl.param("q", new(0.4), constraint=dist.constraints.unit_interval)
        ppl.sample("on", dist.Bernoulli(q))

    y = new(0.6)

    def truth():
        def log_joint(on):
            return td.Bernoulli(f64(0.3)).log_prob(f64(on)) + normal([-0.5, 1.0][on], 0.7).log_prob(
                f64(0.6)
            )

        found = enumerated_truth(log_joint, on=2)
        found.params = {"q": found.mean["on"]}
        return found

    return Program(model, guide, (y,), truth)


@entry("score", sizes=(1,))
def sprinkler(ppl, n, new):
    """The grass is wet: did it rain, or was the sprinkler on? (Pearl, 1988.) Truth: enumeration."""
    dist = ppl.dist
    wet_given = [[0.01, 0.9], [0.8, 0.99]]

    def model(wet):
        rain = ppl.sample("rain", dist.Bernoulli(new(0.2)))
        on = ppl.sample("on", dist.Bernoulli(new([0.4, 0.01])[rain.long()]))
        ppl.sample("wet", dist.Bernoulli(new(wet_given)[rain.long(), on.long()]), obs=wet)

    def guide(wet):
        unit = dist.constraints.unit_interval
        rain = ppl.sample("rain", dist.Bernoulli(ppl.param("q_rain", new(0.5), constraint=unit)))
        q_on = ppl.param("q_on", new([0.6, 0.4]), constraint=unit)
        ppl.sample("on", dist.Bernoulli(q_on[rain.long()]))

    def truth():
        def log_joint(rain, on):
            p_on = [0.4, 0.01][rain]
            p = (0.2 if rain else 0.8) * (p_on if on else 1 - p_on) * wet_given[rain][on]
            return f64(p).log()

        found = enumerated_truth(log_joint, rain=2, on=2)
        cells = f64([[math.exp(log_joint(r, s)) for s in (0, 1)] for r in (0, 1)])
        found.params = {"q_rain": found.mean["rain"], "q_on": cells[:, 1] / cells.sum(1)}
        return found

    return Program(model, guide, (new(1.0),), truth)


@entry("score")
def cluster_labels(ppl, n, new):
    """Which of three known clusters each of n points came from.

    Truth: Bayes' rule, row by row; the guide has probabilities of its own for every row.
    """
    dist, centres = ppl.dist, new([-2.0, 0.0, 2.5])

    def model(points):
        with ppl.plate("points", len(points)):
            label = ppl.sample("label", dist.Categorical(new([0.2, 0.5, 0.3])))
            ppl.sample("obs", dist.Normal(centres[label], 1.0), obs=points)

    def guide(points):
        start = new([0.3, 0.4, 0.3]).expand(n, 3)
        with ppl.plate("points", len(points)):
            probs = ppl.param("probs", start, constraint=dist.constraints.simplex, event_dim=1)
            ppl.sample("label", dist.Categorical(probs))

    points = centres[(3 * new.uniform(n)).long()] + new.noise(n)

    def truth():
        each = td.Normal(f64(centres), 1.0).log_prob(f64(points)[:, None])
        joint = f64([0.2, 0.5, 0.3]).log() + each
        probs = joint.softmax(-1)
        mean = {"label": probs @ f64([0.0, 1.0, 2.0])}
        evidence = joint.logsumexp(-1).sum()
        return Truth(mean, {}, evidence, {"probs": probs}, source="enumeration")

    return Program(model, guide, (points,), truth)


@entry("score", sizes=(1, 2, 7, 200))
def switches_in_nested_plates(ppl, n, new):
    """A switch for each of three columns, and one below it for each of n rows of the column.

    Truth: enumeration, column by column. Each score-function term may hear only of its own plates.
    """
    dist, levels = ppl.dist, new([-1.0, 1.0])

    def model(y):
        with ppl.plate("columns", 3, dim=-1):
            main = ppl.sample("main", dist.Bernoulli(new(0.35)))
            with ppl.plate("rows", n, dim=-2):
                own = ppl.sample("own", dist.Bernoulli(0.2 + 0.5 * main))
                ppl.sample("obs", dist.Normal(levels[own.long()], 0.9), obs=y)

    def guide(y):
        unit = dist.constraints.unit_interval
        q_main = ppl.param("q_main", new([0.3, 0.5, 0.6]), constraint=unit)
        q_own = ppl.param("q_own", new.full((2, n, 3), 0.4), constraint=unit)
        with ppl.plate("columns", 3, dim=-1):
            main = ppl.sample("main", dist.Bernoulli(q_main))
            with ppl.plate("rows", n, dim=-2):
                ppl.sample("own", dist.Bernoulli(main * q_own[1] + (1 - main) * q_own[0]))

    y = 0.2 + new.noise(n, 3)

    def truth():
        off, on = (td.Normal(f64(level), f64(0.9)).log_prob(f64(y)) for level in (-1.0, 1.0))
        p_own = f64([0.2, 0.7])[:, None, None]
        on, off = p_own.log() + on, (1 - p_own).log() + off
        column = f64([0.65, 0.35]).log()[:, None] + torch.logaddexp(on, off).sum(1)
        q_main, q_own = column.softmax(0)[1], (on - off).sigmoid()
        mean = {"main": q_main, "own": q_main * q_own[1] + (1 - q_main) * q_own[0]}
        params = {"q_main": q_main, "q_own": q_own}
        return Truth(mean, {}, column.logsumexp(0).sum(), params, source="enumeration")

    return Program(model, guide, (y,), truth)


@entry("score")
def switched_location(ppl, n, new):
    """Row by row a switch, then a location that depends on it: score function and pathwise at once.

    Truth: given the switch a row is linear-Gaussian; enumeration of the switch.
    """
    dist, levels = ppl.dist, new([-1.0, 1.5])

    def model(y):
        with ppl.plate("rows", len(y)):
            on = ppl.sample("on", dist.Bernoulli(new(0.4)))
            x = ppl.sample("x", dist.Normal(levels[on.long()], 1.0))
            ppl.sample("obs", dist.Normal(x, 0.5), obs=y)

    def guide(y):
        q = ppl.param("q", new.full((n,), 0.45), constraint=dist.constraints.unit_interval)
        loc = ppl.param("loc", new([-0.5, 1.0])[:, None].expand(2, n))
        scale = positive(ppl, "scale", new(0.6))
        with ppl.plate("rows", len(y)):
            on = ppl.sample("on", dist.Bernoulli(q))
            ppl.sample("x", dist.Normal(on * loc[1] + (1 - on) * loc[0], scale))

    y = 0.3 + 1.3 * new.noise(n)

    def truth():
        seen, level = f64(y), f64(levels)[:, None]
        joint = f64([0.6, 0.4]).log()[:, None] + td.Normal(level, 1.25**0.5).log_prob(seen)
        q, loc = joint.softmax(0)[1], (level + 4 * seen) / 5
        params = {"q": q, "loc": loc, "scale": f64(0.2**0.5)}
        mean = {"on": q, "x": q * loc[1] + (1 - q) * loc[0]}
        return Truth(mean, {}, joint.logsumexp(0).sum(), params, source="enumeration")

    return Program(model, guide, (y,), truth)


@entry("score", "branch", sizes=(1,))
def stochastic_branch(ppl, n, new):
    """A coin decides which of two unknowns comes to be at all: sites differ from run to run.

    Truth: enumeration of the coin; each branch is linear-Gaussian.
    """
    dist = ppl.dist

    def model(y):
        if ppl.sample("heads", dist.Bernoulli(new(0.3))):
            x = ppl.sample("high", dist.Normal(new(2.0), new(1.0)))
        else:
            x = ppl.sample("low", dist.Normal(new(-1.0), new(0.5)))
        ppl.sample("obs", dist.Normal(x, 0.5), obs=y)

    def guide(y):
        q = ppl.param("q", new(0.5), constraint=dist.constraints.unit_interval)
        if ppl.sample("heads", dist.Bernoulli(q)):
            normal_factor(ppl, "high", new(1.5), new(0.8))
        else:
            normal_factor(ppl, "low", new(-0.5), new(0.6))

    y = new(0.9)

    def truth():
        seen = f64(0.9)
        high = math.log(0.3) + normal(2.0, 1.25**0.5).log_prob(seen)
        low = math.log(0.7) + normal(-1.0, 0.5**0.5).log_prob(seen)
        q = (high - low).sigmoid()
        params = {"q": q, "high_loc": (2.0 + 4 * seen) / 5, "high_scale": f64(0.2**0.5)}
        params |= {"low_loc": (-1.0 + seen) / 2, "low_scale": f64(0.125**0.5)}
        mean = {"heads": q, "high": params["high_loc"], "low": params["low_loc"]}
        return Truth(mean, {}, torch.logaddexp(high, low), params, source="enumeration")

    return Program(model, guide, (y,), truth)


@entry("score", "branch", "loop", sizes=(1,))
def recursion(ppl, n, new):
    """How often a coin fell on tails before it fell on heads: a function that calls itself.

    Truth: enumeration of the count, reported as `count`. The guide's coin has its own bias, the
    same at each toss, so it cannot be exact.
    """
    dist = ppl.dist

    def tails(p, toss=0):
        if ppl.sample(f"heads_{toss}", dist.Bernoulli(p)):
            return toss
        return tails(p, toss + 1)

    def model(y):
        count = ppl.deterministic("count", new(float(tails(new(0.5)))))
        ppl.sample("obs", dist.Normal(count, 1.0), obs=y)

    def guide(y):
        tails(ppl.param("q", new(0.6), constraint=dist.constraints.unit_interval))

    y = new(1.4)

    def truth():
        def log_joint(count):
            return f64((count + 1) * math.log(0.5)) + normal(float(count), 1.0).log_prob(f64(1.4))

        found = enumerated_truth(log_joint, count=60)
        found.gap = None
        return found

    return Program(model, guide, (y,), truth)


# -- effects: masks, scales, factors and the rest -------------------------------------------------


@entry()
def masked_rows(ppl, n, new):
    """Readings of which every third is missing: a mask over the plate. Truth: the rest's."""
    dist = ppl.dist
    seen = torch.arange(n) % 3 != 2

    def model(data, seen):
        z = ppl.sample("z", dist.Normal(new(0.0), new(1.0)))
        with ppl.plate("data", len(data)), ppl.handlers.mask(mask=seen):
            ppl.sample("obs", dist.Normal(z, 0.5), obs=data)

    def guide(data, seen):
        normal_factor(ppl, "z", new(0.3), new(0.8))

    data = 0.7 + 0.5 * new.noise(n)
    args = (data, seen.to(data.device))
    return Program(model, guide, args, lambda: _normal_location(data.cpu()[seen], 0.5))


@entry("score")
def masked_unknowns(ppl, n, new):
    """A switch in each row, but only rows under the mask count: in model and guide alike.

    The mask is the distributions' own, `fn.mask(...)`. Truth: enumeration of the rows that count.
    """
    dist, levels = ppl.dist, new([-1.0, 1.0])

    def model(data, seen):
        with ppl.plate("data", len(data)):
            on = ppl.sample("on", dist.Bernoulli(new(0.4)).expand([n]).mask(seen))
            ppl.sample("obs", dist.Normal(levels[on.long()], 0.8).mask(seen), obs=data)

    def guide(data, seen):
        q = ppl.param("q", new.full((n,), 0.45), constraint=dist.constraints.unit_interval)
        with ppl.plate("data", len(data)):
            ppl.sample("on", dist.Bernoulli(q).mask(seen))

    data = 0.2 + new.noise(n)
    seen = (torch.arange(n) % 3 != 1).to(data.device)

    def truth():
        y, counted = f64(data), seen.cpu()
        on = math.log(0.4) + td.Normal(1.0, f64(0.8)).log_prob(y)
        off = math.log(0.6) + td.Normal(-1.0, f64(0.8)).log_prob(y)
        q = torch.where(counted, (on - off).sigmoid(), 0.5)
        evidence = torch.where(counted, torch.logaddexp(on, off), 0.0).sum()
        return Truth({}, {}, evidence, {"q": q}, source="enumeration")

    return Program(model, guide, (data, seen), truth)


@entry()
def unobserved_rows(ppl, n, new):
    """Some rows observed, the others to be filled in, in a single statement with `obs_mask`.

    Truth: `z` learns from the observed rows; the rest are draws from the model given `z`.
    """
    dist = ppl.dist
    seen = torch.arange(n) % 3 != 2

    def model(data, seen):
        z = ppl.sample("z", dist.Normal(new(0.0), new(1.0)))
        with ppl.plate("data", len(data)):
            ppl.sample("x", dist.Normal(z, 0.5), obs=data, obs_mask=seen)

    def guide(data, seen):
        z = normal_factor(ppl, "z", new(0.3), new(0.8))
        with ppl.plate("data", len(data)), ppl.handlers.mask(mask=~seen):
            ppl.sample("x_unobserved", dist.Normal(z, 0.5))

    data = 0.7 + 0.5 * new.noise(n)
    args = (data, seen.to(data.device))
    return Program(model, guide, args, lambda: _normal_location(data.cpu()[seen], 0.5))


@entry()
def tempered_likelihood(ppl, n, new):
    """Data that count half, by `scale`. Truth: `normal_normal` with half the precision."""
    dist = ppl.dist

    def model(data):
        z = ppl.sample("z", dist.Normal(new(0.0), new(1.0)))
        with ppl.plate("data", len(data)), ppl.handlers.scale(scale=0.5):
            ppl.sample("obs", dist.Normal(z, 0.5), obs=data)

    def guide(data):
        normal_factor(ppl, "z", new(0.3), new(0.8))

    data = 0.7 + 0.5 * new.noise(n)
    return Program(model, guide, (data,), lambda: _normal_location(data, 0.5, 0.5))


@entry()
def weighted_rows(ppl, n, new):
    """Rows that count by weights of their own: `scale` by a tensor, along the plate."""
    dist = ppl.dist

    def model(data, weights):
        z = ppl.sample("z", dist.Normal(new(0.0), new(1.0)))
        with ppl.plate("data", len(data)), ppl.handlers.scale(scale=weights):
            ppl.sample("obs", dist.Normal(z, 0.5), obs=data)

    def guide(data, weights):
        normal_factor(ppl, "z", new(0.3), new(0.8))

    data, weights = 0.7 + 0.5 * new.noise(n), 0.2 + new.uniform(n, seed=3)
    return Program(model, guide, (data, weights), lambda: _normal_location(data, 0.5, f64(weights)))


@entry()
def factors(ppl, n, new):
    """A likelihood spelt out, as `factor` terms: one outside, one per row inside a plate."""
    dist, half_log = ppl.dist, 0.5 * math.log(2 * math.pi)

    def model(data):
        z = ppl.sample("z", dist.Normal(new(0.0), new(1.0)))
        ppl.factor("normaliser", -len(data) * (math.log(0.5) + half_log) * new(1.0))
        with ppl.plate("data", len(data)):
            ppl.factor("squares", -2.0 * (data - z) ** 2)

    def guide(data):
        normal_factor(ppl, "z", new(0.3), new(0.8))

    data = 0.7 + 0.5 * new.noise(n)
    return Program(model, guide, (data,), lambda: _normal_location(data, 0.5))


@entry()
def computed_values(ppl, n, new):
    """A temperature, remembered in Fahrenheit too: `deterministic` adds no probability."""
    dist = ppl.dist

    def model(data):
        z = ppl.sample("z", dist.Normal(new(0.0), new(1.0)))
        ppl.deterministic("fahrenheit", 32 + 1.8 * z)
        with ppl.plate("data", len(data)):
            residual = ppl.deterministic("residual", data - z)
            ppl.sample("obs", dist.Normal(new(0.0), new(0.5)), obs=residual)

    def guide(data):
        normal_factor(ppl, "z", new(0.3), new(0.8))

    data = 0.7 + 0.5 * new.noise(n)
    return Program(model, guide, (data,), lambda: _normal_location(data, 0.5))


@entry()
def vectors_in_a_plate(ppl, n, new):
    """A vector of two unknowns in every row: `to_event` keeps them apart from the plate.

    Truth: every coordinate is `normal_normal` with one datum.
    """
    dist = ppl.dist

    def model(data):
        with ppl.plate("data", len(data)):
            z = ppl.sample("z", dist.Normal(new.zeros(2), new(1.0)).to_event(1))
            ppl.sample("obs", dist.Normal(z, 0.5).to_event(1), obs=data)

    def guide(data):
        with ppl.plate("data", len(data)):
            normal_factor(ppl, "z", new.full((n, 2), 0.2), new.full((n, 2), 0.6), event_dim=1)

    data = 1.1 * new.noise(n, 2)

    def truth():
        loc, scale = 0.8 * f64(data), f64(0.2**0.5).expand(n, 2)
        evidence = normal(0.0, 1.25**0.5).log_prob(f64(data)).sum()
        params = {"z_loc": loc, "z_scale": scale}
        return exact(evidence, params, z=td.Normal(loc, scale))

    return Program(model, guide, (data,), truth)


@entry()
def neals_funnel(ppl, n, new):
    """A log-scale and n values of that scale, no data at all (Neal, 2003, "Slice sampling").

    Truth: the prior is the posterior, the evidence 1. The values come by transformation.
    """
    dist = ppl.dist

    def values(y):
        base = dist.Normal(new.zeros(n), new(1.0))
        stretch = dist.transforms.AffineTransform(0.0, (y / 2).exp()[..., None])
        return dist.TransformedDistribution(base, [stretch]).to_event(1)

    def model():
        y = ppl.sample("y", dist.Normal(new(0.0), new(3.0)))
        ppl.sample("x", values(y))

    def guide():
        y = normal_factor(ppl, "y", new(0.2), new(2.0))
        ppl.sample("x", values(y))

    def truth():
        posterior = normal(0.0, 3.0)
        params = {"y_loc": posterior.loc, "y_scale": posterior.scale}
        return exact(f64(0.0), params, y=posterior)

    return Program(model, guide, (), truth)


# -- learning -------------------------------------------------------------------------------------


@entry()
def most_probable_bias(ppl, n, new):
    """`beta_bernoulli` with a guide that is a single point: the posterior's mode.

    Truth: (1 + heads) / (2 + n). The gap is minus the posterior's log-density there.
    """
    dist = ppl.dist
    whole = beta_bernoulli(ppl, n, new)

    def guide(data):
        p = ppl.param("map", new(0.4), constraint=dist.constraints.unit_interval)
        ppl.sample("p", dist.Delta(p))

    def truth():
        found = whole.truth()
        posterior = td.Beta(found.params["a"], found.params["b"])
        mode = (found.params["a"] - 1) / (2.0 + n)
        gap = -posterior.log_prob(mode).item()
        return Truth(found.mean, found.sd, found.log_evidence, {"map": mode}, gap)

    return Program(whole.model, guide, whole.args, truth)


@entry(sizes=(2, 3, 7, 1000))
def maximum_likelihood(ppl, n, new):
    """No unknown at all, two parameters in the model and an empty guide. Truth: sample moments."""
    dist = ppl.dist

    def model(data):
        loc, scale = ppl.param("loc", new(0.1)), positive(ppl, "scale", new(0.8))
        with ppl.plate("data", len(data)):
            ppl.sample("obs", dist.Normal(loc, scale), obs=data)

    def guide(data):
        pass

    data = 1.0 + 0.6 * new.noise(n)

    def truth():
        y = f64(data)
        loc, scale = y.mean(), y.std(correction=0)
        return Truth({}, {}, td.Normal(loc, scale).log_prob(y).sum(), {"loc": loc, "scale": scale})

    return Program(model, guide, (data,), truth)


@entry()
def empirical_bayes(ppl, n, new):
    """The spread of n unknowns is a parameter: a model that learns its own prior.

    Truth: marginally a row is Normal(0, sqrt(spread^2 + 1)), whose best spread is known; given it
    the posterior is too. `log_evidence` is the best marginal likelihood.
    """
    dist = ppl.dist

    def model(data):
        spread = positive(ppl, "spread", new(0.7))
        with ppl.plate("data", len(data)):
            z = ppl.sample("z", dist.Normal(new(0.0), spread))
            ppl.sample("obs", dist.Normal(z, 1.0), obs=data)

    def guide(data):
        with ppl.plate("data", len(data)):
            normal_factor(ppl, "z", new.full((n,), 0.2), new.full((n,), 0.6))

    noise = new.noise(n)
    data = noise * (3.0 / (noise**2).mean()).sqrt()

    def truth():
        y = f64(data)
        squared = (y**2).mean() - 1
        shrink = squared / (squared + 1)
        posterior = td.Normal(shrink * y, shrink.sqrt().expand(n))
        params = {"spread": squared.sqrt(), "z_loc": posterior.loc, "z_scale": posterior.scale}
        evidence = td.Normal(torch.zeros_like(y), (squared + 1).sqrt()).log_prob(y).sum()
        return exact(evidence, params, z=posterior)

    return Program(model, guide, (data,), truth)


@entry()
def linear_vae(ppl, n, new):
    """A variational autoencoder with linear halves: probabilistic principal components.

    Five readings of two hidden causes. Truth: given the loadings, everything is Gaussian (Tipping
    and Bishop, 1999, "Probabilistic principal component analysis"); the encoder can be exact.
    """
    dist = ppl.dist
    loadings = new.noise(2, 5, seed=7)

    def model(x):
        w = ppl.param("loadings", loadings)
        with ppl.plate("data", len(x)):
            z = ppl.sample("z", dist.Normal(new.zeros(2), new(1.0)).to_event(1))
            ppl.sample("obs", dist.Normal(z @ w, 0.6).to_event(1), obs=x)

    def guide(x):
        encoder = ppl.param("encoder", new.full((5, 2), 0.1))
        tril = ppl.param("tril", 0.5 * new.eye(2), constraint=dist.constraints.lower_cholesky)
        with ppl.plate("data", len(x)):
            ppl.sample("z", dist.MultivariateNormal(x @ encoder, scale_tril=tril))

    x = new.noise(n, 2, seed=1) @ loadings + 0.6 * new.noise(n, 5)

    def truth():
        w, seen = f64(loadings), f64(x)
        marginal = w.T @ w + 0.36 * torch.eye(5, dtype=torch.float64)
        evidence = td.MultivariateNormal(torch.zeros(5).double(), marginal).log_prob(seen).sum()
        covariance = torch.linalg.inv(torch.eye(2, dtype=torch.float64) + w @ w.T / 0.36)
        encoder, tril = w.T @ covariance / 0.36, torch.linalg.cholesky(covariance)
        params = {"loadings": w, "encoder": encoder, "tril": tril}
        posterior = td.MultivariateNormal(seen @ encoder, covariance)
        return exact(evidence, params, z=posterior)

    return Program(model, guide, (x,), truth)


def _network(new, *widths: int, seed: int) -> torch.nn.Module:
    """A small perceptron with tanh between its layers and weights from a fixed seed."""
    layers = []
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        layer = torch.nn.Linear(fan_in, fan_out, **new.kind)
        with torch.no_grad():
            layer.weight.copy_(new.noise(fan_out, fan_in, seed=seed + i) / fan_in**0.5)
            layer.bias.zero_()
        layers += [torch.nn.Tanh(), layer] if i else [layer]
    return torch.nn.Sequential(*layers)


def digits(new, n: int) -> Tensor:
    """Pictures of 4 x 4 points, black or white: bars that lie or stand, a few points flipped."""
    bars = torch.zeros(4, 4, 4)
    for i in range(4):
        bars[i, i, :] = 1.0
        bars[i, :, i] = 1.0 if i % 2 else bars[i, :, i]
    clean = new(bars.reshape(4, 16))[torch.arange(n) % 4]
    flipped = (new.uniform(n, 16, seed=9) < 0.04).to(clean.dtype)
    return (clean - flipped).abs()


@entry(sizes=(1, 2, 11, 500))
def variational_autoencoder(ppl, n, new):
    """Pictures from two hidden numbers each, through small networks (Kingma and Welling, 2014).

    Truth: the evidence at the first weights, by quadrature over the two numbers of each picture.
    """
    dist = ppl.dist
    decoder = _network(new, 2, 12, 16, seed=11)
    encoder = _network(new, 16, 12, 4, seed=21)

    def model(x):
        decode = ppl.module("decoder", decoder)
        with ppl.plate("pictures", len(x)):
            z = ppl.sample("z", dist.Normal(new.zeros(2), new(1.0)).to_event(1))
            ppl.sample("x", dist.Bernoulli(logits=decode(z)).to_event(1), obs=x)

    def guide(x):
        encode = ppl.module("encoder", encoder)
        with ppl.plate("pictures", len(x)):
            loc, log_scale = encode(x).chunk(2, -1)
            ppl.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    x = digits(new, n)

    @torch.no_grad()
    def truth():
        line = torch.linspace(-8, 8, 161, dtype=torch.float64)
        z = torch.cartesian_prod(line, line)
        logits = f64(decoder(new(z)))
        prior = normal(0.0, 1.0).log_prob(z).sum(-1) + 2 * math.log(0.1)
        lit = torch.nn.functional.logsigmoid(logits) @ f64(x).T
        dark = torch.nn.functional.logsigmoid(-logits) @ (1 - f64(x)).T
        evidence = (prior[:, None] + lit + dark).logsumexp(0).sum()
        return Truth({}, {}, evidence, None, None, "quadrature")

    return Program(model, guide, (x,), truth)
