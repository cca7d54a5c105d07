"""Several rows of a study at a time, each in a copy of the workspace; their experiments come back into the project.

A row is a work item of `each_anywhere`, so `PIPE_ENGINE` can run it on another machine. There are as many copies as
rows at a time. A copy serves one row after the other, as the workspace does when rows run one after the other.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.base.engine import ENGINE, each_anywhere
from pipeline.base.errors import DataError, PipeError, one_line
from pipeline.base.files import remove
from pipeline.base.project import Project
from pipeline.base.words import counted
from pipeline.tools.repository.git_repository import git_text
from pipeline.tools.repository.own_programs import environment_with_own_programs
from pipeline.tools.studies.dvc_experiments import check_repository, param_value, parse_yaml, remove_experiments
from pipeline.tools.studies.experiment_run import (
    LOOK_SECONDS,
    STOP_SECONDS,
    STOPPED,
    PlannedRun,
    dvc_experiment,
    follow,
    say,
)
from pipeline.tools.studies.shared_stages import shared_stages
from pipeline.tools.studies.stop_signals import interrupted_once
from pipeline.tools.studies.workspace_copy import (
    copy_workspace,
    environment_of_copy,
    outside_of_copies,
    refuse_no_room,
)

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LOKY_MAX_CPU_COUNT")  # the last is joblib's
_WAIT_SECONDS = 2 * STOP_SECONDS  # for all rows together, also those on other machines
_SHARED = "shared-stages"  # the name of an experiment that stays in its copy


@dataclass(frozen=True)
class _Copies:
    """The copies of a study, and what every row does in one. It travels to the machine that runs the row."""

    title: str  # begins each line
    n_planned: int
    project: Project  # gets the experiments
    folder: Path  # of all copies
    copies: tuple[Project, ...]
    n_threads: int | None  # of each row; None: as the machine of the engine has it

    @contextlib.contextmanager
    def free_copy(self) -> Iterator[int | None]:
        """Wait for a copy that no row uses, and yield its number; None where the study ended meanwhile."""
        while self.is_running():
            for number in range(len(self.copies)):
                with contextlib.suppress(Timeout), FileLock(_lock(self.folder, number)).acquire(blocking=False):
                    if self.is_running():  # who ends the study waits for the locks, and keeps them
                        yield number
                        return
            time.sleep(LOOK_SECONDS)
        yield None

    def is_running(self) -> bool:
        """Whether the study goes on; it removes the file however it ends."""
        return _running(self.folder).exists()


def run_in_copies(
    title: str, numbered: Sequence[tuple[int, PlannedRun]], jobs: int, project: Project, n_planned: int
) -> dict[str, str]:
    """Run experiments, several at a time. A run that fails does not stop the others.

    Args:
        title: begins each line, such as `study graphite`.
        numbered: the runs that are left, with their numbers in the study.
        jobs: how many at a time, at the most.
        project: gets the experiments. Its workspace stays as it is.
        n_planned: all runs of the study.

    Returns:
        The reasons of those that failed, by experiment, in the order of the runs.

    Raises:
        DataError: a copy cannot be made.
        DiskFullError: the disk has no room for the copies.
    """
    import joblib

    runs = [run for _, run in numbered]
    is_local = not os.environ.get(ENGINE)
    processors: int = joblib.cpu_count()
    n_copies = min([jobs, len(runs), *([processors] if is_local else [])])
    n_threads = max(1, processors // n_copies) if is_local else None
    threads = f", {counted(n_threads, 'thread')} each" if n_threads else ""
    say(f"{title}: {counted(len(runs), 'run')}, {n_copies} at a time{threads}, in copies of the project")
    outside = outside_of_copies(project, _weights(runs))
    with _emptied(outside.copies, title) as folder:
        refuse_no_room(folder, n_copies, outside)
        first = copy_workspace(project, folder / "0", outside)
        if n_copies > 1 and (reason := _run_shared_stages(title, runs, folder / "0", first)):
            return {run.experiment: reason for run in runs}
        others = [copy_workspace(first, folder / str(number), outside) for number in range(1, n_copies)]
        copies = _Copies(title, n_planned, project, folder, (first, *others), n_threads)
        reasons = list(each_anywhere(partial(_run_row, copies), numbered, title))
    return {run.experiment: reason for run, reason in zip(runs, reasons, strict=True) if reason}


@contextlib.contextmanager
def _emptied(folder: Path, title: str) -> Iterator[Path]:
    """Yield the folder of the copies, and remove it when the block ends, once no row runs in it any more.

    Raises:
        DataError: another study has copies there. Who deletes `.cache` deletes the lock that refuses it earlier.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(f"{folder}.lock").acquire(blocking=False)
    except Timeout as error:
        raise DataError(f"{folder}: the rows of another study run here; wait until it has ended") from error
    with lock, interrupted_once(partial(_end, folder, title)) as hold_interrupts:
        try:
            remove(folder)  # left by a study that was killed
            folder.mkdir()
            _running(folder).touch()
            yield folder
        finally:
            hold_interrupts()
            _running(folder).unlink(missing_ok=True)
            with contextlib.ExitStack() as stack:
                _wait_for_rows(folder, stack)
                shutil.rmtree(folder, ignore_errors=True)


def _end(folder: Path, title: str) -> None:
    """Let all rows stop, and say so at once. Standard error is written without its buffer, which may be in use."""
    _running(folder).unlink(missing_ok=True)
    line = f"\n{title}: stopping; the copies are removed when the rows have ended, within {_WAIT_SECONDS:.0f} s\n"
    with contextlib.suppress(OSError):  # of a terminal that was closed
        os.write(2, line.encode("utf-8"))


def _wait_for_rows(folder: Path, held: contextlib.ExitStack) -> None:
    """Wait until no row runs, and hold the locks of the copies, so that none begins."""
    last = time.monotonic() + _WAIT_SECONDS
    for lock in folder.glob("*.lock"):
        with contextlib.suppress(Timeout):
            held.enter_context(FileLock(lock).acquire(timeout=max(0.0, last - time.monotonic())))


def _run_shared_stages(title: str, runs: Sequence[PlannedRun], folder: Path, copy: Project) -> str | None:
    """Run once what gives the same in all rows; the reason where it fails. The other copies begin with its results."""
    dvc_yaml = parse_yaml(copy.dvc_yaml.read_text(encoding="utf-8"))
    stages = shared_stages(dvc_yaml, [parse_yaml(run.params_text) for run in runs])
    if not stages:
        return None
    say(f"{title}: for all rows at once: {', '.join(stages)}")
    runs[0].write_params(copy)
    environment = environment_of_copy(folder, environment_with_own_programs())
    with dvc_experiment(_SHARED, copy, environment, stages) as process:
        return follow(process, title, _running(folder.parent).exists)


def _weights(runs: Sequence[PlannedRun]) -> set[str]:
    """Files of weights that lie in the project, where git may ignore them."""
    named = {str(param_value(parse_yaml(run.params_text), "model.weights")) for run in runs}
    return {name for name in named if not Path(name).is_absolute() and ".." not in Path(name).parts}


def _running(folder: Path) -> Path:
    return folder / "running"


def _lock(folder: Path, number: int) -> Path:
    return folder / f"{number}.lock"


# On the machine that runs a row.


def _run_row(copies: _Copies, numbered: tuple[int, PlannedRun]) -> str | None:
    """Run an experiment in a copy that is free, and bring it into the project; the reason of a failure, or None."""
    number, run = numbered
    with copies.free_copy() as place:
        if place is None:
            return STOPPED
        line = f"{copies.title}: {number}/{copies.n_planned} {run.experiment}:"
        say(f"{line} {run.what_changes}")
        started = time.monotonic()
        try:
            reason = _run_in(place, run, copies)
        except (PipeError, OSError) as error:
            reason = one_line(error)
        say(f"{line} failed: {reason}" if reason else f"{line} done in {time.monotonic() - started:.0f} s")
    return reason


def _run_in(place: int, run: PlannedRun, copies: _Copies) -> str | None:
    copy = copies.copies[place]
    remove_experiments(run.experiment, copies.project)
    run.write_params(copy)
    environment = environment_of_copy(copies.folder / str(place), _environment(copies.n_threads))
    with dvc_experiment(run.experiment, copy, environment) as process:
        reason = follow(process, run.experiment, copies.is_running)
    if reason is None:
        _bring_back(run.experiment, copy, copies.project)
    return reason


def _bring_back(experiment: str, copy: Project, project: Project) -> None:
    """Take an experiment of a copy into the project's repository.

    Raises:
        DataError: git refused.
    """
    head = check_repository(copy)
    ref = f"refs/exps/{head[:2]}/{head[2:]}/{experiment}"
    repository = git_text(copy.root, "rev-parse", "--absolute-git-dir").strip()
    options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance")
    git_text(project.root, "fetch", *options, repository, f"+{ref}:{ref}")


def _environment(n_threads: int | None) -> dict[str, str]:
    """The variables of a row: its stages stay on this machine, and use no more threads than it was given."""
    environment = environment_with_own_programs()
    environment.pop(ENGINE, None)
    if n_threads is None:
        return environment
    for name in _THREADS:
        asked = environment.get(name, "")
        environment[name] = str(min(n_threads, int(asked)) if asked.isdigit() and int(asked) else n_threads)
    return environment
