"""Classify pictures on a device, with numpy and onnxruntime alone.

from runtime import Classifier

classifier = Classifier.load(".")
prediction = classifier.classify("photo.jpg")
print(prediction.label, prediction.probability)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.classifier import Classifier, Prediction

__all__ = ["Classifier", "Prediction"]


def __getattr__(name: str) -> object:
    """Import the classifier on first use: `runtime.images` reads pictures without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from runtime import classifier

    return getattr(classifier, name)
