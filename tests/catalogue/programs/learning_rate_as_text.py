"""A learning rate in quotes

group: Inference
why: A text is no number, even if it looks like one.
cure: Leave the quotes out.
site: -
"""


def model():
    mu = sample("mu", dist.Normal(0.0, 1.0))
    sample("y", dist.Normal(mu, 1.0), obs=torch.tensor(2.0))



def guide():
    loc = param("loc", torch.tensor(0.0))
    sample("mu", dist.Normal(loc, 1.0))


SVI(model, guide, Adam({"lr": "0.1"}), Trace_ELBO()).step()  # <- here
