"""The verifier of bundles: RFC 8032 to the letter, and nothing but the signed bytes is accepted."""

from __future__ import annotations

import ast
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from export.bundle.stage import bundle
from pipeline.base.project import Project
from pipeline.tools import verify_bundle
from pipeline.tools.key import export_verifier, new_key
from pipeline.tools.verify_bundle import is_signed, main
from runtime.archive import SUMS, bundle_id, unpack
from tests.support.ed25519_vectors import Vector, rfc_8032, wycheproof
from tests.support.tiny_bundle import rewrite_sums, write_project

PROGRAM = Path(verify_bundle.__file__)


def accepts(vector: Vector) -> bool:
    return is_signed([vector.message], vector.signature, vector.public_key)


# Ed25519


def test_the_vectors_of_the_rfc_are_accepted_and_another_message_is_not() -> None:
    for seed, vector in rfc_8032():
        assert accepts(vector)
        assert not is_signed([vector.message, b"x"], vector.signature, vector.public_key)
        assert Ed25519PrivateKey.from_private_bytes(seed).sign(vector.message) == vector.signature


def test_the_verdicts_are_those_of_wycheproof() -> None:
    vectors = wycheproof()
    assert len(vectors) == 210
    assert {vector.result for vector in vectors} == {"valid", "invalid", "acceptable"}
    assert [vector.number for vector in vectors if accepts(vector) != (vector.result == "valid")] == []


def test_a_verifier_that_takes_any_point_for_a_key_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: these signatures satisfy the equation, and the first key accepts forgeries."""
    monkeypatch.setattr(verify_bundle, "_is_in_the_group", lambda point: True)
    assert all(accepts(vector) for vector in wycheproof() if vector.result == "acceptable")


def test_s_has_one_encoding_though_the_equation_has_many() -> None:
    _, vector = rfc_8032()[2]
    r, s = vector.signature[:32], int.from_bytes(vector.signature[32:], "little")
    again = s + verify_bundle._L
    points = [verify_bundle._product(number, verify_bundle._BASE) for number in (s, again)]
    assert len({verify_bundle._encoded(point) for point in points}) == 1  # only the bound can refuse it
    assert not is_signed([vector.message], r + again.to_bytes(32, "little"), vector.public_key)


@pytest.mark.parametrize("y", [verify_bundle._P, verify_bundle._P + 1, 2**255 - 1])
def test_a_coordinate_has_one_encoding(y: int) -> None:
    assert verify_bundle._decoded(y.to_bytes(32, "little")) is None
    reduced = verify_bundle._decoded((y % verify_bundle._P).to_bytes(32, "little"))
    assert reduced is not None or y == 2**255 - 1  # 18 is the y of no point


def test_any_flipped_bit_is_refused() -> None:
    chance = random.Random(0)
    for _ in range(40):
        private = Ed25519PrivateKey.from_private_bytes(chance.randbytes(32))
        message, key = chance.randbytes(chance.randrange(1, 300)), private.public_key().public_bytes_raw()
        whole = [message, private.sign(message), key]
        assert is_signed([message[:7], message[7:]], whole[1], key)
        which = chance.randrange(3)
        flipped = bytearray(whole[which])
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
        message, signature, key = (bytes(flipped) if which == i else part for i, part in enumerate(whole))
        assert not is_signed([message], signature, key)


# Bundles


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a signed bundle and its verifier; tests must not change it."""
    root = tmp_path_factory.mktemp("released")
    new_key(root / "key.pem")
    project = write_project(root / "project")
    bundle(project, root / "key.pem")
    export_verifier(root / "key.pem", project)
    return project


@pytest.fixture
def dist(released: Project, tmp_path: Path) -> Path:
    """A copy of `dist/` with the bundle unpacked too, which a test may damage."""
    folder = Path(shutil.copytree(released.bundle_zip.parent, tmp_path / "dist"))
    unpack(folder / "bundle.zip", folder / "bundle")
    return folder


def run(dist: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the exported verifier as on a device: alone, without site-packages."""
    command = [sys.executable, "-I", "-S", dist / "verify_bundle.py", *arguments]
    return subprocess.run(command, cwd=dist, capture_output=True, text=True, check=False)


def verify(dist: Path, name: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run the verifier in this process; return its exit code and what it printed."""
    code = main([str(dist / name)], key_in(dist))
    out, err = capsys.readouterr()
    assert (out == "") == (code != 0)
    assert (out + err).count("\n") == 1
    return code, out + err


def key_in(dist: Path) -> str:
    text = (dist / "verify_bundle.py").read_text(encoding="utf-8")
    (key,) = [line.split('"')[1] for line in text.splitlines() if line.startswith("PUBLIC_KEY = ")]
    assert len(key) == 64
    return key


@pytest.mark.parametrize("name", ["bundle.zip", "bundle", "bundle/"])
def test_a_signed_bundle_is_accepted_packed_and_unpacked(name: str, dist: Path) -> None:
    finished = run(dist, name)
    assert (finished.returncode, finished.stderr) == (0, "")
    name_of_bundle = bundle_id(dist / "bundle")
    assert finished.stdout.endswith(f": bundle {name_of_bundle}, signed by the key {key_in(dist)[:16]}\n")


def test_a_module_that_lies_beside_the_program_is_not_imported(dist: Path) -> None:
    (dist / "hashlib.py").write_text("raise SystemExit('foreign code ran')")
    finished = run(dist, "bundle.zip")
    assert (finished.returncode, finished.stderr) == (0, "")


def test_the_program_needs_the_standard_library_alone_and_an_old_python() -> None:
    tree = ast.parse(PROGRAM.read_text(encoding="utf-8"), feature_version=(3, 8))
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert {module.split(".")[0] for module in modules} <= sys.stdlib_module_names


def test_the_verifier_is_not_in_the_bundle(released: Project) -> None:
    with zipfile.ZipFile(released.bundle_zip) as archive:
        assert not [name for name in archive.namelist() if "verify_bundle" in name or name.endswith(".sig")]


def flip_in_zip(dist: Path) -> None:
    data = bytearray((dist / "bundle.zip").read_bytes())
    data[len(data) // 2] ^= 1
    (dist / "bundle.zip").write_bytes(data)


def truncate_zip(dist: Path) -> None:
    whole = (dist / "bundle.zip").read_bytes()
    (dist / "bundle.zip").write_bytes(whole[:-1])


def lengthen_zip(dist: Path) -> None:
    with (dist / "bundle.zip").open("ab") as file:
        file.write(b"\0")


def empty_zip(dist: Path) -> None:
    (dist / "bundle.zip").write_bytes(b"")


def exchange_signatures(dist: Path) -> None:
    shutil.copy(dist / "SHA256SUMS.sig", dist / "bundle.zip.sig")


def sign_with_another_key(dist: Path) -> None:
    private = Ed25519PrivateKey.generate()
    for content, name in ((dist / "bundle.zip", "bundle.zip"), (dist / "bundle" / SUMS, SUMS)):
        (dist / f"{name}.sig").write_bytes(private.sign(content.read_bytes()))


@pytest.mark.parametrize(
    "tamper", [flip_in_zip, truncate_zip, lengthen_zip, empty_zip, exchange_signatures, sign_with_another_key]
)
def test_another_zip_or_another_key_is_refused(
    tamper: Callable[[Path], None], dist: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tamper(dist)
    code, line = verify(dist, "bundle.zip", capsys)
    assert code == 1
    assert "bundle.zip.sig is not its signature by the key" in line


@pytest.mark.parametrize(("content", "size"), [(b"", "0 bytes"), (bytes(63), "63 bytes"), (bytes(65), "more than 64")])
def test_a_signature_of_another_length_is_refused(
    content: bytes, size: str, dist: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("bundle.zip", "bundle"):
        (dist / "bundle.zip.sig").write_bytes(content)
        (dist / "SHA256SUMS.sig").write_bytes(content)
        code, line = verify(dist, name, capsys)
        assert (code, f"has {size}" in line) == (1, True)


def test_a_missing_signature_or_bundle_is_refused_in_one_line(dist: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (dist / "bundle.zip.sig").unlink()
    assert verify(dist, "bundle.zip", capsys) == (
        1,
        f"refused: {dist / 'bundle.zip.sig'}: cannot be read (No such file or directory)\n",
    )
    assert verify(dist, "none.zip", capsys)[0] == 1
    (dist / "bundle" / SUMS).unlink()
    assert verify(dist, "bundle", capsys)[0] == 1


def test_an_older_signature_beside_a_newer_bundle_is_refused(dist: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (dist / "bundle" / "NOTICES").write_text("a newer bundle")
    rewrite_sums(dist / "bundle")
    code, line = verify(dist, "bundle", capsys)
    assert (code, "SHA256SUMS.sig is not its signature by the key" in line) == (1, True)


def change(folder: Path) -> None:
    (folder / "runtime" / "session.py").write_text("import os")


def remove(folder: Path) -> None:
    (folder / "NOTICES").unlink()


def add(folder: Path) -> None:
    (folder / "numpy.py").write_text("import os")


def add_bytecode(folder: Path) -> None:
    (folder / "runtime" / "__pycache__").mkdir()
    (folder / "runtime" / "__pycache__" / "session.cpython-311.pyc").write_bytes(b"code")


def link(folder: Path) -> None:
    (folder / "NOTICES").rename(folder.parent / "NOTICES")
    (folder / "NOTICES").symlink_to(folder.parent / "NOTICES")


def link_folder(folder: Path) -> None:
    (folder / "golden").rename(folder.parent / "golden")
    (folder / "golden").symlink_to(folder.parent / "golden")


@pytest.mark.parametrize(
    ("tamper", "fault"),
    [
        (change, "'runtime/session.py' has been changed"),
        (remove, "'NOTICES' is missing"),
        (add, "'numpy.py' is not listed"),
        (add_bytecode, "'runtime/__pycache__/session.cpython-311.pyc' is not listed"),
        (link, "'NOTICES' is not a plain file"),
        (link_folder, "'golden' is not a plain file"),
    ],
)
def test_a_folder_with_other_files_than_the_signed_list_is_refused(
    tamper: Callable[[Path], None], fault: str, dist: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(dist, "bundle", capsys)[0] == 0
    tamper(dist / "bundle")
    code, line = verify(dist, "bundle", capsys)
    assert (code, fault in line) == (1, True)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06" + bytes(18)])
def test_what_is_signed_and_no_bundle_is_refused_in_one_line(
    content: bytes, dist: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    private = Ed25519PrivateKey.generate()
    (dist / "bundle.zip").write_bytes(content)
    (dist / "bundle.zip.sig").write_bytes(private.sign(content))
    assert main([str(dist / "bundle.zip")], private.public_key().public_bytes_raw().hex()) == 1
    assert "is signed and is no bundle" in capsys.readouterr().err


def test_the_source_without_a_key_accepts_nothing(dist: Path) -> None:
    shutil.copy(PROGRAM, dist / "verify_bundle.py")
    finished = run(dist, "bundle.zip")
    assert finished.returncode == 1
    assert finished.stderr == (
        "refused: verify_bundle.py: holds no public key; `pipe key export` writes the file that does\n"
    )


def test_wrong_usage_exits_2(dist: Path) -> None:
    assert run(dist).returncode == 2
