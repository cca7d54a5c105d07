"""The page in the local network: HTTPS with a certificate whose fingerprint is printed, and headers for every file."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import socket
import ssl
import stat
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from export.phone import serve as module
from export.phone.page_files import content_policy
from export.phone.serve import Certificate, local_address, of_other_bundle, serve
from pipeline.base.errors import DataError
from tests.support.phone_page import PAGE, ServedPage


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A folder with the beginnings of a page."""
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "index.html").write_bytes((PAGE / "index.html").read_bytes())
    (folder / "page.json").write_text("{}")
    (tmp_path / "beside.txt").write_text("not of the page")
    return folder


def test_the_page_is_served_with_its_headers_and_the_printed_certificate(page: Path) -> None:
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    with ServedPage(page) as served:
        local = f"https://127.0.0.1:{served.port}/"
        with urllib.request.urlopen(local, context=anyone) as answer:
            headers, content = dict(answer.headers.items()), answer.read()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{local}../beside.txt", context=anyone)  # noqa: S310
        certificate = ssl.get_server_certificate(("127.0.0.1", served.port))
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(local, context=ssl.create_default_context())
    assert content == (page / "index.html").read_bytes()
    assert headers["content-security-policy"] == content_policy(content)
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-embedder-policy"] == "require-corp"
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).digest()
    assert served.fingerprint == digest.hex(":").upper()
    assert served.address == f"https://{local_address()}:{served.port}/"


def test_a_certificate_is_for_the_address_and_for_localhost_and_ends_soon() -> None:
    made = Certificate.make("192.168.1.20")
    certificate = x509.load_pem_x509_certificate(made.certificate_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.168.1.20"]
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]  # which Apple asks for
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days <= 8
    assert made.fingerprint != Certificate.make("192.168.1.20").fingerprint


def test_a_taken_port_a_missing_page_and_a_missing_package_are_one_line(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("", 0)) as taken:
        monkeypatch.setattr(module, "PORT", taken.getsockname()[1])
        with pytest.raises(DataError, match=r"port \d+: cannot be opened"):
            serve(page)
    with pytest.raises(DataError, match="absent: no page; expected one to serve"):
        serve(tmp_path / "absent")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "segno" else object())
    with pytest.raises(DataError, match=r"segno missing; .* pip install 'clip2edge\[web\]'"):
        serve(page)


@pytest.fixture
def key_modes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The modes of the private key's file of each server that is started; these servers serve nothing."""
    modes: list[int] = []

    class Server:
        def __init__(self, config: object) -> None:
            self.config = config

        def run(self, sockets: list[socket.socket]) -> None:
            key = self.config.ssl_keyfile  # type: ignore[attr-defined]
            modes.append(stat.S_IMODE(Path(key).stat().st_mode))

    import uvicorn

    monkeypatch.setattr(module, "PORT", 0)
    monkeypatch.setattr(uvicorn, "Server", Server)
    return modes


def test_nobody_else_can_read_the_private_key(page: Path, key_modes: list[int]) -> None:
    serve(page)
    assert key_modes == [0o600]


def test_a_page_of_another_bundle_is_said_and_so_is_a_machine_without_a_network(
    page: Path,
    tmp_path: Path,
    key_modes: list[int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sums = b"list of files"
    own = hashlib.sha256(sums).hexdigest()[:16]
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w") as archive:
        archive.writestr("SHA256SUMS", sums)
    (page / "page.json").write_text(json.dumps({"bundle_id": own}))
    assert of_other_bundle(page, tmp_path / "bundle.zip") is None
    assert of_other_bundle(page, tmp_path / "absent.zip") is None
    monkeypatch.setattr(module, "local_address", lambda: "192.168.1.20")
    serve(page, tmp_path / "bundle.zip")
    said = capsys.readouterr().out
    assert "everybody in this network" in said
    assert "default route" not in said
    assert "The page has bundle" not in said
    (page / "page.json").write_text(json.dumps({"bundle_id": "0123456789abcdef"}))
    monkeypatch.setattr(module, "local_address", lambda: "127.0.0.1")
    serve(page, tmp_path / "bundle.zip")
    said = capsys.readouterr().out
    assert f"The page has bundle 0123456789abcdef, and {tmp_path / 'bundle.zip'} is {own}: `pipe phone" in said
    assert "This machine has no default route. A phone needs its address in your network" in said
    assert len(key_modes) == 2
