"""What threads cost that wait busily for the next picture: `python benchmarks/spinning.py [--quick] [--json]`.

The graphs are those of a finished project (`--project`, by default what `make demo` left in build/demo). They run as
onnxruntime comes, and with threads that sleep once a run has ended, as the device's runtime opens them. `alone` is a
graph that answers one picture after the other; `decoding` decodes a JPEG before each answer; `two_graphs` asks
fp32 and int8 in turn, as `pipe parity` does. All take turns. The figures are the medians of milliseconds and of
processor milliseconds of a picture, and `ratios` divides those as it comes by ours.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the checkout that the benchmark lies in

from runtime.session import onnxruntime, session_options  # noqa: E402

WAYS = ("as_it_comes", "ours")
CALLS = 30  # pictures of a turn
PAUSE_SECONDS = 0.05  # between turns, since the one before may leave threads awake


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 turns instead of 60")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--project", type=Path, default=ROOT / "build" / "demo", help="a project whose chain has run")
    arguments = parser.parse_args()
    result = measure(arguments.project / "models" / "onnx", 10 if arguments.quick else 60)
    print(json.dumps(result, indent=2) if arguments.json else "\n".join(f"{k:8} {v}" for k, v in result.items()))


def measure(graphs: Path, turns: int) -> dict[str, Any]:
    """Take turns, and compare."""
    calls = {f"{work}_{way}": call for way in WAYS for work, call in _calls(graphs, way).items()}
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for turn in range(turns):
        for name in sorted(calls, reverse=bool(turn % 2)):  # nobody always comes behind the same one
            runs[name] += _turn(calls[name])
    medians = {
        f"{name}_{unit}": round(statistics.median(run[column] for run in of_name), 3)
        for name, of_name in runs.items()
        for column, unit in enumerate(("ms", "processor_ms"))
    }
    ratios = {
        f"{work}_{unit}": round(medians[f"{work}_as_it_comes_{unit}"] / medians[f"{work}_ours_{unit}"], 2)
        for work in ("alone", "decoding", "two_graphs")
        for unit in ("ms", "processor_ms")
    }
    return {"machine": f"{platform.machine()}, {os.cpu_count()} processors", "medians": medians, "ratios": ratios}


def _turn(call: Callable[[], object]) -> list[tuple[float, float]]:
    """Milliseconds and processor milliseconds of each call but the first one."""
    time.sleep(PAUSE_SECONDS)
    call()
    runs = list[tuple[float, float]]()
    for _ in range(CALLS):
        started, processor = time.perf_counter(), time.process_time()
        call()
        runs.append((1000 * (time.perf_counter() - started), 1000 * (time.process_time() - processor)))
    return runs


def _calls(graphs: Path, way: str) -> dict[str, Callable[[], object]]:
    """What is timed, in one way to open the graphs."""
    picture_nhwc = np.random.default_rng(0).integers(0, 256, (1, 480, 640, 3), dtype=np.uint8)
    jpeg = cv2.imencode(".jpg", cv2.GaussianBlur(picture_nhwc[0], (9, 9), 3))[1]
    int8, fp32 = (_open(graphs / name, way) for name in ("model_int8.onnx", "model.onnx"))
    return {
        "alone": lambda: int8(picture_nhwc),
        "decoding": lambda: int8(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[None]),
        "two_graphs": lambda: (int8(picture_nhwc), fp32(picture_nhwc)),
    }


def _open(graph: Path, way: str) -> Callable[[np.ndarray[Any, Any]], object]:
    library = onnxruntime()
    options = session_options(library) if way == "ours" else library.SessionOptions()
    session = library.InferenceSession(graph.read_bytes(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda values: session.run(None, {name: values})


if __name__ == "__main__":
    main()
