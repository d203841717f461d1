"""A clean slate for each test of the room."""

import builtins

import pytest
import torch

import pplkit
from pplkit.effects import active_handlers

LEN = builtins.len


@pytest.fixture(autouse=True)
def clean_slate():
    """Each test starts with no parameter, and leaves no handler and nothing patched behind."""
    pplkit.clear_param_store()
    torch.manual_seed(0)
    yield
    assert active_handlers() == []
    assert builtins.len is LEN


@pytest.fixture(scope="session", autouse=True)
def programs(tmp_path_factory):
    """One folder for compiled programs, so that each is compiled once, and in no user's own."""
    place = tmp_path_factory.mktemp("programs", numbered=True) / "kept"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PPLKIT_CACHE_DIR", str(place))
        yield place
