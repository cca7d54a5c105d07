"""onnxruntime's execution providers: their options, their libraries, and why one of them does not load."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PROVIDER_OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}  # TF32 would round the factors of float32 products

# The distribution that contains a provider, where not every distribution does.
_SHIPPED_IN = {
    "CUDAExecutionProvider": "onnxruntime-gpu",
    "TensorrtExecutionProvider": "onnxruntime-gpu",
    "OpenVINOExecutionProvider": "onnxruntime-openvino",
    "DmlExecutionProvider": "onnxruntime-directml",
    "QNNExecutionProvider": "onnxruntime-qnn",
}
_NVIDIA = frozenset({"CUDAExecutionProvider", "TensorrtExecutionProvider"})
_DRIVER = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"


def with_options(names: Iterable[str]) -> list[Any]:
    """Return providers as onnxruntime takes them.

    A provider without options is passed by its name alone, so that its environment variables still count.
    """
    return [(name, PROVIDER_OPTIONS[name]) if name in PROVIDER_OPTIONS else name for name in names]


def preload(library: Any, names: Iterable[str]) -> None:
    """Load CUDA's and cuDNN's libraries from where pip puts them, if a provider needs them and a driver is present.

    Without this a CUDA provider finds only the libraries that the system's loader knows. Without a driver nothing is
    loaded: it would cost memory (190 MB where it was measured) for a provider that cannot work.
    """
    if _NVIDIA.isdisjoint(names) or not hasattr(library, "preload_dlls") or _load_error(_DRIVER):
        return
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find; the session's error is clearer
        library.preload_dlls()


def why_not_loaded(library: Any, name: str) -> str:
    """Say why a provider does not load here: the missing package or library, where it can be found out."""
    if name not in library.get_available_providers():
        advice = f"; install {_SHIPPED_IN[name]} in its place" if name in _SHIPPED_IN else ""
        return f"onnxruntime {library.__version__} was built without it{advice}"
    return missing_library(library, name) or "its libraries load, but onnxruntime finds no device for them"


def missing_library(library: Any, name: str) -> str | None:
    """Return the system loader's error for the first library of a provider that fails to load; None if all load."""
    needed = [_DRIVER] if name in _NVIDIA else []
    problems = (_load_error(file) for file in (*needed, *_own_libraries(library, name)))
    return next((problem for problem in problems if problem), None)


def _own_libraries(library: Any, name: str) -> list[str]:
    """Return the provider's files in onnxruntime's package, in the order in which they are loaded."""
    folder = Path(library.__file__).parent / "capi"
    stem = name.removesuffix("ExecutionProvider").lower()
    pattern = "onnxruntime_providers_{}.dll" if os.name == "nt" else "libonnxruntime_providers_{}.so"
    paths = [folder / pattern.format(part) for part in ("shared", stem)]
    return [str(path) for path in paths] if paths[1].is_file() else []


def _load_error(file: str) -> str | None:
    """Return the system loader's error for a library, or None. On Linux it names the dependency that is missing."""
    try:
        ctypes.CDLL(file, mode=ctypes.RTLD_GLOBAL if "shared" in Path(file).name else ctypes.DEFAULT_MODE)
    except OSError as error:
        return str(error)
    return None
