"""What a wheel and an sdist hold, and that the one can be made from the other."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile

import pytest

from tools import hatch_build

from .project import ROOT


def build(folder, target, into):
    """Runs the build backend in `folder`; returns the file it made."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(into)],
        cwd=folder,
        env=os.environ | {"npm_config_prefer_offline": "true"},
        check=True,
        stdin=subprocess.DEVNULL,
    )
    (made,) = into.iterdir()
    return made


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    return build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    with zipfile.ZipFile(build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_both_packages_and_the_built_javascript(wheel):
    tops = {name.partition("/")[0] for name in wheel}
    (metadata,) = tops - {"pplkit", "pplwidgets"}
    assert metadata.endswith(".dist-info")
    static = ROOT / "widgets/pplwidgets/static"
    scripts = {p.relative_to(static).as_posix() for p in static.rglob("*") if p.is_file()}
    assert any(name.endswith(".js") for name in scripts)
    assert {f"pplwidgets/static/{name}" for name in scripts} <= set(wheel)
    sources = [*(ROOT / "pplkit").rglob("*.py"), *(ROOT / "widgets/pplwidgets").rglob("*.py")]
    for path in sources:
        name = path.relative_to(ROOT).as_posix().removeprefix("widgets/")
        assert wheel[name] == path.read_bytes()
    assert f"{metadata}/licenses/LICENSE" in wheel


def test_the_sdist_holds_the_sources_and_nothing_built(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "tools/hatch_build.py", "widgets/js/package-lock.json"} <= names
    assert "widgets/js/.npmrc" in names
    assert not [n for n in names if "node_modules" in n or "pplwidgets/static" in n or ".venv" in n]


def test_a_wheel_made_from_the_sdist_is_the_same(sdist, wheel, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "from an sdist", filter="data")
    (folder,) = (tmp_path / "from an sdist").iterdir()
    (tmp_path / "wheel").mkdir()
    with zipfile.ZipFile(build(folder, "wheel", tmp_path / "wheel")) as archive:
        again = {name: archive.read(name) for name in archive.namelist()}
    assert set(again) == set(wheel)
    differing = [name for name in wheel if wheel[name] != again[name] and "dist-info" not in name]
    assert not differing
    assert hatch_build.is_built(folder)
