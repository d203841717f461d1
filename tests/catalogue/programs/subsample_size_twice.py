"""Row numbers and another number of rows

group: Subsampling
why: Three rows are named, and two are asked for.
cure: Leave `subsample_size` out: it is the number of rows in `subsample`.
site: data
"""

rows = torch.tensor([0, 3, 4])


def model():
    with plate("data", 5, subsample=rows, subsample_size=2):  # <- here
        return sample("x", dist.Normal(0.0, 1.0))


model()
