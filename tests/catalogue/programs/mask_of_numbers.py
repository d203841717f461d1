"""A mask of row numbers instead of truth values

group: Data
why: `obs_mask` says for each row whether it is observed, so it is a tensor of `True` and `False`.
cure: Compare: `obs_mask=~data.isnan()`.
site: y
"""

data = torch.tensor([1.2, 0.0, 2.1])


def model():
    with plate("data", 3):
        sample("y", dist.Normal(0.0, 1.0), obs=data, obs_mask=[0, 2])  # <- here


handlers.trace(model).get_trace().log_prob_sum()
