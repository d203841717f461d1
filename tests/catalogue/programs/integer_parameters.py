"""Whole numbers as parameters

group: Distributions and their parameters
why: `torch.tensor(0)` is a tensor of integers, and draws of a Normal are not.
cure: None is needed: where real numbers are meant, whole ones become floating point.
site: x
"""


def model():
    return sample("x", dist.Normal(torch.tensor(0), torch.tensor(1)))  # <- here


model().dtype
