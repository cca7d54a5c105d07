"""What is said about places that are kept: where they are the cause of something, and where they are not used."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.base.words import counted
from pipeline.split.assignment import count_by_side
from pipeline.split.folds import Folds
from pipeline.split.kept.places import Kept
from pipeline.split.kept.table import FROZEN, KeptTable, Place
from pipeline.split.params import SplitParams
from pipeline.split.protocols import class_sizes, shares_of_ratio

KEEP_CSV = Project(Path()).split_keep_csv.as_posix()
LISTED = 10  # recordings that a line names, at most
_RESHUFFLE = "`pipe split --reshuffle` deals all anew"


def is_left_aside(params: SplitParams) -> bool:
    """Whether the table is neither read nor written: `split.keep` says so, or DVC runs an experiment."""
    return not params.keep or _in_experiment()


def why_left_aside(params: SplitParams) -> str:
    """Say why the table is neither read nor written."""
    reason = "DVC runs an experiment" if params.keep else "split.keep is false"
    return f"{KEEP_CSV}: is left aside, since {reason}; all clips are dealt by the params alone"


def how_to_keep(params: SplitParams) -> str:
    """Say what an experiment's split needs before its result is kept; empty outside of experiments.

    Without it `data/split.csv` contradicts the table, and DVC finds nothing to run.
    """
    return (
        "; before you keep this result: `dvc repro --force --single-item split`, then `dvc repro`"
        if params.keep and _in_experiment()
        else ""
    )


def why_unused(table: KeptTable, params: SplitParams) -> list[str]:
    """Say that places were kept which these params do not use; nothing where none were kept."""
    names = {"folds": f"split.folds: {params.folds}", "hold_out": "split.hold_out"}
    asked = next((text for name, text in names.items() if getattr(params, name)), f"split.protocol: {params.protocol}")
    kept = f"{counted(len(table.places), 'recording')} {'has a place' if len(table.places) == 1 else 'have places'}"
    return [f"{KEEP_CSV}: {kept}, which {asked} does not use; the file stays as it is"] if table.places else []


def dealt_by(params: SplitParams) -> str:
    """The params that deal groups to sides, for the column `dealt_by`."""
    if params.counts is not None:
        how = "counts " + " ".join(str(count) for count in params.counts.model_dump().values())
    else:
        how = f"ratio {params.ratio}"
        how += f" val {params.val:g}" if params.val is not None else " val none"
        how += " rounding down" if params.rounding == "down" else ""
    return f"{how} seed {params.seed}"


def notes(kept: Kept, table: KeptTable, params: SplitParams, frames: Sequence[Row], folds: Folds) -> list[str]:
    """Say what follows from the places that are kept, one line for each fact.

    Args:
        kept: the groups that keep their places.
        table: the lines as they were read.
        params: the section `split`.
        frames: in their groups.
        folds: as they were dealt.
    """
    return [
        *_of_earlier_version(table),
        *_without_clip(kept.without_clip),
        *_torn(kept),
        *_without_val(kept, params),
        *_dealt_by_other_params(kept, params),
        *_more_folds(kept, folds),
        *_over_their_share(kept, params, frames),
    ]


def costs_of_reshuffle(earlier: Kept, places: Iterable[Place], n_by_hand: int) -> str:
    """Say what it costs that all was dealt anew.

    Args:
        earlier: what was kept before.
        places: the new ones.
        n_by_hand: lines in which a person chose the side; they stay.
    """
    both = [(old, new) for new in places if (old := earlier.place_of.get(new.source_sha256))]
    n_moved = sum((old.split, old.fold) != (new.split, new.fold) for old, new in both)
    n_seen = sum(old.split == "train" and new.split == "test" for old, new in both)
    by_hand = f"; {counted(n_by_hand, 'line')} that a person wrote stayed" if n_by_hand else ""
    return (
        f"dealt anew: {n_moved} of {counted(len(both), 'recording')} changed the side or the fold, so earlier numbers "
        f"cannot be compared with new ones; {n_seen} of the test side were on the training side before, and earlier "
        f"models have seen them{by_hand}"
    )


def _in_experiment() -> bool:
    return "DVC_EXP_BASELINE_REV" in os.environ  # DVC sets it for the stages of `dvc exp run`, and not of `dvc repro`


def _of_earlier_version(table: KeptTable) -> Iterator[str]:
    if table.has_columns_of_before:
        yield (
            f"{KEEP_CSV}: has the columns group,split of an earlier version; this run writes it by content; empty "
            "dealt_by in the lines that you wrote yourself, else `pipe split --reshuffle` forgets them"
        )


def _without_clip(places: Sequence[Place]) -> Iterator[str]:
    if places:
        names = [f"{place.source or place.source_sha256} ({place.split})" for place in places[:LISTED]]
        more = f" and {len(places) - LISTED} more" if len(places) > LISTED else ""
        yield (
            f"{KEEP_CSV}: no recording is there for {', '.join(names)}{more}; each gets its place again when it comes "
            "back, or you delete its line"
        )


def _torn(kept: Kept) -> Iterator[str]:
    for group, places in list(kept.torn.items())[:LISTED]:
        first = places[0]
        second = next(place for place in places if (place.split, place.fold) != (first.split, first.fold))
        fold = f", fold {kept.fold_of[group]}" if group in kept.fold_of else ""
        yield (
            f"{first.source} ({first.words}) and {second.source} ({second.words}) are one group now, with one place: "
            f"{kept.side_of[group]}{fold}; what was learned from is never tested on"
        )
    if len(kept.torn) > LISTED:
        yield f"{len(kept.torn) - LISTED} more groups were joined across kept places"


def _without_val(kept: Kept, params: SplitParams) -> Iterator[str]:
    n_in_val = sum(place.split == "val" for place in kept.place_of.values())
    if n_in_val and not params.asks_for_val:
        yield f"{KEEP_CSV}: {counted(n_in_val, 'recording')} of val went to train, since the params ask for no val"


def _dealt_by_other_params(kept: Kept, params: SplitParams) -> Iterator[str]:
    asked = dealt_by(params)
    others = [place.dealt_by for place in kept.place_of.values() if place.dealt_by not in ("", FROZEN, asked)]
    if others:
        names = ", ".join(sorted(set(others))[:LISTED])
        yield (
            f"{KEEP_CSV}: {len(others)} of {counted(len(kept.place_of), 'recording')} keep the places that {names} "
            f"dealt; params.yaml asks for {asked}, which new ones follow; {_RESHUFFLE}"
        )


def _more_folds(kept: Kept, folds: Folds) -> Iterator[str]:
    n_before = max(kept.fold_of.values(), default=-1) + 1
    if 0 < n_before < folds.n_folds:
        yield f"{folds.n_folds} folds, {n_before} before: new recordings fill the new ones, and no other one moved"


def _over_their_share(kept: Kept, params: SplitParams, frames: Sequence[Row]) -> Iterator[str]:
    """A side that kept places alone fill beyond its share by a whole group or more."""
    if params.counts is not None or not kept.side_of:
        return
    shares = shares_of_ratio(params)
    over: list[str] = []
    for label, groups in class_sizes(frames).items():
        filled = [group for group, n_kept in groups.items() if n_kept]
        for side, n in count_by_side((kept.side_of.get(group, "") for group in filled), shares).items():
            if n > 1 and n - len(filled) * shares[side] >= 1:
                share = float(len(filled) * shares[side])
                over.append(
                    f"{n} of {len(filled)} groups of {label!r} are in {side}, where the ratio gives {share:.1f}"
                )
    if over:
        more = f" (and {len(over) - 1} more like it)" if len(over) > 1 else ""
        yield f"{over[0]}{more}: {KEEP_CSV} keeps them; new ones go to the other sides first, and {_RESHUFFLE}"
