"""What holds for every reader of pictures: Pillow, and OpenCV where Pillow is absent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from runtime.errors import ImageError
from runtime.images import read_image
from runtime.images.opencv import read_with_opencv

PIXELS = 64_000_000
EXIF_ORIENTATION = 0x0112
Reader = Callable[..., NDArray[np.uint8]]
READERS = [read_image, read_with_opencv]


def pixels_or_line(read: Reader, path: Path, max_pixels: int = PIXELS) -> NDArray[np.uint8] | str:
    """Return the picture, or the error's line."""
    try:
        return read(path, max_pixels=max_pixels)
    except ImageError as error:
        return str(error)


def gradient(height: int = 20, width: int = 30) -> NDArray[np.uint8]:
    """A picture that every turn and every mirror changes."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 8, columns * 8, rows + columns], axis=2).astype(np.uint8)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_upright(read: Reader, orientation: int, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    turn = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # Pillow's numbers for the way back
    image = Image.fromarray(gradient())
    stored = image if turn is None else image.transpose(Image.Transpose(turn))
    stored.save(path, exif=exif, quality=100, subsampling=0)
    pixels = read(path, max_pixels=PIXELS)
    assert pixels.shape == (20, 30, 3)
    assert np.abs(pixels.astype(int) - gradient()).max() <= 6


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (Image.new("RGBA", (4, 4), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 51)), (255, 204, 204)),
        (Image.new("LA", (4, 4), (0, 0)), (255, 255, 255)),
        (Image.new("L", (4, 4), 7), (7, 7, 7)),
        (Image.new("1", (4, 4), 1), (255, 255, 255)),
        (Image.new("RGB", (4, 4), (1, 2, 3)).quantize(2), (1, 2, 3)),
        (Image.fromarray(np.full((4, 4), 257 * 9, np.uint16)), (9, 9, 9)),
        (Image.fromarray(np.full((4, 4), 65535, np.uint16)), (255, 255, 255)),
    ],
    ids=["transparent", "translucent", "grey-alpha", "grey", "bits", "palette", "sixteen", "sixteen-white"],
)
def test_every_kind_of_pixel_becomes_eight_bit_rgb(
    read: Reader, stored: Image.Image, expected: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / "picture.png"
    stored.save(path)
    pixels = read(path, max_pixels=PIXELS)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (4, 4, 3)
    assert (pixels == expected).all()


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_too_many_pixels_are_refused_before_they_are_decoded(read: Reader, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"large.{suffix}"
    Image.new("RGB", (100, 100)).save(path)
    assert read(path, max_pixels=10_000).shape == (100, 100, 3)
    # Cut after the header: decoding would fail with another error, so the size was checked first.
    path.write_bytes(path.read_bytes() if read is read_with_opencv else path.read_bytes()[:-20])
    with pytest.raises(ImageError, match="100 x 100 pixels; expected between 1 and 9999"):
        read(path, max_pixels=9_999)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_file_cut_short_is_refused(read: Reader, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"cut.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.95):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ImageError, match="cut"):
            read(path, max_pixels=PIXELS)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("content", [b"", b"no picture\n", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_is_no_picture_is_refused_in_one_line(read: Reader, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "two\nlines.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match="not a picture that can be read") as caught:
        read(path, max_pixels=PIXELS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", READERS)
def test_a_missing_file_is_refused(read: Reader, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file"):
        read(tmp_path / "none.jpg", max_pixels=PIXELS)


@pytest.mark.parametrize("read", READERS)
def test_odd_images_give_a_picture_or_one_line(read: Reader, shared: Path) -> None:
    results = {path: pixels_or_line(read, path) for path in sorted((shared / "data" / "odd_images").iterdir())}
    pictures = [result for result in results.values() if isinstance(result, np.ndarray)]
    lines = {path: result for path, result in results.items() if isinstance(result, str)}
    assert all(line.startswith(f"{path}: ") and "\n" not in line for path, line in lines.items())
    assert all(picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3 for picture in pictures)
    assert len(pictures) >= len(lines) > 0


def test_both_readers_give_the_same_pixels_of_odd_photos(shared: Path) -> None:
    compared = 0
    for path in sorted((shared / "data" / "odd_images").glob("*.jpg")):
        by_pillow, by_opencv = (pixels_or_line(read, path) for read in READERS)
        if isinstance(by_pillow, str) or isinstance(by_opencv, str):
            continue
        compared += 1
        assert np.abs(by_pillow.astype(int) - by_opencv).mean() < 2, path.name
    assert compared >= 10
