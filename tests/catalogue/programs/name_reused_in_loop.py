"""A loop that samples the same name again and again

group: Names
why: Each turn of the loop is a random variable of its own, and all of them are called `y`.
cure: Put the counter into the name, or, better, make all rows at once in a plate: `with
plate("data", len(data)): sample("y", ..., obs=data)`.
site: y
"""

data = torch.tensor([1.2, 0.7, 2.1])


def model():
    mu = sample("mu", dist.Normal(0.0, 1.0))
    for row in data:
        sample("y", dist.Normal(mu, 1.0), obs=row)  # <- here


handlers.trace(model).get_trace().log_prob_sum()
