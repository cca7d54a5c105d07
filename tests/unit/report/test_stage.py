"""The page: the verdict comes first, every number has its pointer, and no name can start a script."""

from __future__ import annotations

import json
import re

import pytest

from pipeline.base.errors import DataError, GateError
from pipeline.base.files import read_json, sha256_of, write_json
from pipeline.base.project import Project
from pipeline.base.report_digest import check_page, check_report
from pipeline.report.inline_images import MOST_BYTES
from pipeline.report.stage import EXPLANATIONS_SHOWN, report
from tests.support.command import run_pipe
from tests.support.report_project import (
    HOSTILE,
    Page,
    add_explanations,
    pointed_at,
    rename_class,
    says,
    with_data_reports,
)


@pytest.fixture
def project(exported: Project) -> Project:
    """A project that is ready for its report."""
    return with_data_reports(exported)


def _page(project: Project) -> str:
    report(project)
    return project.report_html.read_text(encoding="utf-8")


def _wrong(project: Project, html: str) -> list[tuple[str, str]]:
    """The values that the page shows differently from the files."""
    return [(pointer, text) for pointer, text in Page(html).values if not says(text, pointed_at(project, pointer))]


def test_the_page_fits_what_it_was_made_from(project: Project) -> None:
    report(project)
    assert check_page(project.report_html, project)
    write_json(project.extract_json, read_json(project.extract_json) | {"n_frames": 39})  # the negative control
    with pytest.raises(GateError, match=r"was made from another reports/extract\.json"):
        check_page(project.report_html, project)


def test_the_stages_write_reports_that_fit_their_values_and_files(exported: Project) -> None:
    project = exported
    checkpoint, predictions = project.checkpoint.read_bytes(), project.predictions_csv.read_bytes()
    trained = project.train_reports / "provenance.json"
    for path in (trained, project.evaluate_json, project.export_json, project.parity_json):
        assert check_report(path, project)
    assert set(read_json(trained)["wrote"]) >= {"models/checkpoint.pt", "reports/train/metrics.json"}
    assert set(read_json(project.export_json)["wrote"]) >= {"models/contract.json", "models/onnx/model.onnx"}
    assert set(read_json(project.parity_json)["wrote"]) >= {"reports/flips.csv", "models/golden/000.npy"}
    project.checkpoint.write_bytes(checkpoint + b"\0")  # the negative controls
    project.predictions_csv.write_bytes(predictions + b"\n")
    for path in (trained, project.evaluate_json, project.export_json, project.parity_json):
        with pytest.raises(GateError):
            check_report(path, project)


def test_every_value_is_that_of_the_file_that_it_points_at(project: Project) -> None:
    html = _page(project)
    assert _wrong(project, html) == []
    shown = {pointer for pointer, _ in Page(html).values}
    assert len(shown) > 200
    for key in ("top1", "group_top1_ci95/0", "as_device/right", "n_groups", "film_more/film", "baseline_majority"):
        assert f"reports/evaluate.json#/{key}" in shown


def test_a_number_that_is_not_the_files_is_found(project: Project) -> None:
    html = _page(project)
    value = read_json(project.evaluate_json)
    write_json(project.evaluate_json, value | {"top1": value["top1"] + 0.01, "temperature": None})
    assert {pointer for pointer, _ in _wrong(project, html)} == {
        "reports/evaluate.json#/top1", "reports/evaluate.json#/temperature",
    }  # fmt: skip


def test_no_number_stands_on_the_page_without_its_pointer(project: Project) -> None:
    names = {"95", "1", "256", "32"}  # a 95 % interval, top-1 and F1, sha256, float32
    assert set(re.findall(r"\d+", " ".join(Page(_page(project)).outside))) <= names


def test_the_page_begins_with_the_verdict_over_clips(project: Project) -> None:
    headline = report(project).headline
    html = project.report_html.read_text(encoding="utf-8")
    right = read_json(project.parity_json)["as_device"]["right"]
    assert headline.startswith(f"{right} of 4 held-out clips right; on new clips of this kind expect between")
    words = re.sub(r"<[^>]*>", "", html)
    assert words.index(f"{right} of 4 held-out clips right") < words.index("What it is") < words.index("Data")
    assert "red or 蓝色" in words
    assert read_json(project.evaluate_json)["film_more"]["sentence"] in words
    assert "5 of 10 frames promised" in words
    assert "2 confirmed of 3 proposed among 40 pictures; 0 across sides" in words
    assert "Copies of clips: 2 confirmed of 4 proposed among 5 clips; 0 across sides. Without a fingerprint" in words


def test_what_was_tested_is_called_what_it_is(project: Project) -> None:
    extracted = read_json(project.extract_json)
    cases = (0, 40, 4, "groups of photos"), (0, 40, 16, "photos"), (5, 5, 4, "clips and photos")
    for clips, photos, n_groups, word in cases:
        write_json(project.extract_json, extracted | {"n_clips": clips, "n_photos": photos})
        write_json(project.evaluate_json, read_json(project.evaluate_json) | {"n_groups": n_groups})
        assert f"held-out {word} right" in report(project).headline


def test_whether_training_helped_is_said_by_the_paired_test(project: Project) -> None:
    sentence = "These clips do not show whether training made it better: training alone is right on 1 clip"
    paired = {"trained_against_knn": {"sentence": sentence}}
    write_json(project.evaluate_json, read_json(project.evaluate_json) | paired)
    assert sentence in re.sub(r"<[^>]*>", "", _page(project))


def test_too_few_clips_are_said_to_be_too_few(project: Project) -> None:
    write_json(project.evaluate_json, read_json(project.evaluate_json) | {"too_few": "Too few clips to say"})
    assert "Too few clips to say." in re.sub(r"<[^>]*>", "", _page(project))


def test_out_of_fold_the_page_says_who_judged_and_what_ships(project: Project) -> None:
    folds = {"estimate": "folds", "n_folds": 5, "refit": "all"}
    write_json(project.evaluate_json, read_json(project.evaluate_json) | folds)
    words = re.sub(r"<[^>]*>", "", _page(project))
    assert "from all but one of 5 parts of them, so the share of right ones is a careful estimate" in words
    assert "Each was judged once, by a head that learned from other clips only." in words
    assert "held-out clips" not in words
    assert "clips right out of fold" in report(project).headline


def test_refused_clips_and_the_answers_of_the_graph_stand_on_the_page(project: Project) -> None:
    answers = {"variant": "int8", "n_clips": 9, "right": 6, "wrong": 1, "refused": 2, "right_ci95": [0.3, 0.9]}
    write_json(project.parity_json, read_json(project.parity_json) | {"as_device": answers})
    words = re.sub(r"<[^>]*>", "", _page(project))
    assert "6 of 9 held-out clips right, 2 refused as none of the classes." in words
    assert "the same by the graph int8, which the device gets6, 1, 2 (30.0% to 90.0%)" in words
    write_json(project.parity_json, read_json(project.parity_json) | {"as_device": None})
    right = read_json(project.evaluate_json)["as_device"]["right"]
    assert f"{right} of 4 held-out clips right" in re.sub(r"<[^>]*>", "", _page(project))


def test_of_photos_the_page_speaks_of_no_clips_to_film(project: Project) -> None:
    write_json(project.extract_json, read_json(project.extract_json) | {"n_clips": 0, "n_photos": 40})
    words = re.sub(r"<[^>]*>", "", _page(project))
    assert "40 frames of 40 photos." in words
    assert re.search(r"film about \d+ more groups of photos of", words)
    assert not re.search(r"(?<!\d)0 clips", words)


def test_hostile_names_stay_text(project: Project) -> None:
    rename_class(project, "red", HOSTILE)
    html = _page(project)
    assert "<script" not in html
    assert '<img src="x' not in html
    assert _wrong(project, html) == []
    assert html.count("&lt;script&gt;") > 8


def test_the_page_asks_the_network_for_nothing(project: Project) -> None:
    html = _page(project)
    assert "://" not in html
    links = re.findall(r'(?:src|href)="([^"]*)', html)
    assert len(links) > 15
    assert all(link.startswith(("data:image/", "#")) for link in links)


def test_the_same_reports_give_the_same_bytes(project: Project) -> None:
    assert _page(project) == _page(project)


def test_pictures_are_in_the_page_and_explanations_where_there_are_some(project: Project) -> None:
    before = _page(project)
    assert "There are none yet" in before
    add_explanations(project, HOSTILE.replace("/", "_"))
    after = _page(project)
    assert "There are none yet" not in after
    counts = [html.count('<img src="data:image/') for html in (before, after)]
    assert counts == [11, 12]  # ten of evaluate's, and the flips
    assert "<script" not in after


def test_of_many_explanations_the_evidence_comes_first_and_the_last_are_left_out(project: Project) -> None:
    add_explanations(project, "evidence", *(f"activations_{index:02}" for index in range(EXPLANATIONS_SHOWN)))
    captions = re.findall(r"<figcaption>([ae]\w+)<", _page(project))
    assert captions == ["evidence", *(f"activations_{index:02}" for index in range(EXPLANATIONS_SHOWN - 1))]


def test_explanations_of_another_network_are_left_out_with_a_line(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    add_explanations(project, "evidence", "filters_conv1_0-3")
    assert "evidence</figcaption>" in _page(project)
    assert "not of this network" not in capsys.readouterr().err
    project.checkpoint.write_bytes(project.checkpoint.read_bytes() + b"\0")
    evaluation = read_json(project.evaluate_json)
    write_json(project.evaluate_json, evaluation | {"checkpoint_sha256": sha256_of(project.checkpoint)})
    page = _page(project)
    assert "<figcaption>evidence<" not in page
    assert "Pictures that are not of this network are left out" in page
    assert f"{project.explanations}: 2 pictures not of this network, left out" in capsys.readouterr().err
    add_explanations(project, "evidence")
    page = _page(project)
    assert "<figcaption>evidence<" in page
    assert "<figcaption>filters" not in page
    assert f"{project.explanations}: 1 picture not of this network, left out" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["picture", "note", "no note"])
def test_an_explanation_that_is_not_as_it_was_drawn_is_left_out(project: Project, damage: str) -> None:
    add_explanations(project, "evidence")
    if damage == "picture":
        path = project.explanations / "evidence.png"
        path.write_bytes(path.read_bytes() + b"\0")
    elif damage == "note":
        project.explain_json.write_text("{", encoding="utf-8")
    else:
        project.explain_json.unlink()
    assert "<figcaption>evidence<" not in _page(project)


def test_it_is_written_also_when_parity_failed_and_says_so(project: Project) -> None:
    parity = read_json(project.parity_json)
    parity |= {"passed": False, "recommended": None}
    parity["variants"]["fp32"] |= {"verdict": "failed", "reasons": ["largest logit difference 1; allowed 0.1"]}
    project.parity_json.write_text(json.dumps(parity))
    assert "NOT fit to ship: the parity check failed" in report(project).headline
    html = project.report_html.read_text(encoding="utf-8")
    assert "largest logit difference 1; allowed 0.1" in html
    assert "so nothing is bundled" in html
    assert 'class="verdict bad"' in html


def test_an_optimistic_number_is_called_so_on_the_page(project: Project) -> None:
    assert "optimistic: " not in _page(project)
    write_json(project.evaluate_json, read_json(project.evaluate_json) | {"optimistic": "one photograph per class"})
    assert 'optimistic: <span data-json="reports/evaluate.json#/optimistic">one photograph' in _page(project)


@pytest.mark.parametrize("protocol", ["random", "blocks"])
def test_where_clips_are_divided_no_clip_is_called_held_out(project: Project, protocol: str) -> None:
    assert "held-out clips" in report(project).headline
    write_json(project.evaluate_json, read_json(project.evaluate_json) | {"protocol": protocol})
    words = re.sub(r"<[^>]*>", "", _page(project))
    for text in (report(project).headline, words):
        assert "clips with held-out frames right" in text
        assert "held-out clips" not in text


def test_a_held_out_session_and_what_it_costs_in_balance_stand_on_the_page(project: Project) -> None:
    assert "another place, light or phone was not tested" in _page(project)
    split = read_json(project.split_json)
    balance = {"groups_of_several_labels": 0, "test_share_asked": None, "test_share": {"red": 0.25, "蓝色": 0.5}}
    asked = split["asked"] | {"hold_out": {"session": "rainy day"}}
    write_json(project.split_json, split | {"asked": asked, "balance": balance})
    words = re.sub(r"<[^>]*>", "", _page(project))
    assert "Every recording of the session rainy day was held out, and no other." in words
    assert "because a session is held out as a whole. The test side has 25.0% of red, 50.0% of 蓝色." in words
    assert "another place, light or phone was not tested" not in words


def test_many_classes_do_not_make_a_large_page(project: Project) -> None:
    evaluation, split = read_json(project.evaluate_json), read_json(project.split_json)
    names = [f"a class with a rather long name, number {index}" for index in range(1000)]
    evaluation |= {"classes": names, "per_class": dict.fromkeys(names, evaluation["per_class"]["red"])}
    evaluation["confusion"] = [[0] * 1000] * 1000
    write_json(project.evaluate_json, evaluation)
    counts = dict.fromkeys(names, split["counts"]["test"]["red"])
    write_json(project.split_json, split | {"counts": dict.fromkeys(("train", "val", "test"), counts)})
    text = re.sub(r'src="[^"]*"', "", _page(project))
    assert len(text.encode()) + MOST_BYTES * 4 / 3 < 8e6


def test_a_missing_report_is_one_clear_line(project: Project) -> None:
    project.parity_json.unlink()
    finished = run_pipe(project.root, "report")
    assert finished.returncode == 1
    assert "parity.json: missing" in finished.stderr
    assert not project.report_html.exists()


@pytest.mark.parametrize("key", ["as_device", "per_class", "film_more", "protocol"])
def test_a_report_of_another_version_is_one_clear_line(project: Project, key: str) -> None:
    value = read_json(project.evaluate_json)
    del value[key]
    write_json(project.evaluate_json, value)
    with pytest.raises(DataError, match=rf"not as its stage writes it \(.*{key}.*\); run `dvc repro`"):
        report(project)
    for value in ([], {}, {"classes": 1}):
        write_json(project.evaluate_json, value)
        with pytest.raises(DataError, match="not as its stage writes it"):
            report(project)
    assert not project.report_html.exists()


def test_a_picture_that_is_none_is_named(project: Project) -> None:
    (project.plots / "montage.jpg").write_bytes(b"\x00" * 500_000)
    with pytest.raises(DataError, match=r"montage\.jpg"):
        report(project)


def test_the_page_says_what_was_joined_why_and_what_was_left_apart(project: Project) -> None:
    before = _page(project)
    assert "Recordings that were joined" not in before
    assert "Left apart" not in before
    groups = [
        {
            "group": f"data/raw/red/{HOSTILE}{n}.jpg",
            "label": "red",
            "reason": "one burst",
            "recordings": 3,
            "sources": [],
        }
        for n in range(21)
    ]
    joined = {"groups": 21, "recordings": 63, "photos": 63, "photos_unconfirmed": 0, "listed": groups}
    write_json(project.split_json, read_json(project.split_json) | {"joined": joined | {"left_apart": ["9 of 9"]}})
    page = _page(project)
    assert "Recordings that were joined" in page
    assert 'data-json="reports/split.json#/joined/listed/19/reason">one burst' in page
    assert "joined/listed/20" not in page
    assert "reports/split.json lists more" in page
    assert 'data-json="reports/split.json#/joined/left_apart/0">9 of 9' in page
    assert HOSTILE not in page


def test_the_page_promises_unseen_objects_only_where_somebody_confirmed_the_groups(project: Project) -> None:
    promise = "training has seen none of these"
    assert promise in _page(project)
    split = read_json(project.split_json)
    joined = split["joined"] | {"photos": 12, "photos_unconfirmed": 7}
    write_json(project.split_json, split | {"joined": joined})
    page = _page(project)
    assert promise not in page
    assert "training may have seen other photos of these objects" in page
