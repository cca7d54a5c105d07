"""The pages: each is found from the index, they are in plain English, and what they say of the code is true."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest

from tests.house.rooms import MAY_IMPORT, PACKAGES, ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
README_LINES, README_ROWS, WORDS_PER_SENTENCE = 110, 8, 18

# Phrases that a reader has to decode.
RIDDLES = (
    "hangs on", "hang on", "is told", "are told", "who is killed", "of equals", "as a rule it", "what became of",
)  # fmt: skip


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def linked_from(index: str) -> set[Path]:
    """The pages that the index in `docs/` links to."""
    return {(DOCS / target).resolve() for target in re.findall(r"\]\(([^)#]+)", index)}


def test_every_page_is_linked_from_the_index() -> None:
    index = text_of(DOCS / "README.md")
    pages = {page for page in PAGES if page not in (ROOT / "README.md", DOCS / "README.md")}
    assert pages - linked_from(index) == set()
    without_split = index.replace("[split](split.md)", "split")
    assert pages - linked_from(without_split) == {DOCS / "split.md"}


def table_after(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table after a heading, without its head and the line below that."""
    lines = text.split(heading, 1)[1].splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows[2:]


def test_the_readme_is_short_and_every_ratio_of_its_table_points_the_same_way() -> None:
    readme = text_of(ROOT / "README.md")
    assert len(readme.splitlines()) <= README_LINES
    assert "| what | ours | peer | ratio |" in readme
    rows = table_after(readme, "## Measured")
    assert 0 < len(rows) <= README_ROWS
    assert all(float(ratio) > 1 for *_, ratio in rows)


def imports_in(page: str) -> dict[str, set[str]]:
    """The table of imports of `docs/architecture.md`, as `MAY_IMPORT` spells it."""
    rows = table_after(page, "## Who may import whom")
    names = [[set(re.findall(r"`([^`]+)`", cell)) for cell in row] for row in rows]
    dotted = [[{name.replace("/", ".") for name in cell} for cell in row] for row in names]
    return {room: allowed for rooms, allowed in dotted for room in rooms}


def test_the_page_has_the_table_of_imports_that_the_code_is_held_to() -> None:
    page = text_of(DOCS / "architecture.md")
    assert imports_in(page) == MAY_IMPORT
    other = page.replace("| `pipeline/base` | `runtime` |", "| `pipeline/base` | `runtime`, `pipeline/draw` |")
    assert imports_in(other) != MAY_IMPORT


def missing_paths(page: str) -> list[str]:
    """The files and folders of the repository that a page names in backticks and that do not exist."""
    names = [name for name in re.findall(r"`([^`\n]+)`", page) if re.fullmatch(r"[\w./-]+", name)]
    folders = (*PACKAGES, "tests", "docs", "benchmarks")
    ours = [name for name in names if name.split("/")[0] in folders or name in ("params.yaml", "dvc.yaml", "README.md")]
    assert len(ours) > 20
    return [name for name in ours if not (ROOT / name).exists()]


@pytest.mark.parametrize("page", ["architecture.md", "contracts.md", "testing.md"])
def test_every_path_that_a_page_about_the_code_names_exists(page: str) -> None:
    text = text_of(DOCS / page) + text_of(DOCS / "architecture.md")  # the others name few
    assert missing_paths(text) == []
    assert missing_paths(text + "`pipeline/train/lossses.py`") == ["pipeline/train/lossses.py"]


def riddles_in(text: str) -> list[str]:
    return [riddle for riddle in RIDDLES if riddle in " ".join(text.lower().split())]


def test_pages_and_code_have_no_riddles() -> None:
    code = [path for package in PACKAGES for end in ("py", "j2", "md") for path in (ROOT / package).rglob(f"*.{end}")]
    assert [name_of(path) for path in [*PAGES, *code] if riddles_in(text_of(path))] == []
    assert riddles_in("All of it hangs\non the seed.") == ["hangs on"]


def words_per_sentence(text: str) -> float:
    """The mean length of a page's sentences; code and tables do not count."""
    prose = re.sub(r"```.*?```|^(    |\|).*?$|`[^`]*`", " x ", text, flags=re.DOTALL | re.MULTILINE)
    lengths = [len(sentence.split()) for sentence in re.split(r"[.!?:]\s|\n\n", prose)]
    return statistics.mean([length for length in lengths if length > 3])


def test_the_sentences_of_every_page_are_short() -> None:
    assert [name_of(page) for page in PAGES if words_per_sentence(text_of(page)) > WORDS_PER_SENTENCE] == []
    assert words_per_sentence(f"Short words come here. {'and ' * 40}") > WORDS_PER_SENTENCE
