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
