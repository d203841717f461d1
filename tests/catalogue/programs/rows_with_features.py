"""A plate over rows, whose features were not declared one event

group: Shapes and plates
why: The data have 5 rows of 3 features. A plate takes the rightmost batch dimension, and there
stand the features.
cure: Three features of one row are one vector: `.to_event(1)` moves them out of the batch, and
the plate finds the rows.
site: x
"""

data = torch.zeros(5, 3)


def model():
    with plate("rows", 5):
        sample("x", dist.Normal(torch.zeros(3), 1.0), obs=data)  # <- here


handlers.trace(model).get_trace().log_prob_sum()
