"""`pipe rename`: a class gets another name, and its recordings keep their groups."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.base.errors import DataError, nearest
from pipeline.base.project import Project
from pipeline.base.words import counted
from pipeline.media.recordings import has_media_suffix, walk
from pipeline.tools.adding.add import check_class_name
from pipeline.tools.corrections.change import Followed, carry_out
from pipeline.tools.corrections.named_recordings import (
    Layout,
    class_folders,
    label_of,
    refuse_similar_label,
    with_label,
)


@dataclass(frozen=True)
class RenameReport:
    """What `rename` moved."""

    label: str
    new_label: str
    n_recordings: int
    followed: Followed

    @property
    def headline(self) -> str:
        """One line: both names, how many recordings the class has, and what changed with them."""
        recordings = counted(self.n_recordings, "recording")
        return f"class {self.label} is {self.new_label} now ({recordings}){self.followed.sentence}"


def rename(label: str, new_label: str, project: Project, layout: Layout) -> RenameReport:
    """Give a class another name. The lines of its recordings in `data/groups.csv` follow.

    Args:
        label: the class.
        new_label: its new name.
        project: whose class it is.
        layout: `extract.layout`.

    Raises:
        DataError: there is no such class, the new name is that of a class or is like one, or cannot name a class.
            Then nothing was changed.
    """
    raw, folders = project.relative(project.raw), class_folders(project, layout)
    labels = {label_of(folder, layout) for folder in folders}
    if label not in labels:
        hint = f"; the nearest is {nearest(label, sorted(labels))!r}" if labels else ""
        raise DataError(f"{raw}: found no class {label!r}; expected one of its folders{hint}")
    if new_label in labels:
        raise DataError(
            f"{raw}: found a class {new_label!r}; expected a free name; `pipe relabel` moves recordings into a class"
        )
    check_class_name(new_label, project, "NEW")
    refuse_similar_label(new_label, labels - {label}, project)
    renamed = [folder for folder in folders if label_of(folder, layout) == label]
    n_recordings = sum(has_media_suffix(path) for folder in renamed for path in walk(project.raw / folder))
    followed = carry_out({folder: with_label(folder, new_label, layout) for folder in renamed}, project)
    return RenameReport(label, new_label, n_recordings, followed)
