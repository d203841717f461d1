"""A subsample larger than its plate

group: Subsampling
why: Rows are drawn without replacement: of 3, no more than 3.
cure: A batch size fits its data: `subsample_size=min(32, len(data))`.
site: data
"""

data = torch.tensor([1.2, 0.7, 2.1])


def model():
    with plate("data", len(data), subsample_size=32) as i:  # <- here
        sample("y", dist.Normal(0.0, 1.0), obs=data[i])


model()
