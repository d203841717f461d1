"""A parameter that is not a number

group: Distributions and their parameters
why: A computation before the statement gave NaN, here the logarithm of a negative number, and the
distribution is where it comes to light.
cure: Follow the named parameter back to where it was computed.
site: y
"""

x = torch.tensor([2.0, -1.0, 3.0])


def model():
    with plate("data", 3):
        return sample("y", dist.Normal(x.log(), 1.0))  # <- here


model()
