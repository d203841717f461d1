"""`.to_event` of more dimensions than there are

group: Shapes and plates
why: The distribution has one batch dimension; two cannot be declared parts of one variable.
cure: `.to_event(1)`, or, for all there are, `.to_event()`.
site: -
"""


def model():
    return sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(2))  # <- here


model()
