"""A bundle as a zip and as a folder: it holds exactly the files of its SHA256SUMS, or it is refused.

The opener trusts nothing and repairs nothing. A bundle's entries are stored without compression and without gaps, and
names, sizes and checksums decide every other byte of its headers. So no entry can expand beyond the size of the file,
no byte lies outside an entry, and no two readers of zips can see different files in it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from runtime.errors import BundleError
from runtime.system.litter import is_litter
from runtime.system.regular_files import open_regular

SUMS = "SHA256SUMS"
FIXED_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip can hold
FILE_MODE = 0o100644 << 16  # a plain file, in zipfile's external attributes
UNIX = 3  # zipfile's create_system

_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*)")
_MAX_SUMS_BYTES = 2**20
_MAX_DIRECTORY_BYTES = 4 * 2**20  # more than the names of the longest list need
_ID_DIGITS = 16
_BLOCK_BYTES = 2**20
# Windows opens a device where a file has such a name, whatever its suffix.
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}
)
_BYTECODE_FOLDER, _BYTECODE_SUFFIXES = "__pycache__", (".pyc", ".pyo")

# The records of a zip (PKWARE's APPNOTE, 4.3): local header, header in the directory, end of the directory.
_LOCAL, _CENTRAL, _END = struct.Struct("<4s5H3L2H"), struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s4H2LH")
_LOCAL_START, _CENTRAL_START, _END_START = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_VERSION, _STORED, _NO_FLAGS, _TIME = 20, 0, 0, 0
_DATE = (FIXED_DATE[0] - 1980) << 9 | FIXED_DATE[1] << 5 | FIXED_DATE[2]


@dataclass(frozen=True)
class _Entry:
    """What an archive says of one file. The rest of its two headers is the same for every file of a bundle."""

    name: str
    crc32: int
    size: int
    offset: int  # of the local header

    @property
    def local_header(self) -> bytes:
        name = self.name.encode("ascii")
        fixed = (_VERSION, _NO_FLAGS, _STORED, _TIME, _DATE)
        return _LOCAL.pack(_LOCAL_START, *fixed, self.crc32, self.size, self.size, len(name), 0) + name

    @property
    def central_header(self) -> bytes:
        name = self.name.encode("ascii")
        fixed = (UNIX << 8 | _VERSION, _VERSION, _NO_FLAGS, _STORED, _TIME, _DATE)
        sizes = (self.crc32, self.size, self.size, len(name))
        return _CENTRAL.pack(_CENTRAL_START, *fixed, *sizes, 0, 0, 0, 0, FILE_MODE, self.offset) + name

    @property
    def start(self) -> int:
        """Where its bytes begin."""
        return self.offset + _LOCAL.size + len(self.name)


def unpack(zip_path: Path, folder: Path) -> None:
    """Unpack a bundle into a new folder, which appears complete or not at all.

    Raises:
        BundleError: the file is not exactly a bundle, or the folder exists already or cannot be written.
    """
    if os.path.lexists(folder):
        raise BundleError(f"{folder}: exists already; expected a folder that does not exist yet")
    temporary = folder.parent / f".{folder.name}.{os.getpid()}.tmp"
    try:
        with open_regular(zip_path) as archive:
            entries = _read_entries(archive)
            temporary.mkdir(parents=True)
            for name, digest in _read_list(archive, entries).items():
                _extract(archive, entries[name], digest, temporary)
        temporary.rename(folder)
    except BundleError as error:
        raise BundleError(f"{zip_path}: {error}; expected a bundle as `pipe bundle` writes it") from error
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise BundleError(f"{zip_path}: cannot be unpacked ({reason})") from error
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
    _check_portable(names)
    return listed


def _check_portable(names: list[str]) -> None:
    """Refuse names that some device cannot hold, or that mean compiled code, which Python would run unread."""
    files = {name.casefold() for name in (*names, SUMS)}
    spelled: dict[str, str] = {}  # each folder by its casefolded name
    for name in names:
        parts = name.split("/")
        for part in parts:
            if part.endswith(".") or part.split(".")[0].casefold() in _DEVICES:
                raise BundleError(f"{SUMS}: {name!r} is a name that Windows cannot hold")
            if part.casefold() == _BYTECODE_FOLDER or part.casefold().endswith(_BYTECODE_SUFFIXES):
                raise BundleError(f"{SUMS}: {name!r} is compiled code")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            if folder.casefold() in files:
                raise BundleError(f"{SUMS}: {folder!r} is a file and a folder")
            if spelled.setdefault(folder.casefold(), folder) != folder:
                raise BundleError(f"{SUMS}: the folder {folder!r} is spelled in two ways")


def _read_entries(archive: BinaryIO) -> dict[str, _Entry]:
    """Read the directory of an archive, and check that every byte of the file is one that `pipe bundle` writes.

    Returns:
        The entries by name, sorted.

    Raises:
        BundleError: a header is not that of a stored plain file, the two headers of an entry differ, a name occurs
            twice or out of order, or a byte belongs to no entry.
    """
    size = archive.seek(0, os.SEEK_END)
    end = _read_at(archive, size - _END.size, _END.size)
    if not end.startswith(_END_START):
        raise BundleError("is not a zip file, or has bytes behind its end")
    *_, n_entries, directory_bytes, directory_start, _ = _END.unpack(end)
    if directory_start + directory_bytes + _END.size != size or directory_bytes > _MAX_DIRECTORY_BYTES:
        raise BundleError("has bytes that belong to no entry")
    if end != _END.pack(_END_START, 0, 0, n_entries, n_entries, directory_bytes, directory_start, 0):
        raise BundleError("is one of several parts, miscounts its entries, or has a comment")
    entries = _parse_directory(_read_at(archive, directory_start, directory_bytes))
    at = 0
    for entry in entries:
        if entry.offset != at:
            raise BundleError(f"{entry.name!r} overlaps another entry or leaves a gap")
        if _read_at(archive, at, len(entry.local_header)) != entry.local_header:
            raise BundleError(f"{entry.name!r} has two headers that differ")
        at = entry.start + entry.size
    if at != directory_start or len(entries) != n_entries:
        raise BundleError("has bytes that belong to no entry, or miscounts its entries")
    names = [entry.name for entry in entries]
    if names != sorted(set(names)):
        raise BundleError("has an entry twice, or its entries are not sorted")
    return dict(zip(names, entries, strict=True))


def _parse_directory(directory: bytes) -> list[_Entry]:
    entries, at = list[_Entry](), 0
    while at < len(directory):
        header = directory[at : at + _CENTRAL.size]
        if len(header) < _CENTRAL.size or not header.startswith(_CENTRAL_START):
            raise BundleError("has a damaged directory")
        name_bytes = _CENTRAL.unpack(header)[10]
        entries.append(_parse_central(header, directory[at + _CENTRAL.size : at + _CENTRAL.size + name_bytes]))
        at += len(entries[-1].central_header)
    return entries


def _parse_central(header: bytes, name: bytes) -> _Entry:
    """Read one header of the directory, and refuse it unless each of its bytes follows from name, size and checksum."""
    (_, made_by, _, flags, method, _, _, crc32, stored, size, _, extra, comment, _, _, attributes, offset) = (
        _CENTRAL.unpack(header)
    )
    shown = repr(name.decode("ascii", "backslashreplace"))[:100]
    if method != _STORED or stored != size:
        raise BundleError(f"{shown} is compressed")
    if flags != _NO_FLAGS or extra or comment:
        raise BundleError(f"{shown} is encrypted, or carries more than its bytes")
    if attributes != FILE_MODE or made_by >> 8 != UNIX:
        raise BundleError(f"{shown} is not a plain file")
    if not name.isascii() or b"\0" in name:
        raise BundleError(f"{shown} is not a plain name")
    entry = _Entry(name.decode("ascii"), crc32, size, offset)
    if header + name != entry.central_header:
        raise BundleError(f"{shown} has a header with another date, version or disk")
    return entry


def _read_at(archive: BinaryIO, start: int, n_bytes: int) -> bytes:
    """Read bytes at a place; fewer where the file ends before."""
    archive.seek(max(start, 0))
    return archive.read(n_bytes)


def _read_list(archive: BinaryIO, entries: dict[str, _Entry]) -> dict[str, str]:
    """Read the archive's own list, after checking that its entries are exactly the listed files and the list itself."""
    if SUMS not in entries or entries[SUMS].size > _MAX_SUMS_BYTES:
        raise BundleError(f"not one {SUMS}")
    data = _read_at(archive, entries[SUMS].start, entries[SUMS].size)
    listed = parse_sums(data)
    _check_names(set(entries), listed)
    return {**listed, SUMS: hashlib.sha256(data).hexdigest()}


def _check_names(present: set[str], listed: dict[str, str]) -> None:
    for name in sorted(present ^ (set(listed) | {SUMS})):
        raise BundleError(f"{name!r} is {'not listed' if name in present else 'missing'}")


def _extract(archive: BinaryIO, entry: _Entry, digest: str, folder: Path) -> None:
    target = folder.joinpath(*entry.name.split("/"))
    target.parent.mkdir(parents=True, exist_ok=True)
    sha256, crc32, left = hashlib.sha256(), 0, entry.size
    archive.seek(entry.start)
    with target.open("xb") as file:
        while block := archive.read(min(left, _BLOCK_BYTES)):
            sha256.update(block)
            crc32 = zlib.crc32(block, crc32)
            file.write(block)
            left -= len(block)
        file.flush()
        os.fsync(file.fileno())
    if sha256.hexdigest() != digest:
        raise BundleError(f"{entry.name!r} has been changed")
    if crc32 != entry.crc32:
        raise BundleError(f"{entry.name!r} has another checksum in its headers")


def _files_in(folder: Path) -> set[str]:
    """Return the names of all files below the folder. Empty folders and litter do not count; links are refused."""
    names = set()
    for parent, folders, all_files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if name != _BYTECODE_FOLDER and not is_litter(name)]
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
