"""Files of `torch.save` that hold tensors and plain values, read without running code from them."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import torch

from pipeline.base.errors import DataError

# What `torch.load` raises for files that would run code, and for 3,000 files that were damaged at random.
LOAD_ERRORS = (
    pickle.UnpicklingError, struct.error, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError,
    AssertionError,
)  # fmt: skip


def read_plain(path: Path) -> Any:
    """Read a file of `torch.save` that holds tensors and plain values; a file that would run code is refused.

    Raises:
        DataError: the file is of another kind, damaged, or would run code.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except LOAD_ERRORS as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> DataError:
    """Return the error for a file that `torch.load` cannot read, or refuses because it would run code."""
    reason = next(iter(str(error).splitlines()), "it ends early")
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
