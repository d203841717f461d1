"""A guide that has a parameter where it should draw

group: Guide and model
why: The model draws `mu`; in the guide the name is a parameter's, and nothing is drawn.
cure: Give the parameter a name of its own, and draw: `sample("mu", dist.Delta(loc))` for a single
value.
site: mu
"""


def model():
    mu = sample("mu", dist.Normal(0.0, 1.0))  # <- here
    sample("y", dist.Normal(mu, 1.0), obs=torch.tensor(2.0))


def guide():
    return param("mu", torch.tensor(0.0))


SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO()).step()
