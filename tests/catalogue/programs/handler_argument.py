"""A misspelt argument of a handler

group: Handlers
why: The handler has no such argument, so what it was to do is unknown.
cure: Use the name that the message suggests.
site: -
"""


def model():
    return sample("x", dist.Normal(0.0, 1.0))


handlers.seed(model, rng_sed=0)  # <- here
