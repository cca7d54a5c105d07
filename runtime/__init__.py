"""Classify pictures on a device, with numpy and onnxruntime alone.

from runtime import Classifier

classifier = Classifier.load(".")
prediction = classifier.classify("photo.jpg")
print(prediction.label, prediction.probability)
"""

from runtime.classifier import Classifier, Prediction
from runtime.errors import DeviceError

__all__ = ["Classifier", "DeviceError", "Prediction"]
