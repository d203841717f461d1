"""Particle filters against the Kalman filter and an HMM's forward algorithm, in closed form."""

import math

import pytest
import torch

import pplkit.distributions as dist
from pplkit import errors, factor, handlers, plate, sample
from pplkit.infer import SMCFailed, SMCFilter, SMCState

PHI, MOVE, NOISE = 0.9, 0.5, 0.7


class Linear:
    """z' ~ N(0.9 z, 0.5), x ~ N(z', 0.7)."""

    def init(self, state, x=None):
        self.t = 0
        state["z"] = sample("z_0", dist.Normal(0.0, 1.0))

    def step(self, state, x=None):
        self.t += 1
        state["z"] = sample(f"z_{self.t}", dist.Normal(PHI * state["z"], MOVE))
        sample(f"x_{self.t}", dist.Normal(state["z"], NOISE), obs=x)


class Informed:
    """Proposes from p(z' | z, x)."""

    def init(self, state, x=None):
        self.t = 0
        sample("z_0", dist.Normal(0.0, 1.0))

    def step(self, state, x=None):
        self.t += 1
        variance = 1 / (MOVE**-2 + NOISE**-2)
        mean = variance * (PHI * state["z"] / MOVE**2 + x / NOISE**2)
        sample(f"z_{self.t}", dist.Normal(mean, variance**0.5))


class Partial(Informed):
    """Leaves the first state to the model."""

    def init(self, state, x=None):
        self.t = 0


def series(length, seed):
    drawn = torch.Generator().manual_seed(seed)
    z, xs = torch.randn((), generator=drawn), []
    for _ in range(length):
        z = PHI * z + MOVE * torch.randn((), generator=drawn)
        xs.append(z + NOISE * torch.randn((), generator=drawn))
    return torch.stack(xs)


def kalman(xs):
    """Mean and variance of the last state, and the log-evidence."""
    mean, variance, evidence = 0.0, 1.0, 0.0
    for x in xs.tolist():
        mean, variance = PHI * mean, PHI**2 * variance + MOVE**2
        total = variance + NOISE**2
        evidence -= 0.5 * math.log(2 * math.pi * total) + (x - mean) ** 2 / (2 * total)
        gain = variance / total
        mean, variance = mean + gain * (x - mean), (1 - gain) * variance
    return mean, variance, evidence


def filtered(model, guide, xs, number, seed, **settings):
    with handlers.seed(rng_seed=seed):
        smc = SMCFilter(model, guide, number, **settings)
        smc.init()
        for x in xs:
            smc.step(x)
    return smc


@pytest.mark.parametrize("make", [lambda: None, Informed, Partial])
@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_the_kalman_filter(make, threshold):
    xs = series(20, seed=3)
    mean, variance, evidence = kalman(xs)
    smc = filtered(Linear(), make(), xs, 4000, seed=0, ess_threshold=threshold)
    found = smc.get_empirical()["z"]
    assert abs(found.mean - mean) < 0.06 and abs(found.variance - variance) < 0.04
    assert abs(smc.log_evidence - evidence) < 0.3
    assert smc.get_log_normalizer() == smc.log_evidence
    assert len(smc.ess) == 21 and any(smc.resampled) and abs(smc.log_weights.logsumexp(0)) < 1e-5
    assert all(
        again == (ess < threshold * 4000) for ess, again in zip(smc.ess, smc.resampled, strict=True)
    )


def test_the_evidence_is_unbiased_and_a_good_guide_narrows_it():
    xs, spread = series(10, seed=4), {}
    truth = kalman(xs)[2]
    for guide in (None, Informed()):
        runs = [filtered(Linear(), guide, xs, 100, seed).log_evidence - truth for seed in range(60)]
        ratios = torch.stack(runs).exp()
        assert abs(ratios.mean() - 1) < 4 * ratios.std() / 60**0.5
        spread[guide is None] = ratios.std()
    assert spread[False] < 0.8 * spread[True]


def test_without_resampling_it_is_importance_sampling():
    xs = series(3, seed=5)
    smc = filtered(Linear(), None, xs, 20_000, seed=0, ess_threshold=1e-9)
    assert not any(smc.resampled)
    assert abs(smc.log_evidence - kalman(xs)[2]) < 0.05


STAY = torch.tensor([[0.8, 0.15, 0.05], [0.1, 0.8, 0.1], [0.05, 0.15, 0.8]])
MEANS = torch.tensor([-1.0, 0.0, 2.0])


class Hidden:
    def init(self, state, x=None):
        self.t = 0
        state["k"] = sample("k_0", dist.Categorical(torch.ones(3) / 3))

    def step(self, state, x=None):
        self.t += 1
        state["k"] = sample(f"k_{self.t}", dist.Categorical(STAY[state["k"]]))
        sample(f"x_{self.t}", dist.Normal(MEANS[state["k"]], 0.8), obs=x)


def test_the_forward_algorithm():
    xs = torch.tensor([0.3, -0.9, -1.4, 0.2, 1.7, 2.2, 1.9, 0.4])
    alpha, evidence = torch.ones(3) / 3, 0.0
    for x in xs:
        alpha = (alpha @ STAY) * dist.Normal(MEANS, 0.8).log_prob(x).exp()
        evidence += alpha.sum().log().item()
        alpha = alpha / alpha.sum()
    smc = filtered(Hidden(), None, xs, 20_000, seed=0)
    assert abs(smc.log_evidence - evidence) < 0.05
    weights = smc.get_normalized_weights()
    for k in range(3):
        assert abs(weights[smc.state["k"] == k].sum() - alpha[k]) < 0.02


class Panel:
    """Three independent walks in a plate, and one number for all of them in the state."""

    def init(self, state, x=None):
        self.t = 0
        state["level"] = sample("level", dist.Normal(0.0, 1.0))
        with plate("series", 3):
            state["z"] = sample("z_0", dist.Normal(state["level"], 1.0))

    def step(self, state, x=None):
        self.t += 1
        with plate("series", 3):
            state["z"] = sample(f"z_{self.t}", dist.Normal(state["z"], 0.5))
            sample(f"x_{self.t}", dist.Normal(state["z"], 1.0), obs=x)


def test_plates_inside():
    xs = torch.tensor([[1.0, 2.0, 3.0], [1.5, 1.5, 3.5]])
    smc = filtered(Panel(), None, xs, 40_000, seed=0, max_plate_nesting=1)
    assert smc.state["level"].shape == (40_000, 1) and smc.state["z"].shape == (40_000, 3)
    # (level, z_0, z_1, z_2 of the first series...), jointly normal: condition on the six numbers.
    covariance = torch.zeros(6, 6)
    for i in range(6):
        for j in range(6):
            same = (i % 3) == (j % 3)
            steps = min(i // 3, j // 3) + 1
            covariance[i, j] = 1.0 + same * (1.0 + 0.25 * steps) + (i == j)
    seen = xs.reshape(-1)
    level = torch.ones(6) @ torch.linalg.solve(covariance, seen)
    evidence = dist.MultivariateNormal(torch.zeros(6), covariance).log_prob(seen)
    found = smc.get_empirical()["level"].mean
    assert abs(found - level) < 0.05 and abs(smc.log_evidence - evidence) < 0.1


def test_a_second_start_forgets_the_first():
    xs = series(4, seed=6)
    smc = SMCFilter(Linear(), num_particles=50)
    found = []
    for _ in range(2):
        with handlers.seed(rng_seed=1):
            smc.init()
            for x in xs:
                smc.step(x)
        found.append((smc.log_evidence, len(smc.ess)))
    assert found[0] == found[1] == (found[0][0], 5)


# -- mistakes --------------------------------------------------------------------------------------


class Writes(Informed):
    def step(self, state, x=None):
        state["w"] = torch.zeros(10)


class Strange(Informed):
    def step(self, state, x=None):
        sample("other", dist.Normal(0.0, 1.0))


class Keeps(Linear):
    kept = None

    def init(self, state, x=None):
        super().init(state)
        state["kept"] = self.kept


class Never(Linear):
    def step(self, state, x=None):
        super().step(state, x)
        factor("never", torch.tensor(-math.inf))


def keeping(value):
    model = Keeps()
    model.kept = value
    return model


def run(model, guide=None):
    smc = SMCFilter(model, guide, 10)
    smc.init()
    smc.step(torch.tensor(0.5))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SMCFilter(lambda: None), errors.UsageError, r"(?s)model=.*init\(state"),
        (lambda: SMCFilter(Linear(), 3), errors.UsageError, "guide="),
        (lambda: SMCFilter(Linear(), num_particles=0), errors.UsageError, "at least 1"),
        (lambda: SMCFilter(Linear(), max_plate_nesting=-1), errors.UsageError, "at least 0"),
        (lambda: SMCFilter(Linear(), ess_threshold=0), errors.UsageError, "ess_threshold"),
        (lambda: SMCFilter(Linear(), ess_threshold=1.5), errors.UsageError, "ess_threshold"),
        (lambda: SMCFilter(Linear()).step(), errors.UsageError, "(?s)not been run.*init"),
        (lambda: SMCFilter(Linear()).log_weights, errors.UsageError, "not been run"),
        (lambda: run(Linear(), Writes()), errors.ModelError, "Guide cannot write to SMCState"),
        (lambda: run(Linear(), Strange()), errors.ModelError, "other"),
        (lambda: run(keeping(1.0)), errors.UsageError, "Only Tensors can be stored"),
        (
            lambda: run(keeping(torch.zeros(3))),
            errors.ShapeError,
            "(?s)Expected leading dim of size 10.*'kept'",
        ),
        (lambda: run(keeping(torch.tensor(1.0))), errors.ShapeError, "leading dim"),
        (lambda: run(Never()), SMCFailed, "(?s)Failed to find feasible hypothesis.*never"),
        (lambda: run(Never()), ValueError, "feasible"),
        (lambda: SMCState(0), errors.UsageError, "num_particles"),
        (lambda: SMCFilter(Linear()).get_log_evidence(), errors.UsageError, "one run"),
    ],
)
def test_mistakes_are_told(call, error, message):
    with pytest.raises(error, match=message):
        call()
