"""`block` told both to hide and to expose

group: Handlers
why: `hide` names what is hidden while all else shows; `expose` names what shows while all else is
hidden. Together they contradict each other about the rest.
cure: Use one of the two.
site: -
"""


def model():
    sample("x", dist.Normal(0.0, 1.0))
    sample("y", dist.Normal(0.0, 1.0))


handlers.block(model, hide=["x"], expose=["y"])  # <- here
