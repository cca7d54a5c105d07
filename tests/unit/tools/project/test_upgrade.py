"""An upgrade takes the installed version over, keeps what a person edited, and says what runs again."""

from __future__ import annotations

import dataclasses

import pytest

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.tools.project.chain import project_chain
from pipeline.tools.project.toolchain import Toolchain, changed_stages, read_toolchain
from pipeline.tools.project.upgrade import installed_toolchain, upgrade
from tests.house.rooms import ROOT

EARLIER_CHAIN = "# as an earlier version wrote it\nstages:\n  train: {cmd: pipe train}\n"


@pytest.fixture
def upgraded(project: Project) -> Project:
    """A project of the installed version, without git and DVC."""
    chain = project_chain(project)
    project.dvc_yaml.write_text(chain, encoding="utf-8")
    write_lock(project, installed_toolchain(chain))
    return project


def write_lock(project: Project, toolchain: Toolchain) -> None:
    project.toolchain_lock.write_text(toolchain.to_yaml(), encoding="utf-8")


def with_other(project: Project, *stages: str, version: str = "0.9") -> Toolchain:
    """Write a lock in which some stages have other code; return what it was before."""
    present = read_toolchain(project)
    digests = {**present.digests, **dict.fromkeys(stages, "f" * 64)}
    write_lock(project, dataclasses.replace(present, version=version, digests=digests))
    return present


def test_changed_stages_are_named_with_those_that_read_them(upgraded: Project) -> None:
    present = with_other(upgraded, "export")
    report = upgrade(upgraded)
    assert report.headline == (
        f"clip2edge 0.9 to {present.version}: export changed: 4 stages (export, parity, report, bundle)"
    )
    assert read_toolchain(upgraded) == present
    assert changed_stages(read_toolchain(upgraded)) == []


def test_two_changed_stages_are_both_named(upgraded: Project) -> None:
    with_other(upgraded, "report", "augment")
    assert "augment, report changed: 8 stages (augment, split, " in upgrade(upgraded).headline


def test_another_version_with_the_same_code_runs_nothing(upgraded: Project) -> None:
    present = with_other(upgraded)
    report = upgrade(upgraded)
    assert report.headline == f"clip2edge 0.9 to {present.version}: no stage changed, so nothing runs again"
    assert report.to_run == []


def test_a_second_upgrade_changes_no_byte(upgraded: Project) -> None:
    with_other(upgraded, "train")
    upgrade(upgraded)
    before = {path: path.read_bytes() for path in upgraded.root.iterdir()}
    assert upgrade(upgraded).changed == []
    assert {path: path.read_bytes() for path in upgraded.root.iterdir()} == before


def test_the_chain_of_an_earlier_version_is_replaced(upgraded: Project, capsys: pytest.CaptureFixture[str]) -> None:
    upgraded.dvc_yaml.write_text(EARLIER_CHAIN, encoding="utf-8")
    write_lock(upgraded, installed_toolchain(EARLIER_CHAIN))
    upgrade(upgraded)
    assert upgraded.dvc_yaml.read_text(encoding="utf-8") == project_chain(upgraded)
    assert capsys.readouterr().err == ""


def test_an_edited_chain_stays_and_what_it_lacks_is_named(
    upgraded: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    own = project_chain(upgraded).replace("- data/raw\n", "- data/raw\n      - notes.txt\n")
    upgraded.dvc_yaml.write_text(own, encoding="utf-8")
    write_lock(upgraded, installed_toolchain(EARLIER_CHAIN))
    upgrade(upgraded)
    assert upgraded.dvc_yaml.read_text(encoding="utf-8") == own
    said = capsys.readouterr().err
    assert "dvc.yaml: was edited and stays; this version has other lines in extract: compare it" in said


def test_an_edited_chain_of_this_version_is_nothing_to_tell(
    upgraded: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    own = project_chain(upgraded) + "# a note of ours\n"
    upgraded.dvc_yaml.write_text(own, encoding="utf-8")
    with_other(upgraded, "split")
    assert upgrade(upgraded).to_run[0] == "split"
    assert (upgraded.dvc_yaml.read_text(encoding="utf-8"), capsys.readouterr().err) == (own, "")


def test_params_that_lack_a_key_of_this_version_are_named(
    upgraded: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    text = upgraded.params_yaml.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith("  adapt:")]
    assert len(lines) == len(text.splitlines()) - 1
    upgraded.params_yaml.write_text("".join(lines), encoding="utf-8")
    upgrade(upgraded)
    said = capsys.readouterr().err
    assert "train.adapt: Field required" in said
    assert f"{ROOT / 'params.yaml'} has the values of this version" in said
    assert upgraded.params_yaml.read_text(encoding="utf-8") == "".join(lines)


def test_a_lock_with_conflicts_of_a_merge_is_written_anew(upgraded: Project) -> None:
    upgraded.toolchain_lock.write_text("<<<<<<< ours\nextract: a\n=======\n", encoding="utf-8")
    report = upgrade(upgraded)
    assert (report.before, len(report.changed)) == ("unknown", 9)
    assert changed_stages(read_toolchain(upgraded)) == []


def test_a_schema_of_an_earlier_version_is_replaced(upgraded: Project) -> None:
    upgraded.params_schema_json.write_text("{}", encoding="utf-8")
    upgrade(upgraded)
    assert upgraded.params_schema_json.read_bytes() == (ROOT / "params.schema.json").read_bytes()


def test_a_clone_needs_no_upgrade(project: Project) -> None:
    with pytest.raises(DataError, match="missing; `pipe init DIR` makes a project, and a clone needs no such file"):
        upgrade(project)
    assert not project.toolchain_lock.exists()


def test_a_chain_without_stages_stops_the_upgrade_before_anything_is_written(upgraded: Project) -> None:
    upgraded.dvc_yaml.write_text("stages: 3\n", encoding="utf-8")
    with_other(upgraded, "train")
    before = upgraded.toolchain_lock.read_bytes()
    with pytest.raises(DataError, match=r"dvc\.yaml: found no stages"):
        upgrade(upgraded)
    assert upgraded.toolchain_lock.read_bytes() == before
