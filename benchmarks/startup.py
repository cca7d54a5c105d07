"""How long commands take before they do anything: `python benchmarks/startup.py [--quick] [--json]`.

Python's own start, `pipe --help`, `import onnxruntime` and `import runtime` with its classifier are started in turn, so
that a busy machine slows all of them alike; the medians and what each costs above the one it builds on are printed.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python": ["-c", "pass"],
    "pipe_help": ["-m", "pipeline", "--help"],
    "onnxruntime": ["-c", "import onnxruntime"],
    "runtime": ["-c", "import onnxruntime; from runtime import Classifier"],
}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 15")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(3 if arguments.quick else 15):
        for name, command in COMMANDS.items():
            seconds[name].append(_seconds(command))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "medians": {f"{name}_seconds": round(value, 3) for name, value in medians.items()},
        "above": {
            "pipe_help_above_python_seconds": round(medians["pipe_help"] - medians["python"], 3),
            "runtime_above_onnxruntime_seconds": round(medians["runtime"] - medians["onnxruntime"], 3),
        },
    }
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    for name, value in {**result["medians"], **result["above"]}.items():
        print(f"{name:36} {value:.3f}")


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
