"""The check that a device computes what its bundle promised."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from numpy.typing import NDArray
from PIL import Image

from runtime.answers import Answers
from runtime.classifier import DEFAULT_OPENING, Classifier
from runtime.contract import Contract
from runtime.errors import BundleError, ContractError, DeviceError, ProviderError
from runtime.selfcheck import selfcheck
from runtime.session import Opening
from tests.support.tiny_bundle import CLASSES, colour_graph, rewrite_sums, write_json


def golden(folder: Path) -> dict[str, Any]:
    """Read golden.json; the caller may change the values."""
    values: dict[str, Any] = json.loads((folder / "golden" / "golden.json").read_text(encoding="utf-8"))
    return values


CPU = "CPUExecutionProvider"


def node_run(provider: str, node: str) -> dict[str, Any]:
    """Return one run of a node, as in onnxruntime's profile."""
    return {"cat": "Node", "name": f"{node}_kernel_time", "dur": 5, "args": {"provider": provider, "op_name": "MatMul"}}


def write_json_file(path: Path, value: object) -> Path:
    write_json(path, value)
    return path


def rewrite_golden(folder: Path, values: object) -> None:
    """Replace golden.json, and rewrite the list with its hash."""
    write_json(folder / "golden" / "golden.json", values)
    rewrite_sums(folder)


def test_a_bundle_passes_with_every_variant(pristine: Path) -> None:
    found = selfcheck(pristine)
    assert found.passed
    assert found.n_samples == len(CLASSES)
    assert [check.variant for check in found.variants] == ["fp32", "int8"]
    for check in found.variants:
        assert check.max_abs_logit_difference <= check.allowed_logit_difference
        assert check.labels_agree == len(CLASSES)
        assert check.provider == "CPUExecutionProvider"
        assert check.placement.nodes == {"CPUExecutionProvider": 3}
        assert check.placement.time_shares == {"CPUExecutionProvider": 1.0}
        assert check.median_ms > 0
    assert [check.max_abs_pixel_difference for check in found.decoder] == [0, 0, 0]


def test_a_changed_file_is_found_before_it_is_used(folder: Path) -> None:
    (folder / "golden" / "000.npy").write_bytes(b"no array")
    with pytest.raises(BundleError, match=r"'golden/000\.npy' has been changed"):
        selfcheck(folder)


def test_other_golden_logits_fail_though_their_hash_is_right(folder: Path) -> None:
    values = golden(folder)
    values["logits"]["int8"][1][0] += 0.1
    rewrite_golden(folder, values)
    found = selfcheck(folder)
    assert [check.passed for check in found.variants] == [True, False]
    assert found.variants[1].reason == "logits differ by 0.1; expected at most 0.00395"


def test_other_golden_scores_fail_and_missing_ones_are_named(scored: Path) -> None:
    assert selfcheck(scored).passed
    values = golden(scored)
    values["scores"]["int8"][1] += 0.1
    rewrite_golden(scored, values)
    (failure,) = selfcheck(scored).failures("int8")
    assert failure.reason == "scores differ by 0.1; expected at most 0.02"
    del values["scores"]["int8"]
    rewrite_golden(scored, values)
    with pytest.raises(BundleError, match="no scores of 'int8'"):
        selfcheck(scored)
    values["scores"]["int8"] = [0.0]
    rewrite_golden(scored, values)
    with pytest.raises(BundleError, match=r"scores\.int8: found 1 numbers; expected 3"):
        selfcheck(scored)


def test_the_golden_list_of_an_earlier_bundle_has_no_scores(folder: Path) -> None:
    values = golden(folder)
    del values["scores"]
    rewrite_golden(folder, values)
    assert selfcheck(folder).passed


@pytest.mark.parametrize(("spoiled", "holding"), [(["int8"], ("fp32",)), (["fp32"], ("int8",)), (["fp32", "int8"], ())])
def test_the_recommended_variant_decides_and_each_failure_is_named(
    spoiled: list[str], holding: tuple[str, ...], folder: Path
) -> None:
    values = golden(folder)
    for name in spoiled:
        values["logits"][name][1][0] += 0.1
    rewrite_golden(folder, values)
    found = selfcheck(folder)
    assert (found.recommended, found.passed) == ("fp32", "fp32" not in spoiled)
    assert found.holding == holding
    assert [name for name in ("fp32", "int8") if found.failures(name)] == spoiled
    # Labels are compared by a variant that holds; without one only pixels are.
    assert [check.label_agrees for check in found.decoder] == [True if holding else None] * 3


def test_a_variant_that_gives_no_numbers_fails_and_the_others_are_still_checked(
    pristine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = Classifier.answers

    def overflowing(classifier: Classifier, images_nhwc: NDArray[np.uint8]) -> Answers:
        if classifier.variant.name == "int8":
            raise DeviceError("model_int8.onnx: gave no finite numbers")
        return sound(classifier, images_nhwc)

    monkeypatch.setattr(Classifier, "answers", overflowing)
    found = selfcheck(pristine)
    assert (found.passed, found.holding) == (True, ("fp32",))
    (failure,) = found.failures("int8")
    assert failure.reason == "model_int8.onnx: gave no finite numbers"
    assert failure.placement is failure.max_abs_logit_difference is failure.labels_agree is failure.median_ms is None


@pytest.mark.parametrize(("refused", "holding"), [("int8", ("fp32",)), ("fp32", ("int8",))])
def test_a_graph_that_cannot_be_opened_fails_where_others_open(
    refused: str, holding: tuple[str, ...], pristine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = Classifier.load

    def load(folder: Path, variant: str, opening: Opening = DEFAULT_OPENING) -> Classifier:
        if variant == refused:
            raise ProviderError(f"{variant}: {opening.provider} cannot open it")
        return sound(folder, variant, opening)

    monkeypatch.setattr(Classifier, "load", load)
    found = selfcheck(pristine)
    assert (found.passed, found.holding) == (refused == "int8", holding)
    assert [check.reason for check in found.failures(refused)] == [f"{refused}: {CPU} cannot open it"]
    assert CPU not in found.not_used


@pytest.mark.parametrize(("n_broken", "passed"), [(3, False), (2, True)])
def test_a_decoder_that_reads_no_golden_picture_fails(n_broken: int, passed: bool, folder: Path) -> None:
    for number in range(n_broken):
        (folder / "golden" / f"{number:03d}.jpg").write_bytes(b"\xff\xd8\xff")
    rewrite_sums(folder)
    found = selfcheck(folder)
    assert found.passed == passed
    assert found.holding == ("fp32", "int8")
    if passed:
        assert found.decoder_reason is None
    else:
        assert (found.decoder_reason or "").startswith("the decoder reads none of 3 golden pictures; the first: ")


@pytest.mark.parametrize("name", [".DS_Store", "golden/Thumbs.db", "golden/._000.jpg", "@eaDir/000.jpg/x", "a.txt"])
def test_litter_is_no_unknown_file(name: str, folder: Path) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"left behind")
    if name == "a.txt":  # the negative control
        with pytest.raises(BundleError, match=r"'a\.txt' is not listed"):
            selfcheck(folder)
    else:
        assert selfcheck(folder).passed


def test_a_package_that_is_too_old_is_found_first(pristine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL, "__version__", "9.5.0")
    with pytest.raises(DeviceError, match=r"Pillow 9\.5\.0 is installed; expected 11 or newer"):
        selfcheck(pristine)


def test_a_difference_within_tolerance_passes(folder: Path) -> None:
    values = golden(folder)
    values["logits"]["int8"][1][0] += 0.001
    rewrite_golden(folder, values)
    assert selfcheck(folder).passed


def test_another_label_fails_though_the_logits_are_close(folder: Path) -> None:
    values = golden(folder)
    logits = [5.0, 5.0, 0.0]
    for rows in values["logits"].values():
        rows[0] = logits
    grey = np.full((24, 32, 3), (128, 127, 0), np.uint8)
    np.save(folder / "golden" / "000.npy", grey)
    logits[:2] = [127 / 25.5, 128 / 25.5]
    contract = json.loads((folder / "contract.json").read_text(encoding="utf-8"))
    for variant in contract["variants"]:
        variant["golden_tolerance"] = 0.5
    write_json(folder / "contract.json", contract)
    rewrite_golden(folder, values)
    found = selfcheck(folder)
    assert [check.reason for check in found.variants] == ["1 of 3 labels differ; expected none"] * 2


def test_another_graph_fails_though_every_hash_is_right(folder: Path) -> None:
    contract = Contract.read(folder / "contract.json")
    graph = colour_graph(contract.metadata(), scale=10.1)
    (folder / "model.onnx").write_bytes(graph)
    digest = hashlib.sha256(graph).hexdigest()
    variant = dataclasses.replace(contract.variants[0], sha256=digest, bytes=len(graph))
    changed = dataclasses.replace(contract, variants=(variant, *contract.variants[1:]))
    write_json(folder / "contract.json", changed.to_json())
    rewrite_sums(folder)
    found = selfcheck(folder)
    assert [check.passed for check in found.variants] == [False, True]


def test_another_graph_under_the_old_contract_is_refused(folder: Path) -> None:
    contract = Contract.read(folder / "contract.json")
    (folder / "model.onnx").write_bytes(colour_graph(contract.metadata(), scale=10.1))
    rewrite_sums(folder)
    with pytest.raises(ContractError, match="the contract says"):
        selfcheck(folder)


def test_another_decoder_is_told_and_does_not_fail(folder: Path) -> None:
    for number, image in enumerate(
        [Image.new("RGB", (32, 24), (0, 255, 0)), Image.new("RGB", (9, 9)), Image.new("L", (32, 24))]
    ):
        image.save(folder / "golden" / f"{number:03d}.jpg")
    (folder / "golden" / "002.jpg").write_bytes(b"\xff\xd8\xff")
    rewrite_sums(folder)
    found = selfcheck(folder)
    assert found.passed
    other, resized, broken = found.decoder
    assert (other.max_abs_pixel_difference or 0) > 100
    assert other.label_agrees is False
    assert resized.remark == "decodes to (9, 9, 3); expected (24, 32, 3)"
    assert broken.max_abs_pixel_difference is None
    assert "002.jpg" in (broken.remark or "")


def under_contract(folder: Path, **changes: Any) -> None:
    """Change the bundle's contract, and rewrite every file that names it."""
    contract = dataclasses.replace(Contract.read(folder / "contract.json"), **changes)
    graph = colour_graph(contract.metadata())
    variants = tuple(
        dataclasses.replace(variant, sha256=hashlib.sha256(graph).hexdigest(), bytes=len(graph))
        for variant in contract.variants
    )
    for variant in variants:
        (folder / variant.file).write_bytes(graph)
    write_json(folder / "contract.json", dataclasses.replace(contract, variants=variants).to_json())
    rewrite_sums(folder)


def test_a_provider_that_does_not_load_is_reported_where_another_may_answer(folder: Path) -> None:
    under_contract(folder, providers=("NoSuchExecutionProvider", CPU))
    found = selfcheck(folder)
    assert found.passed
    assert [(check.variant, check.provider) for check in found.variants] == [("fp32", CPU), ("int8", CPU)]
    assert list(found.not_used) == ["NoSuchExecutionProvider"]
    assert "does not load: onnxruntime" in found.not_used["NoSuchExecutionProvider"]


def test_a_provider_that_does_not_load_is_an_error_where_no_other_may_answer(folder: Path) -> None:
    under_contract(folder, providers=("NoSuchExecutionProvider", CPU), allow_fallback=False)
    with pytest.raises(ProviderError, match="NoSuchExecutionProvider does not load: onnxruntime"):
        selfcheck(folder)


def test_a_later_provider_is_not_looked_at_where_it_may_not_answer(folder: Path) -> None:
    under_contract(folder, providers=(CPU, "NoSuchExecutionProvider"), allow_fallback=False)
    found = selfcheck(folder)
    assert (found.passed, found.not_used) == (True, {})


def test_where_no_provider_loads_nothing_has_been_checked(folder: Path) -> None:
    under_contract(folder, providers=("NoSuchExecutionProvider", "NorThisExecutionProvider"))
    with pytest.raises(ProviderError, match="does not load"):
        selfcheck(folder)


def test_numbers_that_another_provider_computed_prove_nothing(
    pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = write_json_file(tmp_path / "profile.json", [node_run("OtherExecutionProvider", "MatMul_0")])
    monkeypatch.setattr("runtime.classifier.Classifier.end_profile", lambda _: profile)
    found = selfcheck(pristine)
    assert [check.reason for check in found.variants] == ["none of 1 nodes ran on it; expected at least one"] * 2
    assert not found.passed


@pytest.mark.parametrize(
    "array", [np.zeros((24, 32, 3), np.float32), np.zeros((32, 24, 3), np.uint8), np.array([{}], object)]
)
def test_pixels_of_another_shape_or_kind_are_refused(array: Any, folder: Path) -> None:
    np.save(folder / "golden" / "000.npy", array, allow_pickle=True)
    rewrite_sums(folder)
    with pytest.raises(BundleError, match=r"000\.npy"):
        selfcheck(folder)


@pytest.mark.parametrize("header", [b"(24, 32, 3", b"((((24, 32, 3), }", b"(" * 9000, b"'", b"-" * 9000])
def test_a_header_that_does_not_end_is_refused(header: bytes, folder: Path) -> None:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': " + header + b"\n"
    path = folder / "golden" / "000.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(24 * 32 * 3))
    rewrite_sums(folder)
    with pytest.raises(BundleError, match=r"000\.npy: cannot be read"):
        selfcheck(folder)


@pytest.mark.parametrize("content", [b"", b"PK\3\4 no archive", b"PK\5\6" + bytes(18), b"\x80\4N."])
def test_an_array_that_is_none_is_refused(content: bytes, folder: Path) -> None:
    (folder / "golden" / "000.npy").write_bytes(content)
    rewrite_sums(folder)
    with pytest.raises(BundleError, match=r"000\.npy: cannot be read"):
        selfcheck(folder)


def test_a_header_that_states_more_than_the_file_holds_takes_no_memory(folder: Path) -> None:
    path = folder / "golden" / "000.npy"
    absurd = b"(9400000, 32000, 3), }"
    header = path.read_bytes()
    changed = header.replace(b"(24, 32, 3), }" + b" " * (len(absurd) - 14), absurd)
    assert changed != header
    path.write_bytes(changed)
    values = golden(folder)
    values["samples"][0] |= {"height": 9_400_000, "width": 32_000}
    rewrite_golden(folder, values)
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=r"000\.npy: cannot be read"):
            selfcheck(folder)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def spoil(values: dict[str, Any], fault: str) -> None:
    """Plant a fault in golden.json."""
    if fault == "no samples":
        values["samples"] = []
    elif fault == "no logits of a variant":
        del values["logits"]["int8"]
    elif fault == "fewer rows":
        values["logits"]["int8"].pop()
    elif fault == "fewer classes":
        values["logits"]["int8"] = [row[:2] for row in values["logits"]["int8"]]
    elif fault == "ragged rows":
        values["logits"]["int8"][0].pop()
    elif fault == "beyond float32":
        values["logits"]["int8"] = [[1e308, -1e308, 0.0]] * 3
    elif fault == "an escaping name":
        values["samples"][0]["pixels"] = "../000.npy"
    elif fault == "text for a number":
        values["samples"][0]["height"] = "24"


@pytest.mark.parametrize(
    "fault",
    ["no samples", "no logits of a variant", "fewer rows", "fewer classes", "ragged rows", "beyond float32",
     "an escaping name", "text for a number"],
)  # fmt: skip
def test_a_golden_list_with_a_fault_is_refused(fault: str, folder: Path) -> None:
    values = golden(folder)
    spoil(values, fault)
    rewrite_golden(folder, values)
    with pytest.raises(BundleError, match=r"golden\.json"):
        selfcheck(folder)
