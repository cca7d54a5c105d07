"""The routes from a frame's pixels to logits that are held against torch: a device, a compiler, another provider."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import runtime
from export.graphs.device_process import AS_ON_A_DEVICE
from export.graphs.gates import Logits
from export.graphs.runner import Graph, open_graph
from pipeline.base.errors import DataError
from pipeline.base.manifest import Row
from pipeline.base.project import Project, safe_join
from pipeline.base.scratch import scratch_folder
from runtime.answers import Answers, joined, nothing
from runtime.classifier import CONTRACT, Classifier
from runtime.errors import DeviceError
from runtime.session import onnxruntime

BUNDLE = "bundle"  # the route's name
PATHS_AT_ONCE = 1000  # as many as a command line holds


@dataclass
class Route:
    """One route, with the answers that it has given so far."""

    variant: str
    name: str
    ask: Callable[[NDArray[np.uint8]], Answers]  # of pictures, uint8 (batch, height, width, 3)
    n_classes: int
    files: tuple[str, ...] = ()  # the graphs that follow one another; empty where the route is more than graphs
    problem: str | None = None  # the first error
    batches: list[Answers] = field(default_factory=list)  # the answers to one batch after the other

    def __call__(self, frames_nhwc: NDArray[np.uint8]) -> None:
        """Ask about a batch. An answer that fails is NaN."""
        try:
            self.batches.append(self.ask(frames_nhwc))
        except (DeviceError, DataError) as error:
            self.fail(str(error), len(frames_nhwc))

    def fail(self, problem: str, n_frames: int) -> None:
        """Note the first problem, and answer NaN for some frames."""
        self.problem = self.problem or problem
        self.batches.append(nothing(n_frames, self.n_classes))

    @property
    def logits(self) -> Logits:
        """(n, classes), in the order of the frames."""
        return self.answers.logits

    @property
    def answers(self) -> Answers:
        """In the order of the frames."""
        return joined(self.batches)


def routes(classifiers: Mapping[str, Classifier], project: Project) -> list[Route]:
    """Return the routes that run in this process.

    They are the runtime on every variant, then every other provider that loads here, then the two parts of fp32 one
    behind the other.
    """
    n_classes = len(next(iter(classifiers.values())).contract.classes)
    main = [
        Route(name, classifier.variant.file, classifier.answers, n_classes, (classifier.variant.file,))
        for name, classifier in classifiers.items()
    ]
    on_other_providers = [
        Route(name, f"{classifier.variant.file} on {graph.provider}", graph.answers, n_classes)
        for name, classifier in classifiers.items()
        for graph in _other_providers(classifier, project)
    ]
    files = ("preprocess.onnx", "core.onnx")
    preprocess, core = (open_graph(project.onnx / name) for name in files)
    parts = Route("fp32", ", ".join(files), lambda frames_nhwc: core.answers(preprocess(frames_nhwc)), n_classes, files)
    return [*main, *on_other_providers, parts]


def ask_bundle(classifier: Classifier, rows: Sequence[Row], project: Project) -> Route:
    """Ask the runtime in a process of its own, in a folder such as a bundle unpacks to, without torch.

    The process decodes the frames itself. Python there cannot import torch.

    Args:
        classifier: the variant that is asked.
        rows: the frames, which exist on disk.
        project: whose frames they are.
    """
    route = Route(classifier.variant.name, BUNDLE, classifier.answers, len(classifier.contract.classes))
    with scratch_folder("bundle") as folder:
        shutil.copytree(Path(runtime.__file__).parent, folder / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(classifier.contract_path, folder / CONTRACT)
        shutil.copy(classifier.graphs / classifier.variant.file, folder)
        waiting = iter(str(safe_join(project.root, row.path).resolve()) for row in rows)
        while paths := list(itertools.islice(waiting, PATHS_AT_ONCE)):
            _classify(paths, route, folder)
    return route


def _classify(paths: Sequence[str], route: Route, folder: Path) -> None:
    """Classify pictures in a process that lacks what a device lacks, and add the answers to the route."""
    arguments = ["classify", "--json", "--variant", route.variant, "--", *paths]
    command = [sys.executable, "-c", AS_ON_A_DEVICE, *arguments]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    if finished.returncode != 0:
        lines = finished.stderr.strip().splitlines() or [f"ended with {finished.returncode}"]
        route.fail(lines[-1], len(paths))
        return
    answers = json.loads(finished.stdout)
    logits, scores = ([answer[name] for answer in answers] for name in ("logits", "score"))
    route.batches.append(Answers(np.array(logits, np.float32), np.array(scores, np.float32)))


def _other_providers(classifier: Classifier, project: Project) -> Iterator[Graph]:
    available = onnxruntime().get_available_providers()
    for provider in classifier.contract.providers:
        if provider in available and provider != classifier.providers[0]:
            try:
                graph = Graph((project.onnx / classifier.variant.file).read_bytes(), provider=provider)
            except DataError:  # this machine lacks the provider's libraries
                continue
            if graph.provider == provider:
                yield graph
