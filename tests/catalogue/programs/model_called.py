"""A model that was run instead of handed over

group: Inference
why: `model()` runs the model and hands over its result. Inference must run it itself, many times.
cure: Leave the brackets out: `SVI(model, guide, ...)`.
site: -
"""


def model():
    mu = sample("mu", dist.Normal(0.0, 1.0))
    sample("y", dist.Normal(mu, 1.0), obs=torch.tensor(2.0))



def guide():
    loc = param("loc", torch.tensor(0.0))
    sample("mu", dist.Normal(loc, 1.0))


svi = SVI(model(), guide, Adam({"lr": 0.1}), Trace_ELBO())  # <- here
