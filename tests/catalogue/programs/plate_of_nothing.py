"""A plate over empty data

group: Shapes and plates
why: A plate of size 0 would make statements about nothing. Most often the data were filtered
away, or never loaded.
cure: Look at the data before the model does.
site: data
"""

data = torch.tensor([3.0, 4.0])
data = data[data < 0]


def model():
    with plate("data", len(data)):  # <- here
        sample("y", dist.Normal(0.0, 1.0), obs=data)


model()
