"""Chapters: a camera that fills its files one after another, so that one recording lies in several clips."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from pipeline.split.sources import Run, Source

BY_NAME = "chapters of one recording by their names"
BY_TIME = "chapters of one recording: each begins where the one before ends"
# Of one chapter's end and the next one's beginning: clocks of containers count whole seconds. Nobody stops a camera
# and starts it again so quickly.
MOST_SECONDS_APART = 1.0

_GOPRO = re.compile(r"G([HXLSP])(?:\d\d)(\d{4})(?!\d)(.*)", re.IGNORECASE)  # GX010034, GX020034; GP010034
_GOPRO_FIRST = re.compile(r"GOPR(\d{4})(?!\d)(.*)", re.IGNORECASE)  # the first chapter of GP010034
_DJI = re.compile(r"(DJI_.+)_\d{3}", re.IGNORECASE)  # DJI_0026_001, DJI_0026_002


def chapters(clips: Sequence[Source]) -> Iterator[Run]:
    """Yield the recordings that lie in several clips; a clip may be in a run by name and in one by time."""
    yield from _by_name(clips)
    yield from _by_time(clips)


def recording_of(stem: str) -> str:
    """What the chapters of one recording share in their names, as GoPro and DJI number them; empty for other names."""
    if match := _GOPRO_FIRST.fullmatch(stem):
        return f"GP{match[1]}{match[2]}".upper()
    if match := _GOPRO.fullmatch(stem):
        return f"G{match[1]}{match[2]}{match[3]}".upper()
    match = _DJI.fullmatch(stem)
    return match[1].upper() if match else ""


def _by_name(clips: Iterable[Source]) -> Iterator[Run]:
    clips_of_recording: dict[tuple[str, ...], list[Source]] = defaultdict(list)
    for clip in clips:
        if recording := recording_of(clip.stem):
            clips_of_recording[clip.label, clip.folder, clip.camera, recording].append(clip)
    for (*_, recording), run in clips_of_recording.items():
        if len(run) > 1:
            yield Run(tuple(run), BY_NAME, recording)


def _by_time(clips: Iterable[Source]) -> Iterator[Run]:
    """Yield pairs of clips of one camera of which the second begins where the first ends."""
    of_camera: dict[tuple[str, str, bool], list[Source]] = defaultdict(list)
    for clip in clips:
        camera = clip.camera or _camera_by_name(clip)
        if camera and clip.recorded_at is not None:
            of_camera[clip.label, camera, clip.recorded_at.tzinfo is not None].append(clip)
    for (_, camera, _), run in of_camera.items():
        ordered = sorted(run, key=lambda clip: (clip.recorded_at, clip.name))
        for first, second in pairwise(ordered):
            if _continues(first, second):
                yield Run((first, second), BY_TIME, camera)


def _camera_by_name(clip: Source) -> str:
    """What stands for the camera of a clip whose name holds its time, as a dash cam's does: the name without digits."""
    time = f"{clip.recorded_at:%Y%m%d%H%M%S}" if clip.recorded_at else ""
    shape = re.sub(r"\d+", "#", clip.stem)
    return f"{clip.folder}/{shape}" if time and time in re.sub(r"\D", "", clip.stem) else ""


def _continues(first: Source, second: Source) -> bool:
    if first.recorded_at is None or second.recorded_at is None or first.last_seconds is None:
        return False
    apart = (second.recorded_at - first.recorded_at).total_seconds()
    # The first clip ends after its last extracted frame, and before another one would have been extracted.
    shortest, longest = first.last_seconds - MOST_SECONDS_APART, first.last_seconds + first.step_seconds
    return apart > 0 and shortest <= apart <= longest + MOST_SECONDS_APART
