"""A parameter that nothing can move

group: Parameters
why: `.item()`, `float()` and `.detach()` make a plain number of a parameter. The loss no longer
depends on it as far as gradients can see, so it stays where it started.
cure: Use the parameter as the tensor it is.
site: loc
leaves: loc
"""


def model():
    mu = sample("mu", dist.Normal(0.0, 1.0))
    sample("y", dist.Normal(mu, 1.0), obs=torch.tensor(2.0))


def guide():
    loc = param("loc", torch.tensor(0.0)).item()  # <- here
    sample("mu", dist.Normal(loc, 1.0))


svi = SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO())
[svi.step() for _ in range(3)]
get_param_store()["loc"]
