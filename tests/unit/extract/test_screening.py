from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.base.errors import DataError
from pipeline.base.files import sha256_of
from pipeline.base.section import read_section
from pipeline.extract import quality
from pipeline.extract.child import Picture
from pipeline.extract.params import ExtractParams, ScreeningParams
from pipeline.extract.screening import check_no_class_is_empty, count_by_kind, difference_between, measures, screen
from tests.support.command import ROOT

DEFAULTS = read_section(ROOT / "params.yaml", "extract", ExtractParams).screening
WIDTH, HEIGHT = 320, 240


@functools.cache
def panorama() -> NDArray[np.uint8]:
    """Grains of many sizes: (240, 1280, 3) RGB."""
    chance = np.random.default_rng(0)
    fine = chance.integers(60, 200, (HEIGHT, 4 * WIDTH, 3), np.uint8)
    coarse = cv2.resize(chance.integers(0, 256, (24, 128, 3), np.uint8), (4 * WIDTH, HEIGHT))
    return np.asarray(fine // 2 + coarse // 2, np.uint8)


def scene(number: int) -> NDArray[np.uint8]:
    """A good frame: (240, 320, 3) RGB; the camera pans 8 pixels from one to the next."""
    return panorama()[:, 8 * number : 8 * number + WIDTH].copy()


def noisy(pixels_hwc: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """The same as a camera that stands still sees it again."""
    noise = np.random.default_rng(seed).normal(0, 4, pixels_hwc.shape)
    return (pixels_hwc + noise).clip(0, 255).astype(np.uint8)


def blurred(pixels_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.GaussianBlur(pixels_hwc, (0, 0), 3), np.uint8)


def written(frames: list[NDArray[np.uint8]], folder: Path) -> list[Picture]:
    """The frames as JPEG files, with their measures."""
    pictures: list[Picture] = []
    for number, pixels_hwc in enumerate(frames):
        name = f"{number:06d}.jpg"
        assert cv2.imwrite(str(folder / name), cv2.cvtColor(pixels_hwc, cv2.COLOR_RGB2BGR))
        luma_hw = quality.luma(pixels_hwc)
        pictures.append(
            Picture(
                path=name,
                time_seconds=float(number),
                width=pixels_hwc.shape[1],
                height=pixels_hwc.shape[0],
                sharpness=quality.sharpness(luma_hw),
                brightness=quality.brightness(luma_hw),
                phash=quality.phash(luma_hw),
                sha256=sha256_of(folder / name),
            )
        )
    return pictures


def reasons(frames: list[NDArray[np.uint8]], folder: Path, **changes: Any) -> list[str]:
    params = ScreeningParams.model_validate(DEFAULTS.model_dump() | changes)
    return screen(written(frames, folder), folder, params)


def test_good_frames_are_kept(tmp_path: Path) -> None:
    assert reasons([scene(number) for number in range(12)], tmp_path) == [""] * 12


@pytest.mark.parametrize(
    ("plant", "kind", "switch"),
    [
        (blurred, "blurred", {"min_sharpness": 0.0}),
        (lambda frame: frame // 40, "dark", {"min_brightness": 0}),
        (lambda frame: 253 + frame // 100, "bright", {"max_brightness": 255}),
        (lambda frame: scene(2), "repeated", {"repeat_difference": 0.0}),
        (lambda frame: noisy(scene(2), 1), "repeated", {"repeat_difference": 0.0}),
        (lambda frame: np.ascontiguousarray(frame[:31]), "small", {"min_side": 1}),
    ],
    ids=["blurred", "dark", "bright", "repeated", "repeated with noise", "small"],
)
def test_a_planted_frame_is_marked_and_no_other(
    plant: Callable[[NDArray[np.uint8]], NDArray[np.uint8]], kind: str, switch: dict[str, float], tmp_path: Path
) -> None:
    frames = [scene(number) for number in range(8)]
    frames[5] = plant(frames[5])
    drop_reasons = reasons(frames, tmp_path)
    assert [number for number, reason in enumerate(drop_reasons) if reason] == [5]
    assert drop_reasons[5].startswith(f"{kind}: ")
    assert count_by_kind(drop_reasons) == {kind: 1}
    assert not reasons(frames, tmp_path, **switch)[5].startswith(kind)


def test_the_reason_has_the_value_and_the_threshold(tmp_path: Path) -> None:
    frames = [scene(0), scene(1), scene(1), np.full((HEIGHT, WIDTH, 3), 2, np.uint8), scene(3)[:20]]
    drop_reasons = reasons(frames, tmp_path)
    assert drop_reasons[2] == "repeated: 0.0 < 3 from frame 000001"
    assert drop_reasons[3] == "dark: brightness 2.0 < 8"
    assert drop_reasons[4] == "small: 20 pixels < 32"


def test_sharpness_is_judged_by_the_clip_itself(tmp_path: Path) -> None:
    soft = [blurred(scene(number)) for number in range(6)]
    assert reasons(soft, tmp_path, repeat_difference=0.0) == [""] * 6
    assert reasons([soft[0]], tmp_path) == [""]  # as a photo is


def test_of_a_camera_that_stands_still_one_frame_is_kept(tmp_path: Path) -> None:
    still = [noisy(scene(0), seed) for seed in range(10)]
    assert count_by_kind(reasons(still, tmp_path)) == {"repeated": 9}


def test_a_small_thing_that_moves_makes_a_new_frame(tmp_path: Path) -> None:
    frames = [noisy(scene(0), seed) for seed in range(4)]
    for number, frame in enumerate(frames):
        frame[100:116, 40 * number : 40 * number + 16] = 255
    assert reasons(frames, tmp_path) == [""] * 4


def test_a_slow_change_is_not_lost_step_by_step(tmp_path: Path) -> None:
    frames = [np.clip(scene(0).astype(int) + number, 0, 255).astype(np.uint8) for number in range(10)]
    drop_reasons = reasons(frames, tmp_path)
    assert [number for number, reason in enumerate(drop_reasons) if not reason][:3] == [0, 3, 6]


def test_a_frame_is_found_again_after_others(tmp_path: Path) -> None:
    frames = [scene(number) for number in range(30)] + [noisy(scene(3), 1)]
    assert [number for number, reason in enumerate(reasons(frames, tmp_path)) if reason] == [30]


@pytest.mark.parametrize("enlarged", [1, 2, 4, 5])
def test_repeats_are_found_at_every_size(enlarged: int, tmp_path: Path) -> None:
    frames = [noisy(scene(0), 1), noisy(scene(0), 2), scene(1)]
    large = [np.asarray(cv2.resize(frame, None, fx=enlarged, fy=enlarged), np.uint8) for frame in frames]
    assert [reason.partition(":")[0] for reason in reasons(large, tmp_path)] == ["", "repeated", ""]


def test_frames_of_two_sizes_are_not_compared() -> None:
    assert difference_between(np.zeros((4, 6), np.uint8), np.zeros((6, 4), np.uint8)) == 255


@pytest.mark.parametrize("sides", [(2, 3000), (3000, 3)])
def test_thin_pictures_are_compared_too(sides: tuple[int, int], tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(60, 200, (*sides, 3), np.uint8)
    pictures = [
        replace(picture, path=picture.path.replace(".jpg", ".png")) for picture in written([noise] * 2, tmp_path)
    ]
    for picture in pictures:
        assert cv2.imwrite(str(tmp_path / picture.path), noise)
    drop_reasons = screen(pictures, tmp_path, DEFAULTS.model_copy(update={"min_side": 1}))
    assert [reason.partition(":")[0] for reason in drop_reasons] == ["", "repeated"]


def test_tiny_pictures_are_compared_too() -> None:
    assert difference_between(np.zeros((1, 3), np.uint8), np.uint8([[0, 0, 90]])) == 90


def test_a_file_that_is_gone_bad_is_named(tmp_path: Path) -> None:
    pictures = written([scene(0), scene(1)], tmp_path)
    (tmp_path / "000001.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"000001\.jpg: cannot be decoded"):
        screen(pictures, tmp_path, DEFAULTS)


def test_a_recording_without_pictures_has_no_reasons(tmp_path: Path) -> None:
    assert screen([], tmp_path, DEFAULTS) == []


def test_a_class_of_which_nothing_is_kept_is_refused() -> None:
    check_no_class_is_empty([("砾石", "dark: brightness 1.0 < 8"), ("砾石", ""), ("brick", "")])
    with pytest.raises(DataError) as caught:
        check_no_class_is_empty([("砾石", "dark: brightness 1.0 < 8"), ("砾石", "small: 2 pixels < 32"), ("brick", "")])
    line = "class '砾石': screening kept none of its 2 frames (1 dark, 1 small); look at them with "
    assert str(caught.value).startswith(line)


def test_measures_count_what_was_dropped(tmp_path: Path) -> None:
    pictures = written([scene(0), scene(1), scene(1)], tmp_path)
    pictures[2] = replace(pictures[2], drop_reason="repeated: 0.0 < 3 from frame 000001")
    summary = measures(pictures)
    assert (summary["frames_kept"], summary["dropped"]) == (2, {"repeated": 1})
    assert summary["sharpness"]["least"] <= summary["sharpness"]["median"] <= summary["sharpness"]["most"]
