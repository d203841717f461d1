"""A factor with a dimension that belongs to no plate

group: Statements
why: A factor is a term of the log-probability: one number, or one for each row of the plates
around it. Whether three numbers are one term or three rows, only a plate can say.
cure: Sum the terms, `factor("penalty", penalty.sum())`, or put the factor into a plate.
site: penalty
"""


def model():
    w = sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    factor("penalty", -w.abs())  # <- here


def guide():
    loc = param("loc", torch.zeros(3))
    sample("w", dist.Normal(loc, 1.0).to_event(1))


SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO()).step()
