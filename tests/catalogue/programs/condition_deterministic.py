"""`condition` on a value that is computed

group: Handlers
why: Only what is drawn can be observed. A computed value follows from others, and has no
probability to count.
cure: Observe what is drawn; or let the computed value be the mean of a `sample` statement.
site: twice
"""


def model():
    z = sample("z", dist.Normal(0.0, 1.0))
    twice = deterministic("twice", 2 * z)
    return sample("y", dist.Normal(twice, 1.0))


handlers.condition(model, data={"twice": torch.tensor(1.0)})()  # <- here
