"""Compare the graphs with torch on every held-out frame, from the same stored pixels, and pick the golden frames.

Writes `reports/parity.json`, `reports/flips.csv` and its sheet, and `models/golden/`, whatever the verdict is: bundle
refuses, not we. What differs is explained: pixels, graph or precision.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from export.graphs.gates import FAILED, PASSED, UNDECIDABLE, Comparison, Logits, judge
from export.graphs.params import Fp32Gate, ParityParams
from export.graphs.reference import frames_of_equal_size, torch_of
from export.parity.blame import GRAPH, PIXELS, Halves, Trained, blame, blame_of_route
from export.parity.flips import flips_of, write_flips
from export.parity.golden import golden_order, write_golden
from export.parity.routes import BUNDLE, Route, ask_bundle, numbers_of, routes
from pipeline.base.errors import DataError
from pipeline.base.files import sha256_of, write_json
from pipeline.base.frames import read_frame
from pipeline.base.leakage import read_split_without_leaks
from pipeline.base.manifest import Row
from pipeline.base.progress import track
from pipeline.base.project import Project
from pipeline.network.checkpoint import Checkpoint, class_numbers, read_checkpoint
from pipeline.network.inference import forbid_tf32
from runtime.classifier import Classifier
from runtime.errors import DeviceError

Torch = Callable[[NDArray[np.uint8]], Logits]

ODD_SIZES = ((1, 1), (3, 5000), (4320, 7680))  # height and width: a pixel, a line, 8K
EXPLAINED = 16  # frames: those that flip, and then those that differ most
WORST_FIRST = (FAILED, UNDECIDABLE, PASSED)


@dataclass(frozen=True)
class Held:
    """The held-out frames and torch's answers."""

    rows: Sequence[Row]
    torch_logits: Logits  # (n, classes)


@dataclass(frozen=True)
class ParityReport:
    """The verdict on every variant."""

    passed: bool
    recommended: str | None  # the first in the contract's order that passed
    variants: dict[str, dict[str, Any]]

    @property
    def headline(self) -> str:
        """One line: the verdict, and for each variant the flips and the largest difference."""
        said = "; ".join(_said(name, numbers) for name, numbers in self.variants.items())
        return f"parity {'passed' if self.passed else 'FAILED'}: {said}; reports/parity.json"


def parity(params: ParityParams, project: Project) -> ParityReport:
    """Judge every variant of the contract. What fp32 fails, all fail; another that fails is not bundled.

    Raises:
        DataError: no held-out frame, or one of a class that the checkpoint does not know; a graph, the contract or the
            checkpoint is missing or broken.
    """
    held_out = [row for row in read_split_without_leaks(project) if row.split == "test"]
    if not held_out:
        raise DataError(f"{project.split_csv}: no held-out frame; nothing was compared")
    forbid_tf32()
    checkpoint = read_checkpoint(project.checkpoint)
    truth = class_numbers(held_out, checkpoint, project)
    classifiers = _classifiers(checkpoint, project)
    asked = routes(classifiers, project)
    ask_torch = torch_of(checkpoint)
    torch_logits = _ask(held_out, ask_torch, asked, project)
    asked.append(ask_bundle(next(iter(classifiers.values())), held_out, project))
    torch_alone = Comparison(checkpoint.classes, truth, torch_logits, torch_logits, checkpoint.unknown_threshold)
    judged = _judge(asked, torch_alone, params, classifiers)
    _add_odd_sizes(judged["fp32"], ask_torch, classifiers["fp32"], params.fp32)
    trained = Trained(checkpoint.preprocess, checkpoint.network())
    _add_blame(judged, asked, Held(held_out, torch_logits), trained, project)
    passed = judged["fp32"]["verdict"] == PASSED
    proven = [name for name, numbers in judged.items() if passed and numbers["verdict"] == PASSED]
    report = ParityReport(passed, proven[0] if proven else None, judged)
    graph_logits = {route.variant: route.logits for route in reversed(asked)}  # a variant's first route is the runtime
    write_golden(golden_order(held_out, graph_logits, classifiers), params, ask_torch, classifiers, project)
    by_variant = {name: graph_logits[name] for name in judged}
    write_flips(flips_of(held_out, torch_logits, by_variant, checkpoint.classes), project)
    verdict = {"passed": passed, "recommended": report.recommended, "variants": judged}
    write_json(project.parity_json, {**verdict, "checkpoint_sha256": sha256_of(project.checkpoint)})
    return report


def _said(name: str, numbers: Mapping[str, Any]) -> str:
    difference = numbers["max_abs_logit_difference"]
    said = "no number" if difference is None else f"{difference:.2e}"
    line = f"{name}: {numbers['flips']} flips on {numbers['n_samples']} frames, largest logit difference {said}"
    verdict = "" if numbers["verdict"] == PASSED else f" ({numbers['verdict']}: {', '.join(numbers['reasons'])})"
    return f"{line} of a range of {numbers['logit_range']:.2f}{verdict}"


def _classifiers(checkpoint: Checkpoint, project: Project) -> dict[str, Classifier]:
    """One per variant, the recommended one first: what runs on the device, on the project's own graphs."""
    first = Classifier(project.contract_json, project.onnx)
    if first.contract.classes != checkpoint.classes:
        raise DataError(f"{project.contract_json}: its classes are not the checkpoint's; run `pipe export` again")
    names = dict.fromkeys([first.variant.name, *(variant.name for variant in first.contract.variants)])
    if "fp32" not in names:
        raise DataError(f"{project.contract_json}: no variant fp32; run `pipe export` again")
    return {name: Classifier(project.contract_json, project.onnx, variant=name) for name in names}


def _ask(rows: Sequence[Row], ask_torch: Torch, asked: Sequence[Route], project: Project) -> Logits:
    """Every route about every frame, from the same pixels; gives torch's logits (n, classes)."""
    from_torch: list[Logits] = []
    for frames_nhwc in frames_of_equal_size(track(rows, "parity", len(rows)), project):
        from_torch.append(ask_torch(frames_nhwc))
        for route in asked:
            route(frames_nhwc)
    return np.concatenate(from_torch)


def _judge(
    asked: Sequence[Route], torch_alone: Comparison, params: ParityParams, classifiers: Mapping[str, Classifier]
) -> dict[str, dict[str, Any]]:
    """The numbers of every variant by its first route, the runtime's; a bad verdict on any route is the variant's."""
    judged: dict[str, dict[str, Any]] = {}
    for route in asked:
        variant = classifiers[route.variant].variant
        comparison = dataclasses.replace(torch_alone, graph_logits=route.logits)
        numbers = judge(comparison, variant.precision, params)
        if route.problem:
            numbers["reasons"] = [route.problem]
        if route.variant not in judged:
            about = {"precision": variant.precision, "graph_sha256": variant.sha256, "routes": {}}
            judged[route.variant] = {**numbers, **about, "reasons": list(numbers["reasons"])}
        else:
            _add_reasons(judged[route.variant], numbers, route.name)
        judged[route.variant]["routes"][route.name] = numbers_of(numbers)
    return judged


def _add_reasons(numbers: dict[str, Any], of_route: Mapping[str, Any], route: str) -> None:
    """Let a route's bad verdict be the variant's, saying which route unless the variant has that reason anyway."""
    numbers["verdict"] = min(numbers["verdict"], of_route["verdict"], key=WORST_FIRST.index)
    numbers["reasons"] += [f"{route}: {each}" for each in of_route["reasons"] if each not in numbers["reasons"]]


def _add_odd_sizes(numbers: dict[str, Any], ask_torch: Torch, classifier: Classifier, gate: Fp32Gate) -> None:
    """Compare on pictures of extreme sizes that the contract allows; all variants share their preprocessing."""
    contract = classifier.contract
    allowed = gate.max_logit_difference * numbers["logit_range"]
    differences: dict[str, float | None] = {}
    for height, width in ODD_SIZES:
        if height * width > contract.max_pixels or max(height, width) > contract.max_aspect * min(height, width):
            continue
        size = f"{width}x{height}"
        differences[size], reason = _on_one(_noise(height, width), ask_torch, classifier, allowed)
        if reason:
            numbers |= {"verdict": FAILED, "reasons": [*numbers["reasons"], f"a picture of {size}: {reason}"]}
    numbers["odd_sizes"] = differences


def _on_one(
    picture_nhwc: NDArray[np.uint8], ask_torch: Torch, classifier: Classifier, allowed: float
) -> tuple[float | None, str | None]:
    """The largest difference, None where the graph cannot run the picture; and why that fails, None where it holds."""
    try:
        logits = classifier.logits(picture_nhwc)
    except DeviceError as error:
        return None, str(error)
    difference = float(np.abs(logits - ask_torch(picture_nhwc)).max())
    return difference, f"logit difference {difference:.3g}; allowed {allowed:.3g}" if difference > allowed else None


def _noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)


def _add_blame(
    judged: Mapping[str, dict[str, Any]], asked: Sequence[Route], held: Held, trained: Trained, project: Project
) -> None:
    """Explain each variant that flips or fails, by the first of its routes that does; None where nothing does."""
    for name, numbers in judged.items():
        own = [route for route in asked if route.variant == name]
        suspects = [route for route in own if _is_suspect(numbers["routes"][route.name])]
        numbers["blame"] = None
        if suspects and not suspects[0].files:
            numbers["blame"] = _blame_route(suspects[0], own[0])
        elif suspects:
            numbers["blame"] = _blame(
                suspects[0], numbers["precision"], _worst(suspects[0], held, project), trained, project
            )
        elif numbers["verdict"] == FAILED:
            width, height = map(int, _worst_size(numbers["odd_sizes"]).split("x"))
            numbers["blame"] = _blame(own[0], numbers["precision"], iter([_noise(height, width)]), trained, project)


def _worst_size(odd_sizes: Mapping[str, float | None]) -> str:
    """One that the graph cannot run at all, or else that of the largest difference."""
    return max(odd_sizes, key=lambda size: float("inf") if (value := odd_sizes[size]) is None else value)


def _is_suspect(of_route: Mapping[str, Any]) -> bool:
    return bool(of_route["flips"] or of_route["verdict"] == FAILED)


def _worst(route: Route, held: Held, project: Project) -> Iterator[NDArray[np.uint8]]:
    difference = np.nan_to_num(np.abs(route.logits - held.torch_logits).max(axis=1), nan=np.inf)
    flips = route.logits.argmax(axis=1) != held.torch_logits.argmax(axis=1)
    order = np.lexsort((-difference, ~flips))  # the last key counts first
    return (read_frame(project, held.rows[place])[None] for place in order[:EXPLAINED])


def _blame(
    route: Route, precision: str, pictures: Iterator[NDArray[np.uint8]], trained: Trained, project: Project
) -> dict[str, Any]:
    """Of a route through graphs: a joined one, or its two parts."""
    graphs = [onnx.load(project.onnx / file) for file in route.files]
    halves = Halves(*graphs) if len(graphs) == 2 else Halves.of(*graphs)
    fp32 = halves.core if precision == "fp32" else onnx.load(project.onnx / "core.onnx")
    try:
        found = blame(halves, fp32, precision, trained, pictures)
    except DataError as error:
        return {"n_frames": 0, "part": None, "parts": None, "layer": None, "sentence": f"cannot be explained: {error}"}
    return {"route": route.name, **found}


def _blame_route(route: Route, own: Route) -> dict[str, Any]:
    """Of a route on which a graph that holds elsewhere does not: another process's decoder, another provider."""
    difference = float(np.abs(route.logits - own.logits).max())
    flips = int((route.logits.argmax(axis=1) != own.logits.argmax(axis=1)).sum())
    part = PIXELS if route.name == BUNDLE else GRAPH
    return {"route": route.name, **blame_of_route(route.name, part, difference, flips, len(own.logits))}
