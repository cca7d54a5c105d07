"""The files of onnxruntime-web that the page runs, from the package that npm delivers."""

from __future__ import annotations

import hashlib
import tarfile
from io import BytesIO
from pathlib import Path

from pipeline.base.errors import DataError
from runtime.system.regular_files import read_regular

_MOST_BYTES = 1 << 28  # of the package, which has a seventh of that
VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web-{VERSION}.tgz"
SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
COMMAND = f"npm pack onnxruntime-web@{VERSION}"
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
# With WebGPU. The package has a second such build for browsers without JSPI, of 27 MB instead of 17.
WEBGPU_FILES = ("ort.jspi.min.mjs", "ort-wasm-simd-threaded.jspi.mjs", "ort-wasm-simd-threaded.jspi.wasm")


def read_package(path: Path | None) -> dict[str, bytes]:
    """Return the files by their names in the page: those for the processor, and those for WebGPU.

    Args:
        path: the file that npm wrote; None where the person named none.

    Raises:
        DataError: no file is named, it cannot be read, or it is not the package of this version.
    """
    if path is None:
        raise DataError(
            f"--ort: found none; expected the package onnxruntime-web {VERSION}; run `{COMMAND}`, then"
            f" `pipe phone --ort {PACKAGE}`"
        )
    try:
        content = read_regular(path, _MOST_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected what `{COMMAND}` writes") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise DataError(
            f"{path}: sha256 is {digest}; expected {SHA256}, of onnxruntime-web {VERSION}; run `{COMMAND}` again"
        )
    with tarfile.open(fileobj=BytesIO(content)) as package:
        members = {name: package.extractfile(f"package/dist/{name}") for name in (*FILES, *WEBGPU_FILES)}
        return {f"ort/{name}": member.read() for name, member in members.items() if member is not None}
