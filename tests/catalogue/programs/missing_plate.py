"""Several data points and no plate

group: Shapes and plates
why: Three log-probabilities come out of one statement, and nothing says that they are three
independent observations.
cure: Say so with a plate: `with plate("data", len(data)):`.
site: y
"""

data = torch.tensor([1.2, 0.7, 2.1])


def model():
    mu = sample("mu", dist.Normal(0.0, 1.0))
    sample("y", dist.Normal(mu, 1.0), obs=data)  # <- here


def guide():
    sample("mu", dist.Normal(param("loc", torch.tensor(0.0)), 1.0))


SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO()).step()
