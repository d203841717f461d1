"""The chosen data in the place of their row numbers

group: Subsampling
why: `subsample=` takes the numbers of the rows that take part, so that the plate can scale and
index by them; here it got the rows themselves.
cure: Give it row numbers, `subsample=torch.tensor([0, 2])`, and index the data by them.
site: data
"""

data = torch.tensor([1.2, 0.7, 2.1])


def model():
    with plate("data", len(data), subsample=data[:2]) as i:  # <- here
        sample("y", dist.Normal(0.0, 1.0), obs=data[i])


model()
