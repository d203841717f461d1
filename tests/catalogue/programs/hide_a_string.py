"""A single name where a list of names is meant

group: Handlers
why: A string is a sequence of letters: `hide="mu"` would hide the sites `m` and `u`.
cure: Put the name in a list: `hide=["mu"]`.
site: -
"""


def model():
    sample("mu", dist.Normal(0.0, 1.0))


hidden = handlers.block(model, hide="mu")  # <- here
handlers.trace(hidden).get_trace().stochastic_nodes
