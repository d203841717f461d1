"""A NumPy array as data

group: Data
why: Data often come from NumPy or a table, not as tensors.
cure: None is needed: arrays become tensors.
site: y
"""

data = np.array([1.2, 0.7, 2.1])


def model():
    with plate("data", 3):
        sample("y", dist.Normal(0.0, 1.0), obs=data)  # <- here


handlers.trace(model).get_trace().log_prob_sum()
