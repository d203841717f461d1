"""How many examples a property is tried on, in `make test` and in `make test-all`.

The short profile is derandomised: the same examples everywhere, every time. The long one
(`test_properties_long.py`) has new seeds in each run, and prints what reproduces a failure.
"""

from hypothesis import HealthCheck, given, settings

EVERY = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
LONGER = 8  # so many times the examples of the short profile
LAWS = []  # (body, examples, strategies) of every property


def short(examples: int, **more) -> settings:
    return settings(max_examples=examples, derandomize=True, **EVERY, **more)


def long(examples: int, **more) -> settings:
    return settings(max_examples=LONGER * examples, print_blob=True, **EVERY, **more)


def law(examples: int, *strategies):
    """A test of the function under it on so many examples, and on more in the long profile."""

    def decorate(body):
        LAWS.append((body, examples, strategies))
        return short(examples)(given(*strategies)(body))

    return decorate
