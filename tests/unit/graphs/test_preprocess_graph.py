from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto

from export.graphs.preprocess_graph import join, preprocess_graph
from export.graphs.runner import Graph
from pipeline.base.project import Project
from pipeline.network.preprocess import Preprocess
from runtime.images import read_image

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ONE_STEP_OF_255 = 1 / (255 * min(STD))
SIZES = [(1, 1), (3, 500), (500, 3), (223, 225), (224, 224), (7, 300), (480, 640)]
CROPS = [("squash", 1.0), ("center", 1.0), ("center", 0.875)]


def _graph_input(graph: onnx.ModelProto, image_nhwc: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {"image": image_nhwc})[0]
    return result


def _difference_of_255(preprocess: Preprocess, graph: onnx.ModelProto, image_nhwc: NDArray[np.uint8]) -> float:
    expected = preprocess(torch.from_numpy(image_nhwc)).numpy()
    return float(np.abs(_graph_input(graph, image_nhwc) - expected).max()) / ONE_STEP_OF_255


@pytest.mark.parametrize(("crop", "fraction"), CROPS)
def test_the_graphs_preprocessing_is_its_torch_twin(crop: str, fraction: float) -> None:
    preprocess = Preprocess(224, crop, fraction, MEAN, STD)  # type: ignore[arg-type]
    graph = preprocess_graph(preprocess, 18)
    onnx.checker.check_model(graph, full_check=True)
    generator = np.random.default_rng(0)
    for height, width in SIZES:
        image_nhwc = generator.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        assert _difference_of_255(preprocess, graph, image_nhwc) < 0.02, (height, width)


@pytest.mark.parametrize(("crop", "fraction"), CROPS)
def test_every_node_has_a_name_of_its_own(crop: str, fraction: float) -> None:
    nodes = preprocess_graph(Preprocess(224, crop, fraction, MEAN, STD), 18).graph.node  # type: ignore[arg-type]
    assert len({node.name for node in nodes} - {""}) == len(nodes)


def test_no_more_than_one_channel_is_float_before_its_width_is_resized() -> None:
    """Twelve megapixels as float are 139 MiB, a channel of them 46."""
    graph = preprocess_graph(Preprocess(224, "squash", 1.0, MEAN, STD), 18)
    for axis, size in enumerate((1, 3024, 4032)):
        graph.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
    inferred = onnx.shape_inference.infer_shapes(graph, strict_mode=True, data_prop=True).graph.value_info
    floats = [value.type.tensor_type for value in inferred if value.type.tensor_type.elem_type == TensorProto.FLOAT]
    assert max(math.prod(dim.dim_value for dim in each.shape.dim) for each in floats) == 3024 * 4032


def test_every_resize_is_of_rows_one_pixel_high() -> None:
    """Those of higher pictures are unfinished on CUDA in older versions of onnxruntime."""
    graph = preprocess_graph(Preprocess(224, "squash", 1.0, MEAN, STD), 18)
    inferred = {
        value.name: value for value in onnx.shape_inference.infer_shapes(graph, data_prop=True).graph.value_info
    }
    resizes = [node for node in graph.graph.node if node.op_type == "Resize"]
    assert len(resizes) == 4
    for name in (name for node in resizes for name in (node.input[0], node.output[0])):
        assert [dim.dim_value for dim in inferred[name].type.tensor_type.shape.dim][::2] == [1, 1]


@pytest.mark.parametrize("resized", ["first_narrow", "low_columns"])
def test_a_resize_without_exclude_outside_would_be_noticed(resized: str) -> None:
    preprocess = Preprocess(64, "squash", 1.0, MEAN, STD)
    graph = preprocess_graph(preprocess, 18)
    resize = next(node for node in graph.graph.node if resized in node.output)
    next(attribute for attribute in resize.attribute if attribute.name == "exclude_outside").i = 0
    image_nhwc = np.random.default_rng(0).integers(0, 256, (1, 480, 640, 3), dtype=np.uint8)
    assert _difference_of_255(preprocess, graph, image_nhwc) > 1


def test_real_photos_agree_within_a_hundredth_of_a_step(shared: Path) -> None:
    preprocess = Preprocess(224, "squash", 1.0, MEAN, STD)
    graph = preprocess_graph(preprocess, 18)
    for path in sorted((shared / "data" / "hymenoptera" / "val" / "bees").glob("*.jpg"))[:10]:
        image_nhwc = read_image(path, max_pixels=10**8)[None]
        assert _difference_of_255(preprocess, graph, image_nhwc) < 0.01, path.name


@pytest.mark.parametrize("crop", ["squash", "center"])
def test_preprocessing_and_an_int8_core_answer_joined_as_they_do_apart(exported: Project, crop: Any) -> None:
    """Onnxruntime moves an int8 core's channels-last layout up the graph, into the preprocessing."""
    int8 = onnx.utils.Extractor(onnx.load(exported.onnx / "model_int8.onnx")).extract_model(["input"], ["logits"])
    front = preprocess_graph(Preprocess(32, crop, 0.9, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), 18)
    picture_nhwc = np.random.default_rng(0).integers(0, 256, (2, 40, 56, 3), dtype=np.uint8)
    apart = Graph(int8.SerializeToString())(Graph(front.SerializeToString())(picture_nhwc))
    np.testing.assert_array_equal(Graph(join(front, int8).SerializeToString())(picture_nhwc), apart)
