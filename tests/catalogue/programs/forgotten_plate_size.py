"""A plate without a size

group: Shapes and plates
why: Whether the distribution inside is to be repeated 3 times or 300, only the size says.
cure: `plate("data", len(data))`.
site: data
"""


def model():
    with plate("data"):  # <- here
        return sample("x", dist.Normal(0.0, 1.0))


model()
