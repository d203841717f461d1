"""A loss function that returns one number for each row

group: Inference
why: What is made small must be one number; of several, there is no smallest.
cure: Add them up: `return loss.sum()`.
site: -
"""


def model():
    loc = param("loc", torch.zeros(3))
    return sample("y", dist.Normal(loc, 1.0).to_event(1), obs=torch.ones(3))


def loss(model, guide):
    return (model() - param("loc", torch.zeros(3))) ** 2


SVI(model, lambda: None, Adam({"lr": 0.1}), loss).step()  # <- here
