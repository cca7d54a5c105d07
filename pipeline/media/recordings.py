"""Finds recordings: the clips and photos below `data/raw`, with the class that their folders name."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.media import photos
from runtime.clips import demuxer

SPLIT_FOLDERS = ("train", "val", "test")
_FORBIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, broken Unicode, ends of lines and paragraphs
_FILL_IT = "put clips into data/raw/<class>/, or: pipe add VIDEO --label NAME"


@dataclass(frozen=True)
class Recording:
    """A clip or photo below `data/raw`, or one named by itself."""

    path: Path  # as messages name it: relative to the project, or as typed
    name: str  # relative to data/raw, with / between the parts
    label: str
    given_split: str = ""  # train, val or test where the folders say so


@dataclass(frozen=True)
class RawFiles:
    """The files in `data/raw`."""

    recordings: tuple[Recording, ...]  # sorted by name
    ignored: tuple[str, ...]  # files that are neither clip nor photo, relative to data/raw, sorted; always Unicode


def has_clip_suffix(path: Path) -> bool:
    """Whether the file has the suffix of a video, such as .mp4."""
    return path.suffix.lower() in demuxer.SUFFIXES


def has_photo_suffix(path: Path) -> bool:
    """Whether the file has the suffix of a photo, such as .jpg."""
    return path.suffix.lower() in photos.SUFFIXES


def has_media_suffix(path: Path) -> bool:
    """Whether the file has the suffix of a video or a photo."""
    return has_clip_suffix(path) or has_photo_suffix(path)


def find_recordings(project: Project, layout: Literal["class", "split"]) -> RawFiles:
    """List the recordings in `data/raw/<class>/…` or `data/raw/<split>/<class>/…`, without hidden files and folders.

    Raises:
        DataError: there is no data/raw, no class or only one, an empty class, media outside the classes, a folder
            that is no split where splits are expected, or a name that a manifest cannot hold.
    """
    if not project.raw.is_dir():
        raise DataError(f"{project.relative(project.raw)}: no such folder; {_FILL_IT}")
    recordings: list[Recording] = []
    ignored = _beside_classes(project, layout)
    for folder, given_split in _class_folders(project, layout):
        files = list(walk(folder))
        in_class = [_recording(project, path, folder.name, given_split) for path in files if has_media_suffix(path)]
        if not in_class:
            raise DataError(f"{project.relative(folder)}: no clip or photo in it; add one, or remove the folder")
        recordings += in_class
        ignored += [path for path in files if not has_media_suffix(path)]
    _check_classes(project, layout, {recording.label for recording in recordings})
    return RawFiles(
        tuple(sorted(recordings, key=lambda recording: recording.name)),
        tuple(sorted(_escaped(path.relative_to(project.raw).as_posix()) for path in ignored)),
    )


def walk(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder. Links are followed; hidden files and folders are skipped.

    Raises:
        DataError: a link leads back to a folder above it.
    """
    return _walk(folder, frozenset())


def check_name(name: str) -> None:
    """Refuse a name that breaks a line, divides folders on Windows, or is not Unicode.

    Raises:
        DataError: the name is one of these.
    """
    if "\\" in name or any(unicodedata.category(letter) in _FORBIDDEN for letter in name):
        raise DataError(f"{name!a}: a backslash, a control character or broken Unicode in its name; rename it")


def _escaped(name: str) -> str:
    """The name with bytes that are not UTF-8 as escapes, so that a report can hold it."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _beside_classes(project: Project, layout: Literal["class", "split"]) -> list[Path]:
    """The files in folders where only folders of classes, or of splits, are expected."""
    tops = [project.raw, *(_folders(project.raw) if layout == "split" else [])]
    files = [path for top in tops for path in _visible(top) if not path.is_dir()]
    for path in files:
        if has_media_suffix(path):
            raise DataError(f"{project.relative(path)}: outside the classes; move it into the folder of its class")
    return files


def _class_folders(project: Project, layout: Literal["class", "split"]) -> Iterator[tuple[Path, str]]:
    """Yield each class folder with its given split, which is empty where the layout has none."""
    for top in _folders(project.raw):
        if layout == "class":
            yield top, ""
        elif top.name in SPLIT_FOLDERS:
            yield from ((folder, top.name) for folder in _folders(top))
        else:
            raise DataError(f"{project.relative(top)}: not a split; extract.layout: split expects train, val and test")


def _walk(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:
        raise DataError(f"{folder}: a link that leads back to a folder above it; remove it")
    for path in _visible(folder):
        if path.is_dir():
            yield from _walk(path, above | {real})
        else:
            yield path


def _folders(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_dir()]


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _recording(project: Project, path: Path, label: str, given_split: str) -> Recording:
    relative = path.relative_to(project.root)
    check_name(relative.as_posix())
    if not path.is_file():
        raise DataError(f"{relative}: not a file (a link to nothing?); remove it")
    return Recording(relative, path.relative_to(project.raw).as_posix(), label, given_split)


def _check_classes(project: Project, layout: Literal["class", "split"], labels: set[str]) -> None:
    raw = project.relative(project.raw)
    normalized = {unicodedata.normalize("NFC", label): label for label in sorted(labels)}
    if len(normalized) < len(labels):
        twice = next(label for label in sorted(labels) if normalized[unicodedata.normalize("NFC", label)] != label)
        raise DataError(f"{raw}: two folders are called {twice}, in different Unicode spellings; make them one")
    if not labels:
        raise DataError(f"{raw}: no classes; {_FILL_IT}")
    if layout == "class" and labels <= {*SPLIT_FOLDERS, "valid", "validation"}:
        raise DataError(
            f"{raw}: the classes are {', '.join(sorted(labels))}; if they are splits, extract.layout: split"
        )
    if len(labels) == 1:
        raise DataError(f"{raw}: one class only ({labels.pop()}); a classifier needs at least two")
