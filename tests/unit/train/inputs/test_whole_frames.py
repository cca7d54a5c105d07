from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.files import sha256_of
from pipeline.base.frames import read_frame
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.network.preprocess import Preprocess
from pipeline.train.inputs import frame_cache as module
from pipeline.train.inputs.frame_cache import FrameCache, KeptBox, open_frame_cache
from pipeline.train.inputs.random_views import draw_box, random_resized_crop, view_generator
from pipeline.train.inputs.whole_frames import KeptWhole
from pipeline.train.params import RandomResizedCropView
from tests.support.small_project import small_project

CENTER = Preprocess(32, "center", 1.0, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
SQUASH = dataclasses.replace(CENTER, crop="squash")
CROP = RandomResizedCropView(name="random_resized_crop", area=(0.25, 1.0), aspect=(3 / 4, 4 / 3))


@pytest.fixture
def small(tmp_path: Path) -> Project:
    return small_project(tmp_path / "project")


def _rows(project: Project) -> list[Row]:
    return manifest.read_split(project.split_csv)


def _with_photo(project: Project, pixels_hwc: NDArray[np.uint8]) -> Row:
    """Replace the first frame by a picture, and return its row."""
    row = _rows(project)[0]
    path = project.root / row.path
    Image.fromarray(pixels_hwc).save(path, format="PNG")
    height, width = pixels_hwc.shape[:2]
    return dataclasses.replace(row, height=height, width=width, sha256=sha256_of(path))


def open_whole_frames(
    project: Project, rows: list[Row], preprocess: Preprocess, crop: RandomResizedCropView
) -> FrameCache:
    return open_frame_cache(project, rows, KeptWhole(preprocess, crop))


def kept_shape(height: int, width: int, preprocess: Preprocess, crop: RandomResizedCropView) -> tuple[int, int]:
    return KeptWhole(preprocess, crop).size(height, width)


def test_small_frames_are_kept_as_they_are(small: Project) -> None:
    rows = _rows(small)[:5]
    kept = open_whole_frames(small, rows, CENTER, CROP)
    assert [kept[position].shape for position in range(5)] == [(40, 56, 3)] * 5
    for position, row in enumerate(rows):
        assert np.array_equal(kept[position], read_frame(small, row))


def test_frames_of_several_sizes_lie_beside_each_other(small: Project) -> None:
    generator = np.random.default_rng(0)
    large = _with_photo(small, generator.integers(0, 256, (300, 500, 3), dtype=np.uint8))
    rows = [_rows(small)[1], large, _rows(small)[2]]
    kept = open_whole_frames(small, rows, CENTER, CROP)
    height, width = kept_shape(300, 500, CENTER, CROP)
    assert [kept[position].shape for position in range(3)] == [(40, 56, 3), (height, width, 3), (40, 56, 3)]
    assert np.array_equal(kept[2], read_frame(small, rows[2]))
    original_nchw = torch.from_numpy(read_frame(small, large)).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(original_nchw, (height, width), mode="bilinear", antialias=True)
    assert np.array_equal(kept[1], expected[0].permute(1, 2, 0).round().byte().numpy())


@pytest.mark.parametrize(("height", "width"), [(1080, 1920), (3000, 4000), (700, 701)])
@pytest.mark.parametrize("preprocess", [CENTER, SQUASH])
def test_the_smallest_box_has_the_pixels_of_a_view_and_no_more(height: int, width: int, preprocess: Preprocess) -> None:
    kept_height, kept_width = kept_shape(height, width, preprocess, CROP)
    for aspect in CROP.aspect:
        view = RandomResizedCropView(name="random_resized_crop", area=(0.25, 0.25), aspect=(aspect, aspect))
        _, _, box_height, box_width = draw_box(kept_height, kept_width, view, np.random.default_rng(0))
        assert 32 <= min(box_height, box_width) <= 33
    expected = 1.0 if preprocess.crop == "squash" else width / height
    assert kept_width / kept_height == pytest.approx(expected, rel=0.02)


def test_a_crop_of_one_size_keeps_the_pixels_of_the_papers() -> None:
    """224 of 256 pixels: study 000's other reading of a random crop."""
    of_256 = RandomResizedCropView(name="random_resized_crop", area=(0.765625, 0.765625), aspect=(1.0, 1.0))
    assert kept_shape(1080, 1920, dataclasses.replace(SQUASH, size=224), of_256) == (256, 256)
    assert kept_shape(100, 120, dataclasses.replace(SQUASH, size=224), of_256) == (120, 120)  # nothing is enlarged


def _sharpness(picture_hwc: NDArray[np.uint8]) -> float:
    """The variance of the second difference, of the mean of the colours."""
    grey_hw = picture_hwc.astype(np.float64).mean(axis=2)
    return float(np.diff(grey_hw, 2, axis=0).var() + np.diff(grey_hw, 2, axis=1).var())


def test_views_are_nearly_as_sharp_as_the_same_boxes_cut_from_the_frame(small: Project) -> None:
    noise_hwc = np.random.default_rng(0).integers(0, 256, (50, 75, 3), dtype=np.uint8)
    photo_hwc = noise_hwc.repeat(8, axis=0).repeat(8, axis=1)
    row = _with_photo(small, photo_hwc)
    whole_hwc = open_whole_frames(small, [row], SQUASH, CROP)[0]
    boxes_hwc = open_frame_cache(small, [row], KeptBox(SQUASH, 37, np.dtype("u1")))[0]  # 32 x 8 / 7 pixels of the box

    def sharpness_of_views(picture_hwc: NDArray[np.uint8]) -> float:
        picture_chw = torch.from_numpy(np.array(picture_hwc)).permute(2, 0, 1)
        views = (random_resized_crop(picture_chw, CROP, view_generator(0, 0, index), 32) for index in range(40))
        return float(np.mean([_sharpness(view_chw.permute(1, 2, 0).numpy()) for view_chw in views]))

    from_frame = sharpness_of_views(photo_hwc)
    assert sharpness_of_views(whole_hwc) > 0.4 * from_frame  # half; photos keep more
    assert sharpness_of_views(boxes_hwc) < 0.25 * from_frame  # so that blurred views are noticed


def test_the_key_depends_on_the_sizes_that_are_kept_and_on_nothing_else() -> None:
    key = KeptWhole(CENTER, CROP).key
    other_numbers = dataclasses.replace(CENTER, mean=(0.0, 0.0, 0.0), center_fraction=0.5)
    assert KeptWhole(other_numbers, CROP.model_copy(update={"area": (0.25, 0.5)})).key == key
    others = {
        KeptWhole(SQUASH, CROP).key,
        KeptWhole(dataclasses.replace(CENTER, size=37), CROP).key,
        KeptWhole(CENTER, CROP.model_copy(update={"area": (0.1, 1.0)})).key,
        KeptWhole(CENTER, CROP.model_copy(update={"aspect": (0.5, 1.0)})).key,
        KeptBox(CENTER, 32, np.dtype("u1")).key,
    }
    assert len(others | {key}) == 6


def test_frames_are_decoded_once_and_a_broken_one_keeps_nothing(
    small: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = _rows(small)
    content = (small.root / rows[3].path).read_bytes()
    (small.root / rows[3].path).write_bytes(b"no picture")
    with pytest.raises(DataError, match=Path(rows[3].path).name):
        open_whole_frames(small, rows, CENTER, CROP).decode()
    assert [path.name for path in (small.cache / "frames").rglob("*") if path.is_file()] == ["lock"]
    (small.root / rows[3].path).write_bytes(content)
    open_whole_frames(small, rows[1:], CENTER, CROP).decode()
    monkeypatch.setattr(module, "read_frame", lambda *_: pytest.fail("decoded again"))
    assert open_whole_frames(small, rows[:0:-1], CENTER, CROP)[0].shape == (40, 56, 3)
    with pytest.raises(pytest.fail.Exception, match="decoded again"):  # so decoding is noticed
        open_whole_frames(small, rows, CENTER, CROP).decode()
