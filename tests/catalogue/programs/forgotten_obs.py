"""Data in a sample statement without `obs=`

group: Statements
why: What follows the distribution is not data unless it is called `obs`; without it the variable
would be drawn, and the data never used.
cure: Write `obs=`: `sample("y", dist.Normal(0.0, 1.0), obs=y)`.
site: y
"""

y = torch.tensor(2.0)


def model():
    return sample("y", dist.Normal(0.0, 1.0), y)  # <- here


model()
