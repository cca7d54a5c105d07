"""The ways from a frame's pixels to logits that are held against torch: a device, a compiler, another provider."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import runtime
from export.graphs.device_process import AS_ON_A_DEVICE
from export.graphs.gates import Logits
from export.graphs.runner import Graph, open_graph
from pipeline.base.errors import DataError
from pipeline.base.manifest import Row
from pipeline.base.project import Project, safe_join
from runtime.classifier import CONTRACT, Classifier
from runtime.errors import DeviceError
from runtime.session import onnxruntime

BUNDLE = "bundle"  # the route's name
PATHS_AT_ONCE = 1000  # what a command line holds


@dataclass
class Route:
    """One way, and what came of it."""

    variant: str
    name: str
    ask: Callable[[NDArray[np.uint8]], Logits]  # uint8 (batch, height, width, 3) to (batch, classes)
    n_classes: int
    files: tuple[str, ...] = ()  # the graphs behind one another, where it is these on the usual provider and no more
    problem: str | None = None  # the first thing that went wrong
    found: list[Logits] = field(default_factory=list)

    def __call__(self, frames_nhwc: NDArray[np.uint8]) -> None:
        """Ask about a batch; where no answer comes, NaN stands for it."""
        try:
            self.found.append(self.ask(frames_nhwc))
        except (DeviceError, DataError) as error:
            self.problem = self.problem or str(error)
            self.found.append(np.full((len(frames_nhwc), self.n_classes), np.nan, np.float32))

    @property
    def logits(self) -> Logits:
        """(n, classes), in the order in which was asked."""
        return np.concatenate(self.found)


def routes(classifiers: Mapping[str, Classifier], project: Project) -> list[Route]:
    """The runtime on every variant, first; every other provider that loads; fp32's two parts one behind the other."""
    n_classes = len(next(iter(classifiers.values())).contract.classes)
    main = [
        Route(name, classifier.variant.file, classifier.logits, n_classes, (classifier.variant.file,))
        for name, classifier in classifiers.items()
    ]
    others = [
        Route(name, f"{classifier.variant.file} on {graph.provider}", graph, n_classes)
        for name, classifier in classifiers.items()
        for graph in _other_providers(classifier, project)
    ]
    files = ("preprocess.onnx", "core.onnx")
    front, core = (open_graph(project.onnx / name) for name in files)
    parts = Route("fp32", ", ".join(files), lambda frames_nhwc: core(front(frames_nhwc)), n_classes, files)
    return [*main, *others, parts]


def ask_bundle(classifier: Classifier, rows: Sequence[Row], project: Project) -> Route:
    """The runtime in its own process, in a folder as a bundle unpacks to, where torch cannot be imported.

    It decodes the frames itself, with the decoder that decoded them here.
    """
    route = Route(classifier.variant.name, BUNDLE, classifier.logits, len(classifier.contract.classes))
    with tempfile.TemporaryDirectory(prefix="bundle-") as name:
        folder = Path(name)
        shutil.copytree(Path(runtime.__file__).parent, folder / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(classifier.contract_path, folder / CONTRACT)
        shutil.copy(classifier.graphs / classifier.variant.file, folder)
        waiting = iter(str(safe_join(project.root, row.path).resolve()) for row in rows)
        while paths := list(itertools.islice(waiting, PATHS_AT_ONCE)):
            arguments = ["classify", "--json", "--variant", classifier.variant.name, "--", *paths]
            command = [sys.executable, "-c", AS_ON_A_DEVICE, *arguments]
            finished = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, errors="replace", check=False
            )
            if finished.returncode != 0:
                said = finished.stderr.strip().splitlines() or [f"ended with {finished.returncode}"]
                route.problem = route.problem or said[-1]
                route.found.append(np.full((len(paths), route.n_classes), np.nan, np.float32))
                continue
            answers = json.loads(finished.stdout)
            route.found.append(np.array([answer["logits"] for answer in answers], np.float32))
    return route


def _other_providers(classifier: Classifier, project: Project) -> Iterator[Graph]:
    available = onnxruntime().get_available_providers()
    for provider in classifier.contract.providers:
        if provider in available and provider != classifier.providers[0]:
            try:
                graph = Graph((project.onnx / classifier.variant.file).read_bytes(), provider=provider)
            except DataError:  # its libraries are missing here
                continue
            if graph.provider == provider:
                yield graph


def numbers_of(judged: Mapping[str, Any]) -> dict[str, Any]:
    """What `reports/parity.json` keeps of a route."""
    kept = ("n_samples", "max_abs_logit_difference", "flips", "verdict", "reasons")
    return {name: judged[name] for name in kept}
