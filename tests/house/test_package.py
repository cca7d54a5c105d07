"""What the distribution promises: two names of the command, types, and one version everywhere."""

from __future__ import annotations

import tomllib

import pytest
from ruamel.yaml import YAML

from tests.house.rooms import PACKAGES, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_command_has_two_names() -> None:
    assert PROJECT["scripts"] == {"pipe": "pipeline.cli.main:main", "clip2edge": "pipeline.cli.main:main"}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
    assert "Typing :: Typed" in PROJECT["classifiers"]


def test_the_citation_is_of_this_version_and_licence() -> None:
    citation = YAML(typ="safe").load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in PROJECT["authors"]]
