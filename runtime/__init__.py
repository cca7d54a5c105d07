"""Classify pictures on a device, with numpy and onnxruntime alone.

from runtime import Classifier

classifier = Classifier.load(".")
prediction = classifier.classify("photo.jpg")
print(prediction.label, prediction.probability)
"""

import sys
from typing import TYPE_CHECKING

OLDEST_PYTHON = (3, 10)

# Python reads this file first. So this file, alone of this folder, must be one that Python 3.6 can parse.
if sys.version_info < OLDEST_PYTHON:
    _message = "runtime: Python {}.{} runs here; expected {}.{} or newer".format(*sys.version_info[:2], *OLDEST_PYTHON)
    # runpy imports this package for `python -m runtime` before it sets the program's own name.
    if sys.argv[:1] == ["-m"]:
        sys.exit(_message)
    raise ImportError(_message)

if TYPE_CHECKING:
    from runtime.classifier import Classifier, Prediction

__all__ = ["Classifier", "Prediction"]


def __getattr__(name: str) -> object:
    """Import the classifier on first use: `runtime.images` reads pictures without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from runtime import classifier

    return getattr(classifier, name)
