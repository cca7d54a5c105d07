from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.export.quantize import Int8, last_layers, measure_ranges, to_fp16, to_int8
from export.export.torch_export import Attempt, core_graph, with_batch_of_one
from export.graphs.preprocess_graph import join, preprocess_graph
from export.graphs.runner import Graph
from export.graphs.score_graph import OUTPUT, pooled_features, with_known_score
from pipeline.base.errors import DataError
from pipeline.network.fit_known_score import fit_known_score
from pipeline.network.known_score import KnownScore
from pipeline.network.network import Network, build_network
from pipeline.network.preprocess import Preprocess
from pipeline.params import read_params
from tests.support.command import ROOT
from tests.support.tiny_core import small_core

SIZE, N_CLASSES = 64, 3
MODEL = read_params(ROOT / "params.yaml").model.model_copy(update={"arch": "small_cnn", "weights": "none"})
INPUTS_NCHW = np.random.default_rng(1).normal(size=(12, 3, SIZE, SIZE)).astype(np.float32)


def network_of(head: str = "linear") -> Network:
    torch.manual_seed(0)
    return build_network(MODEL.model_copy(update={"head": head}), SIZE, N_CLASSES).eval()


@torch.inference_mode()
def embed(network: Network) -> NDArray[np.float32]:
    features: NDArray[np.float32] = network.embed(torch.from_numpy(INPUTS_NCHW)).numpy()
    return features


@pytest.fixture(scope="module")
def core() -> onnx.ModelProto:
    return core_graph(network_of(), SIZE, Attempt("legacy", 18))


@pytest.fixture(scope="module")
def score() -> KnownScore:
    return fit_known_score(embed(network_of())[:9], np.arange(9) % N_CLASSES)


@pytest.fixture(scope="module")
def int8(core: onnx.ModelProto) -> onnx.ModelProto:
    return to_int8(core, measure_ranges(core, INPUTS_NCHW, "minmax"), Int8())


def run(core: onnx.ModelProto, inputs: NDArray[np.float32] = INPUTS_NCHW) -> dict[str, NDArray[np.float32]]:
    onnx.checker.check_model(core, full_check=True)
    return Graph(core.SerializeToString()).outputs(inputs)


def test_the_graph_computes_the_score_of_torch_and_the_same_logits(core: onnx.ModelProto, score: KnownScore) -> None:
    outputs = run(with_known_score(core, score))
    assert list(outputs) == ["logits", OUTPUT]
    assert outputs[OUTPUT].shape == (12,)
    assert outputs[OUTPUT].dtype == np.float32
    assert outputs[OUTPUT] == pytest.approx(score(embed(network_of())), abs=1e-5)
    assert np.array_equal(outputs["logits"], run(core)["logits"])


@pytest.mark.parametrize("name", ["prototypes", "middle", "class_directions", "common_directions"])
def test_a_graph_with_another_constant_gives_another_score(core: onnx.ModelProto, score: KnownScore, name: str) -> None:
    scored = with_known_score(core, score)
    (constant,) = [tensor for tensor in scored.graph.initializer if tensor.name == f"{OUTPUT}/{name}"]
    values = 0.95 * numpy_helper.to_array(constant) + np.float32(0.01)
    constant.CopyFrom(numpy_helper.from_array(values, constant.name))
    assert run(scored)[OUTPUT] != pytest.approx(score(embed(network_of())), abs=1e-4)


def test_the_core_that_was_given_stays_as_it_is(core: onnx.ModelProto, score: KnownScore) -> None:
    before = core.SerializeToString(deterministic=True)
    with_known_score(core, score)
    assert core.SerializeToString(deterministic=True) == before


def test_an_int8_core_keeps_its_logits_and_takes_features_that_are_not_rounded(
    int8: onnx.ModelProto, score: KnownScore
) -> None:
    scored = with_known_score(int8, score)
    outputs = run(scored)
    assert np.array_equal(outputs["logits"], run(int8)["logits"])
    assert outputs[OUTPUT] == pytest.approx(score(embed(network_of())), abs=0.2)
    makers = {output: node.op_type for node in scored.graph.node for output in node.output}
    assert makers[pooled_features(scored)] == "Flatten"


@pytest.mark.parametrize("is_last_float", [False, True])
def test_a_half_precision_core_computes_the_score_in_float32(
    core: onnx.ModelProto, score: KnownScore, is_last_float: bool
) -> None:
    scored = with_known_score(to_fp16(core, last_layers(core) if is_last_float else []), score)
    assert run(scored)[OUTPUT] == pytest.approx(score(embed(network_of())), abs=0.02)
    of_score = [tensor for tensor in scored.graph.initializer if tensor.name.startswith(f"{OUTPUT}/")]
    assert {tensor.data_type for tensor in of_score} == {TensorProto.FLOAT, TensorProto.INT64}


def test_features_whose_squares_half_precision_cannot_hold_have_a_finite_score(
    core: onnx.ModelProto, score: KnownScore
) -> None:
    scored = with_known_score(to_fp16(core, []), score)
    strong = run(scored, INPUTS_NCHW * 3000)
    assert np.isfinite(strong[OUTPUT]).all()


def test_black_features_have_a_finite_score(core: onnx.ModelProto, score: KnownScore) -> None:
    dead = onnx.ModelProto()
    dead.CopyFrom(core)
    for tensor in dead.graph.initializer:
        if tensor.name.startswith("backbone.") and tensor.name.endswith(("weight", "bias")):
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(tensor.dims, np.float32), tensor.name))
    assert np.isfinite(run(with_known_score(dead, score))[OUTPUT]).all()


def test_with_a_batch_of_one_and_with_the_preprocessing(core: onnx.ModelProto, score: KnownScore) -> None:
    scored = with_known_score(core, score)
    assert run(with_batch_of_one(scored), INPUTS_NCHW[:1])[OUTPUT] == pytest.approx(run(scored)[OUTPUT][:1], abs=1e-5)
    preprocess = Preprocess(SIZE, "squash", 1.0, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    joined = join(preprocess_graph(preprocess, 18), scored)
    onnx.checker.check_model(joined, full_check=True)
    assert [port.name for port in joined.graph.output] == ["logits", OUTPUT]
    pictures = np.random.default_rng(2).integers(0, 255, (2, 50, 70, 3), np.uint8)
    with torch.inference_mode():
        features = network_of().embed(preprocess(torch.from_numpy(pictures))).numpy()
    assert Graph(joined.SerializeToString()).outputs(pictures)[OUTPUT] == pytest.approx(score(features), abs=1e-4)


def test_hidden_layers_of_the_head_are_not_taken_for_the_pooled_features(score: KnownScore) -> None:
    network = network_of("fc")
    scored = with_known_score(core_graph(network, SIZE, Attempt("legacy", 18)), score)
    assert run(scored)[OUTPUT] == pytest.approx(score(embed(network)), abs=1e-5)


def test_every_node_and_constant_has_its_own_name(core: onnx.ModelProto, score: KnownScore) -> None:
    graph = with_known_score(core, score).graph
    names = [node.name for node in graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    constants = [tensor.name for tensor in graph.initializer]
    assert len(set(constants)) == len(constants)


def test_a_graph_without_a_head_is_refused(score: KnownScore) -> None:
    with pytest.raises(DataError, match=r"no node of the head.*export it again"):
        with_known_score(small_core(), score)


def test_a_score_of_another_network_is_refused(core: onnx.ModelProto) -> None:
    other = fit_known_score(np.eye(6, 7, dtype=np.float32) + 1, np.arange(6) % 2)
    with pytest.raises(DataError, match=r"has \d+ pooled features; the known score expects 7"):
        with_known_score(core, other)


@pytest.mark.parametrize("operator", ["Flatten", "Squeeze"])
def test_a_map_of_one_cell_that_is_flattened_in_the_heads_name_gives_flat_features(operator: str) -> None:
    """The exporter counts this node to the head where a convolution follows the pooling."""
    inputs, initializers = ["cell"], [numpy_helper.from_array(np.ones((3, 2), np.float32), "weight")]
    if operator == "Squeeze":
        inputs.append("axes")
        initializers.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["cell"], "backbone.pool/Mean"),
        helper.make_node(operator, inputs, ["flat"], f"head.classify.0/{operator}"),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"], "head.classify.0/MatMul"),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("input", ["batch", 3, 4, 4]), ("logits", ["batch", 2]))
    ]
    core = helper.make_model(helper.make_graph(nodes, "core", ends[:1], ends[1:], initializers))
    assert pooled_features(core) == "flat"
