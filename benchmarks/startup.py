"""What commands and stages cost before they do anything: `python benchmarks/startup.py [--quick] [--json]`.

Two tables. Commands: Python's own start, `pipe --help`, `import onnxruntime` and the device's runtime, started in turn,
so that a busy machine slows all of them alike. Stages: the nine stages of the chain on a finished project (`--project`,
by default what `make demo` left in build/demo), each with the seconds of its imports. `--before CHECKOUT` runs the
stages of another checkout of this repository in turn with ours and prints the ratio of the whole chains. It runs them
on its own build/demo where there is one, since its params may be others.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMANDS = {
    "python": ["-c", "pass"],
    "pipe_help": ["-m", "pipeline", "--help"],
    "onnxruntime": ["-c", "import onnxruntime"],
    "runtime": ["-c", "import onnxruntime; from runtime import Classifier"],
}
STAGES = ("extract", "augment", "split", "train", "evaluate", "export", "parity", "report", "bundle")


@dataclass(frozen=True)
class StageTime:
    """One run of a stage."""

    seconds: float
    import_seconds: float


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1 round of stages and 3 of commands instead of 3 and 15")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--project", type=Path, default=ROOT / "build" / "demo", help="a project whose chain has run")
    parser.add_argument("--before", type=Path, help="another checkout, whose stages run in turn with ours")
    arguments = parser.parse_args()
    medians = _command_medians(3 if arguments.quick else 15)
    result: dict[str, object] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}",
        "medians": {f"{name}_seconds": round(value, 3) for name, value in medians.items()},
        "above": {
            "pipe_help_above_python_seconds": round(medians["pipe_help"] - medians["python"], 3),
            "runtime_above_onnxruntime_seconds": round(medians["runtime"] - medians["onnxruntime"], 3),
        },
    }
    if (arguments.project / "data" / "frames.csv").is_file():
        result |= _chain(arguments.project, arguments.before, 1 if arguments.quick else 3)
    else:
        print(f"{arguments.project}: no finished project; run `make demo` for the table of stages", file=sys.stderr)
    print(json.dumps(result, indent=2) if arguments.json else "\n".join(_lines(result)))


def _lines(result: dict[str, object], indent: str = "") -> list[str]:
    lines = []
    for name, value in result.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}", *_lines(value, f"{indent}  ")]
        else:
            lines.append(f"{indent}{name:36} {value}")
    return lines


def _command_medians(rounds: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _chain(project: Path, before: Path | None, rounds: int) -> dict[str, object]:
    """Every stage's median seconds and those of its imports, for ours and for another checkout, in turn."""
    checkouts = {"ours": ROOT} | ({"before": before.resolve()} if before else {})
    own = before and before.resolve() / "build" / "demo"
    projects = {"ours": project, "before": own if own and own.is_dir() else project}
    times: dict[str, dict[str, list[StageTime]]] = {name: {stage: [] for stage in STAGES} for name in checkouts}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="startup-") as folder:
            for name, checkout in checkouts.items():
                _copy_project(projects[name], checkout, Path(folder, name))
            for stage in STAGES:
                for name, checkout in checkouts.items():
                    times[name][stage].append(_run_stage(stage, checkout, Path(folder, name)))
    tables = {f"stages_{name}": _table(of_stages) for name, of_stages in times.items()}
    if before is None:
        return tables
    ours, theirs = (tables[f"stages_{name}"]["chain"]["seconds"] for name in ("ours", "before"))
    return {**tables, "ratios": {"chain_vs_before": round(theirs / ours, 2)}}


def _table(times: dict[str, list[StageTime]]) -> dict[str, dict[str, float]]:
    table = {
        stage: {
            "seconds": round(statistics.median(run.seconds for run in runs), 2),
            "import_seconds": round(statistics.median(run.import_seconds for run in runs), 2),
        }
        for stage, runs in times.items()
    }
    total = {key: round(sum(row[key] for row in table.values()), 2) for key in ("seconds", "import_seconds")}
    return {**table, "chain": total}


def _copy_project(project: Path, checkout: Path, folder: Path) -> None:
    """The project's data without its caches, with the runtime of the checkout, which `bundle` ships."""
    for name in ("data", "models", "reports"):
        shutil.copytree(project / name, folder / name)
    shutil.copytree(checkout / "runtime", folder / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(project / "params.yaml", folder)


def _run_stage(stage: str, checkout: Path, folder: Path) -> StageTime:
    options = ["--record"] if stage == "parity" else []
    command = [sys.executable, "-X", "importtime", "-m", "pipeline", stage, *options]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    started = time.perf_counter()
    finished = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if finished.returncode:
        raise SystemExit(f"{checkout}: {stage} ended with {finished.returncode}:\n{finished.stderr[-2000:]}")
    # A progress bar may stand before it on the same line.
    return StageTime(seconds, sum(int(own) for own in re.findall(r"import time: +(\d+) \|", finished.stderr)) / 1e6)


if __name__ == "__main__":
    main()
