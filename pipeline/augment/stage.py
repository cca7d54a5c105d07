"""Augmented copies of the frames, in `data/augmented`. Each frame is decoded once for all its copies.

Copies are cached (`copy_cache`): a new frame costs its own copies alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.augment.copy_cache import CopyCache, MadeCopy, open_copy_cache
from pipeline.augment.params import AugmentParams
from pipeline.augment.transforms import generator_for, make_copy
from pipeline.base import manifest
from pipeline.base.engine import each_anywhere
from pipeline.base.errors import DataError
from pipeline.base.files import exclusive_lock, link_or_copy, remove, replacing_folder
from pipeline.base.frames import read_frame_bgr
from pipeline.base.manifest import Row
from pipeline.base.project import Project, safe_join
from pipeline.base.words import counted

_JPEG_MAX_SIDE = 65500  # pixels; libjpeg's limit


@dataclass(frozen=True)
class AugmentReport:
    """What `augment` wrote."""

    n_frames: int  # parents
    n_copies: int
    folder: str  # relative to the project

    @property
    def headline(self) -> str:
        """The closing line: how many copies, and where they are."""
        return f"{counted(self.n_copies, 'copy', 'copies')} of {counted(self.n_frames, 'frame')} in {self.folder}"


def augment(params: AugmentParams, project: Project) -> AugmentReport:
    """Make one copy of every kept frame per entry of `params.copies`.

    Reads the frame manifest and the frames; writes `data/augmented/<frame>.<position>_<transform>.jpg` and
    `data/augmented.csv`. Without entries the folder and the manifest are empty.

    Raises:
        DataError: the manifest is missing, no frame was kept, a frame is missing, corrupt or of another size than the
            manifest says, or another `pipe augment` runs here. The earlier copies and manifest then stay.
    """
    frames = _kept_frames(project)
    parents = frames if params.copies else []
    with exclusive_lock(project, "pipe augment"):
        cache = open_copy_cache(project.cache / "copies")
        with replacing_folder(project.augmented) as folder:
            copying = _Copying(params, project, folder, cache)
            rows_by_frame = each_anywhere(partial(_copy_frame, copying), _with_cached(parents, copying), "augment")
            rows = [row for rows_of_frame in rows_by_frame for row in rows_of_frame]
            # The old manifest must not vouch for the new copies if this process dies before it has written its own.
            project.augmented_csv.unlink(missing_ok=True)
        manifest.write(rows, project.augmented_csv)
    return AugmentReport(len(frames), len(rows), project.relative(project.augmented))


def _kept_frames(project: Project) -> list[Row]:
    frames = [row for row in manifest.read(project.frames_csv) if row.kept]
    if not frames:
        raise DataError(f"{project.frames_csv}: screening kept no frame; expected at least one, see extract.screening")
    path_by_stem: dict[str, str] = {}
    for frame in frames:
        first = path_by_stem.setdefault(_stem(frame, project), frame.path)
        if first != frame.path:
            raise DataError(
                f"{project.frames_csv}: copies of {first} and {frame.path} would have the same names; "
                "rename one of their recordings and run `pipe extract` again"
            )
    return frames


def _stem(frame: Row, project: Project) -> str:
    """The common start of the names of a frame's copies, relative to data/augmented."""
    folder = project.relative(project.frames)
    if not frame.path.startswith(f"{folder}/"):
        raise DataError(f"{project.frames_csv}: {frame.path} is not in {folder}; run `pipe extract` again")
    return str(PurePosixPath(frame.path).relative_to(folder).with_suffix(""))


@dataclass(frozen=True)
class _Parent:
    """A frame, and for each copy of it the key and what the cache seems to hold."""

    frame: Row
    keys: Sequence[str]  # empty where the row has no digest; its copies are not cached
    cached: Sequence[str | None]  # file names in the cache


@dataclass(frozen=True)
class _Copying:
    """What copies are made by, and where they go."""

    params: AugmentParams
    project: Project
    folder: Path  # which becomes data/augmented
    cache: CopyCache

    def name(self, frame: Row, position: int) -> str:
        """The name of a copy below data/augmented."""
        return f"{_stem(frame, self.project)}.{position}_{self.params.copies[position].name}.jpg"

    def link(self, cached: MadeCopy | None, frame: Row, position: int) -> MadeCopy | None:
        """Put a cached copy into the folder; None where there is none, or it is not as it was written."""
        if cached is None or not cached.is_whole:
            return None
        file = _place(self.folder, self.name(frame, position))
        remove(file)  # of a worker that was lost, whose work is done again
        link_or_copy(cached.file, file)
        return cached

    def make(self, parent: _Parent, position: int, pixels_hwc: NDArray[np.uint8]) -> MadeCopy:
        """Write a copy of a decoded frame into the folder, and into the cache."""
        transform, frame = self.params.copies[position], parent.frame
        copy_hwc = make_copy(transform, pixels_hwc, generator_for(self.params.seed, frame.path, position))
        file = _place(self.folder, self.name(frame, position))
        sha256 = _write_jpeg(copy_hwc, file, self.params.jpeg_quality)
        copy = MadeCopy(file, sha256, width=copy_hwc.shape[1], height=copy_hwc.shape[0])
        if parent.keys:
            self.cache.store(parent.keys[position], copy)
        return copy


def _with_cached(frames: Sequence[Row], copying: _Copying) -> list[_Parent]:
    """Look up the copies of each frame."""
    cache, positions = copying.cache, range(len(copying.params.copies))
    keys = [
        [cache.key(frame, copying.params, position) for position in positions] if frame.sha256 else []
        for frame in frames
    ]
    names = cache.names_by_key(frozenset(chain.from_iterable(keys)))
    return [
        _Parent(frame, of_frame, [names.get(key) for key in of_frame] or [None] * len(positions))
        for frame, of_frame in zip(frames, keys, strict=True)
    ]


def _copy_frame(copying: _Copying, parent: _Parent) -> list[Row]:
    """Make or link all copies of one frame, which is decoded at most once; returns their rows."""
    frame = parent.frame
    cached = map(copying.cache.copy_named, parent.cached)
    copies = [copying.link(copy, frame, position) for position, copy in enumerate(cached)]
    if not all(copies):
        pixels_hwc = _read_frame(frame, copying.project)
        copies = [copy or copying.make(parent, position, pixels_hwc) for position, copy in enumerate(copies)]
    augmented = copying.project.relative(copying.project.augmented)
    return [
        _copy_row(frame, f"{augmented}/{copying.name(frame, position)}", copying.params.copies[position].name, copy)
        for position, copy in enumerate(copies)
        if copy
    ]


def _read_frame(frame: Row, project: Project) -> NDArray[np.uint8]:
    if max(frame.width, frame.height) > _JPEG_MAX_SIDE:
        raise DataError(
            f"{frame.path}: {frame.width} x {frame.height} pixels; copies are JPEG files of at most {_JPEG_MAX_SIDE} "
            "pixels a side"
        )
    return read_frame_bgr(project, frame)


def _place(folder: Path, name: str) -> Path:
    """The path of a new file below a folder, whose own folders are made."""
    path = safe_join(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _write_jpeg(pixels_hwc: NDArray[np.uint8], path: Path, quality: int) -> str:
    """Write pixels (height, width, 3) as a JPEG file; return the sha256 of its bytes."""
    _, data = cv2.imencode(".jpg", pixels_hwc, [cv2.IMWRITE_JPEG_QUALITY, quality])
    path.write_bytes(data.data)
    return hashlib.sha256(data.data).hexdigest()


def _copy_row(frame: Row, path: str, transform: str, copy: MadeCopy) -> Row:
    return replace(
        frame,
        path=path,
        parent=frame.path,
        transform=transform,
        width=copy.width,
        height=copy.height,
        sha256=copy.sha256,
        sharpness=None,
        brightness=None,
        phash="",
    )
