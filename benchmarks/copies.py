"""The planted copies that the search for near duplicates finds: `python benchmarks/copies.py [--quick] [--json]`.

One in ten of some real photos (PIPE_SHARED: hymenoptera, cats_dogs, lfw_top20, neu_surface) is copied, once with each
change; every picture is a group of its own. Recall is by kind of change. Precision counts every confirmed pair of
different originals as wrong, except for the steel patches, whose originals do overlap. Their pairs are counted apart;
`--sheet FILE` draws them for a look by eye, the doubtful ones first.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.base.section import params_path, read_section
from pipeline.extract import quality
from pipeline.split.near_duplicates.search import SearchResult, find_near_duplicates
from pipeline.split.near_duplicates.sheet import draw_pairs
from pipeline.split.params import SplitParams

Picture = NDArray[np.uint8]
SETS = {
    "hymenoptera": "hymenoptera/*/*/*.jpg",
    "cats_dogs": "cats_dogs/*/*.jpg",
    "lfw": "lfw_top20/*/*.jpg",
    "neu": "neu_surface/*/*.jpg",
}
OVERLAPPING = "neu"  # a set whose originals are known to overlap
SEED = 2026


@dataclass(frozen=True)
class Planted:
    """The origin of a picture."""

    original: str
    change: str  # "" for an original


def main() -> None:
    """Plant, search and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="every fourth photo")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sheet", type=Path, help="write the doubtful pairs of steel originals side by side")
    arguments = parser.parse_args()
    params = read_section(params_path(Project(Path.cwd())), "split", SplitParams).near_duplicates
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder))
        rows, planted = _plant(project, every=4 if arguments.quick else 1)
        started = time.perf_counter()
        search = find_near_duplicates(rows, params, project)
        seconds = time.perf_counter() - started
        result = _judge(search, planted) | {"pictures": len(rows), "seconds": round(seconds, 1)}
        if arguments.sheet:
            _write_sheet(search, planted, project, arguments.sheet)
    result["machine"] = f"{platform.machine()}, Python {platform.python_version()}"
    print(json.dumps(result, indent=2) if arguments.json else "\n".join(f"{k:32} {v}" for k, v in result.items()))


def _changes(generator: np.random.Generator) -> dict[str, Callable[[Picture], Picture]]:
    def crop(picture_hwc: Picture, least: float, most: float) -> Picture:
        height, width = picture_hwc.shape[:2]
        side = np.sqrt(generator.uniform(least, most))
        new_height, new_width = round(height * side), round(width * side)
        top, left = (int(generator.integers(0, room + 1)) for room in (height - new_height, width - new_width))
        return picture_hwc[top : top + new_height, left : left + new_width]

    return {
        "jpeg_40": lambda picture: picture,
        "brighter_20": lambda picture: np.asarray(cv2.add(picture, (20, 20, 20, 0)), np.uint8),
        "darker_20": lambda picture: np.asarray(cv2.subtract(picture, (20, 20, 20, 0)), np.uint8),
        "mirror": lambda picture: np.ascontiguousarray(picture[:, ::-1]),
        "crop_70_to_100": lambda picture: crop(picture, 0.7, 1.0),
        "crop_30_to_70": lambda picture: crop(picture, 0.3, 0.7),
    }


def _plant(project: Project, every: int) -> tuple[list[Row], dict[str, Planted]]:
    """Write the originals and, of one in ten, a copy with each change. Returns rows and origins by path."""
    generator = np.random.default_rng(SEED)
    shared = Path(os.environ.get("PIPE_SHARED", "../shared")) / "data"
    rows, planted = [], {}
    for name, pattern in SETS.items():
        paths = sorted(shared.glob(pattern))[:: every * (4 if name == "lfw" else 1)]
        chosen = set(generator.choice(len(paths), len(paths) // 10, replace=False).tolist())
        for position, path in enumerate(paths):
            picture_hwc = np.asarray(cv2.imread(str(path)), np.uint8)
            for change, apply in {"": lambda picture: picture, **_changes(generator)}.items():
                if not change or position in chosen:
                    row = _write(project, f"{name}_{position}_{change}", apply(picture_hwc), change)
                    rows.append(row)
                    planted[row.path] = Planted(f"{name}_{position}", change)
    return rows, planted


def _write(project: Project, name: str, picture_hwc: Picture, change: str) -> Row:
    path = project.frames / (f"{name}.jpg" if change else f"{name}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture_hwc, [cv2.IMWRITE_JPEG_QUALITY, 40 if change == "jpeg_40" else 95] if change else [])
    height, width = picture_hwc.shape[:2]
    phash = quality.phash(quality.luma(np.asarray(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), np.uint8)))
    return Row(project.relative(path), "a", name, name, name, width=width, height=height, phash=phash)


def _judge(search: SearchResult, planted: dict[str, Planted]) -> dict[str, object]:
    n_found: Counter[str] = Counter()
    right = wrong = overlaps = 0
    for pair in search.confirmed:
        first, second = planted[pair.first.path], planted[pair.second.path]
        if first.original == second.original:
            right += 1
            if not (first.change and second.change):
                n_found[first.change or second.change] += 1
        elif first.original.startswith(OVERLAPPING) and second.original.startswith(OVERLAPPING):
            overlaps += not first.change and not second.change
        else:
            wrong += 1
    expected = Counter(picture.change for picture in planted.values() if picture.change)
    kept = [change for change in expected if change != "crop_30_to_70"]
    recalls = {f"recall_{change}": round(n_found[change] / expected[change], 4) for change in expected}
    total = sum(n_found[change] for change in kept) / sum(expected[change] for change in kept)
    return {
        **recalls,
        "recall_keeping_70_percent": round(total, 4),
        "precision_but_for_steel": round(right / (right + wrong), 4),
        "pairs_of_steel_originals": overlaps,
    }


def _write_sheet(search: SearchResult, planted: dict[str, Planted], project: Project, path: Path) -> None:
    steel = [
        pair
        for pair in search.confirmed
        if planted[pair.first.path].original != planted[pair.second.path].original
        and not (planted[pair.first.path].change or planted[pair.second.path].change)
    ]
    draw_pairs(SearchResult(tuple(reversed(steel)), search.n_pictures, search.n_proposed), project)
    path.write_bytes(project.near_duplicates_png.read_bytes())


if __name__ == "__main__":
    main()
