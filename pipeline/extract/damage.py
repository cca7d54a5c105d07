"""The policy for damaged recordings: keep what decodes, leave the recording out, or refuse it. All are reported."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.base.errors import DataError
from pipeline.extract.child import Outcome
from pipeline.media.recordings import Recording

Policy = Literal["keep", "drop", "fail"]


@dataclass(frozen=True)
class PolicyResult:
    """The recordings that become frames, and those that damage leaves out."""

    kept: list[tuple[Recording, Outcome]]
    left_out: dict[str, str]  # what is damaged, by the name of the recording


def apply_policy(
    recordings: Sequence[Recording], outcomes: Sequence[Outcome], policy: Policy, frames: Path
) -> PolicyResult:
    """Decide which recordings are kept, and remove the pictures of those that are left out.

    Args:
        recordings: all of them.
        outcomes: the outcome of each.
        policy: `keep` leaves out recordings without a picture, `drop` all damaged ones, `fail` refuses damaged ones.
        frames: the folder of the pictures.

    Raises:
        DataError: a recording cannot be used; or one is damaged and the policy is `fail`; or a class would lose all
            its recordings. The message names the first such recording, and counts the others.
    """
    pairs = list(zip(recordings, outcomes, strict=True))
    _refuse(outcome.error for outcome in outcomes if outcome.error)
    if policy == "fail":
        _refuse(_damage_line(*pair) for pair in pairs if pair[1].damage)
    out = [
        (recording, outcome)
        for recording, outcome in pairs
        if outcome.damage and (policy == "drop" or not outcome.pictures)
    ]
    left_out = {recording.name: outcome.damage for recording, outcome in out}
    kept = [(recording, outcome) for recording, outcome in pairs if recording.name not in left_out]
    labels = {recording.label for recording, _ in kept}
    _refuse(_damage_line(recording, outcome) for recording, outcome in out if recording.label not in labels)
    for recording, _ in out:
        shutil.rmtree(frames / recording.name, ignore_errors=True)
    return PolicyResult(kept, left_out)


def _refuse(lines: Iterable[str]) -> None:
    """Raise the first line, with the number of the others; without lines do nothing."""
    refused = list(lines)
    if refused:
        raise DataError(refused[0] + (f"; {len(refused) - 1} more cannot be used" if len(refused) > 1 else ""))


def _damage_line(recording: Recording, outcome: Outcome) -> str:
    return f"{recording.path}: {outcome.damage}"
