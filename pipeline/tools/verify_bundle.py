#!/usr/bin/env python3
"""Verify who made a bundle, before anything of it is unpacked or run.

python3 -I verify_bundle.py bundle.zip [SIGNATURE]    the zip; its signature is bundle.zip.sig beside it
python3 -I verify_bundle.py FOLDER [SIGNATURE]        an unpacked bundle; SHA256SUMS.sig lies beside the folder

Exit codes: 0 the bundle is whole and signed by the owner of the key below; 1 it is refused, with one line; 2 wrong
usage. A bundle carries code. So this program must reach the device by another way than the bundle does.

It needs Python 3.8 and its standard library. It cannot sign: it holds a public key, which `pipe key export` wrote.
The signature is Ed25519 (RFC 8032) over the bytes of the zip, or of SHA256SUMS: 64 bytes and nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

PUBLIC_KEY = ""  # 64 hex digits

SUMS = "SHA256SUMS"
# What zipfile raises on files that are no archive.
_ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, ValueError, LookupError, EOFError, OverflowError,
    MemoryError,
)  # fmt: skip
_KEY_BYTES, _SIGNATURE_BYTES = 32, 64
_BLOCK_BYTES = 2**20
_MAX_SUMS_BYTES = 2**20


class VerificationError(Exception):
    """The bundle is not what the owner of the key signed. The message is one line."""


# Ed25519, as in RFC 8032, section 5.1. Nothing here is secret, so nothing here takes care of timing.

_P = 2**255 - 19  # the field's prime
_L = 2**252 + 27742317777372353535851937790883648493  # the order of the base point
_D = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_1 = pow(2, (_P - 1) // 4, _P)
_SIGN_BIT = 255


class Point(NamedTuple):
    """A point of the curve in extended coordinates: x = X/Z, y = Y/Z, x * y = T/Z."""

    x: int
    y: int
    z: int
    t: int


_IDENTITY = Point(0, 1, 1, 0)


def is_signed(message: Iterable[bytes], signature: bytes, public_key: bytes) -> bool:
    """Whether the owner of a public key signed a message.

    There is one valid encoding of each number: S is below the group's order, and points have coordinates below the
    prime. A public key outside the group of the base point is refused, since such a key can accept forgeries.

    Args:
        message: the message in blocks; read once.
        signature: R and S, 64 bytes.
        public_key: 32 bytes.
    """
    key = _decoded(public_key)
    s = int.from_bytes(signature[_KEY_BYTES:], "little")
    if len(signature) != _SIGNATURE_BYTES or s >= _L or key is None or not _is_in_the_group(key):
        return False
    digest = hashlib.sha512(signature[:_KEY_BYTES] + public_key)
    for block in message:
        digest.update(block)
    k = int.from_bytes(digest.digest(), "little") % _L
    minus_key = Point(_P - key.x, key.y, key.z, _P - key.t)
    r = _sum(_product(s, _BASE), _product(k, minus_key))
    return _encoded(r) == signature[:_KEY_BYTES]  # the bytes, so R has one encoding too


def _decoded(data: bytes) -> Point | None:
    """Return the point that 32 bytes encode, or None if they do not encode one in the one valid form."""
    number = int.from_bytes(data, "little")
    y, is_odd = number % 2**_SIGN_BIT, number >> _SIGN_BIT
    if len(data) != _KEY_BYTES or y >= _P:
        return None
    x_squared = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(x_squared, (_P + 3) // 8, _P)
    if (x * x - x_squared) % _P:
        x = x * _ROOT_OF_MINUS_1 % _P
    if (x * x - x_squared) % _P or (x == 0 and is_odd):
        return None
    if x % 2 != is_odd:
        x = _P - x
    return Point(x, y, 1, x * y % _P)


def _encoded(point: Point) -> bytes:
    inverse = pow(point.z, -1, _P)
    x, y = point.x * inverse % _P, point.y * inverse % _P
    return (y | (x % 2) << _SIGN_BIT).to_bytes(_KEY_BYTES, "little")


def _sum(p: Point, q: Point) -> Point:
    a, b = (p.y - p.x) * (q.y - q.x) % _P, (p.y + p.x) * (q.y + q.x) % _P
    c, d = 2 * p.t * q.t * _D % _P, 2 * p.z * q.z % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return Point(e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _product(number: int, point: Point) -> Point:
    total = _IDENTITY
    while number:
        if number % 2:
            total = _sum(total, point)
        point, number = _sum(point, point), number // 2
    return total


def _is_in_the_group(point: Point) -> bool:
    identity = _encoded(_IDENTITY)
    return _encoded(point) != identity and _encoded(_product(_L, point)) == identity


def _base_point() -> Point:
    base = _decoded((4 * pow(5, -1, _P) % _P).to_bytes(_KEY_BYTES, "little"))
    assert base is not None  # noqa: S101  # it is a constant
    return base


_BASE = _base_point()


# Bundles


def verify_zip(path: Path, signature: Path, public_key: bytes) -> str:
    """Check that a zip is what the owner of the key signed, to the last byte.

    Args:
        path: the zip.
        signature: the file of its signature.
        public_key: 32 bytes.

    Returns:
        The bundle's `bundle_id`.

    Raises:
        VerificationError: it is not, or is no bundle.
    """
    with path.open("rb") as file:
        if not is_signed(_blocks(file), _read_signature(signature), public_key):
            raise VerificationError(_other_signature(path, signature, public_key))
        try:
            with zipfile.ZipFile(file) as archive, archive.open(SUMS) as sums:
                return _bundle_id(_read_sums(sums, path))
        except _ZIP_ERRORS as error:
            raise VerificationError(f"{path}: is signed and is no bundle ({error})") from error


def verify_folder(folder: Path, signature: Path, public_key: bytes) -> str:
    """Check that an unpacked bundle holds exactly the files of its list, and that the owner of the key signed the list.

    `__pycache__` folders are refused too: Python may run what lies in them in place of the code beside them.

    Args:
        folder: the unpacked bundle.
        signature: the file of the signature of its SHA256SUMS.
        public_key: 32 bytes.

    Returns:
        The bundle's `bundle_id`.

    Raises:
        VerificationError: a file is missing, changed or not listed, or the list is not signed.
    """
    present = set(_files_in(folder))
    path = folder / SUMS
    with path.open("rb") as file:
        sums = _read_sums(file, path)
    if not is_signed([sums], _read_signature(signature), public_key):
        raise VerificationError(_other_signature(path, signature, public_key))
    lines = sums.decode(errors="replace").splitlines()
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name in sorted(present ^ {*listed, SUMS}):
        fault = "is not listed; delete it" if name in present else "is missing"
        raise VerificationError(f"{path}: {name!r} {fault}, or unpack the bundle anew")
    for name, digest in listed.items():
        if _sha256(folder / name) != digest:
            raise VerificationError(f"{path}: {name!r} has been changed; unpack the bundle anew")
    return _bundle_id(sums)


def _read_signature(path: Path) -> bytes:
    with path.open("rb") as file:
        signature = file.read(_SIGNATURE_BYTES + 1)
    if len(signature) != _SIGNATURE_BYTES:
        size = "more than 64 bytes" if len(signature) > _SIGNATURE_BYTES else f"{len(signature)} bytes"
        raise VerificationError(
            f"{path}: has {size}; expected a signature of 64 bytes, as `pipe bundle --sign` writes it"
        )
    return signature


def _read_sums(file: IO[bytes], path: Path) -> bytes:
    sums = file.read(_MAX_SUMS_BYTES + 1)
    if len(sums) > _MAX_SUMS_BYTES:
        raise VerificationError(f"{path}: {SUMS} has more than {_MAX_SUMS_BYTES} bytes")
    return sums


def _other_signature(path: Path, signature: Path, public_key: bytes) -> str:
    return (
        f"{path}: {signature.name} is not its signature by the key {_key_id(public_key)}; the file was changed, or"
        " another key signed it; do not use it"
    )


def _files_in(folder: Path) -> Iterator[str]:
    """Yield the names of all files below the folder, of links to folders too.

    Raises:
        VerificationError: one of them is not a plain file.
    """
    for parent, folders, files in os.walk(str(folder), onerror=_raise):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for path in (Path(parent, name) for name in files + links):
            name = path.relative_to(folder).as_posix()
            if path.is_symlink() or not path.is_file():
                raise VerificationError(f"{folder}: {name!r} is not a plain file; unpack the bundle anew")
            yield name


def _raise(error: OSError) -> None:
    raise error


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.read(_BLOCK_BYTES), b"")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in _blocks(file):
            digest.update(block)
    return digest.hexdigest()


def _bundle_id(sums: bytes) -> str:
    return hashlib.sha256(sums).hexdigest()[:16]


def _key_id(public_key: bytes) -> str:
    return public_key.hex()[:16]


def main(arguments: Sequence[str] | None = None, public_key: str = PUBLIC_KEY) -> int:
    """Verify one bundle and return the exit code."""
    parser = argparse.ArgumentParser(description="Verify who made a bundle, before anything of it is unpacked or run.")
    parser.add_argument("bundle", type=Path, help="bundle.zip, or the folder of an unpacked bundle")
    parser.add_argument("signature", type=Path, nargs="?", help=f"default: BUNDLE.sig, or {SUMS}.sig beside the folder")
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name may hold bytes that are not text
    bundle: Path = options.bundle
    if not public_key:
        return _refuse("verify_bundle.py: holds no public key; `pipe key export` writes the file that does")
    key = bytes.fromhex(public_key)
    try:
        if bundle.is_dir():
            name = verify_folder(bundle, options.signature or bundle.resolve().parent / f"{SUMS}.sig", key)
        else:
            name = verify_zip(bundle, options.signature or Path(f"{bundle}.sig"), key)
    except VerificationError as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(f"{error.filename or bundle}: cannot be read ({error.strerror or error})")
    sys.stdout.write(f"{bundle}: bundle {name}, signed by the key {_key_id(key)}\n")
    return 0


def _refuse(message: str) -> int:
    sys.stderr.write(f"refused: {' '.join(message.split())}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
