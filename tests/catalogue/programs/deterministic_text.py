"""A text as a computed value

group: Statements
why: Computed values stand in traces and posteriors beside the draws, as tensors.
cure: Return texts from the model, or number the categories.
site: label
"""


def model():
    x = sample("x", dist.Normal(0.0, 1.0))
    return deterministic("label", "low" if x < 0 else "high")  # <- here


handlers.trace(model).get_trace().log_prob_sum()
