"""An observation that the parameters make impossible

group: Numbers that fail
why: The scale has become so small that the density of the data is 0, its logarithm minus infinity.
cure: Take smaller steps, or keep the scale off 0: a constraint, or a prior.
site: y
"""


def model():
    scale = param("scale", torch.tensor(-60.0)).exp()
    with plate("rows", 3):
        sample("y", dist.Normal(0.0, scale), obs=torch.tensor([0.0, 1.0, 0.0]))  # <- here


def guide():
    pass


SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO()).step()
