"""A subsample with rows that the plate does not have

group: Subsampling
why: Rows are numbered from 0: a plate of 3 has rows 0, 1 and 2.
cure: Draw the row numbers from the plate's: `torch.randperm(len(data))[:2]`.
site: data
"""

data = torch.tensor([1.2, 0.7, 2.1])


def model():
    with plate("data", len(data), subsample=torch.tensor([1, 3])):  # <- here
        return sample("z", dist.Normal(0.0, 1.0))


model()
