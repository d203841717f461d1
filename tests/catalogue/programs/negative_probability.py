"""A negative probability

group: Distributions and their parameters
why: Probabilities are weights: none can be negative.
cure: `torch.softmax` makes probabilities of any numbers; or pass scores as they are,
`dist.Categorical(logits=...)`.
site: z
"""

weights = torch.tensor([0.5, -0.2, 0.7])


def model():
    return sample("z", dist.Categorical(weights))  # <- here


model()
