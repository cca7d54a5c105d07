"""Finds recordings: the clips and photos below `data/raw`, with the class that their folders name."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.base.similar_names import refuse_similar_names
from pipeline.base.words import counted
from pipeline.media import photos
from pipeline.media.contents import recording_content
from runtime.clips.signatures import CLIP_SUFFIXES
from runtime.system.litter import is_litter

SPLIT_FOLDERS = ("train", "val", "test")
_FORBIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, broken Unicode, ends of lines and paragraphs
_FILL_IT = "put clips into data/raw/<class>/, or: pipe add VIDEO --label NAME"
# The longest that is added to a name, as in photo.png.12_mirror_top_bottom.jpg, and to a path, by the clip cache.
_LONGER_NAME, _LONGER_PATH = 35, 160
_ADD_ONE = "add one, or remove the folder"


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
    ignored: tuple[str, ...] = ()  # files that are neither clip nor photo, relative to data/raw, sorted; always Unicode
    unread: dict[str, str] = field(default_factory=dict)  # recordings whose suffix is not read: format by name
    linked_folders: tuple[str, ...] = ()  # links to folders, relative to data/raw: read here, but DVC looks into none


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is passed over: it begins with a dot, or a system has left it behind."""
    return name.startswith(".") or is_litter(name)


def has_clip_suffix(path: Path) -> bool:
    """Whether the file has the suffix of a video, such as .mp4."""
    return path.suffix.lower() in CLIP_SUFFIXES


def has_photo_suffix(path: Path) -> bool:
    """Whether the file has the suffix of a photo, such as .jpg."""
    return path.suffix.lower() in photos.SUFFIXES


def has_media_suffix(path: Path) -> bool:
    """Whether the file has the suffix of a video or a photo."""
    return has_clip_suffix(path) or has_photo_suffix(path)


def find_recordings(project: Project, layout: Literal["class", "split"]) -> RawFiles:
    """List the recordings in `data/raw/<class>/…` or `data/raw/<split>/<class>/…`, without hidden files and litter.

    Raises:
        DataError: there is no data/raw, no class or only one, an empty class, media outside the classes, a folder
            that is no split where splits are expected, or a name that a manifest or a file system cannot hold.
    """
    if not project.raw.is_dir():
        raise DataError(f"{project.relative(project.raw)}: no such folder; {_FILL_IT}")
    recordings: list[Recording] = []
    others = _beside_classes(project, layout)
    for folder, given_split in _class_folders(project, layout):
        files = list(walk(folder))
        in_class = [_recording(project, path, folder.name, given_split) for path in files if has_media_suffix(path)]
        others_in_class = [path for path in files if not has_media_suffix(path)]
        if not in_class:
            unread = but_unread(others_in_class)
            raise DataError(f"{project.relative(folder)}: no clip or photo in it{unread}; {_ADD_ONE}")
        recordings += in_class
        others += others_in_class
    _check_classes(project, layout, {recording.label for recording in recordings})
    contents = {_name(path, project): recording_content(path) for path in others}
    return RawFiles(
        recordings=tuple(sorted(recordings, key=lambda recording: recording.name)),
        ignored=tuple(sorted(name for name, content in contents.items() if content is None)),
        unread={name: content.name for name, content in sorted(contents.items()) if content},
        linked_folders=tuple(_name(path, project) for path in linked_folders(project.raw)),
    )


def walk(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder. Links are followed; hidden files and folders, and litter, are skipped.

    Raises:
        DataError: a link leads back to a folder above it.
    """
    return (path for path in _walk(folder, frozenset()) if not path.is_dir())


def unread_recordings(paths: Iterable[Path]) -> list[Path]:
    """Those of some files that are recordings by their content, under a suffix that is not read."""
    return [path for path in paths if not has_media_suffix(path) and recording_content(path) is not None]


def count_unread(names: Iterable[str | Path]) -> str:
    """Say how many recordings have a suffix that is not read, and which: 2 recordings with …: 1 .dv, 1 .mxf."""
    suffixes = Counter(PurePosixPath(name).suffix.lower() or "without suffix" for name in names)
    listed = ", ".join(f"{n} {suffix}" for suffix, n in sorted(suffixes.items()))
    return f"{counted(suffixes.total(), 'recording')} with a suffix that is not read: {listed}"


def but_unread(files: Iterable[Path]) -> str:
    """The part of an error for a folder without clip and photo that names recordings which are not read."""
    unread = unread_recordings(files)
    return f", but {count_unread(unread)} (docs/extract.md has those that are)" if unread else ""


def check_name(name: str) -> None:
    """Refuse a name that breaks a line, divides folders on Windows, or is not Unicode.

    Raises:
        DataError: the name is one of these.
    """
    if has_forbidden_letter(name):
        raise DataError(f"{name!a}: a backslash, a control character or broken Unicode in its name; rename it")


def has_forbidden_letter(name: str) -> bool:
    """Whether a name breaks a line, divides folders on Windows, or is not Unicode."""
    return "\\" in name or any(unicodedata.category(letter) in _FORBIDDEN for letter in name)


def check_lengths(name: str, root: Path) -> None:
    """Refuse a name that leaves no room for the names of frames, copies and caches, which are made from it.

    Args:
        name: of the recording, with / between its parts: class, folders and file.
        root: the folder that the recording's frames will lie below, or a parent that exists.

    Raises:
        DataError: a part of the name, or all of it below `root`, is too long.
    """
    part_bytes, most_bytes = max(len(os.fsencode(part)) for part in name.split("/")), longest_part(root)
    if part_bytes > most_bytes:
        kind = "file name" if part_bytes == len(os.fsencode(PurePosixPath(name).name)) else "folder name"
        raise DataError(f"{name}: a {kind} of {part_bytes} bytes; expected at most {most_bytes}; rename it")
    whole, most_bytes = len(os.fsencode(root.absolute())) + len(os.fsencode(name)), _limit(root, "PC_PATH_MAX", 4096)
    if whole > most_bytes - _LONGER_PATH:
        most = f"expected at most {most_bytes - _LONGER_PATH}"
        raise DataError(f"{name}: its path has {whole} bytes with those of the project; {most}; rename its folders")


def longest_part(root: Path) -> int:
    """Return the most bytes that a class, a folder or a file may have in its name, on the file system of `root`."""
    return _limit(root, "PC_NAME_MAX", 255) - _LONGER_NAME


def _limit(folder: Path, name: str, usual: int) -> int:
    """A limit of the file system that holds `folder`: an encrypted one takes shorter names than others."""
    present = next((parent for parent in (folder, *folder.absolute().parents) if parent.exists()), Path())
    return os.pathconf(present, name) if hasattr(os, "pathconf") else usual


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
    """Yield every file and folder below a folder, a folder before what is in it."""
    real = folder.resolve()
    if real in above:
        raise DataError(f"{folder}: a link that leads back to a folder above it; remove it")
    for path in _visible(folder):
        yield path
        if path.is_dir():
            yield from _walk(path, above | {real})


def linked_folders(folder: Path) -> Iterator[Path]:
    """Yield every link to a folder below a folder, whose recordings are read too."""
    return (path for path in _walk(folder, frozenset()) if path.is_symlink() and path.is_dir())


def _folders(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_dir()]


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not is_hidden(path.name))


def _name(path: Path, project: Project) -> str:
    """The path below data/raw, with bytes that are not UTF-8 as escapes, so that a report can hold it."""
    return path.relative_to(project.raw).as_posix().encode("utf-8", "backslashreplace").decode("utf-8")


def _recording(project: Project, path: Path, label: str, given_split: str) -> Recording:
    relative = path.relative_to(project.root)
    name = path.relative_to(project.raw).as_posix()
    check_name(relative.as_posix())
    check_lengths(name, project.root)
    if not path.is_file():
        raise DataError(f"{relative}: not a file (a link to nothing?); remove it")
    return Recording(relative, name, label, given_split)


def _check_classes(project: Project, layout: Literal["class", "split"], labels: set[str]) -> None:
    raw = project.relative(project.raw)
    refuse_similar_names(labels, raw)
    if not labels:
        raise DataError(f"{raw}: no classes; {_FILL_IT}")
    if layout == "class" and labels <= {*SPLIT_FOLDERS, "valid", "validation"}:
        raise DataError(
            f"{raw}: the classes are {', '.join(sorted(labels))}; if they are splits, extract.layout: split"
        )
    if len(labels) == 1:
        raise DataError(f"{raw}: one class only ({labels.pop()}); a classifier needs at least two")
