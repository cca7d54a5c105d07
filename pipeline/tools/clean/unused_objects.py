"""The files of DVC's cache that neither the working tree nor a commit, an experiment or a stash needs."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.tools.repository.dvc_repository import open_dvc
from pipeline.tools.repository.git_repository import git_bytes

if TYPE_CHECKING:
    from dvc.repo import Repo


@contextlib.contextmanager
def unused_objects(project: Project) -> Iterator[tuple[tuple[Path, ...], str]]:
    """Yield the files that `dvc gc` would delete, and a note where the cache is left alone.

    DVC's lock is held until the block ends, so that no other DVC process begins to need one of them.

    A commit may name a folder whose list is neither here nor in the remote. Nothing of it can be restored, so it keeps
    no file. Where the remote cannot be reached, its files are there, since DVC pushes the list last.

    Raises:
        DataError: DVC is not set up here, another DVC process or an experiment runs, or a commit cannot be read.
    """
    with open_dvc(project) as repository:
        root, caches = Path(repository.root_dir), [odb for _, odb in repository.cache.by_scheme() if odb]
        elsewhere = [odb.path for odb in caches if not Path(odb.path).is_relative_to(root)]
        if elsewhere:
            yield (), f"DVC's cache is left alone: {elsewhere[0]} lies outside the project, and others may use it"
            return
        with repository.lock:
            _refuse_running_experiment(repository, project)
            needed = _needed(repository, project)
            yield (
                tuple(
                    Path(odb.oid_to_path(oid))
                    for odb in {odb.path: odb for odb in caches}.values()
                    for oid in sorted(odb.all())
                    if (odb.hash_name, oid) not in needed
                ),
                "",
            )


def _refuse_running_experiment(repository: Repo, project: Project) -> None:
    """Refuse while an experiment runs in a folder of its own: it has locks of its own, and writes into this cache.

    Raises:
        DataError: one runs, or was killed.
    """
    queues = (repository.experiments.celery_queue, repository.experiments.tempdir_queue)
    running = [entry.stash_rev[:7] for queue in queues for entry in queue.iter_active()]
    if running:
        raise DataError(
            f"{project.root}: an experiment runs ({', '.join(running)}); wait until it has ended, or end it by "
            "`dvc queue kill`; if it was killed, delete .dvc/tmp/exps"
        )


def _needed(repository: Repo, project: Project) -> set[tuple[str, str]]:
    """Name and value of the hash of every object that is needed; folders with all that is in them."""
    stashed = (git_bytes(project.root, "stash", "list", "--format=%H") or b"").decode("ascii").split()
    revisions = [*stashed, *repository.experiments.stash_revs]  # queued experiments are stashes of another name
    log = logging.getLogger("dvc")
    level = log.level
    try:
        log.setLevel(logging.ERROR)  # it warns of each output of each commit that has run nothing yet
        used = repository.used_objs(all_commits=True, all_experiments=True, revs=revisions, force=True)
    finally:
        log.setLevel(level)
    return {(info.name, info.value) for objects in used.values() for info in objects}
