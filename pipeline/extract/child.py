"""The child process of `extract`: decodes recordings, writes their pictures and measures them.

The parent calls `decode_recordings` in a child process. Its arguments and its result travel as JSON: `Settings` and
`Outcome` convert themselves to JSON and back, and nothing else does.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.base.child_process import serve_no_other_call
from pipeline.base.errors import DataError, PipeError
from pipeline.base.files import sha256_of
from pipeline.extract import quality
from pipeline.extract.fingerprint import FingerprintCollector, to_text
from pipeline.extract.sound import sound_fingerprint
from pipeline.media import photos
from pipeline.media.capture import Capture, capture_of_clip
from pipeline.media.recordings import has_clip_suffix
from runtime.clips.clip import ClipInfo, Frame, open_clip
from runtime.clips.decode_plan import Wanted
from runtime.clips.demuxer import Bounds, DamagedClipError
from runtime.clips.packet_stats import PacketStats
from runtime.errors import ClipError, ImageError

_CV2_NO_MEMORY = -4  # StsNoMem


@dataclass(frozen=True)
class Settings:
    """The part of the stage's params that a child process needs."""

    wanted: Wanted  # which frames of a clip
    suffix: str  # .jpg or .png
    jpeg_quality: int  # 1 to 100
    max_pixels: int  # width times height
    max_seconds: float  # longest duration of a clip
    threads: int  # that decode one clip; their number changes no byte
    deinterlace: bool = True  # interlaced clips
    raw_frames_per_second: float | None = None  # of a stream without a container; None: as it states, else 25
    sample_bits: int | None = None  # of photos with 16 bits that do not say so themselves

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Settings:
        """Read what `to_json` gave."""
        return cls(**fields | {"wanted": Wanted(**fields["wanted"])})


@dataclass(frozen=True)
class Picture:
    """One written picture. The fields are named as in `manifest.Row`."""

    path: str  # relative to the folder of frames
    time_seconds: float | None  # presentation time in the clip; None for a photo
    width: int  # pixels
    height: int  # pixels
    sharpness: float
    brightness: float
    phash: str
    sha256: str  # of the picture's file
    drop_reason: str = ""  # empty before screening, and for a picture that screening keeps


@dataclass(frozen=True)
class Outcome:
    """What decoding one recording gave: pictures, or `damage` that left no picture, or an `error`."""

    sha256: str = ""  # of the recording's file
    pictures: tuple[Picture, ...] = ()  # in presentation order
    clip: dict[str, Any] | None = (
        None  # the fields of ClipInfo, and in `footage` those of PacketStats; None for a photo
    )
    damage: str = ""  # what is damaged, without the name of the file; empty for an undamaged recording
    misnamed: str = ""  # what the content is where the suffix says something else, such as "PNG named .jpg"
    warnings: tuple[str, ...] = ()  # of a photo: what of its file is left out; those of a clip are in `clip`
    fingerprint: str = ""  # of a clip, as `fingerprint.to_text` gives it
    sound: str = ""  # the fingerprint of its sound, in the same way; empty where there is none that decodes
    error: str = ""  # one line, with the name of the file, that says why the recording cannot be used
    capture: Capture = field(default_factory=Capture)  # when, with which camera and in which burst, as the content says

    def to_json(self) -> dict[str, Any]:
        """The outcome as JSON values. `error` is left out where it is empty, as in every entry of the clip cache."""
        fields = asdict(self)
        return fields if self.error else {name: value for name, value in fields.items() if name != "error"}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Outcome:
        """Read what `to_json` gave."""
        pictures = tuple(Picture(**picture) for picture in fields["pictures"])
        capture = Capture(**fields["capture"])
        return cls(**fields | {"pictures": pictures, "warnings": tuple(fields["warnings"]), "capture": capture})


def decode_recordings(
    sources: Sequence[tuple[str, str]], frames: str, settings: dict[str, Any], digests: dict[str, str]
) -> list[dict[str, Any]]:
    """Decode recordings one after the other. This is the function that the parent calls in a child process.

    Args:
        sources: (file, name) of each recording.
        frames: existing folder, where a clip becomes <name>/<index>.jpg and a photo <name>.jpg.
        settings: `Settings` as JSON.
        digests: the SHA-256 of recordings that the parent has hashed already, by their names.

    Returns:
        One `Outcome` per recording, as JSON.

    Raises:
        PipeError: a picture cannot be written.
        MemoryError: there is not enough memory.
    """
    cv2.setNumThreads(1)  # children run side by side already
    parsed = Settings.from_json(settings)
    outcomes = [
        decode_recording(Path(source), name, Path(frames), parsed, digests.get(name, "")) for source, name in sources
    ]
    if any(outcome.damage or outcome.error for outcome in outcomes):
        serve_no_other_call()
    return [outcome.to_json() for outcome in outcomes]


def decode_recording(source: Path, name: str, frames: Path, settings: Settings, sha256: str = "") -> Outcome:
    """Decode one recording, and write and measure its pictures.

    Args:
        source: the clip or photo.
        name: where its pictures go below `frames`: a clip's to <name>/<index>.jpg, a photo's to <name>.jpg.
        frames: existing folder.
        settings: which frames to decode, and how to write them.
        sha256: the digest of the file; empty to compute it.

    Raises:
        PipeError: a picture cannot be written.
        MemoryError: there is not enough memory.
    """
    try:
        if photos.is_photo(source):
            return _decode_photo(source, name, frames, settings)
        return _decode_clip(source, name, frames, settings, sha256)
    except DamagedClipError as error:
        return Outcome(damage=str(error).removeprefix(f"{source}: "))
    except (DataError, ClipError, ImageError) as error:
        return Outcome(error=str(error))
    except cv2.error as error:
        if error.code == _CV2_NO_MEMORY:
            raise MemoryError from error
        raise


def to_bgr(pixels_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert RGB to OpenCV's order, BGR. This costs nothing where the picture is a view of BGR memory.

    Args:
        pixels_hwc: (height, width, 3) uint8 RGB.
    """
    reversed_hwc = pixels_hwc[:, :, ::-1]
    if reversed_hwc.flags.c_contiguous:
        return reversed_hwc
    return np.asarray(cv2.cvtColor(pixels_hwc, cv2.COLOR_RGB2BGR), dtype=np.uint8)


def misnamed_clip(path: Path) -> str:
    """The value of `Outcome.misnamed` for a clip that is stored under this name."""
    return "" if has_clip_suffix(path) else f"video named {path.suffix}"


def _decode_photo(source: Path, name: str, frames: Path, settings: Settings) -> Outcome:
    photo = photos.read_photo(source, max_pixels=settings.max_pixels, sample_bits=settings.sample_bits)
    picture = _write_picture(photo.pixels_hwc, frames, name, settings)
    return Outcome(
        sha256_of(source), (picture,), misnamed=photo.misnamed, warnings=photo.warnings, capture=photo.capture
    )


@dataclass(frozen=True)
class _ClipFacts:
    """What a clip tells beside its pictures."""

    info: ClipInfo
    stats: PacketStats
    capture: Capture
    fingerprint: str


def _decode_clip(source: Path, name: str, frames: Path, settings: Settings, sha256: str) -> Outcome:
    with ThreadPoolExecutor(1) as pool:
        digest = None if sha256 else pool.submit(sha256_of, source)
        try:
            pictures, clip_facts = _write_wanted_frames(source, name, frames, settings, strict=True)
        except DamagedClipError:
            shutil.rmtree(frames / name, ignore_errors=True)
            pictures, clip_facts = _write_wanted_frames(source, name, frames, settings, strict=False)
    return Outcome(
        sha256=digest.result() if digest else sha256,
        pictures=tuple(pictures),
        clip=asdict(clip_facts.info) | {"footage": asdict(clip_facts.stats)},
        damage="" if clip_facts.info.first_damage_seconds is None else "; ".join(clip_facts.info.warnings),
        misnamed=misnamed_clip(source),
        capture=clip_facts.capture,
        fingerprint=clip_facts.fingerprint,
        sound=_sound_text(source),
    )


def _sound_text(source: Path) -> str:
    sound = sound_fingerprint(source)
    return "" if sound is None else to_text(sound)


def _write_wanted_frames(
    source: Path, name: str, frames: Path, settings: Settings, *, strict: bool
) -> tuple[list[Picture], _ClipFacts]:
    def write_frame(frame: Frame) -> Picture:
        picture = _write_picture(frame.pixels_hwc, frames, f"{name}/{frame.index:06d}", settings)
        return replace(picture, time_seconds=frame.time_seconds)

    bounds = Bounds(settings.max_pixels, settings.max_seconds, settings.raw_frames_per_second)
    collector = FingerprintCollector()
    with open_clip(source, bounds, strict=strict, deinterlace=settings.deinterlace, watch=collector) as clip:
        pictures = list(clip.map_frames(settings.wanted, write_frame, threads=settings.threads))
        facts = _ClipFacts(
            clip.info(), clip.packet_stats(), capture_of_clip(clip.metadata()), to_text(collector.fingerprint())
        )
        return pictures, facts


def _write_picture(pixels_hwc: NDArray[np.uint8], frames: Path, stem: str, settings: Settings) -> Picture:
    name = stem + settings.suffix
    bgr_hwc = to_bgr(pixels_hwc)
    encoded = _encode(bgr_hwc, name, settings)
    try:
        (frames / name).parent.mkdir(parents=True, exist_ok=True)
        (frames / name).write_bytes(encoded)
    except OSError as error:
        raise PipeError(f"{name}: cannot be written ({error.strerror}); make room for it, then run again") from error
    luma_hw = quality.luma_of_bgr(bgr_hwc)
    return Picture(
        path=name,
        time_seconds=None,
        width=pixels_hwc.shape[1],
        height=pixels_hwc.shape[0],
        sharpness=quality.sharpness(luma_hw),
        brightness=quality.brightness(luma_hw),
        phash=quality.phash(luma_hw),
        sha256=hashlib.sha256(encoded).hexdigest(),
    )


def _encode(bgr_hwc: NDArray[np.uint8], name: str, settings: Settings) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, settings.jpeg_quality] if settings.suffix == ".jpg" else []
    succeeded, encoded = cv2.imencode(settings.suffix, bgr_hwc, options)
    if not succeeded:
        size = f"{bgr_hwc.shape[1]} x {bgr_hwc.shape[0]} pixels"
        raise DataError(f"{name}: {size} do not fit into {settings.suffix}; set extract.image_format: png")
    return encoded.tobytes()
