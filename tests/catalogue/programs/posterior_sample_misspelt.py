"""`Predictive` with samples of a misspelt name

group: Inference
why: Samples of a name that the model does not have are not used: the variable is drawn from its
prior instead.
cure: Write the name as the model's `sample` statement has it.
site: muu
"""


def model():
    mu = sample("mu", dist.Normal(0.0, 1.0))
    sample("y", dist.Normal(mu, 1.0))


drawn = Predictive(model, {"muu": torch.full((10,), 50.0)})()["y"]  # <- here
