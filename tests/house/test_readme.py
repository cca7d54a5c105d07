"""The README and the docs name only commands, options, targets, links and files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.cli.main import cli
from tests.house.rooms import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")


def _code(page: Path) -> str:
    """What stands in code: indented blocks, fences and backticks."""
    text = page.read_text(encoding="utf-8")
    indented = re.findall(r"^ {4}.*$", text, re.MULTILINE)
    return "\n".join([*indented, *re.findall(r"`([^`]+)`", text)])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_pipe_command_exists_with_its_options(page: Path) -> None:
    for name, rest in re.findall(r"(?:^|[\s;&])pipe ([a-z]+)([^\n`]*)", _code(page)):
        assert name in cli.commands, name
        known = {option for parameter in cli.commands[name].params for option in parameter.opts}
        for option in re.findall(r"(?<=\s)--[a-z-]+", rest.split("#")[0]):
            assert option in known, f"pipe {name} {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_runtime_command_and_benchmark_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^|\s)make ([a-z-]+)", _code(page)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    main = (ROOT / "runtime" / "__main__.py").read_text(encoding="utf-8")
    for command in re.findall(r"python -m runtime ([a-z]+)", _code(page)):
        assert f'"{command}"' in main, command
    for script in re.findall(r"python (benchmarks/\w+\.py)", _code(page)):
        assert (ROOT / script).is_file(), script


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).is_file(), target


def test_every_stage_and_every_extra_has_its_page() -> None:
    for stage in ("extract", "augment", "split", "train", "evaluate", "export", "parity", "report", "bundle"):
        assert f"docs/{stage}.md" in README


def test_nothing_names_a_place_outside_the_project() -> None:
    for path in [*ROOT.glob("*.*"), *ROOT.glob("[a-z]*/**/*")]:
        if path.suffix in (".py", ".md", ".toml", ".yaml", ".txt", ".j2") and "build" not in path.parts:
            assert "/work" + "/" not in path.read_text(encoding="utf-8"), path
