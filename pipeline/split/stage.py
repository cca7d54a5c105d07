"""Which groups train and which are held out: whole groups unless asked otherwise, and a receipt that says which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.base import manifest
from pipeline.base.errors import DataError, ParamsError
from pipeline.base.files import exclusive
from pipeline.base.leakage import refuse_label_conflicts, refuse_leaks
from pipeline.base.manifest import Row, class_names
from pipeline.base.progress import tell
from pipeline.base.project import Project
from pipeline.base.report_digest import Hashes, hashes_of, write_report
from pipeline.base.similar_names import refuse_similar_names
from pipeline.split.folds import deal_folds
from pipeline.split.grouping import confirmed_sources, merge_groups, read_groups_csv, regroup
from pipeline.split.joined import reasons_by_group, what_was_joined
from pipeline.split.kept.notes import (
    costs_of_reshuffle,
    dealt_by,
    how_to_keep,
    is_left_aside,
    why_left_aside,
    why_unused,
)
from pipeline.split.kept.notes import notes as notes_of
from pipeline.split.kept.places import extended, find_kept
from pipeline.split.kept.table import KeptTable, read_kept, write_kept
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
def split(params: SplitParams, project: Project, *, reshuffle: bool = False) -> SplitReceipt:
    """Put every image into training, validation or test, by the protocol of `params`.

    Reads the frame and augmentation manifests, `data/groups.csv` and the kept places; writes the split manifest, its
    receipt and the sheet of near duplicates, and adds new recordings to the kept places. A frame that screening dropped
    gets a side too. An augmented image is in train with its parent, or `unused`.

    Args:
        params: the section `split`.
        project: whose images they are.
        reshuffle: deal all anew, and keep only the places that a person chose.

    Raises:
        ParamsError: nothing is kept by these params, so that nothing can be reshuffled.
        DataError: a manifest is missing or stale, a recording has two labels, there is one class only, or a class
            has too few groups; the message says how many to film.
        LeakageError: something would lie on two sides. The receipt has been written then, and the manifest has not.
    """
    made_from = hashes_of((project.frames_csv, project.augmented_csv, project.groups_csv), project)
    table, notes = _read_kept(params, project)
    are_kept = params.draws_test_groups and not is_left_aside(params)
    if reshuffle:
        _refuse_reshuffle(params)
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
    kept = find_kept(table.by_hand() if reshuffle else table, apart, frames, params)
    session_of = read_sessions(project.groups_csv)
    side_of = assign_sides(frames, copies, params, kept.side_of, project.frames_csv, session_of)
    folds = deal_folds(frames, params, kept.fold_of)
    rows = _with_sides(frames, copies, parents, _Places(side_of, reasons, folds.fold_of))
    search = across_sides_first(search, side_of)
    joined = what_was_joined(rows, confirmed, proposed, all_confirmed=params.photo_groups == "confirmed")
    places = list(extended(kept, rows[: len(frames)], dealt_by(params))) if are_kept else []
    notes += notes_of(kept, table, params, frames, folds)
    if reshuffle:
        notes.append(costs_of_reshuffle(find_kept(table, apart, frames, params), places, len(table.by_hand().places)))
    for note in notes:
        tell(note)
    known = KnownGroups(merged, kept, joined, folds, session_of, are_kept)
    receipt = make_receipt(rows, params, known, Found(search, clip_copies))
    draw_pairs(search, project)
    project.split_csv.unlink(missing_ok=True)  # an old split must not stand beside a new receipt, whatever follows
    _write_receipt(receipt, made_from, project)
    refuse_leaks(rows, params.protocol, augmented_in_test=params.augmented_in_test)
    if are_kept:  # first: no network may learn from sides that are not kept
        write_kept(places, project.split_keep_csv)
    manifest.write_split(rows, project.split_csv)
    _write_receipt(receipt, made_from, project)  # now with the hash of the split
    return receipt


def _write_receipt(receipt: SplitReceipt, made_from: Hashes, project: Project) -> None:
    wrote = hashes_of((project.split_csv, project.near_duplicates_png), project)
    write_report(project.split_json, receipt.to_json(), made_from=made_from, wrote=wrote)


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


def _refuse_reshuffle(params: SplitParams) -> None:
    """Refuse to deal kept places anew where none are kept."""
    if is_left_aside(params):
        raise ParamsError(f"--reshuffle: {why_left_aside(params)}; expected split.keep: true, outside an experiment")
    if not params.draws_test_groups:
        raise ParamsError(
            f"--reshuffle: found protocol {params.protocol}, folds {params.folds}, hold_out {params.hold_out}; "
            "expected protocol grouped without folds and hold_out, since only such a split is kept"
        )


def _read_kept(params: SplitParams, project: Project) -> tuple[KeptTable, list[str]]:
    """The lines of `data/split.keep.csv` that are used, and a line that says why none are."""
    if is_left_aside(params):
        return KeptTable(), [why_left_aside(params) + how_to_keep(params)] if params.draws_test_groups else []
    table = read_kept(project.split_keep_csv)
    return (table, []) if params.draws_test_groups else (KeptTable(), why_unused(table, params))


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
