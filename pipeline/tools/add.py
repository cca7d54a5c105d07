"""Files into the project: clips and photos are copied into `data/raw/<label>/`, all of them or none."""

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

MAX_NAME_BYTES = 255  # of a folder, on the file systems of Linux, macOS and Windows
_ADDED = "added"  # beside the files of a folder, hidden: what has not got its name yet


@dataclass(frozen=True)
class AddReport:
    """What `add` did."""

    n_added: int
    n_present: int  # the same content was there already
    folder: str  # relative to the project

    @property
    def headline(self) -> str:
        """One line: how many files were copied, and where they are."""
        present = f" ({self.n_present} already there)" if self.n_present else ""
        return f"{self.n_added} files added to {self.folder}{present}"


def add(paths: Sequence[Path], label: str, project: Project) -> AddReport:
    """Copy clips and photos, and those in folders (with their folders below), into `data/raw/<label>/`.

    Raises:
        DataError: the label is no name of a folder; a path is missing or no clip or photo; a folder has none; a file of
            the same name but with other content is there. Nothing has been copied then.
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
    """Refuse what cannot be the name of one visible folder.

    Raises:
        DataError: it is empty, hidden, too long, has blanks at an end, or would leave `data/raw`.
    """
    recordings.check_name(label)
    if not label or label.startswith(".") or "/" in label or label != label.strip():
        raise DataError(
            f"--label {label!r}: not the name of a folder; expected one without / and without a leading dot"
        )
    if len(label.encode()) > MAX_NAME_BYTES:
        raise DataError(f"--label {label!r}: too long; expected at most {MAX_NAME_BYTES} bytes")


def _media(paths: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Each clip and photo, and its name below the folder of its class."""
    for path in paths:
        if path.is_dir():
            found = [file for file in recordings.walk(path) if recordings.has_media_suffix(file)]
            if not found:
                raise DataError(f"{path}: no clip or photo in it; expected at least one")
            yield from ((file, file.relative_to(path)) for file in found)
        elif not path.is_file():
            raise DataError(f"{path}: no such file; expected a clip, a photo or a folder of them")
        elif not recordings.has_media_suffix(path) or path.name.startswith("."):
            known = "such as .mp4, .mov, .jpg, .png or .heic (docs/extract.md has all)"
            raise DataError(f"{path}: neither clip nor photo by its name; expected a visible file {known}")
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
        # Everything is on disk before the first file gets its name: a full disk leaves none behind.
        with contextlib.ExitStack() as stack:
            parents = sorted({target.parent for target in copies})
            beside = {parent: stack.enter_context(temporary_folder(parent / _ADDED)) for parent in parents}
            for target, source in copies.items():
                shutil.copyfile(source, beside[target.parent] / target.name)
            for temporary in beside.values():  # a folder below may be a link to another disk
                flush_filesystem(temporary)
            for target in sorted(copies):
                (beside[target.parent] / target.name).rename(target)
            for parent in parents:
                flush_filesystem(parent)
    finally:
        made = {parent for target in copies for parent in target.parents if parent.is_relative_to(folder)}
        for empty in sorted(made, reverse=True):
            with contextlib.suppress(OSError):  # not empty: all is well
                empty.rmdir()
