"""Answered photos and clips on one sheet, each under what it was taken for."""

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
from pipeline.media.clip import Frame, open_clip
from pipeline.media.decode_plan import Wanted
from pipeline.media.demuxer import Bounds, DamagedClipError
from pipeline.tools.predict.answers import Answer, FrameAnswer
from pipeline.tools.predict.predict import clip_bounds
from runtime.classifier import Classifier

SHOWN = 200  # pictures of a sheet, spread over all of them: more would be a file that nothing opens
_COLUMNS, _SIDE = 8, 200
_SLACK_SECONDS = 0.001  # a time that was rounded up would ask for the frame after it


def write_montage(answers: Sequence[Answer], path: Path, classifier: Classifier, params: ExtractParams) -> None:
    """Draw the pictures that were classified, titled with label and probability; of a clip, a frame of its verdict.

    Raises:
        DataError: nothing was classified, or a file has changed since.
    """
    answered = [answer for answer in answers if answer.verdict]
    if not answered:
        raise DataError(f"{path}: nothing was classified; there is no picture to show")
    places = np.unique(np.linspace(0, len(answered) - 1, SHOWN).round().astype(int))
    shown = [answered[place] for place in places]
    cells = list(each(partial(_cell, classifier, params), shown, "montage"))
    heading = f"{len(shown)} of {len(answered)} files, in the order of the answers"
    write_png(sheet(cells, heading, columns=_COLUMNS, side=_SIDE), path)


def _cell(classifier: Classifier, params: ExtractParams, answer: Answer) -> Cell:
    if answer.verdict is None:
        raise ValueError(f"{answer.path}: has no verdict")
    small_hwc = _frame(answer, params) if answer.frames else thumbnail(classifier.read(answer.path), _SIDE)
    return Cell(small_hwc, f"{answer.verdict.probability:.0%} {answer.verdict.said}")


def _frame(answer: Answer, params: ExtractParams) -> NDArray[np.uint8]:
    """The frame that shows best what the clip was taken for; (height, width, 3) uint8."""
    encoded = run_in_child(
        "pipeline.tools.predict.montage:png_of_frame",
        {"path": answer.path, "time_seconds": _best(answer).time_seconds, "bounds": clip_bounds(params)},
        subject=answer.path,
        timeout_seconds=params.decode_timeout_seconds,
    )
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(encoded), np.uint8), cv2.IMREAD_COLOR_RGB)
    return np.asarray(decoded, np.uint8)


def _best(answer: Answer) -> FrameAnswer:
    label = answer.verdict.label if answer.verdict else None
    of_verdict = [frame for frame in answer.frames if frame.verdict.label == label]
    return max(of_verdict or answer.frames, key=lambda frame: frame.verdict.probability)


def png_of_frame(path: str, time_seconds: float, bounds: dict[str, Any]) -> str:
    """The child's side: the frame of a clip at a time, made small, as a PNG file in base64.

    Raises:
        DataError: the clip cannot be decoded there.
    """
    decode = partial(_decode, Path(path), time_seconds, Bounds(**bounds))
    try:
        frame = decode(strict=True)
    except DamagedClipError:
        frame = decode(strict=False)
    small_bgr = cv2.cvtColor(thumbnail(frame.pixels_hwc, _SIDE), cv2.COLOR_RGB2BGR)
    return base64.b64encode(cv2.imencode(".png", small_bgr)[1].tobytes()).decode()


def _decode(path: Path, time_seconds: float, bounds: Bounds, *, strict: bool) -> Frame:
    wanted = Wanted(1.0, start_seconds=max(0.0, time_seconds - _SLACK_SECONDS), max_frames=1)
    with open_clip(path, bounds, strict=strict) as clip:
        (frame,) = clip.frames(wanted)
    return frame
