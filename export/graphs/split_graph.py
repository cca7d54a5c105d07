"""A joined graph cut into its two parts again: the preprocessing, and the network's core."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx.utils import Extractor


@dataclass(frozen=True)
class SplitGraph:
    """A graph in two parts."""

    preprocess: onnx.ModelProto  # pictures to the network's input
    core: onnx.ModelProto  # the network's input to the outputs

    @classmethod
    def of(cls, model: onnx.ModelProto) -> SplitGraph:
        """Cut a joined graph at the network's `input`."""
        extractor = Extractor(model)
        outputs = [port.name for port in model.graph.output]
        return cls(extractor.extract_model(["image"], ["input"]), extractor.extract_model(["input"], outputs))
