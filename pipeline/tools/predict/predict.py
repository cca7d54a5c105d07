"""Classify photos, folders and clips with the project's graph or with a bundle's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.child_process import run_in_child
from pipeline.base.errors import DataError, PipeError
from pipeline.base.parallel import each
from pipeline.base.project import Project
from pipeline.base.storage.scratch import scratch_folder
from pipeline.extract.params import ExtractParams
from pipeline.media import recordings
from pipeline.media.photos import read_photo_as_device
from pipeline.tools.predict.answers import Answer, Classification, FrameAnswer
from pipeline.tools.predict.model import name_exported_model
from runtime import video
from runtime.archive import bundle_id, unpack, verify
from runtime.classifier import Classifier, Prediction
from runtime.clips.clip import open_clip
from runtime.clips.decode_plan import Wanted
from runtime.clips.demuxer import Bounds, DamagedClipError
from runtime.errors import ClipError, DeviceError


@dataclass(frozen=True)
class NamedClassifier:
    """A graph that answers, and the model that it is of."""

    classifier: Classifier
    model: str  # in words

    @property
    def headline(self) -> str:
        """One line that says which model answers."""
        return f"answered by the graph {self.classifier.variant.name} of {self.model}"


@contextlib.contextmanager
def open_classifier(project: Project, bundle: Path | None) -> Iterator[NamedClassifier]:
    """Open the recommended graph of a project, or of a bundle: a zip, or the folder it was unpacked to.

    Raises:
        DataError: no bundle is named, and the project has no contract, or its graphs are not of its checkpoint.
        DeviceError: the bundle's files are not those that it lists, or contract and graph do not fit together.
    """
    if bundle is None:
        if not project.contract_json.is_file():
            raise DataError(
                f"{project.contract_json}: no graph is exported; run `dvc repro`, or name a bundle with --bundle"
            )
        model = name_exported_model(project)
        yield NamedClassifier(Classifier(project.contract_json, project.onnx), model)
        return
    if bundle.is_dir():
        verify(bundle)
        yield _of_bundle(bundle, bundle)
        return
    with scratch_folder("bundle") as parent:
        folder = parent / "bundle"
        unpack(bundle, folder)
        yield _of_bundle(bundle, folder)


def _of_bundle(bundle: Path, folder: Path) -> NamedClassifier:
    return NamedClassifier(Classifier.load(folder), f"{bundle}, bundle {bundle_id(folder)}")


def predict(paths: Sequence[Path], classifier: Classifier, params: ExtractParams) -> list[Answer]:
    """Classify photos and clips.

    A clip's verdict follows the rule of the device (`runtime.verdict`). A file that cannot be read does not stop
    the others: its answer has an error instead of a verdict.

    Args:
        paths: photos, clips, or folders of them.
        classifier: the graph that answers.
        params: how densely clips are sampled, and the bounds of what is decoded.

    Returns:
        One answer per file, in the order of `paths`; the files of a folder are sorted.

    Raises:
        DataError: as `files_of`.
    """
    return list(each(partial(_answer, classifier, params), files_of(paths), "predict"))


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The files that paths name: themselves, and the photos and clips in the folders among them.

    Raises:
        DataError: a folder holds no photo and no clip.
    """
    return [file for path in paths for file in _files(path)]


def _files(path: Path) -> list[Path]:
    try:
        is_folder = path.is_dir()
    except OSError:  # what cannot be looked at is named when it is read
        is_folder = False
    if not is_folder:
        return [path]
    files = [file for file in recordings.walk(path) if recordings.has_media_suffix(file)]
    if not files:
        raise DataError(f"{path}: no photo and no clip in this folder; expected at least one")
    return files


def _answer(classifier: Classifier, params: ExtractParams, path: Path) -> Answer:
    try:
        if recordings.has_clip_suffix(path):
            return _answer_clip(classifier, params, path)
        return Answer(str(path), _classification(_classify_photo(classifier, path)))
    except (PipeError, DeviceError) as error:
        return Answer(str(path), None, error=str(error))


def _classify_photo(classifier: Classifier, path: Path) -> Prediction:
    pixels_hwc = read_photo_as_device(
        path, max_pixels=classifier.contract.max_pixels, sample_bits=classifier.contract.sample_bits
    )
    try:
        return classifier.classify(pixels_hwc)
    except DeviceError as error:
        raise DeviceError(f"{path}: {error}") from error


def _classification(prediction: Prediction) -> Classification:
    return Classification(prediction.label, prediction.probability, prediction.probabilities)


def _answer_clip(classifier: Classifier, params: ExtractParams, path: Path) -> Answer:
    decoded = run_in_child(
        "pipeline.tools.predict.predict:answers_of_clip",
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
    judged = [
        video.FrameAnswer(time_seconds, classifier.judge(np.array(logits, np.float32), score))
        for time_seconds, logits, score in decoded["frames"]
    ]
    clip = video.verdict(judged, classifier.thresholds)
    frames = tuple(FrameAnswer(frame.time_seconds, _classification(frame.prediction)) for frame in judged)
    verdict = Classification(clip.label, clip.probability, clip.probabilities)
    return Answer(str(path), verdict, frames, tuple(decoded["warnings"]))


def clip_bounds(params: ExtractParams) -> dict[str, Any]:
    """The fields of `demuxer.Bounds`, as arguments for a child process."""
    return {
        "max_pixels": round(params.max_megapixels * 1e6),
        "max_seconds": params.max_clip_seconds,
        "raw_frames_per_second": params.raw_frames_per_second,
    }


def answers_of_clip(path: str, graph: list[str], frames_per_second: float, bounds: dict[str, Any]) -> dict[str, Any]:
    """Decode a clip and classify its frames; run in a child process, since a decoder may crash.

    Args:
        path: the clip.
        graph: the classifier's contract, folder of graphs, and variant.
        frames_per_second: how many frames are taken of each second.
        bounds: the fields of `demuxer.Bounds`.

    Returns:
        `frames`: (time in seconds, logits, score) per frame; `warnings`: the damage of the clip.

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
    except ClipError as error:
        raise DataError(str(error)) from error
    except DeviceError as error:
        raise DataError(f"{path}: {error}") from error


def _decode(
    path: Path, classifier: Classifier, bounds: Bounds, frames_per_second: float, *, strict: bool
) -> dict[str, Any]:
    with open_clip(path, bounds, strict=strict) as clip:
        answers = (
            (frame.time_seconds, classifier.answers(frame.pixels_hwc[np.newaxis]))
            for frame in clip.frames(Wanted(frames_per_second))
        )
        frames = [(time, answer.logits[0].tolist(), float(answer.scores[0])) for time, answer in answers]
        return {"frames": frames, "warnings": clip.info().warnings}
