"""A guide that draws negative numbers for a positive variable

group: Guide and model
why: A normal guide draws any real number, the model's variable is positive. The first negative draw
has probability 0 under the model; it may come after a thousand steps.
cure: Draw it from a family on the same support: LogNormal or Gamma here, Beta between 0 and 1.
site: rate
"""


def model():
    rate = sample("rate", dist.Gamma(2.0, 1.0))
    sample("y", dist.Poisson(rate), obs=torch.tensor(3.0))


def guide():
    loc = param("loc", torch.tensor(2.0))
    sample("rate", dist.Normal(loc, 0.1))  # <- here


SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO()).step()
