"""Lower and upper bound exchanged

group: Distributions and their parameters
why: There is no number that is at least 2 and at most 1.
cure: The lower bound comes first: `dist.Uniform(1.0, 2.0)`.
site: x
"""


def model():
    return sample("x", dist.Uniform(2.0, 1.0))  # <- here


model()
