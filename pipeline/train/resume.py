"""The state of a run after its last whole epoch, from which a killed run continues.

The file lies outside DVC's outputs, which DVC deletes before a run. Its name is a digest of everything that the run
depends on: after a change of a setting, a picture or a line of code the run starts anew.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.base.errors import DataError
from pipeline.base.files import replacing_file, sha256_of
from pipeline.base.manifest import Row
from pipeline.base.progress import warn
from pipeline.base.project import Project, safe_join
from pipeline.base.section import Section
from pipeline.network.torch_files import LOAD_ERRORS, unreadable, write_plain
from pipeline.train.provenance import code_digest

_DIGEST_BYTES = hashlib.sha256().digest_size


def run_key(project: Project, rows: Sequence[Row], sections: Sequence[Section], machine: Sequence[str]) -> str:
    """Return the name of a run, 32 hex digits: a digest of its settings, data, code and machine.

    Pictures count by name, size and time of change: reading them all would take as long as an epoch.

    Args:
        project: the project whose pictures and split are read.
        rows: all images that the run reads.
        sections: the sections of `params.yaml` that the run reads.
        machine: what else changes the result, such as device, precision and number of processes.

    Raises:
        DataError: a picture is missing.
    """
    digest = hashlib.sha256()
    for section in sections:
        digest.update(section.model_dump_json().encode() + b"\n")
    for row in rows:
        digest.update(_identity(project, row))
    digest.update(json.dumps([sha256_of(project.split_csv), code_digest(), *machine]).encode())
    return digest.hexdigest()[:32]


def _identity(project: Project, row: Row) -> bytes:
    path = safe_join(project.root, row.path)
    try:
        stat = path.stat()
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing; {project.split_csv.name} names it") from error
    return f"{row.path} {stat.st_size} {stat.st_mtime_ns}\n".encode()


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values, followed by their sha256; an error leaves the file as it was."""
    with replacing_file(path) as temporary:
        write_plain(state, temporary)
        digest = bytes.fromhex(sha256_of(temporary))
        with temporary.open("ab") as file:
            file.write(digest)


def read_state(path: Path) -> dict[str, Any] | None:
    """Read what `write_state` wrote. A missing file gives None; a damaged one gives None and a warning.

    Raises:
        DataError: its digest is right and it is no file of tensors and plain values, or would run code.
    """
    if not path.is_file():
        return None
    content, digest = path.read_bytes()[:-_DIGEST_BYTES], path.read_bytes()[-_DIGEST_BYTES:]
    # The digest is checked first: torch may read wrong numbers from a damaged archive, or raise any of eight errors.
    if hashlib.sha256(content).digest() != digest:
        warn(f"pipe: {path}: damaged state of a run; starting at the first epoch")
        return None
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except LOAD_ERRORS as error:
        raise unreadable(path, error) from error
    return state
