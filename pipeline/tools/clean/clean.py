"""Delete what can be made again and is not in use: from `.cache/`, and from DVC's cache what no commit needs."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.files import exclusive_lock, remove
from pipeline.base.project import Project
from pipeline.base.storage.disk_space import bytes_in
from pipeline.base.words import counted
from pipeline.tools.clean.unused_caches import unused_entries
from pipeline.tools.clean.unused_objects import unused_objects
from pipeline.tools.disk_use import in_words

# The commands that read or write `.cache`, or `data/raw` that DVC tracks. None of them may run meanwhile.
_NAMES = ("relabel", "extract", "augment", "split", "train", "evaluate", "export", "study")
_COMMANDS = tuple(f"pipe {name}" for name in _NAMES)


@dataclass(frozen=True)
class Waste:
    """Files or folders of one kind that go."""

    where: str
    reason: str
    paths: tuple[Path, ...]
    n_bytes: int

    @property
    def line(self) -> str:
        """Where, how many, how many bytes, and why."""
        return f"{self.where}: {counted(len(self.paths), 'entry', 'entries')}, {in_words(self.n_bytes)}: {self.reason}"


@dataclass(frozen=True)
class CleanReport:
    """What `clean` deleted, or would delete."""

    waste: tuple[Waste, ...]
    notes: tuple[str, ...]  # what was left alone, and why
    is_dry: bool

    @property
    def lines(self) -> list[str]:
        """One line for each kind."""
        return [*(kind.line for kind in self.waste), *self.notes]

    @property
    def headline(self) -> str:
        """The closing line."""
        if not self.waste:
            return "nothing to delete"
        n_bytes = in_words(sum(kind.n_bytes for kind in self.waste))
        return f"{n_bytes} would be deleted; nothing is yet" if self.is_dry else f"{n_bytes} deleted"


def clean(project: Project, *, dry_run: bool) -> CleanReport:
    """Delete the entries of `.cache` that are not in use, and the files of DVC's cache that no commit needs.

    Args:
        project: the project.
        dry_run: only say what would go.

    Raises:
        DataError: a stage or DVC runs here, or DVC cannot read a commit. Then nothing was deleted.
    """
    with contextlib.ExitStack() as stack:
        for command in _COMMANDS:
            stack.enter_context(exclusive_lock(project, command))
        entries = [
            Waste(project.relative(folder), reason, paths, bytes_in(paths))
            for folder, reason, paths in unused_entries(project)
        ]
        objects, note = stack.enter_context(unused_objects(project))
        waste = [*entries]
        if objects:
            reason = "what no commit, experiment or stash needs"
            waste.append(Waste("DVC's cache", reason, objects, bytes_in(objects)))
        if not dry_run:
            for path in (path for kind in waste for path in kind.paths):
                remove(path)
    return CleanReport(tuple(waste), (note,) if note else (), dry_run)
