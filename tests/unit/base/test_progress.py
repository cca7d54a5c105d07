"""Progress goes to a terminal only, and lines appear as they are."""

from __future__ import annotations

import pytest

from pipeline.base.progress import tell, track, warn


def test_items_pass_through_and_a_log_file_gets_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(iter("abc"), "letters", 3)) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_lines_are_neither_wrapped_nor_read_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    line = f"[bold]{'long ' * 50}"
    tell(line)
    warn(line)
    assert capsys.readouterr() == (f"{line}\n", f"{line}\n")


def test_control_characters_in_names_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    tell("\x1b[31mflake\nnext")
    assert capsys.readouterr().out == "\\u001b[31mflake\nnext\n"
