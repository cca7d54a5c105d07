"""The child's side of extract: recordings are decoded here, and their pictures written and measured.

What `record` takes and gives travels as JSON between processes.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import DataError, PipeError
from pipeline.base.files import sha256_of
from pipeline.extract import quality
from pipeline.media import photos, recordings, to_rgb
from pipeline.media.clip import ClipInfo, Frame, open_clip
from pipeline.media.decode_plan import Wanted
from pipeline.media.demuxer import Bounds, DamagedClipError
from pipeline.media.packet_stats import Footage
from runtime.errors import ImageError

_CV2_NO_MEMORY = -4  # StsNoMem


@dataclass(frozen=True)
class Settings:
    """What a child needs of the params."""

    wanted: Wanted  # of a clip
    suffix: str  # .jpg or .png
    jpeg_quality: int  # 1 to 100
    max_pixels: int  # width times height
    max_seconds: float  # of a clip
    threads: int  # at work on one clip; they change no byte


class Picture(TypedDict):
    """One picture that was written; the names are those of `manifest.Row`."""

    path: str  # relative to the folder of frames
    time_seconds: float | None  # presentation time in the clip; None for a photo
    width: int  # pixels
    height: int
    sharpness: float
    brightness: float
    phash: str
    drop_reason: str  # empty until it is screened, and where it is kept


class Recorded(TypedDict):
    """What became of one clip or photo."""

    sha256: str  # of the source
    pictures: list[Picture]  # none where the decoder crashed, or nothing could be decoded: then `damage` says so
    clip: dict[str, Any] | None  # the fields of video.ClipInfo, and `footage`: those of Footage; None for a photo
    damage: str  # what is damaged, without the name of the file; empty where no damage was met
    misnamed: str  # what the content is where the suffix says something else, such as "PNG named .jpg"; or empty


def record(sources: Sequence[tuple[str, str]], frames: str, settings: dict[str, Any]) -> list[Recorded | str]:
    """Write the pictures of recordings: of a clip to `frames`/<name>/<index>.jpg, of a photo to `frames`/<name>.jpg.

    Args:
        sources: (file, name) of each.
        frames: the folder; it exists.
        settings: the fields of `Settings`, and of `video.Wanted` in it.

    Returns:
        Per recording what became of it, or one line that says why it cannot be used.

    Raises:
        PipeError: a picture cannot be written.
        MemoryError: there is not enough.
    """
    cv2.setNumThreads(1)  # children run side by side already
    with_wanted = Settings(**settings | {"wanted": Wanted(**settings["wanted"])})
    return [_record(Path(source), name, Path(frames), with_wanted) for source, name in sources]


def broken(damage: str) -> Recorded:
    """What became of a recording of which nothing can be used; `damage` says why, without its name."""
    return {"sha256": "", "pictures": [], "clip": None, "damage": damage, "misnamed": ""}


def misnamed_clip(path: Path) -> str:
    """What `Recorded.misnamed` says of a clip with this name."""
    return "" if recordings.is_clip(path) else f"video named {path.suffix}"


def _record(source: Path, name: str, frames: Path, settings: Settings) -> Recorded | str:
    try:
        if photos.is_photo(source):
            return _photo(source, name, frames, settings)
        return _clip(source, name, frames, settings)
    except DamagedClipError as error:
        return broken(str(error).removeprefix(f"{source}: "))
    except (DataError, ImageError) as error:
        return str(error)
    except cv2.error as error:
        if error.code == _CV2_NO_MEMORY:
            raise MemoryError from error
        raise


def _photo(source: Path, name: str, frames: Path, settings: Settings) -> Recorded:
    photo = photos.read_photo(source, max_pixels=settings.max_pixels)
    picture = _save(photo.pixels_hwc, frames, name, settings)
    return {
        "sha256": sha256_of(source), "pictures": [picture], "clip": None, "damage": "", "misnamed": photo.misnamed,
    }  # fmt: skip


def _clip(source: Path, name: str, frames: Path, settings: Settings) -> Recorded:
    with ThreadPoolExecutor(1) as pool:
        digest = pool.submit(sha256_of, source)
        try:
            pictures, info, footage = _decode(source, name, frames, settings, strict=True)
        except DamagedClipError:
            shutil.rmtree(frames / name, ignore_errors=True)
            pictures, info, footage = _decode(source, name, frames, settings, strict=False)
    return {
        "sha256": digest.result(),
        "pictures": pictures,
        "clip": asdict(info) | {"footage": asdict(footage)},
        "damage": "" if info.first_damage_seconds is None else "; ".join(info.warnings),
        "misnamed": misnamed_clip(source),
    }


def _decode(
    source: Path, name: str, frames: Path, settings: Settings, *, strict: bool
) -> tuple[list[Picture], ClipInfo, Footage]:
    def save(frame: Frame) -> Picture:
        picture = _save(frame.pixels_hwc, frames, f"{name}/{frame.index:06d}", settings)
        picture["time_seconds"] = frame.time_seconds
        return picture

    with open_clip(source, Bounds(settings.max_pixels, settings.max_seconds), strict=strict) as clip:
        pictures = list(clip.each(settings.wanted, save, threads=settings.threads))
        return pictures, clip.info(), clip.footage()


def _save(pixels_hwc: NDArray[np.uint8], frames: Path, stem: str, settings: Settings) -> Picture:
    name = stem + settings.suffix
    bgr_hwc = to_rgb.bgr(pixels_hwc)
    encoded = _encode(bgr_hwc, name, settings)
    try:
        (frames / name).parent.mkdir(parents=True, exist_ok=True)
        (frames / name).write_bytes(encoded)
    except OSError as error:
        raise PipeError(f"{name}: cannot be written ({error.strerror}); make room for it, then run again") from error
    luma_hw = quality.luma_of_bgr(bgr_hwc)
    return {
        "path": name,
        "time_seconds": None,
        "width": pixels_hwc.shape[1],
        "height": pixels_hwc.shape[0],
        "sharpness": quality.sharpness(luma_hw),
        "brightness": quality.brightness(luma_hw),
        "phash": quality.phash(luma_hw),
        "drop_reason": "",
    }


def _encode(bgr_hwc: NDArray[np.uint8], name: str, settings: Settings) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, settings.jpeg_quality] if settings.suffix == ".jpg" else []
    done, encoded = cv2.imencode(settings.suffix, bgr_hwc, options)
    if not done:
        size = f"{bgr_hwc.shape[1]} x {bgr_hwc.shape[0]} pixels"
        raise DataError(f"{name}: {size} do not fit into {settings.suffix}; set extract.image_format: png")
    return encoded.tobytes()
