"""Every property on many more programs, others each time."""

import pytest
from hypothesis import given
from hypothesis.stateful import run_state_machine_as_test

from tests.conformance import test_properties, test_properties_laws
from tests.conformance.property_profiles import LAWS, long

pytestmark = pytest.mark.long

# Pytest imports the two modules by shorter names as well, where it collects them.
HOMES = {test_properties.__name__, test_properties_laws.__name__}
ALL = [law for law in LAWS if law[0].__module__ in HOMES]
assert {body.__module__ for body, _, _ in ALL} == HOMES


@pytest.mark.parametrize(
    ("body", "examples", "strategies"), ALL, ids=[body.__name__ for body, _, _ in ALL]
)
def test_on_many_more(body, examples, strategies):
    long(examples)(given(*strategies)(body))()


def test_the_parameter_store_on_many_more():
    machine = test_properties_laws.StoreMachine
    run_state_machine_as_test(machine, settings=long(30, stateful_step_count=25))
