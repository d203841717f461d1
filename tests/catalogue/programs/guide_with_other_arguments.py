"""A guide that takes other arguments than the model

group: Guide and model
why: `step` and `run` give the same arguments to both.
cure: Let the guide take what the model takes, even if it does not use it.
site: -
"""


def model(data):
    mu = sample("mu", dist.Normal(0.0, 1.0))
    sample("y", dist.Normal(mu, 1.0), obs=data)



def guide():
    loc = param("loc", torch.tensor(0.0))
    sample("mu", dist.Normal(loc, 1.0))


SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO()).step(torch.tensor(2.0))  # <- here
