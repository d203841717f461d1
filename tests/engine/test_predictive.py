"""Predictive: shapes as Pyro's, values as the model says."""

import pyro
import pyro.distributions
import pyro.infer
import pytest
import torch

import pplkit
import pplkit.distributions as dist
from pplkit import deterministic, errors, handlers, param, plate, sample
from pplkit.infer import Predictive
from pplkit.infer.autoguide import AutoMultivariateNormal, AutoNormal


@pytest.fixture(autouse=True)
def pyros_store():
    pyro.clear_param_store()


def program(ppl, dist):
    """Global and local variables, two plates, deterministic sites in and outside, a result."""

    def model(data=None, rows=4):
        mu = ppl.sample("mu", dist.Normal(0.0, 1.0))
        weights = ppl.sample("weights", dist.Dirichlet(torch.ones(3)))
        ppl.deterministic("twice", 2 * mu)
        with ppl.plate("rows", rows, dim=-1):
            x = ppl.sample("x", dist.Normal(mu, 1.0))
            ppl.deterministic("shifted", x + 1)
            with ppl.plate("columns", 2, dim=-2):
                k = ppl.sample("k", dist.Categorical(weights))
            y = ppl.sample("y", dist.Normal(x, 0.5), obs=data)
        return y.sum() + k.sum()

    def guide(data=None, rows=4):
        loc = ppl.param("loc", torch.tensor(0.5))
        ppl.sample("mu", dist.Normal(loc, 0.1))
        ppl.sample("weights", dist.Dirichlet(torch.ones(3)))
        with ppl.plate("rows", rows, dim=-1):
            ppl.sample("x", dist.Normal(0.0, 1.0))
            with ppl.plate("columns", 2, dim=-2):
                ppl.sample("k", dist.Categorical(torch.ones(3)))

    return model, guide


def samples(n=7):
    # Pyro takes a vector's draws in parallel only with the plates' dimensions written out.
    return {"mu": torch.randn(n), "weights": torch.full((n, 1, 1, 3), 1 / 3)}


CASES = [
    {"num_samples": 5},
    {"posterior_samples": samples()},
    {"posterior_samples": samples(), "return_sites": ["x", "mu"]},
    {"posterior_samples": samples(), "return_sites": ("y", "twice")},
    {"posterior_samples": samples(), "return_sites": None},
    {"posterior_samples": {"x": torch.zeros(6, 1, 4)}},
    {"guide": True, "num_samples": 5},
    {"guide": True, "num_samples": 5, "return_sites": ["y"]},
]


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("data", [None, torch.zeros(4)])
@pytest.mark.parametrize("case", CASES)
def test_names_and_shapes_are_pyros(case, data, parallel):
    shapes = []
    for ppl in (pplkit, pyro):
        model, guide = program(ppl, ppl.distributions)
        settings = {**case, "guide": guide if case.get("guide") else None}
        drawn = ppl.infer.Predictive(model, **settings, parallel=parallel)(data)
        shapes.append({name: tuple(value.shape) for name, value in drawn.items()})
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("parallel", [False, True])
def test_the_result_can_be_returned(parallel):
    model, _ = program(pplkit, dist)
    drawn = Predictive(model, samples(), return_sites=["_RETURN"], parallel=False)()
    assert list(drawn) == ["_RETURN"] and drawn["_RETURN"].shape == (7,)

    def words():
        sample("x", dist.Normal(0.0, 1.0))
        return "done"

    drawn = Predictive(words, num_samples=3, return_sites=["_RETURN"], parallel=parallel)()
    assert drawn["_RETURN"] in ("done", ["done"] * 3)


@pytest.mark.parametrize("parallel", [False, True])
def test_given_draws_are_used_row_by_row(parallel):
    def model():
        z = sample("z", dist.Normal(0.0, 1.0))
        deterministic("square", z**2)
        with plate("rows", 3):
            sample("x", dist.Delta(z + torch.arange(3.0)))

    z = torch.tensor([1.0, 5.0])
    drawn = Predictive(model, {"z": z}, parallel=parallel)()
    assert torch.equal(drawn["x"], z.unsqueeze(-1) + torch.arange(3.0))
    assert torch.equal(drawn["square"].reshape(-1), z**2)
    assert torch.equal(Predictive(model, {"z": z}, return_sites=["z"])()["z"].reshape(-1), z)


@pytest.mark.parametrize("parallel", [False, True])
def test_moments_of_a_conjugate_prediction(parallel):
    """x | z ~ N(z, 0.5), z ~ guide N(1, 0.3): variance 0.34."""

    def model():
        z = sample("z", dist.Normal(0.0, 1.0))
        with plate("data", 2):
            sample("x", dist.Normal(z, 0.5))

    def guide():
        sample("z", dist.Normal(param("loc", torch.tensor(1.0)), 0.3))

    n = 20_000 if parallel else 600
    with handlers.seed(rng_seed=0):
        drawn = Predictive(model, guide=guide, num_samples=n, parallel=parallel)()
    assert drawn["x"].shape == (n, 2) and not drawn["x"].requires_grad
    assert abs(drawn["x"].mean() - 1.0) < 4 * (0.34 / n) ** 0.5
    assert abs(drawn["x"][:, 0].var() - 0.34) < 0.34 * 5 * (2 / n) ** 0.5
    covariance = torch.cov(drawn["x"].T)[0, 1]
    assert abs(covariance - 0.09) < 5 * 0.35 / n**0.5


def test_draws_of_vectors_need_no_dimensions_for_plates():
    model, _ = program(pplkit, dist)
    given = {"mu": torch.randn(7), "weights": torch.full((7, 3), 1 / 3)}
    singly, at_once = Predictive(model, given)(), Predictive(model, given, parallel=True)()
    assert {n: v.shape for n, v in singly.items()} == {n: v.shape for n, v in at_once.items()}


def test_draws_of_different_rows_differ():
    def model():
        sample("x", dist.Normal(0.0, 1.0))

    for parallel in (False, True):
        assert len(Predictive(model, num_samples=50, parallel=parallel)()["x"].unique()) == 50


@pytest.mark.parametrize("make", [AutoNormal, AutoMultivariateNormal])
@pytest.mark.parametrize("parallel", [False, True])
def test_automatic_guides(make, parallel):
    def model(data=None):
        scale = sample("scale", dist.LogNormal(0.0, 1.0))
        with plate("data", 4):
            z = sample("z", dist.Normal(torch.zeros(2), scale.unsqueeze(-1)).to_event(1))
            sample("x", dist.Normal(z.sum(-1), 1.0), obs=data)

    guide = make(model)
    guide(torch.zeros(4))
    drawn = Predictive(model, guide=guide, num_samples=6, parallel=parallel)()
    assert drawn["x"].shape == (6, 4)
    assert drawn["z"].shape == (6, 4, 2) and drawn["scale"].shape == (6, 1)
    assert torch.isfinite(drawn["x"]).all()


def test_a_vectorised_trace():
    model, guide = program(pplkit, dist)
    run = Predictive(model, guide=guide, num_samples=5).get_vectorized_trace()
    assert run.nodes["y"].value.shape == (5, 1, 4)
    assert run.nodes["y"].log_prob.shape == (5, 1, 4)


def test_the_seed_decides():
    model, guide = program(pplkit, dist)
    predictive = Predictive(model, guide=guide, num_samples=4)
    with handlers.seed(rng_seed=1):
        first = predictive()
    with handlers.seed(rng_seed=1):
        second = predictive()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda m: Predictive(m), errors.UsageError, "Either posterior_samples or num_samples"),
        (lambda m: Predictive(m, {}), errors.UsageError, "Either posterior_samples or num_samples"),
        (lambda m: Predictive(3, num_samples=1), errors.UsageError, "model="),
        (lambda m: Predictive(m, guide=3, num_samples=1), errors.UsageError, "guide="),
        (lambda m: Predictive(m, num_samples=0), errors.UsageError, "num_samples"),
        (lambda m: Predictive(m, num_samples=2.0), errors.UsageError, "num_samples"),
        (lambda m: Predictive(m, num_samples=2, return_sites="x"), errors.UsageError, "names"),
        (
            lambda m: Predictive(m, samples(), guide=m, num_samples=7),
            errors.UsageError,
            "cannot be provided with the `guide` argument",
        ),
        (
            lambda m: Predictive(m, {"mu": torch.zeros(3), "x": torch.zeros(4, 1, 4)}),
            errors.ShapeError,
            r"(?s)different numbers of draws.*'mu': \(3,\), 'x': \(4, 1, 4\)",
        ),
        (lambda m: Predictive(m, {"mu": torch.tensor(1.0)}), errors.ShapeError, "numbers of draws"),
        (
            lambda m: Predictive(m, num_samples=2, return_sites=["yy"])(),
            errors.UsageError,
            "(?s)return_sites names 'yy'.*did you mean 'y'",
        ),
    ],
)
def test_wrong_arguments(build, error, message):
    model, _ = program(pplkit, dist)
    with pytest.raises(error, match=message):
        build(model)


def test_another_number_of_draws_is_told():
    model, _ = program(pplkit, dist)
    with pytest.warns(UserWarning, match="hold 7 draws, not num_samples=3"):
        assert Predictive(model, samples(), num_samples=3)()["y"].shape == (7, 1, 4)
