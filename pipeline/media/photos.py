"""Reads photos: every picture that Pillow opens, and HEIC and AVIF. The content decides on the format, not the name."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.media.capture import Capture, capture_blocks, capture_of_photo
from runtime.clips.demuxer import demuxer_of
from runtime.clips.signatures import DNG, HEAD_BYTES, demuxer_for, format_not_read, is_dng
from runtime.errors import ClipError, ImageError, TooManyPixelsError
from runtime.images import FORMATS, read_image
from runtime.images import sample_bits as sample_bits_of
from runtime.images.item_properties import read_item_properties
from runtime.images.pillow import DECODER_ERRORS
from runtime.system.regular_files import open_regular

if TYPE_CHECKING:
    from PIL import Image

# The suffixes that the readers of Pillow and pillow-heif register; a test compares them with the installed readers.
SUFFIXES = frozenset({
    ".apng", ".avif", ".avifs", ".blp", ".bmp", ".bw", ".cur", ".dcx", ".dds", ".dib", ".fit", ".fits", ".flc", ".fli",
    ".ftc", ".ftu", ".gbr", ".gif", ".heic", ".heics", ".heif", ".heifs", ".hif", ".icb", ".icns", ".ico", ".iim",
    ".im", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo", ".msp", ".pbm",
    ".pcd", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".pxr", ".qoi", ".ras", ".rgb", ".rgba", ".sgi",
    ".tga", ".tif", ".tiff", ".vda", ".vst", ".webp", ".xbm", ".xpm",
})  # fmt: skip

# EPS would start a program, WMF needs Windows, and Pillow reads no pixels of the others.
_NOT_READ = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"})
# Formats without a signature, whose readers would take a text for a picture: read under their own suffix only.
_UNSIGNED = frozenset({"IM", "IMT", "IPTC", "PCD", "SPIDER", "TGA"})
_ANIMATED = frozenset({"GIF", "PNG", "WEBP", "AVIF"})  # not JPEG, where phones store a second picture of the same view
_ALIKE = {"MPO": "JPEG", "DIB": "BMP"}  # under the suffix of the other, these are not reported as misnamed

_CAMERA_BITS = (10, 12, 14)
# Brands of stills and bursts in the container of MP4, which FFmpeg would take for clips.
_STILLS = frozenset({
    b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"avif", b"avis",
})  # fmt: skip
_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG", "PNG"), (b"GIF8", "GIF"), (b"BM", "BMP"), (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)  # fmt: skip


@dataclass(frozen=True)
class Photo:
    """The first picture of a file."""

    pixels_hwc: NDArray[np.uint8]  # (height, width, 3), RGB, upright
    misnamed: str  # such as "PNG named .jpg"; empty where the suffix is right
    warnings: tuple[str, ...]  # what of the file is left out, or not as a reader may expect
    capture: Capture  # when, with which camera and in which burst it was taken


def is_photo(path: Path) -> bool:
    """Whether a file is a photo by its content; by its suffix where the first bytes show neither photo nor clip."""
    if signature(_head(path)):
        return True
    try:
        demuxer_of(path)
    except ClipError:
        return path.suffix.lower() in SUFFIXES
    return False


def read_photo(path: Path, *, max_pixels: int, sample_bits: int | None = None) -> Photo:
    """Read the first picture of a file (of HEIC the primary one), turned upright by its EXIF orientation.

    16, 12 and 10 bits become 8, HLG and PQ become SDR, CMYK and palettes become RGB, and transparency is laid over
    white. Colour profiles are not applied.

    Args:
        path: a file in any format that Pillow or pillow-heif reads, except EPS and WMF.
        max_pixels: width times height above which the picture is refused, by its header, before decoding.
        sample_bits: how many bits of 16 count, where the file does not say so itself; None for all.

    Raises:
        ImageError: the file is missing, empty, cut short or no such picture, has too many pixels, or stores XYB
            colours.
    """
    from PIL import Image, UnidentifiedImageError

    if is_dng(path):
        raise ImageError(f"{path}: {DNG.refusal}")
    formats = _formats_for(path)
    try:
        with _bounded(max_pixels):
            pixels_hwc = read_image(path, max_pixels=max_pixels, formats=formats, sample_bits=sample_bits)
            with Image.open(path, formats=formats) as image:
                profile, name = image.info.get("icc_profile"), image.format or ""
                warned = [_other_pictures(image), _unturned(path, image), "" if sample_bits else _few_bits(image)]
                capture = capture_of_photo(image)
    except TooManyPixelsError as error:
        raise ImageError(f"{error}; raise extract.max_megapixels, or make the picture smaller") from error
    except ImageError as error:
        if isinstance(error.__cause__, UnidentifiedImageError):
            raise ImageError(f"{path}: {_diagnosis(path)}") from error
        raise
    if _is_xyb(profile):
        raise ImageError(f"{path}: its colours are stored as XYB, which need its profile; convert it to sRGB")
    told = tuple(warning for warning in warned if warning)
    return Photo(pixels_hwc, _misnamed(path, name), told, capture)


def read_metadata(path: Path, *, max_pixels: int) -> dict[str, Any]:
    """Return blocks `exif` and `xmp` with a photo's time, camera and burst, for an upright copy; none where damaged.

    Args:
        path: a photo that `read_photo` can read.
        max_pixels: as for `read_photo`.
    """
    from PIL import Image

    with (
        _bounded(max_pixels),
        contextlib.suppress(*DECODER_ERRORS),
        Image.open(path, formats=_formats_for(path)) as image,
    ):
        return capture_blocks(image)
    return {}


def read_photo_as_device(path: Path, *, max_pixels: int, sample_bits: int | None) -> NDArray[np.uint8]:
    """Read a photo as the device reads pictures, or a HEIC photo, which no device reads.

    Unlike `read_photo` it changes no setting of Pillow's, so several threads may read at once.

    Args:
        path: the photo.
        max_pixels: the contract's bound.
        sample_bits: of the contract.

    Returns:
        (height, width, 3) uint8 RGB, upright.

    Raises:
        ImageError: the file cannot be read, or has too many pixels.
    """
    import pillow_heif

    pillow_heif.register_heif_opener()
    return read_image(path, max_pixels=max_pixels, formats=(*FORMATS, "HEIF"), sample_bits=sample_bits)


def _unturned(path: Path, image: Image.Image) -> str:
    """The warning for a HEIC photo that only its EXIF block says to turn; no reader of HEIC turns it."""
    orientation = image.info.get("original_orientation")  # pillow-heif keeps it here, and sets EXIF to upright
    if image.format != "HEIF" or orientation in (None, 1) or read_item_properties(path).is_turned:
        return ""
    return f"its EXIF orientation {orientation} is not applied, since HEIC is turned by the box irot, which it lacks"


def _few_bits(image: Image.Image) -> str:
    """The warning for 16 bits of which the upper ones are never set; the picture alone cannot tell whether it is dark.

    Args:
        image: just opened.
    """
    is_deep_colour = sample_bits_of.is_deep_colour(image)
    if not (is_deep_colour or image.mode.startswith("I;16")) or sample_bits_of.stated_bits(image):
        return ""
    # Of colour Pillow gives the upper 8 bits.
    highest = int(np.asarray(image).max(initial=0)) * (256 if is_deep_colour else 1) + (255 if is_deep_colour else 0)
    bits = next((bits for bits in _CAMERA_BITS if highest < 1 << bits), None)
    if bits is None:
        return ""
    advice = "convert it to 8 bits" if is_deep_colour else f"set image.sample_bits: {bits}"
    return f"16-bit samples of at most {highest}: read as 16 bits it is dark; if the camera gives {bits} bits, {advice}"


def _formats_for(path: Path) -> tuple[str, ...]:
    """Pillow's names of the formats that the content may have."""
    import pillow_heif
    from PIL import Image

    pillow_heif.register_heif_opener()
    Image.init()
    own = Image.EXTENSION.get(path.suffix.lower())
    return tuple(name for name in Image.OPEN if name not in _NOT_READ and (name not in _UNSIGNED or name == own))


@contextlib.contextmanager
def _bounded(max_pixels: int) -> Iterator[None]:
    """Set Pillow's own bound inside the block. It also holds for pictures inside a file, such as those of an icon."""
    from PIL import Image

    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = max_pixels  # Pillow refuses at twice as many
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def signature(head: bytes) -> str:
    """Return the format of a photo by its first bytes, if cameras or phones write it; else empty.

    Args:
        head: the first 12 bytes of the file, or more.
    """
    if head[4:8] == b"ftyp" and head[8:12] in _STILLS:
        return "AVIF" if head[8:11] == b"avi" else "HEIF"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    return next((name for start, name in _SIGNATURES if head.startswith(start)), "")


def _head(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


def _diagnosis(path: Path) -> str:
    head = _head(path)
    if not head:
        return "empty file (0 bytes); delete or re-copy it"
    if unread := format_not_read(head):
        return unread.refusal
    if name := signature(head):
        return f"begins as {name}, but cannot be opened (broken, too large or of a rare kind); export it as JPEG or PNG"
    if demuxer_for(head):
        return f"a clip; expected a photo; `pipe extract {path}` takes frames from a clip"
    if not head.strip(b"\0"):
        return "begins with nothing but zeros, as after an interrupted copy; delete or re-copy the file"
    return "its content is no picture that is read here; export it as JPEG or PNG, or remove it"


def _other_pictures(image: Image.Image) -> str:
    """What to say of a file with several pictures: pages of a TIFF, or an animation. The first picture is read."""
    with contextlib.suppress(*DECODER_ERRORS):  # damage behind the first picture does no harm
        if image.format == "TIFF" and (n_pages := getattr(image, "n_frames", 1)) > 1:
            return f"{n_pages} pages, of which the first is read"
        if image.format in _ANIMATED and getattr(image, "is_animated", False):
            return "an animation, of which the first picture is read"
    return ""


def _misnamed(path: Path, name: str) -> str:
    from PIL import Image

    suffix = path.suffix.lower()
    registered = Image.EXTENSION.get(suffix, "")
    return "" if _ALIKE.get(registered, registered) == _ALIKE.get(name, name) else f"{name} named {suffix}"


def _is_xyb(profile: object) -> bool:
    """Whether an ICC profile is that of JPEGs in XYB, as JPEG XL's tools write them. A broken profile is no bytes."""
    return isinstance(profile, bytes) and profile[4:8] == b"jxl " and "XYB".encode("utf-16-be") in profile
