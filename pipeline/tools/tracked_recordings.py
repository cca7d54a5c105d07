"""Recordings belong to the project: DVC tracks the folder `data/raw` as a whole, by the file `data/raw.dvc`.

DVC keeps a copy of each recording, so that an older version of the project has the recordings of its time. It stops
before it deletes an output where they are missing.
"""

from __future__ import annotations

from typing import Literal

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.media import recordings
from pipeline.tools.dvc_repository import open_dvc

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
        DataError: DVC or git is not set up, `data/raw` is a link, or one recording is to be left out of a tracked
            folder.
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
    return "tracked"


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
    for folder in (project.raw, project.raw.parent):
        if folder.is_symlink():
            shown = project.relative(folder)
            raise DataError(f"{shown}: a link; DVC tracks no folder behind a link; make it a folder, {instead}")
    try:
        with open_dvc(project):
            pass
    except DataError as error:
        raise DataError(f"{error}; {instead}") from error
