"""The reader of frames: pixels as they were written, in colour and in grey, at full and at reduced size."""

from __future__ import annotations

import os
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
from pipeline.base.frames import read_frame, read_frame_bgr, read_grey, read_thumbnail, resize_longer_side
from pipeline.base.manifest import Row
from pipeline.base.project import Project

RED_RGB, GREY_OF_RED = (200, 0, 0), 60  # luma 0.299 x 200


def row_of(name: str, width: int, height: int) -> Row:
    return Row(name, "brick", "clip.mp4", "", "brick/clip", width=width, height=height)


def write(project: Project, name: str, width: int, height: int) -> Row:
    """Write a red picture whose left half is black."""
    pixels_hwc = np.full((height, width, 3), RED_RGB[::-1], np.uint8)
    pixels_hwc[:, : width // 2] = 0
    assert cv2.imwrite(str(project.root / name), pixels_hwc)
    return row_of(name, width, height)


def read_thumbnail_of_8(project: Project, row: Row) -> NDArray[np.uint8]:
    return read_thumbnail(project, row, 8)


READERS = (read_frame, read_frame_bgr, read_thumbnail_of_8)
Reader = Callable[[Project, Row], NDArray[np.uint8]]


def test_a_frame_is_read_as_rgb_and_for_opencv_as_bgr(project: Project) -> None:
    row = write(project, "a.png", 6, 4)
    frame_hwc = read_frame(project, row)
    assert frame_hwc.shape == (4, 6, 3)
    assert frame_hwc.dtype == np.uint8
    assert frame_hwc[0, -1].tolist() == list(RED_RGB)
    assert frame_hwc[0, 0].tolist() == [0, 0, 0]
    np.testing.assert_array_equal(read_frame_bgr(project, row), frame_hwc[..., ::-1])


@pytest.mark.parametrize("reader", READERS)
def test_a_missing_frame_is_refused(project: Project, reader: Reader) -> None:
    with pytest.raises(DataError, match=r"a\.png: .*run `pipe extract` again"):
        reader(project, row_of("a.png", 6, 4))


def test_an_unreadable_copy_is_made_again_by_augment_and_nobody_need_copy_a_frame(project: Project) -> None:
    row = row_of("data/augmented/a.jpg", 6, 4)
    (project.root / row.path).parent.mkdir(parents=True)
    whole = cv2.imencode(".jpg", np.full((4, 6, 3), 9, np.uint8))[1].tobytes()
    (project.root / row.path).write_bytes(whole[:-20])
    for reader in READERS:
        with pytest.raises(DataError, match="; run `pipe augment` again") as caught:
            reader(project, row)
        assert "re-copy" not in str(caught.value)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("content", [b"", b"torn", b"\x89PNG\r\n\x1a\n"])
def test_a_broken_frame_is_refused(project: Project, reader: Reader, content: bytes) -> None:
    (project.root / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png: .*run `pipe extract` again") as caught:
        reader(project, row_of("a.png", 6, 4))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", [read_frame, read_frame_bgr])
@pytest.mark.parametrize("stated", [(4, 6), (60, 40), (12, 2)])
def test_a_frame_of_another_size_than_its_row_states_is_refused(
    project: Project, reader: Reader, stated: tuple[int, int]
) -> None:
    row = write(project, "a.png", 6, 4)
    with pytest.raises(DataError, match=r"a\.png: found 6 x 4 pixels; the manifest says .*; run `pipe extract` again"):
        reader(project, replace(row, width=stated[0], height=stated[1]))


@pytest.mark.parametrize("reader", [read_frame, read_frame_bgr])
def test_a_frame_larger_than_its_row_states_is_refused_before_it_is_decoded(project: Project, reader: Reader) -> None:
    row = write(project, "a.png", 60, 40)
    with pytest.raises(DataError, match=r"a\.png: .*run `pipe extract` again"):
        reader(project, replace(row, width=6, height=4))


@pytest.mark.parametrize("reader", READERS)
def test_a_row_that_leaves_the_project_is_refused(project: Project, reader: Reader) -> None:
    with pytest.raises(DataError, match="leaves the project"):
        reader(project, row_of("../a.png", 6, 4))


@pytest.mark.parametrize(
    ("width", "height", "expected"), [(64, 48, (6, 8)), (6, 4, (5, 8)), (8, 8, (8, 8)), (900, 3, (1, 8))]
)
def test_a_thumbnail_is_grey_and_its_longer_side_has_the_pixels_asked_for(
    project: Project, width: int, height: int, expected: tuple[int, int]
) -> None:
    grey_hw = read_thumbnail(project, write(project, "a.png", width, height), 8)
    assert grey_hw.shape == expected
    assert grey_hw.dtype == np.uint8
    assert grey_hw[:, -1].tolist() == pytest.approx([GREY_OF_RED] * expected[0], abs=1)


@pytest.mark.parametrize(
    ("width", "height", "flag"),
    [
        (640, 480, cv2.IMREAD_REDUCED_GRAYSCALE_8),
        (639, 480, cv2.IMREAD_REDUCED_GRAYSCALE_4),
        (240, 160, cv2.IMREAD_REDUCED_GRAYSCALE_2),
        (159, 100, cv2.IMREAD_GRAYSCALE),
        (640, 7, cv2.IMREAD_REDUCED_GRAYSCALE_4),
        (640, 3, cv2.IMREAD_REDUCED_GRAYSCALE_2),
        (640, 1, cv2.IMREAD_GRAYSCALE),
    ],
)
def test_a_jpeg_is_decoded_at_the_smallest_size_that_is_large_enough_and_does_not_vanish(
    project: Project, monkeypatch: pytest.MonkeyPatch, width: int, height: int, flag: int
) -> None:
    row = write(project, "a.jpg", width, height)
    flags: list[int] = []
    decode = cv2.imdecode

    def imdecode(data: Any, used: int) -> Any:
        flags.append(used)
        return decode(data, used)

    monkeypatch.setattr(cv2, "imdecode", imdecode)
    grey_hw = read_grey(project.root / row.path, width, height, 80)
    assert flags == [flag]
    assert max(grey_hw.shape) == 80
    assert min(grey_hw.shape) >= 1


def test_a_grey_picture_is_reduced_but_not_enlarged(project: Project) -> None:
    path = project.root / write(project, "a.png", 64, 48).path
    assert read_grey(path, 64, 48, 32).shape == (24, 32)
    assert read_grey(path, 64, 48, 64).shape == (48, 64)
    assert read_grey(path, 64, 48, 100).shape == (48, 64)


def test_a_grey_picture_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.jpg: cannot be read \(No such file or directory\)"):
        read_grey(tmp_path / "a.jpg", 8, 8, 8)
    (tmp_path / "a.jpg").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"a\.jpg: cannot be decoded"):
        read_grey(tmp_path / "a.jpg", 8, 8, 8)


@pytest.mark.parametrize(
    ("shape", "side", "expected"),
    [
        ((48, 64), 32, (24, 32)),
        ((64, 48, 3), 32, (32, 24, 3)),
        ((6, 8, 3), 32, (24, 32, 3)),
        ((1, 1000), 10, (1, 10)),
        ((1000, 2, 3), 10, (10, 1, 3)),
    ],
)
def test_the_longer_side_is_resized_and_the_shorter_keeps_a_pixel(
    shape: tuple[int, ...], side: int, expected: tuple[int, ...]
) -> None:
    assert resize_longer_side(np.zeros(shape, np.uint8), side).shape == expected


def test_reducing_averages_and_enlarging_interpolates_as_asked() -> None:
    checks_hw = np.tile(np.array([[0, 200], [200, 0]], np.uint8), (8, 8))
    assert np.unique(resize_longer_side(checks_hw, 8)).tolist() == [100]
    halves_hw = np.array([[0, 200]], np.uint8)
    assert np.unique(resize_longer_side(halves_hw, 8, cv2.INTER_NEAREST)).tolist() == [0, 200]
    assert len(np.unique(resize_longer_side(halves_hw, 8))) > 2


@pytest.mark.parametrize("reader", READERS)
def test_a_frame_with_other_bytes_than_the_manifest_states_is_refused(project: Project, reader: Reader) -> None:
    row = write(project, "a.png", 16, 8)
    path = project.root / "a.png"
    stated = replace(row, sha256=sha256_of(path))
    assert reader(project, stated).size  # the negative control
    status = path.stat()
    other = bytearray(path.read_bytes())
    other[-6] ^= 1  # size and time stay
    path.write_bytes(other)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(
        DataError, match=r"a\.png: found other bytes than those of the manifest; run `pipe extract` again"
    ):
        reader(project, stated)
