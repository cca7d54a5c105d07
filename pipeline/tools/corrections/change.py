"""A change of `data/raw` and of the table that names its recordings: carried out as a whole, or not at all.

The moves and the new table are prepared in a hidden folder, which gets its name last. From then on only renames are
left. Whoever finds the folder finishes the change: the same process, or the next command after one that was killed.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.base.errors import DataError
from pipeline.base.files import (
    exclusive_lock,
    flush_filesystem,
    read_json,
    replacing_file,
    replacing_folder,
    write_json,
)
from pipeline.base.project import Project, check_inside
from pipeline.base.storage.csv_files import read_table, write_csv
from pipeline.base.words import counted
from pipeline.media import recordings
from pipeline.tools.adding.tracked_recordings import check_complete, track_again

REMOVED = PurePosixPath(".removed")  # how moves name the folder of removed recordings; `place_of` has where it lies
_MOVES_JSON = "moves.json"

Moves = Mapping[PurePosixPath, PurePosixPath]  # old to new paths below data/raw, of recordings or of folders of classes


@dataclass(frozen=True)
class Followed:
    """What changed with the recordings: how many lines of `data/groups.csv`, and what DVC tracks."""

    n_groups: int
    is_tracked: bool = False  # whether data/raw.dvc names the recordings, and so changed too

    @property
    def sentence(self) -> str:
        """What changed in words, to be added to a closing line; empty where nothing did."""
        groups = [f"{counted(self.n_groups, 'line')} of data/groups.csv"] if self.n_groups else []
        files = [*groups, *(["data/raw.dvc"] if self.is_tracked else [])]
        return f"; {' and '.join(files)} changed with them" if files else ""


def carry_out(moves: Moves, project: Project) -> Followed:
    """Move recordings, and let their lines of `data/groups.csv` follow them.

    What is moved below `REMOVED` loses its lines. `data/split.keep.csv` knows recordings by their content, so it stays.

    Raises:
        DataError: a target is there, or its name is too long; the table is not CSV; or an extraction or a split runs.
            Then nothing was changed.
        DiskFullError: the disk has no room for the table. Then nothing was changed.
        DiskFullError: the disk has no room for a copy of what a removed link leads to. The next command goes on.
        OSError: the disk has no room for a folder. Then nothing was changed.
        DataError: the change is done, and DVC cannot track it.
    """
    with _locked(project):
        _finish(project)
        check_complete(project)
        _check_moves(moves, project)
        n_changed, lines = _followed_groups(moves, project)
        with replacing_folder(project.correction) as folder:
            if n_changed:  # else the table keeps every byte
                write_csv(folder / project.groups_csv.name, lines)
            names = [[old.as_posix(), new.as_posix()] for old, new in moves.items()]
            write_json(folder / _MOVES_JSON, {"moves": names})
        _make_parents(moves, project)
        _finish(project)
    return Followed(n_changed, track_again(project))


def place_of(name: PurePosixPath, project: Project) -> Path:
    """Where a path of a move lies: below `data/raw`, or for what is removed, in a folder beside it.

    DVC deletes all of `data/raw` on the way to a version that does not track it, hidden folders included. Where
    `data/raw` is a link, which DVC does not track, removed recordings stay behind it, on their own disk.
    """
    if name.is_relative_to(REMOVED) and not project.raw.is_symlink():
        return project.removed / name.relative_to(REMOVED)
    return project.raw / name


def finish_change(project: Project) -> None:
    """Finish the change that a killed command left, if there is one.

    Raises:
        DataError: the command still runs, somebody has put another file in the way since, or what is there is no change
            of ours.
    """
    if os.path.lexists(project.correction):
        with _locked(project):
            _finish(project)


@contextlib.contextmanager
def _locked(project: Project) -> Iterator[None]:
    """Keep other corrections out, and the stages that read the recordings and the tables."""
    with contextlib.ExitStack() as stack:
        for command in ("pipe relabel", "pipe extract", "pipe split"):
            stack.enter_context(exclusive_lock(project, command))
        yield


def _check_moves(moves: Moves, project: Project) -> None:
    earlier: dict[PurePosixPath, PurePosixPath] = {}
    for old, new in moves.items():
        if not os.path.lexists(project.raw / old):
            raise DataError(f"{_shown(old, project)}: was moved just now by another command; look where it is")
        if new in earlier:
            shown = f"{_shown(old, project)} and {_shown(earlier[new], project)}"
            raise DataError(f"{shown}: both would be {_shown(new, project)}; rename one of them first")
        earlier[new] = old
        if _is_taken(project.raw / old, place_of(new, project)):
            raise DataError(f"{_shown(new, project)}: {_way_out(old, new, project)}")
        if linked := next(
            (parent for parent in new.parents if (project.raw / parent).is_symlink() and parent.parts), None
        ):
            raise DataError(f"{_shown(linked, project)}: a link; what it leads to is not the project's own")
        for path in _files_in(project.raw / old):
            recordings.check_lengths((new / path.relative_to(project.raw / old)).as_posix(), project.root)


def _way_out(old: PurePosixPath, new: PurePosixPath, project: Project) -> str:
    """What to do about a file that has the new name of another one."""
    if new.is_relative_to(REMOVED):  # as of a recording that was added again from there, and is removed again
        return f"is there from an earlier `pipe remove`; delete it, or rename {_shown(old, project)}"
    return f"is there already; rename {_shown(old, project)}, or remove one"


def _files_in(path: Path) -> Iterable[Path]:
    """A file itself, or all files of a class."""
    return recordings.walk(path) if path.is_dir() else [path]


def _is_taken(old: Path, new: Path) -> bool:
    """Whether another file has the new name. On some file systems a name in other case is the same file."""
    if not os.path.lexists(new):
        return False
    differ_in_case = str(old).casefold() == str(new).casefold()
    return not (differ_in_case and os.path.lexists(old) and os.path.samestat(old.lstat(), new.lstat()))


def _shown(name: PurePosixPath, project: Project) -> str:
    return project.relative(place_of(name, project))


def _make_parents(moves: Moves, project: Project) -> None:
    """Make the folders that the moves lead to. Where the disk is too full for them, take the change back."""
    try:
        for new in moves.values():
            place_of(new, project).parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        _remove_empty((new.parent for new in moves.values()), project)
        _forget(project)
        raise


def _remove_empty(folders: Iterable[PurePosixPath], project: Project) -> None:
    """Remove folders of recordings that hold nothing, and the folders above them that then hold nothing."""
    above = {part for folder in folders for part in (folder, *folder.parents) if part.parts}
    for folder in sorted(above, key=lambda part: len(part.parts), reverse=True):
        with contextlib.suppress(OSError):  # not empty, or gone
            place_of(folder, project).rmdir()


def _finish(project: Project) -> None:
    """Carry out what the folder of the change says, if there is one. Doing it in two parts gives the same."""
    folder = project.correction
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        shown = project.relative(folder)
        raise DataError(f"{shown}: found a file or a link; expected a folder that `pipe` makes; remove it")
    if (folder / _MOVES_JSON).is_file():  # else all is done, and the folder was to be removed
        moves = _read_moves(folder / _MOVES_JSON)
        for old, new in moves.items():
            _move(old, new, project)
        if (folder / project.groups_csv.name).is_file():
            (folder / project.groups_csv.name).replace(project.groups_csv)
        _remove_empty((old.parent for old in moves), project)
        flush_filesystem(project.raw)
    _forget(project)


def _forget(project: Project) -> None:
    """Remove the folder of the change, its moves first: without them, whoever finds the folder has nothing to do."""
    (project.correction / _MOVES_JSON).unlink(missing_ok=True)
    shutil.rmtree(project.correction)


def _read_moves(path: Path) -> dict[PurePosixPath, PurePosixPath]:
    stored = read_json(path)
    try:
        names = [(old, new) for old, new in stored["moves"]]
        for name in (name for pair in names for name in pair):
            check_inside(name)
    except (DataError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: not written by `pipe`; remove {path.parent}") from error
    return {PurePosixPath(old): PurePosixPath(new) for old, new in names}


def _move(old: PurePosixPath, new: PurePosixPath, project: Project) -> None:
    source, target = project.raw / old, place_of(new, project)
    if not os.path.lexists(source):
        return  # moved by the command that was killed
    is_copied = new.is_relative_to(REMOVED) and source.is_symlink() and source.is_file()
    if _is_taken(source, target) and not (is_copied and filecmp.cmp(source, target, shallow=False)):
        raise DataError(
            f"{_shown(new, project)}: is there, but a command that was stopped has to move {_shown(old, project)} "
            "there; move one of them away, and the next command goes on"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_copied:  # DVC's links lead to its cache, from which `pipe clean` deletes what data/raw.dvc no longer names
        with replacing_file(target) as temporary:
            shutil.copyfile(source, temporary)
        source.unlink()
    else:
        source.rename(target)


def _followed_groups(moves: Moves, project: Project) -> tuple[int, list[list[str]]]:
    """How many lines of `data/groups.csv` change, and all its lines as they will be."""
    lines = list(read_table(project.groups_csv)) if os.path.lexists(project.groups_csv) else []
    followed: list[list[str] | None] = []
    for cells in lines:
        source = _followed(cells[0], moves, project) if cells else ""
        # A group may have the name of one of its recordings. It keeps it when that one is removed.
        groups = [_followed(group, moves, project) or group for group in cells[1:2]]
        changed = [source, *groups, *cells[2:]] if cells and source is not None else None
        followed.append(changed if cells else cells)
    n_changed = sum(new != cells for cells, new in zip(lines, followed, strict=True))
    return n_changed, [cells for cells in followed if cells is not None]


def _followed(source: str, moves: Moves, project: Project) -> str | None:
    """The path that a recording has after the change, as the manifest spells it; None where it is removed.

    A name that is no recording's is returned as it is.
    """
    raw, path = PurePosixPath(project.relative(project.raw)), PurePosixPath(source)
    if not path.is_relative_to(raw):
        return source
    name = path.relative_to(raw)
    for moved in (name, *name.parents):
        if moved in moves:
            new = moves[moved] / name.relative_to(moved)
            return None if new.is_relative_to(REMOVED) else str(raw / new)
    return source
