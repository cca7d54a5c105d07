"""Which groups train and which are held out: whole groups unless asked otherwise, and a receipt that says which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.files import exclusive, read_json
from pipeline.base.leakage import read_split_without_leaks, refuse_label_conflicts, refuse_leaks
from pipeline.base.manifest import UNUSED, Row, class_names
from pipeline.base.project import Project
from pipeline.base.report_digest import Hashes, hashes_of, write_report
from pipeline.base.similar_names import refuse_similar_names
from pipeline.base.words import counted
from pipeline.split.folds import deal_folds
from pipeline.split.grouping import confirmed_sources, merge_groups, read_groups_csv, read_pins, regroup, write_pins
from pipeline.split.joined import reasons_by_group, what_was_joined
from pipeline.split.leaks import Found
from pipeline.split.near_duplicates.clip_copies import CopySearch, find_clip_copies
from pipeline.split.near_duplicates.search import (
    WHOLE_GROUPS,
    SearchResult,
    across_sides_first,
    clips_to_merge,
    find_near_duplicates,
    pairs_to_merge,
)
from pipeline.split.near_duplicates.sheet import draw_pairs
from pipeline.split.params import SplitParams
from pipeline.split.proposals import Proposals, propose
from pipeline.split.protocols import assign_sides
from pipeline.split.receipt import KnownGroups, SplitReceipt, make_receipt
from pipeline.split.sessions import read_sessions


@exclusive("pipe split")
def split(params: SplitParams, project: Project) -> SplitReceipt:
    """Put every image into training, validation or test, by the protocol of `params`.

    Reads the frame and augmentation manifests, `data/groups.csv` and the pins; writes the split manifest, its receipt
    and the sheet of near duplicates. A frame that screening dropped gets a side too. An augmented image is in train
    with its parent, or `unused`.

    Raises:
        DataError: a manifest is missing or stale, a recording has two labels, there is one class only, or a class
            has too few groups; the message says how many to film.
        LeakageError: something would lie on two sides. The receipt has been written then, and the manifest has not.
    """
    made_from = hashes_of(
        (project.frames_csv, project.augmented_csv, project.groups_csv, project.split_keep_csv), project
    )
    apart = _read_frames(params, project)
    copies = manifest.read(project.augmented_csv, empty_is_fine=True)
    confirmed = confirmed_sources(apart, project.groups_csv, params.group_pattern)
    proposed = _propose(apart, confirmed, params)
    clip_copies = _search_clips(apart, proposed, params, project)
    same_clips = clips_to_merge(clip_copies, apart, params.protocol)
    search = _search(apart, same_clips, proposed, params, project)
    alike = [*same_clips, *pairs_to_merge(search, params.protocol)]
    frames, merged = merge_groups(apart, alike, proposed.links)
    reasons = reasons_by_group(apart, frames, proposed.links, alike, confirmed)
    parents = _parents_by_path(frames, copies, project.augmented_csv)
    pins = _read_pins(params, merged, project)
    session_of = read_sessions(project.groups_csv)
    side_of = assign_sides(frames, copies, params, pins, project.frames_csv, session_of)
    folds = deal_folds(frames, params)
    rows = _with_sides(frames, copies, parents, _Places(side_of, reasons, folds.fold_of))
    search = across_sides_first(search, side_of)
    joined = what_was_joined(rows, confirmed, proposed, all_confirmed=params.photo_groups == "confirmed")
    known = KnownGroups(merged, pins, joined, folds, session_of)
    receipt = make_receipt(rows, params, known, Found(search, clip_copies))
    draw_pairs(search, project)
    project.split_csv.unlink(missing_ok=True)  # an old split must not stand beside a new receipt, whatever follows
    _write_receipt(receipt, made_from, project)
    refuse_leaks(rows, params.protocol, augmented_in_test=params.augmented_in_test)
    manifest.write_split(rows, project.split_csv)
    _write_receipt(receipt, made_from, project)  # now with the hash of the split
    return receipt


def _write_receipt(receipt: SplitReceipt, made_from: Hashes, project: Project) -> None:
    wrote = hashes_of((project.split_csv, project.near_duplicates_png), project)
    write_report(project.split_json, receipt.to_json(), made_from=made_from, wrote=wrote)


@dataclass(frozen=True)
class FreezeReport:
    """What `freeze` wrote."""

    n_groups: int
    split_keep_csv: str  # relative to the project

    @property
    def headline(self) -> str:
        """The closing line."""
        return f"{counted(self.n_groups, 'group')} pinned in {self.split_keep_csv}; commit it"


@exclusive("pipe split")
def freeze(project: Project) -> FreezeReport:
    """Pin the groups of `data/split.csv` to their sides, in `data/split.keep.csv`; earlier pins stay.

    Raises:
        DataError: there is no split, or its protocol divides groups, or its test groups are not drawn but settled by
            folds or by a held-out session.
    """
    rows = read_split_without_leaks(project)
    receipt = read_json(project.split_json)
    folds, hold_out = (receipt["asked"].get(name) for name in ("folds", "hold_out"))
    if receipt["protocol"] != "grouped" or folds or hold_out:
        raise DataError(
            f"{project.split_json}: found protocol {receipt['protocol']}, folds {folds}, hold_out {hold_out}; "
            "expected protocol grouped without folds and hold_out, since only such a split can be frozen"
        )
    side_of = {row.group: row.split for row in rows if row.split != UNUSED}
    # Every name of a merged group is pinned, since the recording that gave the group its name may be deleted.
    twins = {name: side_of[names[0]] for names in receipt["merged_groups"] for name in names if names[0] in side_of}
    write_pins(read_pins(project.split_keep_csv) | side_of | twins, project.split_keep_csv)
    return FreezeReport(len(side_of), project.relative(project.split_keep_csv))


def _read_frames(params: SplitParams, project: Project) -> list[Row]:
    """The frames in the groups that the person names; refused where they have one class only, or clashing labels."""
    frames = manifest.read(project.frames_csv)
    frames = regroup(frames, project.groups_csv, params.group_pattern)
    labels = class_names(frames)
    if len(labels) < 2:
        raise DataError(
            f"{project.frames_csv}: found one class only, {labels[0]!r}; expected at least two, add clips of another"
        )
    refuse_similar_names(labels, str(project.frames_csv))
    refuse_label_conflicts(
        frames, project.frames_csv, {group for _, _, group, _ in read_groups_csv(project.groups_csv)}
    )
    return frames


def _propose(frames: Sequence[Row], confirmed: Mapping[str, str], params: SplitParams) -> Proposals:
    """Which groups are one by names, times and bursts; none where the protocol divides groups."""
    if params.protocol not in WHOLE_GROUPS:
        return Proposals((), ())
    return propose(
        frames, confirmed.keys(), photos=params.photo_groups != "each", within_given=params.protocol == "given"
    )


def _search_clips(
    frames: Sequence[Row], proposed: Proposals, params: SplitParams, project: Project
) -> CopySearch | None:
    """The copies of clips among different groups; None where `params` asks for no search."""
    if not params.near_duplicates.search:
        return None
    return find_clip_copies(merge_groups(frames, links=proposed.links)[0], project)


def _search(
    frames: Sequence[Row],
    same_clips: Sequence[tuple[str, str]],
    proposed: Proposals,
    params: SplitParams,
    project: Project,
) -> SearchResult | None:
    """The near duplicates of different groups; None where `params` asks for no search."""
    if not params.near_duplicates.search:
        return None
    # The same recording under two names, and what is one group already, need not be compared.
    grouped, _ = merge_groups(frames, same_clips, proposed.links)
    return find_near_duplicates(grouped, params.near_duplicates, project)


def _parents_by_path(frames: Iterable[Row], copies: Iterable[Row], augmented_csv: Path) -> dict[str, Row]:
    """The kept frames by path; refused where a copy was made from none of them."""
    by_path = {frame.path: frame for frame in frames if frame.kept}
    for copy in copies:
        parent = by_path.get(copy.parent)
        if parent is None or (parent.label, parent.source_sha256) != (copy.label, copy.source_sha256):
            raise DataError(
                f"{augmented_csv}: {copy.path} was made from {copy.parent or 'no frame'}, "
                "which is not among the kept frames (any more); run `pipe augment` again"
            )
    return by_path


def _read_pins(params: SplitParams, merged: Sequence[Sequence[str]], project: Project) -> dict[str, str]:
    """The sides of the pinned groups; none where the protocol divides groups, or the test groups are settled."""
    pins = read_pins(project.split_keep_csv, merged)
    if not params.draws_test_groups:
        return {}
    has_val = params.val is not None if params.counts is None else params.counts.val > 0
    if "val" in pins.values() and not has_val:
        raise DataError(
            f"{project.split_keep_csv}: groups are pinned to val; expected none, since the params ask for no val"
        )
    return pins


@dataclass(frozen=True)
class _Places:
    """Where every image comes to lie."""

    side_of: Mapping[str, str]  # by path
    reasons: Mapping[str, str]  # by group, why recordings share it
    fold_of: Mapping[str, int]  # by group; empty where there are no folds

    def place(self, row: Row, group: str) -> Row:
        """The row in a group, with its side and fold."""
        return row.placed(group, self.side_of[row.path], self.reasons.get(group, ""), self.fold_of.get(group))


def _with_sides(frames: Sequence[Row], copies: Sequence[Row], parents: Mapping[str, Row], places: _Places) -> list[Row]:
    """All images with their groups, sides and folds; a copy is in the group of its parent."""
    with manifest.paused_garbage_collection():
        rows = [places.place(frame, frame.group) for frame in frames]
        rows += [places.place(copy, parents[copy.parent].group) for copy in copies]
    return rows
