"""Data that are text

group: Data
why: A table read from a file often holds its numbers as text.
cure: Convert them: `torch.tensor([float(v) for v in column])`.
site: y
"""

column = ["1.2", "0.7", "2.1"]


def model():
    with plate("data", 3):
        sample("y", dist.Normal(0.0, 1.0), obs=column)  # <- here


handlers.trace(model).get_trace().log_prob_sum()
