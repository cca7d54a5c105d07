"""Bytes of files and folders, and their words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.tools.disk_use import bytes_in, in_words


def test_a_file_with_two_names_counts_once_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "deep" / "x").write_bytes(bytes(1000))
    os.link(tmp_path / "a" / "deep" / "x", tmp_path / "a" / "y")
    (tmp_path / "outside").write_bytes(bytes(5000))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "link").symlink_to(tmp_path / "outside")
    assert bytes_in([tmp_path / "a"]) == 1000
    assert bytes_in([tmp_path / "a", tmp_path / "outside", tmp_path / "missing"]) == 6000
    assert bytes_in([tmp_path / "b"]) < 5000


@pytest.mark.parametrize(
    ("n_bytes", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_950, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (3_400_000_000, "3.4 GB"),
        (5_000_000_000_000_000, "5000 TB"),
    ],
)
def test_bytes_in_words(n_bytes: int, words: str) -> None:
    assert in_words(n_bytes) == words
