"""The packages that a device needs, the oldest version of each, and the check of what is installed."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterator

from runtime.errors import DeviceError
from runtime.session import onnxruntime

INSTALL = "pip install -r requirements.txt"  # how messages say it
OLDEST = {"numpy": "1.26", "onnxruntime": "1.20", "Pillow": "11"}  # by distribution


def requirements() -> str:
    """Return the content of a bundle's `requirements.txt`."""
    return "".join(f"{name}>={version}\n" for name, version in OLDEST.items())


def check_versions() -> None:
    """Check that no package is older than the code here was written for. A missing Pillow does not count.

    Raises:
        DeviceError: onnxruntime is missing or a package is too old; the message names every such package.
    """
    too_old = [
        f"{name} {version} is installed; expected {OLDEST[name]} or newer"
        for name, version in _installed()
        if _release(version) < _release(OLDEST[name])
    ]
    if too_old:
        raise DeviceError(f"{', and '.join(too_old)}; {INSTALL}")


def _installed() -> Iterator[tuple[str, str]]:
    """Yield name and version. The modules say it: distributions of onnxruntime and Pillow have many names."""
    yield "numpy", importlib.import_module("numpy").__version__
    yield "onnxruntime", onnxruntime().__version__
    if importlib.util.find_spec("PIL") is not None:
        yield "Pillow", importlib.import_module("PIL").__version__


def _release(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: (1, 26) of `1.26rc1`."""
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:2])
