"""WebGPU in the trial of the phone's page: a graph with an antialiased Resize, and what is planted in the browser.

SwiftShader computes WebGPU on the processor. So the trial lets its adapter pass for a graphics processor, and lets the
true processor seem slow.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.bundle.stage import bundle
from export.graphs.preprocess_graph import join, preprocess_graph
from pipeline.network.preprocess import Preprocess
from tests.support.tiny_bundle import draft_contract, with_thresholds, write_project

_SIZE = 16
PASSES_FOR_HARDWARE = "Object.defineProperty(GPUAdapterInfo.prototype, 'isFallbackAdapter', { get: () => false });"


def of_workers(change: str) -> str:
    """A script that changes `result`, an answer of a worker; `onWebgpu` says where it was computed."""
    return f"""{{
const Plain = globalThis.Worker;
globalThis.Worker = class extends Plain {{
  constructor(...given) {{
    super(...given);
    this.addEventListener("message", ({{ data: {{ result }} }}) => {{
      const onWebgpu = this.onWebgpu;
      if (result?.logits !== undefined) {{ {change} }}
    }});
  }}
  postMessage(message, ...rest) {{
    if (message.task === "open") this.onWebgpu = message.cpuNodes !== undefined;
    super.postMessage(message, ...rest);
  }}
}};
}}"""


SLOW_PROCESSOR = of_workers("if (!onWebgpu) result.milliseconds += 1e6;")
SLOW_WEBGPU = of_workers("if (onWebgpu) result.milliseconds += 1e6;")
GOOD_WEBGPU = PASSES_FOR_HARDWARE + SLOW_PROCESSOR
ADAPTER = "GPU.prototype.requestAdapter"
# What is planted, the script, what the page then says, and whether it asks for the files of WebGPU.
FAULTS = (
    ("no WebGPU", "Object.defineProperty(Navigator.prototype, 'gpu', { value: undefined });", "has no WebGPU", False),
    ("no adapter", f"{ADAPTER} = async () => null;", "WebGPU finds no graphics processor", False),
    (
        "an adapter that is refused",
        f"{ADAPTER} = async () => {{ throw new DOMException('planted', 'OperationError'); }};",
        "WebGPU cannot be used (planted)",
        False,
    ),
    (
        "an adapter that never comes",
        f"""{ADAPTER} = () => new Promise(() => {{}});
const later = setTimeout;
globalThis.setTimeout = (does, wait) => later(does, wait === 30_000 ? 10 : wait);""",
        "WebGPU was not ready after 30 seconds",
        False,
    ),
    ("no JSPI", "delete WebAssembly.Suspending;", "cannot wait for WebGPU (no JSPI)", False),
    ("WebGPU of software", SLOW_PROCESSOR, "would use the processor too", False),
    ("WebGPU that is slower", PASSES_FOR_HARDWARE + SLOW_WEBGPU, "it takes", True),
    (
        "WebGPU that gives wrong numbers",
        GOOD_WEBGPU + of_workers("if (onWebgpu) result.logits[0] += 1;"),
        "WebGPU gives other numbers for golden picture 000",
        True,
    ),
    (
        "WebGPU that gives no numbers",
        GOOD_WEBGPU + of_workers("if (onWebgpu) result.logits[0] = NaN;"),
        "WebGPU cannot be used (logits NaN",
        True,
    ),
)


def resizing_graph(metadata: dict[str, str]) -> bytes:
    """The product's preprocessing, and a network that names the colour of a picture and gives a known score."""
    kernel = np.zeros((3, 3, 3, 3), np.float32)
    kernel[range(3), range(3), 1, 1] = 1
    nodes = [
        helper.make_node("Conv", ["input", "kernel"], ["features"], "features", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["bright"], "bright"),
        helper.make_node("ReduceMean", ["bright", "sides"], ["means"], "means", keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["logits"], "logits"),
        helper.make_node("ReduceMax", ["logits", "last"], ["largest"], "largest", keepdims=0),
        helper.make_node("Sub", ["ten", "largest"], ["known_score"], "known_score"),
    ]
    constants = {
        "kernel": kernel,
        "sides": np.array([2, 3], np.int64),
        "weights": np.eye(3, dtype=np.float32) * 10,
        "last": np.array([1], np.int64),
        "ten": np.float32(10),
    }
    core = helper.make_model(
        helper.make_graph(
            nodes,
            "core",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, _SIZE, _SIZE])],
            [
                helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3]),
                helper.make_tensor_value_info("known_score", TensorProto.FLOAT, ["batch"]),
            ],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    front = preprocess_graph(Preprocess(_SIZE, "squash", 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), 18)
    model = join(front, core)
    onnx.helper.set_model_props(model, metadata)
    content: bytes = model.SerializeToString()
    return content


def resizing_bundle(folder: Path, *variants: str) -> Path:
    """A bundle of that graph; return its zip."""
    contract = with_thresholds(draft_contract(*variants), 0.5, 0.4, "known_score")
    contract = dataclasses.replace(contract, max_pixels=10_000_000)
    project = write_project(folder, contract, resizing_graph)
    bundle(project)
    return project.bundle_zip
