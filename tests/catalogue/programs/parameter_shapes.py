"""Parameters whose shapes do not fit together

group: Distributions and their parameters
why: Parameters of one distribution broadcast to one shape. Three means and two scales have none.
cure: Bring them to one length; if each mean is to meet each scale, give one of them a dimension:
`loc.unsqueeze(-1)`.
site: -
"""

loc = torch.zeros(3)
scale = torch.ones(2)


def model():
    return sample("x", dist.Normal(loc, scale))  # <- here


model()
