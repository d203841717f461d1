"""`.to_event` in the model, not in the guide

group: Guide and model
why: The model's variable is one vector, the guide's are three numbers side by side that belong to
no plate.
cure: Write `.to_event(1)` in the guide too.
site: w
"""


def model():
    w = sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    sample("y", dist.Normal(w.sum(), 1.0), obs=torch.tensor(2.0))


def guide():
    loc = param("loc", torch.zeros(3))
    sample("w", dist.Normal(loc, 1.0))  # <- here


SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO()).step()
