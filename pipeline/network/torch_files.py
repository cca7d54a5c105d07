"""Files of `torch.save` that hold tensors and plain values, read without running code from them."""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.base.errors import DataError
from runtime.system.regular_files import open_regular

# What `torch.load` raises for files that would run code, and for 3,000 files that were damaged at random.
LOAD_ERRORS = (
    pickle.UnpicklingError, struct.error, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError,
    AssertionError,
)  # fmt: skip


# A tensor may repeat one number; a few bytes of a file may not become gigabytes so.
_MOST_SHARED_BYTES = 2**30


def read_plain(path: Path) -> Any:
    """Read a file of `torch.save` that holds tensors and plain values; a file that would run code is refused.

    Raises:
        DataError: the file is of another kind, damaged, compressed, or would run code.
    """
    check_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (*LOAD_ERRORS, OSError) as error:  # OSError: a place before the file's begin
        raise unreadable(path, error) from error


def check_archive(path: Path) -> None:
    """Refuse an archive with damaged or compressed parts.

    torch does not compare the checksums, and would read other numbers. It stores parts as they are: a small file with
    compressed ones could fill the memory.

    Raises:
        DataError: a part of the archive is damaged or compressed, or the parts together are larger than the file.
    """
    try:
        with open_regular(path) as file:
            if not zipfile.is_zipfile(file):
                return  # of the older kind, or no file of torch; torch.load says which
            with zipfile.ZipFile(file) as archive:
                parts = archive.infolist()
                _refuse_unfit_parts(path, parts)
                damaged = archive.testzip()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (
        zipfile.BadZipFile,
        ValueError,
        NotImplementedError,
        EOFError,
        RuntimeError,
    ) as error:  # the last: encrypted
        raise unreadable(path, error) from error
    if damaged is not None:
        raise DataError(f"{path}: its part {damaged!r} is damaged (the checksum differs); copy the file again")


def _refuse_unfit_parts(path: Path, parts: Sequence[zipfile.ZipInfo]) -> None:
    compressed = next((part for part in parts if part.compress_type != zipfile.ZIP_STORED), None)
    if compressed is not None:
        raise DataError(
            f"{path}: found the compressed part {compressed.filename!r}; expected parts as torch.save stores"
        )
    n_bytes = sum(part.file_size for part in parts)
    if n_bytes > path.stat().st_size:
        raise DataError(f"{path}: its parts claim {n_bytes} bytes; expected at most {path.stat().st_size}")


def state_dict_of(value: object) -> dict[str, Tensor]:
    """Return weights by name, as they were read from a file that may come from anybody.

    Raises:
        TypeError: it is no mapping from names to dense tensors of real numbers.
        ValueError: a number is not finite.
    """
    if not isinstance(value, Mapping) or not all(isinstance(tensor, Tensor) for tensor in value.values()):
        raise TypeError("found no state dict; expected tensors by name")
    for name, tensor in value.items():
        if not isinstance(name, str):
            raise TypeError(f"found the name {name!r}; expected a text")
        is_dense = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not is_dense or tensor.dtype == torch.bool or tensor.is_complex():
            kind = f"{tensor.dtype}, {tensor.layout}, on {tensor.device.type}"
            raise TypeError(f"{name}: found a tensor of {kind}; expected plain real numbers")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes() + _MOST_SHARED_BYTES:
            raise ValueError(f"{name}: found {tensor.numel()} numbers that share memory; expected one place for each")
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
            raise ValueError(f"{name}: found a number that is not finite in float32")
    return dict(value)


def is_of_same_kind(tensor: Tensor, target: Tensor) -> bool:
    """Whether both are of floating-point numbers, or both of whole numbers: others would be rounded without a word."""
    return tensor.is_floating_point() == target.is_floating_point()


def load_weights(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy weights into a module that has exactly these.

    Raises:
        RuntimeError: a name is missing or unknown, or a tensor has another shape.
        TypeError: a tensor is of whole numbers in place of floating-point ones, or the other way round.
    """
    targets = module.state_dict()
    other = [name for name, value in state.items() if name in targets and not is_of_same_kind(value, targets[name])]
    if other:
        raise TypeError(f"{other[0]}: found {state[other[0]].dtype}; expected {targets[other[0]].dtype}")
    module.load_state_dict(dict(state))


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
