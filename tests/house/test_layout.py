"""The top level is as designed, nothing built is kept, and no file names a package host."""

from __future__ import annotations

import json
import re

from .project import ROOT

TOP = {
    ".ci", ".gitignore", "LICENSE", "Makefile", "README.md", "_config.yml", "book",
    "constraints.txt", "environment.yml", "pplkit", "pyproject.toml", "tests", "tools", "widgets",
}  # fmt: skip
# In halves, so that this file does not name them either.
HOSTS = (
    ("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"),
    ("yarnpkg", "com"), ("anaconda", "org"), ("anaconda", "com"), ("download.pytorch", "org"),
    ("jsdelivr", "net"), ("unpkg", "com"), ("cdnjs", "com"), ("cloudflare", "com"), ("esm", "sh"),
    ("debian", "org"), ("ubuntu", "com"), ("googleapis", "com"),
)  # fmt: skip
BUILT = (".pyc", ".whl", ".min.js", ".map", ".so")


def test_the_top_level_is_as_designed(files):
    assert {path.parts[0] for path in files} == TOP


def test_no_file_names_a_package_host(files):
    pattern = re.compile(rb"|".join(rb"(?<![\w-])%s\.%s\b" % (
        re.escape(name.encode()), end.encode()) for name, end in HOSTS))  # fmt: skip
    found = [
        f"{path}:{number}: {line.strip()[:120]!r}"
        for path in files
        for number, line in enumerate((ROOT / path).read_bytes().splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, "\n".join(found)


def test_no_setting_points_at_an_index(files):
    pattern = re.compile(r"(index[-_]url|find[-_]links|trusted[-_]host|^\s*registry\s*=)", re.M)
    settings = {".toml", ".txt", ".yml", ".yaml", ".npmrc", ".cfg", ".ini", ".conf"}
    for path in files:
        if path.suffix in settings or path.name in settings or path.name == "Makefile":
            assert not pattern.search((ROOT / path).read_text(encoding="utf-8")), path


def test_the_lock_file_holds_contents_and_no_addresses():
    lock = json.loads((ROOT / "widgets/js/package-lock.json").read_text(encoding="utf-8"))
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages
    for name, entry in packages.items():
        assert "resolved" not in entry, name
        assert entry.get("integrity", "").startswith("sha512-"), name
    npmrc = (ROOT / "widgets/js/.npmrc").read_text(encoding="utf-8").split()
    assert "omit-lockfile-registry-resolved=true" in npmrc


def test_nothing_built_is_kept(files):
    built = [path for path in files if path.name.endswith(BUILT) or "static" in path.parts[:-1]]
    assert not [path for path in built if path.parts[0] != "book"]
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert {"/.venv/", "node_modules/", "/widgets/pplwidgets/static/", "/book/_build/"} <= set(
        ignored
    )


def test_ci_calls_the_command_of_the_readme_and_nothing_else():
    lines = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert [line for line in lines if "make" in line] == ["exec make test"]
