"""What the chain makes of networks that are worth a download: `python benchmarks/networks.py [--quick] [--json]`.

Each network of docs/train.md has random weights, 10 classes and pictures of its size. The table has its parameters, the
exporter that served, the largest difference of its fp32 and int8 graphs to torch as a share of the logits' range on
random pictures, the sizes of both files, and the milliseconds of both for one input in onnxruntime. The graphs take
turns, so that a busy moment hits all alike. EfficientNet-Lite0, the default, is there for comparison. Parity means the
difference of fp32; that of int8 with random weights says only that the graph is whole, since the ranges of trained
networks are others. A ratio is the time of a network by that of the default.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from export.export.quantize import Int8, measure_ranges, to_int8
from export.export.torch_export import EXPORTER_ERRORS, Attempt, attempts, core_graph
from export.graphs.runner import Graph, median_ms
from pipeline.network.network import Network, build_network
from pipeline.params import read_params

ROOT = Path(__file__).parents[1]
DEFAULT = "efficientnet_lite0"
# Name, head and side of the pictures; docs/train.md has their published accuracy.
NETWORKS = (
    (DEFAULT, "linear", 224),
    ("timm:mobilenetv4_conv_medium", "linear", 256),
    ("timm:edgenext_small", "linear", 320),
    ("timm:convnext_nano", "linear", 288),
    ("timm:vit_small_patch14_dinov2", "plain", 224),
)
N_CLASSES, N_PICTURES = 10, 8
_MEGABYTE = 1e6


@dataclass(frozen=True)
class Measured:
    """One network."""

    arch: str
    head: str
    size: int
    parameters: int
    exporter: str
    fp32_difference: float  # largest, as a share of the logits' range
    int8_difference: float
    fp32_megabytes: float
    int8_megabytes: float
    fp32_ms: float
    int8_ms: float


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 15")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    measured = [measure(*network, rounds=3 if arguments.quick else 15) for network in NETWORKS]
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "medians": {row.arch: asdict(row) for row in measured},
        "ratios": {f"{row.arch}_fp32_vs_default": round(row.fp32_ms / measured[0].fp32_ms, 2) for row in measured[1:]},
    }
    print(json.dumps(result, indent=2) if arguments.json else "\n".join([result["machine"], *_lines(measured)]))


def measure(arch: str, head: str, size: int, *, rounds: int) -> Measured:
    """Build, export, quantise, compare and time one network."""
    network = _network(arch, head, size)
    pictures_nchw = np.random.default_rng(0).normal(size=(N_PICTURES, 3, size, size)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(pictures_nchw)).numpy()
    attempt, fp32 = _exported(network, size)
    int8 = to_int8(fp32, measure_ranges(fp32, pictures_nchw, "minmax"), Int8())
    contents = [model.SerializeToString() for model in (fp32, int8)]
    graphs = [Graph(content) for content in contents]
    found = [np.concatenate([graph(picture[None]) for picture in pictures_nchw]) for graph in graphs]
    fp32_ms, int8_ms = median_ms(graphs, pictures_nchw[:1], rounds)
    return Measured(
        arch, head, size,
        sum(parameter.numel() for parameter in network.parameters()),
        str(attempt),
        *(_difference(logits, expected) for logits in found),
        *(round(len(content) / _MEGABYTE, 1) for content in contents),
        round(fp32_ms, 1),
        round(int8_ms, 1),
    )  # fmt: skip


def _network(arch: str, head: str, size: int) -> Network:
    torch.manual_seed(0)
    model = read_params(ROOT / "params.yaml").model
    model = model.model_copy(update={"arch": arch, "head": head, "weights": "none"})
    return build_network(model, size, N_CLASSES).eval()


def _exported(network: Network, size: int) -> tuple[Attempt, onnx.ModelProto]:
    """The graph of the first exporter that serves."""
    reasons = []
    for attempt in attempts(18):
        try:
            return attempt, core_graph(network, size, attempt)
        except EXPORTER_ERRORS as error:
            reasons.append(f"{attempt}: {error}")
    raise RuntimeError("; ".join(reasons))


def _difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(f"{np.abs(found - expected).max() / np.ptp(expected):.2g}")


def _lines(measured: list[Measured]) -> list[str]:
    heading = [*asdict(measured[0])]
    rows: list[list[Any]] = [heading, *([*asdict(row).values()] for row in measured)]
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(heading))]
    return ["  ".join(str(value).ljust(width) for value, width in zip(row, widths, strict=True)) for row in rows]


if __name__ == "__main__":
    main()
