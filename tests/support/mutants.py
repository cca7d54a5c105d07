"""Damaged and hostile bundles: the same number and seed give the same mutant.

Mutants of even numbers keep the old hashes, so the opener can refuse them. In mutants of odd numbers every hash is
recomputed around the damage, as an attacker would do.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import random
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from runtime import schema
from runtime.archive import FILE_MODE, FIXED_DATE, SUMS, UNIX
from runtime.contract import Contract
from tests.support.mutated_graphs import GRAPH_CHANGES
from tests.support.mutated_text import changed_json, damaged

GRAPH, CONTRACT, GOLDEN, PIXELS = "model.onnx", "contract.json", "golden/golden.json", "golden/000.npy"
ESCAPES = (
    "../escaped", "../../escaped", "golden/../../escaped", "{root}/escaped", "..\\escaped", "C:escaped", ".hidden",
    "a//b", "golden/.", "con\0trol", "鳞片", "x" * 60_000,
)  # fmt: skip
BOMB_BYTES = 200 * 2**20

Files = dict[str, bytes]
Entry = tuple[zipfile.ZipInfo, bytes]


@dataclass(frozen=True)
class Mutant:
    """A bundle that `pipe bundle` did not write."""

    kind: str
    content: bytes  # of the zip

    @property
    def is_other_graph(self) -> bool:
        """Whether the mutant lists a changed graph with its right hash."""
        return self.kind.startswith("graph, ")


def mutant(number: int, pristine: Files, root: str, seed: int = 0) -> Mutant:
    """Make a mutant of a bundle's files.

    Args:
        number: which mutant; its kind follows from the number.
        pristine: the sound bundle's files by name.
        root: absolute names in the mutant lead into this folder.
        seed: another seed gives other mutants.
    """
    chance, kind = random.Random(f"{seed}/{number}"), kind_of(number)
    return Mutant(kind, _kinds(number)[kind](chance, pristine, root))


def kind_of(number: int) -> str:
    """Return the kind of a mutant by its number."""
    return list(_kinds(number))[number // 2 % len(_kinds(number))]


def _kinds(number: int) -> dict[str, Make]:
    return NEW_HASHES if number % 2 else OLD_HASHES


def zipped(files: Files) -> bytes:
    """Pack files into an archive of the form that the opener accepts."""
    return _zip([(entry(name), files[name]) for name in sorted(files)])


def entry(name: str, mode: int = FILE_MODE) -> zipfile.ZipInfo:
    """Return an entry as a bundle has it."""
    info = zipfile.ZipInfo(name, FIXED_DATE)
    info.filename = name  # zipfile cuts a name at a zero byte
    info.create_system, info.external_attr = UNIX, mode
    return info


def rehashed(files: Files) -> Files:
    """Return the files with right hashes: in the list, and of the graphs in the contract."""
    files = dict(files)
    with_hashes = _contract_with_hashes(files)
    if with_hashes is not None:
        files[CONTRACT] = with_hashes
    lines = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files) if name != SUMS]
    files[SUMS] = "".join(lines).encode("utf-8", "surrogateescape")
    return files


def _contract_with_hashes(files: Files) -> bytes | None:
    try:
        values = json.loads(files[CONTRACT])
        for variant in values["variants"]:
            graph = files[variant["file"]]
            variant |= {"sha256": hashlib.sha256(graph).hexdigest(), "bytes": len(graph)}
    except (ValueError, LookupError, TypeError, RecursionError):
        return None  # the contract is damaged on purpose
    return json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _zip(entries: list[Entry], comment: bytes = b"") -> bytes:
    target = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w") as archive:
        warnings.simplefilter("ignore")  # zipfile warns of repeated names
        archive.comment = comment
        for info, content in entries:
            archive.writestr(info, content)
    return target.getvalue()


# With old hashes: changes of the archive itself


def _damaged_archive(chance: random.Random, files: Files, root: str) -> bytes:
    return damaged(chance, zipped(files))


def _changed_file(chance: random.Random, files: Files, root: str) -> bytes:
    name = chance.choice(sorted(files))
    return zipped({**files, name: damaged(chance, files[name])})


def _changed_directory(chance: random.Random, files: Files, root: str) -> bytes:
    """Change a byte of the headers, which hold sizes, offsets, names and flags."""
    data = bytearray(zipped(files))
    headers = [at for at in range(len(data) - 4) if data[at : at + 2] == b"PK" and data[at + 2] in (1, 3, 5)]
    at = chance.choice(headers) + chance.randrange(46)
    data[min(at, len(data) - 1)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    return bytes(data)


def _absurd_size(chance: random.Random, files: Files, root: str) -> bytes:
    """Write an impossible size, or that of another entry, into an entry of the directory."""
    data = bytearray(zipped(files))
    directory = data.index(b"PK\x01\x02")
    for _ in range(chance.randrange(len(files))):
        directory = data.index(b"PK\x01\x02", directory + 1)
    size = chance.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF, len(data), chance.getrandbits(32)))
    for offset in chance.choice(((20, 24), (24,), (20,), (42,))):  # packed size, size, offset of the entry
        struct.pack_into("<I", data, directory + offset, size)
    return bytes(data)


def _odd_entry(chance: random.Random, files: Files, root: str) -> bytes:
    """Turn an entry into a link, a folder or a program, or add an extra field, a comment or compression."""
    name = chance.choice(sorted(files))
    info, content = entry(name), files[name]
    what = chance.randrange(6)
    if what < 3:
        kind = (stat.S_IFLNK | 0o777, stat.S_IFDIR | 0o755, stat.S_IFREG | 0o4755)[what]
        info, content = entry(name, kind << 16), (f"{root}/escaped".encode() if what == 0 else content)
    elif what == 3:
        info.extra = b"\x99\x99\x02\x00ab"
    elif what == 4:
        info.comment = b"hidden"
    else:
        info.compress_type = zipfile.ZIP_DEFLATED
    entries = [(info, content) if other == name else (entry(other), files[other]) for other in sorted(files)]
    return _zip(entries, b"a comment" if what == 5 else b"")


def _escaping_entry(chance: random.Random, files: Files, root: str) -> bytes:
    return zipped({**files, _escape(chance, root): b"escaped"})


def _repeated_entry(chance: random.Random, files: Files, root: str) -> bytes:
    name = chance.choice(sorted(files))
    again = entry(name), chance.choice((files[name], b"another", b""))
    entries = [(entry(listed), files[listed]) for listed in sorted(files)]
    entries.insert(chance.randrange(len(entries) + 1), again)
    return _zip(entries)


def _overlapping_bomb(chance: random.Random, files: Files, root: str) -> bytes:
    """Let the directory name the same bytes many times."""
    data = zipped(files)
    directory = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    first_end = data.find(b"PK\x01\x02", directory + 1)
    first = bytearray(data[directory:first_end])
    times = chance.choice((1, 50, 3000))
    total = len(files) + times
    many = b"".join(bytes(first[:46]) + b"%0*d" % (len(first) - 46, number) for number in range(times))
    size = end - directory + len(many)
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, total, total, size, directory, 0)
    return data[:end] + many + tail


def _deflated_bomb(chance: random.Random, files: Files, root: str) -> bytes:
    """Replace a file by little data that expands to much; the directory states the true size or another one."""
    name = chance.choice((GRAPH, CONTRACT, SUMS, GOLDEN))
    packed = _packed_zeros()
    data = bytearray(zipped({**files, name: packed}))
    stated = chance.choice((BOMB_BYTES, len(packed), 10))
    for mark, method, size in ((b"PK\x03\x04", 8, 22), (b"PK\x01\x02", 10, 24)):
        at = data.index(name.encode(), data.index(mark)) - (30 if mark[2] == 3 else 46)
        if chance.random() < 0.8:
            struct.pack_into("<H", data, at + method, zipfile.ZIP_DEFLATED)
        struct.pack_into("<I", data, at + size, stated)
    return bytes(data)


@functools.cache
def _packed_zeros() -> bytes:
    packer, zeros = zlib.compressobj(9, zlib.DEFLATED, -15), bytes(2**20)
    return b"".join([*(packer.compress(zeros) for _ in range(BOMB_BYTES // len(zeros))), packer.flush()])


def _graph_without_its_hash(chance: random.Random, files: Files, root: str) -> bytes:
    change = chance.choice(list(GRAPH_CHANGES.values()))
    return zipped({**files, GRAPH: change(chance, files[GRAPH], root)})


def _escape(chance: random.Random, root: str) -> str:
    return chance.choice(ESCAPES).replace("{root}", root)


# With new hashes: changes of listed files


def _damaged_and_listed(name: str) -> Callable[[random.Random, Files, str], bytes]:
    def make(chance: random.Random, files: Files, root: str) -> bytes:
        return zipped(rehashed({**files, name: damaged(chance, files[name])}))

    return make


def _changed_graph(name: str) -> Callable[[random.Random, Files, str], bytes]:
    def make(chance: random.Random, files: Files, root: str) -> bytes:
        return zipped(rehashed({**files, GRAPH: GRAPH_CHANGES[name](chance, files[GRAPH], root)}))

    return make


def _changed_contract(chance: random.Random, files: Files, root: str) -> bytes:
    """Change any value. If the reader accepts the contract, half of the time the graph names it as its own."""
    text = changed_json(chance, files[CONTRACT], root)
    files = {**files, CONTRACT: text}
    if chance.random() < 0.5:
        try:
            contract = schema.parse(Contract, json.loads(text))
        except (ValueError, RecursionError):
            return zipped(rehashed(files))
        files[GRAPH] = GRAPH_CHANGES["metadata"](chance, files[GRAPH], json.dumps(contract.metadata()))
    return zipped(rehashed(files))


def _changed_golden_list(chance: random.Random, files: Files, root: str) -> bytes:
    return zipped(rehashed({**files, GOLDEN: changed_json(chance, files[GOLDEN], root)}))


def _changed_pixels(chance: random.Random, files: Files, root: str) -> bytes:
    """Write a header that the data do not fit: another shape, type, order or version."""
    shape = chance.choice((
        "(24, 32, 3)", "(10**9, 10**9, 3)", "(-1, 32, 3)", "(1000000, 1000000, 3)", "(24, 32)", "()", "(0, 0, 3)", "24",
    ))  # fmt: skip
    kind = chance.choice((
        "'|u1'", "'|O'", "'<f8'", "'<U999999999'", "[('a', '|u1')]", "'|V8'", "__import__('os')",
    ))  # fmt: skip
    order = chance.choice(("False", "True", "None", "'" + "x" * 70_000 + "'"))
    header = f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    length = chance.choice((len(header), 0, 65535))
    version = chance.choice((b"\x01\x00", b"\x02\x00", b"\x09\x00"))
    content = b"\x93NUMPY" + version + struct.pack("<H", min(length, 65535)) + header + files[PIXELS][128:]
    return zipped(rehashed({**files, PIXELS: content}))


def _escaping_and_listed(chance: random.Random, files: Files, root: str) -> bytes:
    return zipped(rehashed({**files, _escape(chance, root): b"escaped"}))


def _bomb_and_listed(chance: random.Random, files: Files, root: str) -> bytes:
    return _deflated_bomb(chance, rehashed({**files, GRAPH: bytes(1000)}), root)


Make = Callable[[random.Random, Files, str], bytes]
OLD_HASHES: dict[str, Make] = {
    "damaged archive": _damaged_archive,
    "changed file": _changed_file,
    "changed directory": _changed_directory,
    "absurd size": _absurd_size,
    "odd entry": _odd_entry,
    "escaping entry": _escaping_entry,
    "repeated entry": _repeated_entry,
    "overlapping bomb": _overlapping_bomb,
    "deflated bomb": _deflated_bomb,
    "graph without its hash": _graph_without_its_hash,
}
NEW_HASHES: dict[str, Make] = {
    **{f"graph, {name}": _changed_graph(name) for name in GRAPH_CHANGES},
    "graph, damaged": _damaged_and_listed(GRAPH),
    "contract": _changed_contract,
    "golden list": _changed_golden_list,
    "golden pixels": _changed_pixels,
    "golden pixels, damaged": _damaged_and_listed(PIXELS),
    "golden picture, damaged": _damaged_and_listed("golden/000.jpg"),
    "escaping and listed": _escaping_and_listed,
    "bomb and listed": _bomb_and_listed,
}
