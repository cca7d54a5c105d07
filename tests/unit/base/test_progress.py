"""Progress is a bar on a terminal and few lines in a log, and lines appear as they are."""

from __future__ import annotations

import pytest

from pipeline.base import progress
from pipeline.base.progress import tell, track, warn


def test_items_pass_through_and_a_log_file_gets_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(iter("abc"), "letters", 3)) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_long_work_leaves_lines_in_a_log_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 29.0, 30.0, 30.0, 59.0])  # at the start, behind each letter, and when a line was printed
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    assert list(track(iter("abc"), "letters", 3)) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "letters: 2 of 3\n")


def test_lines_are_neither_wrapped_nor_read_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    line = f"[bold]{'long ' * 50}"
    tell(line)
    warn(line)
    assert capsys.readouterr() == (f"{line}\n", f"{line}\n")


def test_control_characters_in_names_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    tell("\x1b[31mflake\nnext")
    assert capsys.readouterr().out == "\\u001b[31mflake\nnext\n"
