"""The models that `svi_run.py` races, each written once.

`lib` is pplkit, Pyro or NumPyro: the three have these names in common. Beside each model stands its
loss by hand, in plain PyTorch: what a step costs when nobody counts names, plates and shapes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, softplus


@dataclass
class Case:
    """A model, its guide, its data and its start."""

    title: str
    data: Callable[[], tuple]  # arrays
    model: Callable
    guide: Callable | str  # or the name of an automatic one
    by_hand: Callable  # from data to parameters and a loss
    start: dict = field(default_factory=dict)  # of an automatic guide: constrained values
    lr: float = 0.01
    check: int = 1000  # steps after which losses are compared


def _random():
    return np.random.default_rng(0)


def _f32(*arrays):
    return tuple(np.asarray(a, dtype=np.float32) for a in arrays)


def normal_log_density(x, loc, scale):
    return -((x - loc) ** 2) / (2 * scale * scale) - scale.log() - 0.5 * math.log(2 * math.pi)


def _free(*shapes, value=0.0):
    return [torch.full(shape, value, requires_grad=True) for shape in shapes]


# -- latent normal ---------------------------------------------------------------------------------


def normal(lib, data):
    z = lib.sample("z", lib.dist.Normal(0.0, 1.0))
    with lib.plate("data", len(data)):
        lib.sample("obs", lib.dist.Normal(z, 0.5), obs=data)


def normal_guide(lib, data):
    loc = lib.param("loc", lib.array(0.0))
    scale = lib.param("scale", lib.array(1.0), constraint=lib.positive)
    lib.sample("z", lib.dist.Normal(loc, scale))


def normal_by_hand(data):
    loc, free = _free((), ())
    half, zero, one = torch.tensor(0.5), torch.tensor(0.0), torch.tensor(1.0)

    def loss():
        scale = free.exp()
        z = loc + scale * torch.randn(())
        prior = normal_log_density(z, zero, one) - normal_log_density(z, loc, scale)
        return -(normal_log_density(data, z, half).sum() + prior)

    return [loc, free], loss


def points(n):
    return Case(
        f"latent normal, {n:,} points",
        lambda: _f32(_random().normal(1.0, 0.5, n)),
        normal,
        normal_guide,
        normal_by_hand,
    )


# -- eight schools ---------------------------------------------------------------------------------

EFFECTS = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]
ERRORS = [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]


def eight_schools(lib, y, sigma):
    mu = lib.sample("mu", lib.dist.Normal(0.0, 5.0))
    tau = lib.sample("tau", lib.dist.HalfCauchy(5.0))
    with lib.plate("schools", len(y)):
        theta = lib.sample("theta", lib.dist.Normal(mu, tau))
        lib.sample("y", lib.dist.Normal(theta, sigma), obs=y)


def _eight_log_joint(mu, log_tau, theta, y, sigma):
    tau = log_tau.exp()
    ratio = tau / 5.0
    prior = -torch.log1p(ratio * ratio) + math.log(2 / math.pi / 5.0) + log_tau
    prior = prior - mu * mu / 50 - math.log(5.0) - 0.5 * math.log(2 * math.pi)
    inner = normal_log_density(theta, mu, tau) + normal_log_density(y, theta, sigma)
    return prior + inner.sum()


def eight_mean_field_by_hand(y, sigma):
    loc, free = _free((10,), (10,))
    with torch.no_grad():
        free += math.log(0.1)

    def loss():
        scale = free.exp()
        noise = torch.randn(10)
        z = loc + scale * noise
        entropy = free.sum() + 0.5 * (noise * noise).sum() + 5 * math.log(2 * math.pi)
        return -(_eight_log_joint(z[0], z[1], z[2:], y, sigma) + entropy)

    return [loc, free], loss


def eight_full_rank_by_hand(y, sigma):
    loc, free, below = _free((10,), (10,), (10, 10))
    with torch.no_grad():
        free += math.log(0.1)

    def loss():
        scale = free.exp()
        noise = torch.randn(10)
        z = loc + scale * (noise + below.tril(-1) @ noise)
        entropy = free.sum() + 0.5 * (noise * noise).sum() + 5 * math.log(2 * math.pi)
        return -(_eight_log_joint(z[0], z[1], z[2:], y, sigma) + entropy)

    return [loc, free, below], loss


def schools(kind, guide, by_hand):
    start = {"mu": 0.0, "tau": 1.0, "theta": [0.0] * 8}
    data = _f32(EFFECTS, ERRORS)
    return Case(f"eight schools, {kind}", lambda: data, eight_schools, guide, by_hand, start)


# -- regressions -----------------------------------------------------------------------------------


def logistic(lib, x, y):
    w = lib.sample("w", lib.dist.Normal(0.0, 1.0).expand([x.shape[1]]).to_event(1))
    b = lib.sample("b", lib.dist.Normal(0.0, 1.0))
    with lib.plate("data", len(x)):
        lib.sample("y", lib.dist.Bernoulli(logits=x @ w + b), obs=y)


def logistic_data(n=10_000, d=50):
    r = _random()
    x, w = r.normal(size=(n, d)), r.normal(size=d) / 4
    return _f32(x, r.random(n) < 1 / (1 + np.exp(-x @ w)))


def logistic_by_hand(x, y):
    d = x.shape[1] + 1
    loc, free = _free((d,), (d,))
    with torch.no_grad():
        free += math.log(0.1)

    def loss():
        noise = torch.randn(d)
        z = loc + free.exp() * noise
        fit = binary_cross_entropy_with_logits(x @ z[:-1] + z[-1], y, reduction="sum")
        return fit + 0.5 * (z * z).sum() - free.sum() - 0.5 * (noise * noise).sum()

    return [loc, free], loss


def nested(lib, x, y):
    a0 = lib.sample("a0", lib.dist.Normal(0.0, 5.0))
    b0 = lib.sample("b0", lib.dist.Normal(0.0, 5.0))
    spread = lib.sample("spread", lib.dist.LogNormal(0.0, 1.0))
    error = lib.sample("error", lib.dist.LogNormal(0.0, 1.0))
    with lib.plate("groups", x.shape[0], dim=-2):
        a = lib.sample("a", lib.dist.Normal(a0, spread))
        b = lib.sample("b", lib.dist.Normal(b0, spread))
        with lib.plate("rows", x.shape[1], dim=-1):
            lib.sample("y", lib.dist.Normal(a + b * x, error), obs=y)


def nested_data(groups=50, rows=40):
    r = _random()
    x = r.normal(size=(groups, rows))
    a, b = r.normal(1, 0.5, (groups, 1)), r.normal(-1, 0.5, (groups, 1))
    return _f32(x, a + b * x + r.normal(0, 0.3, x.shape))


def nested_by_hand(x, y):
    g = x.shape[0]
    loc, free = _free((4 + 2 * g,), (4 + 2 * g,))
    with torch.no_grad():
        free += math.log(0.1)

    def loss():
        noise = torch.randn(4 + 2 * g)
        z = loc + free.exp() * noise
        tops, logs, a, b = z[:2], z[2:4], z[4 : 4 + g, None], z[4 + g :, None]
        spread, error = logs.exp()
        joint = -(tops * tops).sum() / 50 - 2 * math.log(5.0) - 0.5 * (logs * logs).sum()
        joint = joint - 2 * math.log(2 * math.pi)
        joint = joint + normal_log_density(a, tops[0], spread).sum()
        joint = joint + normal_log_density(b, tops[1], spread).sum()
        joint = joint + normal_log_density(y, a + b * x, error).sum()
        entropy = free.sum() + 0.5 * (noise * noise).sum() + 0.5 * len(z) * math.log(2 * math.pi)
        return -(joint + entropy)

    return [loc, free], loss


ROWS = 256


def subsampled(lib, x, y):
    a = lib.sample("a", lib.dist.Normal(0.0, 5.0))
    b = lib.sample("b", lib.dist.Normal(0.0, 5.0))
    with lib.plate("data", len(x), subsample_size=ROWS) as rows:
        lib.sample("y", lib.dist.Normal(a + b * x[rows], 1.0), obs=y[rows])


def subsampled_data(n=100_000):
    r = _random()
    x = r.normal(size=n)
    return _f32(x, 1 - 2 * x + r.normal(size=n))


def subsampled_by_hand(x, y):
    loc, free = _free((2,), (2,))
    with torch.no_grad():
        free += math.log(0.1)
    one, n = torch.tensor(1.0), len(x)

    def loss():
        noise = torch.randn(2)
        z = loc + free.exp() * noise
        rows = torch.randperm(n)[:ROWS]
        fit = normal_log_density(y[rows], z[0] + z[1] * x[rows], one).sum() * (n / ROWS)
        prior = -(z * z).sum() / 50 - 2 * math.log(5.0)
        return -(fit + prior + free.sum() + 0.5 * (noise * noise).sum())

    return [loc, free], loss


# -- others ----------------------------------------------------------------------------------------


def poisson_gamma(lib, counts):
    rate = lib.sample("rate", lib.dist.Gamma(2.0, 1.0))
    with lib.plate("data", len(counts)):
        lib.sample("counts", lib.dist.Poisson(rate), obs=counts)


def gamma_guide(lib, counts):
    shape = lib.param("shape", lib.array(10.0), constraint=lib.positive)
    pace = lib.param("pace", lib.array(10.0), constraint=lib.positive)
    lib.sample("rate", lib.dist.Gamma(shape, pace))


def gamma_by_hand(counts):
    shape, pace = _free((), (), value=math.log(10.0))
    known = (counts + 1).lgamma().sum()

    def loss():
        a, b = shape.exp(), pace.exp()
        z = torch._standard_gamma(a) / b
        log_z = z.log()
        guide = a * pace + (a - 1) * log_z - b * z - a.lgamma()
        return -(log_z - z + counts.sum() * log_z - len(counts) * z - known - guide)

    return [shape, pace], loss


CENTRES = [-4.0, 0.0, 4.0]


def mixture(lib, x):
    weights = lib.sample("weights", lib.dist.Dirichlet(lib.array([1.0, 1.0, 1.0])))
    scale = lib.sample("scale", lib.dist.LogNormal(0.0, 0.5))
    with lib.plate("components", 3):
        loc = lib.sample("loc", lib.dist.Normal(lib.array(CENTRES), 1.0))
    parts = lib.dist.Normal(loc, scale)
    with lib.plate("data", len(x)):
        both = lib.dist.MixtureSameFamily(lib.dist.Categorical(weights), parts)
        lib.sample("x", both, obs=x)


def mixture_data(n=1000):
    r = _random()
    return _f32(r.normal(np.asarray(CENTRES)[r.choice(3, n, p=[0.5, 0.2, 0.3])], 0.8))


def mixture_by_hand(x):
    loc, free = _free((6,), (6,))
    with torch.no_grad():
        loc[3:] = torch.tensor(CENTRES)
        free += math.log(0.1)
    stick = torch.distributions.StickBreakingTransform()
    centres, one = torch.tensor(CENTRES), torch.tensor(1.0)

    def loss():
        noise = torch.randn(6)
        z = loc + free.exp() * noise
        weights = stick(z[:2])
        joint = stick.log_abs_det_jacobian(z[:2], weights) + math.log(2.0)
        joint = joint - 2 * z[2] * z[2] - math.log(0.5) - 0.5 * math.log(2 * math.pi)
        joint = joint + normal_log_density(z[3:], centres, one).sum()
        each = normal_log_density(x[:, None], z[3:], z[2].exp()) + weights.log()
        entropy = free.sum() + 0.5 * (noise * noise).sum() + 3 * math.log(2 * math.pi)
        return -(joint + each.logsumexp(-1).sum() + entropy)

    return [loc, free], loss


PIXELS, HIDDEN, CODE = 784, 200, 20
LAYERS = {
    "encoder": (PIXELS, HIDDEN),
    "code": (HIDDEN, CODE),
    "spread": (HIDDEN, CODE),
    "decoder": (CODE, HIDDEN),
    "pixels": (HIDDEN, PIXELS),
}


def vae_start():
    r = _random()
    return {name: r.normal(0, 0.5 / math.sqrt(m), (m, n)) for name, (m, n) in LAYERS.items()}


START = vae_start()


def _layer(lib, name, x):
    weight = lib.param(f"{name}.weight", lib.array(START[name]))
    return x @ weight + lib.param(f"{name}.bias", lib.array(np.zeros(LAYERS[name][1])))


def vae(lib, x):
    with lib.plate("images", len(x)):
        z = lib.sample("z", lib.dist.Normal(0.0, 1.0).expand([CODE]).to_event(1))
        logits = _layer(lib, "pixels", lib.softplus(_layer(lib, "decoder", z)))
        lib.sample("x", lib.dist.Bernoulli(logits=logits).to_event(1), obs=x)


def vae_guide(lib, x):
    hidden = lib.softplus(_layer(lib, "encoder", x))
    loc, spread = _layer(lib, "code", hidden), lib.exp(_layer(lib, "spread", hidden))
    with lib.plate("images", len(x)):
        lib.sample("z", lib.dist.Normal(loc, spread).to_event(1))


def vae_data(n=128):
    r = _random()
    shapes = r.random((10, PIXELS)) < 0.3
    return _f32(shapes[r.integers(10, size=n)] ^ (r.random((n, PIXELS)) < 0.05))


def vae_by_hand(x):
    start = {n: torch.tensor(w, dtype=torch.float32) for n, w in START.items()}
    weight = {n: w.requires_grad_() for n, w in start.items()}
    bias = {n: torch.zeros(LAYERS[n][1], requires_grad=True) for n in LAYERS}

    def layer(name, h):
        return torch.addmm(bias[name], h, weight[name])

    def loss():
        hidden = softplus(layer("encoder", x))
        loc, log_scale = layer("code", hidden), layer("spread", hidden)
        noise = torch.randn_like(loc)
        z = loc + log_scale.exp() * noise
        logits = layer("pixels", softplus(layer("decoder", z)))
        fit = binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return fit + 0.5 * (z * z - noise * noise).sum() - log_scale.sum()

    return [*weight.values(), *bias.values()], loss


# -- all of them -----------------------------------------------------------------------------------

CASES = {
    "normal-4": points(4),
    "normal-1e3": points(1000),
    "normal-1e5": points(100_000),
    "normal-1e6": points(1_000_000),
    "schools-mean-field": schools("mean-field", "AutoNormal", eight_mean_field_by_hand),
    "schools-full-rank": schools("full-rank", "AutoMultivariateNormal", eight_full_rank_by_hand),
    "logistic": Case(
        "logistic regression, 10,000 × 50",
        logistic_data,
        logistic,
        "AutoNormal",
        logistic_by_hand,
        {"w": [0.0] * 50, "b": 0.0},
        check=500,
    ),
    "nested": Case(
        "nested plates, 50 × 40",
        nested_data,
        nested,
        "AutoNormal",
        nested_by_hand,
        {
            **dict.fromkeys(("a0", "b0"), 0.0),
            **dict.fromkeys(("spread", "error"), 1.0),
            **dict.fromkeys(("a", "b"), [[0.0]] * 50),
        },
    ),
    "subsampled": Case(
        "subsampled plate, 256 of 100,000",
        subsampled_data,
        subsampled,
        "AutoNormal",
        subsampled_by_hand,
        {"a": 0.0, "b": 0.0},
    ),
    "poisson-gamma": Case(
        "Poisson and gamma, 1,000 counts",
        lambda: _f32(_random().poisson(3.0, 1000)),
        poisson_gamma,
        gamma_guide,
        gamma_by_hand,
    ),
    "mixture": Case(
        "mixture of 3, 1,000 points",
        mixture_data,
        mixture,
        "AutoNormal",
        mixture_by_hand,
        {"weights": [1 / 3] * 3, "scale": 1.0, "loc": CENTRES},
    ),
    "vae": Case(
        "autoencoder, 128 × 784",
        vae_data,
        vae,
        vae_guide,
        vae_by_hand,
        lr=1e-3,
        check=200,
    ),
}
