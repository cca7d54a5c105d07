"""Classify pictures on a device, with numpy and onnxruntime alone.

from runtime import Classifier

classifier = Classifier.load(".")
prediction = classifier.classify("photo.jpg")
print(prediction.label, prediction.probability)
"""

import sys
from typing import TYPE_CHECKING

OLDEST_PYTHON = (3, 10)
# runpy imports this package for `python -m runtime` before it sets the program's own name.
_IS_PROGRAM = getattr(sys, "argv", [])[:1] == ["-m"]

# Python reads this file first. So this file, alone of this folder, must be one that Python 3.6 can parse.
if sys.version_info < OLDEST_PYTHON:
    _message = "runtime: Python {}.{} runs here; expected {}.{} or newer".format(*sys.version_info[:2], *OLDEST_PYTHON)
    if _IS_PROGRAM:
        sys.exit(_message)
    raise ImportError(_message)

if TYPE_CHECKING:
    from runtime.classifier import Classifier, Prediction

if _IS_PROGRAM:
    from pathlib import Path

    _folder = Path(__file__).resolve().parent
    try:
        from runtime.system.in_use import watch
    except (ImportError, SyntaxError):
        sys.exit(f"runtime: {_folder} is broken, or is being unpacked; unpack the bundle into a new folder")
    watch(_folder)

__all__ = ["Classifier", "Prediction"]


def __getattr__(name: str) -> object:
    """Import the classifier on first use: `runtime.images` reads pictures without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from runtime import classifier

    return getattr(classifier, name)
