"""Every network that has a name here trains a step, exports, and answers in onnxruntime as in torch."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from export.export.torch_export import Attempt, core_graph
from export.graphs.gates import Judgement, LogitComparison, judge
from export.graphs.preprocess_graph import join, preprocess_graph
from export.graphs.score_graph import with_known_score
from pipeline.network.architectures import NAMED_ARCHITECTURES
from pipeline.network.checkpoint import Checkpoint
from pipeline.network.fit_known_score import fit_known_score
from pipeline.network.known_score import KnownScore, answers_of
from pipeline.network.network import Network, build_network, build_preprocess
from pipeline.network.params import ModelParams
from pipeline.params import Params, read_params
from pipeline.train.optimizers import build_optimizer
from runtime.answers import Answers, joined
from tests.support.checkpoints import Untrained, checkpoint_of
from tests.support.command import ROOT

PARAMS: Params = read_params(ROOT / "params.yaml")
CLASSES = ("a", "b", "c")
N_IMAGES = 6
LABELS = np.arange(N_IMAGES) % len(CLASSES)


def _images(size: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (N_IMAGES, size + 8, size, 3), dtype=np.uint8)


def _trained(size: int, **model: Any) -> Checkpoint:
    """A network after one step on random pictures."""
    torch.manual_seed(0)
    params = ModelParams.model_validate(PARAMS.model.model_dump() | {"weights": "none", "freeze": "none"} | model)
    preprocess = build_preprocess(params, PARAMS.image.model_copy(update={"size": size}))
    network = build_network(params, size, len(CLASSES)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = build_optimizer(PARAMS.train, network.named_parameters())
    truth = torch.arange(N_IMAGES) % len(CLASSES)
    functional.cross_entropy(network(preprocess(torch.from_numpy(_images(size)))), truth).backward()
    optimizer.step()
    moved = [name for name, p in network.named_parameters() if not torch.equal(p, before[name])]
    assert moved[0].startswith("backbone.")
    assert moved[-1].startswith("head.")
    return checkpoint_of(network.state_dict(), Untrained(CLASSES, params, preprocess))


def _verdict(checkpoint: Checkpoint, network: Network, graph: onnx.ModelProto) -> Judgement:
    """What parity says of a graph on the pictures, in batches of two sizes."""
    size = checkpoint.preprocess.size
    images_nhwc = _images(size)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    found = joined([Answers.of_outputs(session.run(None, {"image": x})) for x in (images_nhwc[:1], images_nhwc[1:])])
    pooled = _pooled(checkpoint, network)
    with torch.inference_mode():
        expected = answers_of(network.head(torch.from_numpy(pooled)).numpy(), pooled, _score(pooled))
    scores = {"torch_scores": expected.scores, "graph_scores": found.scores}
    comparison = LogitComparison(CLASSES, LABELS, expected.logits, found.logits, **scores)
    return judge(comparison, "fp32", PARAMS.parity)


@torch.inference_mode()
def _pooled(checkpoint: Checkpoint, network: Network) -> NDArray[np.float32]:
    pictures = torch.from_numpy(_images(checkpoint.preprocess.size))
    pooled: NDArray[np.float32] = network.embed(checkpoint.preprocess(pictures)).numpy()
    return pooled


def _score(pooled: NDArray[np.float32]) -> KnownScore:
    return fit_known_score(pooled[:4], LABELS[:4])


def _graph(checkpoint: Checkpoint, network: Network) -> onnx.ModelProto:
    core = core_graph(network, checkpoint.preprocess.size, Attempt("dynamo", PARAMS.export.opset))
    assert _named_otherwise(core, network) == []
    scored = with_known_score(core, _score(_pooled(checkpoint, network)))
    return join(preprocess_graph(checkpoint.preprocess, PARAMS.export.opset), scored)


def _named_otherwise(core: onnx.ModelProto, network: Network) -> list[str]:
    """Nodes and constants that are not named after a module of the network, and names that are used twice."""
    modules = {name for name, _ in network.named_modules() if name}
    nodes, constants = ([each.name for each in part] for part in (core.graph.node, core.graph.initializer))
    of_nodes = [name for name in nodes if name.rpartition("/")[0] not in modules]
    shared = re.compile(r"([A-Z]\w*\.\w+|constant)(_\d+)?")  # by the network's parts
    inner = [name for name in constants if not shared.fullmatch(name)]
    of_constants = [name for name in inner if re.split(r"/|\.(?=weight|bias)", name)[0] not in modules]
    twice = [name for part in (nodes, constants) for name, times in Counter(part).items() if times > 1]
    return of_nodes + of_constants + twice


def test_a_node_of_no_module_and_a_repeated_name_are_noticed() -> None:
    checkpoint = _trained(48, arch="small_cnn", head="linear")
    core = core_graph(checkpoint.network(), 48, Attempt("legacy", PARAMS.export.opset))
    assert _named_otherwise(core, checkpoint.network()) == []
    core.graph.node[0].name = "node_Conv_869"
    core.graph.node[2].name = core.graph.node[1].name
    core.graph.initializer[0].name = "val_7"
    assert _named_otherwise(core, checkpoint.network()) == ["node_Conv_869", "val_7", core.graph.node[1].name]


_LARGE = ("resnet34", "resnet101", "resnet152", "vgg16")  # they have the blocks of ResNet-18, ResNet-50 and VGG19


@pytest.mark.parametrize(
    "arch", [pytest.param(name, marks=[pytest.mark.trial] * (name in _LARGE)) for name in NAMED_ARCHITECTURES]
)
def test_a_named_network_trains_exports_and_passes_parity(arch: str) -> None:
    checkpoint = _trained(48 if arch == "small_cnn" else 32, arch=arch, head="linear")
    network = checkpoint.network()
    assert _verdict(checkpoint, network, _graph(checkpoint, network)).reasons == ()


@pytest.mark.parametrize(
    "model",
    [
        pytest.param({"arch": "vgg11", "head": "plain"}, marks=pytest.mark.trial),  # 1 x 1 place pooled to 7 x 7
        {"arch": "timm:test_resnet", "head": "plain"},
        {"arch": "timm:test_efficientnet", "head": "linear"},
        pytest.param(  # has a convolution behind its pooling, as MobileNetV3 has
            {"arch": "timm:lcnet_035", "head": "linear"}, marks=pytest.mark.slow
        ),
        pytest.param({"arch": "shufflenet_v2_x0_5", "head": "linear"}, marks=pytest.mark.trial),
        {"arch": "squeezenet1_1", "head": "fc", "pooling": "flatten"},
    ],
    ids=lambda model: f"{model['arch']}-{model['head']}",
)
def test_another_network_trains_exports_and_passes_parity(model: dict[str, Any]) -> None:
    checkpoint = _trained(32, **model)
    network = checkpoint.network()
    assert _verdict(checkpoint, network, _graph(checkpoint, network)).reasons == ()


def test_a_graph_of_other_weights_fails() -> None:
    checkpoint = _trained(48, arch="small_cnn", head="linear")
    network = checkpoint.network()
    graph = _graph(checkpoint, network)
    assert _verdict(checkpoint, network, graph).reasons == ()
    with torch.no_grad():
        list(network.parameters())[-1][0] += 0.01
    assert _verdict(checkpoint, network, graph).reasons
