"""Check that this device computes what the bundle promised: versions, every file's hash, and every variant's logits.

The recommended variant and the decoder of pictures decide. Other variants that fail are named.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.answers import KNOWN_SCORE, ROUNDING_OF_SCORES, SCORE_RANGE, joined
from runtime.archive import bundle_id, verify
from runtime.bench import measure
from runtime.classifier import CONTRACT, Classifier
from runtime.contract import Contract, Variant
from runtime.errors import DeviceError, ImageError, ProviderError
from runtime.golden import GOLDEN, Golden, Sample, read_pixels
from runtime.images import read_image
from runtime.placement import Placement, read_placement
from runtime.requirements import check_versions
from runtime.session import Opening
from runtime.system.scratch import scratch_folder

_LATENCY_ROUNDS = 5


@dataclass(frozen=True)
class VariantCheck:
    """The result of one variant on the golden pictures, on one provider."""

    variant: str
    provider: str
    passed: bool
    reason: str | None  # why the check failed; None if it passed
    allowed_logit_difference: float
    # Null where the variant could not be opened or gave no logits; then the reason says so.
    placement: Placement | None = None  # which provider ran the nodes
    max_abs_logit_difference: float | None = None  # from the bundle's golden logits
    labels_agree: int | None = None  # number of samples with the golden label, of `n_samples`
    median_ms: float | None = None  # one picture, from pixels to a label


@dataclass(frozen=True)
class DecoderCheck:
    """How this device's image decoder differs from the one where the bundle was built.

    A difference is reported and never fails the check. A decoder that reads none of the files does.
    """

    sample: str
    max_abs_pixel_difference: int | None  # of 255; None if the file cannot be compared
    label_agrees: bool | None  # None if the file cannot be compared, or no variant holds
    remark: str | None


@dataclass(frozen=True)
class Selfcheck:
    """The result of `python -m runtime selfcheck`."""

    passed: bool  # the recommended variant holds on every provider that may answer, and the decoder reads pictures
    bundle_id: str | None  # as `info` prints it
    n_files: int  # files whose hashes are right
    n_samples: int
    recommended: str  # name of the variant that is used unless another is asked for
    holding: tuple[str, ...]  # names of the variants that passed on every provider, in the contract's order
    variants: tuple[VariantCheck, ...]
    not_used: dict[str, str]  # provider to reason: those of the contract that do not load here
    decoder: tuple[DecoderCheck, ...]
    decoder_reason: str | None  # why the decoder fails the check; None if it reads pictures

    def failures(self, variant: str) -> tuple[VariantCheck, ...]:
        """Return the checks of a variant that failed, one for each provider."""
        return tuple(check for check in self.variants if check.variant == variant and not check.passed)


def selfcheck(folder: Path) -> Selfcheck:
    """Check an unpacked bundle on this device.

    Raises:
        BundleError: a file is missing, changed or not listed, or the golden pictures are invalid.
        ContractError: the contract is invalid, or a graph disagrees with it.
        ProviderError: no provider that the contract allows loads here.
        DeviceError: a package is missing or too old.
    """
    check_versions()
    n_files = verify(folder)
    contract = Contract.read(folder / CONTRACT)
    golden = Golden.read(folder / GOLDEN)
    pictures = [read_pixels(folder / GOLDEN, sample) for sample in golden.samples]
    checks, not_used = _check_variants(folder, contract, golden, pictures)
    failed = {check.variant for check in checks if not check.passed}
    holding = tuple(variant.name for variant in contract.variants if variant.name not in failed)
    decoder = _check_decoder(folder, contract, golden, pictures, holding)
    decoder_reason = _reason_against(decoder)
    return Selfcheck(
        passed=contract.recommended in holding and decoder_reason is None,
        bundle_id=bundle_id(folder),
        n_files=n_files,
        n_samples=len(golden.samples),
        recommended=contract.recommended,
        holding=holding,
        variants=checks,
        not_used=not_used,
        decoder=decoder,
        decoder_reason=decoder_reason,
    )


def _check_variants(
    folder: Path, contract: Contract, golden: Golden, pictures: list[NDArray[np.uint8]]
) -> tuple[tuple[VariantCheck, ...], dict[str, str]]:
    """Check every variant on every provider that may answer; also return why the other providers do not load.

    Raises:
        ProviderError: no provider that may answer loads. Without fallback only the first one may.
    """
    checks: list[VariantCheck] = []
    refused: dict[str, dict[str, ProviderError]] = {}  # by variant and provider
    allowed = contract.providers if contract.allow_fallback else contract.providers[:1]
    for variant in contract.variants:
        for provider in allowed:
            with scratch_folder("selfcheck") as profiles:
                opening = Opening(provider=provider, profile=profiles / "profile")
                try:
                    classifier = Classifier.load(folder, variant.name, opening)
                except ProviderError as error:
                    refused.setdefault(variant.name, {})[provider] = error
                    continue
                checks.append(_check_variant(classifier, provider, golden, pictures))
    if not checks:
        raise refused[contract.variants[-1].name][allowed[-1]]
    not_used = {provider: str(error) for errors in refused.values() for provider, error in errors.items()}
    working = [provider for provider in allowed if provider in {check.provider for check in checks}]
    answered = {check.variant for check in checks}
    for variant in contract.variants:
        if variant.name in answered:
            continue
        # Other graphs open where this one does not, so the graph is at fault and not the provider.
        expected = golden.expected(variant.name, len(contract.classes))
        reason = str(refused[variant.name][working[0]])
        checks.append(_failed(variant, working[0], expected, reason))
        not_used = {provider: reason for provider, reason in not_used.items() if provider not in working}
    return tuple(checks), not_used


def _failed(variant: Variant, provider: str, expected: NDArray[np.float64], reason: str) -> VariantCheck:
    """Return the check of a variant that gave no logits."""
    return VariantCheck(
        variant=variant.name,
        provider=provider,
        passed=False,
        reason=reason,
        allowed_logit_difference=_allowed(variant, expected),
    )


def _allowed(variant: Variant, expected: NDArray[np.float64]) -> float:
    return variant.golden_tolerance * float(np.ptp(expected))


def _check_variant(
    classifier: Classifier, provider: str, golden: Golden, pictures: list[NDArray[np.uint8]]
) -> VariantCheck:
    variant = classifier.variant
    expected = golden.expected(variant.name, len(classifier.contract.classes))
    try:
        answers = joined([classifier.answers(picture[np.newaxis]) for picture in pictures])
    except ImageError:  # a golden picture is outside the contract's bounds; no variant could answer
        raise
    except DeviceError as error:
        classifier.end_profile()
        return _failed(variant, provider, expected, str(error))
    placement = read_placement(classifier.end_profile())
    logits = answers.logits.astype(np.float64)
    difference, allowed = float(np.abs(logits - expected).max()), _allowed(variant, expected)
    agree = int((logits.argmax(1) == expected.argmax(1)).sum())
    reason = None
    if difference > allowed:
        reason = f"logits differ by {difference:.3g}; expected at most {allowed:.3g}"
    elif agree < len(pictures):
        reason = f"{len(pictures) - agree} of {len(pictures)} labels differ; expected none"
    elif classifier.contract.unknown_score == KNOWN_SCORE:
        reason = _reason_against_scores(answers.scores, golden.expected_scores(variant.name), variant)
    if reason is None and not placement.nodes_on(provider):
        reason = f"none of {placement.n_nodes} nodes ran on it; expected at least one"
    return VariantCheck(
        variant=variant.name,
        provider=provider,
        passed=reason is None,
        reason=reason,
        allowed_logit_difference=allowed,
        placement=placement,
        max_abs_logit_difference=difference,
        labels_agree=agree,
        median_ms=measure(classifier.classify, pictures, _LATENCY_ROUNDS).median_ms,
    )


def _reason_against_scores(scores: NDArray[np.float32], expected: NDArray[np.float64], variant: Variant) -> str | None:
    """Judge the known scores by the same share of their range as the logits, and not below their rounding."""
    allowed = max(variant.golden_tolerance * SCORE_RANGE, ROUNDING_OF_SCORES)
    difference = float(np.abs(scores - expected).max())
    return f"scores differ by {difference:.3g}; expected at most {allowed:.3g}" if difference > allowed else None


def _check_decoder(
    folder: Path,
    contract: Contract,
    golden: Golden,
    pictures: list[NDArray[np.uint8]],
    holding: tuple[str, ...],
) -> tuple[DecoderCheck, ...]:
    """Decode every golden picture; compare pixels, and labels where a variant holds."""
    classifier = None
    if holding:
        classifier = Classifier.load(folder, contract.recommended if contract.recommended in holding else holding[0])
    return tuple(
        _check_decoded(classifier, folder / GOLDEN / sample.image, sample, pixels_hwc, contract.max_pixels)
        for sample, pixels_hwc in zip(golden.samples, pictures, strict=True)
    )


def _check_decoded(
    classifier: Classifier | None, path: Path, sample: Sample, expected_hwc: NDArray[np.uint8], max_pixels: int
) -> DecoderCheck:
    try:
        decoded_hwc = read_image(path, max_pixels=max_pixels)
    except ImageError as error:
        return DecoderCheck(sample.name, None, None, str(error))
    if decoded_hwc.shape != expected_hwc.shape:
        remark = f"decodes to {decoded_hwc.shape}; expected {expected_hwc.shape}"
        return DecoderCheck(sample.name, None, None, remark)
    difference = int(np.abs(decoded_hwc.astype(np.int16) - expected_hwc).max())
    if classifier is None:
        return DecoderCheck(sample.name, difference, None, None)
    class_index, expected = (classifier.logits(pixels[np.newaxis]).argmax() for pixels in (decoded_hwc, expected_hwc))
    return DecoderCheck(sample.name, difference, bool(class_index == expected), None)


def _reason_against(decoder: tuple[DecoderCheck, ...]) -> str | None:
    if any(check.max_abs_pixel_difference is not None for check in decoder):
        return None
    return f"the decoder reads none of {len(decoder)} golden pictures; the first: {decoder[0].remark}"
