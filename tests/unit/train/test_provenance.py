"""What a training run writes of its origins."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from pipeline.base.files import read_json, sha256_of
from pipeline.base.project import Project
from pipeline.train.provenance import code_digest, code_files, fingerprints, weights_licence
from tests.support.code_copy import copy_of_the_code

_AS_SOMEBODY = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")


def test_training_writes_its_data_settings_and_versions(exported: Project) -> None:
    found = read_json(exported.train_reports / "provenance.json")
    assert found["git"] is None  # the folder is no repository
    assert found["data"] == sha256_of(exported.split_csv)
    assert found["params"]["model"]["arch"] == "resnet18"
    assert found["params"]["train"]["epochs"] == 3
    assert found["versions"]["torch"] == str(torch.__version__).split("+")[0]


def test_a_commit_that_does_not_hold_the_code_that_ran_says_so(tmp_path: Path) -> None:
    project = Project(tmp_path)
    code, note = tmp_path / "pipeline" / "train.py", tmp_path / "notes.txt"
    for path in (code, note, project.split_csv):
        path.parent.mkdir(exist_ok=True)
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


@pytest.mark.parametrize(
    ("arch", "weights", "said"),
    [
        ("resnet18", "none", "random weights"),
        ("resnet18", str(Path("somewhere") / "mine.pt"), "not known here: it started from the file mine.pt"),
        ("efficientnet_lite0", "imagenet", "Apache-2.0"),
        ("timm:tf_efficientnet_lite0", "imagenet", "apache-2.0"),
        ("resnet18", "imagenet", "not stated"),
        ("vit_h_14", "imagenet", "SWAG"),  # torchvision's, of which some may not be used for business
    ],
)
def test_the_licence_of_the_first_weights_is_told_or_said_not_to_be_known(arch: str, weights: str, said: str) -> None:
    assert said in weights_licence(arch, weights)


def test_the_digest_of_the_code_covers_every_folder_below_and_tells_files_of_one_name_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = copy_of_the_code(tmp_path, monkeypatch)
    digests = [code_digest(), code_digest()]
    assert digests[0] == digests[1]
    for room, text in (("first", "a = 1\n"), ("second", "b = 2\n")):
        (code / room / "deeper").mkdir(parents=True)
        (code / room / "deeper" / "stage.py").write_text(text)
        digests.append(code_digest())
    for room, text in (("first", "b = 2\n"), ("second", "a = 1\n")):  # the two exchanged
        (code / room / "deeper" / "stage.py").write_text(text)
    digests.append(code_digest())
    assert len(set(digests)) == 4
    assert code / "second" / "deeper" / "stage.py" in code_files()


def test_a_digest_of_no_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(copy_of_the_code(tmp_path, monkeypatch))
    with pytest.raises(RuntimeError, match="pipeline: no module"):
        code_digest()
