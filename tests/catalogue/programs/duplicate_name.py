"""Two sample statements with one name

group: Names
why: A name says which random variable is meant: to the guide, to `condition`, in the posterior. Two
variables of one name cannot be told apart.
cure: Give each its own name. In a loop, put the counter into it: `sample(f"x_{i}", ...)`.
site: x
"""


def model():
    first = sample("x", dist.Normal(0.0, 1.0))
    second = sample("x", dist.Normal(0.0, 1.0))  # <- here
    return first + second


handlers.trace(model).get_trace().log_prob_sum()
