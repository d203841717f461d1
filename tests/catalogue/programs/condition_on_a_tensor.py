"""`condition` with a value instead of names and values

group: Handlers
why: A model may have many sites; which of them is observed, the name says.
cure: Give a dictionary: `data={"x": torch.tensor(1.0)}`.
site: -
"""


def model():
    return sample("x", dist.Normal(0.0, 1.0))


handlers.condition(model, data=torch.tensor(1.0))()  # <- here
