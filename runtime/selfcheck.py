"""Check that this device computes what the bundle promised: every file's hash, then every variant on every provider."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.archive import bundle_id, verify
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
    """The result of one variant on the golden pictures, on one provider."""

    variant: str
    provider: str
    passed: bool
    reason: str | None  # why the check failed; None if it passed
    placement: Placement  # which provider ran the nodes
    max_abs_logit_difference: float  # from the bundle's golden logits
    allowed_logit_difference: float
    labels_agree: int  # number of samples with the golden label, of `n_samples`
    median_ms: float  # one picture, from pixels to a label


@dataclass(frozen=True)
class DecoderCheck:
    """How this device's image decoder differs from the one where the bundle was built.

    A difference is reported and never fails the check.
    """

    sample: str
    max_abs_pixel_difference: int | None  # of 255; None if the file cannot be compared
    label_agrees: bool | None
    remark: str | None


@dataclass(frozen=True)
class Selfcheck:
    """The result of `python -m runtime selfcheck`."""

    passed: bool
    bundle_id: str | None  # as `info` prints it
    n_files: int  # files whose hashes are right
    n_samples: int
    variants: tuple[VariantCheck, ...]
    not_used: dict[str, str]  # provider to reason: those of the contract that do not load here
    decoder: tuple[DecoderCheck, ...]


def selfcheck(folder: Path) -> Selfcheck:
    """Check an unpacked bundle on this device.

    Raises:
        BundleError: a file is missing, changed or not listed, or the golden pictures are invalid.
        ContractError: the contract is invalid, or a graph disagrees with it.
        ProviderError: no provider that the contract allows loads here.
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
        bundle_id=bundle_id(folder),
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
    """Check every variant on every provider that may answer; also return why the other providers do not load.

    Raises:
        ProviderError: no provider that may answer loads. Without fallback only the first one may.
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
    logits = np.concatenate([classifier.logits(picture[np.newaxis]) for picture in pictures]).astype(np.float64)
    placement = read_placement(classifier.end_profile())
    difference = float(np.abs(logits - expected).max())
    allowed = variant.golden_tolerance * float(np.ptp(expected))
    agree = int((logits.argmax(1) == expected.argmax(1)).sum())
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
    class_index, expected = (classifier.logits(pixels[np.newaxis]).argmax() for pixels in (decoded_hwc, expected_hwc))
    return DecoderCheck(sample.name, difference, bool(class_index == expected), None)
