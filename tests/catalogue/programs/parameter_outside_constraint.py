"""A parameter that starts outside its constraint

group: Parameters
why: A positive parameter is kept as its logarithm, and a negative number has none.
cure: Start inside: `param("scale", torch.tensor(1.0), constraint=constraints.positive)`.
site: scale
"""


def guide():
    scale = param("scale", torch.tensor(-1.0), constraint=constraints.positive)  # <- here
    return sample("x", dist.Normal(0.0, scale))


guide()
