"""A covariance matrix that is none

group: Distributions and their parameters
why: With variances 1 and a covariance of 2 the correlation would be 2. A covariance matrix is
symmetric and positive definite.
cure: Build it from standard deviations and a correlation matrix, or learn its Cholesky factor:
`scale_tril=`, with `constraint=constraints.lower_cholesky`.
site: x
"""

cov = torch.tensor([[1.0, 2.0], [2.0, 1.0]])


def model():
    return sample("x", dist.MultivariateNormal(torch.zeros(2), cov))  # <- here


model()
