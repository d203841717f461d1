"""`condition` on a parameter

group: Handlers
why: A parameter is not drawn, so it cannot be observed.
cure: Fix it with `handlers.substitute`; or make it a random variable, with a `sample` statement.
site: loc
leaves: loc
"""


def model():
    loc = param("loc", torch.tensor(0.0))
    return sample("y", dist.Normal(loc, 1.0))


handlers.condition(model, data={"loc": torch.tensor(1.0)})()  # <- here
