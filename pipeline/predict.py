"""Answers for photos, folders and clips, from the project's graph or from a bundle."""

from __future__ import annotations

import contextlib
import csv
import io
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import raw, video
from pipeline.children import each, run_in_child
from pipeline.errors import DataError, PipeError
from pipeline.extraction import ExtractParams
from pipeline.files import Project, replacing_file
from runtime.archive import unpack, verify
from runtime.classifier import Classifier, Prediction
from runtime.errors import DeviceError

NO_LABEL = "(none of the classes)"


@dataclass(frozen=True)
class Verdict:
    """What a picture, or all of a clip, shows."""

    label: str | None  # None: none of the classes
    probability: float  # of the most probable class
    probabilities: dict[str, float]  # by class; of a clip, their mean over its frames


@dataclass(frozen=True)
class FrameAnswer:
    """One frame of a clip."""

    time_seconds: float  # presentation time since the clip's first frame
    verdict: Verdict


@dataclass(frozen=True)
class Answer:
    """One photo or clip: a verdict, or the one line that says why there is none."""

    path: str  # as it was given, or as it was found in a folder
    verdict: Verdict | None
    frames: tuple[FrameAnswer, ...] = ()  # of a clip
    warnings: tuple[str, ...] = ()  # what was wrong with a clip, though it could be decoded
    error: str | None = None


@contextlib.contextmanager
def opened(project: Project, bundle: Path | None) -> Iterator[Classifier]:
    """Open the project's recommended graph, or that of a bundle: a zip, or the folder it was unpacked to.

    Raises:
        DataError: neither bundle nor contract is there.
        DeviceError: the bundle is not exactly its list, or contract and graph do not hold together.
    """
    if bundle is None:
        if not project.contract_json.is_file():
            raise DataError(f"{project.contract_json}: missing; run `dvc repro`, or name a bundle with --bundle")
        yield Classifier(project.contract_json, project.onnx)
        return
    if bundle.is_dir():
        verify(bundle)
        yield Classifier.load(bundle)
        return
    with tempfile.TemporaryDirectory(prefix="bundle-") as parent:
        folder = Path(parent) / "bundle"
        unpack(bundle, folder)
        yield Classifier.load(folder)


def predict(paths: Sequence[Path], classifier: Classifier, params: ExtractParams) -> list[Answer]:
    """Classify photos and clips, and those in folders; the answers come in the order of `paths`, folders sorted.

    A clip is sampled at `params.frames_per_second`; its verdict is the most probable class of the mean over its frames.
    A file that cannot be used gives an answer with its error, and the others go on.

    Raises:
        DataError: a folder holds no photo and no clip, or a path does not exist.
    """
    files = [file for path in paths for file in _files(path)]
    return list(each(partial(_answer, classifier, params), files, "predict"))


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise DataError(f"{path}: no such file; expected a photo, a clip or a folder")
    if not path.is_dir():
        return [path]
    files = [file for file in raw.walk(path) if raw.is_media(file)]
    if not files:
        raise DataError(f"{path}: no photo and no clip in this folder; expected at least one")
    return files


def _answer(classifier: Classifier, params: ExtractParams, path: Path) -> Answer:
    try:
        if raw.is_clip(path):
            return _answer_clip(classifier, params, path)
        return Answer(str(path), _verdict(classifier.classify(path)))
    except (PipeError, DeviceError) as error:
        return Answer(str(path), None, error=str(error))


def _verdict(prediction: Prediction) -> Verdict:
    return Verdict(prediction.label, prediction.probability, prediction.probabilities)


def _answer_clip(classifier: Classifier, params: ExtractParams, path: Path) -> Answer:
    found = run_in_child(
        "pipeline.predict:logits_of_clip",
        {
            "path": str(path),
            "graph": [str(classifier.contract_path), str(classifier.graphs), classifier.variant.name],
            "frames_per_second": params.frames_per_second,
            "bounds": {"max_pixels": round(params.max_megapixels * 1e6), "max_seconds": params.max_clip_seconds},
        },
        subject=str(path),
        timeout_seconds=params.decode_timeout_seconds,
        max_bytes=round(params.decode_max_gigabytes * 1e9),
    )
    frames = tuple(
        FrameAnswer(time_seconds, _verdict(classifier.judge(np.array(logits, np.float32))))
        for time_seconds, logits in found["frames"]
    )
    verdicts = [frame.verdict for frame in frames]
    return Answer(str(path), _verdict_on_clip(verdicts), frames, tuple(found["warnings"]))


def _verdict_on_clip(verdicts: Sequence[Verdict]) -> Verdict:
    """The mean over the frames that show a class; over all of them where none does."""
    known = [verdict for verdict in verdicts if verdict.label is not None]
    counted = known or verdicts
    means = {
        name: sum(verdict.probabilities[name] for verdict in counted) / len(counted)
        for name in counted[0].probabilities
    }
    best = max(means, key=means.__getitem__)
    return Verdict(best if known else None, means[best], means)


def logits_of_clip(path: str, graph: list[str], frames_per_second: float, bounds: dict[str, Any]) -> dict[str, Any]:
    """The child's side: decode a clip and classify its frames, where a decoder that crashes takes nothing along.

    Args:
        path: the clip.
        graph: contract, folder of graphs and variant of the classifier.
        frames_per_second: how densely the clip is sampled.
        bounds: the fields of `video.Bounds`.

    Returns:
        `frames`: (time in seconds, logits) of each; `warnings`: what was wrong with the clip.

    Raises:
        DataError: the clip cannot be decoded, or its frames are outside the contract's bounds.
    """
    contract, graphs, variant = graph
    try:
        classifier = Classifier(Path(contract), Path(graphs), variant)
        decode = partial(_decode, Path(path), classifier, video.Bounds(**bounds), frames_per_second)
        try:
            return decode(strict=True)
        except video.DamagedClipError:
            return decode(strict=False)
    except DeviceError as error:
        raise DataError(f"{path}: {error}") from error


def _decode(
    path: Path, classifier: Classifier, bounds: video.Bounds, frames_per_second: float, *, strict: bool
) -> dict[str, Any]:
    with video.open_clip(path, bounds, strict=strict) as clip:
        frames = [
            (frame.time_seconds, classifier.logits(frame.pixels_hwc[np.newaxis])[0].tolist())
            for frame in clip.frames(video.Wanted(frames_per_second))
        ]
        return {"frames": frames, "warnings": clip.info().warnings}


def refuse_failures(answers: Sequence[Answer]) -> None:
    """Let the command end in an error where a file has no answer, once the others have been printed.

    Raises:
        DataError: the first such file's line, and how many more there are.
    """
    errors = [answer.error for answer in answers if answer.error]
    if errors:
        raise DataError(errors[0] + (f"; {len(errors) - 1} more could not be classified" if len(errors) > 1 else ""))


def as_lines(answers: Sequence[Answer]) -> list[str]:
    """One line per answer, for people; of a clip, how its frames voted."""
    return [_line(answer) for answer in answers]


def _line(answer: Answer) -> str:
    if answer.verdict is None:
        return f"     -  {answer.error}"
    verdict = answer.verdict
    line = f"{verdict.probability:6.1%}  {verdict.label or NO_LABEL}  {answer.path}"
    if not answer.frames:
        return line
    votes = Counter(frame.verdict.label or NO_LABEL for frame in answer.frames)
    said = ", ".join(f"{label} {times}" for label, times in votes.most_common())
    return "; ".join([f"{line}  ({len(answer.frames)} frames: {said})", *answer.warnings])


def as_json(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """The answers as plain values: `path`, `verdict`, `frames`, `warnings`, `error`."""
    return [asdict(answer) for answer in answers]


def write_csv(answers: Sequence[Answer], path: Path) -> None:
    """Write one row per photo and clip, and behind each clip one per frame, which has a time.

    Columns: `path`, `time_seconds`, `n_frames`, `label`, `probability`, `p_<class>` for each class, `error`.
    """
    classes = next((list(answer.verdict.probabilities) for answer in answers if answer.verdict), [])
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    columns = ["path", "time_seconds", "n_frames", "label", "probability", *(f"p_{name}" for name in classes), "error"]
    writer.writerow(columns)
    for answer in answers:
        n_frames = str(len(answer.frames)) if answer.frames else ""
        numbers = _cells(answer.verdict) if answer.verdict else [""] * (len(classes) + 2)
        writer.writerow([answer.path, "", n_frames, *numbers, answer.error or ""])
        for frame in answer.frames:
            writer.writerow([answer.path, f"{frame.time_seconds:.6f}", "", *_cells(frame.verdict), ""])
    with replacing_file(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")


def _cells(verdict: Verdict) -> list[str]:
    shares = [f"{share:.6f}" for share in verdict.probabilities.values()]
    return [verdict.label or "", f"{verdict.probability:.6f}", *shares]
