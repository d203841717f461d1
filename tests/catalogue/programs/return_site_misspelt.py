"""`Predictive` asked for a site that there is not

group: Inference
why: Only sites of the model can be returned.
cure: Write the name as the model has it.
site: yy
"""


def model():
    mu = sample("mu", dist.Normal(0.0, 1.0))
    sample("y", dist.Normal(mu, 1.0))


Predictive(model, num_samples=10, return_sites=["yy"])()  # <- here
