"""Where a report comes from: a digest over its own values, and the hashes of the files around it.

`made_from` has the files that the stage read, `wrote` those that it wrote beside the report. So one part of a project
that is older than the others, or was edited, is found without running anything again.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from pipeline.base.errors import DataError, GateError
from pipeline.base.files import read_json, sha256_of, write_json
from pipeline.base.project import Project, missing, stage_that_writes

DIGEST, MADE_FROM, WROTE = "digest", "made_from", "wrote"
Hashes = Mapping[str, str | None]  # sha256 by path, relative to the project; None: there is no such file

_NO_DIGEST = "0" * 64  # stands in a page while its digest is computed
_PAGE_MADE_FROM = '<meta name="made-from" content="{}">\n'
_PAGE_DIGEST = '<meta name="digest" content="{}">\n'
_PAGE_SEAL = re.compile(
    _PAGE_MADE_FROM.format('(?P<made_from>[^"\n]*)') + _PAGE_DIGEST.format("(?P<digest>[0-9a-f]{64})") + "</head>"
)


def hashes_of(paths: Iterable[Path], project: Project) -> dict[str, str | None]:
    """Hash files of a project. Call it for inputs before they are read: then a later change is noticed.

    Returns:
        The sha256 of each file by its path; None for a file that does not exist.
    """
    return {project.relative(path): sha256_of(path) if path.is_file() else None for path in paths}


def files_below(folder: Path) -> list[Path]:
    """Every file below a folder, sorted by path."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def write_report(path: Path, values: Mapping[str, Any], *, made_from: Hashes, wrote: Hashes) -> None:
    """Write a JSON report with its digest.

    Args:
        path: the report.
        values: its own values.
        made_from: the files that it was computed from.
        wrote: the files that the same run of the stage wrote.
    """
    complete = {**values, MADE_FROM: made_from, WROTE: wrote}
    write_json(path, {**complete, DIGEST: _digest_of(complete)})


def check_report(path: Path, project: Project, *, inputs: bool = True) -> Hashes:
    """Refuse a report whose values, inputs or companions are not those of the run that wrote it.

    Args:
        path: a report that `write_report` wrote.
        project: where the files lie that the report names.
        inputs: False does not look at `made_from`.

    Returns:
        The hashes of the files that the stage wrote, and of the report itself.

    Raises:
        GateError: the report was edited, or a file that it names has changed; the message names the command to run.
        DataError: the report or such a file is missing, or the report has no digest.
    """
    sha256 = sha256_of(path) if path.is_file() else None
    values = read_json(path)
    again = _run_again(path)
    if not isinstance(values, dict) or not _has_hashes(values):
        raise DataError(f"{path}: found no {DIGEST}, {MADE_FROM} and {WROTE}; expected them{again}")
    if values.pop(DIGEST) != _digest_of(values):
        raise GateError(f"{path}: its values are not those that `pipe {stage_that_writes(path)}` wrote{again}")
    if inputs:
        _refuse_other_inputs(path, values[MADE_FROM], project)
    for name, written in values[WROTE].items():
        file = project.locate(name)
        if written is not None and not file.is_file():
            raise missing(file)
        if _hash_or_none(file) != written:
            raise GateError(
                f"{file}: is not the file that `pipe {stage_that_writes(path)}` wrote (its sha256 differs){again}"
            )
    return {**values[WROTE], project.relative(path): sha256}


def files_written(path: Path, made_from: Hashes) -> Hashes:
    """Return the hashes of what a report says was written from these very files.

    It is empty where the report was made from other files, was edited, or cannot be read.
    """
    try:
        values = read_json(path)
    except DataError:
        return {}
    if not isinstance(values, dict) or not _has_hashes(values):
        return {}
    is_intact = values.pop(DIGEST) == _digest_of(values)
    written: Hashes = values[WROTE]
    return written if is_intact and values[MADE_FROM] == made_from else {}


def _refuse_other_inputs(report: Path, made_from: Hashes, project: Project) -> None:
    """Refuse a report that was made from other files than those of the project.

    Raises:
        GateError: a file has changed, or has come since.
        DataError: a file is missing.
    """
    for name, read in made_from.items():
        file = project.locate(name)
        if read is not None and not file.is_file():
            if stage_that_writes(file):
                raise missing(file)
            raise GateError(f"{report}: was made from {name}, which is missing{_run_again(report)}")
        if read is None and file.is_file():
            raise GateError(f"{report}: was made without {name}{_run_again(report)}")
        if _hash_or_none(file) != read:
            raise GateError(f"{report}: was made from another {name} (its sha256 differs){_run_again(report)}")


def seal_page(page: str, made_from: Hashes) -> str:
    """Add two `meta` elements to the head of a page: the files that it was made from, and its digest.

    Raises:
        ValueError: the page has no head.
    """
    head, end, body = page.partition("</head>")
    if not end:
        raise ValueError("a page without a head cannot hold its digest")
    listed = html.escape(json.dumps(made_from, ensure_ascii=False, separators=(",", ":")))
    sealed = head + _PAGE_MADE_FROM.format(listed) + _PAGE_DIGEST.format(_NO_DIGEST) + end + body
    digest = hashlib.sha256(sealed.encode()).hexdigest()
    return sealed.replace(_PAGE_DIGEST.format(_NO_DIGEST), _PAGE_DIGEST.format(digest), 1)


def check_page(path: Path, project: Project) -> Hashes:
    """Refuse a page that was edited, or that was made from other files than those of the project.

    Returns:
        The page's own hash.

    Raises:
        GateError, DataError: as `check_report`.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise missing(path) from error
    page = content.decode("utf-8", errors="replace")
    seal = _PAGE_SEAL.search(page)
    made_from = _parse_made_from(seal["made_from"]) if seal else None
    if seal is None or made_from is None:
        raise DataError(f"{path}: found no digest in its head; expected one{_run_again(path)}")
    _refuse_other_inputs(path, made_from, project)
    unsealed = page[: seal.start("digest")] + _NO_DIGEST + page[seal.end("digest") :]
    if hashlib.sha256(unsealed.encode()).hexdigest() != seal["digest"]:
        raise GateError(f"{path}: is not as `pipe {stage_that_writes(path)}` wrote it{_run_again(path)}")
    return {project.relative(path): hashlib.sha256(content).hexdigest()}


def _digest_of(values: Mapping[str, Any]) -> str:
    """Hash values as JSON reads them back, whatever the order of their keys."""
    text = json.dumps(json.loads(json.dumps(values)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _hash_or_none(path: Path) -> str | None:
    return sha256_of(path) if path.is_file() else None


def _run_again(report: Path) -> str:
    return f"; run `pipe {stage_that_writes(report)}` again"


def hashes_in(values: Mapping[str, Any], key: str) -> Hashes:
    """Return what a report says under `made_from` or `wrote`; empty where it holds no hashes."""
    hashes = values.get(key)
    return hashes if _are_hashes(hashes) else {}


def _has_hashes(values: Mapping[str, Any]) -> bool:
    hashes = [values.get(MADE_FROM), values.get(WROTE)]
    return isinstance(values.get(DIGEST), str) and all(map(_are_hashes, hashes))


def _are_hashes(value: object) -> TypeGuard[dict[str, str | None]]:
    return isinstance(value, dict) and all(sha256 is None or isinstance(sha256, str) for sha256 in value.values())


def _parse_made_from(text: str) -> Hashes | None:
    try:
        listed = json.loads(html.unescape(text))
    except ValueError:
        return None
    return listed if _are_hashes(listed) else None
