"""A parameter left out

group: Distributions and their parameters
why: A Gamma has a concentration and a rate; one of them alone is no distribution.
cure: Give both: `dist.Gamma(2.0, 1.0)`.
site: -
"""


def model():
    return sample("x", dist.Gamma(2.0))  # <- here


model()
