"""A distribution of torch instead of pplkit's

group: Statements
why: `torch.distributions` has the same families, but they know nothing of plates and sample
statements.
cure: None is needed: pplkit takes torch's distributions as they are. Programs that are to run on
Pyro as well use `dist`.
site: x
"""


def model():
    with plate("data", 3):
        return sample("x", torch.distributions.Normal(0.0, 1.0))  # <- here


model().shape
