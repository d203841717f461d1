"""A parameter by another library's name

group: Distributions and their parameters
why: Names of parameters differ between libraries: here a Normal has `loc` and `scale`.
cure: Use the names told, or give the parameters in their order.
site: -
"""


def model():
    return sample("x", dist.Normal(mean=0.0, std=1.0))  # <- here


model()
