"""Two nested plates at one dimension

group: Shapes and plates
why: Each plate around a statement has a batch dimension of its own; both ask for -1.
cure: Leave `dim=` out, and each plate takes a free one; or give the outer one `dim=-2`.
site: columns
"""


def model():
    with plate("rows", 3, dim=-1):
        with plate("columns", 2, dim=-1):  # <- here
            return sample("x", dist.Normal(0.0, 1.0))


model()
