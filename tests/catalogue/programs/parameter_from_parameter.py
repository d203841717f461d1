"""A parameter that starts at another one's value

group: Parameters
why: A parameter is a tensor of its own. It starts at the value, and after that does not follow it.
cure: Compute what follows from a parameter, without `param`; or start from `.detach()`.
site: double
leaves: loc double
"""


def guide():
    loc = param("loc", torch.tensor(1.0))
    double = param("double", 2 * loc)  # <- here
    return sample("x", dist.Normal(double, 1.0))


guide()
