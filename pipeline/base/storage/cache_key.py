"""What names a thing in the cache: a digest of what it was made from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pipeline.base.errors import DataError
from pipeline.base.files import sha256_of
from pipeline.base.manifest import Row
from pipeline.base.parallel import each
from pipeline.base.project import Project, safe_join


def cache_key(*parts: object) -> str:
    """Return a digest of the text of some parts; other parts, or another order, give another key."""
    return hashlib.sha256("\0".join(str(part) for part in parts).encode()).hexdigest()


def digests_of(rows: Sequence[Row], project: Project) -> list[str]:
    """The sha256 of each row's file. The manifest has it, so no file is read for it, but for rows that no stage wrote.

    Raises:
        DataError: such a file cannot be read.
    """

    def digest(row: Row) -> str:
        try:
            return sha256_of(safe_join(project.root, row.path))
        except OSError as error:
            raise DataError(f"{row.path}: {error.strerror}; expected a picture that can be read") from error

    unknown = [row for row in rows if not row.sha256]
    found = dict(zip((row.path for row in unknown), each(digest, unknown, "reading frames"), strict=True))
    return [row.sha256 or found[row.path] for row in rows]
