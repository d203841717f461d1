"""What the tests of the house share: the project's files, and a copy to try things on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from .project import ROOT, project_files


@pytest.fixture(scope="session")
def files():
    return project_files()


@pytest.fixture
def copy(tmp_path, files):
    """A copy of the project's files alone, no git data, in a folder whose name has a space."""
    target = tmp_path / "a copy of pplkit"
    for path in files:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, target / path)
    return target


@pytest.fixture
def offline(tmp_path):
    """Variables of a machine with no network, no caches, and a locale other than UTF-8."""
    nowhere = "http://127.0.0.1:9/"  # the port of a protocol long gone
    mine = {
        "HOME": str(tmp_path),
        "LC_ALL": "C",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": nowhere,
        "PIP_NO_CACHE_DIR": "1",
        "PIP_RETRIES": "0",
        "npm_config_cache": str(tmp_path / "npm"),
        "npm_config_fetch_retries": "0",
        "npm_config_registry": nowhere,
    }
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("PIP_", "npm_", "PYTHON"))}
    return kept | mine


@pytest.fixture
def make(copy):
    """`make("lab", variables)` in the copy: the finished process, with its output as text."""

    def run(target, variables, *words):
        return subprocess.run(
            ["make", "--no-print-directory", target, *words],
            cwd=copy,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )

    return run


@pytest.fixture
def plain_python():
    """An interpreter outside any virtual environment, as a fresh machine has."""
    return getattr(sys, "_base_executable", sys.executable)
