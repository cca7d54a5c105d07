"""The protocols of a split: how each says which side an image is on, and why its numbers may flatter the model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from pipeline.base.errors import DataError
from pipeline.base.manifest import SIDES, UNUSED, Row
from pipeline.split.assignment import assign_groups, cut_clip
from pipeline.split.params import SplitCounts, SplitParams

Sizes = Mapping[str, Mapping[str, int]]  # per class: the kept images of each unit that is dealt out as one

_GROUPS = "clips or photos"
_FEWER = {2: "one is", 3: "two are"}  # without val, of so many sides


def assign_sides(
    frames: Sequence[Row], copies: Sequence[Row], params: SplitParams, pins: Mapping[str, str], place: Path
) -> dict[str, str]:
    """The side of every image by its path: train, val, test or unused.

    A copy is in train with its parent, or unused; with `params.augmented_in_test` it is dealt out like a frame.

    Args:
        frames: of at least two classes; those that screening dropped get a side too.
        copies: augmented images whose parents are among the frames.
        params: the protocol and its numbers.
        pins: the sides of groups that must stay there; only the protocol `grouped` without folds looks at them.
        place: the frames' manifest, for messages.

    Raises:
        DataError: a side of a class would be empty; the message says what to film or to change.
    """
    if params.protocol == "random":
        images = [*frames, *copies] if params.augmented_in_test else frames
        side_of = _by_image(images, params, place)
    elif params.protocol == "blocks":
        side_of = _by_stretch(frames, params, place)
    elif params.protocol == "given":
        side_of = _by_folder(frames, params, place)
    else:
        side_of = _by_group(frames, params, pins, place)
    followed = {copy.path: "train" if side_of[copy.parent] == "train" else UNUSED for copy in copies}
    return followed | side_of


def shares_of_ratio(params: SplitParams) -> dict[str, Fraction]:
    """What part of each class a side should get: the ratio is (train + val) : test."""
    training = {side: share * (1 - params.test_share) for side, share in training_shares(params).items()}
    return training | {"test": params.test_share}


def training_shares(params: SplitParams) -> dict[str, Fraction]:
    """How the training side is divided, val being carved out of it."""
    if params.val is None:
        return {"train": Fraction(1)}
    val = Fraction(str(params.val))  # as it is written: 0.2 is a fifth
    return {"train": 1 - val, "val": val}


def why_optimistic(params: SplitParams) -> str | None:
    """Why the numbers flatter the model: the protocol's reason and the person's caveat; None for neither."""
    reasons = [params.caveat] if params.caveat else []
    if params.protocol == "blocks":
        reasons.insert(0, f"training and test frames are of the same clips, {params.guard_seconds:g} s apart or more")
    if params.protocol == "random":
        copies = ", and copies of training frames are tested on" if params.augmented_in_test else ""
        reasons.insert(0, f"images were dealt out at random, whatever clip they are of{copies}")
    return "; ".join(reasons) or None


def _by_group(frames: Sequence[Row], params: SplitParams, pins: Mapping[str, str], place: Path) -> dict[str, str]:
    sizes = _sizes((frame.label, frame.group, frame.kept) for frame in frames)
    if params.folds is not None:
        side_of = _deal_fold(sizes, params, params.folds, place)
    else:
        side_of = _deal_out(sizes, params, pins, place, _GROUPS)
    return {frame.path: side_of[frame.group] for frame in frames}


def _by_image(images: Sequence[Row], params: SplitParams, place: Path) -> dict[str, str]:
    sizes = _sizes((image.label, image.path, image.kept) for image in images)
    return _deal_out(sizes, params, {}, place, "images")


def _by_stretch(frames: Sequence[Row], params: SplitParams, place: Path) -> dict[str, str]:
    clips: dict[tuple[str, str], dict[str, tuple[float, bool]]] = defaultdict(dict)
    for frame in frames:
        if frame.time_seconds is None:
            raise DataError(f"{place}: {frame.source} is a photo, and split.protocol: blocks cuts clips; use grouped")
        clips[frame.group, frame.source][frame.path] = frame.time_seconds, frame.kept
    shares = shares_of_ratio(params)
    side_of: dict[str, str] = {}
    for (group, _), times in clips.items():
        kept_seconds = [time for time, kept in times.values() if kept] or [time for time, _ in times.values()]
        stretches = cut_clip(group, kept_seconds, shares, params.guard_seconds, params.seed)
        side_of |= {path: stretches.side_at(time) for path, (time, _) in times.items()}
    _refuse_empty_sides(frames, side_of, tuple(shares), place, "film longer clips, or lower split.guard_seconds")
    return side_of


def _by_folder(frames: Sequence[Row], params: SplitParams, place: Path) -> dict[str, str]:
    for frame in frames:
        if frame.given_split not in SIDES:
            raise DataError(
                f"{place}: no folder says which side {frame.source} is on; split.protocol: given expects "
                "data/raw/<split>/<class>/ and extract.layout: split"
            )
    side_of = {frame.path: frame.given_split for frame in frames}
    _refuse_empty_sides(frames, side_of, ("train",), place, "add some to its folder")
    if "test" not in side_of.values():
        raise DataError(f"{place}: no frame is in the folder test; expected some for split.protocol: given")
    if params.val is None or "val" in side_of.values():
        return side_of
    training = [frame for frame in frames if frame.given_split == "train"]
    sizes = _sizes((frame.label, frame.group, frame.kept) for frame in training)
    carved = _deal(sizes, dict.fromkeys(sizes, training_shares(params)), params, {}, place, _GROUPS)
    return side_of | {frame.path: carved[frame.group] for frame in training}


def _sizes(images: Iterable[tuple[str, str, bool]]) -> Sizes:
    sizes: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for label, unit, kept in images:
        sizes[label][unit] += kept
    return dict(sorted(sizes.items()))


def _deal_out(sizes: Sizes, params: SplitParams, pins: Mapping[str, str], place: Path, units: str) -> dict[str, str]:
    if params.counts is None:
        return _deal(sizes, dict.fromkeys(sizes, shares_of_ratio(params)), params, pins, place, units)
    shares = {label: _shares_of(params.counts, label, units_of, place, units) for label, units_of in sizes.items()}
    return _deal(sizes, shares, params, pins, place, units)


def _deal(
    sizes: Sizes,
    shares: Mapping[str, Mapping[str, Fraction]],
    params: SplitParams,
    pins: Mapping[str, str],
    place: Path,
    units: str,
) -> dict[str, str]:
    """The side of each unit; `shares` holds those of each class."""
    sides = [side for side in next(iter(shares.values())) if side != UNUSED]
    missing = {label: _n_missing(units_of, sides, pins) for label, units_of in sizes.items()}
    way_out = f"; with split.val: null {_FEWER[len(sides)]} enough" if "val" in sides else ""
    _refuse_missing(sizes, missing, f"{len(sides)}, one each for {', '.join(sides)}{way_out}", place, units)
    side_of: dict[str, str] = {}
    for label, units_of in sizes.items():
        side_of |= assign_groups(units_of, shares[label], params.seed, rounding=params.rounding, pinned=pins)
    return side_of


def _deal_fold(sizes: Sizes, params: SplitParams, folds: int, place: Path) -> dict[str, str]:
    """One fold is the test side; the others are divided into train and val as the training side of a ratio is."""
    needed = next(n for n in range(folds, 2 * folds + 1) if n - -(-n // folds) >= len(training_shares(params)))
    missing = {label: max(0, needed - _n_filled(units_of)) for label, units_of in sizes.items()}
    _refuse_missing(sizes, missing, f"{needed} for {folds} folds", place, _GROUPS)
    side_of: dict[str, str] = {}
    for units_of in sizes.values():
        fold_of = assign_groups(units_of, {str(fold): Fraction(1, folds) for fold in range(folds)}, params.seed)
        rest = {unit: kept for unit, kept in units_of.items() if fold_of[unit] != str(params.fold)}
        side_of |= dict.fromkeys(units_of.keys() - rest.keys(), "test")
        side_of |= assign_groups(rest, training_shares(params), params.seed, rounding=params.rounding)
    return side_of


def _shares_of(
    counts: SplitCounts, label: str, units_of: Mapping[str, int], place: Path, units: str
) -> dict[str, Fraction]:
    """The asked numbers as shares of one class, the rest unused."""
    asked = {side: number for side, number in counts.model_dump().items() if number}
    n_filled, n_asked = _n_filled(units_of), sum(asked.values())
    if n_filled < n_asked:
        raise DataError(f"{place}: {label!r} has {n_filled} {units} with kept frames; split.counts asks for {n_asked}")
    return {side: Fraction(number, n_filled) for side, number in (asked | {UNUSED: n_filled - n_asked}).items()}


def _n_filled(units_of: Mapping[str, int]) -> int:
    return sum(1 for kept in units_of.values() if kept)


def _n_missing(units_of: Mapping[str, int], sides: Sequence[str], pins: Mapping[str, str]) -> int:
    """How many more units with kept frames it takes for each side to have one."""
    filled = {unit for unit, kept in units_of.items() if kept}
    settled = {pins[unit] for unit in filled if unit in pins}
    return max(0, len(set(sides) - settled) - len(filled - pins.keys()))


def _refuse_missing(sizes: Sizes, missing: Mapping[str, int], needed: str, place: Path, units: str) -> None:
    few = [f"{label!r} has {_n_filled(sizes[label])} (film {n} more)" for label, n in missing.items() if n]
    if few:
        raise DataError(
            f"{place}: too few {units} with kept frames: {', '.join(few)}; every class needs {needed} "
            "(those that show the same pixels count as one: split.near_duplicates)"
        )


def _refuse_empty_sides(
    frames: Iterable[Row], side_of: Mapping[str, str], sides: Sequence[str], place: Path, advice: str
) -> None:
    present = {(frame.label, side_of[frame.path]) for frame in frames if frame.kept}
    for label in sorted({frame.label for frame in frames}):
        for side in sides:
            if (label, side) not in present:
                raise DataError(f"{place}: {label!r} has no kept frame in {side}; {advice}")
