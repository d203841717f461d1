"""A number in the place of a name

group: Names
why: Names are looked up, printed and misspelt; all of that is done with strings.
cure: Make a string of it: `f"x_{i}"`.
site: -
"""


def model():
    for i in range(3):
        sample(i, dist.Normal(0.0, 1.0))  # <- here


handlers.trace(model).get_trace().log_prob_sum()
