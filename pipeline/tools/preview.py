"""A sheet of the copies that `pipe augment` would make of one frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.augment.params import AugmentParams
from pipeline.augment.transforms import generator_for, make_copy
from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.base.words import counted
from pipeline.draw.sheets import Cell, check_png, sheet, write_png
from pipeline.extract.params import ExtractParams
from runtime.errors import ImageError, TooManyPixelsError
from runtime.images import read_image

COLUMNS = 4
SIDE = 320  # pixels of a picture on the sheet


@dataclass(frozen=True)
class PreviewReport:
    """What a preview drew."""

    drawn: str  # such as "4 copies"
    out: Path

    @property
    def headline(self) -> str:
        """The closing line: how many copies or views, and where they can be seen."""
        return f"the frame and {self.drawn} of it in {self.out}"


def preview(frame: Path, out: Path, params: AugmentParams, bounds: ExtractParams, project: Project) -> PreviewReport:
    """Draw the frame and each of its copies into a PNG file, titled with position and transform.

    The copies of a project's frame are those that the stage makes: both draw the same random numbers.

    Args:
        frame: a picture, in the project or elsewhere.
        out: the PNG file to write.
        params: the copies to make, and the seed.
        bounds: how large the picture may be.
        project: a frame is drawn by its path relative to this project.

    Raises:
        DataError: the frame cannot be read, or `out` does not end in .png.
    """
    check_png(out)
    frame_hwc = read_bounded(frame, bounds)
    parent = _path_in_manifest(frame, project)
    cells = [Cell(frame_hwc, "frame")]
    for position, copy in enumerate(params.copies):
        copy_hwc = make_copy(copy, _swap_red_and_blue(frame_hwc), generator_for(params.seed, parent, position))
        cells.append(Cell(_swap_red_and_blue(copy_hwc), f"{position} {copy.name}"))
    write_png(sheet(cells, f"{parent}, seed {params.seed}", columns=COLUMNS, side=SIDE), out)
    return PreviewReport(counted(len(params.copies), "copy", "copies"), out)


def read_bounded(frame: Path, bounds: ExtractParams) -> NDArray[np.uint8]:
    """Read a picture, (height, width, 3) RGB.

    Raises:
        DataError: it cannot be read, or has more pixels than the bounds allow.
    """
    try:
        return read_image(frame, max_pixels=round(bounds.max_megapixels * 1e6))
    except ImageError as error:
        hint = "; raise extract.max_megapixels" if isinstance(error, TooManyPixelsError) else ""
        raise DataError(f"{error}{hint}") from error


def _swap_red_and_blue(pixels_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert RGB to the BGR of `transforms`, or back."""
    return np.asarray(cv2.cvtColor(pixels_hwc, cv2.COLOR_RGB2BGR), np.uint8)


def _path_in_manifest(frame: Path, project: Project) -> str:
    """The path of the frame itself, not of a link's target: DVC can make a frame a link into its cache."""
    absolute, root = frame.parent.resolve() / frame.name, project.root.resolve()
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else frame.as_posix()
