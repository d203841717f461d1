"""The notebooks under nbval: their text outputs are compared, strictly.

What is drawn from the same text is not committed, so it is not compared either. And nbval runs
every cell as number 1: the number, not the line, of a cell that an error names is left out.
"""

DRAWN = ("text/html", "text/latex", "text/markdown", "image/svg+xml", "application/json")


def pytest_collectstart(collector):
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += DRAWN
        collector.sanitize_patterns[r"Cell In \[\d+\]"] = "Cell In [n]"
