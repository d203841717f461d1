"""A guide that returns distributions

group: Guide and model
why: A guide says what it believes by `sample` statements. What it returns is not looked at.
cure: Draw from the distribution, under the model's name: `sample("mu", ...)`.
site: mu
"""


def model():
    mu = sample("mu", dist.Normal(0.0, 1.0))  # <- here
    sample("y", dist.Normal(mu, 1.0), obs=torch.tensor(2.0))


def guide():
    loc = param("loc", torch.tensor(0.0))
    return dist.Normal(loc, 1.0)


SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO()).step()
