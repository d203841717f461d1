"""One plate's name with two sizes

group: Shapes and plates
why: A plate is a population, and a name stands for one of them: `data` cannot have 3 members in
one line and 4 in another.
cure: Two populations need two names.
site: data
"""


def model():
    with plate("data", 3):
        sample("x", dist.Normal(0.0, 1.0))
    with plate("data", 4):  # <- here
        sample("y", dist.Normal(0.0, 1.0))


handlers.trace(model).get_trace().log_prob_sum()
