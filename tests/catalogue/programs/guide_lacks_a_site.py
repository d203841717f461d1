"""A variable that the guide forgets

group: Guide and model
why: Each variable that the model draws and does not observe needs a guess, which the guide makes.
cure: Add a `sample` statement of this name to the guide, or observe the site.
site: tau
"""


def model():
    mu = sample("mu", dist.Normal(0.0, 1.0))
    tau = sample("tau", dist.Gamma(2.0, 1.0))  # <- here
    sample("y", dist.Normal(mu, tau), obs=torch.tensor(2.0))



def guide():
    loc = param("loc", torch.tensor(0.0))
    sample("mu", dist.Normal(loc, 1.0))


SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO()).step()
