"""Parameters for all rows inside a plate that takes a part of them

group: Subsampling
why: Of 10 rows 4 take part in this run, and the distribution has a mean for each of the 10.
cure: Index what belongs to the rows, not only the data: `dist.Normal(loc[i], 1.0)`.
site: y
"""

data, loc = torch.zeros(10), torch.zeros(10)


def model():
    with plate("data", len(data), subsample_size=4) as i:
        sample("y", dist.Normal(loc, 1.0), obs=data[i])  # <- here


handlers.trace(model).get_trace().log_prob_sum()
