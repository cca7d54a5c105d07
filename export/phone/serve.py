"""Serve the page on the local network, so that a phone beside this machine opens it. HTTPS, since cameras need it."""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import ipaddress
import json
import socket
import sys
import zipfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from export.phone.page_files import INDEX, PAGE_JSON, content_policy
from pipeline.base.errors import DataError
from runtime.archive import SUMS, bundle_id
from runtime.system.scratch import scratch_folder

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

PORT = 8443
_VALID_DAYS = 7
_OWN_ADDRESS = "127.0.0.1"
_NEEDED = ("starlette", "uvicorn", "segno")  # the extra `web`


@dataclass(frozen=True)
class Certificate:
    """A self-made certificate, which browsers warn of: only its fingerprint says whose it is."""

    certificate_pem: bytes
    key_pem: bytes
    fingerprint: str  # sha256 in pairs of hex digits, as browsers show it

    @classmethod
    def make(cls, address: str) -> Certificate:
        """Make a certificate for an IP address and for localhost, valid for some days."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "clip2edge page")])
        now = datetime.datetime.now(datetime.UTC)
        names = [x509.IPAddress(ipaddress.ip_address(address)), x509.DNSName("localhost")]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))  # the phone's clock may be behind
            .not_valid_after(now + datetime.timedelta(days=_VALID_DAYS))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            # Apple's systems refuse a server's certificate without it.
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = certificate.public_bytes(serialization.Encoding.PEM)
        return cls(public, private, certificate.fingerprint(hashes.SHA256()).hex(":").upper())


def serve(folder: Path, bundle_zip: Path | None = None) -> None:
    """Serve a page until the person stops it with Ctrl-C; print its address as text and as a QR code.

    Args:
        folder: the page, as `pipe phone` writes it.
        bundle_zip: the bundle that the person may take the page for one of: a line says where it has another.

    Raises:
        DataError: the folder holds no page, the port is taken, or the extra `web` is not installed.
    """
    lacking = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if lacking:
        raise DataError(f"--serve: {', '.join(lacking)} missing; expected the extra web; pip install 'clip2edge[web]'")
    if not (folder / PAGE_JSON).is_file():
        raise DataError(f"{folder}: no page; expected one to serve; run `pipe phone --ort PACKAGE` first")
    import uvicorn

    address = local_address()
    certificate = Certificate.make(address)
    with _listening() as listener, scratch_folder("serve") as scratch:
        paths = scratch / "certificate.pem", scratch / "key.pem"
        paths[1].touch(mode=0o600)
        for path, content in zip(paths, (certificate.certificate_pem, certificate.key_pem), strict=True):
            path.write_bytes(content)
        _tell(address, certificate, of_other_bundle(folder, bundle_zip))
        config = uvicorn.Config(
            page_app(folder), ssl_certfile=paths[0], ssl_keyfile=str(paths[1]), log_level="warning", lifespan="off"
        )
        uvicorn.Server(config).run(sockets=[listener])


def page_app(folder: Path) -> Starlette:
    """Return the application that serves a page, with the headers that let nothing leave it."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.routing import Mount
    from starlette.staticfiles import StaticFiles

    headers = {
        "Content-Security-Policy": content_policy((folder / INDEX).read_bytes()),
        "Cross-Origin-Embedder-Policy": "require-corp",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
    }

    async def with_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        response.headers.update(headers)
        return response

    files = StaticFiles(directory=folder, html=True)
    return Starlette(routes=[Mount("/", files)], middleware=[Middleware(BaseHTTPMiddleware, dispatch=with_headers)])


def local_address() -> str:
    """Return this machine's address in the local network; without a network, that of the machine to itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # a documentation address: choosing the way to it sends nothing
        except OSError:
            return _OWN_ADDRESS
        return str(probe.getsockname()[0])


def of_other_bundle(folder: Path, bundle_zip: Path | None) -> str | None:
    """Return a line that says that a page is not of a bundle; None where it is, or where there is no bundle.

    Args:
        folder: the page.
        bundle_zip: the bundle.
    """
    if bundle_zip is None or not bundle_zip.is_file():
        return None
    of_page = json.loads((folder / PAGE_JSON).read_text(encoding="utf-8")).get("bundle_id")
    of_zip = None
    with (
        contextlib.suppress(OSError, KeyError, zipfile.BadZipFile),
        zipfile.ZipFile(bundle_zip) as archive,
        scratch_folder("serve") as scratch,
    ):
        archive.extract(SUMS, scratch)
        of_zip = bundle_id(scratch)
    if of_zip in (None, of_page):
        return None
    return (
        f"The page has bundle {of_page}, and {bundle_zip} is {of_zip}: `pipe phone --ort PACKAGE` makes the page anew."
    )


def _listening() -> socket.socket:
    try:
        return socket.create_server(("0.0.0.0", PORT))  # noqa: S104  # the phone is another machine
    except OSError as error:
        raise DataError(
            f"port {PORT}: cannot be opened ({error.strerror}); expected a free port; stop the other server"
        ) from error


def _tell(address: str, certificate: Certificate, other_bundle: str | None) -> None:
    import segno

    url = f"https://{address}:{PORT}/"
    is_alone = address == _OWN_ADDRESS
    lines = [
        f"The page is at {url} for {'this machine' if is_alone else 'everybody in this network'}. Stop it with Ctrl-C.",
        "The browser warns of the certificate, since this machine made it. Go on only if its SHA-256 fingerprint is",
        f"  {certificate.fingerprint}",
        "Behind such a certificate a browser keeps no page for use without a network (docs/phone.md).",
    ]
    if is_alone:
        lines.append(
            "This machine has no default route. A phone needs its address in your network instead of 127.0.0.1."
        )
    if other_bundle is not None:
        lines.append(other_bundle)
    sys.stdout.write("\n".join(lines) + "\n")
    segno.make(url, micro=False).terminal(out=sys.stdout, compact=True)
    sys.stdout.flush()
