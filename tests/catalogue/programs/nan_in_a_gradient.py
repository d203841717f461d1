"""A gradient that is not a number

group: Numbers that fail
why: The square root is infinitely steep at 0: the loss is finite, its gradient is not.
cure: Keep the argument of `sqrt` away from 0: `(z * 0 + 1e-6).sqrt()`.
site: loc
"""


def model():
    mu = sample("mu", dist.Normal(0.0, 1.0))
    scale = 1.0 + (mu * 0).sqrt()
    sample("y", dist.Normal(mu, scale), obs=torch.tensor(2.0))


def guide():
    loc = param("loc", torch.tensor(0.0))  # <- here
    sample("mu", dist.Normal(loc, 1.0))


SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO()).step()
