"""int8 against other ways to quantise: `python benchmarks/quantize.py [--quick] [--json]`.

The photos are shared fish, hymenoptera and NEU (PIPE_SHARED). A frozen EfficientNet-Lite0 gets a linear head, fitted on
three quarters of the groups; the rest is held out. A group of the fish is one tracked fish, else a photo. All quantise
the same float32 graph with the same 32 training photos: ours as `pipe export` does, ours without corrected biases,
onnxruntime's `quantize_static` with its defaults, and NNCF, fast and accurate. Held-out photos give the distance to
the float32 graph (mean square error of the logits, as a share of their variance), the answers that agree with it,
and top-1. Then the graphs run in turns, one picture each, with the options of the device's runtime. Ratios are the
peer's figure by ours; those of NNCF are null where it is not installed.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import importlib.util
import json
import logging
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from ruamel.yaml import YAML
from torch import nn
from torch.nn import functional

from export.export.quantize import Int8, Quantizer
from export.export.torch_export import attempts, core_graph
from export.graphs.runner import Graph, median_ms
from pipeline.base.progress import track
from pipeline.network.network import Network, build_network, build_preprocess
from pipeline.params import validate_params
from runtime.images import read_image
from runtime.session import onnxruntime

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("PIPE_SHARED", ROOT.parent / "shared")) / "data"
FOLDERS = {"fish": "fish", "hymenoptera": "hymenoptera/train", "neu": "neu_surface"}
CALIBRATION_PHOTOS, HELD_OUT, EPOCHS, BATCH, OPSET, ROUNDS = 32, 0.25, 20, 32, 18, 50

Inputs = NDArray[np.float32]
Quantise = Callable[[onnx.ModelProto, Inputs], onnx.ModelProto]


@dataclass(frozen=True)
class Photos:
    """The preprocessed photos of a data set, with a network that was fitted on some of them."""

    core: onnx.ModelProto
    inputs_nchw: Inputs
    truth: NDArray[np.int64]
    training: NDArray[np.int64]  # photos, in turn from the classes
    held_out: NDArray[np.int64]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the fish alone")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    medians: dict[str, float | None] = {}
    for name in list(FOLDERS)[: 1 if options.quick else None]:
        medians |= {f"{name}_{key}": value for key, value in compare(photos_of(SHARED / FOLDERS[name])).items()}
    result = {"machine": _machine(), "medians": medians, "ratios": _ratios(medians)}
    print(json.dumps(result, indent=2) if options.json else _text(result))


# The network that all quantise


def photos_of(folder: Path) -> Photos:
    """Read and preprocess the photos, and fit a head."""
    torch.manual_seed(0)
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix in (".jpg", ".png")]
    names = sorted({path.parent.name for path in paths})
    params = validate_params(YAML(typ="safe").load(ROOT / "params.yaml"), ROOT / "params.yaml")
    network = build_network(params.model, params.image.size, len(names)).eval()
    preprocess = build_preprocess(params.model, params.image)
    truth = np.array([names.index(path.parent.name) for path in paths])
    inputs, features = [], []
    with torch.inference_mode():
        for path in track(paths, f"photos of {folder.name}", len(paths)):
            inputs.append(preprocess(torch.from_numpy(read_image(path, max_pixels=10**8))[None]))
            features.append(network.embed(inputs[-1]))
    training, held_out = _sides(paths, truth)
    _fit(network, torch.cat(features).clone(), torch.from_numpy(truth), training)
    core = core_graph(network, params.image.size, attempts(OPSET)[0])
    return Photos(core, torch.cat(inputs).numpy(), truth, training, held_out)


def _sides(paths: list[Path], truth: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Deal whole groups of each class; the training photos come in turn from the classes."""
    generator = np.random.default_rng(0)
    groups = np.array([path.stem.split("_frame")[0] for path in paths])
    training: list[NDArray[np.int64]] = []
    for index in range(truth.max() + 1):
        of_class = generator.permutation(np.unique(groups[truth == index]))
        kept = of_class[max(1, round(HELD_OUT * len(of_class))) :]
        training.append(generator.permutation(np.flatnonzero((truth == index) & np.isin(groups, kept))))
    longest = max(map(len, training))
    in_turn = [photos[turn] for turn in range(longest) for photos in training if turn < len(photos)]
    return np.array(in_turn), np.setdiff1d(np.arange(len(paths)), in_turn)


def _fit(network: Network, features: torch.Tensor, truth: torch.Tensor, training: NDArray[np.int64]) -> None:
    """Fit the head as `pipe train` does by default: Adam at 0.001, 20 epochs, batches of 32."""
    layer = network.head.classify[0]
    if not isinstance(layer, nn.Linear):
        raise SystemExit("params.yaml: model.head and model.output; expected linear and softmax, as they come")
    optimizer = torch.optim.Adam(layer.parameters(), 0.001)
    side = torch.from_numpy(training)
    for _ in range(EPOCHS):
        for batch in side[torch.randperm(len(side))].split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(layer(features[batch]), truth[batch]).backward()
            optimizer.step()


# Who quantises


def ways() -> dict[str, Quantise]:
    """Return every way to quantise that is installed."""
    found: dict[str, Quantise] = {
        "ours": functools.partial(_ours, recipe=Int8()),
        "ours_uncorrected": functools.partial(_ours, recipe=Int8(corrected=False)),
        "onnxruntime": _onnxruntime,
    }
    if importlib.util.find_spec("nncf"):
        found["nncf_fast"] = functools.partial(_nncf, fast=True)
        found["nncf_accurate"] = functools.partial(_nncf, fast=False)
    return found


def _ours(core: onnx.ModelProto, inputs_nchw: Inputs, recipe: Int8) -> onnx.ModelProto:
    return Quantizer(core, inputs_nchw).to_int8(recipe)


def _onnxruntime(core: onnx.ModelProto, inputs_nchw: Inputs) -> onnx.ModelProto:
    """Quantise as onnxruntime does when nothing but the data is given."""
    onnxruntime()
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._pictures: Iterator[Inputs] = iter(inputs_nchw)

        def get_next(self) -> dict[str, Inputs] | None:
            picture = next(self._pictures, None)
            return None if picture is None else {"input": picture[None]}

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(core, before)
        quantize_static(before, after, Reader())
        return onnx.load(after)


def _nncf(core: onnx.ModelProto, inputs_nchw: Inputs, fast: bool) -> onnx.ModelProto:
    os.environ["NNCF_CI"] = "1"  # else it reports its use to its maker
    import nncf

    nncf.set_log_level(logging.ERROR)
    data = nncf.Dataset([{"input": picture[None]} for picture in inputs_nchw])
    # By default the model's opset and its batch are kept; the number of pictures is stated since its default is 300.
    made: onnx.ModelProto = nncf.quantize(core, data, subset_size=len(inputs_nchw), fast_bias_correction=fast)
    return made


# What comes of it


def compare(photos: Photos) -> dict[str, float | None]:
    """Quantise in every way, and measure each graph beside the float32 one."""
    calibration_nchw = photos.inputs_nchw[photos.training[:CALIBRATION_PHOTOS]]
    graphs, figures = {"fp32": Graph(photos.core.SerializeToString())}, dict[str, float | None]()
    for name, quantise in ways().items():
        started = time.perf_counter()
        made = quantise(photos.core, calibration_nchw)
        figures[f"{name}_seconds"] = round(time.perf_counter() - started, 1)
        graphs[name] = Graph(made.SerializeToString())
    held_out_nchw, truth = photos.inputs_nchw[photos.held_out], photos.truth[photos.held_out]
    logits = {name: graph.run_in_batches(held_out_nchw) for name, graph in graphs.items()}
    times_ms = median_ms(list(graphs.values()), held_out_nchw[:1], ROUNDS)
    figures["held_out"] = len(truth)
    expected = logits["fp32"]
    for (name, found), milliseconds in zip(logits.items(), times_ms, strict=True):
        is_right = found.argmax(axis=1) == truth
        figures[f"{name}_distance"] = float(f"{np.square(found - expected).mean() / expected.var():.3g}")
        figures[f"{name}_agreement"] = round(float((found.argmax(axis=1) == expected.argmax(axis=1)).mean()), 4)
        figures[f"{name}_top1"] = round(float(is_right.mean()), 4)
        figures[f"{name}_ms"] = round(milliseconds, 2)
    return figures


def _ratios(medians: dict[str, float | None]) -> dict[str, float | None]:
    """Divide each peer's distance and time by ours."""
    ratios: dict[str, float | None] = {}
    for name in FOLDERS:
        for figure in ("distance", "ms"):
            ours = medians.get(f"{name}_ours_{figure}")
            for peer in ("onnxruntime", "nncf_fast", "nncf_accurate"):
                value = medians.get(f"{name}_{peer}_{figure}")
                if ours is not None:
                    ratios[f"{name}_{figure}_{peer}"] = None if value is None else round(value / ours, 2)
    return ratios


def _machine() -> str:
    nncf = importlib.metadata.version("nncf") if importlib.util.find_spec("nncf") else "is not installed"
    return (
        f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, "
        f"torch {torch.__version__}, onnxruntime {onnxruntime().__version__}, nncf {nncf}"
    )


def _text(result: dict[str, Any]) -> str:
    numbers = {**result["medians"], **result["ratios"]}
    return "\n".join([result["machine"], *(f"{name:44} {value}" for name, value in numbers.items())])


if __name__ == "__main__":
    main()
