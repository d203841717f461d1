"""A guide's variable of another shape than the model's

group: Guide and model
why: The model's variable is one number, the guide draws three.
cure: Give the guide's parameters the shape that the model's variable has.
site: mu
"""


def model():
    mu = sample("mu", dist.Normal(0.0, 1.0))
    sample("y", dist.Normal(mu, 1.0), obs=torch.tensor(2.0))



def guide():
    loc = param("loc", torch.zeros(3))
    sample("mu", dist.Normal(loc, 1.0).to_event(1))  # <- here


SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO()).step()
