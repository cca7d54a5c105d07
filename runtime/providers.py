"""onnxruntime's execution providers: what they are given, what they need, and why one of them does not load."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PROVIDER_OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}  # float32 means float32

# The distribution that has a provider, where it is not every one.
_SHIPPED_IN = {
    "CUDAExecutionProvider": "onnxruntime-gpu",
    "TensorrtExecutionProvider": "onnxruntime-gpu",
    "OpenVINOExecutionProvider": "onnxruntime-openvino",
    "DmlExecutionProvider": "onnxruntime-directml",
    "QNNExecutionProvider": "onnxruntime-qnn",
}
_NVIDIA = frozenset({"CUDAExecutionProvider", "TensorrtExecutionProvider"})
_DRIVER = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"


def asked(names: Iterable[str]) -> list[Any]:
    """Providers as onnxruntime takes them; one without options stands alone, so that its own variables count."""
    return [(name, PROVIDER_OPTIONS[name]) if name in PROVIDER_OPTIONS else name for name in names]


def preload(library: Any, names: Iterable[str]) -> None:
    """Load CUDA's and cuDNN's libraries from where pip puts them, if a provider wants them and there is a driver.

    Without this a CUDA provider finds only what the system's loader knows. Without a driver nothing is loaded: it
    would cost memory (190 MB where it was measured) for a provider that cannot work.
    """
    if _NVIDIA.isdisjoint(names) or not hasattr(library, "preload_dlls") or _problem_with(_DRIVER):
        return
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find; the session tells it better
        library.preload_dlls()


def why_not(library: Any, name: str) -> str:
    """Why a provider does not load here: the package or the library that is missing, as far as can be told."""
    if name not in library.get_available_providers():
        way_out = f"; install {_SHIPPED_IN[name]} in its place" if name in _SHIPPED_IN else ""
        return f"onnxruntime {library.__version__} was built without it{way_out}"
    return missing_library(library, name) or "its libraries load, but onnxruntime finds no device for them"


def missing_library(library: Any, name: str) -> str | None:
    """What the system's loader says about the first library of a provider that it cannot load; None if it can."""
    needed = [_DRIVER] if name in _NVIDIA else []
    problems = (_problem_with(file) for file in (*needed, *_own_libraries(library, name)))
    return next((problem for problem in problems if problem), None)


def _own_libraries(library: Any, name: str) -> list[str]:
    """The provider's files in onnxruntime's package, in the order in which they are loaded."""
    folder = Path(library.__file__).parent / "capi"
    stem = name.removesuffix("ExecutionProvider").lower()
    pattern = "onnxruntime_providers_{}.dll" if os.name == "nt" else "libonnxruntime_providers_{}.so"
    paths = [folder / pattern.format(part) for part in ("shared", stem)]
    return [str(path) for path in paths] if paths[1].is_file() else []


def _problem_with(file: str) -> str | None:
    """What the system's loader says about a library; on Linux it names the one that is missing behind it."""
    try:
        ctypes.CDLL(file, mode=ctypes.RTLD_GLOBAL if "shared" in Path(file).name else ctypes.DEFAULT_MODE)
    except OSError as error:
        return str(error)
    return None
