"""Model and guide in the wrong order

group: Guide and model
why: `SVI` takes the model first. The other way round, the model is a guide that observes.
cure: Write `SVI(model, guide, ...)`.
site: y
"""


def model():
    mu = sample("mu", dist.Normal(0.0, 1.0))
    sample("y", dist.Normal(mu, 1.0), obs=torch.tensor(2.0))  # <- here



def guide():
    loc = param("loc", torch.tensor(0.0))
    sample("mu", dist.Normal(loc, 1.0))


SVI(guide, model, Adam({"lr": 0.1}), Trace_ELBO()).step()
