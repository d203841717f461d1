"""A score in the place of a probability

group: Distributions and their parameters
why: A linear predictor is any real number, a probability lies between 0 and 1.
cure: Say that it is a score: `dist.Bernoulli(logits=score)`; or make a probability of it,
`torch.sigmoid(score)`.
site: y
"""

x = torch.tensor([-1.0, 0.2, 3.0])


def model():
    score = 0.5 * x
    with plate("data", 3):
        return sample("y", dist.Bernoulli(score))  # <- here


model()
