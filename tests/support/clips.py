"""Decoding a clip in a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtime.clips.clip import ClipInfo, Frame, open_clip
from runtime.clips.decode_plan import Wanted
from runtime.clips.demuxer import Bounds
from runtime.errors import ClipError

BOUNDS = Bounds(max_pixels=1_000_000, max_seconds=3600)


def decode_clip(
    path: Path, frames_per_second: float = 1000, *, bounds: Bounds = BOUNDS, strict: bool = True
) -> tuple[list[Frame], ClipInfo]:
    """The wanted frames of a clip, all of them unless `frames_per_second` says otherwise, and its properties."""
    with open_clip(path, bounds, strict=strict) as clip:
        return list(clip.frames(Wanted(frames_per_second))), clip.info()


def refusal_of_clip(path: Path, **how: Any) -> str:
    """The one line with which `decode_clip` refuses a clip, without the name of the file."""
    with pytest.raises(ClipError) as caught:
        decode_clip(path, **how)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")
