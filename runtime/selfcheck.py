"""Does this device compute what was promised? Every file's hash, then every variant on every provider that loads."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.archive import verify
from runtime.bench import measure
from runtime.classifier import CONTRACT, Classifier
from runtime.contract import Contract
from runtime.errors import ImageError, ProviderError
from runtime.golden import GOLDEN, Golden, Sample, read_pixels
from runtime.placement import Placement, read_placement
from runtime.session import Opening

_LATENCY_ROUNDS = 5


@dataclass(frozen=True)
class VariantCheck:
    """One variant on the golden pictures, on one provider alone."""

    variant: str
    provider: str
    passed: bool
    reason: str | None  # why it did not
    placement: Placement  # where its nodes really ran
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
    not_used: dict[str, str]  # providers of the contract that do not load here, and why; later ones answer
    decoder: tuple[DecoderCheck, ...]


def selfcheck(folder: Path) -> Selfcheck:
    """Check an unpacked bundle on this device.

    Raises:
        BundleError: a file is missing, changed or not listed, or the golden pictures do not hold together.
        ContractError: the contract or a graph does not hold together.
        ProviderError: no provider of the contract may answer here.
        DeviceError: onnxruntime cannot be used.
    """
    n_files = verify(folder)
    contract = Contract.read(folder / CONTRACT)
    golden = Golden.read(folder / GOLDEN)
    pictures = [read_pixels(folder / GOLDEN, sample) for sample in golden.samples]
    checks, not_used = _check_variants(folder, contract, golden, pictures)
    classifier = Classifier.load(folder)
    return Selfcheck(
        passed=all(check.passed for check in checks),
        n_files=n_files,
        n_samples=len(golden.samples),
        variants=checks,
        not_used=not_used,
        decoder=tuple(
            _check_decoder(classifier, folder / GOLDEN, sample, picture)
            for sample, picture in zip(golden.samples, pictures, strict=True)
        ),
    )


def _check_variants(
    folder: Path, contract: Contract, golden: Golden, pictures: list[NDArray[np.uint8]]
) -> tuple[tuple[VariantCheck, ...], dict[str, str]]:
    """Every variant on every provider that may answer; and why the others do not load.

    Raises:
        ProviderError: the contract allows no fallback and its first provider does not load, or none does.
    """
    checks, not_used = [], {}
    allowed = contract.providers if contract.allow_fallback else contract.providers[:1]
    for variant in contract.variants:
        refused = []
        for provider in allowed:
            with tempfile.TemporaryDirectory(prefix="selfcheck-", ignore_cleanup_errors=True) as profiles:
                opening = Opening(provider=provider, profile=Path(profiles) / "profile")
                try:
                    classifier = Classifier.load(folder, variant.name, opening)
                except ProviderError as error:
                    refused.append(error)
                    not_used[provider] = str(error)
                    continue
                checks.append(_check_variant(classifier, provider, golden, pictures))
        if len(refused) == len(allowed):
            raise refused[-1]
    return tuple(checks), not_used


def _check_variant(
    classifier: Classifier, provider: str, golden: Golden, pictures: list[NDArray[np.uint8]]
) -> VariantCheck:
    variant = classifier.variant
    expected = golden.expected(variant.name, len(classifier.contract.classes))
    found = np.concatenate([classifier.logits(picture[np.newaxis]) for picture in pictures]).astype(np.float64)
    placement = read_placement(classifier.end_profile())
    difference = float(np.abs(found - expected).max())
    allowed = variant.golden_tolerance * float(np.ptp(expected))
    agree = int((found.argmax(1) == expected.argmax(1)).sum())
    reason = None
    if difference > allowed:
        reason = f"logits differ by {difference:.3g}; expected at most {allowed:.3g}"
    elif agree < len(pictures):
        reason = f"{len(pictures) - agree} of {len(pictures)} labels differ; expected none"
    elif not placement.nodes_on(provider):
        reason = f"none of {placement.n_nodes} nodes ran on it; expected at least one"
    return VariantCheck(
        variant=variant.name,
        provider=provider,
        passed=reason is None,
        reason=reason,
        placement=placement,
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
