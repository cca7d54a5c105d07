"""Recordings to frames: each clip is decoded once, in a child process; its wanted frames are written and screened.

What was decoded is kept (`clip_cache`): a new clip costs its own decoding and no other, and a killed run goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.files import exclusive_lock, replacing_folder, write_json
from pipeline.base.manifest import Row
from pipeline.base.parallel import each, threads_for_each
from pipeline.base.project import Project
from pipeline.extract import screening
from pipeline.extract.child import Picture, Recorded, Settings
from pipeline.extract.clip_cache import ClipCache
from pipeline.extract.damage import Settled, settle
from pipeline.extract.decode_all import Limits, Recorder
from pipeline.extract.params import ExtractParams
from pipeline.media.decode_plan import Wanted
from pipeline.media.recordings import Recording, check_name, find

MOST_THREADS = 4  # at work on one clip, for the same reason as video's bound on their pixels
MANIFEST, REPORT = "frames.csv", "extract.json"  # in a folder that stands alone


@dataclass(frozen=True)
class ExtractReport:
    """What `extract` made."""

    n_frames: int  # rows of the manifest, photos included
    n_photos: int
    classes: dict[str, dict[str, int]]  # per class: clips, photos, frames, kept
    clips: tuple[dict[str, Any], ...]  # per clip: source, sha256, what Recorded.clip has, frames_extracted, measures
    left_out: dict[str, str]  # sources of which nothing is used because they are damaged, and how
    ignored: tuple[str, ...]  # files that are neither clip nor photo, relative to data/raw
    misnamed: dict[str, str]  # sources whose content is not what their suffix says, such as "PNG named .jpg"
    params: dict[str, Any]
    place: str  # of the manifest

    @property
    def headline(self) -> str:
        """One line: what was made, where it is, and whether there is something to look at."""
        warned = sum(bool(clip["warnings"]) for clip in self.clips)
        n_dropped = self.n_frames - sum(counts["kept"] for counts in self.classes.values())
        notes = f"; {n_dropped} screened out" if n_dropped else ""
        notes += f"; {warned} clips with warnings" if warned else ""
        notes += f"; {len(self.left_out)} left out as damaged" if self.left_out else ""
        notes += f"; {len(self.ignored)} files ignored" if self.ignored else ""
        notes += f"; {len(self.misnamed)} with a wrong suffix" if self.misnamed else ""
        return f"{self.n_frames} frames of {len(self.clips)} clips and {self.n_photos} photos in {self.place}{notes}"

    def as_json(self) -> dict[str, Any]:
        """The report as `extract.json` holds it."""
        return {
            "n_frames": self.n_frames,
            "n_clips": len(self.clips),
            "n_photos": self.n_photos,
            "classes": self.classes,
            "clips": list(self.clips),
            "left_out": self.left_out,
            "ignored": list(self.ignored),
            "misnamed": self.misnamed,
            "params": self.params,
        }


@dataclass(frozen=True)
class _Place:
    """How paths are spelt: those of a project, or of a folder that stands alone."""

    sources: PurePosixPath  # where the names of recordings start, in the manifest
    frames: PurePosixPath  # where the paths of pictures start, in the manifest
    manifest: str  # the manifest itself, for the reader of the headline
    root: Path | None = None  # where the paths of recordings start; None for the working directory
    cache: ClipCache | None = None  # a folder that stands alone has none


@dataclass(frozen=True)
class _Aside:
    """What gave no row."""

    left_out: dict[str, str]  # by the name of the recording
    ignored: tuple[str, ...]


def extract(params: ExtractParams, project: Project) -> ExtractReport:
    """Write the wanted frames of every clip, and every photo, of `data/raw`.

    Reads `data/raw`; writes `data/frames`, then its manifest `data/frames.csv`, then `reports/extract.json`.

    Raises:
        DataError: `data/raw` does not hold two classes with media in each, or a recording cannot be used (the first
            is named, and how many more there are), or damage or screening leave no frame of a class, or another
            `pipe extract` runs here; what was there before stays.
        PipeError: a frame cannot be written; what was there before stays.
    """
    found = find(project, params.layout)
    sources, frames_folder = (PurePosixPath(project.relative(path)) for path in (project.raw, project.frames))
    cache = ClipCache(project.cache / "clips")
    place = _Place(sources, frames_folder, project.relative(project.frames_csv), project.root, cache)
    with exclusive_lock(project, "pipe extract"):
        with replacing_folder(project.frames) as frames:
            settled = _record(found.recordings, frames, params, place)
            recorded = _screened(settled.recorded, frames, params)
            screening.check_no_class_is_empty(
                (recording.label, picture["drop_reason"])
                for recording, made in recorded
                for picture in made["pictures"]
            )
            # The old manifest must not vouch for the new frames if this process dies before it has written its own.
            project.frames_csv.unlink(missing_ok=True)
        rows = _rows(recorded, place)
        manifest.write(rows, project.frames_csv)
        report = _report(recorded, rows, _Aside(settled.left_out, found.ignored), params, place)
        write_json(project.extract_json, report.as_json())
    return report


def extract_files(paths: Sequence[Path], out: Path, params: ExtractParams) -> ExtractReport:
    """Write the wanted frames of some videos or photos to the folder `out`, with `frames.csv` and `extract.json`.

    Each file is a class of its own, called by its stem. `out` appears whole or not at all; it replaces a folder that
    this function made, and no other.

    Raises:
        DataError: a file cannot be used, two have one name, or `out` holds anything that is not ours.
        PipeError: a frame cannot be written.
    """
    recordings = [Recording(path, path.name, path.stem) for path in paths]
    _check_names(recordings)
    _check_out(out)
    place = _Place(PurePosixPath(), PurePosixPath(), (out / MANIFEST).as_posix())
    with replacing_folder(out.resolve()) as folder:
        settled = _record(recordings, folder, params, place)
        recorded = _screened(settled.recorded, folder, params)
        rows = _rows(recorded, place)
        manifest.write(rows, folder / MANIFEST)
        report = _report(recorded, rows, _Aside(settled.left_out, ()), params, place)
        write_json(folder / REPORT, report.as_json())
    return report


def _check_names(recordings: Sequence[Recording]) -> None:
    if not recordings:
        raise DataError("no video is named; expected at least one")
    for path in (recording.path for recording in recordings):
        if path.exists() and not path.is_file():  # a pipe would keep its reader waiting
            raise DataError(f"{path}: not a file; expected a clip or a photo")
    for name, times in Counter(recording.name for recording in recordings).items():
        check_name(name)
        if times > 1:
            raise DataError(f"{name}: {times} files have this name; extract them one by one")


def _check_out(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise DataError(f"{out}: is a file; expected a folder or a free name")
    present = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()}
    ours = {row.path for row in manifest.read(out / MANIFEST)} if MANIFEST in present else set()
    others = sorted(present - ours - {MANIFEST, REPORT})
    if others:
        raise DataError(f"{out}: holds {others[0]}, which is not ours to replace; choose another folder with --out")


def _record(recordings: Sequence[Recording], frames: Path, params: ExtractParams, place: _Place) -> Settled:
    """Decode everything; the pictures lie below `frames` then.

    Raises:
        DataError: a recording cannot be used.
    """
    limits = Limits(params.decode_timeout_seconds, round(params.decode_max_gigabytes * 1e9))
    recorder = Recorder(_settings(params, len(recordings)), limits, place.root, place.cache)
    return settle(recordings, recorder.record(recordings, frames), params.on_damage, frames)


def _settings(params: ExtractParams, n_recordings: int) -> Settings:
    wanted = Wanted(
        params.frames_per_second, params.every_n_frames, params.start_seconds, params.end_seconds, params.max_frames
    )
    return Settings(
        wanted=wanted,
        suffix={"jpeg": ".jpg", "png": ".png"}[params.image_format],
        jpeg_quality=params.jpeg_quality,
        max_pixels=round(params.max_megapixels * 1e6),
        max_seconds=params.max_clip_seconds,
        threads=min(MOST_THREADS, threads_for_each(n_recordings)),
    )


def _screened(
    recorded: Sequence[tuple[Recording, Recorded]], frames: Path, params: ExtractParams
) -> list[tuple[Recording, Recorded]]:
    """The same with the reasons why pictures are dropped."""
    if params.keep_all:
        return list(recorded)

    def screen_one(item: tuple[Recording, Recorded]) -> tuple[Recording, Recorded]:
        recording, made = item
        reasons = screening.screen(made["pictures"], frames, params.screening)
        pictures: list[Picture] = [
            {**picture, "drop_reason": reason} for picture, reason in zip(made["pictures"], reasons, strict=True)
        ]
        return recording, {**made, "pictures": pictures}

    return list(each(screen_one, recorded, "screen"))


def _rows(recorded: Sequence[tuple[Recording, Recorded]], place: _Place) -> list[Row]:
    return [
        Row(
            path=str(place.frames / picture["path"]),
            label=recording.label,
            source=str(place.sources / recording.name),
            source_sha256=outcome["sha256"],
            group=str(place.sources / recording.name),
            given_split=recording.given_split,
            time_seconds=picture["time_seconds"],
            width=picture["width"],
            height=picture["height"],
            sharpness=picture["sharpness"],
            brightness=picture["brightness"],
            phash=picture["phash"],
            kept=not picture["drop_reason"],
            drop_reason=picture["drop_reason"],
        )
        for recording, outcome in recorded
        for picture in outcome["pictures"]
    ]


def _report(
    recorded: Sequence[tuple[Recording, Recorded]],
    rows: Sequence[Row],
    aside: _Aside,
    params: ExtractParams,
    place: _Place,
) -> ExtractReport:
    classes = {label: {"clips": 0, "photos": 0, "frames": 0, "kept": 0} for label in manifest.class_names(rows)}
    clips = []
    for recording, outcome in recorded:
        counts, info, n_frames = classes[recording.label], outcome["clip"], len(outcome["pictures"])
        counts["frames"] += n_frames
        counts["kept"] += sum(not picture["drop_reason"] for picture in outcome["pictures"])
        counts["clips" if info else "photos"] += 1
        if info:
            source = str(place.sources / recording.name)
            measured = {"frames_extracted": n_frames, **screening.measures(outcome["pictures"])}
            clips.append({"source": source, "sha256": outcome["sha256"], **info, **measured})
    n_photos = len(recorded) - len(clips)
    misnamed = {str(place.sources / one.name): outcome["misnamed"] for one, outcome in recorded if outcome["misnamed"]}
    left_out = {str(place.sources / name): damage for name, damage in aside.left_out.items()}
    return ExtractReport(
        n_frames=len(rows),
        n_photos=n_photos,
        classes=classes,
        clips=tuple(clips),
        left_out=left_out,
        ignored=aside.ignored,
        misnamed=misnamed,
        params=params.model_dump(),
        place=place.manifest,
    )
