"""`condition` with a misspelt name

group: Handlers
why: A name that the model does not have observes nothing: the model runs on, as if there were no
data.
cure: Write the name as the `sample` statement has it.
site: thta
"""


def model():
    theta = sample("theta", dist.Normal(0.0, 1.0))
    return sample("y", dist.Normal(theta, 1.0))


handlers.condition(model, data={"thta": torch.tensor(1.0)})()  # <- here
