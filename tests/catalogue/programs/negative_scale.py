"""A negative standard deviation

group: Distributions and their parameters
why: A standard deviation is positive. This one was learnt, or drawn, without being told so.
cure: Draw it from a distribution of positive numbers, as `dist.HalfNormal(1.0)`; learn it with
`param(..., constraint=constraints.positive)`.
site: y
leaves: sigma
"""


def model():
    sigma = param("sigma", torch.tensor(-0.4))
    return sample("y", dist.Normal(0.0, sigma))  # <- here


model()
