"""A sample statement with nothing but a name

group: Statements
why: There is nothing to draw from.
cure: Give the distribution second: `sample("x", dist.Normal(0.0, 1.0))`. To read a parameter,
call `param("x")`.
site: x
"""


def model():
    return sample("x")  # <- here


model()
