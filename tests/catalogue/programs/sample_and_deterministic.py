"""A computed value that takes the name of a random variable

group: Names
why: `deterministic` remembers a value in the same trace as the random variables; each name stands
there once.
cure: Give the computed value a name that says what was computed.
site: x
"""


def model():
    x = sample("x", dist.Normal(0.0, 1.0))
    return deterministic("x", x**2)  # <- here


handlers.trace(model).get_trace().log_prob_sum()
