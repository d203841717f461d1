"""Numbering names inside `with plate`

group: Names
why: `with plate(...) as i` runs its block once, for all rows together: `i` is the tensor of all
row numbers, and the name gets the whole tensor written into it.
cure: One statement with one name makes all the rows. To go through the rows one by one, use the
plate as a loop: `for i in plate("data", 3):`.
site: y_tensor([0, 1, 2])
"""


def model():
    with plate("data", 3) as i:
        return sample(f"y_{i}", dist.Normal(0.0, 1.0))  # <- here


list(handlers.trace(model).get_trace().nodes)
