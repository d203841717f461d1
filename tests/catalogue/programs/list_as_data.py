"""A list of numbers as data

group: Data
why: Small data are most easily typed as a list.
cure: None is needed: lists of numbers become tensors.
site: y
"""


def model():
    with plate("data", 3):
        sample("y", dist.Normal(0.0, 1.0), obs=[1.2, 0.7, 2.1])  # <- here


handlers.trace(model).get_trace().log_prob_sum()
