"""`block` with a misspelt name

group: Handlers
why: A name that the model does not have hides nothing: the site meant is still seen outside.
cure: Write the name as the `sample` statement has it.
site: thetta
"""


def model():
    theta = sample("theta", dist.Normal(0.0, 1.0))
    return sample("y", dist.Normal(theta, 1.0))


handlers.block(model, hide=["thetta"])()  # <- here
