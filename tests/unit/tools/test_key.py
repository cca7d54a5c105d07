"""Keys that sign bundles: for their owner's eyes, never overwritten, and the verifier holds the public half."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from export.bundle.signature import SigningKey
from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.tools import key, verify_bundle
from pipeline.tools.key import export_verifier, new_key
from tests.support.command import run_pipe


def test_a_new_key_is_for_its_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    earlier = os.umask(0)
    try:
        report = new_key(path)
    finally:
        os.umask(earlier)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SigningKey.read(path).key_id in report.headline
    secret = load_pem_private_key(path.read_bytes(), None).private_bytes_raw()  # type: ignore[union-attr]
    assert secret.hex() not in report.headline


def test_two_keys_differ(tmp_path: Path) -> None:
    new_key(tmp_path / "a")
    new_key(tmp_path / "b")
    assert SigningKey.read(tmp_path / "a").public_hex != SigningKey.read(tmp_path / "b").public_hex


def test_no_file_and_no_link_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("the only copy")
    (tmp_path / "link.pem").symlink_to(tmp_path / "nowhere")
    for name in ("key.pem", "link.pem"):
        with pytest.raises(DataError, match=rf"{name}: exists already"):
            new_key(tmp_path / name)
    assert (tmp_path / "key.pem").read_text() == "the only copy"
    assert not (tmp_path / "nowhere").exists()


def test_half_a_key_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(key.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        new_key(tmp_path / "key.pem")
    assert list(tmp_path.iterdir()) == []


def test_the_verifier_is_the_source_with_the_public_key(tmp_path: Path) -> None:
    new_key(tmp_path / "key.pem")
    project = Project(tmp_path)
    report = export_verifier(tmp_path / "key.pem", project)
    assert report.headline.endswith("dist/verify_bundle.py")
    source = Path(verify_bundle.__file__).read_text(encoding="utf-8").splitlines()
    written = project.verify_bundle_py.read_text(encoding="utf-8").splitlines()
    changed = [line for before, line in zip(source, written, strict=True) if before != line]
    assert changed == [f'PUBLIC_KEY = "{SigningKey.read(tmp_path / "key.pem").public_hex}"  # 64 hex digits']
    assert (tmp_path / "key.pem").read_text().splitlines()[1] not in "\n".join(written)  # the secret half


def test_the_commands_say_what_they_wrote_and_what_comes_next(tmp_path: Path) -> None:
    finished = run_pipe(tmp_path, "key", "new", "key.pem")
    assert finished.returncode == 0
    assert "key.pem; keep it secret, and out of git; next: pipe key export key.pem" in finished.stdout
    assert run_pipe(tmp_path, "key", "export", "key.pem").returncode == 0
    assert (tmp_path / "dist" / "verify_bundle.py").is_file()
    again = run_pipe(tmp_path, "key", "new", "key.pem")
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.startswith("pipe: key.pem: exists already")
    missing = run_pipe(tmp_path, "key", "export", "other.pem")
    assert (missing.returncode, missing.stderr) == (1, "pipe: other.pem: No such file or directory\n")
