"""Where the nodes of a graph really ran, by onnxruntime's own profile."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import DeviceError

_KERNEL = "_kernel_time"  # ends the name of a node's run in the profile
_COPIES = ("MemcpyFromHost", "MemcpyToHost")  # between the CPU and a provider: they compute nothing


@dataclass(frozen=True)
class Placement:
    """What each provider did."""

    nodes: dict[str, int]  # by provider, the most first: nodes after onnxruntime's fusion, copies left out
    time_shares: dict[str, float]  # of the nodes' time; a GPU's counts what its launches took

    def nodes_on(self, provider: str) -> int:
        """How many nodes ran on a provider."""
        return self.nodes.get(provider, 0)

    @property
    def n_nodes(self) -> int:
        """How many nodes ran at all."""
        return sum(self.nodes.values())


def read_placement(path: Path) -> Placement:
    """Read a profile that a session has ended.

    Raises:
        DeviceError: it is missing or not as onnxruntime writes it.
    """
    try:
        runs = _node_runs(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DeviceError(
            f"{path.name}: onnxruntime's profile cannot be read ({error or type(error).__name__})"
        ) from error
    nodes = Counter(provider for provider, _ in {(provider, name) for provider, name, _ in runs})
    times: Counter[str] = Counter()
    for provider, _, microseconds in runs:
        times[provider] += microseconds
    total = times.total() or 1
    return Placement(
        nodes=dict(sorted(nodes.items(), key=lambda item: (-item[1], item[0]))),
        time_shares={provider: times[provider] / total for provider in sorted(times)},
    )


def _node_runs(path: Path) -> list[tuple[str, str, int]]:
    """(provider, node, microseconds) of every run of a node that computes."""
    events = json.loads(path.read_bytes().decode("utf-8", errors="replace"))
    return [
        (str(event["args"]["provider"]), event["name"], int(event["dur"]))
        for event in events
        if event.get("cat") == "Node"
        and event["name"].endswith(_KERNEL)
        and event["args"].get("op_name") not in _COPIES
    ]
