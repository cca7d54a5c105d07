"""All parts of a bundle are of one run of the chain: whatever is older, edited or added is refused and named."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from export.bundle import stage
from export.bundle.stage import bundle
from pipeline.base.errors import DataError, DiskFullError, GateError, PipeError
from pipeline.base.files import read_json
from pipeline.base.project import Project
from pipeline.base.report_digest import DIGEST, MADE_FROM, WROTE, write_report
from runtime.errors import BundleError
from tests.support.tiny_bundle import provenance_json, renew, renew_page, write_json, write_project


@pytest.fixture(scope="session")
def _whole(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return write_project(tmp_path_factory.mktemp("whole") / "project")


@pytest.fixture
def tiny(_whole: Project, tmp_path: Path) -> Project:
    """A project whose parts are of one run, beside an earlier bundle."""
    project = Project(shutil.copytree(_whole.root, tmp_path / "project"))
    project.bundle_zip.parent.mkdir()
    project.bundle_zip.write_text("an earlier bundle")
    return project


Plant = Callable[[Project], object]


def other_values(path: Callable[[Project], Path], **changes: object) -> Plant:
    """Edit a report's values, and leave the rest as it is."""
    return lambda project: write_json(path(project), {**read_json(path(project)), **changes})


def of_another_run(path: Callable[[Project], Path], **changes: object) -> Plant:
    """Let a report be of another run: with other values, and with the digest and hashes that its stage then writes."""

    def plant(project: Project) -> None:
        later = (project.report_html, project.parity_json, project.export_json, project.evaluate_json)
        kept = {each: each.read_bytes() for each in later if each != path(project)}
        other_values(path, **changes)(project)
        renew(project)
        for each, content in kept.items():
            each.write_bytes(content)

    return plant


def another(name: str) -> Plant:
    """Put another content into a file."""
    return lambda project: (project.root / name).write_bytes(b"another content")


def swapped_labels(project: Project) -> None:
    project.predictions_csv.write_text("path,label\na.jpg,red\nb.jpg,green\n")
    renew(project)
    project.predictions_csv.write_text("path,label\na.jpg,green\nb.jpg,red\n")


def other_order_of_classes(project: Project) -> None:
    classes = read_json(project.evaluate_json)["classes"]
    other_values(lambda each: each.evaluate_json, classes=classes[::-1])(project)
    renew(project)


def without(*keys: str) -> Plant:
    """Take keys out of evaluate's report, as an earlier version wrote it."""

    def plant(project: Project) -> None:
        values = read_json(project.evaluate_json)
        write_json(project.evaluate_json, {key: value for key, value in values.items() if key not in keys})

    return plant


def unlisted_golden_picture(project: Project) -> None:
    """Parity's report does not know a golden file that the list of golden pictures names."""
    values = read_json(project.parity_json)
    values[WROTE].pop("models/golden/001.npy")
    own = {key: value for key, value in values.items() if key not in (DIGEST, MADE_FROM, WROTE)}
    write_report(project.parity_json, own, made_from=values[MADE_FROM], wrote=values[WROTE])
    renew_page(project)


def edited_page(project: Project) -> None:
    page = project.report_html.read_text(encoding="utf-8")
    project.report_html.write_text(page.replace("the page of", "a page of"), encoding="utf-8")


def page_without_digest(project: Project) -> None:
    project.report_html.write_text("<html><head></head><body>an older page</body></html>")


STALE: dict[str, tuple[Plant, type[PipeError], str]] = {
    # another run of one stage, without the stages that follow
    "evaluate ran again": (
        of_another_run(lambda project: project.evaluate_json, top1=0.5),
        GateError,
        r"report\.html: was made from another reports/evaluate\.json \(its sha256 differs\); run `pipe report` again",
    ),
    "split ran again": (
        of_another_run(lambda project: project.split_json, protocol="random"),
        GateError,
        r"evaluate\.json: was made from another reports/split\.json .*; run `pipe evaluate` again",
    ),
    "export ran again": (
        of_another_run(lambda project: project.export_json, search="full"),
        GateError,
        r"report\.html: was made from another reports/export\.json .*; run `pipe report` again",
    ),
    "another split": (another("data/split.csv"), GateError, r"split\.csv: is not the file that `pipe split` wrote"),
    "another checkpoint": (
        another("models/checkpoint.pt"),
        GateError,
        r"checkpoint\.pt: is not the file that `pipe train` wrote \(its sha256 differs\); run `pipe train` again",
    ),
    "other frames": (another("data/frames.csv"), GateError, r"frames\.csv: is not the file that `pipe extract` wrote"),
    "other copies": (another("data/augmented.csv"), GateError, r"split\.json: was made from another data/augmented\.c"),
    "other groups": (another("data/groups.csv"), GateError, r"split\.json: was made from another data/groups\.csv"),
    # edited by hand
    "an edited share": (
        other_values(lambda project: project.evaluate_json, top1=0.99),
        GateError,
        r"evaluate\.json: its values are not those that `pipe evaluate` wrote; run `pipe evaluate` again",
    ),
    "an edited verdict": (other_values(lambda project: project.parity_json, x=1), GateError, r"parity\.json: its valu"),
    "an edited receipt": (other_values(lambda project: project.split_json, x=1), GateError, r"split\.json: its values"),
    "an edited extract": (other_values(lambda project: project.extract_json, x=1), GateError, r"extract\.json: its va"),
    "an edited training": (other_values(provenance_json, git="a"), GateError, r"provenance\.json: its values"),
    "an edited search": (other_values(lambda project: project.export_json, x=1), GateError, r"export\.json: its value"),
    "swapped labels": (
        swapped_labels,
        GateError,
        r"predictions\.csv: is not the file that `pipe evaluate` wrote .*; run `pipe evaluate` again",
    ),
    "edited flips": (another("reports/flips.csv"), GateError, r"flips\.csv: is not the file that `pipe parity` wrote"),
    "an edited curve": (another("reports/train/metrics.json"), GateError, r"metrics\.json: is not the file that `pipe"),
    "a swapped picture": (another("reports/plots/roc.png"), GateError, r"roc\.png: is not the file that `pipe evaluat"),
    "a swapped golden picture": (another("models/golden/001.jpg"), GateError, r"001\.jpg: is not the file that `pipe"),
    "an edited page": (
        edited_page,
        GateError,
        r"report\.html: is not as `pipe report` wrote it; run `pipe report` again",
    ),
    "other classes": (
        other_order_of_classes,
        GateError,
        r"evaluate\.json: found the classes 蓝色, green, red; contract\.json has red, green, 蓝色; run `pipe evaluate`",
    ),
    # what runs on the device
    "an extra module": (another("runtime/evil.py"), GateError, r"runtime/evil\.py: was not there when `pipe parity` r"),
    "an extra note": (another("runtime/clips/notes.txt"), GateError, r"notes\.txt: was not there when `pipe parity`"),
    "an edited module": (
        another("runtime/golden.py"),
        GateError,
        r"parity\.json: was made from another runtime/golden\.py .*; run `pipe parity` again",
    ),
    "a lost module": (
        lambda project: (project.runtime / "golden.py").unlink(),
        GateError,
        r"parity\.json: was made from runtime/golden\.py, which is missing; run `pipe parity` again",
    ),
    # what no report vouches for, and reports that earlier versions wrote
    "an unlisted golden picture": (
        unlisted_golden_picture,
        GateError,
        r"001\.npy: no report vouches for this file; run `pipe parity` again",
    ),
    "a report without a digest": (
        without(DIGEST),
        DataError,
        r"evaluate\.json: found no digest, made_from and wrote; expected them; run `pipe evaluate` again",
    ),
    "a report without hashes": (without(MADE_FROM, WROTE), DataError, r"evaluate\.json: found no digest"),
    "a page without a digest": (page_without_digest, DataError, r"report\.html: found no digest in its head; expected"),
    "a lost checkpoint": (
        lambda project: project.checkpoint.unlink(),
        DataError,
        r"checkpoint\.pt: missing; run `pipe train`",
    ),
}


@pytest.mark.parametrize(("plant", "kind", "reason"), STALE.values(), ids=STALE)
def test_a_part_that_is_older_edited_or_added_leaves_no_bundle(
    plant: Plant, kind: type[PipeError], reason: str, tiny: Project
) -> None:
    plant(tiny)
    with pytest.raises(kind, match=reason) as caught:
        bundle(tiny)
    assert "\n" not in str(caught.value)
    assert list(tiny.bundle_zip.parent.iterdir()) == []  # the earlier bundle is gone too


def test_the_parts_of_one_run_are_bundled(tiny: Project) -> None:
    """The negative control: nothing is planted, caches and litter beside the code do not count."""
    (tiny.runtime / "__pycache__").mkdir()
    (tiny.runtime / "__pycache__" / "golden.cpython-311.pyc").write_bytes(b"cache")
    (tiny.runtime / ".DS_Store").write_bytes(b"litter")
    assert bundle(tiny).selfcheck.passed


def test_other_line_breaks_and_another_order_of_keys_change_no_value(tiny: Project) -> None:
    values = read_json(tiny.evaluate_json)
    tiny.evaluate_json.write_text(json.dumps(dict(reversed(values.items()))), encoding="utf-8")
    renew_page(tiny)
    assert bundle(tiny).selfcheck.passed


def test_a_network_may_be_judged_on_another_split_than_it_was_trained_on(tiny: Project) -> None:
    """Evaluate's report then says that its numbers are optimistic."""
    trained = provenance_json(tiny).read_bytes()
    tiny.split_csv.write_text("another split")
    renew(tiny)
    provenance_json(tiny).write_bytes(trained)
    renew_page(tiny)
    assert bundle(tiny).selfcheck.passed


def no_room(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_while_unpacking(*_: object) -> None:
    try:
        no_room()
    except OSError as error:
        raise BundleError("bundle.zip: cannot be unpacked (No space left on device)") from error


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("unpack", full_while_unpacking),
        ("scratch_folder", no_room),
        ("_write_zip", no_room),
        ("free_bytes", lambda *_: 4096),
    ],
)
def test_a_full_disk_exits_1_and_leaves_the_earlier_bundle(
    name: str, planted: Callable[..., object], tiny: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.bundle_signature.write_bytes(b"its signature")
    monkeypatch.setattr(stage, name, planted)
    with pytest.raises(DiskFullError, match=r"the disk is full: found [\d,]+ bytes free; expected .*bytes") as caught:
        bundle(tiny)
    assert caught.value.exit_code == 1
    assert tiny.bundle_zip.read_text() == "an earlier bundle"
    assert tiny.bundle_signature.read_bytes() == b"its signature"
    assert len(list(tiny.bundle_zip.parent.iterdir())) == 2
