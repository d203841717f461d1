"""The data in the place of their number

group: Shapes and plates
why: A plate is told how many rows there are, not which.
cure: `plate("data", len(data))`.
site: data
"""

data = torch.tensor([1.2, 0.7, 2.1])


def model():
    with plate("data", data):  # <- here
        sample("y", dist.Normal(0.0, 1.0), obs=data)


model()
