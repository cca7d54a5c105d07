"""Recordings to frames: decodes each clip once, in a child process, and writes and screens the wanted frames.

Decoded clips are cached (`clip_cache`): a new clip costs only its own decoding, and a killed run resumes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from pipeline.base import manifest
from pipeline.base.engine import each_anywhere
from pipeline.base.errors import DataError
from pipeline.base.files import exclusive_lock, replacing_folder, write_json
from pipeline.base.fingerprints import PICTURES, SOUND
from pipeline.base.manifest import Row
from pipeline.base.parallel import threads_for_each
from pipeline.base.project import Project
from pipeline.base.report_digest import hashes_of, write_report
from pipeline.base.words import counted
from pipeline.extract import screening
from pipeline.extract.child import Outcome, Settings
from pipeline.extract.clip_cache import ClipCache
from pipeline.extract.damage import PolicyResult, apply_policy
from pipeline.extract.decode_all import Limits, ParallelDecoder
from pipeline.extract.fingerprint import file_of_text
from pipeline.extract.params import ExtractParams, ScreeningParams
from pipeline.media.capture import completed_by_name
from pipeline.media.recordings import RawFiles, Recording, check_lengths, check_name, count_unread, find_recordings
from runtime.clips.decode_plan import Wanted

MOST_THREADS = 4  # that decode one clip; like the bound on pixels in media/clip.py, it bounds memory
# Names in a folder outside a project. Below a git repository git is to ignore it, as it ignores data/frames.
MANIFEST, REPORT, IGNORE = "frames.csv", "extract.json", ".gitignore"
_IGNORE_ALL = "*\n"

Note = TypeVar("Note", str, list[str])
Decoded = Sequence[tuple[Recording, Outcome]]


@dataclass(frozen=True)
class ExtractReport:
    """What `extract` wrote."""

    n_frames: int  # rows of the manifest, photos included
    n_photos: int
    classes: dict[str, dict[str, int]]  # per class: clips, photos, frames, kept
    clips: tuple[
        dict[str, Any], ...
    ]  # per clip: source, sha256, the fields of Outcome.clip, frames_extracted, measures
    left_out: dict[str, str]  # sources that are not used because they are damaged, with the damage
    ignored: tuple[str, ...]  # files that are neither clip nor photo, relative to data/raw
    unread: dict[str, str]  # recordings under a suffix that is not read: their format by name, relative to data/raw
    linked_folders: tuple[str, ...]  # relative to data/raw; their recordings are used, but DVC does not look at them
    misnamed: dict[str, str]  # sources whose content is not what their suffix says, such as "PNG named .jpg"
    photo_warnings: dict[str, list[str]]  # by source: what of a photo's file is left out
    params: dict[str, Any]
    manifest_path: str  # for the headline; not in the JSON

    @property
    def headline(self) -> str:
        """One line: what was written, where it is, and what to look at."""
        numbers = {"clip": len(self.clips), "photo": self.n_photos}
        recordings = " and ".join(counted(number, kind) for kind, number in numbers.items() if number)
        return f"{counted(self.n_frames, 'frame')} of {recordings} in {self.manifest_path}{''.join(self._notes())}"

    def _notes(self) -> Iterator[str]:
        n_warned = sum(bool(clip["warnings"]) for clip in self.clips)
        n_dropped = self.n_frames - sum(counts["kept"] for counts in self.classes.values())
        if n_dropped:
            yield f"; {n_dropped} screened out"
        if n_warned:
            yield f"; {counted(n_warned, 'clip')} with warnings"
        if self.photo_warnings:
            yield f"; {counted(len(self.photo_warnings), 'photo')} with warnings"
        if self.left_out:
            yield f"; {len(self.left_out)} left out as damaged"
        if self.unread:
            yield f"; {count_unread(self.unread)}"
        if self.ignored:
            yield f"; {counted(len(self.ignored), 'file')} ignored"
        if self.linked_folders:
            yield f"; {counted(len(self.linked_folders), 'linked folder')}, of which dvc repro sees no change"
        if self.misnamed:
            yield f"; {len(self.misnamed)} with a wrong suffix"

    def to_json(self) -> dict[str, Any]:
        """The report as `extract.json` holds it."""
        return {
            "n_frames": self.n_frames,
            "n_clips": len(self.clips),
            "n_photos": self.n_photos,
            "classes": self.classes,
            "clips": list(self.clips),
            "left_out": self.left_out,
            "ignored": list(self.ignored),
            "unread": self.unread,
            "linked_folders": list(self.linked_folders),
            "misnamed": self.misnamed,
            "photo_warnings": self.photo_warnings,
            "params": self.params,
        }


@dataclass(frozen=True)
class _Paths:
    """Where recordings are found and how paths are written: in a project, or in a folder outside a project."""

    sources: PurePosixPath  # before the names of recordings in the manifest
    frames: PurePosixPath  # before the paths of pictures in the manifest
    manifest: str  # the manifest as the headline names it
    root: Path | None = None  # folder that the paths of recordings are relative to; None for the working directory
    cache: ClipCache | None = None  # None outside a project


def extract(params: ExtractParams, project: Project, sample_bits: int | None = None) -> ExtractReport:
    """Write the wanted frames of every clip in `data/raw`, and every photo.

    Reads `data/raw`; writes `data/frames` and `data/fingerprints`, then the manifest `data/frames.csv`, then
    `reports/extract.json`.

    Args:
        params: the section `extract` of `params.yaml`.
        project: whose recordings are read.
        sample_bits: `image.sample_bits`: how many bits of 16 count in photos that do not say so themselves.

    Raises:
        DataError: `data/raw` does not hold two classes with media in each, or a recording cannot be used (the message
            names the first and counts the others), or damage or screening leave a class without frames, or another
            `pipe extract` runs here. The outputs of an earlier run stay.
        PipeError: a frame cannot be written. The outputs of an earlier run stay.
    """
    raw = find_recordings(project, params.layout)
    sources, frames_folder = (PurePosixPath(project.relative(path)) for path in (project.raw, project.frames))
    cache = ClipCache(project.cache / "clips")
    paths = _Paths(sources, frames_folder, project.relative(project.frames_csv), project.root, cache)
    with exclusive_lock(project, "pipe extract"):
        with replacing_folder(project.frames) as frames:
            result = _decode(raw.recordings, frames, _settings(params, len(raw.recordings), sample_bits), params, paths)
            screened = _screen(result.kept, frames, params)
            screening.check_no_class_is_empty(
                (recording.label, picture.drop_reason)
                for recording, outcome in screened
                for picture in outcome.pictures
            )
            # The old manifest must not vouch for the new frames if this process dies before it writes its own.
            project.frames_csv.unlink(missing_ok=True)
        _write_fingerprints(screened, project)
        rows = _rows(screened, paths)
        manifest.write(rows, project.frames_csv)
        report = _report(screened, rows, raw, result.left_out, params, paths)
        # The report itself lists the recordings that it was made from, with their hashes.
        written = hashes_of([project.frames_csv], project)
        write_report(project.extract_json, report.to_json(), made_from={}, wrote=written)
    return report


def extract_files(
    paths: Sequence[Path], out: Path, params: ExtractParams, sample_bits: int | None = None
) -> ExtractReport:
    """Write the wanted frames of single videos and photos to a folder, with `frames.csv` and `extract.json`.

    Each file is a class of its own, named by its stem. The folder appears whole or not at all. It replaces a folder
    that this function wrote, and no other. Inside a git repository it holds a `.gitignore`, so that git ignores it.

    Args:
        paths: clips and photos, at least one, no two of the same file name.
        out: the folder to write.
        params: which frames are wanted, and how they are written; `layout` does not count.
        sample_bits: as for `extract`.

    Raises:
        DataError: a file cannot be used, two have one name, or `out` holds files of somebody else.
        PipeError: a frame cannot be written.
    """
    recordings = [Recording(path, path.name, path.stem) for path in paths]
    _check_names(recordings, out)
    _check_out(out)
    standalone = _Paths(PurePosixPath(), PurePosixPath(), (out / MANIFEST).as_posix())
    with replacing_folder(out.resolve()) as folder:
        result = _decode(recordings, folder, _settings(params, len(recordings), sample_bits), params, standalone)
        screened = _screen(result.kept, folder, params)
        rows = _rows(screened, standalone)
        manifest.write(rows, folder / MANIFEST)
        report = _report(screened, rows, RawFiles(tuple(recordings)), result.left_out, params, standalone)
        write_json(folder / REPORT, report.to_json())
        if any((parent / ".git").exists() for parent in out.resolve().parents):
            (folder / IGNORE).write_text(_IGNORE_ALL, encoding="ascii", newline="\n")
    return report


def _check_names(recordings: Sequence[Recording], out: Path) -> None:
    if not recordings:
        raise DataError("no video is named; expected at least one")
    for path in (recording.path for recording in recordings):
        check_lengths(path.name, out)
        if path.exists() and not path.is_file():  # reading a pipe would wait for its writer
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
    if (out / IGNORE).is_file() and (out / IGNORE).read_bytes() == _IGNORE_ALL.encode():
        ours.add(IGNORE)
    foreign = sorted(present - ours - {MANIFEST, REPORT})
    if foreign:
        raise DataError(
            f"{out}: holds {foreign[0]}, which `pipe extract` did not write; choose another folder with --out"
        )


def _decode(
    recordings: Sequence[Recording], frames: Path, settings: Settings, params: ExtractParams, paths: _Paths
) -> PolicyResult:
    """Decode all recordings into the folder `frames`, and apply the policy for damaged ones.

    Raises:
        DataError: a recording cannot be used.
    """
    limits = Limits(params.decode_timeout_seconds, round(params.decode_max_gigabytes * 1e9))
    decoder = ParallelDecoder(settings, limits, paths.root, paths.cache)
    return apply_policy(recordings, decoder.decode(recordings, frames), params.on_damage, frames)


def _settings(params: ExtractParams, n_recordings: int, sample_bits: int | None) -> Settings:
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
        raw_frames_per_second=params.raw_frames_per_second,
        deinterlace=params.deinterlace == "auto",
        sample_bits=sample_bits,
    )


def _screen(decoded: Decoded, frames: Path, params: ExtractParams) -> Decoded:
    """The same outcomes, with the reasons why screening drops pictures."""
    if params.keep_all:
        return decoded

    return list(each_anywhere(partial(_screen_recording, frames, params.screening), decoded, "screen"))


def _screen_recording(
    frames: Path, params: ScreeningParams, pair: tuple[Recording, Outcome]
) -> tuple[Recording, Outcome]:
    recording, outcome = pair
    reasons = screening.screen(outcome.pictures, frames, params)
    pictures = (replace(picture, drop_reason=reason) for picture, reason in zip(outcome.pictures, reasons, strict=True))
    return recording, replace(outcome, pictures=tuple(pictures))


def _write_fingerprints(decoded: Decoded, project: Project) -> None:
    """Write the fingerprints of every clip, in the place of those of an earlier run."""
    with replacing_folder(project.fingerprints) as folder:
        for recording, outcome in decoded:
            for text, suffix in ((outcome.fingerprint, PICTURES), (outcome.sound, SOUND)):
                if text:
                    path = folder / f"{recording.name}{suffix}"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(file_of_text(text))


def _rows(decoded: Decoded, paths: _Paths) -> list[Row]:
    captures = [completed_by_name(outcome.capture, recording.path.name) for recording, outcome in decoded]
    return [
        Row(
            path=str(paths.frames / picture.path),
            label=recording.label,
            source=str(paths.sources / recording.name),
            source_sha256=outcome.sha256,
            group=str(paths.sources / recording.name),
            given_split=recording.given_split,
            time_seconds=picture.time_seconds,
            width=picture.width,
            height=picture.height,
            sharpness=picture.sharpness,
            brightness=picture.brightness,
            phash=picture.phash,
            sha256=picture.sha256,
            kept=not picture.drop_reason,
            drop_reason=picture.drop_reason,
            recorded_at=capture.recorded_at,
            camera=capture.camera,
            burst=capture.burst,
        )
        for (recording, outcome), capture in zip(decoded, captures, strict=True)
        for picture in outcome.pictures
    ]


def _report(
    decoded: Decoded,
    rows: Sequence[Row],
    raw: RawFiles,
    left_out: Mapping[str, str],
    params: ExtractParams,
    paths: _Paths,
) -> ExtractReport:
    clips = tuple(
        _clip_report(str(paths.sources / recording.name), outcome, outcome.clip)
        for recording, outcome in decoded
        if outcome.clip is not None
    )
    return ExtractReport(
        n_frames=len(rows),
        n_photos=len(decoded) - len(clips),
        classes=_class_counts(decoded, manifest.class_names(rows)),
        clips=clips,
        left_out=_by_source(left_out, paths),
        ignored=raw.ignored,
        unread=raw.unread,
        linked_folders=raw.linked_folders,
        misnamed=_by_source({recording.name: outcome.misnamed for recording, outcome in decoded}, paths),
        photo_warnings=_by_source({recording.name: list(outcome.warnings) for recording, outcome in decoded}, paths),
        params=params.model_dump(),
        manifest_path=paths.manifest,
    )


def _by_source(notes: Mapping[str, Note], paths: _Paths) -> dict[str, Note]:
    """Notes on recordings by their sources, without the empty ones."""
    return {str(paths.sources / name): note for name, note in notes.items() if note}


def _clip_report(source: str, outcome: Outcome, clip: dict[str, Any]) -> dict[str, Any]:
    measured = {"frames_extracted": len(outcome.pictures), **screening.measures(outcome.pictures)}
    return {"source": source, "sha256": outcome.sha256, **clip, **measured}


def _class_counts(decoded: Decoded, labels: Sequence[str]) -> dict[str, dict[str, int]]:
    classes = {label: {"clips": 0, "photos": 0, "frames": 0, "kept": 0} for label in labels}
    for recording, outcome in decoded:
        counts = classes[recording.label]
        counts["clips" if outcome.clip else "photos"] += 1
        counts["frames"] += len(outcome.pictures)
        counts["kept"] += sum(not picture.drop_reason for picture in outcome.pictures)
    return classes
