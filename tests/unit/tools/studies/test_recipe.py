"""A recipe is written into params.yaml whole or not at all, and the comments stay."""

from __future__ import annotations

import pytest

from pipeline.base.errors import ParamsError
from pipeline.base.project import Project
from pipeline.params import read_params
from pipeline.tools.studies.recipe import apply_recipe, list_recipes
from tests.support.command import ROOT


def write_recipe(project: Project, text: str, name: str = "fish") -> None:
    project.recipes.mkdir(exist_ok=True)
    (project.recipes / f"{name}.yaml").write_text(text, encoding="utf-8")


def changed_lines(project: Project) -> list[tuple[str, str]]:
    before = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()
    after = project.params_yaml.read_text(encoding="utf-8").splitlines()
    return [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]


def refusal(project: Project, name: str = "fish") -> str:
    before = project.params_yaml.read_bytes()
    with pytest.raises(ParamsError) as caught:
        apply_recipe(name, project)
    assert project.params_yaml.read_bytes() == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_recipe_changes_its_values_and_not_a_letter_more(project: Project) -> None:
    write_recipe(project, 'params: {train: {epochs: 300, lr: 0.0002}, split: {ratio: "9:1", val: null}}\nrows: []\n')
    report = apply_recipe("fish", project)
    assert report.changed == ("train.epochs", "train.lr", "split.ratio", "split.val")
    assert "train.epochs" in report.headline
    changed = changed_lines(project)
    assert [after.split("#")[0].strip() for _, after in changed] == [
        'ratio: "9:1"',
        "val: null",
        "epochs: 300",
        "lr: 0.0002",
    ]
    assert all(before.split("#")[1:] == after.split("#")[1:] for before, after in changed)
    assert read_params(project.params_yaml).split.val is None


def test_a_recipe_with_the_defaults_leaves_the_same_bytes(project: Project) -> None:
    write_recipe(project, 'params: {split: {ratio: "8:2", caveat: null}}\n')
    assert apply_recipe("fish", project).changed == ()
    assert project.params_yaml.read_bytes() == (ROOT / "params.yaml").read_bytes()


def test_a_recipe_can_be_applied_twice(project: Project) -> None:
    write_recipe(project, "params: {augment: {copies: [{name: rotate_90}]}, split: {caveat: a word}}\n")
    apply_recipe("fish", project)
    once = project.params_yaml.read_bytes()
    assert apply_recipe("fish", project).changed == ()
    assert project.params_yaml.read_bytes() == once


@pytest.mark.parametrize("after", ["", "# a note of mine\n"])
@pytest.mark.parametrize("copies", ["[]", "[{name: rotate_90}]", "[{name: rotate_90}, {name: mirror_left_right}]"])
def test_a_list_is_replaced_as_a_whole_and_the_comments_around_it_stay(
    project: Project, copies: str, after: str
) -> None:
    before = (ROOT / "params.yaml").read_text(encoding="utf-8").replace("\nsplit:\n", f"{after}\nsplit:\n")
    project.params_yaml.write_text(before, encoding="utf-8")
    write_recipe(project, f"params: {{augment: {{copies: {copies}}}}}\n")
    apply_recipe("fish", project)
    text = project.params_yaml.read_text(encoding="utf-8")
    assert len(read_params(project.params_yaml).augment.copies) == copies.count("name")
    assert [line.partition("#")[2] for line in text.splitlines() if "#" in line] == [
        line.partition("#")[2] for line in before.splitlines() if "#" in line
    ]
    assert f"\n{after}\nsplit:\n" in text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("train: {loss: {name: focal, gamma: 0.25, alpha: null}}", "train: {loss: {name: binary_cross_entropy}}"),
        ("train: {schedule: {name: constant}}", "train: {schedule: {name: step, every: 7, factor: 0.1}}"),
        ("model: {freeze: {up_to: layer3}}", "model: {freeze: {open_convolutions: 4}}"),
        ("model: {freeze: {open_convolutions: 4}}", "model: {freeze: none}"),
    ],
)
def test_a_loss_a_schedule_or_a_form_of_freezing_takes_the_place_of_another_as_a_whole(
    project: Project, before: str, after: str
) -> None:
    write_recipe(project, f"params: {{{before}}}\n", "before")
    write_recipe(project, f"params: {{{after}}}\n", "after")
    apply_recipe("before", project)
    once = read_params(project.params_yaml)
    apply_recipe("after", project)
    assert read_params(project.params_yaml) != once
    assert f"  {after.partition('{')[2][:-1]}" in project.params_yaml.read_text(encoding="utf-8")


def test_in_a_mapping_of_the_same_kind_only_the_named_value_changes(project: Project) -> None:
    write_recipe(project, "params: {split: {near_duplicates: {hash_bits: 2}}, train: {loss: {name: cross_entropy}}}\n")
    assert apply_recipe("fish", project).changed == ("split.near_duplicates.hash_bits",)
    write_recipe(project, "params: {train: {loss: {name: cross_entropy, label_smoothing: 0.1}}}\n")
    assert apply_recipe("fish", project).changed == ("train.loss.label_smoothing",)


def test_an_unknown_key_is_refused_with_the_nearest_name_and_nothing_is_written(project: Project) -> None:
    write_recipe(project, "params: {train: {epochs: 3, learning_rate: 0.1}}\n")
    message = refusal(project)
    assert "fish.yaml: train.learning_rate: unknown key; the nearest valid name is" in message


def test_an_unknown_section_is_refused(project: Project) -> None:
    write_recipe(project, "params: {trian: {epochs: 3}}\n")
    assert "'train'" in refusal(project)


def test_a_value_that_breaks_a_rule_is_refused(project: Project) -> None:
    write_recipe(project, "params: {train: {epochs: 0}, split: {ratio: all}}\n")
    message = refusal(project)
    assert "train.epochs" in message
    assert "split.ratio" in message


@pytest.mark.parametrize("text", ["", "- 1\n", "params:\n", "params: 3\n", "rows: []\n"])
def test_a_recipe_without_params_is_refused(project: Project, text: str) -> None:
    write_recipe(project, text)
    assert "no mapping `params:`" in refusal(project)


def test_an_unknown_part_of_a_recipe_is_refused(project: Project) -> None:
    write_recipe(project, "params: {train: {epochs: 3}}\nrow: []\n")
    assert "row: unknown key; the nearest valid name is 'rows'" in refusal(project)


def test_a_recipe_that_is_not_yaml_is_refused_in_one_line(project: Project) -> None:
    write_recipe(project, "params: {train: \n  - : [\n")
    assert "not valid YAML" in refusal(project)


def test_an_unknown_name_is_refused_with_the_nearest(project: Project) -> None:
    write_recipe(project, "params: {}\n", "graphite")
    write_recipe(project, "params: {}\n", "fish")
    said = refusal(project, "grafite")
    assert f"no recipe 'grafite'; the nearest is 'graphite', all are {', '.join(list_recipes(project))}" in said


def test_a_name_does_not_leave_the_folder(project: Project) -> None:
    write_recipe(project, "params: {}\n")
    (project.root / "secret.yaml").write_text("params: {}\n")
    assert "no recipe" in refusal(project, "../secret")


def test_a_project_without_recipes_has_those_of_the_toolchain(project: Project) -> None:
    assert list_recipes(project) == sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
    assert "split.caveat" in apply_recipe("demo", project).changed


def test_the_projects_own_recipe_comes_before_one_of_the_toolchain(project: Project) -> None:
    write_recipe(project, "params: {train: {epochs: 3}}\n", "demo")
    write_recipe(project, "params: {train: {epochs: 4}}\n", "ours")
    assert apply_recipe("demo", project).changed == ("train.epochs",)
    assert {"demo", "ours", "fish"} <= set(list_recipes(project))


def test_params_that_were_broken_before_are_not_blamed_on_the_recipe(project: Project) -> None:
    write_recipe(project, "params: {train: {epochs: 3}}\n")
    text = project.params_yaml.read_text(encoding="utf-8").replace("frames_per_second: 1.0", "frames_per_second: -1.0")
    project.params_yaml.write_text(text, encoding="utf-8")
    assert "params.yaml: extract.frames_per_second" in refusal(project)


def test_every_recipe_of_the_repository_can_be_applied(project: Project) -> None:
    names = list_recipes(Project(ROOT))
    assert "demo" in names
    for name in names:
        write_recipe(project, (ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8"), name)
        apply_recipe(name, project)
    assert read_params(project.params_yaml).split.caveat
