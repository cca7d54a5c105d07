"""The protocols of a split: how each chooses the side of an image, and why its numbers may flatter the model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

from pipeline.base.errors import DataError
from pipeline.base.manifest import SIDES, UNUSED, Row
from pipeline.base.numbers import quotas
from pipeline.split.assignment import Classes, assign_classes, assign_shared_groups, cut_clip
from pipeline.split.params import SplitCounts, SplitParams
from pipeline.split.sessions import groups_of_session

Sizes = Mapping[str, Mapping[str, int]]  # by class: number of kept images of each unit, a group or an image
_NO_SESSIONS: Mapping[str, str] = MappingProxyType({})

_BLOCKS = "; or split.protocol: blocks, which cuts every clip into stretches of time, and says so in every report"
_BY_PINS = (
    "; data/split.keep.csv keeps the others on their sides: film these, or `pipe split --reshuffle` deals all anew"
)
_ENOUGH_WITHOUT_VAL = {2: "one is", 3: "two are"}  # by the number of sides


@dataclass(frozen=True)
class _Units:
    """What is dealt out to the sides."""

    name: str  # in the plural
    way_out: str = ""  # for a class that has too few of them: the end of a message


_GROUPS = _Units("clips or photos", "; photos that were joined count as one: split.photo_groups")
_OTHER_SESSIONS = _Units("clips or photos outside the held-out session")


def assign_sides(
    frames: Sequence[Row],
    copies: Sequence[Row],
    params: SplitParams,
    pins: Mapping[str, str],
    frames_csv: Path,
    session_of: Mapping[str, str] = _NO_SESSIONS,
) -> dict[str, str]:
    """Choose the side of every image.

    A copy is in train with its parent, or unused. With `params.augmented_in_test` it gets a side like a frame.

    Args:
        frames: all frames, of at least two classes; those that screening dropped get a side too.
        copies: augmented images whose parents are among the frames.
        params: the section `split`.
        pins: the side of each pinned group; only the protocol `grouped` without folds and `hold_out` uses them.
        frames_csv: the frames' manifest, for messages.
        session_of: the session of each source that has one; only `params.hold_out` uses them.

    Returns:
        train, val, test or unused, by path.

    Raises:
        DataError: a side of a class would be empty; the message says what to film or to change.
    """
    if params.protocol == "random":
        images = [*frames, *copies] if params.augmented_in_test else frames
        side_of = _by_image(images, params, frames_csv)
    elif params.protocol == "blocks":
        side_of = _by_stretch(frames, params, frames_csv)
    elif params.protocol == "given":
        side_of = _by_folder(frames, params, frames_csv)
    elif params.hold_out is not None:
        side_of = _by_session(frames, params, params.hold_out.session, session_of, frames_csv)
    else:
        side_of = _by_group(frames, params, pins, frames_csv)
    followed = {copy.path: "train" if side_of[copy.parent] == "train" else UNUSED for copy in copies}
    return followed | side_of


def shares_of_ratio(params: SplitParams) -> dict[str, Fraction]:
    """The share of each class that a side should get; the ratio is (train + val) : test."""
    return quotas.shares_of_ratio(params.ratio, params.val)


def training_shares(params: SplitParams) -> dict[str, Fraction]:
    """The shares of train and val within the training part, which val is taken from."""
    return quotas.training_shares(params.val)


def asked_test_share(params: SplitParams) -> Fraction | None:
    """The share of each class that the test side should get; None where no share is asked for."""
    if params.folds is not None:
        return Fraction(1, params.folds)
    is_drawn_by_ratio = params.protocol != "given" and params.counts is None and params.hold_out is None
    return params.test_share if is_drawn_by_ratio else None


def why_optimistic(params: SplitParams, known_leaks: Sequence[str]) -> str | None:
    """Why the numbers flatter the model: the protocol, known leaks and the person's caveat; None without a reason."""
    reasons = []
    if params.protocol == "blocks":
        reasons.append(f"training and test frames are of the same clips, {params.guard_seconds:g} s apart or more")
    if params.protocol == "random":
        copies = ", and copies of training frames are tested on" if params.augmented_in_test else ""
        reasons.append(f"images were dealt out at random, whatever clip they are of{copies}")
    reasons += known_leaks
    if params.caveat:
        reasons.append(params.caveat)
    return "; ".join(reasons) or None


def _by_group(frames: Sequence[Row], params: SplitParams, pins: Mapping[str, str], frames_csv: Path) -> dict[str, str]:
    sizes = class_sizes(frames)
    all_are_clips = all(frame.time_seconds is not None for frame in frames)
    units = _Units("clips", _BLOCKS) if all_are_clips else _GROUPS
    if params.folds is not None:
        side_of = _deal_fold(sizes, params, params.folds, frames_csv)
    else:
        side_of = _deal_out(sizes, params, pins, frames_csv, units)
    return {frame.path: side_of[frame.group] for frame in frames}


def _by_session(
    frames: Sequence[Row], params: SplitParams, session: str, session_of: Mapping[str, str], frames_csv: Path
) -> dict[str, str]:
    """Test on all groups of one session, and divide the others into train and val like the training part of a ratio."""
    held_out = groups_of_session(frames, session, session_of)
    sizes = class_sizes(frames)
    # A class whose clips are all of the session stays in the sizes, without a clip, and is refused.
    rest = {
        label: {unit: kept for unit, kept in units_of.items() if unit not in held_out}
        for label, units_of in sizes.items()
    }
    side_of = _deal(rest, dict.fromkeys(rest, training_shares(params)), params, {}, frames_csv, _OTHER_SESSIONS)
    return {frame.path: "test" if frame.group in held_out else side_of[frame.group] for frame in frames}


def _by_image(images: Sequence[Row], params: SplitParams, frames_csv: Path) -> dict[str, str]:
    sizes = _sizes((image.label, image.path, image.kept) for image in images)
    return _deal_out(sizes, params, {}, frames_csv, _Units("images"))


def _by_stretch(frames: Sequence[Row], params: SplitParams, frames_csv: Path) -> dict[str, str]:
    clips: dict[tuple[str, str], dict[str, tuple[float, bool]]] = defaultdict(dict)
    for frame in frames:
        if frame.time_seconds is None:
            raise DataError(
                f"{frames_csv}: {frame.source} is a photo, and split.protocol: blocks cuts clips; use grouped"
            )
        clips[frame.group, frame.source][frame.path] = frame.time_seconds, frame.kept
    shares = shares_of_ratio(params)
    side_of: dict[str, str] = {}
    for (group, _), times in clips.items():
        kept_seconds = [time for time, kept in times.values() if kept] or [time for time, _ in times.values()]
        stretches = cut_clip(group, kept_seconds, shares, params.guard_seconds, params.seed)
        side_of |= {path: stretches.side_at(time) for path, (time, _) in times.items()}
    _refuse_empty_sides(frames, side_of, tuple(shares), frames_csv, "film longer clips, or lower split.guard_seconds")
    return side_of


def _by_folder(frames: Sequence[Row], params: SplitParams, frames_csv: Path) -> dict[str, str]:
    for frame in frames:
        if frame.given_split not in SIDES:
            raise DataError(
                f"{frames_csv}: no folder says which side {frame.source} is on; split.protocol: given expects "
                "data/raw/<split>/<class>/ and extract.layout: split"
            )
    side_of = {frame.path: frame.given_split for frame in frames}
    _refuse_empty_sides(frames, side_of, ("train",), frames_csv, "add some to its folder")
    if "test" not in side_of.values():
        raise DataError(f"{frames_csv}: no frame is in the folder test; expected some for split.protocol: given")
    if params.val is None or "val" in side_of.values():
        return side_of
    training = [frame for frame in frames if frame.given_split == "train"]
    sizes = class_sizes(training)
    carved = _deal(sizes, dict.fromkeys(sizes, training_shares(params)), params, {}, frames_csv, _GROUPS)
    return side_of | {frame.path: carved[frame.group] for frame in training}


def class_sizes(frames: Iterable[Row]) -> Sizes:
    """The groups of each class, each with the number of its kept frames."""
    return _sizes((frame.label, frame.group, frame.kept) for frame in frames)


def _sizes(images: Iterable[tuple[str, str, bool]]) -> Sizes:
    sizes: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for label, unit, kept in images:
        sizes[label][unit] += kept
    return dict(sorted(sizes.items()))


def _deal_out(
    sizes: Sizes, params: SplitParams, pins: Mapping[str, str], frames_csv: Path, units: _Units
) -> dict[str, str]:
    if params.counts is None:
        return _deal(sizes, dict.fromkeys(sizes, shares_of_ratio(params)), params, pins, frames_csv, units)
    shares = {label: _shares_of(params.counts, label, units_of, frames_csv, units) for label, units_of in sizes.items()}
    return _deal(sizes, shares, params, pins, frames_csv, units)


def _deal(
    sizes: Sizes,
    shares: Mapping[str, Mapping[str, Fraction]],
    params: SplitParams,
    pins: Mapping[str, str],
    frames_csv: Path,
    units: _Units,
) -> dict[str, str]:
    """Choose the side of each unit; `shares` holds the shares of each side by class."""
    sides = [side for side in next(iter(shares.values())) if side != UNUSED]
    way_out = f"; with split.val: null {_ENOUGH_WITHOUT_VAL[len(sides)]} enough" if "val" in sides else ""
    needed = f"{len(sides)}, one each for {', '.join(sides)}{way_out}"

    def refuse_missing(settled: Mapping[str, str]) -> None:
        missing = {label: _n_missing(units_of, sides, settled) for label, units_of in sizes.items()}
        free = {unit: side for unit, side in settled.items() if unit not in pins}
        is_by_pins = any(n > _n_missing(sizes[label], sides, free) for label, n in missing.items())
        _refuse_missing(sizes, missing, needed, frames_csv, units, _BY_PINS if is_by_pins else "")

    refuse_missing(pins)
    # A group of several classes is on the side of all of them, and may leave too few groups of a class for the others.
    classes = Classes(sizes, shares, params.seed, params.rounding)
    settled = {**pins, **assign_shared_groups(classes, pins)}
    refuse_missing(settled)
    return assign_classes(classes, settled)


def _deal_fold(sizes: Sizes, params: SplitParams, folds: int, frames_csv: Path) -> dict[str, str]:
    """Make one fold the test side, and divide the others into train and val like the training part of a ratio."""
    needed = next(n for n in range(folds, 2 * folds + 1) if n - -(-n // folds) >= len(training_shares(params)))
    missing = {label: max(0, needed - _n_filled(units_of)) for label, units_of in sizes.items()}
    _refuse_missing(sizes, missing, f"{needed} for {folds} folds", frames_csv, _GROUPS)
    parts = {label: {str(fold): Fraction(1, folds) for fold in range(folds)} for label in sizes}
    classes = Classes(sizes, parts, params.seed)
    settled = assign_shared_groups(classes)
    missing = {label: _n_missing(units_of, list(parts[label]), settled) for label, units_of in sizes.items()}
    _refuse_missing(sizes, missing, f"one in each of {folds} folds", frames_csv, _GROUPS)
    fold_of = assign_classes(classes, settled)
    rest = {
        label: {unit: kept for unit, kept in units_of.items() if fold_of[unit] != str(params.fold)}
        for label, units_of in sizes.items()
    }
    tested = dict.fromkeys((unit for unit, fold in fold_of.items() if fold == str(params.fold)), "test")
    return tested | _deal(rest, dict.fromkeys(rest, training_shares(params)), params, {}, frames_csv, _GROUPS)


def _shares_of(
    counts: SplitCounts, label: str, units_of: Mapping[str, int], frames_csv: Path, units: _Units
) -> dict[str, Fraction]:
    """The asked counts as shares of one class, the rest being unused."""
    asked = {side: count for side, count in counts.model_dump().items() if count}
    n_filled, n_asked = _n_filled(units_of), sum(asked.values())
    if n_filled < n_asked:
        raise DataError(
            f"{frames_csv}: {label!r} has {n_filled} {units.name} with kept frames; split.counts asks for {n_asked}"
        )
    return {side: Fraction(count, n_filled) for side, count in (asked | {UNUSED: n_filled - n_asked}).items()}


def _n_filled(units_of: Mapping[str, int]) -> int:
    """How many units have kept frames."""
    return sum(1 for kept in units_of.values() if kept)


def _n_missing(units_of: Mapping[str, int], sides: Sequence[str], pins: Mapping[str, str]) -> int:
    """How many units with kept frames are missing for each side to have one."""
    filled = {unit for unit, kept in units_of.items() if kept}
    settled = {pins[unit] for unit in filled if unit in pins}
    return max(0, len(set(sides) - settled) - len(filled - pins.keys()))


def _refuse_missing(
    sizes: Sizes, missing: Mapping[str, int], needed: str, frames_csv: Path, units: _Units, cause: str = ""
) -> None:
    few = [f"{label!r} has {_n_filled(sizes[label])} (film {n} more)" for label, n in missing.items() if n]
    if few:
        raise DataError(
            f"{frames_csv}: too few {units.name} with kept frames: {', '.join(few)}; every class needs {needed} "
            f"(those that show the same pixels count as one: split.near_duplicates){units.way_out}{cause}"
        )


def _refuse_empty_sides(
    frames: Iterable[Row], side_of: Mapping[str, str], sides: Sequence[str], frames_csv: Path, advice: str
) -> None:
    present = {(frame.label, side_of[frame.path]) for frame in frames if frame.kept}
    for label in sorted({frame.label for frame in frames}):
        for side in sides:
            if (label, side) not in present:
                raise DataError(f"{frames_csv}: {label!r} has no kept frame in {side}; {advice}")
