"""Copy clips and photos into the project's `data/raw/<label>/`, all of them or none, and let DVC track them."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.base.errors import DataError
from pipeline.base.files import flush_filesystem, sha256_of, temporary_folder
from pipeline.base.project import Project
from pipeline.base.words import counted
from pipeline.media import recordings
from pipeline.media.contents import recording_content
from pipeline.media.recordings import count_unread
from pipeline.tools.adding.numbered_photos import Numbering, number_photos
from pipeline.tools.adding.tracked_recordings import Tracking, plan_tracking, refuse_linked_class, track
from pipeline.tools.corrections.named_recordings import refuse_similar_label

_SUFFIXES = "such as .mp4, .mov, .jpg, .png or .heic (docs/extract.md has all)"
# Parts of the names of hidden folders: of copies until they get their names, and of JPEG files that are made here.
_ADDED, _NUMBERED = "added", "numbered"
TRACKING_SENTENCES: dict[Tracking, str] = {
    "tracked": "; DVC tracks them in data/raw.dvc",
    "declined": "",
    "never tracked": "; DVC does not track data/raw, which held recordings before: `dvc add data/raw` changes that",
}


@dataclass(frozen=True)
class AddReport:
    """What `add` copied."""

    n_added: int
    n_present: int  # files that were already there with the same content
    folder: str  # relative to the project
    unread: tuple[Path, ...] = ()  # recordings in the folders, under a suffix that is not read: left where they are
    numbered: tuple[str, ...] = ()  # names of the photos that were numbered
    n_converted: int = 0  # of these, how many are JPEG files of photos in other formats
    tracking: Tracking = "declined"

    @property
    def headline(self) -> str:
        """One line: how many files were copied, and where they are."""
        present = f" ({self.n_present} already there)" if self.n_present else ""
        unread = f"; left out {count_unread(self.unread)}" if self.unread else ""
        numbers = ""
        if self.numbered:
            converted = f", {self.n_converted} of them converted" if self.n_converted else ""
            numbers = f"; {counted(len(self.numbered), 'photo')} from {self.numbered[0]} on{converted}"
        added = f"{counted(self.n_added, 'file')} added to {self.folder}"
        return f"{added}{present}{numbers}{unread}{TRACKING_SENTENCES[self.tracking]}"


@dataclass(frozen=True)
class Renaming:
    """Another name for one file or folder that is added, since two phones count their clips alike."""

    name: str  # of a file without its suffix or with it; of the folder below the class that a folder's files lie in


def add_and_track(
    paths: Sequence[Path],
    label: str,
    project: Project,
    names: Numbering | Renaming | None = None,
    *,
    no_dvc: bool = False,
) -> AddReport:
    """Add recordings as `add` does, and let DVC track them in `data/raw.dvc`, where it does or may begin to.

    Args:
        paths: as for `add`.
        label: as for `add`.
        project: as for `add`.
        names: as for `add`.
        no_dvc: the person wants none of them tracked.

    Raises:
        DataError: as `add`, `plan_tracking` and `refuse_linked_class`; then nothing was copied. Or DVC failed; then the
            recordings are there.
    """
    tracking = plan_tracking(project, declined=no_dvc)
    check_label(label, project)
    if tracking == "tracked":
        refuse_linked_class(label, project)
    report = add(paths, label, project, names)
    if tracking == "tracked":
        track(project)
    return replace(report, tracking=tracking)


def add(paths: Sequence[Path], label: str, project: Project, names: Numbering | Renaming | None = None) -> AddReport:
    """Copy clips, photos, and folders of them into `data/raw/<label>/`; a folder keeps its subfolders.

    Args:
        paths: clips, photos or folders; with a `Renaming` one alone.
        label: the class that they show.
        project: the project to copy them into.
        names: a `Numbering`: photos get numbers and become JPEG files; a `Renaming`: the file or folder gets that name;
            None: every file keeps its name. But for numbered photos every file keeps its bytes.

    Raises:
        DataError: the label or the other name cannot name a folder; a path is missing, or is neither clip nor photo; a
            folder has neither; a photo that is to become a JPEG cannot be read; or a file of the same name has other
            content. Then nothing was copied.
    """
    check_label(label, project)
    _refuse_own_folders(paths, project)
    folder = project.raw / label
    media = list(_media(paths))
    if isinstance(names, Renaming):
        media = [(source, _renamed(name, paths[0], names.name)) for source, name in media]
    if not isinstance(names, Numbering):
        return _add(media, paths, folder, project)
    is_photo = [recordings.has_photo_suffix(source) for source, _ in media]
    photos = [source for (source, _), is_one in zip(media, is_photo, strict=True) if is_one]
    others = [pair for pair, is_one in zip(media, is_photo, strict=True) if not is_one]
    with temporary_folder(project.root / _NUMBERED) as scratch:
        numbered = list(number_photos(photos, folder, names, scratch))
        named = [(photo.content, Path(photo.name)) for photo in numbered]
        report = _add([*others, *named], paths, folder, project)
    return replace(
        report,
        n_present=report.n_present + len(photos) - len(numbered),
        numbered=tuple(photo.name for photo in numbered),
        n_converted=sum(photo.is_converted for photo in numbered),
    )


def _refuse_own_folders(paths: Sequence[Path], project: Project) -> None:
    """Refuse sources that hold recordings and frames of the project, or lie among them: they have classes already."""
    for path, own in itertools.product(paths, (project.raw, project.frames, project.augmented)):
        source, folder = path.resolve(), own.resolve()
        if source.is_relative_to(folder) or folder.is_relative_to(source):
            where = f"lies in {own}" if source.is_relative_to(folder) else f"holds {own}"
            raise DataError(f"{path}: {where}, whose files have classes already; expected recordings from elsewhere")


def _add(media: Iterable[tuple[Path, Path]], paths: Sequence[Path], folder: Path, project: Project) -> AddReport:
    """Copy files under their names below the folder of their class, all or none."""
    n_added, n_present = copy_recordings(((source, Path(folder.name) / name) for source, name in media), project)
    unread = [file for path in paths if path.is_dir() for file in recordings.unread_recordings(recordings.walk(path))]
    return AddReport(n_added, n_present, project.relative(folder), tuple(unread))


def copy_recordings(media: Iterable[tuple[Path, Path]], project: Project) -> tuple[int, int]:
    """Copy files to their paths below `data/raw`, of one class or of several, all or none.

    Args:
        media: each file with its path below `data/raw`; `check_label` has accepted the class in it.
        project: the project to copy them into.

    Returns:
        How many files were copied, and how many were there with the same content.

    Raises:
        DataError: a path is too long or cannot be one, or a file of the same path has other content.
    """
    copies = dict[Path, Path]()
    for source, path in media:
        recordings.check_name(path.relative_to(path.parts[0]).as_posix())
        recordings.check_lengths(path.as_posix(), project.root)
        target = project.raw / path
        if target in copies and sha256_of(source) != sha256_of(copies[target]):
            raise DataError(f"{source}: has the name of {copies[target]}, but other content; rename one of them")
        copies[target] = source
    new = {target: source for target, source in copies.items() if not _is_present(source, target)}
    _copy_all(new, project.raw)
    return len(new), len(copies) - len(new)


def check_label(label: str, project: Project) -> None:
    """Refuse a label that cannot be the name of one visible folder, or that reads like a class that is there.

    Raises:
        DataError: as `check_class_name`, or the label differs from a class that is there only in case, width, blanks or
            the like.
    """
    check_class_name(label, project, "--label")
    present = [path.name for path in project.raw.iterdir() if path.is_dir()] if project.raw.is_dir() else []
    refuse_similar_label(label, present, project)


def check_class_name(label: str, project: Project, argument: str) -> None:
    """Refuse a label that cannot be the name of one visible folder.

    Args:
        label: the name of a class.
        project: that the class belongs to.
        argument: what the person typed the label for, such as `--label`, for the message.

    Raises:
        DataError: the label is empty, hidden or too long, has blanks at an end, is what file systems call their litter,
            or would leave `data/raw`.
    """
    recordings.check_name(label)
    if not _is_visible_name(label):
        raise DataError(
            f"{argument} {label!r}: not the name of a folder; expected one without / and without a leading dot"
        )
    most_bytes = recordings.longest_part(project.root)
    if len(label.encode()) > most_bytes:
        raise DataError(f"{argument} {label!r}: too long; expected at most {most_bytes} bytes")


def _is_visible_name(name: str) -> bool:
    """Whether a text can be the name of one file or folder that is not hidden."""
    return bool(name) and "/" not in name and name == name.strip() and not recordings.is_hidden(name)


def _media(paths: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield each clip and photo with its path below the folder of its class."""
    for path in paths:
        if path.is_dir():
            files = list(recordings.walk(path))
            media = [file for file in files if recordings.has_media_suffix(file)]
            if not media:
                raise DataError(f"{path}: no clip or photo in it{recordings.but_unread(files)}; expected at least one")
            yield from ((file, file.relative_to(path)) for file in media)
        elif not path.is_file():
            raise DataError(f"{path}: no such file; expected a clip, a photo or a folder of them")
        elif path.name.startswith("."):
            raise DataError(f"{path}: hidden by its name; rename it without the leading dot")
        elif not recordings.has_media_suffix(path):
            raise DataError(f"{path}: {_why_not_read(path)}")
        else:
            yield path, Path(path.name)


def _renamed(name: Path, path: Path, new_name: str) -> Path:
    """The path below its class of a file that is added under another name.

    Args:
        name: the path that it would have.
        path: the file, or the folder that the file is in.
        new_name: the other name, of the file or of the folder.
    """
    recordings.check_name(new_name)
    if not _is_visible_name(new_name):
        raise DataError(f"--as {new_name!r}: not a name; expected one without / and without a leading dot")
    if path.is_dir():
        return Path(new_name) / name
    if Path(new_name).suffix.lower() == path.suffix.lower():
        return Path(new_name)
    if recordings.has_media_suffix(Path(new_name)):
        raise DataError(f"--as {new_name!r}: has another suffix than {path}; expected {path.suffix}, or none")
    return Path(f"{new_name}{path.suffix}")


def _why_not_read(path: Path) -> str:
    content = recording_content(path)
    if content is None:
        return f"neither clip nor photo by its name; expected a visible file {_SUFFIXES}"
    return content.refusal or f"{content.name} under a suffix that is not read; expected one {_SUFFIXES}; rename it"


def _is_present(source: Path, target: Path) -> bool:
    if not target.exists():
        return False
    if sha256_of(source) == sha256_of(target):
        return True
    raise DataError(
        f"{target}: a file with other content is there; rename {source}, add it with --as NAME, or remove the other"
    )


def _copy(source: Path, target: Path) -> None:
    """Copy a file; where the file system can (Btrfs, XFS, APFS), both share their blocks until one of them changes.

    A hard link would be one file under two names: an edit of the person's own file would change the project's, and
    DVC takes the right to write away from files that it links.
    """
    from dvc_objects.fs.system import reflink

    try:
        reflink(source, target)  # type: ignore[no-untyped-call]
    except OSError:  # another file system, or one that cannot
        shutil.copyfile(source, target)


def _copy_all(copies: dict[Path, Path], raw: Path) -> None:
    try:
        # All copies are on disk before the first one gets its name, so a full disk leaves no file behind.
        with contextlib.ExitStack() as stack:
            parents = sorted({target.parent for target in copies})
            hidden = {parent: stack.enter_context(temporary_folder(parent / _ADDED)) for parent in parents}
            for target, source in copies.items():
                _copy(source, hidden[target.parent] / target.name)
            for temporary in hidden.values():  # every folder, since a subfolder may be a link to another disk
                flush_filesystem(temporary)
            for target in sorted(copies):
                (hidden[target.parent] / target.name).rename(target)
            for parent in parents:
                flush_filesystem(parent)
    finally:
        created = {parent for target in copies for parent in target.parents if raw in parent.parents}
        for parent in sorted(created, reverse=True):
            with contextlib.suppress(OSError):  # not empty: the copies are in it
                parent.rmdir()
