"""A copy of the workspace in which DVC runs an experiment while others run beside it.

It has what git would commit, in a repository of its own that reads the project's objects. Its DVC reads and writes
the project's cache of DVC. Recordings, and what else no stage makes and git ignores, are links. So are the folders of
`.cache` that several runs may use at once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.base.storage.disk_space import disk_full, free_bytes
from pipeline.base.words import counted
from pipeline.tools.repository.dvc_repository import open_dvc
from pipeline.tools.repository.git_repository import git_bytes, git_text
from pipeline.tools.studies.dvc_experiments import LAST_STAGE

# Runs may read and write these at once: each entry appears whole. Locks of stages are not among them.
_SHARED_CACHES = ("clips", "copies", "frames", "features", "embeddings", "near_duplicates", "resume")
_CURVES = ("tensorboard", "wandb")
_CURVES_FILE = "mlflow.db"  # made, behind the link too, by the first run that has this tracker
_LINK_TYPES = "reflink,hardlink,copy"  # DVC's outputs take no room where the file system allows


@dataclass(frozen=True)
class Outside:
    """What a copy takes from the project without a copy of it."""

    project: Project
    dvc_folder: Path  # `.dvc`
    dvc_cache: Path
    dvc_settings: Mapping[str, Mapping[str, Any]]  # of `.dvc/config.local`, which git does not have
    sources: tuple[str, ...]  # that stages read and neither a stage nor `dvc add` has made; relative to the project
    written: tuple[str, ...]  # by stages: their outputs, and `.cache`; relative to the project
    n_tracked_bytes: int  # of recordings that DVC tracks, and of outputs that it keeps in its cache

    @property
    def copies(self) -> Path:
        """Where the copies of a study lie: on the same disk as the project, and neither git nor DVC looks there.

        Several projects may have one `.dvc`. The name is the same wherever the repository is mounted.
        """
        below = os.path.relpath(self.project.root.resolve(), self.dvc_folder.resolve())
        return self.dvc_folder / "tmp" / "study" / hashlib.sha256(os.fsencode(below)).hexdigest()[:12]


def outside_of_copies(project: Project, needed: Iterable[str] = ()) -> Outside:
    """Ask DVC what copies of a project need. Tracked recordings that have changed go into DVC's cache and `raw.dvc`.

    Args:
        project: the workspace.
        needed: files that no stage names and that a run reads, such as weights; relative to the project.

    Raises:
        DataError: DVC cannot read the project.
    """
    with open_dvc(project) as repository:
        last = f"{project.dvc_yaml}:{LAST_STAGE}"
        repository.commit(last, with_deps=True, force=True, allow_missing=True, data_only=True, relink=False)
        stages = repository.stage.collect(last, with_deps=True)
        outs = [out for stage in stages for out in stage.outs]
        made = {out.fs_path for out in outs}
        sources = [dep.def_path for stage in stages for dep in stage.deps if dep.fs_path not in made]
        settings = repository.config.read("local")
        settings["cache"] = {"type": _LINK_TYPES, **repository.config["cache"], **settings.get("cache", {})}
        return Outside(
            project,
            Path(str(repository.dvc_dir)),
            Path(repository.cache.local_cache_dir),
            settings,
            tuple(dict.fromkeys([*sources, *needed])),
            tuple(os.path.relpath(path, project.root) for path in (*made, project.cache)),
            sum(out.meta.size or 0 for out in outs if out.use_cache),
        )


def refuse_no_room(folder: Path, n_copies: int, outside: Outside) -> None:
    """Refuse copies in which DVC would copy what it tracks, if the disk has no room. Links take none.

    Args:
        folder: of the copies.
        n_copies: how many.
        outside: of the project.

    Raises:
        DiskFullError: the disk has no room.
    """
    from dvc.fs import LocalFileSystem
    from dvc_objects.fs.generic import test_links

    n_bytes = n_copies * outside.n_tracked_bytes
    if n_bytes <= free_bytes(folder):
        return
    types = outside.dvc_settings["cache"]["type"]
    links = [name for name in (types.split(",") if isinstance(types, str) else types) if name != "copy"]
    disk = LocalFileSystem()
    if not test_links(links, disk, str(outside.dvc_cache), disk, str(folder / "link")):
        what = f"{n_bytes:,} bytes for what DVC tracks in {counted(n_copies, 'copy', 'copies')} of the workspace"
        raise disk_full(folder, f"{what}, since DVC's cache cannot be linked from there")


def copy_workspace(source: Project, folder: Path, outside: Outside) -> Project:
    """Copy a workspace below a new folder. The copy has the name of the original.

    Args:
        source: the project, or a copy of it in which stages have run. Their outputs come from DVC's cache, as soon as
            something runs in the new copy.
        folder: is made, on the disk of the project.
        outside: of the project.

    Raises:
        DataError: git has files that are not merged, a link that a copy cannot have, or a sparse checkout.
        DiskFullError: the disk has no room.
    """
    top = Path(git_text(source.root, "rev-parse", "--show-toplevel").rstrip("\n"))
    below = source.root.resolve().relative_to(top.resolve())
    copy = Project(folder / top.name / below)
    folder.mkdir(parents=True)
    _copy_repository(top, folder / top.name)
    _copy_files(top, folder / top.name, [below / name for name in outside.written])
    _share_dvc_cache(copy, folder, outside)
    for name in outside.sources:
        if (outside.project.root / name).exists():
            _link(outside.project.root / name, copy.root / name)
    for name in (*_SHARED_CACHES, *_CURVES):
        (outside.project.cache / name).mkdir(parents=True, exist_ok=True)
    for name in (*_SHARED_CACHES, *_CURVES, _CURVES_FILE):
        _link(outside.project.cache / name, copy.cache / name)
    return copy


def environment_of_copy(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables with which DVC runs in the copy below a folder, where it also keeps what it knows of the copy.

    It pushes nothing by itself: what all rows share is no experiment for the team.
    """
    return {**environment, "DVC_SITE_CACHE_DIR": str(folder / "dvc"), "DVC_EXP_AUTO_PUSH": "false"}


def _copy_repository(top: Path, target: Path) -> None:
    """Make a repository at the same commit and with the same index, which reads the objects of the original."""
    names = ("objects", "config", "shallow", "info/exclude")
    asked = [word for name in names for word in ("--git-path", name)]
    paths = git_text(top, "rev-parse", "--path-format=absolute", *asked).splitlines()
    objects, config, shallow, exclude = map(Path, paths)
    if git_bytes(top, "config", "--type=bool", "core.sparseCheckout") == b"true\n":
        raise DataError(
            f"{top}: found a sparse checkout, whose absent files would look deleted in a copy; expected a whole one; "
            "run `git sparse-checkout disable`, or leave out --jobs"
        )
    if git_text(top, "ls-files", "--unmerged"):
        raise DataError(f"{top}: git has files that are not merged; resolve them, and `git add` them")
    index = git_text(top, "write-tree").strip()
    git_text(top, "init", "--quiet", str(target))
    inside = target / ".git"
    (inside / "objects" / "info" / "alternates").write_text(f"{objects}\n", encoding="utf-8")
    for source, name in ((config, "config"), (shallow, "shallow"), (exclude, "info/exclude")):
        if source.is_file():
            (inside / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source, inside / name)
    git_bytes(target, "config", "--unset", "core.worktree")  # of a submodule: fails where it is not set
    git_text(target, "update-ref", "--no-deref", "HEAD", git_text(top, "rev-parse", "HEAD").strip())
    git_text(target, "read-tree", index)


def _copy_files(top: Path, target: Path, written: Collection[Path]) -> None:
    """Copy what git tracks or would add, as it lies there now.

    Args:
        top: the repository.
        target: its copy.
        written: what stages write, relative to it. A copy has no link to it, nor to a folder of it.
    """
    tracked = _listed(top, "--cached")
    names = list(dict.fromkeys([*tracked, *_listed(top, "--others", "--exclude-standard")]))
    links = {name: _leads_to(top / name) for name in names if (top / name).is_symlink()}
    links_in_copy = {name: _in_copy(leads_to, top, name, written) for name, leads_to in links.items()}
    for name in tracked:
        if links.get(name) != links_in_copy.get(name):
            raise DataError(
                f"{top / name}: git tracks this link, which a copy cannot have: it leads out of the repository, or to "
                "what stages write; put a folder there, let git ignore the link, or leave out --jobs"
            )
    # git lists what a folder held before a link took its place.
    names = [name for name in names if links.keys().isdisjoint(map(str, PurePosixPath(name).parents))]
    files = [name for name in names if name not in links and (top / name).is_file()]
    n_bytes = sum((top / name).stat().st_size for name in files)
    if n_bytes > free_bytes(target):
        raise disk_full(target, f"{n_bytes:,} bytes for a copy of the workspace")
    for name in files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(top / name, target / name)
    for name, leads_to in links_in_copy.items():
        if leads_to is not None:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).symlink_to(leads_to)
    git_bytes(target, "update-index", "--quiet", "--refresh")  # fails where a file differs from the index


def _listed(top: Path, *which: str) -> list[str]:
    return git_text(top, "ls-files", "-z", *which).split("\0")[:-1]


def _leads_to(link: Path) -> str:
    return os.readlink(link)  # noqa: PTH115  # a Path loses `./`, and git would see a change


def _in_copy(leads_to: str, top: Path, name: str, written: Collection[Path]) -> str | None:
    """Where a link leads in a copy; None where stages write there, since each copy needs a place of its own."""
    if any(path.is_relative_to(name) for path in written):
        return None
    whole = os.path.normpath((top / name).parent / leads_to)
    return leads_to if Path(leads_to).is_absolute() or Path(whole).is_relative_to(top) else whole


def _share_dvc_cache(copy: Project, folder: Path, outside: Outside) -> None:
    """Let the copy's DVC use the project's cache, with the settings that are not in git."""
    from dvc.config import Config
    from dvc.config_schema import RelPath

    outside.dvc_cache.mkdir(parents=True, exist_ok=True)  # a new project has none, and DVC makes none behind a link
    (folder / "cache").symlink_to(outside.dvc_cache)
    in_copy = os.path.relpath(outside.dvc_folder, outside.project.root)
    with Config(os.path.normpath(copy.root / in_copy)).edit("local") as local:
        local.update(outside.dvc_settings)
        # DVC writes settings in ASCII. A path from the copy to its own folder has none of the project's letters.
        local["cache"] = {**outside.dvc_settings["cache"], "dir": RelPath(folder / "cache")}


def _link(original: Path, name: Path) -> None:
    """Link what git has not brought."""
    if not os.path.lexists(name):
        name.parent.mkdir(parents=True, exist_ok=True)
        name.symlink_to(original.resolve())
