"""Which provider ran the nodes of a graph, according to onnxruntime's profile."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import DeviceError

_KERNEL = "_kernel_time"  # suffix of a node's runs in the profile
_COPIES = ("MemcpyFromHost", "MemcpyToHost")  # nodes that copy between the CPU and a provider, and compute nothing


@dataclass(frozen=True)
class Placement:
    """How many nodes each provider ran, and its share of the time."""

    nodes: dict[str, int]  # by provider, the largest number first; nodes after onnxruntime's fusion, without copies
    time_shares: dict[str, float]  # by provider, share of the nodes' time; for a GPU the time of its launches

    def nodes_on(self, provider: str) -> int:
        """Return how many nodes ran on a provider."""
        return self.nodes.get(provider, 0)

    @property
    def n_nodes(self) -> int:
        """How many nodes ran on any provider."""
        return sum(self.nodes.values())


def read_placement(path: Path) -> Placement:
    """Read the profile of a session that has ended it.

    Raises:
        DeviceError: the profile is missing, or is not what onnxruntime writes.
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
    """Return (provider, node, microseconds) for every run of a node that computes something."""
    events = json.loads(path.read_bytes().decode("utf-8", errors="replace"))
    return [
        (str(event["args"]["provider"]), event["name"], int(event["dur"]))
        for event in events
        if event.get("cat") == "Node"
        and event["name"].endswith(_KERNEL)
        and event["args"].get("op_name") not in _COPIES
    ]
