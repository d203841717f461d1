"""A handler given its data in the place of its model

group: Handlers
why: A handler takes the model first, and returns it changed.
cure: `handlers.condition(model, data={"x": ...})`; in a `with` block, where there is no model, by
keyword alone.
site: -
"""

data = {"x": torch.tensor(1.0)}

handlers.condition(data)  # <- here
