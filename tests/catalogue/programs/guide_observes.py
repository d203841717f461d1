"""A guide with data

group: Guide and model
why: The guide says what is believed of the unknown. Data in it are counted a second time, against
the guide.
cure: Keep `obs=` in the model alone.
site: y
"""


def model():
    mu = sample("mu", dist.Normal(0.0, 1.0))
    sample("y", dist.Normal(mu, 1.0), obs=torch.tensor(2.0))



def guide():
    mu = sample("mu", dist.Normal(param("loc", torch.tensor(0.0)), 1.0))
    sample("y", dist.Normal(mu, 1.0), obs=torch.tensor(2.0))  # <- here


SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO()).step()
