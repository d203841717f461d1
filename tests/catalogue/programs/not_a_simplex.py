"""Percentages where proportions are meant

group: Data
why: A Dirichlet variable is a vector of proportions, which sum to 1; these sum to 100.
cure: Divide by the sum: `shares / shares.sum(-1, keepdim=True)`.
site: shares
"""

shares = torch.tensor([20.0, 30.0, 50.0])


def model():
    sample("shares", dist.Dirichlet(torch.ones(3)), obs=shares)  # <- here


handlers.trace(model).get_trace().log_prob_sum()
