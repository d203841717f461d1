"""Data in a column, predictions in a row

group: Shapes and plates
why: A column of shape (4, 1) and a row of shape (4,) broadcast to a table of 4 by 4: every
prediction would be compared with every observation.
cure: Bring both to one shape: `y.squeeze(-1)`.
site: y
"""

x = torch.tensor([0.0, 1.0, 2.0, 3.0])
y = torch.tensor([[0.1], [1.1], [1.9], [3.2]])


def model():
    slope = sample("slope", dist.Normal(0.0, 1.0))
    with plate("data", 4):
        sample("y", dist.Normal(slope * x, 1.0), obs=y)  # <- here


def guide():
    sample("slope", dist.Normal(param("loc", torch.tensor(0.0)), 1.0))


SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO()).step()
