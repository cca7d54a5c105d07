"""The pages of the studies quote their texts word for word, and show the commands of their recipes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.recipes.sentences import not_covered, sentences, table_rows, unknown_names
from tests.support.recipes.tables import STUDIES
from tests.support.small_project import ROOT

CHINESE = re.compile(r"[\u4e00-\u9fff]")


def page(study: str) -> str:
    return (ROOT / "docs" / "studies" / f"{study}.md").read_text(encoding="utf-8")


def misquoted(words: str, text: str) -> list[str]:
    """The Chinese quotations in `words` that the text lacks; an ellipsis in a quotation leaves words out."""
    bare = re.sub(r"\s", "", text)
    quotations = [quoted for quoted in re.findall(r'"([^"\n]+)"', words) if CHINESE.search(quoted)]
    assert quotations
    return [part for quoted in quotations for part in quoted.split("…") if re.sub(r"\s", "", part) not in bare]


def missing_numbers(words: str, text: str) -> list[str]:
    """The numbers in `words` that the text lacks, however their thousands are separated."""
    bare = re.sub(r"\s", "", text)
    numbers = re.findall(r"\d+(?:[ ,]\d{3})*\.?\d*", words)
    return [number for number in numbers if re.sub(r"[ ,]", "", number).rstrip(".") not in bare]


@pytest.mark.parametrize("study", STUDIES)
def test_a_page_quotes_its_text_word_for_word(shared: Path, study: str) -> None:
    text = next((shared / "seeds").glob(f"{STUDIES[study][0]}_*.txt")).read_text(encoding="utf-8")
    assert misquoted(page(study), text) == []
    assert misquoted(page(study).replace("的", "之", 1).replace('"', '"之之', 1), text)


@pytest.mark.parametrize("study", STUDIES)
def test_the_numbers_of_a_page_s_result_tables_stand_in_its_text(shared: Path, study: str) -> None:
    text = next((shared / "seeds").glob(f"{STUDIES[study][0]}_*.txt")).read_text(encoding="utf-8")
    reported = page(study).partition("## What the text reports")[2].partition("## What was run here")[0]
    assert missing_numbers(reported, text) == []
    assert missing_numbers(f"{reported} 97.31", text) == ["97.31"]


@pytest.mark.parametrize("study", STUDIES)
def test_a_page_says_how_to_run_its_recipe_and_what_was_run_here(study: str) -> None:
    words = page(study)
    for command in (f"pipe study {study}", f"pipe compare {study}", f"pipe study {study} --small"):
        assert command in words
    assert "## How the text was read" in words
    assert words.rpartition("## What was run here")[2].strip()
    for target in re.findall(r"\]\(([^)#]+)", words):
        assert (ROOT / "docs" / "studies" / target).is_file(), target
    assert f"(studies/{study}.md)" in (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("study", STUDIES)
def test_a_page_accounts_for_every_sentence_of_its_text(shared: Path, study: str) -> None:
    text = next((shared / "seeds").glob(f"{STUDIES[study][0]}_*.txt")).read_text(encoding="utf-8")
    assert not_covered(page(study), text) == []
    assert f"has {len(sentences(text))} sentences" in page(study)
    last = table_rows(page(study))[-1][0]
    assert not_covered(page(study).replace(f"| {last} |", "| 1 |"), text)
    assert not_covered(page(study), f"再一句。{text}")


def test_a_sentence_ends_at_its_full_stop_and_not_at_a_decimal_point() -> None:
    text = "1 题\n学习率为 0.1 。准确率.\n1. 一\n2. 二. Words. 三\n参考文献\n四。"
    assert [sentence.split()[-1] for sentence in sentences(text)] == ["。", "准确率.", "二.", "三"]


@pytest.mark.parametrize("study", STUDIES)
def test_what_a_page_names_in_code_type_exists(study: str) -> None:
    assert unknown_names(page(study), study) == []
    assert all(row[2].strip() for row in table_rows(page(study)))


@pytest.mark.parametrize(
    "name",
    [
        "train.learning_rate", "train.epochs: 31", "model.head: cubic", "pipeline/train/loss.py", "pipe classify",
        "pipe study --tiny", "reports/train/nothing.json", "top2", "focally",
    ],
)  # fmt: skip
def test_a_name_that_does_not_exist_is_seen(name: str) -> None:
    assert unknown_names(f"## Sentence by sentence\n\n| no. |\n| 1 | words | `{name}` |\n", "graphite") == [name]
