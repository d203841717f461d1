"""An observation that the distribution cannot produce

group: Data
why: A Bernoulli variable is 0 or 1, and one of the data is 2: a typing error, or categories that
want another distribution.
cure: Look at the element named. For three categories use `dist.Categorical`, for counts
`dist.Poisson`.
site: y
"""

data = torch.tensor([0.0, 1.0, 2.0, 1.0])


def model():
    with plate("data", 4):
        sample("y", dist.Bernoulli(0.5), obs=data)  # <- here


handlers.trace(model).get_trace().log_prob_sum()
