"""What is done about damaged recordings: kept as far as they decode, left out, or refused. Never without a word."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.base.errors import DataError
from pipeline.extract.child import Recorded
from pipeline.media.recordings import Recording

Policy = Literal["keep", "drop", "fail"]


@dataclass(frozen=True)
class Settled:
    """What goes on, and what does not."""

    recorded: list[tuple[Recording, Recorded]]
    left_out: dict[str, str]  # recordings by name, with what is damaged


def settle(
    recordings: Sequence[Recording], outcomes: Sequence[Recorded | str], policy: Policy, frames: Path
) -> Settled:
    """Decide on every recording; the pictures of those that are left out are removed.

    Args:
        recordings: all of them.
        outcomes: what became of each, or one line that says why it cannot be used.
        policy: `keep` leaves out what gave no picture at all, `drop` all that is damaged, `fail` nothing.
        frames: the folder of the pictures.

    Raises:
        DataError: a recording cannot be used, or is damaged and the policy is `fail`, or a class would lose all its
            recordings; the first is named, and how many more there are.
    """
    both = list(zip(recordings, outcomes, strict=True))
    _refuse(outcome for outcome in outcomes if isinstance(outcome, str))
    made = [(recording, outcome) for recording, outcome in both if not isinstance(outcome, str)]
    if policy == "fail":
        _refuse(_line(recording, outcome) for recording, outcome in made if outcome["damage"])
    out = [one for one in made if one[1]["damage"] and (policy == "drop" or not one[1]["pictures"])]
    left_out = {recording.name: outcome["damage"] for recording, outcome in out}
    recorded = [(recording, outcome) for recording, outcome in made if recording.name not in left_out]
    alive = {recording.label for recording, _ in recorded}
    _refuse(_line(recording, outcome) for recording, outcome in out if recording.label not in alive)
    for recording, _ in out:
        shutil.rmtree(frames / recording.name, ignore_errors=True)
    return Settled(recorded, left_out)


def _refuse(lines: Iterable[str]) -> None:
    first, *others = [*lines, ""]
    if first:
        raise DataError(first + (f"; {len(others) - 1} more cannot be used" if len(others) > 1 else ""))


def _line(recording: Recording, outcome: Recorded) -> str:
    return f"{recording.path}: {outcome['damage']}"
