"""Which part of a graph makes its logits differ from torch's: pixels, graph or precision; and where it begins.

Torch's preprocessing, network and float32 are replaced by the graph's, one after the other. The part whose replacement
moves the logits most is blamed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from export.graphs.gates import Logits
from export.graphs.runner import Graph
from export.graphs.split_graph import SplitGraph
from export.parity.first_divergence import (
    ALLOWED,
    Layer,
    errors_against_fp32,
    errors_against_torch,
    first_diverging_layer,
    inner_tensors,
)
from pipeline.base.words import counted
from pipeline.network.preprocess import Preprocess

PIXELS, GRAPH, PRECISION = PARTS = ("pixels", "graph", "precision")
MEANS = {PIXELS: "the preprocessing", GRAPH: "the network as exported", PRECISION: "the smaller precision"}
SEARCHED = 4  # pictures on which the layer is searched for: those that differ most
SAME_LEVEL = 0.05  # of 255; a sound resize in the graph is within 0.004 of torch's
REVERSED = 0.1  # channels are swapped where reading them backwards leaves less than this share of the difference


@dataclass(frozen=True)
class TrainedNetwork:
    """What was trained, in torch."""

    preprocess: Preprocess
    network: torch.nn.Module  # float32, in eval mode


@dataclass(frozen=True)
class PartEffect:
    """What replacing one of torch's parts by the graph's does to the logits."""

    max_abs_logit_difference: float | None  # None: no number is left
    flips: int


@dataclass(frozen=True)
class Blame:
    """What differs between a graph and torch, and where the difference begins."""

    sentence: str
    n_frames: int = 0  # frames that were looked at
    route: str | None = None  # None: the difference cannot be explained
    part: str | None = None  # pixels, graph or precision
    parts: Mapping[str, PartEffect] | None = None
    layer: Layer | None = None  # None: no layer, and no step of the preprocessing, diverges alone

    def __post_init__(self) -> None:
        if (self.part is None) != (self.parts is None) or (self.parts is not None and self.part not in self.parts):
            raise ValueError(f"a blame contradicts itself: {self}")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as `reports/parity.json` holds them."""
        return {
            **({} if self.route is None else {"route": self.route}),
            "n_frames": self.n_frames,
            "part": self.part,
            "parts": None if self.parts is None else {name: asdict(effect) for name, effect in self.parts.items()},
            "layer": None if self.layer is None else self.layer.to_json(),
            "sentence": self.sentence,
        }


@dataclass(frozen=True)
class _Replacements:
    """One picture's logits, from torch's to the graph's, as the parts are replaced one after the other."""

    picture_nhwc: NDArray[np.uint8]  # a batch of one
    input_nchw: NDArray[np.float32]  # as the graph's preprocessing gives it
    logits: Sequence[Logits]  # of torch; with the graph's pixels; with its float32 network; with its precision

    def difference(self, part: str) -> float:
        """By how much a part moves the logits; infinite where it leaves no number."""
        index = PARTS.index(part)
        before, after = self.logits[index : index + 2]
        if not np.isfinite(before).all():
            return 0.0  # an earlier part left no number
        moved = float(np.abs(after - before).max())
        return moved if np.isfinite(moved) else float("inf")

    @property
    def flipped_by(self) -> str | None:
        """The part behind which torch's answer does not come back."""
        answers = [int(logits.argmax()) for logits in self.logits]
        last_right = max(index for index, answer in enumerate(answers) if answer == answers[0])
        return PARTS[last_right] if last_right < len(PARTS) else None


def blame(
    graph: SplitGraph,
    fp32: onnx.ModelProto,
    precision: str,
    trained: TrainedNetwork,
    pictures: Iterable[NDArray[np.uint8]],
) -> Blame:
    """Divide the difference on some pictures between the parts, and find where it begins in the worst part.

    Args:
        graph: what is to be explained.
        fp32: the float32 core; for a float32 graph its own.
        precision: of the graph: `fp32`, `fp16` or `int8`.
        trained: what the graph is held against.
        pictures: at least one, each (1, height, width, 3) RGB.

    Raises:
        DataError: onnxruntime cannot run the graph.
    """
    replaced = _replace_parts(graph, fp32, trained, pictures)
    largest = {part: max(picture.difference(part) for picture in replaced) for part in PARTS}
    flips = {part: sum(picture.flipped_by == part for picture in replaced) for part in PARTS}
    worst = max(PARTS, key=lambda part: (largest[part], flips[part]))
    replaced.sort(key=lambda picture: -picture.difference(worst))
    layer = _first_difference(worst, replaced[:SEARCHED], graph, fp32, precision, trained)
    return Blame(
        sentence=_sentence(worst, largest[worst], flips[worst], len(replaced), layer, precision),
        n_frames=len(replaced),
        part=worst,
        parts={part: PartEffect(_finite(largest[part]), flips[part]) for part in PARTS},
        layer=layer,
    )


def blame_route(route: str, part: str, logits: Logits, sound_logits: Logits) -> Blame:
    """Blame a route on which the very graph that holds on another route gives other logits.

    Args:
        route: its name.
        part: what differs on this route: `pixels` (another decoder) or `graph` (another provider's kernels).
        logits: (n, classes), on this route.
        sound_logits: (n, classes), of the same graph and frames on the other route.
    """
    difference = float(np.abs(logits - sound_logits).max())
    flips = int((logits.argmax(axis=1) != sound_logits.argmax(axis=1)).sum())
    return Blame(
        sentence=f"{part}: on the route {route} the same graph gives other logits"
        f" (largest difference {difference:.3g}, {flips} flips)",
        n_frames=len(logits),
        route=route,
        part=part,
        parts={name: PartEffect(_finite(difference), flips) if name == part else PartEffect(0.0, 0) for name in PARTS},
    )


def _replace_parts(
    graph: SplitGraph, fp32: onnx.ModelProto, trained: TrainedNetwork, pictures: Iterable[NDArray[np.uint8]]
) -> list[_Replacements]:
    preprocess, core = (Graph(model.SerializeToString()) for model in (graph.preprocess, graph.core))
    fp32_core = core if fp32 is graph.core else Graph(fp32.SerializeToString())
    replaced = []
    for picture_nhwc in pictures:
        input_nchw = preprocess(picture_nhwc)
        with torch.inference_mode():
            from_torch = trained.network(trained.preprocess(torch.from_numpy(picture_nhwc))).numpy()
            with_pixels = trained.network(torch.from_numpy(input_nchw)).numpy()
        logits = (from_torch, with_pixels, fp32_core(input_nchw), core(input_nchw))
        replaced.append(_Replacements(picture_nhwc, input_nchw, logits))
    return replaced


def _first_difference(
    part: str,
    worst: Sequence[_Replacements],
    graph: SplitGraph,
    fp32: onnx.ModelProto,
    precision: str,
    trained: TrainedNetwork,
) -> Layer | None:
    """Return the layer, or the step of the preprocessing, at which a part begins to differ."""
    if part == PIXELS:
        step = _step_of_preprocessing(graph.preprocess, trained.preprocess, worst[0].picture_nhwc)
        return None if step is None else Layer(step, operator=None, weights=None, error=None)
    input_nchw = np.concatenate([picture.input_nchw for picture in worst])
    if part == GRAPH:
        return first_diverging_layer(fp32, errors_against_torch(fp32, trained.network, input_nchw), ALLOWED["fp32"])
    errors_of = errors_against_fp32(graph.core, fp32, input_nchw, precision)
    return first_diverging_layer(fp32, errors_of, ALLOWED[precision])


def _step_of_preprocessing(
    model: onnx.ModelProto, preprocess: Preprocess, picture_nhwc: NDArray[np.uint8]
) -> str | None:
    """Return the first step whose result is not torch's, or None.

    The steps are `crop`, `channel order`, `resize` and `normalisation`.
    """
    names = {name.rpartition("/")[2]: name for node in model.graph.node for name in node.output}
    tensors = inner_tensors(model, [names[name] for name in ("box", "resized", "input") if name in names], picture_nhwc)
    inner = {name: tensors[full] for name, full in names.items() if full in tensors}
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


def _same(values: NDArray[Any], expected: NDArray[Any], within: float) -> bool:
    if values.shape != expected.shape:
        return False
    return bool(np.abs(values.astype(np.float32) - expected).max() <= within)


def _is_reversed(values_nchw: NDArray[np.float32], expected_nchw: NDArray[np.float32]) -> bool:
    straight = float(np.abs(values_nchw - expected_nchw).max())
    backwards = float(np.abs(values_nchw - expected_nchw[:, ::-1]).max())
    return backwards < REVERSED * straight


def _sentence(part: str, difference: float, flips: int, n_frames: int, layer: Layer | None, precision: str) -> str:
    moved = f"by up to {difference:.3g}" if np.isfinite(difference) else "to values that are not numbers"
    frames = counted(n_frames, "frame")
    effect = f"{part}: {MEANS[part]} changes the logits {moved} and flips {flips} of {frames}"
    if layer is None and part == PIXELS:
        return f"{effect}; no step of it differs by more than {SAME_LEVEL:g} levels of 255"
    if layer is None:
        allowed = ALLOWED[precision if part == PRECISION else "fp32"]
        return f"{effect}; no single layer diverges by more than {allowed:g} of its values"
    if layer.operator is None:
        return f"{effect}; the difference begins at the {layer.name}"
    nothing = "gives no number" if part == PRECISION else "gives a tensor that torch does not compute"
    by = nothing if layer.error is None else f"diverges by {layer.error:.2g} of its values"
    return f"{effect}; the first layer that diverges is {layer}, which {by}"


def _finite(difference: float) -> float | None:
    return difference if np.isfinite(difference) else None
