"""A digest of code, for caches that must not outlive a changed line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pipeline
from pipeline.base.files import sha256_of

CODE_ROOT = Path(pipeline.__file__).parents[1]


def digest_of_code(names: Sequence[str], *versions: str) -> str:
    """Hash the modules of some rooms, sub-folders included, and the versions of libraries.

    Args:
        names: modules and folders, as `dvc.yaml` lists them.
        versions: of the libraries that the code calls.

    Raises:
        RuntimeError: a name holds no module: a digest of nothing would let caches outlive changed code.
    """
    digest = hashlib.sha256("\n".join(versions).encode())
    for path in code_files(names):
        digest.update(f"{path.relative_to(CODE_ROOT).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def code_files(names: Sequence[str]) -> Iterator[Path]:
    """Yield every module below some names.

    Raises:
        RuntimeError: as `digest_of_code`.
    """
    for name in names:
        path = CODE_ROOT / name
        modules = [path] if path.is_file() else sorted(path.rglob("*.py"))
        if not modules:
            raise RuntimeError(f"{path}: no module; the digest of the code needs some")
        yield from modules
