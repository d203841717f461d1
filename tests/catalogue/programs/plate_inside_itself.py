"""A plate entered inside itself

group: Shapes and plates
why: Every row of `data` would hold all rows of `data`.
cure: Give the inner plate its own name, or close the outer block first.
site: data
"""

data = plate("data", 3)


def model():
    with data:
        mu = sample("mu", dist.Normal(0.0, 1.0))
        with data:  # <- here
            sample("y", dist.Normal(mu, 1.0))


model()
