"""Names for the nodes and tensors of an exported graph: those of the modules that they come from.

The exporters number what they make (`node_Conv_869`, `getitem_3`, `onnx::Conv_812`). A person who opens the graph in a
viewer, or reads which layer diverges or stays float, looks for the names of the network's modules.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections import Counter
from collections.abc import Collection, Iterable

import onnx
from onnx import defs

from export.export.quantize import WEIGHTED

_SCOPES = "pkg.torch.onnx.name_scopes"  # where dynamo's exporter says which modules a node comes from
_CALL = re.compile(r"@\d+")  # dynamo's mark of a module that is called again
_PARAMETERS = {1: "weight", 2: "bias"}  # of a layer with weights, by the number of the node's input


def keep_modules(model: onnx.ModelProto, parameters: Collection[str]) -> None:
    """Write into every node's name which module it comes from, for `name_after_modules`.

    It is called before onnxruntime's optimiser, which keeps names and drops the metadata of dynamo's exporter.

    Args:
        model: a graph as torch's exporters make it; it is changed in place.
        parameters: the names of the network's parameters.
    """
    for index, (node, module) in enumerate(zip(model.graph.node, _modules(model.graph, parameters), strict=True)):
        node.name = f"/{module}/{index}"


def name_after_modules(model: onnx.ModelProto, parameters: Collection[str]) -> None:
    """Rename the nodes, inner tensors and constants of a graph, in place. What the graph computes stays the same.

    A node becomes `<module>/<operator>`, such as `backbone.conv_stem/Conv`, and so does its output. The parameters of
    torch keep their names. Other constants become `<module>.weight`, `<module>.bias` or `<module>/<operator>.<input>`.
    A constant that several modules use is named after the nearest module that holds them all. A graph with branches or
    loops keeps its names, since its parts refer to tensors of one another.

    Args:
        model: a graph after `keep_modules` and the optimiser.
        parameters: the names of the network's parameters.
    """
    graph = model.graph
    if any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute):
        return
    modules = _modules(graph, parameters)
    ports = [port.name for port in (*graph.input, *graph.output)]
    tensors = {name: name for name in ports} | _names_of_constants(model, modules, parameters, ports)
    taken = Counter(tensors.values())
    for node, module in zip(graph.node, modules, strict=True):
        node.name = _unique(_join(module, node.op_type), taken)
        for index, output in enumerate(node.output):
            if output and output not in tensors:
                tensors[output] = node.name if index == 0 else _unique(f"{node.name}.{index}", taken)
    _rename(graph, tensors)


def _modules(graph: onnx.GraphProto, parameters: Collection[str]) -> list[str]:
    """Return the dotted path of each node's module.

    A node outside of all modules, as in a network that was flattened into steps, counts to the nearest module that
    holds the nodes before it.
    """
    made_in: dict[str, str] = {}
    modules = []
    for node in graph.node:
        # Batch norms are folded into convolutions: the weight says where a node comes from, the scope may say the norm.
        weight = next((name for name in node.input[1:2] if name in parameters), None)
        path = weight.rpartition(".")[0] if weight else _scope(node)
        path = path or _nearest_module([made_in[name] for name in node.input if name in made_in])
        made_in.update(dict.fromkeys(node.output, path))
        modules.append(path)
    return modules


def _scope(node: onnx.NodeProto) -> str:
    """Return the module by the metadata of dynamo, or by a name of the older exporter: `/module/part/operator`."""
    scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), None)
    if scopes is not None:
        *containers, _ = ast.literal_eval(scopes)  # the last one is the operation itself
        return _CALL.sub("", containers[-1]) if containers else ""
    if not node.name.startswith("/"):
        return ""
    path: list[str] = []
    for part in node.name.split("/")[1:-1]:
        if path and part.startswith(f"{path[-1]}."):  # an entry of a list of modules repeats the list's name
            path.pop()
        path.append(part)
    return ".".join(path)


def _names_of_constants(
    model: onnx.ModelProto, modules: list[str], parameters: Collection[str], ports: Iterable[str]
) -> dict[str, str]:
    """Return the new name of every constant by its old one."""
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    users: dict[str, list[tuple[str, onnx.NodeProto, int]]] = {}
    for node, module in zip(model.graph.node, modules, strict=True):
        for index, name in enumerate(node.input):
            users.setdefault(name, []).append((module, node, index))
    names = {tensor.name: tensor.name for tensor in model.graph.initializer if tensor.name in parameters}
    taken = Counter([*ports, *names])
    for tensor in model.graph.initializer:
        if tensor.name not in names and tensor.name in users:
            module = _nearest_module([module for module, _, _ in users[tensor.name]])
            called = {_name_of_input(module, node, index, opset) for _, node, index in users[tensor.name]}
            # The optimiser merges equal constants, whatever they are for.
            names[tensor.name] = _unique(called.pop() if len(called) == 1 else _join(module, "constant"), taken)
    return names


def _nearest_module(modules: list[str]) -> str:
    """Return the innermost module that holds all of these; empty for the network itself."""
    return posixpath.commonpath([module.replace(".", "/") for module in modules] or [""]).replace("/", ".")


def _name_of_input(module: str, node: onnx.NodeProto, index: int, opset: int) -> str:
    """Name a constant after the input of the node that takes it."""
    if node.op_type in WEIGHTED and index in _PARAMETERS:
        return f"{module}.{_PARAMETERS[index]}".lstrip(".")
    inputs = defs.get_schema(node.op_type, opset, node.domain).inputs
    return _join(module, f"{node.op_type}.{inputs[min(index, len(inputs) - 1)].name}")


def _join(module: str, name: str) -> str:
    return f"{module}/{name}" if module else name


def _unique(name: str, taken: Counter[str]) -> str:
    """Return the name, with a number behind it from its second use on."""
    candidate = name
    while candidate in taken:
        taken[name] += 1
        candidate = f"{name}_{taken[name]}"
    taken[candidate] += 1
    return candidate


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        for field in (node.input, node.output):
            field[:] = [names.get(name, name) for name in field]
    for entry in (*graph.initializer, *graph.value_info):
        entry.name = names.get(entry.name, entry.name)
