"""One picture through the graphs that we ship, against its peers: `python benchmarks/infer.py [--quick] [--json]`.

Four networks with random weights (latency does not ask what they are), of 224 pixels and 10 classes, batch of one. Ours
is the core as `pipe export` writes it, fp32 and int8, in onnxruntime as the device's runtime opens it; the peers are
torch in eager mode, torch's own export opened by onnxruntime as it comes, and OpenVINO on our two files. Each takes as
many threads as it thinks right. They run in turns, a few calls each with the first left out, so that a busy moment
hits all alike and every one finds its caches warm; before each turn is a pause, since the one before keeps threads
spinning for a while. Before and behind the core: a 1080p picture through `preprocess.onnx`, and logits to a label.
Ratios are the peer's time by ours, of the medians; those without a network's name are MobileNetV2's, but
`fp32_vs_plain_onnxruntime`, which is the least of the four. `prepost_share_of_core` is our own: pre- and
post-processing by MobileNetV2's core. What OpenVINO says is null where it is not installed.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from ruamel.yaml import YAML

from export.export.quantize import Int8, measure_ranges, to_int8
from export.export.torch_export import attempts, core_graph
from export.graphs.preprocess_graph import join, preprocess_graph, seal
from export.graphs.runner import Graph
from pipeline.network.network import Network, build_network, build_preprocess
from pipeline.network.preprocess import Preprocess
from pipeline.params import validate_params
from runtime.classifier import CONTRACT, Classifier
from runtime.contract import Contract, Geometry, Variant
from runtime.session import onnxruntime

ROOT = Path(__file__).parent.parent
ARCHES = ("mobilenet_v2", "resnet18", "resnet50", "vgg16")
SIZE, N_CLASSES, CALIBRATION_FRAMES, OPSET = 224, 10, 4, 18
HEIGHT, WIDTH = 1080, 1920
CALLS = 6  # of a turn; the first does not count
PAUSE_SECONDS = 0.05

Call = Callable[[], object]
Input = NDArray[np.float32]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="4 rounds instead of 20")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rounds = 4 if arguments.quick else 20
    medians: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for arch in ARCHES:
            found = in_turns(calls_of(arch, Path(folder)), rounds)
            medians |= {f"{arch}_{name}_ms": value for name, value in found.items()}
    result = _result(medians)
    print(json.dumps(result, indent=2) if arguments.json else _text(result))


def in_turns(calls: Mapping[str, Call], rounds: int) -> dict[str, float]:
    """The median milliseconds of each."""
    times_ms: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds):
        first = turn % len(calls)  # nobody always comes behind the same one
        for name, call in [*calls.items()][first:] + [*calls.items()][:first]:
            time.sleep(PAUSE_SECONDS)
            for number in range(CALLS):
                started = time.perf_counter()
                call()
                if number:
                    times_ms[name].append(1000 * (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in times_ms.items()}


# The cores


def calls_of(arch: str, folder: Path) -> dict[str, Call]:
    """Every way to compute one network's logits for one input; of the first, what is around them too."""
    network = _network(arch)
    input_nchw = np.random.default_rng(0).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)
    fp32 = core_graph(network, SIZE, attempts(OPSET)[0])
    calibration_nchw = np.random.default_rng(1).normal(size=(CALIBRATION_FRAMES, 3, SIZE, SIZE)).astype(np.float32)
    int8 = to_int8(fp32, measure_ranges(fp32, calibration_nchw, "minmax"), Int8())
    calls = {
        "fp32": _ours(fp32, input_nchw),
        "int8": _ours(int8, input_nchw),
        "torch_eager": _torch_eager(network, input_nchw),
        "plain_onnxruntime": _plain_onnxruntime(network, folder, input_nchw),
    }
    if importlib.util.find_spec("openvino"):
        calls["openvino_fp32"] = _openvino(fp32, folder / f"{arch}_fp32.onnx", input_nchw)
        calls["openvino_int8"] = _openvino(int8, folder / f"{arch}_int8.onnx", input_nchw)
    return calls | (around_the_core(fp32, folder) if arch == ARCHES[0] else {})


def _network(arch: str) -> Network:
    torch.manual_seed(0)
    params = _defaults(arch)
    return build_network(params.model, SIZE, N_CLASSES).eval()


def _defaults(arch: str) -> Any:
    values = YAML(typ="safe").load(ROOT / "params.yaml")
    values["model"].update(arch=arch, weights="none", freeze="none", head="plain")
    return validate_params(values, ROOT / "params.yaml")


def _ours(model: onnx.ModelProto, input_nchw: Input) -> Call:
    graph = Graph(model.SerializeToString())
    return lambda: graph(input_nchw)


def _torch_eager(network: Network, input_nchw: Input) -> Call:
    tensor = torch.from_numpy(input_nchw)

    def call() -> object:
        with torch.inference_mode():
            return network(tensor)

    return call


def _plain_onnxruntime(network: Network, folder: Path, input_nchw: Input) -> Call:
    """What a person writes who has read the first page of either manual."""
    import onnxruntime as plain

    path = folder / "plain.onnx"
    torch.onnx.export(network, (torch.from_numpy(input_nchw),), path, dynamo=True, verbose=False)
    session = plain.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: input_nchw})


def _openvino(model: onnx.ModelProto, path: Path, input_nchw: Input) -> Call:
    import openvino

    onnx.save(model, path)
    # Without the second it computes float layers in bf16 where the processor can, which is another precision than ours.
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", hints)
    request = compiled.create_infer_request()
    return lambda: request.infer({"input": input_nchw})


# Before and behind them


def around_the_core(fp32: onnx.ModelProto, folder: Path) -> dict[str, Call]:
    """A 1080p picture to the network's input, logits to a label, and all from the one to the other on the device."""
    params = _defaults(ARCHES[0])
    preprocess = build_preprocess(params.model, params.image)
    front = preprocess_graph(preprocess, OPSET)
    classifier = _classifier(preprocess, join(front, fp32), folder)
    picture_hwc = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    logits = np.random.default_rng(0).normal(size=N_CLASSES).astype(np.float32)
    first = Graph(front.SerializeToString())
    return {
        "preprocessing_1080p": lambda: first(picture_hwc[None]),
        "postprocessing": lambda: classifier.judge(logits, 0.0),
        "classify_1080p": lambda: classifier.classify(picture_hwc),
    }


def _classifier(preprocess: Preprocess, model: onnx.ModelProto, folder: Path) -> Classifier:
    """A graph with its contract, opened as a device does."""
    variant = Variant("fp32", "model.onnx", "0" * 64, "fp32", 1, 0.001, None, None)
    contract = Contract(
        classes=tuple(f"class {number}" for number in range(N_CLASSES)),
        geometry=Geometry(preprocess.crop, preprocess.center_fraction, preprocess.size),
        mean=preprocess.mean,
        std=preprocess.std,
        opset=OPSET,
        temperature=1.5,
        temperature_reason=None,
        unknown_score=None,
        unknown_score_reason="not fitted",
        unknown_false_alarms=None,
        max_pixels=HEIGHT * WIDTH,
        max_aspect=10.0,
        sample_bits=None,
        providers=("CPUExecutionProvider",),
        allow_fallback=False,
        variants=(variant,),
        recommended="fp32",
        timed_on="this machine",
    )
    graph = seal(model, contract)
    variant = dataclasses.replace(variant, sha256=hashlib.sha256(graph).hexdigest(), bytes=len(graph))
    contract = dataclasses.replace(contract, variants=(variant,))
    (folder / variant.file).write_bytes(graph)
    (folder / CONTRACT).write_text(json.dumps(contract.to_json()), encoding="utf-8")
    return Classifier.load(folder)


# What came of it


def _result(medians: dict[str, float]) -> dict[str, Any]:
    def ratio(arch: str, peer: str, ours: str) -> float | None:
        found = medians.get(f"{arch}_{peer}_ms")
        return None if found is None else round(found / medians[f"{arch}_{ours}_ms"], 2)

    first = ARCHES[0]
    around = sum(medians[f"{first}_{name}_ms"] for name in ("preprocessing_1080p", "postprocessing"))
    ratios = {
        "fp32_vs_torch_eager": ratio(first, "torch_eager", "fp32"),
        "fp32_vs_plain_onnxruntime": min(ratio(arch, "plain_onnxruntime", "fp32") or 0 for arch in ARCHES),
        "int8_vs_openvino_int8": ratio(first, "openvino_int8", "int8"),
        "prepost_share_of_core": round(around / medians[f"{first}_fp32_ms"], 2),
    }
    for arch in ARCHES:
        ratios |= {
            f"int8_vs_fp32_{arch}": ratio(arch, "fp32", "int8"),
            f"fp32_vs_torch_eager_{arch}": ratio(arch, "torch_eager", "fp32"),
            f"fp32_vs_plain_onnxruntime_{arch}": ratio(arch, "plain_onnxruntime", "fp32"),
            f"fp32_vs_openvino_fp32_{arch}": ratio(arch, "openvino_fp32", "fp32"),
            f"int8_vs_openvino_int8_{arch}": ratio(arch, "openvino_int8", "int8"),
        }
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, "
        f"torch {torch.__version__}, onnxruntime {onnxruntime().__version__}, openvino {_openvino_version()}",
        "medians": {name: round(value, 3) for name, value in medians.items()},
        "ratios": ratios,
    }


def _openvino_version() -> str:
    if not importlib.util.find_spec("openvino"):
        return "is not installed"
    return importlib.metadata.version("openvino")


def _text(result: dict[str, Any]) -> str:
    numbers = {**result["medians"], **result["ratios"]}
    return "\n".join([result["machine"], *(f"{name:44} {value}" for name, value in numbers.items())])


if __name__ == "__main__":
    main()
