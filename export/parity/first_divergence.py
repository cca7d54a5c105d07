"""The first layer of a core whose output departs: found by bisection, tapping a few of its tensors in a pass."""

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

TAPS = 4  # layers looked at in one pass: their outputs and what they take are all of the activations that are held
# What torch computes in one operation may be many nodes of a graph, whose tensors torch then has nowhere; an attention
# is some ten. A layer is not blamed where one of so many layers that hang on it agrees.
TORCH_MAY_FUSE = 16
# The share of a tensor's values by which a sound graph may differ; see docs/parity.md for what was measured.
ALLOWED = {"fp32": 3e-5, "fp16": 1e-2, "int8": 0.5}

Values = NDArray[np.float32]
ErrorsOf = Callable[[Sequence[NodeProto]], list[float]]  # of a few layers' outputs, each as a share; inf: no number


@dataclass(frozen=True)
class Layer:
    """One layer of a graph."""

    name: str
    operator: str
    weights: str | None  # the name of its first constant, which exporters take from torch
    error: float | None  # a share of the reference; None: no number, or torch has no such tensor

    def __str__(self) -> str:
        kind = self.operator if self.weights is None else f"{self.operator}, {self.weights}"
        return f"{self.name} ({kind})"

    def to_json(self) -> dict[str, Any]:
        """For `reports/parity.json`."""
        return asdict(self)


def first_departing(core: onnx.ModelProto, errors_of: ErrorsOf, allowed: float) -> Layer | None:
    """The first layer whose output departs by more than allowed, though what it takes does not.

    None where the logits themselves do not depart with the taps in place: rounding, or a fusion that a tap prevents.
    """
    search = _Search(core, errors_of, allowed)
    last = len(search.nodes) - 1
    if not search.departs(last):
        return None
    while True:
        found = search.first_with_sound_inputs(search.bisect(-1, last))
        if found == last or not search.is_mended_later(found):
            return search.layer(found)
        search.excused.add(found)


class _Search:
    """What is known of the layers so far."""

    def __init__(self, core: onnx.ModelProto, errors_of: ErrorsOf, allowed: float) -> None:
        self.nodes = list(core.graph.node)
        self.excused: set[int] = set()  # depart, but what hangs on them agrees
        self._errors_of, self._allowed = errors_of, allowed
        self._constants = {tensor.name for tensor in core.graph.initializer}
        self._made_by = {name: place for place, node in enumerate(self.nodes) for name in node.output}
        self._errors: dict[int, float] = {}

    def departs(self, place: int) -> bool:
        self._measure([place])
        return place not in self.excused and self._errors[place] > self._allowed

    def bisect(self, sound: int, departing: int) -> int:
        """A layer that departs right behind one that does not."""
        while departing - sound > 1:
            inner = np.linspace(sound, departing, TAPS + 2).round().astype(int)[1:-1].tolist()
            places = [place for place in dict.fromkeys(inner) if sound < place < departing]
            self._measure(places)
            departing = next((place for place in places if self.departs(place)), departing)
            sound = max([sound, *(place for place in places if place < departing)])
        return departing

    def first_with_sound_inputs(self, place: int) -> int:
        """In a graph with branches, up from a departing layer to one that nothing departing flows into."""
        while True:
            before = [self._made_by[name] for name in self.nodes[place].input if name in self._made_by]
            self._measure(before)
            departing = [each for each in before if self.departs(each)]
            if not departing:
                return place
            place = min(departing)

    def is_mended_later(self, place: int) -> bool:
        """Whether a layer that hangs on this one agrees after all."""
        behind = list(self._behind(place))[:TORCH_MAY_FUSE]
        for start in range(0, len(behind), TAPS):
            chunk = behind[start : start + TAPS]
            self._measure(chunk)
            if any(self._errors[each] <= self._allowed for each in chunk):
                return True
        return False

    def layer(self, place: int) -> Layer:
        node, error = self.nodes[place], self._errors[place]
        weights = next((name for name in node.input if name in self._constants), None)
        return Layer(node.name or node.output[0], node.op_type, weights, error if np.isfinite(error) else None)

    def _behind(self, place: int) -> Iterator[int]:
        reached = set(self.nodes[place].output)
        for later in range(place + 1, len(self.nodes)):
            if reached & set(self.nodes[later].input):
                reached |= set(self.nodes[later].output)
                yield later

    def _measure(self, places: Sequence[int]) -> None:
        unknown = [place for place in dict.fromkeys(places) if place not in self._errors]
        for start in range(0, len(unknown), TAPS):
            chunk = unknown[start : start + TAPS]
            found = self._errors_of([self.nodes[place] for place in chunk])
            self._errors.update(zip(chunk, found, strict=True))


def against_torch(core: onnx.ModelProto, network: torch.nn.Module, input_nchw: Values) -> ErrorsOf:
    """Layers beside torch's operations, whatever the exporter called them.

    A layer agrees when torch computes the same tensor, after those that the layer takes: so a layer that does nothing,
    where torch does something, does not agree.
    """

    def errors_of(nodes: Sequence[NodeProto]) -> list[float]:
        taken = tapped(core, [name for node in nodes for name in (*node.input, node.output[0])], input_nchw)
        taken = {name: found for name, found in taken.items() if found.dtype == np.float32}
        errors: dict[str, list[float]] = {name: [] for name in taken}  # one for each of torch's operations, in order

        def look(tensor: torch.Tensor) -> None:
            for name, found in taken.items():
                same_shape = found.shape == tuple(tensor.shape)
                errors[name].append(_largest_error(found, tensor.numpy()) if same_shape else np.inf)

        with torch.no_grad(), _Watching(look):
            network(torch.from_numpy(input_nchw))
        return [_error_in_order(node, errors) for node in nodes]

    return errors_of


def against_fp32(core: onnx.ModelProto, fp32: onnx.ModelProto, input_nchw: Values, precision: str) -> ErrorsOf:
    """Layers of the float32 core beside those of the same name in a smaller one; int8 as its numbers are read again."""
    names = {name for node in core.graph.node for name in node.output}
    taken_by = {name: node.output[0] for node in reversed(fp32.graph.node) for name in node.input}
    share = _median_error if precision == "int8" else _largest_error

    def kept(name: str) -> str:
        """A layer's output, or where quantising drew it into the next one (an activation) that one's."""
        return name if name in names or name not in taken_by else kept(taken_by[name])

    def errors_of(nodes: Sequence[NodeProto]) -> list[float]:
        outputs = [kept(node.output[0]) for node in nodes]
        expected = tapped(fp32, outputs, input_nchw)
        # What integers stand for is read again under another name.
        read_as = {name: again if (again := f"{name}_DequantizeLinear_Output") in names else name for name in outputs}
        found = tapped(core, list(read_as.values()), input_nchw)
        return [share(found[read_as[name]], expected[name]) for name in outputs]

    return errors_of


class _Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Shows every float tensor that torch computes, before anything changes it in place."""

    def __init__(self, look: Callable[[torch.Tensor], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._look = look

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float32:
                self._look(tensor)
        return result


def tapped(model: onnx.ModelProto, names: Sequence[str], values: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Run a graph and give some of its inner tensors by name, its input too if asked; half precision as float32."""
    made = {name for node in model.graph.node for name in node.output}
    own = [port.name for port in model.graph.output]
    wanted = [name for name in dict.fromkeys(names) if name in made]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in own)
    try:
        found = Graph(model.SerializeToString()).outputs(values)
    finally:
        del model.graph.output[len(own) :]
    entry = model.graph.input[0].name
    given = {name: found[name] for name in wanted} | ({entry: values} if entry in names else {})
    return {name: value.astype(np.float32) if value.dtype == np.float16 else value for name, value in given.items()}


def _error_in_order(node: NodeProto, errors: dict[str, list[float]]) -> float:
    """The least error of a layer's output among torch's tensors behind the first ones that equal its inputs."""
    start = 0
    for name in node.input:
        equal = [place for place, error in enumerate(errors.get(name, [])) if error <= ALLOWED["fp32"]]
        start = max(start, equal[0] + 1) if equal else start
    # Whole numbers, such as a shape, are no layer's answer.
    return min(errors[node.output[0]][start:], default=np.inf) if node.output[0] in errors else 0.0


def _largest_error(found: Values, expected: Values) -> float:
    """The largest difference, as a share of the largest number."""
    with np.errstate(invalid="ignore"):
        difference = float(np.abs(found - expected).max(initial=0.0))
    return _share(difference, float(np.abs(expected).max(initial=0.0)))


def _median_error(found: Values, expected: Values) -> float:
    """The root mean square of the difference as a share of the values' spread: of all, or of half of the maps if worse.

    A few large channels hide that all others are lost, which is how one scale for all channels ruins a layer.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        lost = np.square(found - expected)
        overall = _share(float(np.sqrt(lost.mean())), float(expected.std()))
        if expected.ndim != 4 or expected[0, 0].size == 1:
            return overall  # no maps; between frames alone a channel may hardly differ
        of_maps = zip(np.sqrt(lost.mean(axis=(0, 2, 3))), expected.std(axis=(0, 2, 3)), strict=True)
        return max(overall, float(np.median([_share(float(a), float(b)) for a, b in of_maps if b > 0] or [0.0])))


def _share(difference: float, of: float) -> float:
    if difference == 0:
        return 0.0
    return difference / of if np.isfinite(difference) and of > 0 else float("inf")
