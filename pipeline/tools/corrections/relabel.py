"""`pipe relabel`: recordings get another class, and keep their groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.project import Project
from pipeline.base.words import counted
from pipeline.tools.adding.add import check_class_name
from pipeline.tools.corrections.change import Followed, carry_out
from pipeline.tools.corrections.named_recordings import (
    Layout,
    class_folders,
    folders_without,
    label_of,
    named_recordings,
    refuse_similar_label,
    with_label,
)


@dataclass(frozen=True)
class RelabelReport:
    """What `relabel` moved."""

    n_moved: int
    n_present: int  # recordings that had the class already
    label: str
    is_new: bool  # whether `data/raw` had no folder of the class before
    emptied: tuple[str, ...]  # classes that have no recording any more
    followed: Followed

    @property
    def headline(self) -> str:
        """One line: how many recordings have the class now, and what changed with them."""
        present = f" ({self.n_present} already had it)" if self.n_present else ""
        new = ", a new class" if self.is_new else ""
        emptied = "".join(f"; class {label} has no recording left" for label in self.emptied)
        moved = f"{counted(self.n_moved, 'recording')} moved to class {self.label}"
        return f"{moved}{new}{present}{emptied}{self.followed.sentence}"


def relabel(sources: Sequence[Path], label: str, project: Project, layout: Layout) -> RelabelReport:
    """Move recordings to another class: all of them or none. Their lines in `data/groups.csv` follow.

    Args:
        sources: paths of recordings below `data/raw`.
        label: the class that they show.
        project: whose recordings they are.
        layout: `extract.layout`.

    Raises:
        DataError: the label cannot name a class, or is like another one; a source is no recording of the project;
            or a file of the same name is there. Then nothing was changed.
    """
    check_class_name(label, project, "--label")
    named = named_recordings(sources, project, layout)
    moved = [name for name in named if label_of(name, layout) != label]
    before = {label_of(folder, layout) for folder in class_folders(project, layout)}
    left = {label_of(folder, layout) for folder in folders_without(moved, project, layout)}
    refuse_similar_label(label, left, project)
    moves = {name: with_label(name, label, layout) for name in moved}
    followed = carry_out(moves, project) if moves else Followed(0)
    emptied = {label_of(name, layout) for name in moved} - left
    return RelabelReport(
        len(moved), len(named) - len(moved), label, label not in before, tuple(sorted(emptied)), followed
    )
