"""Looping over a plate without numbering the names

group: Names
why: `for i in plate(...)` runs its block once for every row, and every row is a random variable
of its own.
cure: Number the names, or write `with plate("data", 3):`, which makes all the rows in one
statement.
site: x
"""


def model():
    for i in plate("data", 3):
        sample("x", dist.Normal(0.0, 1.0))  # <- here


handlers.trace(model).get_trace().log_prob_sum()
