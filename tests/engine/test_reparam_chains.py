"""Eight schools (Rubin, 1981): what the non-centred form is for."""

import warnings

import pytest
import torch

import pplkit.distributions as dist
from pplkit import errors, handlers, plate, sample
from pplkit.infer import MCMC, NUTS, to_arviz
from pplkit.infer.reparam import AutoReparam, LocScaleReparam

EFFECT = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERROR = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def schools(effect, error):
    mu = sample("mu", dist.Normal(0.0, 5.0))
    tau = sample("tau", dist.HalfCauchy(5.0))
    with plate("school", len(effect)):
        theta = sample("theta", dist.Normal(mu, tau))
        sample("y", dist.Normal(theta, error), obs=effect)


def chains(model):
    mcmc = MCMC(NUTS(model), 600, 600, num_chains=4, seed=0, progress_bar=False, compile=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.PplkitWarning)  # of the divergences counted here
        mcmc.run(EFFECT, ERROR)
    return mcmc


@pytest.mark.long
def test_the_centred_form_diverges_and_the_non_centred_does_not():
    centred = chains(schools)
    written = chains(handlers.reparam(schools, config={"theta": LocScaleReparam(0.0)}))
    lost = centred.get_extra_fields()["diverging"].sum()
    kept = written.get_extra_fields()["diverging"].sum()
    assert lost >= 10 and kept <= 2
    # Where the centred form cannot go, the funnel's neck, the non-centred does.
    small = written.get_samples()["tau"].quantile(0.02)
    assert small < 0.5 * centred.get_samples()["tau"].quantile(0.02)
    data = to_arviz(written, coords={"school": list("ABCDEFGH")})
    theta = torch.as_tensor(data.posterior["theta"].values)
    assert data.posterior["theta"].dims == ("chain", "draw", "school")
    assert abs(theta[..., 0].mean() - 6.2) < 0.6  # the school of the largest effect, shrunk
    assert abs(float(data.posterior["mu"].mean()) - 4.4) < 0.5


@pytest.mark.long
def test_an_automatic_strategy_does_as_well():
    written = chains(AutoReparam(centered=0.0)(schools))
    assert "theta_decentered" in written.get_samples()
    assert written.get_extra_fields()["diverging"].sum() <= 2
    assert abs(written.get_samples()["tau"].median() - 2.8) < 0.6
