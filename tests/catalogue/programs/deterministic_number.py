"""A plain number as a computed value

group: Statements
why: Numbers that never met a tensor are easily forgotten among tensors.
cure: None is needed: numbers become tensors.
site: n
"""


def model():
    return deterministic("n", 3)  # <- here


handlers.trace(model).get_trace().nodes["n"]["value"]
