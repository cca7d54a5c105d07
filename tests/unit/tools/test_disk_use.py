"""Bytes in words."""

from __future__ import annotations

import pytest

from pipeline.tools.disk_use import in_words


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
