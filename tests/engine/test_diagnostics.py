"""Draws through ArviZ: groups, names of dimensions, log-likelihoods; held against the model."""

import sys

import pytest
import torch

import pplkit.distributions as dist
from pplkit import deterministic, errors, factor, handlers, plate, sample
from pplkit.infer import MCMC, NUTS, Importance, to_arviz
from pplkit.infer.autoguide import AutoNormal
from pplkit.infer.reparam import LocScaleReparam

az = pytest.importorskip("arviz")

EFFECT = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERROR = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
NAMES = list("ABCDEFGH")


def schools(effect=EFFECT, error=ERROR):
    mu = sample("mu", dist.Normal(0.0, 5.0))
    tau = sample("tau", dist.HalfNormal(5.0))
    with plate("school", len(effect)):
        theta = sample("theta", dist.Normal(mu, tau))
        deterministic("excess", theta - mu)
        sample("y", dist.Normal(theta, error), obs=effect)


NON_CENTRED = handlers.reparam(schools, config={"theta": LocScaleReparam(0.0)})


def draws(number=40):
    torch.manual_seed(0)
    return {
        "mu": torch.randn(number) + 4,
        "tau": torch.rand(number) * 5 + 1,
        "theta": torch.randn(number, 8) * 3 + 4,
    }


def test_plates_are_dimensions_and_coordinates():
    data = to_arviz(draws(), schools, num_chains=4, coords={"school": NAMES})
    theta = data.posterior["theta"]
    assert theta.dims == ("chain", "draw", "school") and theta.shape == (4, 10, 8)
    assert list(theta["school"].values) == NAMES
    assert theta.sel(school="C", chain=1, draw=2).item() == draws()["theta"][12, 2]
    assert data.posterior["mu"].dims == ("chain", "draw")
    assert data.observed_data["y"].dims == ("school",)
    assert torch.equal(torch.as_tensor(data.observed_data["y"].values), EFFECT)
    plain = to_arviz(draws(), schools)
    assert list(plain.posterior["school"].values) == list(range(8))


def test_deterministic_sites_are_computed_from_the_draws():
    given = draws()
    data = to_arviz(given, schools)
    excess = torch.as_tensor(data.posterior["excess"].values)[0]
    assert torch.allclose(excess, given["theta"] - given["mu"][:, None])
    rest = {"mu": given["mu"], "tau": given["tau"], "theta_decentered": torch.randn(40, 8)}
    data = to_arviz(rest, NON_CENTRED)
    theta = torch.as_tensor(data.posterior["theta"].values)[0]
    expected = rest["mu"][:, None] + rest["tau"][:, None] * rest["theta_decentered"]
    assert torch.allclose(theta, expected, atol=1e-5)
    assert data.posterior["theta"].dims == ("chain", "draw", "school")


def test_log_likelihoods_and_cross_validation():
    given = draws(400)
    data = to_arviz(given, schools)
    there = torch.as_tensor(data.log_likelihood["y"].values)[0]
    by_hand = dist.Normal(given["theta"], ERROR).log_prob(EFFECT)
    assert torch.allclose(there, by_hand, atol=1e-5)
    assert data.log_likelihood["y"].dims == ("chain", "draw", "school")
    direct = az.from_dict(
        posterior={"mu": given["mu"][None].numpy()},
        log_likelihood={"y": by_hand[None].numpy()},
    )
    assert abs(az.loo(data).elpd_loo - az.loo(direct).elpd_loo) < 1e-3
    assert abs(az.waic(data).elpd_waic - az.waic(direct).elpd_waic) < 1e-3


def test_log_likelihoods_are_neither_scaled_nor_masked_out_of_shape():
    seen = torch.tensor([True, False, True])

    def model():
        z = sample("z", dist.Normal(0.0, 1.0))
        with plate("rows", 3), handlers.mask(mask=seen), handlers.scale(scale=2.0):
            sample("y", dist.Normal(z, 1.0), obs=torch.zeros(3))
        factor("prior_odds", -z)

    z = torch.randn(5)
    data = to_arviz({"z": z}, model)
    expected = dist.Normal(z[:, None], 1.0).log_prob(torch.zeros(3)) * seen
    assert torch.allclose(torch.as_tensor(data.log_likelihood["y"].values)[0], expected)
    assert list(data.log_likelihood) == ["y"]


def test_a_model_that_sums_over_rows_is_run_draw_by_draw():
    def model():
        with plate("rows", 3):
            w = sample("w", dist.Normal(0.0, 1.0))
        total = deterministic("total", w.sum())
        sample("y", dist.Normal(total, 1.0), obs=torch.tensor(1.0))

    w = torch.randn(6, 3)
    data = to_arviz({"w": w}, model)
    assert torch.allclose(torch.as_tensor(data.posterior["total"].values)[0], w.sum(-1))
    expected = dist.Normal(w.sum(-1), 1.0).log_prob(torch.tensor(1.0))
    assert torch.allclose(torch.as_tensor(data.log_likelihood["y"].values)[0], expected)


def test_nested_plates_and_events_keep_their_places():
    def model():
        with plate("columns", 3, dim=-2):
            v = sample("v", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            with plate("rows", 4, dim=-1):
                sample("y", dist.Normal(v.sum(-1), 1.0), obs=torch.arange(12.0).reshape(3, 4))

    v = torch.randn(5, 3, 1, 2)
    data = to_arviz({"v": v}, model)
    assert data.posterior["v"].dims == ("chain", "draw", "columns", "v_dim_2")
    assert data.log_likelihood["y"].dims == ("chain", "draw", "columns", "rows")
    expected = dist.Normal(v.sum(-1), 1.0).log_prob(torch.arange(12.0).reshape(3, 4))
    assert torch.allclose(torch.as_tensor(data.log_likelihood["y"].values)[0], expected, atol=1e-5)
    named = to_arviz({"v": v}, model, dims={"v": ["columns", "axis"]})
    assert named.posterior["v"].dims == ("chain", "draw", "columns", "axis")


def test_prior_and_predictions():
    with handlers.seed(rng_seed=0):
        data = to_arviz(draws(400), schools, prior=300, posterior_predictive=True, num_chains=2)
    assert data.posterior_predictive["y"].shape == (2, 200, 8)
    assert set(data.prior) == {"mu", "tau", "theta", "excess"} and set(data.prior_predictive) == {
        "y"
    }
    assert data.prior["theta"].shape == (1, 300, 8)
    assert abs(float(data.prior["mu"].std()) - 5.0) < 1.0
    residual = data.posterior_predictive["y"] - data.posterior["theta"]
    assert abs(float(residual.sel(school=0).std()) - 15.0) < 2.0
    given = {"y": torch.zeros(40, 8)}
    data = to_arviz(draws(), schools, posterior_predictive=given)
    assert data.posterior_predictive["y"].dims == ("chain", "draw", "school")


def test_chains_bring_their_statistics():
    mcmc = MCMC(NUTS(NON_CENTRED), 30, 20, num_chains=2, seed=0, compile=False)
    mcmc.run(EFFECT, ERROR)
    data = to_arviz(mcmc, coords={"school": NAMES})
    stats = data.sample_stats
    assert set(stats) == {"acceptance_rate", "diverging", "energy", "n_steps", "lp"}
    assert stats["energy"].shape == (2, 30) and stats["diverging"].dtype == bool
    extra = mcmc.get_extra_fields(group_by_chain=True)
    assert torch.equal(torch.as_tensor(stats["lp"].values), -extra["potential_energy"])
    assert torch.equal(torch.as_tensor(stats["n_steps"].values), extra["num_steps"])
    drawn = mcmc.get_samples(group_by_chain=True)["mu"]
    assert torch.equal(torch.as_tensor(data.posterior["mu"].values), drawn)
    assert data.posterior["theta"].dims == ("chain", "draw", "school")
    assert az.bfmi(data).shape == (2,) and "r_hat" in az.summary(data).columns
    assert data.log_likelihood["y"].shape == (2, 30, 8)


def test_a_guide_and_weighted_draws():
    guide = AutoNormal(schools)
    guide()
    with handlers.seed(rng_seed=0):
        data = to_arviz(guide, schools, num_samples=50)
        posterior = Importance(schools, num_samples=500).run(EFFECT, ERROR)
        weighted = to_arviz(posterior, num_samples=200)
    assert set(data.posterior) == {"mu", "tau", "theta", "excess"}
    assert data.posterior["theta"].shape == (1, 50, 8) and data.log_likelihood["y"].shape[1] == 50
    values = posterior.get_samples()["mu"]
    assert weighted.posterior["mu"].shape == (1, 200)
    assert set(weighted.posterior["mu"].values.ravel()) <= set(values.tolist())


def mixture():
    z = sample("z", dist.Normal(0.0, 1.0))
    k = sample("k", dist.Bernoulli(torch.tensor(0.5)))
    sample("y", dist.Normal(z + k, 1.0), obs=torch.tensor(0.0))


def test_without_all_latent_variables_there_is_no_log_likelihood():
    data = to_arviz({"z": torch.randn(5)}, mixture)
    assert "log_likelihood" not in data.groups() and "observed_data" in data.groups()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: to_arviz(3), errors.UsageError, "(?s)source=.*a guide, or draws by name"),
        (lambda: to_arviz({}), errors.ShapeError, "different numbers of draws"),
        (
            lambda: to_arviz({"a": torch.zeros(3), "b": torch.zeros(4)}),
            errors.ShapeError,
            "different numbers of draws",
        ),
        (lambda: to_arviz(draws(), schools, EFFECT), errors.UsageError, r"(?s)tuple: \(data,\)"),
        (lambda: to_arviz(draws(), 3), errors.UsageError, "model="),
        (lambda: to_arviz(draws(), schools, num_chains=7), errors.ShapeError, "fall into chains"),
        (lambda: to_arviz(draws(), schools, num_chains=0), errors.UsageError, "at least 1"),
        (lambda: to_arviz(draws(), prior=3), errors.UsageError, "needs model="),
        (lambda: to_arviz(draws(), schools, prior=0), errors.UsageError, "prior"),
        (lambda: to_arviz(AutoNormal(schools)), errors.UsageError, "needs model="),
        (lambda: to_arviz(Importance(schools)), errors.UsageError, "not been run"),
        (lambda: to_arviz(MCMC(NUTS(schools), 3)), errors.PplkitError, "(?i)run"),
        (
            lambda: to_arviz({"z": torch.zeros(3)}, mixture, log_likelihood=True),
            errors.UsageError,
            "(?s)no draws of 'k'",
        ),
        (
            lambda: to_arviz(draws(), schools, coords={"school": ["A"]}),
            errors.ShapeError,
            "1 labels for 8 rows",
        ),
        (
            lambda: to_arviz(draws(), schools, coords={"scool": NAMES}),
            errors.UsageError,
            "(?s)'scool'.*did you mean 'school'",
        ),
        (
            lambda: to_arviz(draws(), schools, dims={"theta": ["a", "b"]}),
            errors.ShapeError,
            "(?s)'theta'.*1 names",
        ),
        (lambda: to_arviz(draws(), schools, dims=["school"]), errors.UsageError, "a dictionary"),
    ],
)
def test_mistakes_are_told(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_missing_or_unknown_arviz_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match="to_arviz needs the package 'arviz'"):
        to_arviz(draws(), schools)
    newer = type(sys)("arviz")
    newer.__version__ = "1.2.0"
    monkeypatch.setitem(sys.modules, "arviz", newer)
    with pytest.raises(errors.UsageError, match="(?s)1.2.0.*before 1"):
        to_arviz(draws(), schools)
