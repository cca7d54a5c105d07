"""A signed bundle beside which mutants lie: the verifier accepts the signed bytes alone."""

from __future__ import annotations

import contextlib
import io
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pipeline.tools import verify_bundle
from runtime.archive import SUMS
from tests.support.mutants import Files, zipped
from tests.support.mutated_text import damaged

OWNER, FOREIGNER = (Ed25519PrivateKey.from_private_bytes(bytes([number] * 32)) for number in (1, 2))
OWNER_HEX = OWNER.public_key().public_bytes_raw().hex()
ACCEPTS, REFUSES = 0, 1  # the verifier's exit codes


@dataclass(frozen=True)
class SignedBundle:
    """The sound bundle, and the owner's signatures of its zip and of its list."""

    files: Files
    zip_bytes: bytes
    zip_signature: bytes
    sums_signature: bytes

    @classmethod
    def of(cls, files: Files) -> SignedBundle:
        content = zipped(files)
        return cls(files, content, OWNER.sign(content), OWNER.sign(files[SUMS]))

    def fault_with_zip(self, mutant_zip: Path) -> str | None:
        """Return what the verifier gets wrong about a mutant and about a damaged signature, or None.

        The mutant gets the owner's signature of the sound bundle, a foreigner's of the mutant, and the owner's own. The
        sound bundle gets a damaged signature.
        """
        mutant = mutant_zip.read_bytes()
        spoiled = damaged(random.Random(mutant), self.zip_signature)
        with tempfile.TemporaryDirectory(prefix="signed-") as folder:
            sound_zip = Path(folder) / "sound.zip"
            sound_zip.write_bytes(self.zip_bytes)
            cases = (
                ("the sound bundle's signature", mutant_zip, self.zip_signature, mutant == self.zip_bytes),
                ("a foreigner's signature", mutant_zip, FOREIGNER.sign(mutant), False),
                ("a damaged signature", sound_zip, spoiled, spoiled == self.zip_signature),
                ("the owner's signature", mutant_zip, OWNER.sign(mutant), None),
            )
            for what, path, signature, is_signed in cases:
                if fault := _fault(path, _written(signature, folder), is_signed):
                    return f"{what}: {fault}"
        return None

    def fault_with_folder(self, folder: Path) -> str | None:
        """Return what the verifier gets wrong about an unpacked mutant with the sound bundle's signature, or None."""
        paths = [path for path in folder.rglob("*") if path.is_file()]
        is_sound = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths} == self.files
        with tempfile.TemporaryDirectory(prefix="signed-") as beside:
            return _fault(folder, _written(self.sums_signature, beside), is_sound)


def _written(signature: bytes, folder: str) -> Path:
    path = Path(folder) / "signature"
    path.write_bytes(signature)
    return path


def _fault(bundle: Path, signature: Path, is_signed: bool | None) -> str | None:
    """Run the verifier; None for `is_signed` lets it accept, or refuse a file that is no bundle."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        code = verify_bundle.main([str(bundle), str(signature)], OWNER_HEX)
    if code not in (ACCEPTS, REFUSES) or errors.getvalue().count("\n") != code:
        return f"exit {code}: {errors.getvalue()[:200]}"
    if is_signed is not None and (code == ACCEPTS) != is_signed:
        return "accepted" if code == ACCEPTS else f"refused: {errors.getvalue()[:200]}"
    return None
