"""A family of distributions without its parameters

group: Statements
why: `dist.Normal` is the whole family; a distribution is one member of it.
cure: Call it with its parameters: `dist.Normal(0.0, 1.0)`.
site: x
"""


def model():
    return sample("x", dist.Normal)  # <- here


model()
