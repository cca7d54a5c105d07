from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.media import photos
from pipeline.media.photos import is_photo, read_photo
from runtime.errors import ImageError
from tests.support.media import write_clip, write_dng

PIXELS = 200_000_000
EXIF_ORIENTATION = 0x0112
NO_PIXELS = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"}

# Files of shared `odd_images` that hold no readable picture, with a part of their line.
REFUSED = {
    "imageio_multipage_rgb.tif": "begins as TIFF, but cannot be opened",  # 64 bits per sample
    "pillow_bmp_b_reallybig.bmp": "too many pixels",
    "pillow_broken_data_stream.png": "unrecognized data stream",
    "pillow_decompression_bomb.gif": "too many pixels",
    "pillow_truncated_end_chunk.png": "Truncated File Read",
    "pillow_truncated_image.png": "truncated",
    "pillow_ultrahdr.jpg": "truncated",
    "pillowheif_empty.heic": "empty file (0 bytes)",
    "torchcodec_corrupt.jpg": "broken data stream",
    "torchcodec_heapbof.png": "begins as PNG, but cannot be opened",
    "torchvision_corrupt34_2.jpg": "truncated",
    "torchvision_corrupt34_4.jpg": "truncated",
    "vips_17000x17000.avif": "begins as AVIF, but cannot be opened",
    "vips_sample-xyb.jpg": "stored as XYB",
    "vips_truncated.gif": "truncated",
}


@pytest.fixture(scope="module", autouse=True)
def _with_heif() -> None:
    pillow_heif.register_heif_opener()
    Image.init()


def scene() -> NDArray[np.uint8]:
    """(96, 160, 3) RGB, smooth; no turn and no mirror leaves it alone."""
    rows, columns = np.mgrid[:96, :160]
    return np.stack([rows * 2, columns, 255 - rows - columns // 2], axis=2).astype(np.uint8)


def save(path: Path, pixels: NDArray[Any] | None = None, mode: str | None = None, **options: Any) -> Path:
    image = Image.fromarray(scene() if pixels is None else pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def distance(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> float:
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    return float(np.abs(found.astype(int) - expected).mean())


def line_of(path: Path, max_pixels: int = PIXELS) -> str:
    with pytest.raises(ImageError) as caught:
        read_photo(path, max_pixels=max_pixels)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Formats.


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {"quality": 95}), ("a.png", {}), ("a.webp", {"quality": 95}), ("a.gif", {}), ("a.bmp", {}),
        ("a.tif", {}), ("a.avif", {"quality": 95}), ("a.heic", {"quality": 95}), ("a.heif", {"quality": 95}),
        ("a.hif", {"quality": 95}), ("a.jp2", {}), ("a.ppm", {}), ("a.tga", {}), ("a.pcx", {}), ("a.sgi", {}),
        ("a.dds", {}), ("a.dib", {}), ("a.qoi", {}), ("a.apng", {"format": "PNG"}),
    ],
)  # fmt: skip
def test_every_format_becomes_the_same_rgb(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    path = save(tmp_path / name, **options)
    assert is_photo(path)
    photo = read_photo(path, max_pixels=PIXELS)
    assert distance(photo.pixels_hwc, scene()) < (8 if name.endswith("gif") else 3)  # GIF has 256 colours
    assert photo.misnamed == ""


def test_the_suffixes_are_those_of_the_installed_readers() -> None:
    installed = {suffix for suffix, name in Image.EXTENSION.items() if name in set(Image.OPEN) - NO_PIXELS}
    assert installed | {".mpo"} == photos.SUFFIXES


@pytest.mark.parametrize("suffix", ["jpg", "heic", "avif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_upright_whatever_its_format(orientation: int, suffix: str, tmp_path: Path) -> None:
    turn = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # Pillow's numbers for the way back
    upright = Image.fromarray(scene())
    stored = upright if turn is None else upright.transpose(Image.Transpose(turn))
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    stored.save(tmp_path / f"a.{suffix}", exif=exif.tobytes(), quality=95)
    assert distance(read_photo(tmp_path / f"a.{suffix}", max_pixels=PIXELS).pixels_hwc, scene()) < 3


@pytest.mark.parametrize("bits", [10, 12])
def test_ten_and_twelve_bits_become_eight(bits: int, tmp_path: Path) -> None:
    wide = scene().astype(np.uint16) * 257
    pillow_heif.options.SAVE_HDR_TO_12_BIT = bits == 12
    try:
        pillow_heif.encode("RGB;16", (160, 96), wide.tobytes(), tmp_path / "a.heic", quality=95)
    finally:
        pillow_heif.options.SAVE_HDR_TO_12_BIT = False
    assert pillow_heif.open_heif(tmp_path / "a.heic", convert_hdr_to_8bit=False).info["bit_depth"] == bits
    assert distance(read_photo(tmp_path / "a.heic", max_pixels=PIXELS).pixels_hwc, scene()) < 3


@pytest.mark.parametrize("suffix", ["heic", "avif", "png", "webp", "tga"])
def test_what_is_transparent_becomes_white(suffix: str, tmp_path: Path) -> None:
    rgba = np.dstack([scene(), np.repeat(np.uint8([[0, 255]]), 80, axis=1).repeat(96, axis=0)])
    path = save(tmp_path / f"a.{suffix}", rgba, quality=95)
    found = read_photo(path, max_pixels=PIXELS).pixels_hwc
    assert distance(found[:, :70], np.full((96, 70, 3), 255, np.uint8)) < 2
    assert distance(found[:, 90:], scene()[:, 90:]) < 4


def test_sixteen_bits_palettes_and_cmyk_become_rgb(tmp_path: Path) -> None:
    grey = np.full((8, 8), 257 * 102, np.uint16)
    for path in (
        save(tmp_path / "grey.png", grey),
        save(tmp_path / "grey.tif", grey),
        save(tmp_path / "palette.png", np.full((8, 8, 3), 102, np.uint8), "P"),
        save(tmp_path / "print.tif", np.full((8, 8, 3), 102, np.uint8), "CMYK"),
    ):
        assert distance(read_photo(path, max_pixels=PIXELS).pixels_hwc, np.full((8, 8, 3), 102, np.uint8)) <= 1


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif", "heic", "avif"])
def test_of_an_animation_the_first_picture_is_taken(suffix: str, tmp_path: Path) -> None:
    first, *others = [Image.new("RGB", (64, 64), (level, level, level)) for level in (200, 100, 20)]
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=others)
    photo = read_photo(tmp_path / f"a.{suffix}", max_pixels=PIXELS)
    assert distance(photo.pixels_hwc, np.full((64, 64, 3), 200, np.uint8)) < 3


# Bounds.


@pytest.mark.parametrize("suffix", ["jpg", "png", "heic", "avif", "tif", "jp2"])
def test_too_many_pixels_are_refused_before_they_are_decoded(suffix: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"a.{suffix}")
    assert read_photo(path, max_pixels=160 * 96).pixels_hwc.shape == (96, 160, 3)
    assert "160 x 96 pixels; expected between 1 and 15359 in all" in line_of(path, 160 * 96 - 1)
    assert "too many pixels" in line_of(path, 1000) or "160 x 96 pixels" in line_of(path, 1000)


def test_the_bound_is_ours_and_not_that_of_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_photo(path, max_pixels=PIXELS).pixels_hwc.shape == (96, 160, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


# Names that do not fit.


@pytest.mark.parametrize(
    ("name", "stored_as", "misnamed"),
    [
        ("a.jpg", "PNG", "PNG named .jpg"),
        ("a.jpg", "HEIF", "HEIF named .jpg"),
        ("a.png", "AVIF", "AVIF named .png"),
        ("a.mp4", "JPEG", "JPEG named .mp4"),
        ("a.mov", "HEIF", "HEIF named .mov"),
        ("a.jpeg", "JPEG", ""),
        ("a.jpg", "MPO", ""),
    ],
)
def test_the_content_decides_and_a_wrong_suffix_is_reported(
    name: str, stored_as: str, misnamed: str, tmp_path: Path
) -> None:
    path = save(tmp_path / name, format=stored_as, quality=95)
    assert is_photo(path)
    photo = read_photo(path, max_pixels=PIXELS)
    assert distance(photo.pixels_hwc, scene()) < 3
    assert photo.misnamed == misnamed


def test_a_clip_named_like_a_photo_is_no_photo(tmp_path: Path) -> None:
    for suffix in ("mp4", "mkv", "avi"):
        path = write_clip(tmp_path / f"clip.{suffix}", n_frames=2)
        assert not is_photo(path.rename(tmp_path / f"{suffix}.heic"))


def test_a_format_without_a_signature_is_read_under_its_own_suffix_only(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tga")
    assert line_of(path.rename(tmp_path / "a.jpg")).endswith("; export it as JPEG or PNG, or remove it")


def test_only_a_damaged_file_is_to_be_copied_again(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", n_frames=2)
    assert line_of(clip) == f"{clip}: a clip; expected a photo; `pipe extract {clip}` takes frames from a clip"
    floats = save(tmp_path / "floats.tif", np.zeros((8, 8), np.float32))
    assert line_of(floats) == f"{floats}: its pixels are floating-point numbers; save it with 8 or 16 bits"
    raw = write_dng(tmp_path / "raw.tif")
    assert line_of(raw) == f"{raw}: camera raw (DNG), which is not read here; convert it to JPEG or PNG"
    contents = {
        bytes.fromhex("0000000c4a584c200d0a870a"): "JPEG XL, which is not read here; convert it to JPEG or PNG",
        b"a text": "its content is no picture that is read here; export it as JPEG or PNG, or remove it",
        bytes(1000): "begins with nothing but zeros, as after an interrupted copy; delete or re-copy the file",
        b"": "empty file (0 bytes); delete or re-copy it",
    }
    for content, line in contents.items():
        (tmp_path / "a.jpg").write_bytes(content)
        assert line_of(tmp_path / "a.jpg") == f"{tmp_path / 'a.jpg'}: {line}"


def test_a_picture_of_256_megapixels_names_the_parameter(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"  # only its header: no pixel of it is read
    path.write_bytes(struct.pack("<2sIII IiiHHIIiiII", b"BM", 54, 0, 54, 40, 16_000, 16_000, 1, 24, 0, 0, 0, 0, 0, 0))
    bound = f"{path}: 16000 x 16000 pixels; expected between 1 and 200000000 in all"
    assert line_of(path) == f"{bound}; raise extract.max_megapixels, or make the picture smaller"


def test_the_pages_and_pictures_that_are_left_out_are_reported(tmp_path: Path) -> None:
    first, *others = [Image.new("RGB", (64, 64), (level, level, level)) for level in (200, 100, 20)]
    for suffix in ("tif", "gif", "webp", "png"):
        first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=others)
        (warning,) = read_photo(tmp_path / f"a.{suffix}", max_pixels=PIXELS).warnings
        assert warning == {"tif": "3 pages, of which the first is read"}.get(
            suffix, "an animation, of which the first picture is read"
        )
        assert read_photo(save(tmp_path / f"one.{suffix}"), max_pixels=PIXELS).warnings == ()
    first.save(tmp_path / "a.mpo", save_all=True, append_images=others)  # as phones store one view twice
    assert read_photo(tmp_path / "a.mpo", max_pixels=PIXELS).warnings == ()


def test_a_broken_second_page_does_no_harm(tmp_path: Path) -> None:
    first, second = Image.new("L", (8, 8), 200), Image.new("L", (8, 8), 100)
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
    whole = (tmp_path / "a.tif").read_bytes()
    (first_place,) = struct.unpack("<I", whole[4:8])
    (n_tags,) = struct.unpack("<H", whole[first_place : first_place + 2])
    link = first_place + 2 + 12 * n_tags
    for target in (first_place, len(whole) + 100):  # a circle, and behind the end
        (tmp_path / "a.tif").write_bytes(whole[:link] + struct.pack("<I", target) + whole[link + 4 :])
        assert (
            distance(read_photo(tmp_path / "a.tif", max_pixels=PIXELS).pixels_hwc, np.full((8, 8, 3), 200, np.uint8))
            == 0
        )


@pytest.mark.parametrize("content", [b"", b"no picture\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_what_is_no_picture_is_refused(content: bytes, tmp_path: Path) -> None:
    for suffix in ("jpg", "heic", "tga", "im", "pcd"):
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(content)
        assert line_of(path)


def test_a_broken_colour_profile_does_no_harm(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    chunk = b"iCCP" + b"broken\0\0 no zlib"  # its length and checksum are right: Pillow reads it, and finds no profile
    whole, head = path.read_bytes(), 33
    stored = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(whole[:head] + stored + whole[head:])
    assert distance(read_photo(path, max_pixels=PIXELS).pixels_hwc, scene()) == 0


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in line_of(tmp_path / "none.heic")


@pytest.mark.parametrize("suffix", ["heic", "avif"])
def test_a_file_cut_short_is_refused(suffix: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    path = save(tmp_path / f"a.{suffix}", noise, quality=95)
    whole = path.read_bytes()
    for share in (0.02, 0.1, 0.5):
        path.write_bytes(whole[: int(len(whole) * share)])
        assert line_of(path)


# Real ones.


def test_every_odd_image_is_a_picture_or_has_its_line(shared: Path) -> None:
    paths = sorted((shared / "data" / "odd_images").iterdir())
    assert len(paths) > 60
    for path in paths:
        if path.name in REFUSED:
            assert REFUSED[path.name] in line_of(path)
        else:
            assert read_photo(path, max_pixels=PIXELS).pixels_hwc.shape[2] == 3, path.name


def test_odd_images_have_the_size_and_the_colours_that_their_names_promise(shared: Path) -> None:
    def read(name: str) -> NDArray[np.uint8]:
        return read_photo(shared / "data" / "odd_images" / name, max_pixels=PIXELS).pixels_hwc

    upright = read("pillow_hopper_zero_comment_subblocks.gif")
    assert distance(read("pillow_hopper_orientation_3.jpg"), upright) < 8
    assert distance(read("pillow_hopper_orientation_6.webp"), upright) < 8
    assert distance(read("torchcodec_gradient_10bit.heic"), read("torchcodec_gradient_16bit.png")) < 3
    assert read("pillow_avif_rot1mir0.avif").shape == (427, 640, 3)
    assert read("torchcodec_gradient_rotated.heic").shape == (1280, 720, 3)
    assert (read("torchcodec_transparent.gif")[0, 0] == 255).all()
