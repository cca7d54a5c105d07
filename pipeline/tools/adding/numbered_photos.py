"""Numbers for the photos of a class, and one format: `pipe add --number` calls them 0001.jpg, 0002.jpg and so on.

The size is not unified here: the network's preprocessing resizes every picture in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pipeline.base.errors import DataError
from pipeline.base.files import sha256_of
from pipeline.media import recordings
from pipeline.media.capture import Capture, capture_of_photo, completed_by_name
from pipeline.media.photos import read_metadata, read_photo, signature
from runtime.clips.signatures import HEAD_BYTES
from runtime.errors import ImageError
from runtime.system.regular_files import open_regular

SUFFIX = ".jpg"
_DIGITS = 4  # at least, so that names in order of their letters are in order of their numbers
# Longer numbers are times. Cameras and people write the suffix in other ways, too.
_NUMBERED = re.compile(rf"(\d{{{_DIGITS},{_DIGITS + 2}}})(_.*)?\.jpe?g", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Numbering:
    """How photos become JPEG files."""

    max_pixels: int  # width times height above which a photo is refused
    jpeg_quality: int
    sample_bits: int | None  # of `image.sample_bits`


@dataclass(frozen=True)
class NumberedPhoto:
    """A photo under its number."""

    name: str  # such as 0012.jpg
    content: Path  # the photo itself, or its JPEG
    is_converted: bool


def number_photos(photos: Iterable[Path], folder: Path, numbering: Numbering, scratch: Path) -> Iterator[NumberedPhoto]:
    """Yield the photos that a class does not have yet, with the numbers after its highest.

    A JPEG keeps its bytes. Another photo is decoded as `pipe extract` decodes it, and keeps what it says of its time,
    camera and burst, by which `pipe split` joins photos. Where only the name of a photo says it, the name follows the
    number. A photo whose content is there, or came before, is left out.

    Args:
        photos: in the order of their numbers.
        folder: of the class; it may be missing.
        numbering: bounds and quality.
        scratch: a folder for JPEG files that are made here.

    Raises:
        DataError: a photo cannot be read, or its time, camera and burst do not fit into a JPEG.
    """
    files = recordings.walk(folder) if folder.is_dir() else []
    present = [path for path in files if recordings.has_photo_suffix(path) and path.is_file()]  # no link to nothing
    digests = {sha256_of(path) for path in present}
    names = [path.name for path in present if path.parent == folder]
    number = max((int(match[1]) for name in names if (match := _NUMBERED.fullmatch(name))), default=0)
    for photo in photos:
        if sha256_of(photo) in digests:  # it need not be a JPEG: `pipe add` without --number takes every format
            continue
        is_converted = not _is_jpeg(photo)
        content = _convert(photo, scratch / f"{len(digests)}{SUFFIX}", numbering) if is_converted else photo
        digest = sha256_of(content)
        if digest not in digests:
            digests.add(digest)
            number += 1
            told_by_name = completed_by_name(Capture(), photo.name) != Capture()
            name = f"{number:0{_DIGITS}}{f'_{photo.stem}' if told_by_name else ''}{SUFFIX}"
            yield NumberedPhoto(name, content, is_converted)


def _is_jpeg(photo: Path) -> bool:
    try:
        with open_regular(photo) as file:
            return signature(file.read(HEAD_BYTES)) == "JPEG"
    except OSError as error:
        raise DataError(f"{photo}: cannot be read ({error.strerror})") from error


def _convert(source: Path, target: Path, numbering: Numbering) -> Path:
    """Write a photo as an upright JPEG without subsampled colours."""
    try:
        photo = read_photo(source, max_pixels=numbering.max_pixels, sample_bits=numbering.sample_bits)
        told = read_metadata(source, max_pixels=numbering.max_pixels) if photo.capture != Capture() else {}
    except ImageError as error:
        raise DataError(str(error)) from error
    try:
        Image.fromarray(photo.pixels_hwc).save(target, quality=numbering.jpeg_quality, subsampling=0, **told)
        with Image.open(target) as written:
            is_told = capture_of_photo(written) == photo.capture
    except ValueError as error:  # a block is longer than a JPEG allows
        raise _unfit(source) from error
    if not is_told:
        raise _unfit(source)
    return target


def _unfit(photo: Path) -> DataError:
    return DataError(
        f"{photo}: its time, camera or burst does not fit into a JPEG; convert it yourself, or add it without --number"
    )
