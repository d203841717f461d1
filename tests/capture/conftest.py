"""One folder of compiled programs for the room, and nothing left patched."""

import builtins

import pytest

LEN = builtins.len


@pytest.fixture(autouse=True)
def nothing_patched():
    """Tracing lets `len` see tensors of open size, and must put Python's own back."""
    yield
    assert builtins.len is LEN


@pytest.fixture(scope="session", autouse=True)
def programs(tmp_path_factory):
    """One folder for compiled programs, so that each is compiled once, and in no user's own."""
    place = tmp_path_factory.mktemp("programs", numbered=True) / "kept"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PPLKIT_CACHE_DIR", str(place))
        yield place
