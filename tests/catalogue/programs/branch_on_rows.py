"""`if` on a value with several rows

group: Statements
why: Inside a plate a statement makes all rows at once. `if` can go only one way, and the rows
differ.
cure: Choose row by row with `torch.where(z > 0, 1.0, 5.0)`, or go through the rows in a loop,
`for i in plate(...)`, with names that are numbered.
site: data
"""


def model():
    with plate("data", 3):
        z = sample("z", dist.Normal(0.0, 1.0))
        scale = 1.0 if z > 0 else 5.0  # <- here
        return sample("y", dist.Normal(z, scale))


model()
