"""Copy clips and photos into the project's `data/raw/<label>/`: all of them or none."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import DataError
from pipeline.base.files import flush_filesystem, sha256_of, temporary_folder
from pipeline.base.project import Project
from pipeline.media import recordings

MAX_NAME_BYTES = 255  # longest folder name on the file systems of Linux, macOS and Windows
_ADDED = "added"  # part of the name of the hidden folder that holds copies until they get their names


@dataclass(frozen=True)
class AddReport:
    """What `add` copied."""

    n_added: int
    n_present: int  # files that were already there with the same content
    folder: str  # relative to the project

    @property
    def headline(self) -> str:
        """One line: how many files were copied, and where they are."""
        present = f" ({self.n_present} already there)" if self.n_present else ""
        return f"{self.n_added} files added to {self.folder}{present}"


def add(paths: Sequence[Path], label: str, project: Project) -> AddReport:
    """Copy clips, photos, and folders of them into `data/raw/<label>/`; a folder keeps its subfolders.

    Args:
        paths: clips, photos or folders.
        label: the class that they show.
        project: the project to copy them into.

    Raises:
        DataError: the label cannot name a folder; a path is missing, or is neither clip nor photo; a folder has
            neither; or a file of the same name has other content. Then nothing was copied.
    """
    check_label(label)
    folder = project.raw / label
    copies: dict[Path, Path] = {}
    for source, name in _media(paths):
        recordings.check_name(name.as_posix())
        target = folder / name
        if target in copies and sha256_of(source) != sha256_of(copies[target]):
            raise DataError(f"{source}: has the name of {copies[target]}, but other content; rename one of them")
        copies[target] = source
    new = {target: source for target, source in copies.items() if not _is_present(source, target)}
    _copy_all(new, folder)
    return AddReport(len(new), len(copies) - len(new), project.relative(folder))


def check_label(label: str) -> None:
    """Refuse a label that cannot be the name of one visible folder.

    Raises:
        DataError: the label is empty, hidden or too long, has blanks at an end, or would leave `data/raw`.
    """
    recordings.check_name(label)
    if not label or label.startswith(".") or "/" in label or label != label.strip():
        raise DataError(
            f"--label {label!r}: not the name of a folder; expected one without / and without a leading dot"
        )
    if len(label.encode()) > MAX_NAME_BYTES:
        raise DataError(f"--label {label!r}: too long; expected at most {MAX_NAME_BYTES} bytes")


def _media(paths: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield each clip and photo with its path below the folder of its class."""
    for path in paths:
        if path.is_dir():
            files = [file for file in recordings.walk(path) if recordings.has_media_suffix(file)]
            if not files:
                raise DataError(f"{path}: no clip or photo in it; expected at least one")
            yield from ((file, file.relative_to(path)) for file in files)
        elif not path.is_file():
            raise DataError(f"{path}: no such file; expected a clip, a photo or a folder of them")
        elif not recordings.has_media_suffix(path) or path.name.startswith("."):
            suffixes = "such as .mp4, .mov, .jpg, .png or .heic (docs/extract.md has all)"
            raise DataError(f"{path}: neither clip nor photo by its name; expected a visible file {suffixes}")
        else:
            yield path, Path(path.name)


def _is_present(source: Path, target: Path) -> bool:
    if not target.exists():
        return False
    if sha256_of(source) == sha256_of(target):
        return True
    raise DataError(f"{target}: a file with other content is there; rename {source} or remove the other")


def _copy_all(copies: dict[Path, Path], folder: Path) -> None:
    try:
        # All copies are on disk before the first one gets its name, so a full disk leaves no file behind.
        with contextlib.ExitStack() as stack:
            parents = sorted({target.parent for target in copies})
            hidden = {parent: stack.enter_context(temporary_folder(parent / _ADDED)) for parent in parents}
            for target, source in copies.items():
                shutil.copyfile(source, hidden[target.parent] / target.name)
            for temporary in hidden.values():  # every folder, since a subfolder may be a link to another disk
                flush_filesystem(temporary)
            for target in sorted(copies):
                (hidden[target.parent] / target.name).rename(target)
            for parent in parents:
                flush_filesystem(parent)
    finally:
        created = {parent for target in copies for parent in target.parents if parent.is_relative_to(folder)}
        for parent in sorted(created, reverse=True):
            with contextlib.suppress(OSError):  # not empty: the copies are in it
                parent.rmdir()
