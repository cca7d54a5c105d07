"""The contract between a bundle and the device: inputs, outputs, preprocessing and graphs.

Both sides use this definition: `export/` writes `contract.json` with `Contract.to_json`, and the device reads it with
`Contract.read`. A value that is not known is null, and the key beside it holds the reason.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from runtime import schema
from runtime.errors import ContractError

Channels = tuple[float, float, float]

METADATA_VERSION = "contract_version"  # keys of a graph's metadata
METADATA_SHA256 = "contract_sha256"
METADATA_CLASSES = "class_names"


@dataclass(frozen=True)
class ImageInput:
    """The input of `model.onnx`: pictures, (batch, height, width, 3)."""

    name: Literal["image"] = "image"
    dtype: Literal["uint8"] = "uint8"
    layout: Literal["NHWC"] = "NHWC"
    channels: Literal["RGB"] = "RGB"


@dataclass(frozen=True)
class CoreInput:
    """The input of `core.onnx`: preprocessed pictures, (batch, 3, size, size)."""

    name: Literal["input"] = "input"
    dtype: Literal["float32"] = "float32"
    layout: Literal["NCHW"] = "NCHW"


@dataclass(frozen=True)
class LogitsOutput:
    """The output of every graph: (batch, classes)."""

    name: Literal["logits"] = "logits"
    dtype: Literal["float32"] = "float32"
    layout: Literal["NC"] = "NC"


@dataclass(frozen=True)
class Geometry:
    """The part of a picture that the graph uses, and the square that it resizes this part to."""

    crop: Literal["squash", "center"]  # the whole picture, or its central square
    center_fraction: float  # for center: the square's side as a share of the shorter side
    size: int  # side of the network's input, pixels
    interpolation: Literal["bilinear"] = "bilinear"
    antialias: Literal[True] = True

    def __post_init__(self) -> None:
        _require(0 < self.center_fraction <= 1, "center_fraction", self.center_fraction, "above 0, at most 1")
        _require(1 <= self.size <= 8192, "size", self.size, "1 to 8192")


@dataclass(frozen=True)
class Variant:
    """One graph that passed its gate."""

    name: str  # such as fp32
    file: str  # name in the folder of the graphs
    sha256: str
    precision: str
    bytes: int
    golden_tolerance: float  # how far a device's logits may differ, as a share of the golden logits' range
    unknown_threshold: float | None  # a picture whose score is lower shows none of the classes
    unknown_threshold_clip: float | None  # the same for the mean score of a clip; None in versions 1 and 2

    def __post_init__(self) -> None:
        _require(bool(_NAME.fullmatch(self.name)), "name", self.name, "a short name of a-z, 0-9 and _")
        _require(bool(_FILE.fullmatch(self.file)), "file", self.file, "a plain file name that ends in .onnx")
        _require(bool(_SHA256.fullmatch(self.sha256)), "sha256", self.sha256, "64 hex digits")
        _require(bool(_NAME.fullmatch(self.precision)), "precision", self.precision, "a short name of a-z, 0-9 and _")
        _require(self.bytes > 0, "bytes", self.bytes, "above 0")
        _require(0 < self.golden_tolerance < 1, "golden_tolerance", self.golden_tolerance, "between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The whole of `contract.json`; the fields are its keys, in order."""

    format_version: Literal[1, 2, 3] = 3  # 1 has no timed_on and no sample_bits; 1 and 2 have one threshold for all
    classes: tuple[str, ...]  # in the order of the logits
    input: ImageInput = ImageInput()
    core_input: CoreInput = CoreInput()
    output: LogitsOutput = LogitsOutput()
    geometry: Geometry
    mean: Channels  # of pixels in [0, 1], RGB
    std: Channels
    opset: int
    temperature: float | None  # divides the logits before the softmax; None counts as 1
    temperature_reason: str | None  # why there is no temperature
    unknown_score: Literal["known_score", "largest_logit"] | None  # what the thresholds of the variants are for
    unknown_score_reason: str | None  # why there are no thresholds
    unknown_false_alarms: float | None  # the share of pictures and clips of these classes that fall below, about
    max_pixels: int  # width times height of a picture
    max_aspect: float  # longer side divided by shorter side
    sample_bits: int | None  # how many bits of 16 count in pictures that do not say so themselves; None for all
    providers: tuple[str, ...]  # onnxruntime's names, in the order in which they are tried
    allow_fallback: bool  # whether a later provider may answer when the first one does not load
    variants: tuple[Variant, ...]
    recommended: str  # the best by verdict and by time on `timed_on`
    timed_on: str | None  # the processor on which the variants were timed; None in version 1, which did not tell

    def __post_init__(self) -> None:
        _require_names("classes", self.classes, 2)
        for name in self.classes:
            bad = not name.strip() or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
            _require(not bad, "classes", name, "names without control characters")
        _require(min(self.std) > 0, "std", self.std, "above 0")
        _require(18 <= self.opset <= 100, "opset", self.opset, "18 or above")
        _require(self.temperature is None or self.temperature > 0, "temperature", self.temperature, "above 0")
        _require_reason("temperature", self.temperature, self.temperature_reason)
        _require_reason("unknown_score", self.unknown_score, self.unknown_score_reason)
        self._check_thresholds()
        _require(0 < self.max_pixels <= 10**10, "max_pixels", self.max_pixels, "above 0")
        _require(self.max_aspect >= 1, "max_aspect", self.max_aspect, "1 or above")
        _require(self.sample_bits is None or 9 <= self.sample_bits <= 16, "sample_bits", self.sample_bits, "9 to 16")
        _require_names("providers", self.providers, 1)
        _require_names("variants", tuple(variant.name for variant in self.variants), 1)
        _require_names("variants", tuple(variant.file for variant in self.variants), 1)
        _require((self.timed_on is None) == (self.format_version == 1), "timed_on", self.timed_on, "a processor's name")
        _require(self.timed_on is None or bool(self.timed_on.strip()), "timed_on", self.timed_on, "a processor's name")
        self.variant(self.recommended)

    def _check_thresholds(self) -> None:
        has_score, is_current = self.unknown_score is not None, self.format_version >= _THRESHOLDS_BY_VARIANT
        rate = self.unknown_false_alarms
        _require((rate is not None) == (has_score and is_current), "unknown_false_alarms", rate, "a share with a score")
        _require(rate is None or 0 < rate < 1, "unknown_false_alarms", rate, "between 0 and 1")
        for variant in self.variants:
            for key, is_expected in (
                ("unknown_threshold", has_score),
                ("unknown_threshold_clip", has_score and is_current),
            ):
                value = getattr(variant, key)
                expected = "a number" if is_expected else "null"
                _require((value is not None) == is_expected, f"variants.{variant.name}.{key}", value, expected)

    @classmethod
    def read(cls, path: Path) -> Contract:
        """Read and check `contract.json`, of this version or an earlier one.

        Raises:
            ContractError: the file is missing, or a key is missing, unknown, of another type or out of range.
        """
        try:
            return schema.parse(cls, _in_current_form(schema.load_json(path)))
        except ValueError as error:
            raise ContractError(f"{path}: {error}; expected a contract as `pipe export` writes it") from error

    def to_json(self) -> dict[str, Any]:
        """Return plain values to write as `contract.json`, checked by the reader's own rules.

        Raises:
            ValueError: a value is not of the type that the reader expects.
        """
        # The parser turns an int into a float where a float belongs, so the hash is the one that the reader computes.
        values: dict[str, Any] = schema.to_json(schema.parse(Contract, schema.to_json(self)))
        return _in_form_of(self.format_version, values)

    def interface_sha256(self) -> str:
        """Return the sha256 of everything but the variants and the choice among them, in hex.

        A graph carries this digest. It cannot carry one of the whole contract, which holds the graph's own hash.
        """
        interface = {key: value for key, value in self.to_json().items() if key not in _ABOUT_VARIANTS}
        text = json.dumps(interface, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def metadata(self) -> dict[str, str]:
        """Return the metadata that every graph of this contract carries."""
        return {
            METADATA_VERSION: str(self.format_version),
            METADATA_SHA256: self.interface_sha256(),
            METADATA_CLASSES: json.dumps(self.classes, ensure_ascii=False),
        }

    def variant(self, name: str) -> Variant:
        """Return the variant of a name.

        Raises:
            ValueError: there is no such variant; the message names the existing ones.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise ValueError(f"variant {name!r}: unknown; expected {', '.join(variant.name for variant in self.variants)}")


_SINCE_VERSION_2 = ("timed_on", "sample_bits")
_THRESHOLDS_BY_VARIANT = 3  # since this version
_OF_SCORE = ("unknown_score", "unknown_score_reason", "unknown_false_alarms")
_OF_VARIANT = ("unknown_threshold", "unknown_threshold_clip")
_BEFORE_VERSION_3 = ("unknown_threshold", "unknown_threshold_reason")
_ABOUT_VARIANTS = ("variants", "recommended", "timed_on")


def _in_current_form(values: Any) -> Any:
    """Return a contract's JSON with the keys of the current version.

    Raises:
        ValueError: an earlier version has a key of a later one, or lacks one of its own.
    """
    version = values.get("format_version") if isinstance(values, dict) else None
    if type(version) is not int or version not in (1, 2):
        return values
    newer = [*(_SINCE_VERSION_2 if version == 1 else ()), *_OF_SCORE]
    _refuse_keys(values, newer, version, "")
    current = {key: value for key, value in values.items() if key not in _BEFORE_VERSION_3}
    if version == 1:
        current |= dict.fromkeys(_SINCE_VERSION_2)
    for key in _BEFORE_VERSION_3:
        if key not in values:
            raise ValueError(f"{key}: missing")
    threshold, reason = (values[key] for key in _BEFORE_VERSION_3)
    current |= {
        "unknown_score": None if threshold is None else "largest_logit",
        "unknown_score_reason": reason,
        "unknown_false_alarms": None,
    }
    if isinstance(values.get("variants"), list):
        current["variants"] = [_variant_in_current_form(variant, threshold, version) for variant in values["variants"]]
    return current


def _variant_in_current_form(variant: Any, threshold: Any, version: int) -> Any:
    if not isinstance(variant, dict):
        return variant
    _refuse_keys(variant, _OF_VARIANT, version, "variants.")
    return {**variant, "unknown_threshold": threshold, "unknown_threshold_clip": None}


def _refuse_keys(values: Mapping[str, Any], keys: Sequence[str], version: int, before: str) -> None:
    for key in keys:
        if key in values:
            raise ValueError(f"{before}{key}: unknown key in version {version}")


def _in_form_of(version: int, values: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON of an earlier version from the keys of the current one, so that its hash stays the same."""
    if version >= _THRESHOLDS_BY_VARIANT:
        return values
    earlier = {key: value for key, value in values.items() if key not in _OF_SCORE}
    earlier["unknown_threshold"] = values["variants"][0]["unknown_threshold"]
    earlier["unknown_threshold_reason"] = values["unknown_score_reason"]
    earlier["variants"] = [
        {key: value for key, value in variant.items() if key not in _OF_VARIANT} for variant in values["variants"]
    ]
    if version == 1:
        for key in _SINCE_VERSION_2:
            del earlier[key]
    return earlier


_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,31}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.onnx")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def _require(holds: bool, key: str, value: object, expected: str) -> None:
    if not holds:
        raise ValueError(f"{key}: found {str(value)[:80]!r}; expected {expected}")


def _require_names(key: str, names: tuple[str, ...], at_least: int) -> None:
    _require(len(names) >= at_least, key, names, f"at least {at_least}")
    _require(len(set(names)) == len(names) and all(names), key, names, "names that differ and are not empty")


def _require_reason(key: str, value: object, reason: str | None) -> None:
    _require((value is None) == bool(reason), f"{key}_reason", reason, "a reason where the value is null, else null")
