"""Whole numbers as the start of what is to be learnt

group: Parameters
why: A learnt parameter moves by small steps along its gradient, and integers have none.
cure: Write the point: `torch.tensor(0.0)`.
site: loc
"""


def guide():
    loc = param("loc", torch.tensor(0))  # <- here
    return sample("mu", dist.Normal(loc, 1.0))


guide()
