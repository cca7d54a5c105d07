"""Files of `torch.save` that hold tensors and plain values, read without running code from them."""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

from pipeline.base.errors import DataError
from runtime.system.regular_files import open_regular

# What `torch.load` raises for files that would run code, and for 3,000 files that were damaged at random.
LOAD_ERRORS = (
    pickle.UnpicklingError, struct.error, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError,
    AssertionError,
)  # fmt: skip


def read_plain(path: Path) -> Any:
    """Read a file of `torch.save` that holds tensors and plain values; a file that would run code is refused.

    Raises:
        DataError: the file is of another kind, damaged, compressed, or would run code.
    """
    refuse_compressed(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except LOAD_ERRORS as error:
        raise unreadable(path, error) from error


def refuse_compressed(path: Path) -> None:
    """Refuse an archive with compressed parts: a small file could fill the memory. torch stores its parts as they are.

    Raises:
        DataError: a part of the archive is compressed, or the parts together are larger than the file.
    """
    try:
        with open_regular(path) as file:
            if not zipfile.is_zipfile(file):
                return  # of the older kind, or no file of torch; torch.load says which
            with zipfile.ZipFile(file) as archive:
                parts = archive.infolist()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        raise unreadable(path, error) from error
    compressed = next((part for part in parts if part.compress_type != zipfile.ZIP_STORED), None)
    if compressed is not None:
        raise DataError(f"{path}: found the compressed part {compressed.filename}; expected parts as torch.save stores")
    n_bytes = sum(part.file_size for part in parts)
    if n_bytes > path.stat().st_size:
        raise DataError(f"{path}: its parts claim {n_bytes} bytes; expected at most {path.stat().st_size}")


def unreadable(path: Path, error: Exception) -> DataError:
    """Return the error for a file that `torch.load` cannot read, or refuses because it would run code."""
    # torch's own words advise to switch the guard off.
    code = re.search(r"Unsupported (?:global|class|operand)\W+(?:GLOBAL )?([\w.]+)", str(error))
    reason = next(iter(str(error).splitlines()), "it ends early")
    if isinstance(error, pickle.UnpicklingError):
        reason = f"it would run {code[1]}" if code else "damaged, or of another kind"
    return DataError(f"{path}: not a file of plain tensors and values ({reason})")


def write_plain(value: Any, path: Path) -> None:
    """Write tensors and plain values, as `read_plain` reads them.

    Raises:
        OSError: the disk is full, or the file cannot be written.
    """
    try:
        with path.open("wb") as file:
            torch.save(value, file)
    except RuntimeError as error:
        # After a failed write torch still closes its archive; the error of that hides the operating system's.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise
