"""Compare the graphs with torch on every held-out frame, from the same stored pixels, and pick the golden frames.

Writes `reports/parity.json`, `reports/flips.csv` with its sheet, and `models/golden/`, whatever the verdict is: the
stage bundle refuses a bad verdict. Differences are explained: pixels, graph or precision.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from export.graphs.gates import FAILED, Judgement, LogitComparison, Logits, judge
from export.graphs.out_of_fold import OUT_OF_FOLD, FoldRoute, JudgedFrames, ask_folds, read_judged_frames
from export.graphs.params import ParityParams
from export.graphs.reference import frames_of_equal_size, torch_of
from export.graphs.split_graph import SplitGraph
from export.parity.blame import GRAPH, PIXELS, Blame, TrainedNetwork, blame, blame_route
from export.parity.flips import Flip, flips_of, write_flips
from export.parity.golden import golden_order, write_golden
from export.parity.odd_sizes import compare_odd_sizes, worst_picture
from export.parity.results import FP32, ParityReport, VariantResult
from export.parity.routes import BUNDLE, Route, ask_bundle, routes
from pipeline.base.device_code import device_code
from pipeline.base.errors import DataError
from pipeline.base.files import exclusive
from pipeline.base.frames import read_frame
from pipeline.base.leakage import read_split_without_leaks
from pipeline.base.manifest import Row
from pipeline.base.progress import track
from pipeline.base.project import Project
from pipeline.base.report_digest import files_below, hashes_of, write_report
from pipeline.network.checkpoint import Checkpoint, class_numbers, read_checkpoint
from pipeline.network.clip_answers import ClipAnswers, FrameAnswers, answer_clips
from pipeline.network.torch_settings import set_up_torch
from runtime.answers import KNOWN_SCORE, Answers, joined, probabilities_of
from runtime.classifier import Classifier

Torch = Callable[[NDArray[np.uint8]], Answers]

EXPLAINED = 16  # frames: those that flip, and then those that differ most


@dataclass(frozen=True)
class _Reference:
    """What the routes are held against."""

    rows: Sequence[Row]  # the held-out frames
    torch_logits: Logits  # (n, classes)
    trained: TrainedNetwork
    project: Project


@exclusive("pipe parity")
def parity(params: ParityParams, project: Project) -> ParityReport:
    """Judge every variant of the contract on the held-out frames, write the reports, and write the golden frames.

    When fp32 fails, the verdict is no. Another variant that fails is not bundled.

    Raises:
        DataError: no frame is held out, or one has a class that the checkpoint does not know; a graph, the contract or
            the checkpoint is missing or broken.
    """
    of_training = (project.checkpoint, project.fold_heads, project.out_of_fold_csv())
    read = (*of_training, project.split_csv, project.split_json, project.contract_json)
    made_from = hashes_of((*read, *files_below(project.onnx), *device_code(project)), project)
    rows = read_split_without_leaks(project)
    held_out = [row for row in rows if row.split == "test"]
    if not held_out:
        raise DataError(f"{project.split_csv}: no held-out frame; nothing was compared")
    set_up_torch()
    checkpoint = read_checkpoint(project.checkpoint)
    truth = class_numbers(held_out, checkpoint, project)
    classifiers = _classifiers(checkpoint, project)
    asked = routes(classifiers, project)
    ask_torch = torch_of(checkpoint)
    from_torch = _ask(held_out, ask_torch, asked, project)
    asked.append(ask_bundle(next(iter(classifiers.values())), held_out, project))
    torch_alone = _torch_alone(checkpoint, truth, from_torch, classifiers)
    by_folds = checkpoint.estimate == "folds"
    results = _judge(asked, torch_alone, _only_losses(params) if by_folds else params, classifiers)
    allowed = params.fp32.max_logit_difference * results[FP32].judgement.logit_range
    odd_sizes = compare_odd_sizes(ask_torch, classifiers[FP32], allowed)
    results[FP32] = dataclasses.replace(results[FP32], odd_sizes=odd_sizes)
    trained = TrainedNetwork(checkpoint.preprocess, checkpoint.network())
    explained = _explain(results, asked, _Reference(held_out, from_torch.logits, trained, project))
    from_graphs = {route.variant: route.answers for route in reversed(asked)}  # a variant's first route is the runtime
    graph_logits = {name: answers.logits for name, answers in from_graphs.items()}
    flips = flips_of(held_out, from_torch.logits, {name: graph_logits[name] for name in results}, checkpoint.classes)
    if by_folds:
        judged = read_judged_frames(rows, checkpoint, project)
        of_folds = _ask_folds(judged, classifiers, project)
        explained = _judge_by_folds(explained, judged, of_folds, params)
        answers = {name: judged.clip_answers(route) for name, route in of_folds.items()}
        flips = [flip for flip in flips if flip.variant == FP32] + _flips_of_folds(judged, of_folds)
    else:
        answers = {
            name: _clip_answers(held_out, truth, from_graphs[name], classifier)
            for name, classifier in classifiers.items()
        }
    report = ParityReport(explained, made_from[project.relative(project.checkpoint)] or "", answers)
    write_golden(golden_order(held_out, graph_logits, classifiers), params, ask_torch, classifiers, project)
    write_flips(flips, project)
    wrote = hashes_of((project.flips_csv, project.flips_png, *files_below(project.golden)), project)
    write_report(project.parity_json, report.to_json(), made_from=made_from, wrote=wrote)
    return report


def _only_losses(params: ParityParams) -> ParityParams:
    """The gates without the least number of frames: the frames of the folds, which are more, decide about it."""
    int8 = params.int8.model_copy(update={"min_class_frames": 1})
    return params.model_copy(update={"int8": int8})


def _torch_alone(
    checkpoint: Checkpoint, truth: NDArray[np.int64], from_torch: Answers, classifiers: Mapping[str, Classifier]
) -> LogitComparison:
    """Torch beside itself: what each route is put into."""
    has_score = next(iter(classifiers.values())).contract.unknown_score == KNOWN_SCORE
    return LogitComparison(
        checkpoint.classes,
        truth,
        from_torch.logits,
        from_torch.logits,
        torch_scores=from_torch.scores if has_score else None,
        unknown_threshold=checkpoint.calibration.frame_threshold,
    )


def _ask_folds(judged: JudgedFrames, classifiers: Mapping[str, Classifier], project: Project) -> dict[str, FoldRoute]:
    """Ask every variant about every frame of every clip."""
    asked = ask_folds(judged, {name: classifier.variant for name, classifier in classifiers.items()}, project)
    return dict(zip(classifiers, asked, strict=True))


def _judge_by_folds(
    results: Mapping[str, VariantResult],
    judged: JudgedFrames,
    routes: Mapping[str, FoldRoute],
    params: ParityParams,
) -> dict[str, VariantResult]:
    """Add the verdict out of fold to every variant.

    Of a smaller precision the figures are those of the folds: the network that ships has learned from the test side.
    """
    with_folds = {}
    for name, result in results.items():
        of_folds = {OUT_OF_FOLD: judged.judge(routes[name], params)}
        both = {**result.routes, **of_folds} if result.precision == FP32 else {**of_folds, **result.routes}
        with_folds[name] = dataclasses.replace(result, routes=both)
    return with_folds


def _flips_of_folds(judged: JudgedFrames, routes: Mapping[str, FoldRoute]) -> list[Flip]:
    """The flips of the smaller variants, of which the folds give the figures; none of one that gave no answer."""
    answered = {name: route.answers.logits for name, route in routes.items() if name != FP32 and route.problem is None}
    return flips_of(judged.rows, judged.torch.logits, answered, judged.classes)


def _clip_answers(
    rows: Sequence[Row], truth: NDArray[np.int64], answers: Answers, classifier: Classifier
) -> ClipAnswers:
    """The held-out clips as the device answers them with a variant; what gave no answer counts as 0."""
    probabilities = probabilities_of(np.nan_to_num(answers.logits), classifier.contract.temperature)
    frames = FrameAnswers(rows, np.nan_to_num(answers.scores), probabilities, truth)
    return answer_clips(frames, lambda _: classifier.thresholds, None)


def _classifiers(checkpoint: Checkpoint, project: Project) -> dict[str, Classifier]:
    """Open every variant in the device's runtime, the recommended variant first."""
    first = Classifier(project.contract_json, project.onnx)
    if first.contract.classes != checkpoint.classes:
        raise DataError(f"{project.contract_json}: its classes are not the checkpoint's; run `pipe export` again")
    names = dict.fromkeys([first.variant.name, *(variant.name for variant in first.contract.variants)])
    if FP32 not in names:
        raise DataError(f"{project.contract_json}: no variant fp32; run `pipe export` again")
    return {name: Classifier(project.contract_json, project.onnx, variant=name) for name in names}


def _ask(rows: Sequence[Row], ask_torch: Torch, asked: Sequence[Route], project: Project) -> Answers:
    """Ask torch and every route about every frame, from the same pixels, and return what torch says."""
    from_torch: list[Answers] = []
    for frames_nhwc in frames_of_equal_size(track(rows, "parity", len(rows)), project):
        from_torch.append(ask_torch(frames_nhwc))
        for route in asked:
            route(frames_nhwc)
    return joined(from_torch)


def _judge(
    asked: Sequence[Route],
    torch_alone: LogitComparison,
    params: ParityParams,
    classifiers: Mapping[str, Classifier],
) -> dict[str, VariantResult]:
    """Judge every route by the gates of its variant's precision."""
    judged: dict[str, dict[str, Judgement]] = {}
    for route in asked:
        threshold = classifiers[route.variant].variant.unknown_threshold
        comparison = dataclasses.replace(
            torch_alone,
            graph_logits=route.logits,
            graph_scores=None if torch_alone.torch_scores is None else route.answers.scores,
            unknown_threshold_of_graph=threshold,
        )
        judgement = judge(comparison, classifiers[route.variant].variant.precision, params)
        if route.problem:
            judgement = dataclasses.replace(judgement, reasons=(route.problem,))
        judged.setdefault(route.variant, {})[route.name] = judgement
    variants = {name: classifiers[name].variant for name in judged}
    return {name: VariantResult(variants[name].precision, variants[name].sha256, judged[name]) for name in judged}


def _explain(
    results: Mapping[str, VariantResult], asked: Sequence[Route], reference: _Reference
) -> dict[str, VariantResult]:
    """Add the blame to every variant that flips or fails."""
    own_routes = {name: [route for route in asked if route.variant == name] for name in results}
    return {
        name: dataclasses.replace(result, blame=_blame_of(result, own_routes[name], reference))
        for name, result in results.items()
    }


def _blame_of(result: VariantResult, own: Sequence[Route], reference: _Reference) -> Blame | None:
    """Explain a variant by the first of its routes that flips or fails; None where nothing does."""
    suspects = [route for route in own if _is_suspect(result.routes[route.name])]
    if suspects and not suspects[0].files:
        part = PIXELS if suspects[0].name == BUNDLE else GRAPH
        return blame_route(suspects[0].name, part, suspects[0].logits, own[0].logits)
    if suspects:
        return _blame_graphs(suspects[0], result.precision, _worst_frames(suspects[0], reference), reference)
    if result.verdict == FAILED and result.odd_sizes:
        return _blame_graphs(own[0], result.precision, iter([worst_picture(result.odd_sizes)]), reference)
    return None


def _is_suspect(judgement: Judgement) -> bool:
    return bool(judgement.flips or judgement.verdict == FAILED)


def _worst_frames(route: Route, reference: _Reference) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames that flip and then those that differ most, each (1, height, width, 3)."""
    difference = np.nan_to_num(np.abs(route.logits - reference.torch_logits).max(axis=1), nan=np.inf)
    flips = route.logits.argmax(axis=1) != reference.torch_logits.argmax(axis=1)
    order = np.lexsort((-difference, ~flips))  # the last key counts first
    return (read_frame(reference.project, reference.rows[index])[None] for index in order[:EXPLAINED])


def _blame_graphs(route: Route, precision: str, pictures: Iterator[NDArray[np.uint8]], reference: _Reference) -> Blame:
    """Explain a route that is a joined graph, or its two parts one behind the other."""
    folder = reference.project.onnx
    graphs = [onnx.load(folder / file) for file in route.files]
    graph = SplitGraph(*graphs) if len(graphs) == 2 else SplitGraph.of(*graphs)
    fp32 = graph.core if precision == FP32 else onnx.load(folder / "core.onnx")
    try:
        explanation = blame(graph, fp32, precision, reference.trained, pictures)
    except DataError as error:
        return Blame(f"cannot be explained: {error}")
    return dataclasses.replace(explanation, route=route.name)
