"""A digest of code, for caches and results that must not outlive a changed line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pipeline
from pipeline.base.files import sha256_of
from runtime.system.litter import is_litter

CODE_ROOT = Path(pipeline.__file__).parents[1]
_CACHE = "__pycache__"  # Python writes it anew


def digest_of_code(names: Sequence[str], *versions: str) -> str:
    """Hash the files of some rooms, sub-folders included, and the versions of libraries.

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
    """Yield every file below some names: modules, and the templates beside them.

    Raises:
        RuntimeError: as `digest_of_code`.
    """
    for name in names:
        path = CODE_ROOT / name
        files = [path] if path.is_file() else files_of_code(path)
        if not any(file.suffix == ".py" for file in files):
            raise RuntimeError(f"{path}: no module; the digest of the code needs some")
        yield from files


def files_of_code(folder: Path) -> list[Path]:
    """List every file below a folder of code, sorted; Python's caches and the litter of systems do not count."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in files if not _is_left_out(path.relative_to(folder)))


def _is_left_out(path: Path) -> bool:
    return any(part == _CACHE or is_litter(part) for part in path.parts)
