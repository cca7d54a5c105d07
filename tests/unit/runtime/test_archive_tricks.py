"""Zips with the right contents and one trick each: another reader of zips could see other files in them."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runtime.archive import FILE_MODE, SUMS, UNIX, parse_sums, unpack, verify
from runtime.errors import BundleError

FILES = {"README.md": b"read me\n", "golden/000.npy": b"\x93NUMPY pixels", "runtime/__init__.py": b""}
VICTIM = "golden/000.npy"
LOCAL, CENTRAL, END = "<4s5H3L2H", "<4s6H3L5H2L", "<4s4H2LH"
ENCRYPTED, DESCRIPTOR, UTF8 = 1, 8, 0x800
DEFLATED = 8


@dataclass
class Header:
    """The fields of a local header, or of a header in the directory."""

    name: bytes
    crc32: int
    stored: int
    size: int
    offset: int
    version: int = 20
    flags: int = 0
    method: int = 0
    time: int = 0
    date: int = 33
    extra: bytes = b""
    comment: bytes = b""
    made_by: int = UNIX << 8 | 20
    disk: int = 0
    internal: int = 0
    attributes: int = FILE_MODE

    def local(self) -> bytes:
        fixed = (b"PK\x03\x04", self.version, self.flags, self.method, self.time, self.date, self.crc32, self.stored)
        return struct.pack(LOCAL, *fixed, self.size, len(self.name), len(self.extra)) + self.name + self.extra

    def central(self) -> bytes:
        fixed = (b"PK\x01\x02", self.made_by, self.version, self.flags, self.method, self.time, self.date, self.crc32)
        lengths = (len(self.name), len(self.extra), len(self.comment), self.disk, self.internal, self.attributes)
        packed = struct.pack(CENTRAL, *fixed, self.stored, self.size, *lengths, self.offset)
        return packed + self.name + self.extra + self.comment


@dataclass
class Entry:
    """A file of the zip with its two headers, and the bytes that follow its own."""

    local: Header
    central: Header
    data: bytes
    behind: bytes = b""


@dataclass
class Zip:
    """A zip in its parts, which a trick may change. Without a trick it is what `pipe bundle` writes."""

    entries: list[Entry]
    before: bytes = b""
    between: bytes = b""  # between the last entry and the directory
    before_end: bytes = b""
    behind: bytes = b""
    end: dict[int, int] = field(default_factory=dict)  # fields of the end record, by number
    comment: bytes = b""
    central_order: Callable[[list[Entry]], list[Entry]] = list

    def __getitem__(self, name: str) -> Entry:
        return next(entry for entry in self.entries if entry.central.name == name.encode())

    def pack(self) -> bytes:
        body = self.before
        for entry in self.entries:
            if entry.central.offset < 0:
                entry.local.offset = entry.central.offset = len(body)
            body += entry.local.local() + entry.data + entry.behind
        body += self.between
        central = b"".join(entry.central.central() for entry in self.central_order(self.entries))
        n_entries = len(self.central_order(self.entries))
        values = [b"PK\x05\x06", 0, 0, n_entries, n_entries, len(central), len(body), len(self.comment)]
        for number, value in self.end.items():
            values[number] = value
        return body + central + self.before_end + struct.pack(END, *values) + self.comment + self.behind


def sums(files: dict[str, bytes]) -> bytes:
    return "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)).encode()


def sound(files: dict[str, bytes] = FILES) -> Zip:
    """The zip of a small bundle."""
    entries = []
    for name, data in sorted({**files, SUMS: sums(files)}.items()):
        header = Header(name.encode(), zlib.crc32(data), len(data), len(data), -1)
        entries.append(Entry(header, dataclasses.replace(header), data))
    return Zip(entries)


Trick = Callable[[Zip], object]


def both(**changes: object) -> Trick:
    """Change the same fields in both headers of a file."""

    def change(archive: Zip) -> None:
        for header in (archive[VICTIM].local, archive[VICTIM].central):
            vars(header).update(changes)

    return change


def local(**changes: object) -> Trick:
    return lambda archive: vars(archive[VICTIM].local).update(changes)


def central(**changes: object) -> Trick:
    return lambda archive: vars(archive[VICTIM].central).update(changes)


def part(**changes: object) -> Trick:
    return lambda archive: vars(archive).update(changes)


def in_end(number: int, value: int) -> Trick:
    return lambda archive: archive.end.update({number: value})


def deflated(archive: Zip) -> None:
    """Right contents, compressed, as `zip` writes them."""
    entry = archive[VICTIM]
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(entry.data) + packer.flush()
    for header in (entry.local, entry.central):
        header.method, header.stored = DEFLATED, len(packed)
    entry.data = packed


def described(archive: Zip) -> None:
    """A local header without sizes, and a data descriptor behind the bytes, as streaming writers have it."""
    entry = archive[VICTIM]
    size = len(entry.data)
    entry.behind = struct.pack("<4s3L", b"PK\x07\x08", entry.local.crc32, size, size)
    entry.local.crc32 = entry.local.stored = entry.local.size = 0
    entry.local.flags = entry.central.flags = DESCRIPTOR


def hidden_descriptor(archive: Zip) -> None:
    described(archive)
    archive[VICTIM].local.flags = archive[VICTIM].central.flags = 0


def padded(archive: Zip) -> None:
    """Zeros behind a file, which no directory knows."""
    archive[VICTIM].behind = bytes(16)


def stowaway(archive: Zip) -> None:
    """A whole entry that the directory does not list."""
    data = b"import os\n"
    header = Header(b"runtime/evil.py", zlib.crc32(data), len(data), len(data), 0)
    archive.between = header.local() + data


def stowaway_inside(archive: Zip) -> None:
    data = b"import os\n"
    header = Header(b"runtime/evil.py", zlib.crc32(data), len(data), len(data), 0)
    archive[VICTIM].behind = header.local() + data


def listed_twice(archive: Zip) -> None:
    archive.central_order = lambda entries: [*entries[:2], entries[1], *entries[2:]]


def left_out(archive: Zip) -> None:
    """The directory lacks a file whose entry is there."""
    archive.central_order = lambda entries: [entry for entry in entries if entry.central.name != VICTIM.encode()]


def backwards(archive: Zip) -> None:
    archive.entries.reverse()


def directory_backwards(archive: Zip) -> None:
    archive.central_order = lambda entries: entries[::-1]


def at_anothers_place(archive: Zip) -> None:
    """Two entries swap their places in the directory."""
    archive.pack()
    first, second = archive.entries[0].central, archive.entries[1].central
    first.offset, second.offset = second.offset, first.offset


def shared_bytes(archive: Zip) -> None:
    archive.pack()
    archive.entries[1].central.offset = archive.entries[0].central.offset


def second_directory(archive: Zip) -> None:
    """A whole directory with its end in front of the true one."""
    archive.between = archive.pack()[sum(len(e.local.local()) + len(e.data) for e in archive.entries) :]


def zip64_end(archive: Zip) -> None:
    archive.before_end = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 4, 4, 0, 0)
    archive.before_end += struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1)


def other_names(archive: Zip) -> None:
    """The local header has another name of the same length."""
    archive[VICTIM].local.name = b"golden/001.npy"


def longer_local_name(archive: Zip) -> None:
    archive[VICTIM].local.name = VICTIM.encode() + b"\0.exe"


TRICKS: dict[str, Trick] = {
    # one header or both
    "deflated": deflated,
    "called deflated in the local header": local(method=DEFLATED),
    "called deflated in the directory": central(method=DEFLATED),
    "stored by another method in both": both(method=99),
    "encrypted in the local header": local(flags=ENCRYPTED),
    "encrypted in the directory": central(flags=ENCRYPTED),
    "encrypted in both": both(flags=ENCRYPTED),
    "a data descriptor": described,
    "a data descriptor without its flag": hidden_descriptor,
    "the flag of a descriptor in the local header": local(flags=DESCRIPTOR),
    "the flag of UTF-8": both(flags=UTF8),
    "the flag of UTF-8 in the local header": local(flags=UTF8),
    "size 0 in the local header": local(size=0, stored=0),
    "only the uncompressed size 0": local(size=0),
    "only the compressed size 0": local(stored=0),
    "a larger size in the local header": local(size=1 << 30, stored=1 << 30),
    "sizes for a zip64 field": local(size=0xFFFFFFFF, stored=0xFFFFFFFF, extra=struct.pack("<2H2Q", 1, 16, 13, 13)),
    "checksum 0 in the local header": local(crc32=0),
    "checksum 0 in the directory": central(crc32=0),
    "checksum 0 in both": both(crc32=0),
    "another name in the local header": other_names,
    "a longer name in the local header": longer_local_name,
    "an extra field in the local header": local(extra=b"\x99\x99\x02\x00ab"),
    "an extra field in the directory": central(extra=b"\x99\x99\x02\x00ab"),
    "a Unicode name as an extra field": local(extra=b"\x75\x70\x09\x00\x01\0\0\0\0evil"),
    "a comment on a file": central(comment=b"hidden"),
    "another time in the local header": local(time=1),
    "another date in both": both(date=34),
    "another version in both": both(version=45),
    "another version in the local header": local(version=63),
    "made by Windows": central(made_by=20),
    "made by a later version": central(made_by=UNIX << 8 | 63),
    "a program": central(attributes=0o100755 << 16),
    "a link": central(attributes=0o120777 << 16),
    "a file that calls itself a folder": central(attributes=FILE_MODE | 0x10),
    "called text": central(internal=1),
    "on another disk": central(disk=1),
    # where the bytes lie
    "a program in front": part(before=b"#!/bin/sh\n"),
    "bytes between entries": padded,
    "an entry that the directory does not list": stowaway,
    "an entry inside the gap": stowaway_inside,
    "an entry that the directory lists twice": listed_twice,
    "an entry that the directory leaves out": left_out,
    "bytes before the directory": part(between=bytes(4)),
    "a second directory": second_directory,
    "bytes before the end record": part(before_end=b"\0"),
    "an end record of zip64": zip64_end,
    "bytes behind the end": part(behind=b"\0"),
    "a second end record behind the first": part(behind=struct.pack(END, b"PK\x05\x06", 0, 0, 0, 0, 0, 0, 0)),
    "a comment": part(comment=b"hidden"),
    "a comment that is an end record": part(comment=struct.pack(END, b"PK\x05\x06", 0, 0, 0, 0, 0, 0, 0)),
    "entries that share their bytes": shared_bytes,
    "entries at each other's place": at_anothers_place,
    "entries out of order": backwards,
    "a directory out of order": directory_backwards,
    # the end record
    "this disk is another one": in_end(1, 1),
    "the directory is on another disk": in_end(2, 1),
    "too few entries on this disk": in_end(3, 3),
    "too many entries on this disk": in_end(3, 5),
    "too few entries": in_end(4, 3),
    "too many entries": in_end(4, 5),
    "all entries and too many": lambda archive: archive.end.update({3: 9, 4: 9}),
    "counts for zip64": lambda archive: archive.end.update({3: 0xFFFF, 4: 0xFFFF}),
    "a shorter directory": lambda archive: archive.end.update({5: 100}),
    "a directory elsewhere": in_end(6, 0),
    "the length of a comment that is not there": in_end(7, 4),
}


def assert_refused(archive: bytes, folder: Path) -> None:
    path = folder / "tricky.zip"
    path.write_bytes(archive)
    with pytest.raises(BundleError) as caught:
        unpack(path, folder / "bundle")
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert sorted(folder.iterdir()) == [path]


def test_the_zip_without_a_trick_is_unpacked(tmp_path: Path) -> None:
    """The negative control of all that follows."""
    path = tmp_path / "sound.zip"
    path.write_bytes(sound().pack())
    unpack(path, tmp_path / "bundle")
    assert verify(tmp_path / "bundle") == len(FILES)


@pytest.mark.parametrize("trick", TRICKS.values(), ids=TRICKS)
def test_a_zip_with_the_right_contents_and_a_trick_is_refused(trick: Trick, tmp_path: Path) -> None:
    archive = sound()
    trick(archive)
    content = archive.pack()
    assert content != sound().pack()
    assert_refused(content, tmp_path)


NAMES = {
    "a device": ("golden/con.npy", "Windows cannot hold"),
    "a device without a suffix": ("aux", "Windows cannot hold"),
    "a device in capitals": ("NUL.txt", "Windows cannot hold"),
    "a port": ("com1.log", "Windows cannot hold"),
    "a printer as a folder": ("lpt9/a.txt", "Windows cannot hold"),
    "a device with two suffixes": ("prn.tar.gz", "Windows cannot hold"),
    "a dot at the end": ("golden/a.", "Windows cannot hold"),
    "a folder with a dot at the end": ("golden./a", "Windows cannot hold"),
    "a cache": ("runtime/__pycache__/archive.cpython-311.pyc", "compiled code"),
    "a cache in capitals": ("runtime/__PYCACHE__/archive.py", "compiled code"),
    "compiled code": ("runtime/archive.pyc", "compiled code"),
    "a folder in two spellings": ("Golden/001.npy", "spelled in two ways"),
    "a file that is a folder too": ("README.md/inside", "a file and a folder"),
    "a file that is a folder of another spelling": ("readme.MD/inside", "a file and a folder"),
    "the list as a folder": ("sha256sums/inside", "a file and a folder"),
}


@pytest.mark.parametrize(("name", "reason"), NAMES.values(), ids=NAMES)
def test_a_name_that_a_device_cannot_hold_or_must_not_run_is_refused(name: str, reason: str, tmp_path: Path) -> None:
    files = {**FILES, name: b"more"}
    assert_refused(sound(files).pack(), tmp_path)
    with pytest.raises(BundleError, match=reason):
        parse_sums(sums(files))


@pytest.mark.parametrize("name", ["golden/connect.npy", "com.txt", "com10", "nullable.json", "a.con", "pycache/a.py"])
def test_a_name_that_only_resembles_one_is_accepted(name: str, tmp_path: Path) -> None:
    path = tmp_path / "sound.zip"
    path.write_bytes(sound({**FILES, name: b"more"}).pack())
    unpack(path, tmp_path / "bundle")
    assert (tmp_path / "bundle" / name).read_bytes() == b"more"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(BundleError, match="a named pipe; expected a file"):
        unpack(tmp_path / "pipe.zip", tmp_path / "bundle")
