"""Observations of another length than the distribution's vectors

group: Shapes and plates
why: The distribution is over vectors of 2 numbers, each row of the data has 3.
cure: Make mean and covariance as wide as the data, or choose the columns that are meant: `data[:,
:2]`.
site: x
"""

data = torch.zeros(5, 3)


def model():
    with plate("rows", 5):
        d = dist.MultivariateNormal(torch.zeros(2), torch.eye(2))
        sample("x", d, obs=data)  # <- here


handlers.trace(model).get_trace().log_prob_sum()
