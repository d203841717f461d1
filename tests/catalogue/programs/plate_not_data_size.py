"""A plate of another size than the data

group: Shapes and plates
why: The plate promises four rows, the data have five.
cure: Let the data say how many there are: `plate("data", len(data))`.
site: y
"""

data = torch.tensor([1.2, 0.7, 2.1, 0.3, 1.6])


def model():
    with plate("data", 4):
        sample("y", dist.Normal(0.0, 1.0), obs=data)  # <- here


handlers.trace(model).get_trace().log_prob_sum()
