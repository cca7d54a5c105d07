"""The published networks by name: ours, torchvision's other classifiers, and `timm:<name>`."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import torch

from pipeline.base.errors import DataError

# What `torch.load` raises: of code, and of 3,000 files that were damaged at random.
UNREADABLE = (
    pickle.UnpicklingError, struct.error, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError,
    AssertionError,
)  # fmt: skip


def unreadable(path: Path, error: Exception) -> DataError:
    """What to say of a file that `torch.load` cannot read, or refuses because it would run code."""
    reason = next(iter(str(error).splitlines()), "it ends early")
    return DataError(f"{path}: not a file of plain tensors and values ({reason})")


def read_plain(path: Path) -> Any:
    """Read a file of `torch.save` that holds tensors and plain values; one that would run code is refused.

    Raises:
        DataError: it is not such a file.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise unreadable(path, error) from error


def write_plain(value: Any, path: Path) -> None:
    """Write tensors and plain values, as `read_plain` reads them.

    Raises:
        OSError: the disk is full, or the file cannot be written.
    """
    try:
        with path.open("wb") as file:
            torch.save(value, file)
    except RuntimeError as error:
        # Torch ends its archive all the same, and that error of its own hides what the disk said.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise
