"""A plate around a distribution that is already batched

group: Shapes and plates
why: The distribution is three variables by itself. The plate wants to repeat one variable ten
times, along the dimension that the three occupy.
cure: If ten vectors of three are meant, declare the vector: `.to_event(1)`. If the three are the
rows, let the plate repeat a single `dist.Normal(0.0, 1.0)`.
site: x
"""


def model():
    with plate("draws", 10):
        return sample("x", dist.Normal(torch.zeros(3), 1.0))  # <- here


model()
