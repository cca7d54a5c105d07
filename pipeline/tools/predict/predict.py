"""Answers for photos, folders and clips, from the project's graph or from a bundle."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.child_process import run_in_child
from pipeline.base.errors import DataError, PipeError
from pipeline.base.parallel import each
from pipeline.base.project import Project
from pipeline.extract.params import ExtractParams
from pipeline.media import recordings
from pipeline.media.clip import open_clip
from pipeline.media.decode_plan import Wanted
from pipeline.media.demuxer import Bounds, DamagedClipError
from pipeline.tools.predict.answers import Answer, FrameAnswer, Verdict
from runtime.archive import unpack, verify
from runtime.classifier import Classifier, Prediction
from runtime.errors import DeviceError


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
    files = [file for file in recordings.walk(path) if recordings.has_media_suffix(file)]
    if not files:
        raise DataError(f"{path}: no photo and no clip in this folder; expected at least one")
    return files


def _answer(classifier: Classifier, params: ExtractParams, path: Path) -> Answer:
    try:
        if recordings.has_clip_suffix(path):
            return _answer_clip(classifier, params, path)
        return Answer(str(path), _verdict(classifier.classify(path)))
    except (PipeError, DeviceError) as error:
        return Answer(str(path), None, error=str(error))


def _verdict(prediction: Prediction) -> Verdict:
    return Verdict(prediction.label, prediction.probability, prediction.probabilities)


def _answer_clip(classifier: Classifier, params: ExtractParams, path: Path) -> Answer:
    found = run_in_child(
        "pipeline.tools.predict.predict:logits_of_clip",
        {
            "path": str(path),
            "graph": [str(classifier.contract_path), str(classifier.graphs), classifier.variant.name],
            "frames_per_second": params.frames_per_second,
            "bounds": clip_bounds(params),
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


def clip_bounds(params: ExtractParams) -> dict[str, Any]:
    """The fields of `video.Bounds`, as a child is told them."""
    return {"max_pixels": round(params.max_megapixels * 1e6), "max_seconds": params.max_clip_seconds}


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
        decode = partial(_decode, Path(path), classifier, Bounds(**bounds), frames_per_second)
        try:
            return decode(strict=True)
        except DamagedClipError:
            return decode(strict=False)
    except DeviceError as error:
        raise DataError(f"{path}: {error}") from error


def _decode(
    path: Path, classifier: Classifier, bounds: Bounds, frames_per_second: float, *, strict: bool
) -> dict[str, Any]:
    with open_clip(path, bounds, strict=strict) as clip:
        frames = [
            (frame.time_seconds, classifier.logits(frame.pixels_hwc[np.newaxis])[0].tolist())
            for frame in clip.frames(Wanted(frames_per_second))
        ]
        return {"frames": frames, "warnings": clip.info().warnings}
