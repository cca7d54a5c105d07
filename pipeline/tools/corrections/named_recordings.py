"""Which recordings and classes a person names, and whether a class may have a name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.base.similar_names import refuse_similar_names
from pipeline.media import recordings
from pipeline.media.recordings import SPLIT_FOLDERS

Layout = Literal["class", "split"]


def named_recordings(sources: Sequence[Path], project: Project, layout: Layout) -> list[PurePosixPath]:
    """The recordings that a person names, each once, by their paths below `data/raw`, sorted.

    Args:
        sources: paths as typed in the project, such as `data/raw/flake/IMG_0412.MOV`.
        project: whose recordings they are.
        layout: `extract.layout`.

    Raises:
        DataError: a source lies outside the classes, is no file, is hidden, or lies behind a linked folder.
    """
    return sorted({_named_recording(source, project, layout) for source in sources})


def class_depth(layout: Layout) -> int:
    """How many parts of a path below `data/raw` lead to the class, its own name included."""
    return 1 if layout == "class" else 2


def label_of(name: PurePosixPath, layout: Layout) -> str:
    """The class of a recording, by its path below `data/raw`."""
    return name.parts[class_depth(layout) - 1]


def with_label(name: PurePosixPath, label: str, layout: Layout) -> PurePosixPath:
    """The path below `data/raw` that a recording, or the folder of a class, has in another class.

    Args:
        name: the path that it has now.
        label: the other class.
        layout: `extract.layout`.
    """
    depth = class_depth(layout)
    return PurePosixPath(*name.parts[: depth - 1], label, *name.parts[depth:])


def class_folders(project: Project, layout: Layout) -> list[PurePosixPath]:
    """The folders of classes, by their paths below `data/raw`, sorted."""
    tops = [PurePosixPath()] if layout == "class" else [PurePosixPath(side) for side in SPLIT_FOLDERS]
    present = [top for top in tops if (project.raw / top).is_dir()]
    folders = [top / path.name for top in present for path in (project.raw / top).iterdir() if path.is_dir()]
    return sorted(folder for folder in folders if not recordings.is_hidden(folder.name))


def folders_without(moved: Iterable[PurePosixPath], project: Project, layout: Layout) -> list[PurePosixPath]:
    """The folders of classes that hold a recording beside those that are moved away, sorted.

    Args:
        moved: recordings, by their paths below `data/raw`.
        project: whose classes they are.
        layout: `extract.layout`.
    """
    gone = {project.raw / name for name in moved}
    return [
        folder
        for folder in class_folders(project, layout)
        if any(recordings.has_media_suffix(path) and path not in gone for path in recordings.walk(project.raw / folder))
    ]


def refuse_similar_label(label: str, others: Iterable[str], project: Project) -> None:
    """Refuse a class that differs from another only in case, width, blanks or the like.

    Args:
        label: the class.
        others: the classes beside which it will stand.
        project: whose classes they are.

    Raises:
        DataError: it is like one of the others; the message has both.
    """
    for other in sorted(set(others)):
        refuse_similar_names([label, other], project.relative(project.raw))


def _named_recording(source: Path, project: Project, layout: Layout) -> PurePosixPath:
    path = Path(os.path.abspath(project.root / source))  # noqa: PTH100  # resolve() would follow links out of data/raw
    raw, depth = project.raw.absolute(), class_depth(layout)
    where = f"{project.relative(project.raw)}{'/<split>' if layout == 'split' else ''}/<class>"
    name = PurePosixPath(path.relative_to(raw).as_posix()) if path.is_relative_to(raw) else PurePosixPath()
    if len(name.parts) < depth or (layout == "split" and name.parts[0] not in SPLIT_FOLDERS):
        raise DataError(f"{source}: outside the classes; expected a recording below {where}/")
    if path.is_dir():
        raise DataError(f"{source}: a folder; expected recordings, such as {source}/*")
    if len(name.parts) == depth:
        raise DataError(f"{source}: outside the classes; expected a recording below {where}/")
    if any(map(recordings.is_hidden, name.parts)):
        raise DataError(f"{source}: hidden by its name, so it is no recording; expected one below {where}/")
    if linked := next((parent for parent in name.parents if parent.parts and (raw / parent).is_symlink()), None):
        raise DataError(
            f"{source}: lies behind the linked folder {project.relative(project.raw / linked)}, which may be somebody "
            "else's; move it where it lies"
        )
    if not os.path.lexists(path):
        raise DataError(f"{source}: no such recording; expected a file below {where}/")
    recordings.check_name(name.as_posix())
    return name
