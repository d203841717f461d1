"""`len()` of a plate

group: Statements
why: A plate has two numbers of rows: those of the population, and those that take part in a run.
cure: Ask for the one you mean: `plate.size` or `plate.subsample_size`.
site: data
"""

rows = plate("data", 100, subsample_size=10)

len(rows)  # <- here
