"""Pictures of extreme sizes that the contract allows: a pixel, a line, 8K. All variants share fp32's preprocessing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from export.parity.results import OddSize
from runtime.answers import Answers
from runtime.classifier import Classifier
from runtime.errors import DeviceError

ODD_SIZES = ((1, 1), (3, 5000), (4320, 7680))  # height and width


def compare_odd_sizes(
    ask_torch: Callable[[NDArray[np.uint8]], Answers], classifier: Classifier, allowed: float
) -> tuple[OddSize, ...]:
    """Compare torch with a graph on one picture of each size that the contract allows.

    Args:
        ask_torch: pictures, uint8 (batch, height, width, 3), to torch's answers.
        classifier: the graph.
        allowed: the largest logit difference that is no failure.
    """
    contract = classifier.contract
    return tuple(
        _compare(height, width, ask_torch, classifier, allowed)
        for height, width in ODD_SIZES
        if height * width <= contract.max_pixels and max(height, width) <= contract.max_aspect * min(height, width)
    )


def worst_picture(odd_sizes: tuple[OddSize, ...]) -> NDArray[np.uint8]:
    """Return the picture, (1, height, width, 3), that the graph cannot run, or else that of the largest difference."""
    worst = max(odd_sizes, key=lambda size: float("inf") if size.difference is None else size.difference)
    width, height = map(int, worst.name.split("x"))
    return _noise(height, width)


def _compare(
    height: int, width: int, ask_torch: Callable[[NDArray[np.uint8]], Answers], classifier: Classifier, allowed: float
) -> OddSize:
    name, picture_nhwc = f"{width}x{height}", _noise(height, width)
    try:
        logits = classifier.logits(picture_nhwc)
    except DeviceError as error:
        return OddSize(name, None, str(error))
    difference = float(np.abs(logits - ask_torch(picture_nhwc).logits).max())
    reason = f"logit difference {difference:.3g}; allowed {allowed:.3g}" if difference > allowed else None
    return OddSize(name, difference, reason)


def _noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
