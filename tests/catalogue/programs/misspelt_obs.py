"""A misspelt argument of sample

group: Statements
why: Data that arrive under another name than `obs` would never be used.
cure: The argument is called `obs`.
site: y
"""

y = torch.tensor(2.0)


def model():
    return sample("y", dist.Normal(0.0, 1.0), observed=y)  # <- here


model()
