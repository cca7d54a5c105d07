"""A report knows its own values and the files around it; a change of either is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.base.errors import DataError, GateError
from pipeline.base.files import read_json, sha256_of
from pipeline.base.project import Project
from pipeline.base.report_digest import (
    check_page,
    check_report,
    files_below,
    files_written,
    hashes_of,
    seal_page,
    write_report,
)

HOSTILE = 'reports/explain/"><script>alert(1)</script>&amp;.png'


@pytest.fixture
def judged(project: Project) -> Project:
    """A project with one report, an input of it, and a companion."""
    for path in (project.split_csv, project.predictions_csv):
        path.parent.mkdir(exist_ok=True)
        path.write_text(path.name)
    made_from = hashes_of([project.split_csv, project.groups_csv], project)
    values = {"top1": 0.1 + 0.2, "蓝色": (1, 2), "by_number": {1: None}}
    write_report(
        project.evaluate_json, values, made_from=made_from, wrote=hashes_of([project.predictions_csv], project)
    )
    return project


def test_a_report_keeps_its_keys_and_values_and_adds_three(judged: Project) -> None:
    values = read_json(judged.evaluate_json)
    assert list(values) == ["top1", "蓝色", "by_number", "made_from", "wrote", "digest"]
    assert (values["top1"], values["蓝色"]) == (0.1 + 0.2, [1, 2])
    assert values["made_from"] == {"data/split.csv": sha256_of(judged.split_csv), "data/groups.csv": None}
    assert values["wrote"] == {"reports/predictions.csv": sha256_of(judged.predictions_csv)}


def test_a_sound_report_names_what_it_vouches_for(judged: Project) -> None:
    assert check_report(judged.evaluate_json, judged) == {
        "reports/predictions.csv": sha256_of(judged.predictions_csv),
        "reports/evaluate.json": sha256_of(judged.evaluate_json),
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [('"top1": 0.3', '"top1": 0.4'), ("蓝色", "青色"), ("null", "0"), ('"by_number"', '"by_name"'), ("2\n", "2.0\n")],
)
def test_an_edited_value_is_found(old: str, new: str, judged: Project) -> None:
    text = judged.evaluate_json.read_text(encoding="utf-8")
    edited = text.replace(old, new, 1)
    assert edited != text
    judged.evaluate_json.write_text(edited, encoding="utf-8")
    with pytest.raises(GateError, match="its values are not those that `pipe evaluate` wrote; run `pipe evaluate` aga"):
        check_report(judged.evaluate_json, judged)


def test_an_input_that_has_come_since_is_found(judged: Project) -> None:
    judged.groups_csv.write_text("path,group\n")
    with pytest.raises(
        GateError, match=r"evaluate\.json: was made without data/groups\.csv; run `pipe evaluate` again"
    ):
        check_report(judged.evaluate_json, judged)
    assert check_report(judged.evaluate_json, judged, inputs=False)


def test_a_report_that_names_a_file_outside_the_project_is_refused(judged: Project) -> None:
    write_report(judged.evaluate_json, {}, made_from={"../../etc/passwd": "0" * 64}, wrote={})
    with pytest.raises(DataError, match="leaves the project"):
        check_report(judged.evaluate_json, judged)


@pytest.mark.parametrize("changes", [{"digest": 1}, {"made_from": []}, {"wrote": {"a": 1}}, {"wrote": None}])
def test_a_report_without_the_form_is_refused(changes: dict[str, object], judged: Project) -> None:
    judged.evaluate_json.write_text(json.dumps({**read_json(judged.evaluate_json), **changes}))
    with pytest.raises(DataError, match="found no digest, made_from and wrote; expected them; run `pipe evaluate` aga"):
        check_report(judged.evaluate_json, judged)


def test_a_missing_report_names_its_command(project: Project) -> None:
    with pytest.raises(DataError, match=r"evaluate\.json: missing; run `pipe evaluate`"):
        check_report(project.evaluate_json, project)


def test_the_files_of_an_intact_report_are_known_and_of_any_other_none(judged: Project) -> None:
    values = read_json(judged.evaluate_json)
    made_from, wrote = values["made_from"], values["wrote"]
    assert wrote
    assert files_written(judged.evaluate_json, made_from) == wrote
    assert files_written(judged.evaluate_json, {**made_from, "data/split.csv": "0" * 64}) == {}
    for text in (json.dumps({**values, "wrote": {**wrote, "b": "0" * 64}}), json.dumps([1]), "{"):
        judged.evaluate_json.write_text(text, encoding="utf-8")
        assert files_written(judged.evaluate_json, made_from) == {}
    judged.evaluate_json.unlink()
    assert files_written(judged.evaluate_json, made_from) == {}


def write_page(project: Project, made_from: dict[str, str | None]) -> str:
    page = "<html><head><title>a</title>\n</head><body>0.5 and </head></body></html>\n"
    sealed = seal_page(page, made_from)
    project.report_html.parent.mkdir(exist_ok=True)
    project.report_html.write_text(sealed, encoding="utf-8", newline="\n")
    return sealed


def test_a_page_carries_its_digest_in_its_head_and_no_name_leaves_the_attribute(project: Project) -> None:
    picture = project.root / HOSTILE
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"picture")
    sealed = write_page(project, hashes_of([picture], project))
    assert sealed.index('<meta name="digest"') < sealed.index("</head>")
    assert "<script>" not in sealed
    assert check_page(project.report_html, project) == {"reports/report.html": sha256_of(project.report_html)}
    picture.write_bytes(b"another")
    with pytest.raises(GateError, match="was made from another reports/explain/"):
        check_page(project.report_html, project)


@pytest.mark.parametrize(("old", "new"), [("0.5", "0.9"), ("<title>a", "<title>b"), ("made-from", "Made-from")])
def test_an_edited_page_is_found(old: str, new: str, project: Project) -> None:
    sealed = write_page(project, {})
    project.report_html.write_text(sealed.replace(old, new, 1), encoding="utf-8", newline="\n")
    with pytest.raises((GateError, DataError), match="run `pipe report` again"):
        check_page(project.report_html, project)


def test_a_page_without_a_head_is_no_page() -> None:
    with pytest.raises(ValueError, match="without a head"):
        seal_page("<html></html>", {})


def test_files_below_a_folder_come_in_one_order(tmp_path: Path) -> None:
    for name in ("b/a", "a", "b/c/d"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path)] == ["a", "b/a", "b/c/d"]
