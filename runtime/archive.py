"""A bundle as a zip and as a folder: it holds exactly the files of its SHA256SUMS, or it is refused.

The opener trusts nothing and repairs nothing. A bundle's entries are stored without compression and without gaps. So
no entry can expand beyond the size of the file, and no byte lies outside an entry.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

from runtime.errors import BundleError
from runtime.litter import is_litter
from runtime.regular_files import open_regular

SUMS = "SHA256SUMS"
FIXED_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip can hold
FILE_MODE = 0o100644 << 16  # a plain file, in zipfile's external attributes
UNIX = 3  # zipfile's create_system

_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*)")
_MAX_SUMS_BYTES = 2**20
_ID_DIGITS = 16
_BLOCK_BYTES = 2**20
_LOCAL_HEADER_BYTES, _CENTRAL_HEADER_BYTES, _END_BYTES = 30, 46, 22

# What zipfile raises on damaged archives, found by mutating real ones.
_ZIP_ERRORS = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error,
    NotImplementedError, RuntimeError, ValueError, LookupError, EOFError, OverflowError, MemoryError, OSError,
)  # fmt: skip


def unpack(zip_path: Path, folder: Path) -> None:
    """Unpack a bundle into a new folder, which appears complete or not at all.

    Raises:
        BundleError: the file is not exactly a bundle, or the folder exists already or cannot be written.
    """
    if os.path.lexists(folder):
        raise BundleError(f"{folder}: exists already; expected a folder that does not exist yet")
    temporary = folder.parent / f".{folder.name}.{os.getpid()}.tmp"
    try:
        temporary.mkdir(parents=True)
        with open_regular(zip_path) as file, zipfile.ZipFile(file) as archive:
            _check_layout(archive, zip_path.stat().st_size)
            for name, digest in _read_list(archive).items():
                _extract(archive, name, digest, temporary)
        temporary.rename(folder)
    except BundleError as error:
        raise BundleError(f"{zip_path}: {error}; expected a bundle as `pipe bundle` writes it") from error
    except _ZIP_ERRORS as error:
        raise BundleError(f"{zip_path}: cannot be unpacked ({error or type(error).__name__})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def verify(folder: Path) -> int:
    """Check that an unpacked bundle holds exactly the files of its SHA256SUMS.

    `__pycache__` folders and the litter of operating systems do not count.

    Returns:
        The number of files in the list.

    Raises:
        BundleError: a file is missing, changed or not listed; the message names it.
    """
    sums = folder / SUMS
    try:
        with open_regular(sums) as file:
            listed = parse_sums(file.read(_MAX_SUMS_BYTES + 1))
        _check_names(_files_in(folder), listed)
        _check_hashes(folder, listed)
    except BundleError as error:
        raise BundleError(f"{sums}: {error}; unpack the bundle anew") from error
    except OSError as error:
        raise BundleError(f"{error.filename}: cannot be read ({error.strerror}); unpack the bundle anew") from error
    return len(listed)


def bundle_id(folder: Path) -> str | None:
    """Return the name of an unpacked bundle: the first 16 hex digits of the sha256 of its SHA256SUMS.

    The list has the hash of every other file, so another bundle has another name. `verify` checks that the files are
    those of the list; this function does not.

    Returns:
        None where the folder has no list.
    """
    try:
        return _sha256(folder / SUMS)[:_ID_DIGITS]
    except FileNotFoundError:
        return None


def parse_sums(data: bytes) -> dict[str, str]:
    """Read the list of a bundle's files: sha256 by name, in the list's sorted order.

    Raises:
        BundleError: a line is not `<64 hex digits>  <plain relative name>`, or the names are unsorted, not distinct or
            too many.
    """
    if len(data) > _MAX_SUMS_BYTES:
        raise BundleError(f"{SUMS} has more than {_MAX_SUMS_BYTES} bytes")
    lines = data.decode("utf-8", errors="replace").split("\n")
    matches = [_LINE.fullmatch(line) for line in lines[:-1]]
    if not matches or None in matches or lines[-1]:
        raise BundleError(f"{SUMS} is not a list of hashes and plain names")
    listed = {match[2]: match[1] for match in matches if match}
    names = list(listed)
    # Names that differ only in case are one file on some devices.
    if names != sorted(names) or len({name.casefold() for name in names} | {SUMS.casefold()}) != len(matches) + 1:
        raise BundleError(f"{SUMS} is not sorted, or a name occurs twice")
    return listed


def _check_layout(archive: zipfile.ZipFile, size: int) -> None:
    """Check that every byte of the file belongs to one entry, or to the directory behind the entries."""
    at = directory = 0
    for entry in archive.infolist():
        _check_entry(entry)
        if entry.header_offset != at:
            raise BundleError(f"{entry.filename!r} overlaps another entry or leaves a gap")
        at += _LOCAL_HEADER_BYTES + len(entry.filename) + entry.file_size
        directory += _CENTRAL_HEADER_BYTES + len(entry.filename)
    if archive.start_dir != at or at + directory + _END_BYTES != size:
        raise BundleError("bytes that belong to no entry")


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = repr(entry.filename)[:100]
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        raise BundleError(f"{name} is compressed")
    if entry.external_attr != FILE_MODE or entry.create_system != UNIX or entry.is_dir():
        raise BundleError(f"{name} is not a plain file")
    if entry.flag_bits or entry.extra or entry.comment:
        raise BundleError(f"{name} is encrypted, or carries more than its bytes")
    if not entry.filename.isascii() or entry.orig_filename != entry.filename:
        raise BundleError(f"{name} is not a plain name")


def _read_list(archive: zipfile.ZipFile) -> dict[str, str]:
    """Read the archive's own list, after checking that its entries are exactly the listed files and the list itself."""
    names = archive.namelist()
    if names.count(SUMS) != 1 or archive.getinfo(SUMS).file_size > _MAX_SUMS_BYTES:
        raise BundleError(f"not one {SUMS}")
    data = archive.read(SUMS)
    listed = parse_sums(data)
    _check_names(set(names), listed)
    if len(names) != len(set(names)):
        raise BundleError("an entry occurs twice")
    return {**listed, SUMS: hashlib.sha256(data).hexdigest()}


def _check_names(present: set[str], listed: dict[str, str]) -> None:
    for name in sorted(present ^ (set(listed) | {SUMS})):
        raise BundleError(f"{name!r} is {'not listed' if name in present else 'missing'}")


def _extract(archive: zipfile.ZipFile, name: str, digest: str, folder: Path) -> None:
    target = folder.joinpath(*name.split("/"))
    target.parent.mkdir(parents=True, exist_ok=True)
    sha256 = hashlib.sha256()
    with archive.open(name) as source, target.open("xb") as file:
        while block := source.read(_BLOCK_BYTES):
            sha256.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    if sha256.hexdigest() != digest:
        raise BundleError(f"{name!r} has been changed")


def _files_in(folder: Path) -> set[str]:
    """Return the names of all files below the folder. Empty folders and litter do not count; links are refused."""
    names = set()
    for parent, folders, all_files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if name != "__pycache__" and not is_litter(name)]
        files = [name for name in all_files if not is_litter(name)]
        links = [name for name in folders if Path(parent, name).is_symlink()]
        names |= {Path(parent, name).relative_to(folder).as_posix() for name in files + links}
    for name in sorted(names):
        if not folder.joinpath(name).is_file() or folder.joinpath(name).is_symlink():
            raise BundleError(f"{name!r} is not a plain file")
    return names


def _raise(error: OSError) -> None:
    raise error


def _check_hashes(folder: Path, listed: dict[str, str]) -> None:
    for name, digest in listed.items():
        if _sha256(folder / name) != digest:
            raise BundleError(f"{name!r} has been changed")


def _sha256(path: Path) -> str:
    sha256 = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(_BLOCK_BYTES):
            sha256.update(block)
    return sha256.hexdigest()
