"""Does this device compute what was promised? Every file's hash, then every variant on the golden pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.archive import verify
from runtime.bench import measure
from runtime.classifier import CONTRACT, Classifier
from runtime.contract import Contract
from runtime.errors import ImageError
from runtime.golden import GOLDEN, Golden, Sample, read_pixels

_LATENCY_ROUNDS = 5


@dataclass(frozen=True)
class VariantCheck:
    """One variant on the golden pictures."""

    variant: str
    passed: bool
    reason: str | None  # why it did not
    providers: tuple[str, ...]  # that really loaded
    max_abs_logit_difference: float  # to the logits that travelled with the bundle
    allowed_logit_difference: float
    labels_agree: int  # of `n_samples`
    median_ms: float  # one picture, from pixels to a label


@dataclass(frozen=True)
class DecoderCheck:
    """How this device's image decoder differs from the one where the bundle was built. Told, never failed."""

    sample: str
    max_abs_pixel_difference: int | None  # of 255; None where the file cannot be compared
    label_agrees: bool | None
    remark: str | None


@dataclass(frozen=True)
class Selfcheck:
    """What `python -m runtime selfcheck` found."""

    passed: bool
    n_files: int  # whose hashes are right
    n_samples: int
    variants: tuple[VariantCheck, ...]
    decoder: tuple[DecoderCheck, ...]


def selfcheck(folder: Path) -> Selfcheck:
    """Check an unpacked bundle on this device.

    Raises:
        BundleError: a file is missing, changed or not listed, or the golden pictures do not hold together.
        ContractError: the contract or a graph does not hold together.
        DeviceError: onnxruntime cannot be used.
    """
    n_files = verify(folder)
    contract = Contract.read(folder / CONTRACT)
    golden = Golden.read(folder / GOLDEN)
    pictures = [read_pixels(folder / GOLDEN, sample) for sample in golden.samples]
    checks = tuple(_check_variant(Classifier.load(folder, each.name), golden, pictures) for each in contract.variants)
    classifier = Classifier.load(folder)
    return Selfcheck(
        passed=all(check.passed for check in checks),
        n_files=n_files,
        n_samples=len(golden.samples),
        variants=checks,
        decoder=tuple(
            _check_decoder(classifier, folder / GOLDEN, sample, picture)
            for sample, picture in zip(golden.samples, pictures, strict=True)
        ),
    )


def _check_variant(classifier: Classifier, golden: Golden, pictures: list[NDArray[np.uint8]]) -> VariantCheck:
    variant = classifier.variant
    expected = golden.expected(variant.name, len(classifier.contract.classes))
    found = np.concatenate([classifier.logits(picture[np.newaxis]) for picture in pictures]).astype(np.float64)
    difference = float(np.abs(found - expected).max())
    allowed = variant.golden_tolerance * float(np.ptp(expected))
    agree = int((found.argmax(1) == expected.argmax(1)).sum())
    reason = None
    if difference > allowed:
        reason = f"logits differ by {difference:.3g}; expected at most {allowed:.3g}"
    elif agree < len(pictures):
        reason = f"{len(pictures) - agree} of {len(pictures)} labels differ; expected none"
    return VariantCheck(
        variant=variant.name,
        passed=reason is None,
        reason=reason,
        providers=classifier.providers,
        max_abs_logit_difference=difference,
        allowed_logit_difference=allowed,
        labels_agree=agree,
        median_ms=measure(classifier.classify, pictures, _LATENCY_ROUNDS).median_ms,
    )


def _check_decoder(
    classifier: Classifier, folder: Path, sample: Sample, expected_hwc: NDArray[np.uint8]
) -> DecoderCheck:
    try:
        decoded_hwc = classifier.read(folder / sample.image)
    except ImageError as error:
        return DecoderCheck(sample.name, None, None, str(error))
    if decoded_hwc.shape != expected_hwc.shape:
        remark = f"decodes to {decoded_hwc.shape}; expected {expected_hwc.shape}"
        return DecoderCheck(sample.name, None, None, remark)
    difference = int(np.abs(decoded_hwc.astype(np.int16) - expected_hwc).max())
    found, expected = (classifier.logits(each[np.newaxis]).argmax() for each in (decoded_hwc, expected_hwc))
    return DecoderCheck(sample.name, difference, bool(found == expected), None)
