"""`condition` with data of another size than the plate

group: Handlers
why: The plate says how many rows there are; the data given by `condition` have another number.
cure: Give one value for each row, or make the plate as large as the data.
site: y
"""


def model():
    with plate("rows", 3):
        return sample("y", dist.Normal(0.0, 1.0))  # <- here


handlers.condition(model, data={"y": torch.zeros(4)})()
