"""The contents of `reports/evaluate.json`: values that check themselves and write their JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.base.checked_values import ROUNDING, Interval, ValueOrReason, require, require_shares, require_sum
from pipeline.base.leakage import DIVIDING_PROTOCOLS
from pipeline.evaluate.paired import PairedTest
from pipeline.network.calibration import UnknownThresholds
from pipeline.network.clip_answers import ClipAnswers


@dataclass(frozen=True)
class ProbabilityErrors:
    """How far probabilities are from the truth."""

    ece: float  # expected calibration error: mean gap between confidence and accuracy, over 15 bins
    mse: float  # squared error, summed over classes, mean over frames
    nll: float  # mean negative log-probability of the truth

    def __post_init__(self) -> None:
        require_shares(ece=self.ece)
        require(-ROUNDING <= self.mse <= 2 + ROUNDING, "mse", self.mse, "0 to 2")
        require(self.nll >= -ROUNDING, "nll", self.nll, "0 or more")

    def to_json(self) -> dict[str, float]:
        """The values by the names of the fields."""
        return asdict(self)


@dataclass(frozen=True)
class FrameNumbers:
    """The numbers over frames that need no groups."""

    n_frames: int
    top1: float  # share of frames whose likeliest class is the truth
    top5: ValueOrReason[float]  # share of frames whose truth is among the five likeliest classes
    balanced_accuracy: float  # mean recall of the classes that have frames
    macro_f1: float  # mean F1 of all classes
    errors: ProbabilityErrors

    def __post_init__(self) -> None:
        require(self.n_frames > 0, "n_frames", self.n_frames, "at least 1")
        require_shares(top1=self.top1, balanced_accuracy=self.balanced_accuracy, macro_f1=self.macro_f1)
        if self.top5.value is not None:
            require_shares(top5=self.top5.value)
            require(self.top5.value >= self.top1, "top5", self.top5.value, f"at least top1, {self.top1}")


@dataclass(frozen=True)
class ClassFrames:
    """The numbers of one class over frames; 0 where a ratio has no denominator."""

    precision: float
    recall: float
    f1: float
    support: int  # frames of the class

    def __post_init__(self) -> None:
        require_shares(precision=self.precision, recall=self.recall, f1=self.f1)
        require(self.support >= 0, "support", self.support, "0 or more")


@dataclass(frozen=True)
class ClassGroups:
    """The numbers of one class over groups."""

    groups: int
    groups_right: int
    interval: Interval  # of the share of right groups

    def __post_init__(self) -> None:
        require(0 <= self.groups_right <= self.groups, "groups_right", self.groups_right, f"0 to {self.groups}")


@dataclass(frozen=True)
class ClassNumbers:
    """An entry of `per_class`."""

    frames: ClassFrames
    groups: ClassGroups

    def to_json(self) -> dict[str, Any]:
        """The numbers over frames, then those over groups."""
        return {
            **asdict(self.frames),
            "groups": self.groups.groups,
            "groups_right": self.groups.groups_right,
            "groups_ci95": self.groups.interval.to_json(),
        }


@dataclass(frozen=True)
class GroupNumbers:
    """The headline: how many groups (clips or photos) the network calls right."""

    n_groups: int
    groups_right: int  # by the class of the largest mean probability
    groups_right_by_vote: int  # by the class that most frames are called
    interval: Interval  # of the share of right groups

    def __post_init__(self) -> None:
        require(self.n_groups > 0, "n_groups", self.n_groups, "at least 1")
        for name in ("groups_right", "groups_right_by_vote"):
            n_right = getattr(self, name)
            require(0 <= n_right <= self.n_groups, name, n_right, f"0 to {self.n_groups}")
        is_inside = self.interval.low - ROUNDING <= self.top1 <= self.interval.high + ROUNDING
        require(is_inside, "group_top1", self.top1, f"a share inside its interval {self.interval.to_json()}")

    @property
    def top1(self) -> float:
        """The share of right groups."""
        return self.groups_right / self.n_groups

    def to_json(self) -> dict[str, Any]:
        """The entries of the report."""
        return {
            "n_groups": self.n_groups,
            "group_top1": self.top1,
            "group_top1_ci95": self.interval.to_json(),
            "groups_right": self.groups_right,
            "group_top1_by_vote": self.groups_right_by_vote / self.n_groups,
        }


@dataclass(frozen=True)
class HowJudged:
    """Which clips judge the network."""

    estimate: str  # folds: each clip by a head that has not learned from it; holdout: the test side
    n_folds: int | None  # None where the test side judges
    refit: str  # what the network itself learned from: all clips, or none but the training side

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


@dataclass(frozen=True)
class FilmMore:
    """How many more clips of the class with the widest interval would halve that interval."""

    class_name: str
    held_out: int  # more clips to be judged
    film: int  # more clips in all; as many where every clip is judged

    def __post_init__(self) -> None:
        require(0 < self.held_out <= self.film, "held_out", self.held_out, f"1 to {self.film}")

    def to_json(self) -> dict[str, Any]:
        """The entries of the report, with a sentence that says them."""
        held_out = f", of which {self.held_out} are held out as now" if self.held_out < self.film else ""
        return {
            "class": self.class_name,
            "held_out": self.held_out,
            "film": self.film,
            "sentence": (
                f"To halve the widest interval of a class, film about {self.film} more clips of {self.class_name}"
                f"{held_out}"
            ),
        }


@dataclass(frozen=True)
class Areas:
    """The areas under one kind of curve."""

    per_class: Mapping[str, float | None]  # of each class against the rest; None where a class has no frame, or all
    macro: float | None  # mean of the classes; None where a class has none
    micro: float  # of all answers pooled

    def __post_init__(self) -> None:
        for area in (*self.per_class.values(), self.macro, self.micro):
            if area is not None:
                require_shares(area=area)

    def to_json(self) -> dict[str, Any]:
        """The areas by the names of the fields."""
        return {"macro": self.macro, "micro": self.micro, "per_class": dict(self.per_class)}


@dataclass(frozen=True)
class ReliabilityBin:
    """The frames whose confidence is in one of 15 equal bins."""

    confidence: float  # mean
    accuracy: float
    frames: int

    def __post_init__(self) -> None:
        require_shares(confidence=self.confidence, accuracy=self.accuracy)
        require(self.frames > 0, "frames", self.frames, "at least 1")

    def to_json(self) -> dict[str, float]:
        """The values by the names of the fields."""
        return asdict(self)


@dataclass(frozen=True)
class FalseAlarms:
    """Shares of judged frames, and of clips by the device's rule, that are taken for none of the classes."""

    frames: float
    groups: float

    def __post_init__(self) -> None:
        require_shares(frames=self.frames, groups=self.groups)

    def to_json(self) -> dict[str, float]:
        """The shares by the names of the fields."""
        return asdict(self)


@dataclass(frozen=True)
class RecognisedClips:
    """The clips of one left-out class, or of all of them."""

    clips: int
    recognised: int  # taken for none of the other classes

    def __post_init__(self) -> None:
        require(0 <= self.recognised <= self.clips, "recognised", self.recognised, f"0 to {self.clips}")


@dataclass(frozen=True)
class LeftOutClasses:
    """How many clips of left-out classes were recognised as none of the other classes."""

    per_class: Mapping[str, RecognisedClips]  # of the classes that were left out

    def to_json(self) -> dict[str, Any]:
        """The sums, and the counts of each class."""
        counts = list(self.per_class.values())
        return {
            "clips": sum(count.clips for count in counts),
            "recognised": sum(count.recognised for count in counts),
            "per_class": {name: asdict(count) for name, count in self.per_class.items()},
        }


@dataclass(frozen=True)
class CalibrationNumbers:
    """The shipped temperature and thresholds, and what those of the judging heads do to the judged frames."""

    temperature: ValueOrReason[float]
    unknown: ValueOrReason[UnknownThresholds]
    false_alarms: ValueOrReason[FalseAlarms]
    left_out_classes: ValueOrReason[LeftOutClasses]
    errors_before: ProbabilityErrors  # at temperature 1
    reliability: Sequence[ReliabilityBin]  # at the fitted temperature, as every other number of the report
    reliability_before: Sequence[ReliabilityBin]  # at temperature 1

    def to_json(self) -> dict[str, Any]:
        """The entries of the report."""
        return {
            **self.temperature.to_json("temperature"),
            "unknown": None if self.unknown.value is None else asdict(self.unknown.value),
            "unknown_reason": self.unknown.reason,
            **self.false_alarms.to_json("unknown_false_alarms"),
            **self.left_out_classes.to_json("left_out_classes"),
            "uncalibrated": self.errors_before.to_json(),
            "reliability": {
                "calibrated": [of_bin.to_json() for of_bin in self.reliability],
                "uncalibrated": [of_bin.to_json() for of_bin in self.reliability_before],
            },
        }


@dataclass(frozen=True)
class Baselines:
    """The accuracies of two rules that need no training."""

    majority: float  # always the commonest class of the training frames
    knn: ValueOrReason[float]  # the class of the nearest training frames, by the pretrained features
    trained_against_knn: ValueOrReason[PairedTest]  # over the judged clips

    def __post_init__(self) -> None:
        require_shares(baseline_majority=self.majority)
        if self.knn.value is not None:
            require_shares(baseline_knn=self.knn.value)

    def to_json(self) -> dict[str, Any]:
        """The entries of the report."""
        return {
            "baseline_majority": self.majority,
            **self.knn.to_json("baseline_knn"),
            **self.trained_against_knn.to_json("trained_against_knn"),
        }


@dataclass(frozen=True)
class Counterfactual:
    """The accuracy that a careless shuffle of all frames would have claimed, against that on whole groups."""

    shuffled: float  # share of frames right where frames are shuffled, mean over the seeds
    grouped: float  # the same where groups are kept whole
    difference: float  # the first less the second
    spread: float  # largest less smallest difference of a seed
    n_frames: int
    n_groups: int
    n_folds: int
    n_seeds: int

    def __post_init__(self) -> None:
        require_shares(shuffled=self.shuffled, grouped=self.grouped)
        expected = self.shuffled - self.grouped
        require(abs(self.difference - expected) <= ROUNDING, "difference", self.difference, expected)
        require(self.spread >= 0, "spread", self.spread, "0 or more")

    def to_json(self) -> dict[str, Any]:
        """The values by the names of the fields, with a sentence that says the two shares."""
        sentence = f"a careless shuffle would have claimed {self.shuffled:.1%}; on new clips expect {self.grouped:.1%}"
        return {**asdict(self), "sentence": sentence}


@dataclass(frozen=True)
class Evaluation:
    """All of `reports/evaluate.json`."""

    classes: Sequence[str]
    frames: FrameNumbers  # of the held-out frames that screening kept
    top1_all_frames: float  # share of all held-out frames right, screened-out ones included
    top1_interval: ValueOrReason[Interval]  # of frames.top1, by resampling whole groups
    groups: GroupNumbers
    how: HowJudged
    as_device: ClipAnswers
    film_more: FilmMore
    too_few: str | None  # says that the clips are too few to tell; None where they are not
    roc_auc: Areas
    average_precision: Areas
    per_class: Mapping[str, ClassNumbers]
    confusion: Sequence[Sequence[int]]  # frames: a row per true class, a column per predicted class
    confusion_normalised: Sequence[Sequence[float]]  # shares of the row
    calibration: CalibrationNumbers
    baselines: Baselines
    protocol: str  # how the split was made
    optimistic: str | None  # the known reasons why the numbers flatter the network
    counterfactual: ValueOrReason[Counterfactual]
    checkpoint_sha256: str

    def __post_init__(self) -> None:
        require_shares(top1_all_frames=self.top1_all_frames)
        self._check_classes()
        self._check_sums()

    def _check_classes(self) -> None:
        expected = list(self.classes)
        for name in ("per_class", "roc_auc", "average_precision"):
            value = getattr(self, name)
            names = list(value.per_class if isinstance(value, Areas) else value)
            require(names == expected, name, names, expected)
        sizes = {len(self.confusion), *(len(row) for row in self.confusion)}
        require(sizes == {len(expected)}, "confusion", f"sizes {sizes}", f"{len(expected)} rows and columns")

    def _check_sums(self) -> None:
        of_class = self.per_class.values()
        n_frames, groups = self.frames.n_frames, self.groups
        n_right = sum(row[index] for index, row in enumerate(self.confusion))
        require_sum("support", (numbers.frames.support for numbers in of_class), n_frames)
        require_sum("confusion", (count for row in self.confusion for count in row), n_frames)
        require(abs(n_right / n_frames - self.frames.top1) <= ROUNDING, "top1", self.frames.top1, n_right / n_frames)
        require_sum("groups", (numbers.groups.groups for numbers in of_class), groups.n_groups)
        require_sum("groups_right", (numbers.groups.groups_right for numbers in of_class), groups.groups_right)
        for bins in (self.calibration.reliability, self.calibration.reliability_before):
            require_sum("reliability", (of_bin.frames for of_bin in bins), n_frames)

    @property
    def auc(self) -> ValueOrReason[float]:
        """The mean area under the ROC curves of the classes."""
        macro = self.roc_auc.macro
        return ValueOrReason(macro, "a class has no held-out frame" if macro is None else None)

    @property
    def headline(self) -> str:
        """One line that begins with the clips and their interval, since that is what a new clip will see."""
        device, interval = self.as_device, self.as_device.interval
        caveat = f"; optimistic: {self.optimistic}" if self.optimistic else ""
        out_of_fold = " out of fold" if self.how.estimate == "folds" else ""
        refused = f", {device.refused} refused" if device.refused else ""
        return (
            f"{device.right} of {device.n_clips} {self._clips} right{out_of_fold}{refused} "
            f"(95 % interval {interval.low:.0%} to {interval.high:.0%}), "
            f"{self.frames.top1:.1%} of {self.frames.n_frames} frames{caveat}; reports/evaluate.json"
        )

    @property
    def _clips(self) -> str:
        if self.how.estimate == "folds":
            return "clips"
        return "clips with held-out frames" if self.protocol in DIVIDING_PROTOCOLS else "held-out clips"

    def to_json(self) -> dict[str, Any]:
        """The report; a value that is not known is null, and `<key>_reason` says why."""
        return {
            "n_frames": self.frames.n_frames,
            **self.groups.to_json(),
            **self.how.to_json(),
            "as_device": self.as_device.to_json(),
            "film_more": self.film_more.to_json(),
            "too_few": self.too_few,
            "top1": self.frames.top1,
            "top1_all_frames": self.top1_all_frames,
            **self.top1_interval.to_json("top1_ci95"),
            "top5": self.frames.top5.value,
            "balanced_accuracy": self.frames.balanced_accuracy,
            "macro_f1": self.frames.macro_f1,
            **self.frames.errors.to_json(),
            "top5_reason": self.frames.top5.reason,
            **self.auc.to_json("auc"),
            "roc_auc": self.roc_auc.to_json(),
            "average_precision": self.average_precision.to_json(),
            "per_class": {name: numbers.to_json() for name, numbers in self.per_class.items()},
            "confusion": self.confusion,
            "confusion_normalised": self.confusion_normalised,
            "classes": list(self.classes),
            **self.calibration.to_json(),
            **self.baselines.to_json(),
            "protocol": self.protocol,
            "optimistic": self.optimistic,
            **self.counterfactual.to_json("counterfactual"),
            "checkpoint_sha256": self.checkpoint_sha256,
        }
