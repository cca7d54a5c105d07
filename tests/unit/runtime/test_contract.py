"""contract.json: what is written is read, and every fault is refused."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.contract import Contract
from runtime.errors import ContractError
from tests.support.tiny_bundle import CLASSES, draft_contract, with_thresholds


def written(contract: Contract) -> dict[str, Any]:
    """Return the contract as JSON; the caller may change the values."""
    return copy.deepcopy(contract.to_json())


def read(values: object, tmp_path: Path) -> Contract:
    """Read values as `contract.json`."""
    path = tmp_path / "contract.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")
    return Contract.read(path)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    contract = draft_contract("fp32", "int8")
    assert read(written(contract), tmp_path) == contract
    assert list(written(contract)) == [field.name for field in dataclasses.fields(Contract)]


def test_a_contract_states_every_value_that_the_device_needs() -> None:
    values = written(draft_contract())
    assert values["format_version"] == 3
    assert values["timed_on"] == "Test Processor 1"
    assert values["input"] == {"name": "image", "dtype": "uint8", "layout": "NHWC", "channels": "RGB"}
    assert values["core_input"] == {"name": "input", "dtype": "float32", "layout": "NCHW"}
    assert values["output"] == {"name": "logits", "dtype": "float32", "layout": "NC"}
    assert values["temperature"] is None
    assert values["temperature_reason"] == "not fitted"


def change(*keys: str | int, to: object) -> Callable[[dict[str, Any]], None]:
    """Return a fault that puts a value somewhere into the contract's JSON."""

    def plant(values: Any) -> None:
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = to

    return plant


FAULTS = {
    "format_version": change("format_version", to=4),
    "old version with a newer key": change("format_version", to=1),
    "few bits": change("sample_bits", to=8),
    "many bits": change("sample_bits", to=17),
    "no processor": change("timed_on", to=None),
    "an empty processor": change("timed_on", to=" "),
    "version as a truth": change("format_version", to=True),
    "no class": change("classes", to=[]),
    "one class": change("classes", to=["red"]),
    "a class twice": change("classes", to=["red", "red"]),
    "an empty class": change("classes", to=["red", " "]),
    "a class of two lines": change("classes", to=["red", "gr\neen"]),
    "half a letter": change("classes", to=["red", "\ud800"]),
    "classes as text": change("classes", to="red"),
    "another input": change("input", "dtype", to="float32"),
    "another crop": change("geometry", "crop", to="resize"),
    "size of 0": change("geometry", "size", to=0),
    "size as a float": change("geometry", "size", to=224.0),
    "fraction of 0": change("geometry", "center_fraction", to=0),
    "fraction over 1": change("geometry", "center_fraction", to=1.5),
    "two means": change("mean", to=[0.5, 0.5]),
    "mean of text": change("mean", to=[0.5, 0.5, "0.5"]),
    "std of 0": change("std", to=[0.5, 0.5, 0]),
    "old opset": change("opset", to=17),
    "temperature of 0": change("temperature", to=0.0),
    "temperature and a reason": change("temperature", to=1.5),
    "no temperature, no reason": change("temperature_reason", to=None),
    "a score and a reason": change("unknown_score", to="largest_logit"),
    "a threshold without a score": change("variants", 0, "unknown_threshold", to=1.5),
    "no pixels": change("max_pixels", to=0),
    "pixels as a truth": change("max_pixels", to=True),
    "aspect below 1": change("max_aspect", to=0.5),
    "aspect too long for a float": change("max_aspect", to=10**400),
    "no provider": change("providers", to=[]),
    "fallback as a number": change("allow_fallback", to=1),
    "no variant": change("variants", to=[]),
    "unknown recommendation": change("recommended", to="int8"),
    "file elsewhere": change("variants", 0, "file", to="../model.onnx"),
    "file on a drive": change("variants", 0, "file", to="C:model.onnx"),
    "absolute file": change("variants", 0, "file", to="/model.onnx"),
    "file of two lines": change("variants", 0, "file", to="model.onnx\n"),
    "short hash": change("variants", 0, "sha256", to="abc"),
    "no bytes": change("variants", 0, "bytes", to=0),
    "tolerance of 1": change("variants", 0, "golden_tolerance", to=1.0),
    "unknown key": change("colour", to="red"),
    "unknown key inside": change("variants", 0, "speed", to=1),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_contract_with_a_fault_is_refused_in_one_line(fault: Callable[..., None], tmp_path: Path) -> None:
    values = written(draft_contract())
    fault(values)
    with pytest.raises(ContractError, match=r"contract\.json: ") as caught:
        read(values, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", [field.name for field in dataclasses.fields(Contract)])
def test_every_key_must_be_there(key: str, tmp_path: Path) -> None:
    values = written(draft_contract())
    del values[key]
    with pytest.raises(ContractError, match=f"{key}: missing"):
        read(values, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", '{"a": NaN}', '{"a": -Infinity}', '{"a": 1, "a": 1}', "[" * 100_000,
        json.dumps(draft_contract().to_json()).replace("10.0", "1e999"),
        json.dumps(draft_contract().to_json()).replace("10.0", "NaN"),
    ],
    ids=range(10),
)  # fmt: skip
def test_what_is_not_strict_json_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ContractError):
        read(text, tmp_path)


def test_a_missing_contract_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="No such file"):
        Contract.read(tmp_path / "contract.json")


def test_the_interface_hash_is_blind_to_variants_and_to_nothing_else() -> None:
    contract = draft_contract("fp32", "int8")
    same = dataclasses.replace(contract, variants=contract.variants[1:], recommended="int8", timed_on="Another")
    assert same.interface_sha256() == contract.interface_sha256()
    for changed in (
        dataclasses.replace(contract, classes=(*CLASSES[1:], CLASSES[0])),
        dataclasses.replace(contract, mean=(0.5, 0.5, 0.25)),
        dataclasses.replace(contract, temperature=2.0, temperature_reason=None),
        dataclasses.replace(contract, allow_fallback=False),
    ):
        assert changed.interface_sha256() != contract.interface_sha256()


def test_whole_numbers_hash_like_the_floats_that_they_are_read_as(tmp_path: Path) -> None:
    with_int = dataclasses.replace(draft_contract(), max_aspect=10)
    assert with_int.interface_sha256() == draft_contract().interface_sha256()
    assert read(written(with_int), tmp_path).interface_sha256() == with_int.interface_sha256()


def _of_version(version: int, threshold: float | None) -> dict[str, Any]:
    """A contract as an earlier version wrote it."""
    values = {**written(draft_contract("fp32", "int8")), "format_version": version}
    for key in ("unknown_score", "unknown_score_reason", "unknown_false_alarms"):
        del values[key]
    for variant in values["variants"]:
        del variant["unknown_threshold"], variant["unknown_threshold_clip"]
    if version == 1:
        del values["timed_on"], values["sample_bits"]
    reason = "not fitted" if threshold is None else None
    return {**values, "unknown_threshold": threshold, "unknown_threshold_reason": reason}


@pytest.mark.parametrize("threshold", [None, 1.5])
@pytest.mark.parametrize("version", [1, 2])
def test_a_contract_of_an_earlier_version_is_read_and_stays_what_it_was(
    version: int, threshold: float | None, tmp_path: Path
) -> None:
    values = _of_version(version, threshold)
    contract = read(values, tmp_path)
    assert (contract.timed_on is None, contract.sample_bits) == (version == 1, None)
    for variant in contract.variants:  # one threshold for all graphs, and none for clips
        assert (variant.unknown_threshold, variant.unknown_threshold_clip) == (threshold, None)
    assert contract.unknown_score == (None if threshold is None else "largest_logit")
    assert contract.metadata()["contract_version"] == str(version)
    assert written(contract) == values
    # The hash that the earlier version computed: of all keys but those about variants.
    about_variants = ("variants", "recommended", "timed_on")
    interface = {key: value for key, value in values.items() if key not in about_variants}
    text = json.dumps(interface, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    assert contract.interface_sha256() == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "fault",
    [
        change("unknown_score", to="largest_logit"),
        change("variants", 0, "unknown_threshold", to=1.5),
        change("unknown_threshold", to="1.5"),
        change("unknown_threshold_reason", to=None),
        change("variants", to={}),
        change("variants", 0, to=None),
        lambda values: values.pop("unknown_threshold"),
    ],
)
def test_an_earlier_contract_with_a_fault_is_refused(
    version: int, fault: Callable[[dict[str, Any]], object], tmp_path: Path
) -> None:
    values = _of_version(version, None)
    fault(values)
    with pytest.raises(ContractError, match=r"contract\.json: "):
        read(values, tmp_path)


def test_every_variant_has_thresholds_of_its_own(tmp_path: Path) -> None:
    contract = with_thresholds(draft_contract("fp32", "int8"), 1.5, 2.5)
    values = written(contract)
    values["variants"][1]["unknown_threshold"] = 1.25
    found = read(values, tmp_path)
    assert [variant.unknown_threshold for variant in found.variants] == [1.5, 1.25]
    for fault, message in (
        (change("variants", 1, "unknown_threshold", to=None), "variants.int8.unknown_threshold: found 'None'"),
        (change("variants", 1, "unknown_threshold_clip", to=None), "variants.int8.unknown_threshold_clip"),
        (change("unknown_false_alarms", to=None), "unknown_false_alarms: found 'None'"),
        (change("unknown_false_alarms", to=1.0), "unknown_false_alarms: found '1.0'; expected between 0 and 1"),
        (change("unknown_score", to="another"), "unknown_score: found 'another'"),
    ):
        spoilt = copy.deepcopy(values)
        fault(spoilt)
        with pytest.raises(ContractError, match=message):
            read(spoilt, tmp_path)


def test_an_unknown_variant_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="'fp16': unknown; expected fp32, int8"):
        draft_contract("fp32", "int8").variant("fp16")
