"""Recordings belong to the project: DVC tracks the folder `data/raw` as a whole, by the file `data/raw.dvc`.

DVC keeps a copy of each recording, so that an older version of the project has the recordings of its time. It stops
before it deletes an output where they are missing.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.base.words import counted
from pipeline.media import recordings
from pipeline.tools.project.surroundings import linked_raw_problem, repository_problem
from pipeline.tools.repository.dvc_repository import open_dvc
from pipeline.tools.repository.git_repository import git_bytes

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.repo import Repo

_LIST_MD5 = re.compile(rb"\b[0-9a-f]{32}\.dir\b")  # the hash by which `data/raw.dvc` names the list of recordings
# What `pipe add` does for DVC: it tracks the folder; the person said not to; or the folder was never tracked.
Tracking = Literal["tracked", "declined", "never tracked"]


def is_tracked(project: Project) -> bool:
    """Whether DVC tracks the project's recordings."""
    return project.raw_dvc.is_file()


def plan_tracking(project: Project, *, declined: bool) -> Tracking:
    """Decide whether DVC will track what is about to be added.

    A folder that holds recordings which DVC never tracked stays untracked: it may be huge, and nobody has asked for a
    second copy.

    Args:
        project: that the recordings will be added to.
        declined: whether the person said `--no-dvc`.

    Raises:
        DataError: DVC or git is not set up, `data/raw` is a link, recordings of a tracked folder are missing, or one is
            to be left out of it.
    """
    raw, file = project.relative(project.raw), project.relative(project.raw_dvc)
    if declined and is_tracked(project):
        raise DataError(
            f"{file}: found; DVC tracks {raw} as a whole, so --no-dvc can leave out no single recording; leave it "
            f"out, or let DVC track none: dvc remove {file}"
        )
    if declined:
        return "declined"
    if not is_tracked(project) and _holds_recordings(project):
        return "never tracked"
    _check_trackable(project)
    check_complete(project)
    return "tracked"


def refuse_linked_class(label: str, project: Project) -> None:
    """Refuse to add recordings behind a link, of which DVC would track none.

    Raises:
        DataError: the folder of the class is a link.
    """
    folder = project.raw / label
    if folder.is_symlink():
        raise DataError(
            f"{project.relative(folder)}: a link to {folder.readlink()}, and DVC tracks nothing behind a link; make it "
            "a folder, or copy the recordings there yourself"
        )


def check_complete(project: Project) -> None:
    """Refuse to go on where recordings that DVC tracks are not here, as in a clone before `dvc pull`.

    Tracking the folder as it is would take them away from everybody, or take a colleague's corrections back.

    Raises:
        DataError: `data/raw.dvc` names recordings whose content is not in `data/raw`, or DVC does not know yet which
            ones it names; or `data/raw` still has the recordings of an earlier commit.
    """
    if not is_tracked(project):
        return
    with open_dvc(project) as repository:
        differs = difference(repository, project)
    raw, file = project.relative(project.raw), project.relative(project.raw_dvc)
    if not differs.has_list:
        found, way = (
            "found no list of its recordings in DVC's cache",
            f"`dvc pull`, or `dvc add {raw}` if no remote has it",
        )
    elif differs.n_lost:
        found = (
            f"found {counted(differs.n_lost, 'recording')} that {'is' if differs.n_lost == 1 else 'are'} not in {raw}"
        )
        way = f"`dvc pull`, or `dvc add {raw}` to go on without"
    elif differs.is_of_earlier_commit:
        found = f"found the recordings of an earlier commit in {raw}"
        way = f"`dvc checkout {file}`, or `dvc add {raw}` to go back to them"
    else:
        return
    raise DataError(f"{file}: {found}; run {way}; then the same command")


@dataclass(frozen=True)
class Difference:
    """How `data/raw` differs from what `data/raw.dvc` names."""

    n_lost: int = 0  # recordings that the file names and that are not here
    n_unnamed: int = 0  # files here that it does not name
    has_list: bool = True  # False: the list of its recordings has to be pulled, and `n_lost` is the least number
    is_of_earlier_commit: bool = False  # all is here as an earlier commit names it, as after `git pull` alone


def difference(repository: Repo, project: Project) -> Difference:
    """Compare `data/raw` with what `data/raw.dvc` names.

    A recording that was moved is not lost: it is here under a name that the file does not know.

    Args:
        repository: DVC's, opened on the project.
        project: whose recordings DVC tracks.
    """
    from dvc_data.hashfile.tree import Tree

    (stage,) = repository.stage.load_file(str(project.raw_dvc))
    out = stage.outs[0]
    present = {parts: path for path in project.raw.rglob("*") if (parts := _parts(path, project)) and path.is_file()}
    try:
        named = {parts: info.value for parts, _, info in Tree.load(out.cache, out.hash_info)}
    except FileNotFoundError:  # the list itself has to be pulled: its length is in data/raw.dvc
        return Difference(n_lost=max(0, (out.meta.nfiles or 0) - len(present)), has_list=False)
    lost = {parts: md5 for parts, md5 in named.items() if parts not in present}
    unnamed = [path for parts, path in present.items() if parts not in named]
    moved = set(map(_md5_of, unnamed)) if lost else set[str]()
    n_lost = sum(md5 not in moved for md5 in lost.values())
    return Difference(n_lost, len(unnamed), is_of_earlier_commit=_is_of_earlier_commit(out, project))


def _is_of_earlier_commit(out: Output, project: Project) -> bool:
    """Whether `data/raw` is as `data/raw.dvc` of an earlier commit names it, and not as the present one does."""
    log = ("log", "-m", "--patch", "--unified=0", "--format=", "--", project.relative(project.raw_dvc))
    earlier = set(_LIST_MD5.findall(git_bytes(project.root, *log) or b"")) - {out.hash_info.value.encode()}
    try:
        return bool(earlier) and out.get_hash().value.encode() in earlier
    except OSError:
        return False  # a file that cannot be read: DVC itself names it


def _parts(path: Path, project: Project) -> tuple[str, ...]:
    """The parts of a path below `data/raw`; empty for what DVC ignores, hidden files and folders."""
    parts = path.relative_to(project.raw).parts
    return () if any(part.startswith(".") for part in parts) else parts


def _md5_of(path: Path) -> str:
    """The hash by which DVC knows a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def track(project: Project) -> None:
    """Let `data/raw.dvc` name every recording as it is now, and keep a copy of the new ones in DVC's cache.

    Raises:
        DataError: DVC fails. The recordings stay where they are, and the line says how to go on.
    """
    try:
        with open_dvc(project) as repository:
            repository.scm_context.quiet = True  # no lines on how to call git: `pipe status` says what to commit
            repository.add(str(project.raw))
    except (DataError, OSError) as error:
        raw = project.relative(project.raw)
        raise DataError(
            f"{raw}: the recordings are in place, but DVC did not track them: {error}; run `dvc add {raw}`"
        ) from error


def track_again(project: Project) -> bool:
    """Track the recordings anew after a change, if DVC tracks them; say whether it does.

    Raises:
        DataError: as `track`.
    """
    if is_tracked(project):
        track(project)
        return True
    return False


def _holds_recordings(project: Project) -> bool:
    return project.raw.is_dir() and any(map(recordings.has_media_suffix, recordings.walk(project.raw)))


def _check_trackable(project: Project) -> None:
    instead = f"or add with --no-dvc, so that {project.relative(project.raw)} alone holds the recordings"
    for problem in filter(None, (repository_problem(project), linked_raw_problem(project))):
        raise DataError(f"{problem}; {instead}")
    try:
        with open_dvc(project):
            pass
    except DataError as error:
        raise DataError(f"{error}; {instead}") from error
