"""constraints.txt names one version of all that is installed, and these fit together on each Python that we name."""

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, metadata, requires

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from places import ROOT

PYTHONS = ("3.11", "3.12", "3.13")
OTHER_BUILDS = re.compile(r"^(nvidia|cuda|triton|intel|pytorch-triton)")  # those of torch: each build names its own


def pins(python: str) -> dict[str, str]:
    """Name -> version, of the lines whose marker fits that Python."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    found = [Requirement(line) for line in lines if line]
    return {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in found
            if one.marker is None or one.marker.evaluate(of(python))}


def of(python: str, extra: str = "") -> dict[str, str]:
    return {"python_version": python, "python_full_version": f"{python}.0", "extra": extra, "sys_platform": "linux",
            "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix",
            "platform_python_implementation": "CPython", "implementation_name": "cpython"}


def needed(python: str) -> Iterator[tuple[str, Requirement]]:
    """(who asks, what is asked for) of all that `pip install -e .[dev]` brings, by what is installed here."""
    todo, seen = [("matchnet", "dev"), ("matchnet", "")], set()
    while todo:
        if (asks := todo.pop()) in seen:
            continue
        seen.add(asks)
        try:
            texts = requires(asks[0]) or []
        except PackageNotFoundError:  # of another Python alone: what it asks for is not known here
            continue
        for one in map(Requirement, texts):
            if one.marker is None or one.marker.evaluate(of(python, asks[1])):
                if not OTHER_BUILDS.match(canonicalize_name(one.name)):
                    yield asks[0], one
                    todo += [(one.name, extra) for extra in ("", *one.extras)]


@pytest.mark.parametrize("python", PYTHONS)
def test_all_that_is_needed_is_pinned_and_fits(python: str) -> None:
    pinned = pins(python)
    assert not list(problems(pinned, python))


def problems(pinned: Mapping[str, str], python: str) -> Iterator[str]:
    for who, one in needed(python):
        name = canonicalize_name(one.name)
        if name == "matchnet":
            continue
        if name not in pinned:
            yield f"{one.name}: {who} needs it on Python {python}, and there is no line for it"
        elif not one.specifier.contains(pinned[name], prereleases=True):
            yield f"{one.name}=={pinned[name]}: {who} needs {one.specifier}"


@pytest.mark.parametrize("python", PYTHONS)
def test_each_pinned_version_says_that_it_runs_there(python: str) -> None:
    for name, version in pins(python).items():
        try:
            about = metadata(name)
        except PackageNotFoundError:
            continue
        assert about["Version"].partition("+")[0] == version, f"{name}: another version is installed here"
        asked = about["Requires-Python"]
        assert asked is None or SpecifierSet(asked).contains(f"{python}.9"), f"{name}=={version} needs Python {asked}"
