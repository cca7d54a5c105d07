"""Which part makes a graph answer otherwise than torch: pixels, graph or precision, and where in it it begins.

Torch's preprocessing, network and float32 are replaced by the graph's, one after the other; the part whose
replacement moves the logits most is blamed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx.utils import Extractor

from export.graphs.gates import Logits
from export.graphs.runner import Graph
from export.parity.first_divergence import ALLOWED, Layer, against_fp32, against_torch, first_departing, tapped
from pipeline.network.preprocess import Preprocess

PIXELS, GRAPH, PRECISION = PARTS = ("pixels", "graph", "precision")
MEANS = {PIXELS: "the preprocessing", GRAPH: "the network as exported", PRECISION: "the smaller precision"}
SEARCHED = 4  # pictures on which the layer is looked for, those that differ most
SAME_LEVEL = 0.05  # of 255; a sound resize in the graph is within 0.004 of torch's
REVERSED = 0.1  # channels are swapped where reading them backwards leaves less than this share of the difference


@dataclass(frozen=True)
class Halves:
    """A graph in two: pictures to the network's input, and that to logits."""

    front: onnx.ModelProto
    core: onnx.ModelProto

    @classmethod
    def of(cls, model: onnx.ModelProto) -> Halves:
        """Cut a joined graph at the network's `input`."""
        extractor = Extractor(model)
        return cls(extractor.extract_model(["image"], ["input"]), extractor.extract_model(["input"], ["logits"]))


@dataclass(frozen=True)
class Trained:
    """What was trained."""

    preprocess: Preprocess
    network: torch.nn.Module  # float32, in eval mode


@dataclass(frozen=True)
class _Steps:
    """One picture on its way from torch's answer to the graph's."""

    picture_nhwc: NDArray[np.uint8]  # a batch of one
    input_nchw: NDArray[np.float32]  # as the graph's preprocessing gives it
    logits: Sequence[Logits]  # torch; with the graph's pixels; with its float32 network; with its precision

    def difference(self, part: str) -> float:
        """By how much a part moves the logits; infinite where it leaves no number."""
        place = PARTS.index(part)
        before, after = self.logits[place : place + 2]
        if not np.isfinite(before).all():
            return 0.0  # lost before
        moved = float(np.abs(after - before).max())
        return moved if np.isfinite(moved) else float("inf")

    @property
    def flipped_by(self) -> str | None:
        """The part behind which torch's answer does not come back."""
        answers = [int(logits.argmax()) for logits in self.logits]
        last_right = max(place for place, answer in enumerate(answers) if answer == answers[0])
        return PARTS[last_right] if last_right < len(PARTS) else None


def blame(
    graph: Halves, fp32: onnx.ModelProto, precision: str, trained: Trained, pictures: Iterable[NDArray[np.uint8]]
) -> dict[str, Any]:
    """Split what differs on some pictures between the parts, and find where in the worst part it begins.

    Args:
        graph: what is to be explained.
        fp32: the float32 core; for a float32 graph its own.
        precision: of the graph: fp32, fp16 or int8.
        trained: what the graph is held against.
        pictures: at least one, each (1, height, width, 3) RGB.

    Returns:
        For `reports/parity.json`: `n_frames`, `part`, `parts`, `layer`, `sentence`.

    Raises:
        DataError: onnxruntime cannot run the graph.
    """
    every = _steps(graph, fp32, trained, pictures)
    largest = {part: max(steps.difference(part) for steps in every) for part in PARTS}
    flips = {part: sum(steps.flipped_by == part for steps in every) for part in PARTS}
    worst = max(PARTS, key=lambda part: (largest[part], flips[part]))
    every.sort(key=lambda steps: -steps.difference(worst))
    layer = _where(worst, every[:SEARCHED], graph, fp32, precision, trained)
    parts = {part: {"max_abs_logit_difference": _number(largest[part]), "flips": flips[part]} for part in PARTS}
    said = _sentence(worst, largest[worst], flips[worst], len(every), layer, precision)
    return {"n_frames": len(every), "part": worst, "parts": parts, "layer": _as_json(layer), "sentence": said}


def blame_of_route(route: str, part: str, difference: float, flips: int, n_frames: int) -> dict[str, Any]:
    """The same of a way on which the very graph that holds elsewhere answers otherwise."""
    parts = {each: {"max_abs_logit_difference": _number(0.0), "flips": 0} for each in PARTS}
    parts[part] = {"max_abs_logit_difference": _number(difference), "flips": flips}
    said = f"{part}: the same graph answers otherwise on the route {route} (logits by {difference:.3g}, {flips} flips)"
    return {"n_frames": n_frames, "part": part, "parts": parts, "layer": None, "sentence": said}


def _steps(
    graph: Halves, fp32: onnx.ModelProto, trained: Trained, pictures: Iterable[NDArray[np.uint8]]
) -> list[_Steps]:
    front, core = (Graph(model.SerializeToString()) for model in (graph.front, graph.core))
    fp32_core = core if fp32 is graph.core else Graph(fp32.SerializeToString())
    every = []
    for picture_nhwc in pictures:
        input_nchw = front(picture_nhwc)
        with torch.inference_mode():
            from_torch = trained.network(trained.preprocess(torch.from_numpy(picture_nhwc))).numpy()
            with_pixels = trained.network(torch.from_numpy(input_nchw)).numpy()
        logits = (from_torch, with_pixels, fp32_core(input_nchw), core(input_nchw))
        every.append(_Steps(picture_nhwc, input_nchw, logits))
    return every


def _where(
    part: str, worst: Sequence[_Steps], graph: Halves, fp32: onnx.ModelProto, precision: str, trained: Trained
) -> Layer | str | None:
    """The layer, or the step of the preprocessing, at which it begins."""
    if part == PIXELS:
        return _step_of_preprocessing(graph.front, trained.preprocess, worst[0].picture_nhwc)
    input_nchw = np.concatenate([steps.input_nchw for steps in worst])
    if part == GRAPH:
        return first_departing(fp32, against_torch(fp32, trained.network, input_nchw), ALLOWED["fp32"])
    errors_of = against_fp32(graph.core, fp32, input_nchw, precision)
    return first_departing(fp32, errors_of, ALLOWED[precision])


def _step_of_preprocessing(
    front: onnx.ModelProto, preprocess: Preprocess, picture_nhwc: NDArray[np.uint8]
) -> str | None:
    """`crop`, `channel order`, `resize` or `normalisation`: the first whose result is not torch's; None: all are."""
    names = {name.rpartition("/")[2]: name for node in front.graph.node for name in node.output}
    found = tapped(front, [names[name] for name in ("box", "resized", "input") if name in names], picture_nhwc)
    inner = {name: found[full] for name, full in names.items() if full in found}
    top, left, height, width = preprocess.box(*picture_nhwc.shape[1:3])
    box_nhwc = picture_nhwc[:, top : top + height, left : left + width]
    if "box" in inner and not _same(inner["box"], box_nhwc, 0):
        return "channel order" if _same(inner["box"], box_nhwc[..., ::-1], 0) else "crop"
    pictures = torch.from_numpy(picture_nhwc)
    resized_nchw, input_nchw = preprocess.resized(pictures, preprocess.size).numpy(), preprocess(pictures).numpy()
    if "resized" in inner and not _same(inner["resized"], resized_nchw, SAME_LEVEL):
        return "channel order" if _is_reversed(inner["resized"], resized_nchw) else "resize"
    if _same(inner["input"], input_nchw, SAME_LEVEL * max(preprocess.scale_and_bias()[0])):
        return None
    return "channel order" if _is_reversed(inner["input"], input_nchw) else "normalisation"


def _same(found: NDArray[Any], expected: NDArray[Any], within: float) -> bool:
    if found.shape != expected.shape:
        return False
    return bool(np.abs(found.astype(np.float32) - expected).max() <= within)


def _is_reversed(found_nchw: NDArray[np.float32], expected_nchw: NDArray[np.float32]) -> bool:
    straight, backwards = (float(np.abs(found_nchw - each).max()) for each in (expected_nchw, expected_nchw[:, ::-1]))
    return backwards < REVERSED * straight


def _sentence(
    part: str, difference: float, flips: int, n_frames: int, where: Layer | str | None, precision: str
) -> str:
    moved = f"by up to {difference:.3g}" if np.isfinite(difference) else "to no number"
    frames = "1 frame" if n_frames == 1 else f"{n_frames} frames"
    said = f"{part}: {MEANS[part]} moves the logits {moved} and flips {flips} of {frames} looked at"
    if isinstance(where, str):
        return f"{said}; it begins at the {where}"
    if where is None and part == PIXELS:
        return f"{said}; no step of it departs by more than {SAME_LEVEL:g} levels of 255"
    if where is None:
        allowed = ALLOWED[precision if part == PRECISION else "fp32"]
        return f"{said}; alone, no layer departs by more than {allowed:g} of its values"
    nothing = "gives no number" if part == PRECISION else "gives what torch computes nowhere"
    by = nothing if where.error is None else f"departs by {where.error:.2g} of its values"
    return f"{said}; the first layer that departs is {where}, which {by}"


def _as_json(where: Layer | str | None) -> dict[str, Any] | None:
    if isinstance(where, str):
        return {"name": where, "operator": None, "weights": None, "error": None}
    return None if where is None else where.to_json()


def _number(difference: float) -> float | None:
    return difference if np.isfinite(difference) else None
