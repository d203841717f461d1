"""An observation beyond the bounds of a Uniform

group: Data
why: A Uniform gives no probability at all beyond its ends: one such point, and the
log-probability of all is minus infinity.
cure: Widen the bounds to where data can be, or use a distribution without bounds.
site: y
"""

data = torch.tensor([[0.3, 0.8], [1.5, 0.1]])


def model():
    with plate("columns", 2), plate("rows", 2):
        sample("y", dist.Uniform(0.0, 1.0), obs=data)  # <- here


handlers.trace(model).get_trace().log_prob_sum()
