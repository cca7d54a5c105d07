"""Augmented copies of the frames, in `data/augmented`. Each frame is decoded once for all its copies."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.augment.params import AugmentParams
from pipeline.augment.transforms import generator_for, make_copy
from pipeline.base import manifest
from pipeline.base.engine import each_anywhere
from pipeline.base.errors import DataError
from pipeline.base.files import exclusive_lock, replacing_folder
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
        with replacing_folder(project.augmented) as folder:
            rows_by_frame = each_anywhere(partial(_copy_frame, params, project, folder), parents, "augment")
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


def _copy_frame(params: AugmentParams, project: Project, folder: Path, frame: Row) -> list[Row]:
    """Decode one frame and write all its copies below `folder`; the rows name their paths below data/augmented."""
    pixels_hwc = _read_frame(frame, project)
    rows = []
    for position, copy in enumerate(params.copies):
        copy_hwc = make_copy(copy, pixels_hwc, generator_for(params.seed, frame.path, position))
        name = f"{_stem(frame, project)}.{position}_{copy.name}.jpg"
        sha256 = _write_jpeg(copy_hwc, safe_join(folder, name), params.jpeg_quality)
        path = f"{project.relative(project.augmented)}/{name}"
        rows.append(replace(_copy_row(frame, path, copy.name, copy_hwc), sha256=sha256))
    return rows


def _read_frame(frame: Row, project: Project) -> NDArray[np.uint8]:
    if max(frame.width, frame.height) > _JPEG_MAX_SIDE:
        raise DataError(
            f"{frame.path}: {frame.width} x {frame.height} pixels; copies are JPEG files of at most {_JPEG_MAX_SIDE} "
            "pixels a side"
        )
    return read_frame_bgr(project, frame)


def _write_jpeg(pixels_hwc: NDArray[np.uint8], path: Path, quality: int) -> str:
    """Write pixels (height, width, 3) as a JPEG file; return the sha256 of its bytes."""
    _, data = cv2.imencode(".jpg", pixels_hwc, [cv2.IMWRITE_JPEG_QUALITY, quality])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.data)
    return hashlib.sha256(data.data).hexdigest()


def _copy_row(frame: Row, path: str, transform: str, copy_hwc: NDArray[np.uint8]) -> Row:
    height, width = copy_hwc.shape[:2]
    return replace(
        frame,
        path=path,
        parent=frame.path,
        transform=transform,
        width=width,
        height=height,
        sharpness=None,
        brightness=None,
        phash="",
    )
