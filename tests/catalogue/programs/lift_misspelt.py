"""A prior for a parameter that there is not

group: Handlers
why: `lift` turns parameters into random variables by their names; the one that is misspelt stays a
parameter.
cure: Write the name as the `param` statement has it.
site: sclae
leaves: scale
"""


def model():
    scale = param("scale", torch.tensor(1.0))
    return sample("y", dist.Normal(0.0, scale))


handlers.lift(model, prior={"sclae": dist.LogNormal(0.0, 1.0)})()  # <- here
