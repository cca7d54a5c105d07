"""Which clips judged a run, and how many runs in the repository the same clips have judged.

Whoever picks the best of many runs by one test side picks luck too. The page says how many there were to pick from.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections import Counter

from pipeline.base.project import Project
from pipeline.base.storage.csv_files import table_rows
from pipeline.tools.repository.git_repository import git_bytes, git_text

_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_CHANGE = re.compile(r":\d+ \d+ [0-9a-f]+ (?P<content>[0-9a-f]+) [A-Z]\d*\t")  # a line of `git log --raw`


def digest_of_clips(predictions: str | None) -> str | None:
    """The digest of the clips and photos, with their classes, that a `reports/predictions.csv` judged.

    None where there is no such table of this version, or a broken one, as any commit may have brought it. The order
    and the number of a clip's frames do not count, nor does the training side.
    """
    # Not by `splitlines`, which ends a line at letters that a name may have, such as U+2028.
    try:
        lines = list(table_rows(io.StringIO(predictions or "", newline="")))
        clips = sorted({(line["group"], line["label"]) for line in lines})
    except (csv.Error, KeyError):
        return None
    if not clips:
        return None
    return hashlib.sha256(repr(clips).encode()).hexdigest()


def count_judged_runs(project: Project) -> Counter[str]:
    """How many different runs the repository's commits and experiments hold, by the digest of the clips.

    A run is one content of `reports/evaluate.json`, which names its checkpoint by hash. Commits that leave the report
    as it is are no runs, and a training that is repeated to the last bit counts once.
    """
    counts: Counter[str] = Counter()
    for commit in _commits_of_reports(project).values():
        content = git_bytes(project.root, "show", f"{commit}:./{project.relative(project.predictions_csv)}")
        digest = digest_of_clips(None if content is None else content.decode("utf-8", errors="replace"))
        if digest is not None:
            counts[digest] += 1
    return counts


def _commits_of_reports(project: Project) -> dict[str, str]:
    """For each content of `reports/evaluate.json` in any branch, tag or experiment, one commit that brought it."""
    listing = git_text(
        project.root,
        *("-c", "log.showRoot=true"),  # whatever a person has set: the first commit may hold a report
        *("log", "--all", "--full-history", "-m", "--raw", "--no-abbrev", "--no-renames", "--format=%H"),
        *("--", project.relative(project.evaluate_json)),
    )
    commit, commits = "", dict[str, str]()
    for line in listing.splitlines():
        change = _CHANGE.match(line)
        if change and int(change["content"], 16):  # all zeros: the commit deletes the report
            commits[change["content"]] = commit
        elif _COMMIT.fullmatch(line):
            commit = line
    return commits
