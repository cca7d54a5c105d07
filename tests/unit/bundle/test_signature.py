"""Signatures beside the bundle: of these very bytes, by this key, and gone when the bundle is."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from export.bundle.signature import SigningKey
from export.bundle.stage import bundle
from pipeline.base.errors import DataError, GateError
from pipeline.base.project import Project
from pipeline.tools.key import new_key
from runtime.archive import SUMS
from tests.support.command import run_pipe
from tests.support.tiny_bundle import write_json, write_project

PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


@pytest.fixture
def tiny(tmp_path: Path) -> Project:
    return write_project(tmp_path / "project")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    new_key(tmp_path / "key.pem")
    return tmp_path / "key.pem"


def test_the_signatures_are_of_the_zip_and_of_its_list(tiny: Project, key: Path) -> None:
    report = bundle(tiny, key)
    public = SigningKey.read(key).private.public_key()
    public.verify(tiny.bundle_signature.read_bytes(), tiny.bundle_zip.read_bytes())  # raises if it does not fit
    with zipfile.ZipFile(tiny.bundle_zip) as archive:
        public.verify(tiny.sums_signature.read_bytes(), archive.read(SUMS))
    assert report.signed_by == SigningKey.read(key).key_id
    assert f", signed by the key {report.signed_by}: dist/bundle.zip" in report.headline


def test_a_signature_changes_no_byte_of_the_bundle(tiny: Project, key: Path) -> None:
    bundle(tiny)
    unsigned = tiny.bundle_zip.read_bytes()
    assert [path.name for path in tiny.bundle_zip.parent.iterdir()] == ["bundle.zip"]
    bundle(tiny, key)
    assert tiny.bundle_zip.read_bytes() == unsigned


def test_an_earlier_signature_never_lies_beside_a_newer_bundle(tiny: Project, key: Path) -> None:
    bundle(tiny, key)
    assert "signed" not in bundle(tiny).headline
    assert [path.name for path in tiny.bundle_zip.parent.iterdir()] == ["bundle.zip"]
    bundle(tiny, key)
    write_json(tiny.parity_json, {"passed": False, "variants": {}})
    with pytest.raises(GateError):
        bundle(tiny, key)
    assert list(tiny.bundle_zip.parent.iterdir()) == []


def other_keys() -> dict[str, tuple[bytes, str]]:
    """Files that are no plain Ed25519 key, by what they are."""
    plain, password = serialization.NoEncryption(), serialization.BestAvailableEncryption(b"secret")
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return {
        "with a password": (private.private_bytes(PEM, PKCS8, password), "found a key with a password"),
        "of another algorithm": (
            ec.generate_private_key(ec.SECP256R1()).private_bytes(PEM, PKCS8, plain),
            "found a key of another algorithm",
        ),
        "the public half": (public, "found no private key"),
        "cut short": (private.private_bytes(PEM, PKCS8, plain)[:60], "found no private key"),
        "empty": (b"", "found no private key"),
    }


@pytest.mark.parametrize("kind", other_keys())
def test_another_key_is_refused_before_anything_is_removed(kind: str, tiny: Project, tmp_path: Path) -> None:
    bundle(tiny)
    content, fault = other_keys()[kind]
    (tmp_path / "other.pem").write_bytes(content)
    with pytest.raises(DataError, match=rf"other\.pem: {fault}; expected a private key of Ed25519") as caught:
        bundle(tiny, tmp_path / "other.pem")
    assert "\n" not in str(caught.value)
    assert tiny.bundle_zip.is_file()


def test_the_command_signs(tiny: Project, key: Path) -> None:
    finished = run_pipe(tiny.root, "bundle", "--sign", str(key))
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "signed by the key" in finished.stdout
    missing = run_pipe(tiny.root, "bundle", "--sign", "none.pem")
    assert (missing.returncode, missing.stderr) == (1, "pipe: none.pem: No such file or directory\n")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="OpenSSL's program is not installed")
def test_openssl_verifies_key_and_signature_too(tiny: Project, key: Path) -> None:
    bundle(tiny, key)
    command = ["openssl", "pkeyutl", "-verify", "-inkey", key, "-rawin", "-in", tiny.bundle_zip]
    finished = subprocess.run(
        [*command, "-sigfile", tiny.bundle_signature], capture_output=True, text=True, check=False
    )
    assert (finished.returncode, finished.stdout.strip()) == (0, "Signature Verified Successfully")
    other = subprocess.run([*command, "-sigfile", tiny.sums_signature], capture_output=True, check=False)
    assert other.returncode != 0
