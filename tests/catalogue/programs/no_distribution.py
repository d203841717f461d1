"""A number in the place of a distribution

group: Statements
why: A sample statement draws from a distribution; a number has nothing to draw.
cure: State how uncertain you are, `dist.Normal(0.5, 0.1)`, or call the value what it is:
`deterministic("p", 0.5)`, or `param` if it is to be learnt.
site: p
"""


def model():
    p = sample("p", 0.5)  # <- here
    return sample("y", dist.Bernoulli(p))


model()
