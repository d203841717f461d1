"""An optimiser with a bare number

group: Inference
why: An optimiser takes its settings by name, in a dictionary.
cure: Write `Adam({"lr": 0.01})`.
site: -
"""


optimiser = Adam(0.01)  # <- here
