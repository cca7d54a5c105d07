"""Fingerprints of clips: small pictures and the sound at a fixed clock, by which a copy of a clip is recognised.

`extract` writes them below `data/fingerprints/`, and `split` reads them. Both are arrays sorted by time:

- `<name of the clip>.npy`, (n, 4 + 256) uint8. A line holds a time in milliseconds as four bytes, the lowest first,
  and 16 x 16 pixels of luma.
- `<name of the clip>.sound.npy`, where there is sound: (n,) of two fields, `milliseconds` and `bits_1`. The number is
  the version of the bits. A change of what they mean gives the field another name, since only equal kinds compare.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import DataError
from pipeline.base.project import Project, safe_join

SIDE = 16  # pixels of a small picture, whatever the shape of the clip
PICTURES, SOUND = ".npy", ".sound.npy"  # what the names of the two files end with
RATE = 10  # small pictures a second, at most
_TIME_BYTES = 4
_SOUND_LINE = np.dtype([("milliseconds", "<u4"), ("bits_1", "<u4")])


@dataclass(frozen=True)
class Fingerprint:
    """The small pictures of one clip."""

    milliseconds: NDArray[np.int64]  # (n,) presentation times since the clip's first frame, ascending
    pictures: NDArray[np.uint8]  # (n, 16, 16) luma, upright, squashed into a square

    def to_bytes(self) -> bytes:
        """The content of the file; the same fingerprint gives the same bytes."""
        times = self.milliseconds.astype("<u4").view(np.uint8).reshape(-1, _TIME_BYTES)
        content = io.BytesIO()
        np.save(content, np.hstack([times, self.pictures.reshape(-1, SIDE * SIDE)]), allow_pickle=False)
        return content.getvalue()


@dataclass(frozen=True)
class SoundFingerprint:
    """The sound of one clip, at the times at which it changes."""

    milliseconds: NDArray[np.int64]  # (n,) since the clip's first frame, ascending; silence has no times
    bits: NDArray[np.uint32]  # (n,) which of 32 pairs of neighbouring bands change their balance upwards

    def to_bytes(self) -> bytes:
        """The content of the file; the same fingerprint gives the same bytes."""
        lines = np.empty(len(self.bits), _SOUND_LINE)
        lines["milliseconds"], lines["bits_1"] = self.milliseconds, self.bits
        content = io.BytesIO()
        np.save(content, lines, allow_pickle=False)
        return content.getvalue()


def fingerprint_path(source: str, project: Project, suffix: str = PICTURES) -> Path:
    """Where the fingerprint of a clip lies; `source` is the clip as manifests name it.

    Args:
        source: the clip.
        project: whose clip it is.
        suffix: `PICTURES` or `SOUND`.

    Raises:
        DataError: the source leaves the project.
    """
    raw = PurePosixPath(project.relative(project.raw))
    name = PurePosixPath(source)
    below = name.relative_to(raw) if name.is_relative_to(raw) else name
    return safe_join(project.fingerprints, f"{below}{suffix}")


def read_fingerprint(path: Path) -> Fingerprint | None:
    """Read the fingerprint of a clip; None where there is none.

    Raises:
        DataError: the file is not one that `to_bytes` gave.
    """
    lines = _load(path)
    if lines is None:
        return None
    if lines.dtype != np.uint8 or lines.shape[1:] != (_TIME_BYTES + SIDE * SIDE,):
        raise DataError(f"{path}: not a fingerprint; expected {_TIME_BYTES + SIDE * SIDE} bytes for each picture")
    times = np.ascontiguousarray(lines[:, :_TIME_BYTES]).view("<u4")[:, 0].astype(np.int64)
    _check_ascending(times, path)
    return Fingerprint(times, lines[:, _TIME_BYTES:].reshape(-1, SIDE, SIDE))


def read_sound(path: Path) -> SoundFingerprint | None:
    """Read the fingerprint of a clip's sound; None where there is none, as in folders that an earlier version wrote.

    Raises:
        DataError: the file is not one that `to_bytes` gave.
    """
    lines = _load(path)
    if lines is None:
        return None
    if lines.dtype != _SOUND_LINE or lines.ndim != 1:
        expected = " and ".join(_SOUND_LINE.names or ())
        raise DataError(f"{path}: not a fingerprint of sound; expected {expected}, run `pipe extract` again")
    times = lines["milliseconds"].astype(np.int64)
    _check_ascending(times, path)
    return SoundFingerprint(times, lines["bits_1"].astype(np.uint32))


def _load(path: Path) -> NDArray[Any] | None:
    try:
        lines = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a fingerprint ({error}); run `pipe extract` again") from error
    if not isinstance(lines, np.ndarray):
        raise DataError(f"{path}: not a fingerprint; expected one array, run `pipe extract` again")
    return lines


def _check_ascending(times: NDArray[np.int64], path: Path) -> None:
    if (np.diff(times) <= 0).any():
        raise DataError(f"{path}: not a fingerprint; expected ascending times, run `pipe extract` again")
