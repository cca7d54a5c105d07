"""Compare the graphs with torch on every held-out frame, from the same stored pixels, and pick the golden frames.

Writes `reports/parity.json`, `reports/flips.csv` and `models/golden/`, whatever the verdict is: bundle refuses, not we.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.evidence import frames_of_equal_size, torch_of
from export.gates import FAILED, PASSED, UNDECIDABLE, Comparison, Logits, judge, margins
from export.golden import golden_order, write_golden
from export.routes import Route, ask_bundle, numbers_of, routes
from pipeline.data import forbid_tf32
from pipeline.errors import DataError
from pipeline.files import Project, replacing_file, write_json
from pipeline.leakage import read_split_without_leaks
from pipeline.manifest import Row
from pipeline.network import Checkpoint, read_checkpoint
from pipeline.params import Fp32Gate, ParityParams
from pipeline.progress import track
from runtime.classifier import Classifier

Torch = Callable[[NDArray[np.uint8]], Logits]

ODD_SIZES = ((1, 1), (3, 5000), (4320, 7680))  # height and width: a pixel, a line, 8K
WORST_FIRST = (FAILED, UNDECIDABLE, PASSED)


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
        DataError: no held-out frame, or a graph, the contract or the checkpoint is missing or broken.
    """
    held_out = [row for row in read_split_without_leaks(project) if row.split == "test"]
    if not held_out:
        raise DataError(f"{project.split_csv}: no held-out frame; nothing was compared")
    forbid_tf32()
    checkpoint = read_checkpoint(project.checkpoint)
    classifiers = _classifiers(checkpoint, project)
    asked = routes(classifiers, project)
    ask_torch = torch_of(checkpoint)
    torch_logits = _ask(held_out, ask_torch, asked, project)
    asked.append(ask_bundle(next(iter(classifiers.values())), held_out, project))
    truth = np.array([checkpoint.classes.index(row.label) for row in held_out])
    judged = _judge(asked, Comparison(checkpoint.classes, truth, torch_logits, torch_logits), params, classifiers)
    _add_odd_sizes(judged["fp32"], ask_torch, classifiers["fp32"], params.fp32)
    passed = judged["fp32"]["verdict"] == PASSED
    proven = [name for name, numbers in judged.items() if passed and numbers["verdict"] == PASSED]
    report = ParityReport(passed, proven[0] if proven else None, judged)
    graph_logits = {route.variant: route.logits for route in reversed(asked)}  # a variant's first route is the runtime
    write_golden(golden_order(held_out, graph_logits, classifiers), params, ask_torch, classifiers, project)
    _write_flips(held_out, torch_logits, {name: graph_logits[name] for name in judged}, checkpoint.classes, project)
    write_json(project.parity_json, {"passed": passed, "recommended": report.recommended, "variants": judged})
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
        comparison = Comparison(torch_alone.classes, torch_alone.truth, torch_alone.torch_logits, route.logits)
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
    differences = {}
    for height, width in ODD_SIZES:
        if height * width > contract.max_pixels or max(height, width) > contract.max_aspect * min(height, width):
            continue
        picture_nhwc = _noise(height, width)
        difference = float(np.abs(classifier.logits(picture_nhwc) - ask_torch(picture_nhwc)).max())
        differences[f"{width}x{height}"] = difference
        if difference > allowed:
            reason = f"a picture of {width}x{height}: logit difference {difference:.3g}; allowed {allowed:.3g}"
            numbers |= {"verdict": FAILED, "reasons": [*numbers["reasons"], reason]}
    numbers["odd_sizes"] = differences


def _noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)


def _write_flips(
    rows: Sequence[Row],
    torch_logits: Logits,
    graph_logits: Mapping[str, Logits],
    classes: Sequence[str],
    project: Project,
) -> None:
    """List every frame on which a variant answers differently from torch, with both margins."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", "variant", "torch", "graph", "torch_margin", "graph_margin"])
    from_torch, torch_margins = torch_logits.argmax(axis=1), margins(torch_logits)
    for name, logits in graph_logits.items():
        from_graph, graph_margins = logits.argmax(axis=1), margins(logits)
        for i in map(int, np.flatnonzero(from_graph != from_torch)):
            said = (classes[from_torch[i]], classes[from_graph[i]])
            both = (f"{torch_margins[i]:.6f}", f"{graph_margins[i]:.6f}")
            writer.writerow([rows[i].path, rows[i].label, name, *said, *both])
    with replacing_file(project.flips_csv) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")
