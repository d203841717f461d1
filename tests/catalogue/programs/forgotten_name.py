"""A sample statement without a name

group: Names
why: The name is what guides, handlers and posteriors know a random variable by, so it comes
first.
cure: Write the name first: `sample("x", dist.Normal(0.0, 1.0))`.
site: -
"""


def model():
    return sample(dist.Normal(0.0, 1.0))  # <- here


model()
