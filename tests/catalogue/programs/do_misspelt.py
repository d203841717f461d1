"""`do` with a misspelt name

group: Handlers
why: An intervention on a name that the model does not have changes nothing.
cure: Write the name as the `sample` statement has it.
site: tetha
"""


def model():
    theta = sample("theta", dist.Normal(0.0, 1.0))
    return sample("y", dist.Normal(theta, 1.0))


handlers.do(model, data={"tetha": torch.tensor(1.0)})()  # <- here
