"""A plate of the model that the guide lacks

group: Guide and model
why: In the model there is one variable for each row, in the guide one for all.
cure: Put the guide's statement into a plate of the same name and size.
site: z
"""


def model():
    with plate("rows", 3):
        z = sample("z", dist.Normal(0.0, 1.0))
        sample("y", dist.Normal(z, 1.0), obs=torch.ones(3))


def guide():
    loc = param("loc", torch.tensor(0.0))
    sample("z", dist.Normal(loc, 1.0))  # <- here


SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO()).step()
