"""A plain Python number as data

group: Data
why: Observed values are tensors, and a single observation is easily written as a number.
cure: None is needed: numbers become tensors.
site: y
"""


def model():
    sample("y", dist.Normal(0.0, 1.0), obs=2.0)  # <- here


handlers.trace(model).get_trace().log_prob_sum()
