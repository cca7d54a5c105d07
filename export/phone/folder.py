"""Write the page: a static folder, or one HTML file."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from export.phone.notices import notices
from export.phone.onnxruntime_web import read_package
from export.phone.page_files import INDEX, PAGE_JSON, SERVICE_WORKER, content_policy, page_files, sha256
from export.phone.single_file import single_file
from pipeline.base.errors import DataError
from pipeline.base.files import check_output, replacing_file, replacing_folder
from pipeline.base.project import Project, missing
from runtime.archive import unpack
from runtime.system.scratch import scratch_folder

_FOLDER, _FILE = "phone", "phone.html"


@dataclass(frozen=True)
class PhoneReport:
    """What was written."""

    path: Path
    bundle_id: str
    variant: str
    n_files: int
    bytes: int

    @property
    def headline(self) -> str:
        """One line: the model, the size, and where the page is."""
        files = "one file" if self.n_files == 1 else f"{self.n_files} files"
        size = f"{self.bytes / 1e6:.1f} MB"
        return f"page with {self.variant} of bundle {self.bundle_id} in {files}, {size}: {self.path}"


def phone(project: Project, bundle: Path | None, ort: Path | None, out: Path | None, *, single: bool) -> PhoneReport:
    """Write the page of a bundle.

    Args:
        project: whose bundle is taken, and in whose `dist/` the page lies, unless others are named.
        bundle: a bundle's zip; None for the project's.
        ort: the package of onnxruntime-web.
        out: the folder or file to write; None for `dist/phone/`, or `dist/phone.html`.
        single: write one HTML file, which needs no server.

    Raises:
        DataError: the bundle is missing or too old, the package is not the expected one, or `out` is something else
            than an earlier page.
        BundleError, ContractError: the bundle is invalid.
    """
    bundle_zip = bundle or project.bundle_zip
    if not bundle_zip.is_file():
        raise missing(bundle_zip)
    ort_files = read_package(ort)
    with _unpacked(bundle_zip) as folder:
        files = {**page_files(folder, ort_files, single=single), **notices(folder)}
    about = json.loads(files[PAGE_JSON])
    if single:
        target = out or project.bundle_zip.with_name(_FILE)
        files = {target.name: single_file(files)}
        _write_file(target, files[target.name])
    else:
        target = folder_of(project, out)
        files[SERVICE_WORKER] = _service_worker(files)
        _write_folder(target, files)
    n_bytes = sum(map(len, files.values()))
    return PhoneReport(target, about["bundle_id"], about["variant"], len(files), n_bytes)


def folder_of(project: Project, out: Path | None) -> Path:
    """Return the folder of the page: `out`, or `dist/phone` of the project."""
    return out or project.bundle_zip.with_name(_FOLDER)


@contextlib.contextmanager
def _unpacked(bundle_zip: Path) -> Iterator[Path]:
    with scratch_folder("phone") as scratch:
        unpack(bundle_zip, scratch / "bundle")
        yield scratch / "bundle"


def _service_worker(files: dict[str, bytes]) -> bytes:
    """Return the service worker with the hashes of all other files, and with a name that only this build has.

    Files for WebGPU are kept apart, since most browsers never ask for them.
    """
    hashes = {name: sha256(content) for name, content in sorted(files.items())}
    later = (json.loads(files[PAGE_JSON])["webgpu"] or {"files": {}})["files"]
    kept = {name: digest for name, digest in hashes.items() if name != SERVICE_WORKER and name not in later}
    build = {
        "id": sha256(json.dumps(hashes).encode())[:16],
        "files": {"./": hashes[INDEX], **kept},
        "later": later,
        "policy": content_policy(files[INDEX]),
    }
    return f"const BUILD = {json.dumps(build)};\n".encode() + files[SERVICE_WORKER]


def _write_folder(target: Path, files: dict[str, bytes]) -> None:
    foreign = sorted(_names_below(target) - {*files, *_names_of_earlier_page(target)})
    if foreign:
        raise DataError(
            f"{target}: holds {foreign[0]}, no file of a page; expected an earlier page, an empty folder or a free name"
        )
    with replacing_folder(target) as temporary:
        for name, content in files.items():
            path = temporary / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)


def _names_below(folder: Path) -> set[str]:
    """The files, links and empty folders below a folder, by their paths in it."""
    below = folder.rglob("*") if folder.is_dir() else ()
    kept = (path for path in below if path.is_symlink() or not path.is_dir() or not any(path.iterdir()))
    return {path.relative_to(folder).as_posix() for path in kept}


def _names_of_earlier_page(folder: Path) -> set[str]:
    """The files that the service worker of a page lists, whatever version made it; none where there is no page."""
    try:
        first_line = (folder / SERVICE_WORKER).read_text(encoding="utf-8").split("\n", 1)[0]
        build = json.loads(first_line.removeprefix("const BUILD = ").removesuffix(";"))
        return {*build["files"], *build["later"], SERVICE_WORKER}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _write_file(target: Path, content: bytes) -> None:
    if target.is_dir():
        raise DataError(f"{target}: a folder; expected the name of a file, such as phone.html")
    if target.suffix != ".html":
        raise DataError(f"{target}: expected a name that ends with .html, such as phone.html")
    check_output(target)
    with replacing_file(target) as temporary:
        temporary.write_bytes(content)
