"""YAML of a person: what it costs to read depends on its length."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.base.errors import ParamsError
from pipeline.base.storage.yaml_files import MOST_BYTES, MOST_LEVELS, MOST_PARTS, read_yaml


def written(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_page_of_the_contracts_has_the_bounds() -> None:
    page = (Path(__file__).parents[4] / "docs" / "contracts.md").read_text(encoding="utf-8")
    assert f"at most {MOST_LEVELS} levels, {MOST_PARTS:,} values and {MOST_BYTES // 1024} KiB" in page


def test_plain_values_are_read(tmp_path: Path) -> None:
    assert read_yaml(written(tmp_path, "train: {lr: 0.1, steps: [1, 2]}\nname: 砾石\n")) == {
        "train": {"lr": 0.1, "steps": [1, 2]},
        "name": "砾石",
    }


def test_aliases_that_multiply_are_refused_at_their_line(tmp_path: Path) -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]  # 10 ** 8 values
    path = written(tmp_path, "\n".join(["a0: &a0 x", *levels]))
    with pytest.raises(ParamsError, match=r"params.yaml:2: found the alias \*a0; expected its values, written out"):
        read_yaml(path)


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    inside = written(tmp_path, "[" * MOST_LEVELS + "]" * MOST_LEVELS)
    assert read_yaml(inside)  # the negative control
    for levels in (MOST_LEVELS + 1, 5000):
        with pytest.raises(ParamsError, match=f"params.yaml:1: found more than {MOST_LEVELS} levels"):
            read_yaml(written(tmp_path, "[" * levels + "]" * levels))


def test_more_values_than_a_person_writes_are_refused(tmp_path: Path) -> None:
    assert len(read_yaml(written(tmp_path, f"[{'1,' * 1000}]"))) == 1000  # the negative control
    with pytest.raises(ParamsError, match=r"params.yaml: found more than 20,000 values"):
        read_yaml(written(tmp_path, f"[{'1,' * MOST_PARTS}]"))


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=f"found more than {MOST_BYTES} bytes"):
        read_yaml(written(tmp_path, "#" * (MOST_BYTES + 1)))


@pytest.mark.parametrize(
    "text", ["a: [", "a: 2024-13-45", f"a: {'9' * 5000}", "a: !!python/name:os.system x", "\ta: 1"]
)
def test_what_is_no_yaml_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ParamsError, match=r"params.yaml: not valid YAML") as caught:
        read_yaml(written(tmp_path, text))
    assert "\n" not in str(caught.value)
