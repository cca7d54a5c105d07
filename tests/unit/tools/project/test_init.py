"""`pipe init` makes a whole project or nothing, and none of the toolchain's code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.params import read_params
from pipeline.tools.project import init as init_module
from pipeline.tools.project.chain import project_chain
from pipeline.tools.project.init import init
from pipeline.tools.project.toolchain import changed_stages, read_toolchain
from tests.house.rooms import PACKAGES, ROOT


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("init") / "below" / "materials"
    assert init(folder).folder == folder
    return Project(folder)


@pytest.fixture
def copied(made: Project, tmp_path: Path) -> Project:
    return Project(shutil.copytree(made.root, tmp_path / "copied"))


def run(folder: Path, *command: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    finished = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_a_project_has_its_files_and_no_code(made: Project) -> None:
    files = {path.relative_to(made.root).as_posix() for path in made.root.rglob("*") if path.is_file()}
    assert {name for name in files if not name.startswith((".git/", ".dvc/tmp/"))} == {
        ".dvc/.gitignore", ".dvc/config", ".dvc/plots/by_class.json", ".dvc/plots/curves.json", ".dvcignore",
        ".gitattributes", ".github/workflows/project.yml", ".gitignore", "README.md", "data/groups.csv",
        "data/split.keep.csv", "dvc.yaml", "params.schema.json", "params.yaml", "reports/explain/.gitkeep",
        "toolchain.lock",
    }  # fmt: skip
    assert made.raw.is_dir()


def test_the_files_are_those_of_the_toolchain(made: Project) -> None:
    for name in ("params.schema.json", ".dvcignore", ".gitignore", ".gitattributes"):
        assert (made.root / name).read_bytes() == (ROOT / name).read_bytes(), name
    for name in ("groups.csv", "split.keep.csv"):
        lines = (made.root / "data" / name).read_text(encoding="utf-8").splitlines()
        assert lines == (ROOT / "data" / name).read_text(encoding="utf-8").splitlines()[:1]
    assert made.dvc_yaml.read_text(encoding="utf-8") == project_chain(made)
    assert changed_stages(read_toolchain(made)) == []


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed checkout that `pipe init` takes its templates from."""
    from pipeline.base.storage.packaged_files import _IN_CHECKOUT

    root = tmp_path / "clone"
    for name in ("params.yaml", "params.schema.json", ".dvc/config", *_IN_CHECKOUT.values()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile)(ROOT / name, root / name)
    run(root, "git", "init", "--quiet")
    run(root, "git", "add", "--all", "--force")
    run(root, "git", "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "--message", "clone")
    monkeypatch.setattr(init_module, "packaged", lambda name: root / _IN_CHECKOUT.get(name, name))
    return root


def edited(path: Path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), encoding="utf-8")


def test_the_values_and_remotes_of_a_clone_that_is_a_project_too_stay_in_it(clone: Path, tmp_path: Path) -> None:
    defaults = (clone / "params.yaml").read_text(encoding="utf-8")
    edited(clone / "params.yaml", "keep: true", "keep: false")  # as `pipe demo` and recipes do
    with (clone / ".dvc" / "config").open("a", encoding="utf-8") as config:
        config.write("    remote = store\n['remote \"store\"']\n    url = /store\n")
    made = Project(init(tmp_path / "materials").folder)
    assert made.params_yaml.read_text(encoding="utf-8") == defaults
    assert run(made.root, "dvc", "config", "--list", "--project").split() == [
        "core.analytics=false", "core.check_update=false"
    ]  # fmt: skip


def test_params_that_were_not_committed_with_their_code_yet_are_taken_as_they_are(clone: Path, tmp_path: Path) -> None:
    now = (clone / "params.yaml").read_text(encoding="utf-8")
    edited(clone / "params.yaml", "keep: true", "gone: true")  # a key that the code no longer has
    run(clone, "git", "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-a", "-m", "earlier")
    (clone / "params.yaml").write_text(now, encoding="utf-8")
    assert Project(init(tmp_path / "materials").folder).params_yaml.read_text(encoding="utf-8") == now


def test_params_of_a_clone_without_git_are_taken_as_they_are(clone: Path, tmp_path: Path) -> None:
    shutil.rmtree(clone / ".git")
    edited(clone / "params.yaml", "keep: true", "keep: false")
    made = Project(init(tmp_path / "materials").folder)
    assert not read_params(made.params_yaml).split.keep


def test_git_and_dvc_know_the_project_and_dvc_sends_nothing(made: Project) -> None:
    assert run(made.root, "git", "rev-parse", "--show-toplevel").strip() == str(made.root.resolve())
    assert run(made.root, "dvc", "config", "core.analytics").strip() == "false"
    assert run(made.root, "git", "config", "merge.dvc.driver").startswith("dvc git-hook merge-driver --ancestor")
    assert set(run(made.root, "dvc", "stage", "list", "--name-only").split()) == set(
        YAML(typ="safe").load(made.dvc_yaml)["stages"]
    )
    attributes = run(made.root, "git", "check-attr", "merge", "--", "data/raw.dvc", "dvc.lock", "reports/train/a.json")
    assert [line.split(": ")[-1] for line in attributes.splitlines()] == ["dvc", "ours", "ours"]
    assert run(made.root, "git", "config", "merge.ours.driver").strip() == "true"


def test_every_file_is_committed_and_no_recording_will_be(copied: Project) -> None:
    assert run(copied.root, "git", "status", "--short") == ""
    assert run(copied.root, "git", "log", "--format=%s") == "Start the project with pipe init\n"
    (copied.raw / "flake").mkdir()
    (copied.raw / "flake" / "clip.mp4").touch()
    run(copied.root, "git", "add", "--all")
    tracked = set(run(copied.root, "git", "ls-files").split())
    assert {"dvc.yaml", "toolchain.lock", "reports/explain/.gitkeep", ".github/workflows/project.yml"} <= tracked
    assert not [name for name in tracked if name.startswith("data/raw/")]


def test_the_readme_names_the_project_and_three_commands_that_exist(made: Project) -> None:
    from pipeline.cli.main import cli

    text = (made.root / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# materials\n")
    commands = [line.split() for line in text.splitlines() if line.startswith("    ")]
    assert [command[:2] for command in commands] == [["pipe", "add"], ["dvc", "repro"], ["git", "add"]]
    assert "add" in cli.commands


def test_the_workflow_checks_with_the_version_of_the_lock(made: Project) -> None:
    workflow = YAML(typ="safe").load(made.root / ".github" / "workflows" / "project.yml")
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    install = next(step["run"] for step in steps if "pip install" in step.get("run", ""))
    version = run(made.root, "bash", "-c", install.splitlines()[0] + "; echo $version").strip()
    assert version == read_toolchain(made).version


@pytest.mark.parametrize("name", [".gitkeep", "clip.mp4"])
def test_a_folder_with_content_is_left_as_it_is(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(DataError, match="not empty; expected a new or an empty folder"):
        init(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "materials").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match="no folder; expected"):
        init(tmp_path / "materials")
    assert (tmp_path / "materials").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("is_new", [True, False])
def test_a_failure_leaves_what_was_there_before(is_new: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "below" / "materials"
    if not is_new:
        folder.mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(init_module, "_run", lambda *_: None)  # git and DVC have nothing to do with it
    monkeypatch.setattr(init_module, "_HIDDEN", {"no_such_template": ".gitignore"})
    with pytest.raises(FileNotFoundError, match="no_such_template"):
        init(folder)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_move_that_fails_in_the_middle_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    for name in "abc":
        (tmp_path / "temporary" / name).mkdir()
    (tmp_path / "project" / "b").mkdir(parents=True)
    (tmp_path / "project" / "b" / "full").touch()  # nothing can take its place
    with pytest.raises(OSError, match="not empty"):
        init_module._move_content(tmp_path / "temporary", tmp_path / "project")
    assert sorted(path.name for path in (tmp_path / "project").iterdir()) == ["b"]
    assert sorted(path.name for path in (tmp_path / "temporary").iterdir()) == ["a", "b", "c"]


def test_git_that_is_not_installed_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="git: not installed"):
        init(tmp_path / "materials")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_init_left_is_no_obstacle(made: Project, tmp_path: Path) -> None:
    folder = tmp_path / "materials"
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()  # its number is free again
    left = folder / f".init.{killed.pid}.tmp"
    left.mkdir(parents=True)
    (left / "dvc.yaml").touch()
    init(folder)
    assert not left.exists()
    assert (folder / "dvc.yaml").is_file()


def test_the_wheel_is_told_to_carry_every_file_that_a_project_needs() -> None:
    import tomllib

    from pipeline.base.storage.packaged_files import _IN_CHECKOUT

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    packaged = {target.removeprefix("pipeline/packaged/"): source for source, target in included.items()}
    for name in (*_IN_CHECKOUT, "params.yaml", "params.schema.json", "recipes"):
        assert packaged[name] == _IN_CHECKOUT.get(name, name)
    assert all((ROOT / source).exists() for source in included)
    assert not any((ROOT / package / "packaged").exists() for package in PACKAGES)  # no second copy
