"""`condition` around a `block` that hides the site

group: Handlers
why: Handlers hear of a site from the inside out. What an inner `block` hides, no outer handler can
observe.
cure: Put `condition` inside: `block(condition(model, ...), ...)`.
site: theta
"""


def model():
    theta = sample("theta", dist.Normal(0.0, 1.0))
    return sample("y", dist.Normal(theta, 1.0))


hidden = handlers.block(model, hide=["theta"])
handlers.condition(hidden, data={"theta": torch.tensor(1.0)})()  # <- here
