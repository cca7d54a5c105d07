"""A sheet of random views of one frame, as `train.online` draws them for training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.base.errors import ParamsError
from pipeline.base.files import sha256_of
from pipeline.base.words import counted
from pipeline.draw.sheets import Cell, check_png, sheet, write_png
from pipeline.extract.params import ExtractParams
from pipeline.network.params import ImageParams
from pipeline.network.preprocess import Preprocess
from pipeline.tools.preview import COLUMNS, SIDE, PreviewReport, read_bounded
from pipeline.train.inputs.frame_cache import KeptBox
from pipeline.train.inputs.random_views import random_views, view_generator
from pipeline.train.inputs.whole_frames import KeptWhole
from pipeline.train.params import RandomResizedCropView, TrainParams

N_VIEWS = 7  # with the frame itself two rows


def preview_views(
    frame: Path, out: Path, params: TrainParams, image: ImageParams, bounds: ExtractParams
) -> PreviewReport:
    """Draw the frame and some random views of it into a PNG file, by the transforms of `train.online` and its seed.

    A frame of the project gets the numbers that training draws for it in the first epochs.

    Args:
        frame: a picture.
        out: the PNG file to write.
        params: the transforms, and the seed.
        image: the part of the picture that the network sees, and its size.
        bounds: how large the picture may be.

    Raises:
        ParamsError: no transform is random.
        DataError: the frame cannot be read, or `out` does not end in .png.
    """
    check_png(out)
    if not params.online:
        raise ParamsError(
            "train.online: found no transform; expected at least one to draw views; docs/train.md has all"
        )
    frame_hwc = read_bounded(frame, bounds)
    number = int(sha256_of(frame), 16)
    views_nchw = random_views(
        _before_views(frame_hwc, params, image).expand(N_VIEWS, -1, -1, -1),
        params.online,
        [view_generator(params.seed, view, number) for view in range(N_VIEWS)],
        image.size,
    )
    views_nhwc = views_nchw.permute(0, 2, 3, 1).numpy()
    cells = [Cell(frame_hwc, "frame"), *(Cell(view_hwc, f"view {n}") for n, view_hwc in enumerate(views_nhwc, start=1))]
    transforms = ", ".join(view.name for view in params.online)
    write_png(sheet(cells, f"{transforms}; seed {params.seed}", columns=COLUMNS, side=SIDE), out)
    return PreviewReport(counted(N_VIEWS, "random view"), out)


def _before_views(frame_hwc: NDArray[np.uint8], params: TrainParams, image: ImageParams) -> Tensor:
    """Return the picture that views are drawn from, (3, height, width) uint8, as training keeps it."""
    no_change = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    preprocess = Preprocess(image.size, image.crop, image.center_fraction, *no_change)
    crop = next((view for view in params.online if isinstance(view, RandomResizedCropView)), None)
    kept = KeptBox(preprocess, image.size, np.dtype("u1")) if crop is None else KeptWhole(preprocess, crop)
    return torch.from_numpy(kept.picture_hwc(frame_hwc).copy()).permute(2, 0, 1)
