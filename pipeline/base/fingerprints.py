"""Fingerprints of clips: small pictures at a fixed clock, by which a copy of a clip is recognised.

`extract` writes `data/fingerprints/<name of the clip>.npy`, and `split` reads it: an array of (n, 4 + 256) uint8,
sorted by time. A line holds a time in milliseconds as four bytes, the lowest first, and 16 x 16 pixels of luma.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import DataError
from pipeline.base.project import Project, safe_join

SIDE = 16  # pixels of a small picture, whatever the shape of the clip
RATE = 10  # small pictures a second, at most
_TIME_BYTES = 4


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


def fingerprint_path(source: str, project: Project) -> Path:
    """Where the fingerprint of a clip lies; `source` is the clip as manifests name it.

    Raises:
        DataError: the source leaves the project.
    """
    raw = PurePosixPath(project.relative(project.raw))
    name = PurePosixPath(source)
    below = name.relative_to(raw) if name.is_relative_to(raw) else name
    return safe_join(project.fingerprints, f"{below}.npy")


def read_fingerprint(path: Path) -> Fingerprint | None:
    """Read the fingerprint of a clip; None where there is none.

    Raises:
        DataError: the file is not one that `to_bytes` gave.
    """
    try:
        lines = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a fingerprint ({error}); run `pipe extract` again") from error
    if not isinstance(lines, np.ndarray) or lines.dtype != np.uint8 or lines.shape[1:] != (_TIME_BYTES + SIDE * SIDE,):
        raise DataError(f"{path}: not a fingerprint; expected {_TIME_BYTES + SIDE * SIDE} bytes for each picture")
    times = np.ascontiguousarray(lines[:, :_TIME_BYTES]).view("<u4")[:, 0].astype(np.int64)
    if (np.diff(times) <= 0).any():
        raise DataError(f"{path}: not a fingerprint; expected ascending times, run `pipe extract` again")
    return Fingerprint(times, lines[:, _TIME_BYTES:].reshape(-1, SIDE, SIDE))
