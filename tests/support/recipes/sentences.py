"""The tables of the studies' pages that say, sentence by sentence of a text, where it is done."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import click
from ruamel.yaml import YAML

from pipeline.cli.main import cli
from pipeline.tools.studies.dvc_experiments import param_value
from pipeline.tools.studies.recipe_schema import COLUMNS, CURVES, is_param
from tests.support.small_project import ROOT

_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_REFERENCES = re.compile(r"\n\s*(?:七、)?参考文献")
_ITEM = re.compile(r"(?m)^\s*(\d+)\. ")  # the number of a list's item, whose full stop ends no sentence
# Behind a full stop: a Chinese one anywhere, else one before a space or a Chinese character. A decimal point is none.
_END = re.compile(r"(?<=[。!?])|(?<=[^\d\s]\.)(?=[\s\u4e00-\u9fff])|(?<=\d\.)(?=\s)")
_OTHER_PROGRAMS = ("dvc", "tensorboard")


def sentences(text: str) -> list[str]:
    """The Chinese sentences of a text up to its references."""
    body = _ITEM.sub(r"\1) ", _REFERENCES.split(text)[0])
    return [part for part in _END.split(body) if _CHINESE.search(part)]


def table_rows(page: str) -> list[list[str]]:
    """The cells of the rows of a page's table: numbers, what the text asks for, where it is done."""
    section = page.partition("## Sentence by sentence")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    return [line.strip("| ").split(" | ") for line in lines]


def not_covered(page: str, text: str) -> list[int]:
    """The numbers of sentences that no row of the table has, and numbers of rows that the text does not have."""
    numbers = set[int]()
    for first, _, last in (row[0].partition("-") for row in table_rows(page)):
        numbers |= set(range(int(first), int(last or first) + 1))
    return sorted(numbers ^ set(range(1, len(sentences(text)) + 1)))


def unknown_names(page: str, study: str) -> list[str]:
    """What the last column puts in code type although neither project, recipe nor command has it."""
    text = (ROOT / "recipes" / f"{study}.yaml").read_text(encoding="utf-8")
    recipe = YAML(typ="safe", pure=True).load(text)
    names = [*COLUMNS, *CURVES, *recipe["rows"], *(figure["title"] for figure in recipe["compare"]["figures"])]
    documented = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    unknown = []
    for _, _, where in table_rows(page):
        tokens = re.findall(r"`([^`]+)`", where)
        texts = [text, (ROOT / "params.yaml").read_text(encoding="utf-8"), *_texts_of_files(tokens)]
        for token in tokens:
            is_known = (
                token in names
                or (ROOT / token).exists()
                or (token.startswith(("data/", "reports/")) and f"`{_last_part(token)}`" in documented)
                or (token.split()[0] in _OTHER_PROGRAMS)
                or (token.startswith("pipe ") and _is_command(token))
                or _is_param_of(token, recipe)
                or (not re.match(r"[a-z]+\.\w", token) and any(token in known for known in texts))
            )
            unknown += [] if is_known else [token]
    return unknown


def _last_part(path: str) -> str:
    """The name of a file, by which the pages of the stages call it; a folder as it is."""
    return path if path.endswith("/") else path.rpartition("/")[2]


def _texts_of_files(tokens: list[str]) -> Iterator[str]:
    for token in tokens:
        if (ROOT / token).is_file():
            yield (ROOT / token).read_text(encoding="utf-8")


def _is_command(token: str) -> bool:
    """Whether `pipe` has this command with these options."""
    command = cli.get_command(click.Context(cli), token.split()[1])
    options = {name for param in command.params for name in param.opts} if command else set()
    return command is not None and set(re.findall(r"--[\w-]+", token)) <= options


def _is_param_of(token: str, recipe: Mapping[str, Any]) -> bool:
    """Whether `params.yaml` has this name, and the recipe or one of its rows this value, if a value is given."""
    name, _, value = token.partition(": ")
    if not is_param(name):
        return False
    wanted = YAML(typ="safe", pure=True).load(value) if value else None
    found = [param_value(part, name) for part in (recipe["params"], *recipe["rows"].values())]
    return not value or any(wanted in (each, each.get("name") if isinstance(each, dict) else each) for each in found)
