"""The state of a run at the end of its last epoch, so that a killed run goes on from there.

It lies outside DVC's outputs, which DVC deletes before a run, under a name that hangs on all that the run hangs on: a
changed setting, picture or line of code starts anew.
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
from pipeline.network.torch_files import write_plain
from pipeline.train.provenance import code_digest

_DIGEST_BYTES = hashlib.sha256().digest_size


def run_key(project: Project, rows: Sequence[Row], sections: Sequence[Section], machine: Sequence[str]) -> str:
    """A name of 32 hex digits for a run: what it reads, the code that runs, and what is true of the machine.

    Pictures are known by name, size and time of change: reading them all would cost as much as an epoch.

    Raises:
        DataError: a picture is gone.
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
    """Write tensors and plain values, and after them their sha256: whole or not at all."""
    with replacing_file(path) as temporary:
        write_plain(state, temporary)
        digest = bytes.fromhex(sha256_of(temporary))
        with temporary.open("ab") as file:
            file.write(digest)


def read_state(path: Path) -> dict[str, Any] | None:
    """Read what `write_state` wrote; None where nothing is there, or, with a warning, something else."""
    if not path.is_file():
        return None
    content, digest = path.read_bytes()[:-_DIGEST_BYTES], path.read_bytes()[-_DIGEST_BYTES:]
    # Of a damaged archive torch reads other numbers, or raises any of eight errors: the digest is asked first.
    if hashlib.sha256(content).digest() != digest:
        warn(f"pipe: {path}: not the whole state of a run; starting at the first epoch")
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state
