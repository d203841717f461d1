"""A plate whose size is not a whole number

group: Shapes and plates
why: Rows are counted. A division makes a float, even where nothing remains.
cure: Divide with `//`, or round: `int(...)`.
site: half
"""

data = torch.zeros(10)


def model():
    with plate("half", len(data) / 2):  # <- here
        return sample("x", dist.Normal(0.0, 1.0))


model()
