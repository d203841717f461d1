"""A class in the place of a loss

group: Inference
why: A loss has settings, such as the number of particles; it is made by calling its class.
cure: Write `Trace_ELBO()`, with brackets.
site: -
"""


def model():
    mu = sample("mu", dist.Normal(0.0, 1.0))
    sample("y", dist.Normal(mu, 1.0), obs=torch.tensor(2.0))



def guide():
    loc = param("loc", torch.tensor(0.0))
    sample("mu", dist.Normal(loc, 1.0))


svi = SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO)  # <- here
