from __future__ import annotations

import csv
import json

from command import run_pipe
from small_project import COLOURS

from pipeline.files import Project, read_json, write_json
from pipeline.report import report

HOSTILE = '<script>alert("1")</script>'


def _with_data_reports(project: Project) -> Project:
    """What extract and split say of the small project, with a hostile name in it."""
    clip = {"source": f"data/raw/red/{HOSTILE}.mp4", "warnings": ["5 of 10 frames promised"]}
    write_json(project.extract_json, {"clips": [clip]})
    counts = {name: {"frames": 4, "groups": 1} for name in COLOURS}
    sides = dict.fromkeys(("train", "val", "test"), counts)
    write_json(project.split_json, {"protocol": "grouped", "optimistic": None, "counts": sides})
    return project


def test_the_page_begins_with_the_verdict_over_clips(exported: Project) -> None:
    said = report(_with_data_reports(exported)).headline
    page = exported.report_html.read_text(encoding="utf-8")
    right = read_json(exported.evaluate_json)["groups_right"]
    assert said.startswith(f"{right} of 4 held-out clips right")
    assert f"{right} of 4 held-out clips right" in page
    assert "蓝色" in page
    assert read_json(exported.evaluate_json)["film_more"]["sentence"] in page
    assert "5 of 10 frames promised" in page


def test_hostile_names_stay_text(exported: Project) -> None:
    project = _with_data_reports(exported)
    with project.predictions_csv.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    rows[1][0], rows[1][3] = HOSTILE, HOSTILE
    with project.predictions_csv.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    report(project)
    page = project.report_html.read_text(encoding="utf-8")
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 3


def test_the_page_asks_the_network_for_nothing(exported: Project) -> None:
    report(_with_data_reports(exported))
    page = exported.report_html.read_text(encoding="utf-8")
    assert "http" not in page
    assert "src=" not in page


def test_it_is_built_also_when_parity_said_no_and_says_so(exported: Project) -> None:
    project = _with_data_reports(exported)
    parity = read_json(project.parity_json)
    parity["passed"] = False
    parity["variants"]["fp32"] |= {"verdict": "failed", "reasons": ["largest logit difference 1; allowed 0.1"]}
    project.parity_json.write_text(json.dumps(parity))
    assert "NOT fit to ship" in report(project).headline
    assert "largest logit difference 1; allowed 0.1" in project.report_html.read_text(encoding="utf-8")


def test_an_optimistic_number_is_called_so_on_the_page(exported: Project) -> None:
    project = _with_data_reports(exported)
    evaluation = read_json(project.evaluate_json)
    write_json(project.evaluate_json, evaluation | {"optimistic": "one photograph per class"})
    report(project)
    assert "optimistic: one photograph per class" in project.report_html.read_text(encoding="utf-8")


def test_a_missing_report_is_one_clear_line(exported: Project) -> None:
    exported.parity_json.unlink()
    finished = run_pipe(_with_data_reports(exported).root, "report")
    assert finished.returncode == 1
    assert "parity.json: missing" in finished.stderr
    assert not exported.report_html.exists()
