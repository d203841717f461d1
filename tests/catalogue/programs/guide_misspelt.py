"""A name that guide and model write differently

group: Guide and model
why: The guide proposes values for the model's variables, by their names. A misspelt one is a
variable that the model does not have.
cure: Use the model's name.
site: muu
"""


def model():
    mu = sample("mu", dist.Normal(0.0, 1.0))
    sample("y", dist.Normal(mu, 1.0), obs=torch.tensor(2.0))



def guide():
    loc = param("loc", torch.tensor(0.0))
    sample("muu", dist.Normal(loc, 1.0))  # <- here


SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO()).step()
