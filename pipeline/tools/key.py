"""Make a key that signs bundles, and write the program that verifies them on a device."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from export.bundle.signature import SigningKey
from pipeline.base.errors import DataError
from pipeline.base.files import replacing_file
from pipeline.base.project import Project

_OWNER_ONLY = 0o600
_PLACE_OF_THE_KEY = 'PUBLIC_KEY = ""'  # in verify_bundle.py


@dataclass(frozen=True)
class KeyReport:
    """What was written."""

    headline: str


def new_key(path: Path) -> KeyReport:
    """Write a new private key, which only its owner may read.

    Raises:
        DataError: the file exists already. A private key cannot be made again, so none is overwritten.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
    except FileExistsError as error:
        raise DataError(f"{path}: exists already; expected a free name, since a key cannot be made again") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        path.unlink()  # half a key
        raise
    return KeyReport(f"new key {SigningKey(private).key_id}: {path}; keep it secret, and out of git")


def export_verifier(key_path: Path, project: Project) -> KeyReport:
    """Write `dist/verify_bundle.py`: the verifier with the public half of a key.

    Raises:
        DataError: the key cannot be read.
    """
    key = SigningKey.read(key_path)
    program = Path(__file__).with_name("verify_bundle.py").read_text(encoding="utf-8")
    with replacing_file(project.verify_bundle_py) as temporary:
        text = program.replace(_PLACE_OF_THE_KEY, f'PUBLIC_KEY = "{key.public_hex}"')
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return KeyReport(f"wrote the verifier of the key {key.key_id}: {project.relative(project.verify_bundle_py)}")
