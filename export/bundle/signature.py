"""Sign a bundle with Ed25519: the zip for whoever carries it, and SHA256SUMS for whoever has unpacked it.

The signatures lie beside the bundle. Nothing inside can vouch for it, since a bundle carries code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.base.errors import DataError
from runtime.system.regular_files import read_regular

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


_MOST_KEY_BYTES = 2**16


@dataclass(frozen=True)
class SigningKey:
    """A private key. Its file is PKCS#8 in PEM, without a password, as `pipe key new` and OpenSSL write it."""

    private: Ed25519PrivateKey

    @classmethod
    def read(cls, path: Path) -> SigningKey:
        """Read the file of a private key.

        Raises:
            DataError: it is not an Ed25519 key without a password.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        expected = "expected a private key of Ed25519 without a password, as `pipe key new` writes it"
        try:
            key = load_pem_private_key(read_regular(path, _MOST_KEY_BYTES), password=None)
        except TypeError as error:  # the key is encrypted
            raise DataError(f"{path}: found a key with a password; {expected}") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise DataError(f"{path}: found no private key; {expected}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise DataError(f"{path}: found a key of another algorithm; {expected}")
        return cls(key)

    @property
    def public_hex(self) -> str:
        """The public key, 64 hex digits."""
        return self.private.public_key().public_bytes_raw().hex()

    @property
    def key_id(self) -> str:
        """The first 16 digits of the public key, which messages show."""
        return self.public_hex[:16]

    def sign(self, content: bytes) -> bytes:
        """Return the signature of some bytes: 64 bytes."""
        return self.private.sign(content)
