from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.files import sha256_of
from pipeline.base.storage.cache_key import cache_key, digests_of
from tests.support.small_project import small_project


def test_other_parts_or_another_order_give_another_key() -> None:
    assert cache_key("a", "bc") == cache_key("a", "bc")
    assert len({cache_key("a", "bc"), cache_key("ab", "c"), cache_key("bc", "a"), cache_key("a", "bc", None)}) == 4


def test_the_digests_are_the_manifests_and_only_files_of_rows_without_one_are_read(tmp_path: Path) -> None:
    project = small_project(tmp_path / "project")
    rows = manifest.read_split(project.split_csv)[:4]
    stated = dataclasses.replace(rows[1], sha256="ab" * 32)
    digests = digests_of([rows[0], stated, rows[2]], project)
    assert digests == [sha256_of(project.root / rows[0].path), "ab" * 32, sha256_of(project.root / rows[2].path)]
    (project.root / rows[0].path).unlink()
    with pytest.raises(DataError, match=rf"^{rows[0].path}: No such file.*; expected a picture that can be read$"):
        digests_of([rows[0], stated], project)
