"""What all tests share: the device they run on, and a clean slate for each."""

import signal

import pytest
import torch

import pplkit
from pplkit.effects import active_handlers

# Tiny tensors: more threads only fight each other.
torch.set_num_threads(1)

# A shell that starts tests in the background lets them ignore interrupts; some send themselves one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="where the engine's tests put their tensors")


@pytest.fixture(scope="session")
def device(request) -> torch.device:
    device = torch.device(request.config.getoption("--device"))
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as fault:
        pytest.exit(f"--device {device}: torch cannot use it ({fault})", returncode=4)
    return device


@pytest.fixture(autouse=True)
def clean_slate():
    """Each test starts with no parameter, and must leave no handler behind."""
    pplkit.clear_param_store()
    torch.manual_seed(0)
    yield
    assert active_handlers() == []
