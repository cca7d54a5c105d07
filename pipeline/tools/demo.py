"""The demo: clips from a virtual phone camera, the whole chain on them, and answers from the finished bundle."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.files import read_json
from pipeline.base.project import Project
from pipeline.tools.demo_clips import make_demo_clips
from pipeline.tools.studies.recipe import apply_recipe
from runtime.archive import unpack

# What a device lacks: with None in sys.modules an import of it fails.
AS_ON_A_DEVICE = """
import runpy, sys
for name in ("torch", "torchvision", "timm", "pipeline", "export"):
    sys.modules[name] = None
runpy.run_module("runtime", run_name="__main__", alter_sys=True)
"""


def demo(project: Project) -> None:
    """Make clips in `data/raw`, apply the recipe `demo`, run `dvc repro`, and print what came of it.

    Raises:
        DataError: `data/raw` is not empty, a stage failed, or the bundle answers differently from `predictions.csv`.
    """
    if project.raw.exists() and any(project.raw.iterdir()):
        raise DataError(f"{project.raw}: found clips; the demo makes its own and needs an empty project")
    console = Console()
    console.print("1/4 filming with a virtual phone camera: brick, grass and 砾石 (gravel)")
    make_demo_clips(project.raw)
    console.print(f"2/4 {apply_recipe('demo', project).headline}")
    console.print("3/4 dvc repro")
    repro_seconds = _repro(project)
    console.print("4/4 classifying every test frame from the unpacked bundle, where torch cannot be imported")
    bundle = project.bundle_zip.with_suffix("")
    unpack(project.bundle_zip, bundle)
    n_frames, n_other = _classify_on_device(project, bundle)
    console.print(_closing_table(project, _on_device(bundle, "bench"), repro_seconds))
    console.print(f"The bundle answered {n_frames} test frames; {n_other} differ from predictions.csv.")
    console.print("Look at reports/report.html, and run `dvc repro` again: nothing is left to do.")


def _repro(project: Project) -> float:
    """Run the chain; gives its seconds."""
    started = time.monotonic()
    finished = subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=project.root, check=False)
    if finished.returncode != 0:
        raise DataError(f"dvc repro: ended with {finished.returncode}; the stage's own line stands above")
    return time.monotonic() - started


def _on_device(bundle: Path, *arguments: str) -> Any:
    """Run `python -m runtime` in the unpacked bundle without the training libraries; gives its JSON."""
    command = [sys.executable, "-c", AS_ON_A_DEVICE, *arguments, "--json"]
    finished = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise DataError(f"{bundle}: {arguments[0]} ended with {finished.returncode}: {finished.stderr.strip()}")
    return json.loads(finished.stdout)


def _classify_on_device(project: Project, bundle: Path) -> tuple[int, int]:
    """How many test frames the bundle answered, and how many of its answers are not those of `predictions.csv`."""
    rows = [row for row in manifest.read_split(project.split_csv) if row.split == "test"]
    answers = _on_device(bundle, "classify", *(str(project.root / row.path) for row in rows))
    with project.predictions_csv.open(encoding="utf-8", newline="") as file:
        expected = {row["path"]: row["predicted"] for row in csv.DictReader(file)}
    # Also of a frame that is taken for none of the classes, predictions.csv has the most probable one.
    said = [max(answer["probabilities"], key=answer["probabilities"].get) for answer in answers]
    other = [row for row, label in zip(rows, said, strict=True) if label != expected[row.path]]
    return len(rows), len(other)


def _closing_table(project: Project, bench: dict[str, Any], repro_seconds: float) -> Table:
    evaluation, split, parity = (
        read_json(path) for path in (project.evaluate_json, project.split_json, project.parity_json)
    )
    low, high = evaluation["group_top1_ci95"]
    counts = {side: sum(numbers["frames"] for numbers in classes.values()) for side, classes in split["counts"].items()}
    fp32 = parity["variants"]["fp32"]
    latency = bench["variants"][0]  # the recommended one
    table = Table(title="What came of it", show_header=False)
    table.add_row("frames", str(sum(counts.values())))
    table.add_row("split, by whole clips", ", ".join(f"{side} {n}" for side, n in counts.items()))
    table.add_row("top-1 on held-out frames", f"{evaluation['top1']:.1%} of {evaluation['n_frames']}")
    table.add_row(
        "held-out clips right",
        f"{evaluation['groups_right']} of {evaluation['n_groups']}; exact 95 % interval {low:.0%} to {high:.0%}",
    )
    table.add_row("the number is", f"optimistic: {evaluation['optimistic']}" if evaluation["optimistic"] else "honest")
    table.add_row(
        "parity with torch, fp32",
        f"{'passed' if parity['passed'] else 'FAILED'}: {fp32['flips']} flips, largest difference "
        f"{fp32['max_abs_logit_difference']:.1e} of a logit range of {fp32['logit_range']:.1f}",
    )
    table.add_row("bundle", f"{project.bundle_zip.stat().st_size / 1e6:.1f} MB, dist/bundle.zip")
    table.add_row(
        "latency on this machine",
        f"{latency['pixels']['median_ms']:.1f} ms a picture; {latency['file']['median_ms']:.1f} ms with JPEG decoding",
    )
    table.add_row("dvc repro took", f"{repro_seconds:.0f} s")
    return table
