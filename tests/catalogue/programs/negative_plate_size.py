"""A plate of negative size

group: Shapes and plates
why: There is no such number of rows. A difference was taken the wrong way round, or `-1` was
meant as 'all of them', as in `reshape`.
cure: Say how many rows there are: `len(data)`.
site: data
"""

data = torch.tensor([1.2, 0.7, 2.1])


def model():
    with plate("data", -1):  # <- here
        sample("y", dist.Normal(0.0, 1.0), obs=data)


model()
