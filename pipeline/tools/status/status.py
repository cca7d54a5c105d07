"""The project at a glance: recordings, stale stages, the last model, disk, and the next command."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pipeline.base.errors import DataError
from pipeline.base.files import read_json
from pipeline.base.project import Project
from pipeline.base.storage.disk_space import bytes_in
from pipeline.base.words import counted
from pipeline.media import recordings
from pipeline.tools.adding.tracked_recordings import is_tracked
from pipeline.tools.corrections.named_recordings import class_folders, label_of
from pipeline.tools.disk_use import in_words
from pipeline.tools.repository.git_repository import git_bytes
from pipeline.tools.repository.merge_drivers import setup_lines
from pipeline.tools.status.stale_stages import ChainState, chain_state, recordings_in_words
from pipeline.tools.studies.dvc_experiments import param_value, parse_yaml

_FEWEST_CLASSES = 2
_ADD = "pipe add VIDEO --label CLASS"
_DEAL_BY_TABLE = "`dvc repro --force --single-item split`, then `dvc repro`"
_WIDTH = 12  # of the first column


@dataclass(frozen=True)
class ProjectStatus:
    """What `pipe status` found."""

    classes: dict[str, tuple[int, int]]  # clips and photos by class
    chain: ChainState | None
    fault: str  # why DVC does not say what is stale; empty where it does
    lines: tuple[str, ...]
    next_command: str

    @property
    def headline(self) -> str:
        """The closing line."""
        if self.chain is None:
            return "what is stale is not known"
        n_stages = len(self.chain.to_run) + len(self.chain.after_them)
        return f"{counted(n_stages, 'stage')} to run" if n_stages else "nothing to run"


def status(project: Project, layout: Literal["class", "split"]) -> ProjectStatus:
    """Look at the project; nothing is changed.

    Args:
        project: the project.
        layout: `extract.layout`.
    """
    classes = _classes(project, layout)
    chain, fault = None, ""
    try:
        chain = chain_state(project)
    except DataError as error:
        fault = str(error)
    lines = [
        *_in_column("recordings", _recordings(classes, chain, project)),
        *_in_column("to run", _stages(chain, fault)),
        *_in_column("split", _split(project)),
        *_in_column("last model", [_model(project)]),
        *_in_column("disk", [_disk(project)]),
        *_in_column("merging", _merging(project)),
    ]
    return ProjectStatus(classes, chain, fault, tuple(lines), _next_command(classes, chain, project))


def _in_column(name: str, lines: list[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield f"{'' if number else name:{_WIDTH}}{line}"


def _classes(project: Project, layout: Literal["class", "split"]) -> dict[str, tuple[int, int]]:
    clips, photos = Counter[str](), Counter[str]()
    for folder in class_folders(project, layout):
        files = list(recordings.walk(project.raw / folder))
        clips[label_of(folder, layout)] += sum(map(recordings.has_clip_suffix, files))
        photos[label_of(folder, layout)] += sum(map(recordings.has_photo_suffix, files))
    return {label: (clips[label], photos[label]) for label in sorted(clips)}


def _recordings(classes: dict[str, tuple[int, int]], chain: ChainState | None, project: Project) -> list[str]:
    if not any(map(sum, classes.values())):
        lines = ["none in data/raw"]
    else:
        n_all = sum(map(sum, classes.values()))
        by_class = ", ".join(f"{label} {_clips_and_photos(*counts)}" for label, counts in classes.items())
        lines = [f"{n_all} in {counted(len(classes), 'class', 'classes')}: {by_class}"]
    if not is_tracked(project):
        untracked = "DVC does not track them, so no colleague and no older version has them; `dvc add data/raw`"
        return [*lines, untracked] if any(map(sum, classes.values())) else lines
    linked = [project.relative(path) for path in recordings.linked_folders(project.raw)] if project.raw.is_dir() else []
    if linked:
        lines.append(f"{', '.join(linked)}: a link, and DVC tracks nothing behind a link; make it a folder")
    return [*lines, *filter(None, [recordings_in_words(chain) if chain else ""])]


def _clips_and_photos(n_clips: int, n_photos: int) -> str:
    parts = [counted(n, word) for n, word in ((n_clips, "clip"), (n_photos, "photo")) if n]
    return " and ".join(parts) or "none"


def _stages(chain: ChainState | None, fault: str) -> list[str]:
    if chain is None:
        return [f"not known: {fault}"]
    if not chain.to_run:
        return ["nothing: every stage has run on what is here"]
    lines = [stage.sentence for stage in chain.to_run if stage.has_run]
    if new := [stage.name for stage in chain.to_run if not stage.has_run]:
        lines.append(f"never run yet: {', '.join(new)}")
    if chain.after_them:
        lines.append(f"after them, where their inputs change: {', '.join(chain.after_them)}")
    return lines


def _split(project: Project) -> list[str]:
    """Say that an experiment dealt the split, though places are to be kept; empty where it did not."""
    report = _json(project.split_json)
    asks_to_keep = param_value(report, "asked.keep") is True and report.get("protocol") == "grouped"
    is_settled = param_value(report, "asked.folds") or param_value(report, "asked.hold_out")
    if not asks_to_keep or is_settled or param_value(report, "pins.pinned") != 0:
        return []
    table = project.relative(project.split_keep_csv)
    return [f"an experiment dealt it, without {table}; before you keep it: {_DEAL_BY_TABLE}"]


def _model(project: Project) -> str:
    if not project.checkpoint.is_file():
        return "none"
    written = datetime.fromtimestamp(project.checkpoint.stat().st_mtime).astimezone()
    arch = param_value(_json(project.train_reports / "provenance.json"), "params.model.arch")
    evaluation = _json(project.evaluate_json)
    answers = evaluation.get("as_device")
    parts = [f"{arch or 'a network'} in {project.relative(project.checkpoint)}, of {written:%Y-%m-%d %H:%M}"]
    if isinstance(answers, dict) and {"n_clips", "right", "wrong", "refused"} <= answers.keys():
        parts.append(
            f"{answers['right']} of {counted(answers['n_clips'], 'clip')} right, {answers['wrong']} wrong, "
            f"{answers['refused']} refused"
        )
    return "; ".join(parts)


def _json(path: Path) -> dict[str, Any]:
    """A report; empty where it is missing or broken, since `pipe status` describes whatever is there."""
    try:
        values = read_json(path)
    except DataError:
        return {}
    return values if isinstance(values, dict) else {}


def _disk(project: Project) -> str:
    kinds = {
        "recordings": [project.raw],
        "frames": [project.frames, project.frames_csv, project.fingerprints],
        "copies": [project.augmented, project.augmented_csv],
        "models and bundles": [project.checkpoint.parent, project.bundle_zip.parent],
        "caches in .cache": [project.cache],
        "DVC's cache": [project.dvc_cache],
    }
    sizes = {kind: bytes_in(paths) for kind, paths in kinds.items()}
    return ", ".join(f"{kind} {in_words(n_bytes)}" for kind, n_bytes in sizes.items() if n_bytes) or "nothing yet"


def _merging(project: Project) -> list[str]:
    """What git lacks for merging the recordings of two people; empty where it lacks nothing, or nobody shares them."""
    if not is_tracked(project) or not git_bytes(project.root, "remote"):
        return []
    lacking = [line for key, line in setup_lines().items() if not _is_set(key, project)]
    return ["git cannot merge the recordings of two people yet; run once in this clone:", *lacking] if lacking else []


def _is_set(key: str, project: Project) -> bool:
    return bool(git_bytes(project.root, "config", "--get", key))


def _next_command(classes: dict[str, tuple[int, int]], chain: ChainState | None, project: Project) -> str:
    n_filled = sum(1 for counts in classes.values() if sum(counts))
    lacks_recordings = chain is not None and (chain.recordings in ("deleted", "not in cache") or chain.differs.n_lost)
    if chain is not None and lacks_recordings:
        return _fetch(chain)
    if chain is not None and chain.differs.is_of_earlier_commit:
        return "dvc checkout data/raw.dvc"
    if chain is not None and not n_filled and _last_commit_has_recordings(project):
        return f"git checkout data/raw.dvc && {_fetch(chain)}, which bring back the recordings of the last commit"
    if n_filled < _FEWEST_CLASSES:
        return f"{_ADD}, for a second class" if n_filled else _ADD
    if chain is None:
        return "pipe doctor"
    return _next_of_chain(chain, project) or _next_when_all_has_run(project)


def _fetch(chain: ChainState) -> str:
    return "dvc pull" if chain.has_remote else "dvc checkout data/raw.dvc"


def _last_commit_has_recordings(project: Project) -> bool:
    """Whether git's `data/raw.dvc` names files, as where `dvc repro` has run on an emptied folder since."""
    committed = parse_yaml((git_bytes(project.root, "show", "HEAD:./data/raw.dvc") or b"").decode("utf-8", "replace"))
    outs = committed.get("outs")
    return isinstance(outs, list) and any(isinstance(out, dict) and out.get("nfiles") for out in outs)


def _next_of_chain(chain: ChainState, project: Project) -> str:
    """What makes the outputs up to date; empty where they are."""
    if chain.lacks_only_outputs and chain.missing_in_git:
        if all(git_bytes(project.root, "ls-files", "--", path) for path in chain.missing_in_git):
            return f"git checkout -- {shlex.join(chain.missing_in_git)}"
        return "dvc repro"
    if chain.lacks_cached_outputs:
        return "dvc checkout, which brings back what DVC's cache has"
    if chain.lacks_only_outputs and chain.has_remote:
        return "dvc pull, which fetches what another machine has made"
    return "dvc repro" if chain.to_run else ""


def _next_when_all_has_run(project: Project) -> str:
    if git_bytes(project.root, "status", "--porcelain"):
        return "git add --all && git commit, so that this version can be restored"
    return "pipe predict PATHS, or unpack dist/bundle.zip on the device"
