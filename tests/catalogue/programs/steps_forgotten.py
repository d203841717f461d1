"""`run` without a number of steps

group: Inference
why: The number of steps comes first; what follows is given to the model. (Pyro has no `run`: there,
one calls `step` in a loop.)
cure: Write `svi.run(1000, data)`.
site: -
"""


def model(data):
    mu = sample("mu", dist.Normal(0.0, 1.0))
    sample("y", dist.Normal(mu, 1.0), obs=data)


guide = AutoNormal(model)
svi = SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO())
svi.run(torch.tensor(2.0))  # <- here
