"""A missing value among the data

group: Data
why: NaN marks a missing value in many tables. Its probability is NaN, and so is everything
computed from it.
cure: Leave such rows out; or keep them and say which are there: `obs_mask=~data.isnan()`, with
any number in the place of NaN.
site: y
"""

data = torch.tensor([1.2, float("nan"), 2.1])


def model():
    with plate("data", 3):
        sample("y", dist.Normal(0.0, 1.0), obs=data)  # <- here


handlers.trace(model).get_trace().log_prob_sum()
