"""What a training run writes about its origins, and the digest of the code that it runs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from pipeline.base.code_digest import code_files
from pipeline.base.errors import DataError
from pipeline.base.files import read_json, sha256_of
from pipeline.base.project import Project
from pipeline.tools.project.toolchain import installed_digests
from pipeline.train.provenance import (
    TRAIN_CODE,
    code_digest,
    fingerprints,
    refuse_empty_repository,
    weights_licence,
)
from tests.house.rooms import PACKAGES, ROOT, House
from tests.support.code_copy import copy_of_the_code

_AS_SOMEBODY = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")


def test_training_writes_its_data_settings_and_versions(exported: Project) -> None:
    provenance = read_json(exported.train_reports / "provenance.json")
    assert provenance["git"] is None  # the folder is no repository
    assert provenance["data"] == sha256_of(exported.split_csv)
    assert provenance["params"]["model"]["arch"] == "resnet18"
    assert provenance["params"]["train"]["epochs"] == 3
    assert provenance["versions"]["torch"] == str(torch.__version__).split("+")[0]


@pytest.mark.parametrize("file", ["pipeline/train/fit.py", "pipeline/tools/adding/add.py", "runtime/session.py"])
def test_a_commit_that_differs_from_the_code_that_ran_is_dirty(tmp_path: Path, file: str) -> None:
    project = Project(tmp_path)
    code, note = tmp_path / file, tmp_path / "notes.txt"
    for path in (code, note, project.split_csv):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("first\n", encoding="utf-8")
    for command in (["init", "-q"], ["add", "-A"], [*_AS_SOMEBODY, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    clean = fingerprints(project)["git"]
    assert clean is not None
    assert len(clean) == 40
    note.write_text("second\n", encoding="utf-8")
    assert fingerprints(project)["git"] == clean
    code.write_text("second\n", encoding="utf-8")
    assert fingerprints(project)["git"] == f"{clean}-dirty"


def test_a_repository_without_a_commit_is_refused_before_training(tmp_path: Path) -> None:
    project = Project(tmp_path)
    assert refuse_empty_repository(project) is None  # no repository: does not raise
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    with pytest.raises(DataError, match="found a git repository without a commit; DVC's curves need one"):
        refuse_empty_repository(project)
    subprocess.run(["git", *_AS_SOMEBODY, "commit", "-qm", "first", "--allow-empty"], cwd=tmp_path, check=True)
    assert refuse_empty_repository(project) is None  # does not raise


def test_the_code_that_trained_is_named_as_toolchain_lock_names_it(project: Project) -> None:
    project.split_csv.parent.mkdir()
    project.split_csv.touch()
    assert fingerprints(project)["toolchain"] == installed_digests()["train"]


@pytest.mark.parametrize(
    ("arch", "weights", "words"),
    [
        ("resnet18", "none", "random weights"),
        ("resnet18", str(Path("somewhere") / "mine.pt"), "not known here: it started from the file mine.pt"),
        ("efficientnet_lite0", "imagenet", "Apache-2.0"),
        ("timm:tf_efficientnet_lite0", "imagenet", "apache-2.0"),
        ("resnet18", "imagenet", "not stated"),
        ("vit_h_14", "imagenet", "SWAG"),  # torchvision's, of which some may not be used for business
    ],
)
def test_the_licence_of_the_first_weights_is_stated_or_not_known(arch: str, weights: str, words: str) -> None:
    assert words in weights_licence(arch, weights)


def test_the_digest_covers_exactly_the_code_that_dvc_lists_for_training() -> None:
    listed = {dep for dep in House(ROOT).stages["train"]["deps"] if dep.split("/")[0] in PACKAGES}
    assert set(TRAIN_CODE) == listed


def test_the_digest_covers_every_folder_below_and_distinguishes_files_of_one_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = copy_of_the_code(tmp_path, monkeypatch) / "train"
    digests = [code_digest(), code_digest()]
    assert digests[0] == digests[1]
    for folder, text in (("first", "a = 1\n"), ("second", "b = 2\n")):
        (room / folder / "deeper").mkdir(parents=True)
        (room / folder / "deeper" / "stage.py").write_text(text)
        digests.append(code_digest())
    for folder, text in (("first", "b = 2\n"), ("second", "a = 1\n")):  # the two exchanged
        (room / folder / "deeper" / "stage.py").write_text(text)
    digests.append(code_digest())
    assert len(set(digests)) == 4
    assert room / "second" / "deeper" / "stage.py" in list(code_files(TRAIN_CODE))


@pytest.mark.parametrize("module", ["base/files.py", "network/heads.py", "train/fit.py", "../runtime/images/pillow.py"])
def test_an_edit_in_code_that_training_runs_changes_the_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    code = copy_of_the_code(tmp_path, monkeypatch)
    before = code_digest()
    with (code / module).open("a") as file:
        file.write("# a comment\n")
    assert code_digest() != before


@pytest.mark.parametrize("module", ["tools/add.py", "cli/main.py", "evaluate/stage.py", "../runtime/session.py"])
def test_an_edit_in_code_that_training_does_not_run_keeps_the_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    code = copy_of_the_code(tmp_path, monkeypatch)
    before = code_digest()
    with (code / module).open("a") as file:
        file.write("# a comment\n")
    assert code_digest() == before


@pytest.mark.parametrize("part", TRAIN_CODE)
def test_a_digest_without_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    copy_of_the_code(tmp_path, monkeypatch)
    shutil.rmtree(tmp_path / part) if (tmp_path / part).is_dir() else (tmp_path / part).unlink()
    with pytest.raises(RuntimeError, match=f"{part}: no module"):
        code_digest()
