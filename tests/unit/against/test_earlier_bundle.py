"""An earlier bundle beside the new one: the same frames, and a bundle that the opener refuses is refused."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from export.against import earlier_bundle
from export.against.earlier_bundle import BundleComparison, compare, open_earlier_bundle
from export.bundle.stage import bundle
from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.files import read_json
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from runtime.contract import Contract
from tests.support.command import run_pipe
from tests.support.tiny_bundle import (
    CLASSES,
    colour_graph,
    draft_contract,
    picture,
    provenance_json,
    renew,
    write_json,
    write_project,
)

N_PER_CLASS = 2


def with_frames(project: Project) -> Project:
    """Two held-out frames of each class, and a report that says so."""
    rows = []
    for number in range(N_PER_CLASS * len(CLASSES)):
        path = project.frames / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels_hwc = picture(number % len(CLASSES), 20 + number)
        Image.fromarray(pixels_hwc).save(path)
        height, width, _ = pixels_hwc.shape
        name = project.relative(path)
        label = CLASSES[number % len(CLASSES)]
        rows.append(Row(name, label, name, name, name, width=width, height=height, split="test"))
    rows.append(Row("data/frames/trained.png", CLASSES[0], "trained", "trained", "trained", split="train"))
    manifest.write_split(rows, project.split_csv)
    write_json(project.split_json, {"protocol": "given"})
    renew(project)
    return project


def red_for_green(metadata: dict[str, str]) -> bytes:
    """The colour graph with two of its answers exchanged."""
    model = onnx.load_from_string(colour_graph(metadata))
    weights = model.graph.initializer[1]
    exchanged = numpy_helper.to_array(weights)[:, [1, 0, 2]]
    weights.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(exchanged), weights.name))
    content: bytes = model.SerializeToString()
    return content


def bundled(
    root: Path, contract: Contract | None = None, make: Callable[[dict[str, str]], bytes] = colour_graph
) -> Project:
    """A project with frames and its bundle."""
    project = with_frames(write_project(root, contract, make))
    bundle(project)
    return project


@pytest.fixture
def worse(tmp_path: Path) -> Path:
    """A bundle that takes red for green and green for red."""
    return bundled(tmp_path / "worse", make=red_for_green).bundle_zip


@pytest.fixture
def tiny(tmp_path: Path) -> Project:
    return bundled(tmp_path / "project")


def against(earlier: Path, project: Project) -> BundleComparison:
    with open_earlier_bundle(earlier, project) as opened:
        return compare(opened, project)


def assert_refused(earlier: Path, project: Project, reason: str) -> None:
    """The command prints one line and exits 1, and the project's bundle is unchanged."""
    before = project.bundle_zip.read_bytes()
    finished = run_pipe(project.root, "bundle", "--against", str(earlier))
    assert (finished.returncode, finished.stdout) == (1, "")
    assert reason in finished.stderr
    assert finished.stderr.count("\n") == 1
    assert project.bundle_zip.read_bytes() == before


def test_a_better_bundle_shows_by_its_flips(tiny: Project, worse: Path) -> None:
    report = against(worse, tiny)
    assert (report.n_frames, report.flips, report.gained, report.lost) == (6, 4, 4, 0)
    assert (report.earlier.top1, report.new.top1) == (pytest.approx(1 / 3), 1.0)
    assert report.left_out == 0
    assert (
        "6 frames of 6 clips that neither has learned from: 4 flips (4 newly right, 0 newly wrong), top-1 +66.7 points"
        in report.headline
    )
    assert "may have seen" not in report.headline


def test_a_worse_bundle_shows_too(tiny: Project, worse: Path) -> None:
    report = against(tiny.bundle_zip, Project(worse.parents[1]))
    assert (report.flips, report.gained, report.lost) == (4, 0, 4)


def test_a_bundle_against_itself_changes_nothing_but_the_clock(tiny: Project) -> None:
    report = against(tiny.bundle_zip, tiny)
    assert (report.flips, report.gained, report.lost) == (0, 0, 0)
    assert report.earlier.bytes == report.new.bytes == tiny.bundle_zip.stat().st_size
    assert 0 < report.earlier.median_ms < 100


def test_each_frame_is_decoded_once(tiny: Project, worse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, decoded = earlier_bundle.Classifier.read, []
    monkeypatch.setattr(
        earlier_bundle.Classifier, "read", lambda self, path: [read(self, path), decoded.append(path)][0]
    )
    assert against(worse, tiny).n_frames == len(decoded) == len(set(decoded)) == 6


def says_it_learned_from(tiny: Project, learned_from: object) -> Path:
    """A bundle whose provenance says that its network learned from these recordings."""
    provenance = provenance_json(tiny)
    write_json(provenance, read_json(provenance) | {"learned_from": learned_from})
    renew(tiny)
    bundle(tiny)
    return tiny.bundle_zip


def test_recordings_that_the_earlier_network_learned_from_judge_nothing(tiny: Project, worse: Path) -> None:
    # The frame that the worse bundle has right is left out, and those that it takes for one another stay.
    project = Project(worse.parents[1])
    blue = [row.source_sha256 for row in manifest.read_split(project.split_csv) if row.label == "蓝色"]
    earlier = says_it_learned_from(project, blue)
    report = against(earlier, tiny)
    assert (report.n_frames, report.n_clips, report.left_out) == (4, 4, 2)
    assert report.earlier.top1 == 0.0
    assert report.headline == (
        "against the earlier bundle: cannot tell which is better, since only 4 clips of 6 recordings are new to it; "
        "expected at least 6"
    )


def test_an_earlier_network_that_learned_from_everything_cannot_be_compared(tiny: Project) -> None:
    everything = [row.source_sha256 for row in manifest.read_split(tiny.split_csv)]
    report = against(says_it_learned_from(tiny, everything), tiny)
    assert (report.n_frames, report.n_clips, report.left_out) == (0, 0, 6)
    assert "cannot tell which is better, since only 0 clips of 6 recordings" in report.headline


@pytest.mark.parametrize("learned_from", [None, "nothing", 3])
def test_an_earlier_network_that_does_not_say_what_it_learned_from_gives_a_caution(
    learned_from: object, tiny: Project
) -> None:
    earlier = says_it_learned_from(tiny, learned_from)
    assert "does not say what it was fitted to: it may have seen these" in against(earlier, tiny).headline


def test_the_command_bundles_and_then_prints_a_table_and_a_line(tiny: Project, worse: Path) -> None:
    tiny.bundle_zip.unlink()
    finished = run_pipe(tiny.root, "bundle", "--against", str(worse))
    assert finished.returncode == 0, finished.stderr
    lines = finished.stdout.splitlines()
    assert lines[0].startswith("bundled fp32")
    assert lines[1].split() == ["earlier", "new"]
    assert [line.rsplit(None, 2)[0] for line in lines[2:-1]] == [
        "graph", "top-1", "median latency, ms", "graph, MB", "bundle, MB"
    ]  # fmt: skip
    assert lines[3].split() == ["top-1", "33.3%", "100.0%"]
    assert lines[-1].startswith(
        "against the earlier bundle, on 6 frames of 6 clips that neither has learned from: 4 flips"
    )


def test_the_bundle_that_is_replaced_may_be_the_earlier_one(tiny: Project) -> None:
    finished = run_pipe(tiny.root, "bundle", "--against", "dist/bundle.zip")
    assert finished.returncode == 0, finished.stderr
    assert "6 frames of 6 clips that neither has learned from: 0 flips" in finished.stdout


def test_a_bundle_of_other_classes_is_refused(tiny: Project, tmp_path: Path) -> None:
    contract = dataclasses.replace(draft_contract(), classes=("red", "green", "gold"))
    # Its golden pictures are of the same colours: only the names differ.
    other = bundled(tmp_path / "other", contract).bundle_zip
    assert_refused(other, tiny, f"{other}: its classes are red, green, gold; expected red, green, 蓝色")


def test_a_bundle_that_the_opener_refuses_is_refused(tiny: Project, tmp_path: Path) -> None:
    damaged = bytearray(tiny.bundle_zip.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "damaged.zip").write_bytes(damaged)
    assert_refused(tmp_path / "damaged.zip", tiny, "damaged.zip: no bundle to compare with")
    assert_refused(tmp_path / "none.zip", tiny, "none.zip: no bundle to compare with")


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os; os.kill(os.getpid(), 11)", "its graph crashed: signal 11"),
        ("raise SystemExit('runtime: fp32: logits differ')", "its selfcheck says: runtime: fp32: logits differ"),
    ],
)
def test_a_bundle_that_crashes_or_fails_its_selfcheck_costs_a_child_and_is_refused(
    program: str, reason: str, tiny: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(earlier_bundle, "SELFCHECK", (sys.executable, "-c", program))
    with pytest.raises(DataError, match=reason):
        against(tiny.bundle_zip, tiny)


def test_nothing_is_compared_where_no_frame_is_held_out(tiny: Project) -> None:
    rows = [row for row in manifest.read_split(tiny.split_csv) if row.split != "test"]
    manifest.write_split(rows, tiny.split_csv)
    with pytest.raises(DataError, match="no kept frame in test"):
        against(tiny.bundle_zip, tiny)


def test_a_frame_that_cannot_be_read_is_named(tiny: Project) -> None:
    (tiny.frames / "3.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"data/frames/3\.png"):
        against(tiny.bundle_zip, tiny)
