"""The first layer of a core whose output diverges, found by bisection with a few tensors tapped in each pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import NodeProto
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from export.graphs.runner import Graph

TAPS = 4  # layers looked at in one pass: only their inputs and outputs are held in memory
# Torch may compute in one operation what a graph computes in many nodes (an attention is about ten), so torch has no
# tensor to compare with in between. A diverging layer is not blamed when one of the next 16 layers that depend on it
# agrees with torch again.
TORCH_MAY_FUSE = 16
# The share of a tensor's values by which a sound graph may differ; docs/testing.md says what was measured.
ALLOWED = {"fp32": 3e-5, "fp16": 1e-2, "int8": 0.5}

Values = NDArray[np.float32]
ErrorsOf = Callable[
    [Sequence[NodeProto]], list[float]
]  # the errors of a few layers' outputs, as shares; inf: no number


@dataclass(frozen=True)
class Layer:
    """One layer of a graph, or one step of its preprocessing."""

    name: str
    operator: str | None  # None: a step of the preprocessing
    weights: str | None  # the name of its first constant, which exporters take from torch
    error: float | None  # a share of the reference; None: no number, torch has no such tensor, or not a layer

    def __str__(self) -> str:
        kind = self.operator if self.weights is None else f"{self.operator}, {self.weights}"
        return f"{self.name} ({kind})"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as `reports/parity.json` holds them."""
        return asdict(self)


def first_diverging_layer(core: onnx.ModelProto, errors_of: ErrorsOf, allowed: float) -> Layer | None:
    """Find the first layer whose output diverges although its inputs do not.

    Args:
        core: the graph whose layers are searched.
        errors_of: measures the error of some layers' outputs.
        allowed: an output with a larger error diverges; a share of the reference.

    Returns:
        The layer, or None when the logits do not diverge while tensors are tapped. Then the difference is rounding, or
        comes from a fusion that a tap prevents.
    """
    search = _Search(core, errors_of, allowed)
    last = len(search.nodes) - 1
    if not search.diverges(last):
        return None
    while True:
        index = search.first_with_sound_inputs(search.bisect(-1, last))
        if index == last or not search.is_mended_later(index):
            return search.layer(index)
        search.excused.add(index)


class _Search:
    """What is known of the layers so far. A layer is given by its index in the graph's list of nodes."""

    def __init__(self, core: onnx.ModelProto, errors_of: ErrorsOf, allowed: float) -> None:
        self.nodes = list(core.graph.node)
        self.excused: set[int] = set()  # layers that diverge although a later layer that depends on them agrees
        self._errors_of, self._allowed = errors_of, allowed
        self._constants = {tensor.name for tensor in core.graph.initializer}
        self._made_by = {name: index for index, node in enumerate(self.nodes) for name in node.output}
        self._errors: dict[int, float] = {}

    def diverges(self, index: int) -> bool:
        self._measure([index])
        return index not in self.excused and self._errors[index] > self._allowed

    def bisect(self, sound: int, diverging: int) -> int:
        """Return a layer that diverges directly behind one that does not."""
        while diverging - sound > 1:
            inner = np.linspace(sound, diverging, TAPS + 2).round().astype(int)[1:-1].tolist()
            tapped = [index for index in dict.fromkeys(inner) if sound < index < diverging]
            self._measure(tapped)
            diverging = next((index for index in tapped if self.diverges(index)), diverging)
            sound = max([sound, *(index for index in tapped if index < diverging)])
        return diverging

    def first_with_sound_inputs(self, index: int) -> int:
        """Go up the branches of the graph from a diverging layer to one whose inputs all agree."""
        while True:
            before = [self._made_by[name] for name in self.nodes[index].input if name in self._made_by]
            self._measure(before)
            diverging = [earlier for earlier in before if self.diverges(earlier)]
            if not diverging:
                return index
            index = min(diverging)

    def is_mended_later(self, index: int) -> bool:
        """Whether a layer that depends on this one agrees after all."""
        behind = list(self._behind(index))[:TORCH_MAY_FUSE]
        for start in range(0, len(behind), TAPS):
            tapped = behind[start : start + TAPS]
            self._measure(tapped)
            if any(self._errors[later] <= self._allowed for later in tapped):
                return True
        return False

    def layer(self, index: int) -> Layer:
        node, error = self.nodes[index], self._errors[index]
        weights = next((name for name in node.input if name in self._constants), None)
        return Layer(node.name or node.output[0], node.op_type, weights, error if np.isfinite(error) else None)

    def _behind(self, index: int) -> Iterator[int]:
        reached = set(self.nodes[index].output)
        for later in range(index + 1, len(self.nodes)):
            if reached & set(self.nodes[later].input):
                reached |= set(self.nodes[later].output)
                yield later

    def _measure(self, indices: Sequence[int]) -> None:
        unknown = [index for index in dict.fromkeys(indices) if index not in self._errors]
        for start in range(0, len(unknown), TAPS):
            chunk = unknown[start : start + TAPS]
            errors = self._errors_of([self.nodes[index] for index in chunk])
            self._errors.update(zip(chunk, errors, strict=True))


def errors_against_torch(core: onnx.ModelProto, network: torch.nn.Module, input_nchw: Values) -> ErrorsOf:
    """Return the function that compares layers with torch's operations, whatever the exporter called the layers.

    A layer agrees when torch computes the same tensor after the layer's inputs. So a layer that does nothing where
    torch does something does not agree.

    Args:
        core: the float32 core.
        network: the trained network, in eval mode.
        input_nchw: (n, 3, size, size), preprocessed pictures.
    """

    def errors_of(nodes: Sequence[NodeProto]) -> list[float]:
        names = [name for node in nodes for name in (*node.input, node.output[0])]
        tensors = {
            name: tensor
            for name, tensor in inner_tensors(core, names, input_nchw).items()
            if tensor.dtype == np.float32
        }
        errors: dict[str, list[float]] = {name: [] for name in tensors}  # one for each of torch's operations, in order

        def observe(torch_tensor: torch.Tensor) -> None:
            for name, tensor in tensors.items():
                same_shape = tensor.shape == tuple(torch_tensor.shape)
                errors[name].append(_largest_error(tensor, torch_tensor.numpy()) if same_shape else np.inf)

        with torch.no_grad(), _TensorObserver(observe):
            network(torch.from_numpy(input_nchw))
        return [_error_in_order(node, errors) for node in nodes]

    return errors_of


def errors_against_fp32(core: onnx.ModelProto, fp32: onnx.ModelProto, input_nchw: Values, precision: str) -> ErrorsOf:
    """Return the function that compares float32 layers with the layers of the same name in a smaller core.

    Integers are compared as the numbers that they stand for.

    Args:
        core: the smaller core.
        fp32: the float32 core.
        input_nchw: (n, 3, size, size), preprocessed pictures.
        precision: of the smaller core: `fp16` or `int8`.
    """
    names = {name for node in core.graph.node for name in node.output}
    taken_by = {name: node.output[0] for node in reversed(fp32.graph.node) for name in node.input}
    share = _typical_error if precision == "int8" else _largest_error

    def kept(name: str) -> str:
        """Return a layer's output, or the next layer's output where quantising merged the two (an activation)."""
        return name if name in names or name not in taken_by else kept(taken_by[name])

    def dequantised(name: str) -> str:
        """Return the name of the numbers that integers stand for."""
        numbers = f"{name}_DequantizeLinear_Output"
        return numbers if numbers in names else name

    def errors_of(nodes: Sequence[NodeProto]) -> list[float]:
        outputs = [kept(node.output[0]) for node in nodes]
        expected = inner_tensors(fp32, outputs, input_nchw)
        tensors = inner_tensors(core, [dequantised(name) for name in outputs], input_nchw)
        return [share(tensors[dequantised(name)], expected[name]) for name in outputs]

    return errors_of


class _TensorObserver(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Passes on every float32 tensor that torch computes, before an operation can change the tensor in place."""

    def __init__(self, observe: Callable[[torch.Tensor], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._observe = observe

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float32:
                self._observe(tensor)
        return result


def inner_tensors(model: onnx.ModelProto, names: Sequence[str], values: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Run a graph and return some of its tensors by name, half precision as float32.

    Args:
        model: the graph; it is as it was afterwards.
        names: of the wanted tensors, the graph's input among them if wanted; names that the graph lacks are skipped.
        values: the graph's input.
    """
    known = {name for node in model.graph.node for name in node.output}
    own = [port.name for port in model.graph.output]
    wanted = [name for name in dict.fromkeys(names) if name in known]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in own)
    try:
        outputs = Graph(model.SerializeToString()).outputs(values)
    finally:
        del model.graph.output[len(own) :]
    entry = model.graph.input[0].name
    tensors = {name: outputs[name] for name in wanted} | ({entry: values} if entry in names else {})
    return {
        name: tensor.astype(np.float32) if tensor.dtype == np.float16 else tensor for name, tensor in tensors.items()
    }


def _error_in_order(node: NodeProto, errors: dict[str, list[float]]) -> float:
    """Return the least error of a layer's output among torch's tensors behind the first ones that equal its inputs."""
    start = 0
    for name in node.input:
        equal = [index for index, error in enumerate(errors.get(name, [])) if error <= ALLOWED["fp32"]]
        start = max(start, equal[0] + 1) if equal else start
    # Whole numbers, such as a shape, are not compared.
    return min(errors[node.output[0]][start:], default=np.inf) if node.output[0] in errors else 0.0


def _largest_error(values: Values, expected: Values) -> float:
    """Return the largest difference, as a share of the largest number."""
    with np.errstate(invalid="ignore"):
        difference = float(np.abs(values - expected).max(initial=0.0))
    return _share(difference, float(np.abs(expected).max(initial=0.0)))


def _typical_error(values: Values, expected: Values) -> float:
    """Return the root mean square of the difference, as a share of the values' spread.

    It is that of all values, or the median of the maps' if that is worse: a few large channels hide that all others
    are lost, which is how one scale for all channels ruins a layer.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        lost = np.square(values - expected)
        overall = _share(float(np.sqrt(lost.mean())), float(expected.std()))
        if expected.ndim != 4 or expected[0, 0].size == 1:
            return overall  # no maps; and between frames alone a channel may hardly differ
        of_maps = zip(np.sqrt(lost.mean(axis=(0, 2, 3))), expected.std(axis=(0, 2, 3)), strict=True)
        return max(overall, float(np.median([_share(float(a), float(b)) for a, b in of_maps if b > 0] or [0.0])))


def _share(difference: float, of: float) -> float:
    if difference == 0:
        return 0.0
    return difference / of if np.isfinite(difference) and of > 0 else float("inf")
