"""`pipe remove`: recordings leave the project. Their files are kept aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.project import Project
from pipeline.base.words import counted
from pipeline.tools.corrections.change import REMOVED, Followed, carry_out, place_of
from pipeline.tools.corrections.named_recordings import Layout, folders_without, label_of, named_recordings


@dataclass(frozen=True)
class RemoveReport:
    """What `remove` took out."""

    n_removed: int
    folder: str  # where the files are now, relative to the project
    emptied: tuple[str, ...]  # classes that have no recording any more
    followed: Followed

    @property
    def headline(self) -> str:
        """One line: how many recordings were taken out, where their files are, and what changed with them."""
        emptied = "".join(f"; class {label} has no recording left" for label in self.emptied)
        kept = f"the files are in {self.folder}/, which you may delete"
        return f"{counted(self.n_removed, 'recording')} removed; {kept}{emptied}{self.followed.sentence}"


def remove(sources: Sequence[Path], project: Project, layout: Layout) -> RemoveReport:
    """Take recordings out of the project: all of them or none. Their lines in `data/groups.csv` go with them.

    Nothing is deleted, since a recording may have no other copy. The files move to a folder that no stage reads.

    Args:
        sources: paths of recordings below `data/raw`.
        project: whose recordings they are.
        layout: `extract.layout`.

    Raises:
        DataError: a source is no recording of the project, or a removed file of its name is there. Then nothing was
            changed.
    """
    named = named_recordings(sources, project, layout)
    left = {label_of(folder, layout) for folder in folders_without(named, project, layout)}
    followed = carry_out({name: REMOVED / name for name in named}, project)
    emptied = {label_of(name, layout) for name in named} - left
    return RemoveReport(len(named), project.relative(place_of(REMOVED, project)), tuple(sorted(emptied)), followed)
