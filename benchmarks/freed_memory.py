"""What it saves to keep freed memory: `python benchmarks/freed_memory.py [--quick] [--json]`.

Networks of torchvision learn on the processor, with batches of 32 random pictures of 224 x 224 pixels and no
weights. Each run is a process of its own, with glibc's own setting or with `keep_freed_memory`, in turn. Training is in
bf16, as `train` does it on processors that can. A run gives its median step; `ratios` divides the plain process's by
ours. `max_mb` is the largest memory of a run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NETWORKS = ("mobilenet_v2", "resnet18", "resnet50")
WAYS = ("plain", "kept")
STEPS = 8
BATCH = 32


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round and two networks instead of three and three")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("NETWORK", "WAY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(_run(*arguments.one)))
        return
    result = measure(NETWORKS[: 2 if arguments.quick else None], 1 if arguments.quick else 3)
    print(json.dumps(result, indent=2) if arguments.json else "\n".join(f"{k:12} {v}" for k, v in result.items()))


def measure(networks: tuple[str, ...], rounds: int) -> dict[str, Any]:
    """Let every network learn in both ways, in turn."""
    runs: dict[str, list[dict[str, float]]] = {f"{network}_{way}": [] for network in networks for way in WAYS}
    for _ in range(rounds):
        for network in networks:
            for way in WAYS:
                command = [sys.executable, __file__, "--one", network, way]
                finished = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
                runs[f"{network}_{way}"].append(json.loads(finished.stdout))
    medians = {
        name: {key: round(statistics.median(run[key] for run in of_name), 3) for key in of_name[0]}
        for name, of_name in runs.items()
    }
    seconds = {name: median["step_seconds"] for name, median in medians.items()}
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, {' '.join(platform.libc_ver())}",
        "medians": medians,
        "ratios": {name: round(seconds[f"{name}_plain"] / seconds[f"{name}_kept"], 2) for name in networks},
    }


def _run(network: str, way: str) -> dict[str, float]:
    """Let a network learn for some steps."""
    import torch
    import torchvision
    from torch.nn.functional import cross_entropy

    sys.path.insert(0, str(ROOT))
    from pipeline.network.torch_settings import keep_freed_memory

    if way == "kept":
        keep_freed_memory()
    module = getattr(torchvision.models, network)().to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(module.parameters())
    inputs = torch.randn(BATCH, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 1000, (BATCH,))
    seconds = []
    for _ in range(STEPS):
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            loss = cross_entropy(module(inputs), labels)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        seconds.append(time.perf_counter() - started)
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"step_seconds": statistics.median(seconds[2:]), "max_mb": largest}


if __name__ == "__main__":
    main()
