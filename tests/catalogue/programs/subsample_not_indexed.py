"""All the data inside a plate that takes a part of them

group: Subsampling
why: Of 10 rows 4 take part in this run, and the statement observes all 10.
cure: The plate says which rows take part: `with plate(..., subsample_size=4) as i:` and
`obs=data[i]`.
site: y
"""

data = torch.zeros(10)


def model():
    with plate("data", len(data), subsample_size=4) as i:
        sample("y", dist.Normal(0.0, 1.0), obs=data)  # <- here


handlers.trace(model).get_trace().log_prob_sum()
