"""A sheet of the classified photos and clips, each titled with its label and probability."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.base.child_process import run_in_child
from pipeline.base.errors import DataError
from pipeline.base.parallel import each
from pipeline.draw.sheets import Cell, sheet, thumbnail, write_png
from pipeline.extract.params import ExtractParams
from pipeline.media.photos import read_photo_as_device
from pipeline.tools.predict.answers import Answer, FrameAnswer
from pipeline.tools.predict.predict import clip_bounds
from runtime.classifier import Classifier
from runtime.clips.clip import Frame, open_clip
from runtime.clips.decode_plan import Wanted
from runtime.clips.demuxer import Bounds, DamagedClipError
from runtime.errors import ClipError

SHOWN = 200  # pictures on a sheet, spread over all answers: no viewer opens a file of many more
_COLUMNS, _SIDE = 8, 200
_SLACK_SECONDS = 0.001  # without it, a time that was rounded up would select the next frame


def write_montage(answers: Sequence[Answer], path: Path, classifier: Classifier, params: ExtractParams) -> None:
    """Draw the files that were classified, each titled with label and probability. A clip is shown by one frame.

    Args:
        answers: of `predict`; those without a verdict are left out.
        path: the PNG file to write.
        classifier: its contract bounds the photos, as it did for the answers.
        params: bounds of what is decoded of a clip.

    Raises:
        DataError: nothing was classified, or a file cannot be read any more.
    """
    answered = [answer for answer in answers if answer.verdict]
    if not answered:
        raise DataError(f"{path}: nothing was classified; there is no picture to show")
    indices = np.unique(np.linspace(0, len(answered) - 1, SHOWN).round().astype(int))
    shown = [answered[index] for index in indices]
    cells = list(each(partial(_cell, classifier, params), shown, "montage"))
    heading = f"{len(shown)} of {len(answered)} files, in the order of the answers"
    write_png(sheet(cells, heading, columns=_COLUMNS, side=_SIDE), path)


def _cell(classifier: Classifier, params: ExtractParams, answer: Answer) -> Cell:
    if answer.verdict is None:
        raise ValueError(f"{answer.path}: has no verdict")
    small_hwc = _frame(answer, params) if answer.frames else thumbnail(_photo(answer, classifier), _SIDE)
    return Cell(small_hwc, f"{answer.verdict.probability:.0%} {answer.verdict.label_text}")


def _photo(answer: Answer, classifier: Classifier) -> NDArray[np.uint8]:
    contract = classifier.contract
    return read_photo_as_device(Path(answer.path), max_pixels=contract.max_pixels, sample_bits=contract.sample_bits)


def _frame(answer: Answer, params: ExtractParams) -> NDArray[np.uint8]:
    """The frame that speaks most for the clip's label; (height, width, 3) uint8 RGB."""
    encoded = run_in_child(
        "pipeline.tools.predict.montage:png_of_frame",
        {"path": answer.path, "time_seconds": _most_probable(answer).time_seconds, "bounds": clip_bounds(params)},
        subject=answer.path,
        timeout_seconds=params.decode_timeout_seconds,
    )
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(encoded), np.uint8), cv2.IMREAD_COLOR_RGB)
    return np.asarray(decoded, np.uint8)


def _most_probable(answer: Answer) -> FrameAnswer:
    label = answer.verdict.label if answer.verdict else None
    with_label = [frame for frame in answer.frames if frame.verdict.label == label]
    return max(with_label or answer.frames, key=lambda frame: frame.verdict.probability)


def png_of_frame(path: str, time_seconds: float, bounds: dict[str, Any]) -> str:
    """Decode one frame of a clip and make it small; run in a child process, since a decoder may crash.

    Args:
        path: the clip.
        time_seconds: presentation time of the frame, since the clip's first frame.
        bounds: the fields of `demuxer.Bounds`.

    Returns:
        A PNG file in base64.

    Raises:
        DataError: the clip cannot be decoded at this time.
    """
    decode = partial(_decode, Path(path), time_seconds, Bounds(**bounds))
    try:
        try:
            frame = decode(strict=True)
        except DamagedClipError:
            frame = decode(strict=False)
    except ClipError as error:
        raise DataError(str(error)) from error
    small_bgr = cv2.cvtColor(thumbnail(frame.pixels_hwc, _SIDE), cv2.COLOR_RGB2BGR)
    return base64.b64encode(cv2.imencode(".png", small_bgr)[1].tobytes()).decode()


def _decode(path: Path, time_seconds: float, bounds: Bounds, *, strict: bool) -> Frame:
    wanted = Wanted(1.0, start_seconds=max(0.0, time_seconds - _SLACK_SECONDS), max_frames=1)
    with open_clip(path, bounds, strict=strict) as clip:
        (frame,) = clip.frames(wanted)
    return frame
