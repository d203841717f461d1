"""A plate of the guide that the model lacks

group: Guide and model
why: The guide draws the variable once for each row, the model has it once.
cure: Take the statement out of the guide's plate.
site: mu
"""


def model():
    mu = sample("mu", dist.Normal(0.0, 1.0))
    sample("y", dist.Normal(mu, 1.0), obs=torch.tensor(2.0))



def guide():
    loc = param("loc", torch.tensor(0.0))
    with plate("rows", 3):
        sample("mu", dist.Normal(loc, 1.0))  # <- here


SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO()).step()
