"""pyproject.toml, constraints.txt and environment.yml agree, and with what is installed."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections import defaultdict

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tools.environment import ROOT, requirements

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
PYTHONS = ("3.11.0", "3.12.0", "3.13.0", "3.14.0")
PLATFORMS = (
    {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
    {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
    {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"},
)


def read_constraints():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return [Requirement(line) for line in text.splitlines() if line and not line.startswith("#")]


def direct_requirements():
    """All that the project asks for by name: for itself, its extras, and a build."""
    texts = [*requirements(PROJECT["project"], EXTRAS), *PROJECT["build-system"]["requires"]]
    return [Requirement(text) for text in texts]


def machines():
    for python in PYTHONS:
        for platform in PLATFORMS:
            short = python.rpartition(".")[0]
            versions = {"python_full_version": python, "python_version": short}
            yield default_environment() | {"platform_machine": "x86_64"} | platform | versions


PINS = defaultdict(list)
for requirement in read_constraints():
    PINS[canonicalize_name(requirement.name)].append(requirement)


def pin_on(name, machine):
    """The one version that constraints.txt gives `name` on `machine`, or None."""
    here = [pin for pin in PINS[name] if pin.marker is None or pin.marker.evaluate(machine)]
    assert len(here) <= 1, f"{name} is pinned twice for one machine: {here}"
    return next(iter(here[0].specifier)).version if here else None


def test_every_constraint_is_one_public_version_of_one_package():
    for requirement in read_constraints():
        (pin,) = requirement.specifier
        assert pin.operator == "==" and "*" not in pin.version, requirement
        assert Version(pin.version).local is None, f"{requirement}: a version of one machine's own"
        assert requirement.url is None and not requirement.extras, requirement


def test_no_package_is_pinned_twice_for_one_machine():
    for machine in machines():
        for name in PINS:
            pin_on(name, machine)


@pytest.mark.parametrize("requirement", direct_requirements(), ids=str)
def test_a_direct_dependency_has_a_range_and_its_pin_lies_within(requirement):
    assert requirement.specifier, f"{requirement} takes any version at all"
    name = canonicalize_name(requirement.name)
    for machine in machines():
        version = pin_on(name, machine)
        assert version is not None, f"{name} has no pin: run `make constraints`"
        assert requirement.specifier.contains(version), f"{requirement} excludes the pin {version}"


def test_the_tested_torch_lies_within_the_range_of_the_engine():
    (torch,) = [
        r for r in map(Requirement, PROJECT["project"]["dependencies"]) if r.name == "torch"
    ]
    assert pin_on("torch", default_environment()).startswith("2.13.")
    assert {spec.operator for spec in torch.specifier} == {">=", "<"}


def installed_closure():
    """Name and version of all that `make test` brings on this machine, as installed."""
    environment = default_environment()
    asked = [*requirements(PROJECT["project"], ["test"]), *PROJECT["build-system"]["requires"]]
    waiting = [(r.name, frozenset(r.extras)) for r in map(Requirement, asked)]
    seen, versions = set(), {}
    while waiting:
        name, extras = waiting.pop()
        name = canonicalize_name(name)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        distribution = importlib.metadata.distribution(name)
        versions[name] = Version(distribution.version).public
        for requirement in map(Requirement, distribution.requires or ()):
            chosen = [environment | {"extra": extra} for extra in (*extras, "")]
            if requirement.marker is None or any(map(requirement.marker.evaluate, chosen)):
                waiting.append((requirement.name, frozenset(requirement.extras)))
    return versions


def test_what_is_installed_here_is_what_constraints_txt_says():
    machine = default_environment()
    installed = installed_closure()
    pins = {name: pin_on(name, machine) for name in installed}
    assert installed == pins


def test_conda_gets_the_same_through_the_same_file():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    pip = next(part["pip"] for part in environment["dependencies"] if isinstance(part, dict))
    conda = [part for part in environment["dependencies"] if isinstance(part, str)]
    assert pip[0] == "-c constraints.txt"
    assert pip[1:] == ["-e .[lab,book,test]"]
    named = {re.match(r"[\w-]+", part)[0]: part for part in conda}
    assert set(named) == {"python", "pip"}, (
        "a version that conda gives is one constraints.txt cannot"
    )
    python = named["python"].partition("=")[2]
    assert Requirement(f"x{PROJECT['project']['requires-python']}").specifier.contains(python)
    assert f"{python}.0" in PYTHONS


def test_extras_of_the_readers_are_all_there():
    assert {"widgets", "lab", "book", "test"} <= set(EXTRAS)
    assert PROJECT["project"]["requires-python"] == ">=3.11"
