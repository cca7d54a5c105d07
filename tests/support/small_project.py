"""A small project whose frames are drawn, split and ready to train on: two colours, a few clips of each."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

from pipeline.base import manifest
from pipeline.base.files import sha256_of, write_json
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.split.params import SplitParams

ROOT = Path(__file__).parents[2]
COLOURS = {"red": (200, 60, 60), "蓝色": (60, 60, 200)}
SIDES = ("train", "train", "val", "test", "test")  # of the clips of a class
FRAMES_PER_CLIP = 4


def set_params(project: Project, **sections: dict[str, object]) -> None:
    """Change values in the project's `params.yaml`."""
    yaml = YAML()
    values = yaml.load(project.params_yaml)
    for name, section in sections.items():
        values[name].update(section)
    yaml.dump(values, project.params_yaml)


def without_search(params: SplitParams, *, keep: bool = False) -> SplitParams:
    """The same without looking for near duplicates: for rows without pictures. Each run deals anew unless `keep`."""
    search = params.near_duplicates.model_copy(update={"search": False})
    return params.model_copy(update={"near_duplicates": search, "keep": keep})


def small_project(root: Path) -> Project:
    """Draw the frames and write `data/split.csv`; params for a network that trains in a second."""
    root.mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", root)
    project = Project(root)
    set_params(
        project, model={"arch": "resnet18", "weights": "none"}, image={"size": 32}, train={"epochs": 3, "batch_size": 8}
    )
    generator = np.random.default_rng(0)
    rows = [
        _draw(project, label, clip, side, number, generator)
        for label in COLOURS
        for clip, side in enumerate(SIDES)
        for number in range(FRAMES_PER_CLIP)
    ]
    manifest.write_split(rows, project.split_csv)
    write_json(project.split_json, {"protocol": "grouped", "optimistic": None})
    return project


def in_folds(project: Project) -> None:
    """Give every clip of a small project the fold of its number."""
    rows = [replace(row, fold=int(row.source[-5])) for row in manifest.read_split(project.split_csv)]
    manifest.write_split(rows, project.split_csv)


def photo_project(root: Path, labels: Sequence[str], n_photos: int) -> Project:
    """Draw photos of some classes, each class of its own shade, and list them as `extract` does; default params."""
    root.mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", root)
    project = Project(root)
    generator = np.random.default_rng(0)
    rows = []
    for shade, label in zip(np.linspace(30, 220, len(labels)), labels, strict=True):
        for number in range(n_photos):
            source = f"data/raw/{label}/{number:03}.jpg"
            path = project.frames / label / f"{number:03}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = generator.normal(0, 20, (70, 90, 3))
            Image.fromarray((np.array((shade, 120, 250 - shade)) + noise).clip(0, 255).astype(np.uint8)).save(path)
            rows.append(Row(project.relative(path), label, source, sha256_of(path), source, width=90, height=70))
    manifest.write(rows, project.frames_csv)
    return project


def _draw(project: Project, label: str, clip: int, side: str, number: int, generator: np.random.Generator) -> Row:
    source = f"data/raw/{label}/clip_{clip}.mp4"
    path = project.frames / label / f"clip_{clip}.mp4" / f"{number:06d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = generator.normal(0, 20, (40, 56, 3))
    Image.fromarray((np.array(COLOURS[label]) + noise).clip(0, 255).astype(np.uint8)).save(path, quality=95)
    return Row(
        path=project.relative(path),
        label=label,
        source=source,
        source_sha256=sha256_of(path) if number == 0 else sha256_of(path.with_name("000000.jpg")),
        group=source,
        time_seconds=float(number),
        width=56,
        height=40,
        split=side,
    )
