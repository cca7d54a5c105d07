"""The demo: clips from a virtual phone camera, the whole chain on them, and answers from the finished bundle."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from export.graphs.device_process import AS_ON_A_DEVICE
from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.files import read_json
from pipeline.base.project import Project
from pipeline.base.storage.csv_files import table_rows
from pipeline.tools.demo.demo_clips import make_demo_clips
from pipeline.tools.project.init import init
from pipeline.tools.repository.own_programs import environment_with_own_programs
from pipeline.tools.studies.recipe import apply_recipe
from runtime.archive import unpack

_OWN_PROJECT = "clip2edge_demo"  # the folder of a project that the demo makes for itself


@dataclass(frozen=True)
class DemoReport:
    """How the bundle answered."""

    n_frames: int  # of the test side
    n_different: int  # answers that differ from predictions.csv
    folder: str = ""  # of the project that was made for the demo, with a slash; empty: the demo ran in a project

    @property
    def headline(self) -> str:
        """The closing line."""
        answers = f"the bundle answered {self.n_frames} test frames, {self.n_different} differ from predictions.csv"
        return f"{answers}; {self.folder}reports/report.html"


def demo(project: Project) -> DemoReport:
    """Make clips in `data/raw`, apply the recipe `demo`, run `dvc repro`, classify with the bundle, print a table.

    In a folder that is no project, a new project is made below it first.

    Raises:
        DataError: `data/raw` is not empty, a stage failed, or the bundle cannot run.
    """
    if project.raw.exists() and any(project.raw.iterdir()):
        raise DataError(f"{project.raw}: found clips; the demo makes its own and needs an empty project")
    console = Console()
    if not project.dvc_yaml.exists():
        console.print(init(project.root / _OWN_PROJECT).headline)
        made = _run_demo(Project(project.root / _OWN_PROJECT), console)
        return dataclasses.replace(made, folder=f"{_OWN_PROJECT}/")
    return _run_demo(project, console)


def _run_demo(project: Project, console: Console) -> DemoReport:
    console.print("1/4 filming with a virtual phone camera: brick, grass and 砾石 (gravel)")
    make_demo_clips(project.raw)
    console.print(f"2/4 {apply_recipe('demo', project).headline}")
    console.print("3/4 dvc repro")
    repro_seconds = _repro(project)
    console.print("4/4 classifying every test frame from the unpacked bundle, where torch cannot be imported")
    bundle = project.bundle_zip.with_suffix("")
    unpack(project.bundle_zip, bundle)
    report = _classify_on_device(project, bundle)
    console.print(_results_table(project, _run_on_device(bundle, "bench"), repro_seconds))
    return report


def _repro(project: Project) -> float:
    """Run the chain and return how many seconds it took."""
    started = time.monotonic()
    command = [sys.executable, "-m", "dvc", "repro"]
    finished = subprocess.run(command, cwd=project.root, env=environment_with_own_programs(), check=False)
    if finished.returncode != 0:
        raise DataError(f"dvc repro: ended with {finished.returncode}; see the failed stage's line above")
    return time.monotonic() - started


def _run_on_device(bundle: Path, *arguments: str) -> Any:
    """Run `python -m runtime` in the unpacked bundle, without the training libraries, and return its JSON."""
    command = [sys.executable, "-c", AS_ON_A_DEVICE, *arguments, "--json"]
    finished = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise DataError(f"{bundle}: {arguments[0]} ended with {finished.returncode}: {finished.stderr.strip()}")
    return json.loads(finished.stdout)


def _classify_on_device(project: Project, bundle: Path) -> DemoReport:
    """Classify every test frame with the bundle, and compare the answers with `predictions.csv` (out of fold)."""
    rows = [row for row in manifest.read_split(project.split_csv) if row.split == "test"]
    answers = _run_on_device(bundle, "classify", *(str(project.root / row.path) for row in rows))
    with project.predictions_csv.open(encoding="utf-8", newline="") as file:
        predicted = {row["path"]: row["predicted"] for row in table_rows(file)}
    # predictions.csv has the most probable class, even where the answer is "none of the classes".
    labels = [max(answer["probabilities"], key=answer["probabilities"].get) for answer in answers]
    n_different = sum(label != predicted[row.path] for row, label in zip(rows, labels, strict=True))
    return DemoReport(len(rows), n_different)


def _results_table(project: Project, bench: dict[str, Any], repro_seconds: float) -> Table:
    evaluation, split, parity = (
        read_json(path) for path in (project.evaluate_json, project.split_json, project.parity_json)
    )
    device = parity["as_device"]
    low, high = device["right_ci95"]
    counts = {side: sum(numbers["frames"] for numbers in classes.values()) for side, classes in split["counts"].items()}
    fp32 = parity["variants"]["fp32"]
    latency = bench["variants"][0]  # the recommended one
    table = Table(title="Results", show_header=False)
    table.add_row("frames", str(sum(counts.values())))
    table.add_row("split, by whole clips", ", ".join(f"{side} {n}" for side, n in counts.items()))
    table.add_row(
        "clips right out of fold",
        f"{device['right']} of {device['n_clips']}, {device['refused']} refused; 95 % interval {low:.0%} to {high:.0%}",
    )
    table.add_row("frames right out of fold", f"{evaluation['top1']:.1%} of {evaluation['n_frames']}")
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
