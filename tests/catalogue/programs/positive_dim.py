"""A plate's dimension counted from the left

group: Shapes and plates
why: Plates count dimensions from the right, where they stay when an outer plate adds one on the
left.
cure: The rightmost is `dim=-1`, the next to its left `dim=-2`; without `dim=` the plate chooses.
site: data
"""


def model():
    with plate("data", 3, dim=0):  # <- here
        return sample("x", dist.Normal(0.0, 1.0))


model()
