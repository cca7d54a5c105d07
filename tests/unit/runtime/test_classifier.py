"""The classifier: a graph that is checked against its contract, and its answers."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from PIL import Image

from runtime import Classifier
from runtime.contract import Contract
from runtime.errors import ContractError, DeviceError, ImageError, ProviderError
from tests.support.tiny_bundle import (
    CLASSES,
    colour_graph,
    draft_contract,
    picture,
    scored_graph,
    with_thresholds,
    write_models,
)


def write(folder: Path, contract: Contract, graph: bytes | None = None) -> Path:
    """Write a contract and its graphs; with `graph`, this graph and a contract with its hash."""
    contract_path = folder / "contract.json"
    written = write_models(contract_path, folder, contract)
    if graph is not None:
        (folder / "fp32.onnx").write_bytes(graph)
        digest = hashlib.sha256(graph).hexdigest()
        variant = dataclasses.replace(written.variants[0], sha256=digest, bytes=len(graph))
        written = dataclasses.replace(written, variants=(variant,))
        contract_path.write_text(json.dumps(written.to_json()), encoding="utf-8")
    return folder


def test_files_and_pixels_are_classified_alike(tmp_path: Path) -> None:
    classifier = Classifier.load(write(tmp_path, draft_contract()))
    for number, label in enumerate(CLASSES):
        Image.fromarray(picture(number)).save(tmp_path / "picture.png")
        prediction = classifier.classify(tmp_path / "picture.png")
        assert prediction == classifier.classify(str(tmp_path / "picture.png")) == classifier.classify(picture(number))
        assert prediction.label == label
        assert prediction.probability == prediction.probabilities[label] == max(prediction.probabilities.values())
        assert list(prediction.probabilities) == list(CLASSES)
        assert sum(prediction.probabilities.values()) == pytest.approx(1)


def test_the_bytes_of_a_file_are_classified_as_the_file_is(tmp_path: Path) -> None:
    classifier = Classifier.load(write(tmp_path, draft_contract()))
    Image.fromarray(picture(1)).save(tmp_path / "picture.jpg", exif=turned_by_exif())
    assert classifier.classify((tmp_path / "picture.jpg").read_bytes()) == classifier.classify(tmp_path / "picture.jpg")
    with pytest.raises(ImageError, match=r"^3 bytes: not a picture that can be read; expected one of JPEG"):
        classifier.classify(b"abc")


def turned_by_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (None, "a NoneType; expected a path, the bytes of a picture file, or uint8"),
        ([[1, 2, 3]], "a list; expected"),
        (Image.new("RGB", (8, 8)), "a PIL.Image.Image; expected"),
        (io.BytesIO(b"abc"), "a _io.BytesIO; expected"),
        (np.zeros((8, 8, 3), np.float32), "float32 (8, 8, 3); expected uint8 RGB pixels (height, width, 3)"),
        (np.zeros((8, 8), np.uint8), "uint8 (8, 8); expected"),
        (np.zeros((8, 8, 4), np.uint8), "uint8 (8, 8, 4); expected"),
        (np.zeros((1, 8, 8, 3), np.uint8), "uint8 (1, 8, 8, 3); expected"),
        (np.array(3), "int64 (); expected"),
    ],
)  # fmt: skip
def test_a_picture_that_is_neither_file_nor_pixels_is_named(given: object, named: str, tmp_path: Path) -> None:
    classifier = Classifier.load(write(tmp_path, draft_contract()))
    with pytest.raises(ImageError, match="^" + re.escape(f"the picture is {named}")):
        classifier.classify(given)  # type: ignore[arg-type]


def test_a_batch_gives_each_picture_its_own_logits(tmp_path: Path) -> None:
    classifier = Classifier.load(write(tmp_path, draft_contract()))
    images_nhwc = np.stack([picture(number) for number in range(3)])
    logits = classifier.logits(images_nhwc)
    assert logits.dtype == np.float32
    assert logits == pytest.approx(images_nhwc.mean(axis=(1, 2)) * 10 / 255, rel=1e-5)


def test_a_transposed_view_is_read_as_what_it_shows(tmp_path: Path) -> None:
    classifier = Classifier.load(write(tmp_path, draft_contract()))
    turned = picture(1).transpose(1, 0, 2)
    assert classifier.classify(turned) == classifier.classify(np.ascontiguousarray(turned))


def test_temperature_softens_probabilities_and_leaves_logits_alone(tmp_path: Path) -> None:
    contract = draft_contract()
    (tmp_path / "soft").mkdir()
    soft = dataclasses.replace(contract, temperature=4.0, temperature_reason=None)
    plain = Classifier.load(write(tmp_path, contract)).classify(picture(0))
    softened = Classifier.load(write(tmp_path / "soft", soft)).classify(picture(0))
    assert softened.logits == plain.logits
    expected = np.exp(np.array(plain.logits) / 4)
    assert list(softened.probabilities.values()) == pytest.approx(expected / expected.sum())


@pytest.mark.parametrize("temperature", [1e-300, 1e-320])
def test_the_lowest_temperatures_leave_one_sure_class(temperature: float, tmp_path: Path) -> None:
    contract = dataclasses.replace(draft_contract(), temperature=temperature, temperature_reason=None)
    prediction = Classifier.load(write(tmp_path, contract)).classify(picture(0))
    assert list(prediction.probabilities.values()) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(("threshold", "label"), [(5.0, "red"), (9.0, None)])
def test_a_largest_logit_below_the_threshold_is_none_of_the_classes(
    threshold: float, label: str | None, tmp_path: Path
) -> None:
    contract = with_thresholds(draft_contract(), threshold, threshold)
    assert Classifier.load(write(tmp_path, contract)).classify(picture(0)).label == label


def test_a_threshold_is_for_the_known_score_where_the_contract_says_so(scored: Path) -> None:
    classifier = Classifier.load(scored)
    prediction = classifier.classify(picture(0))
    assert prediction.label == "red"
    assert prediction.score == pytest.approx(10 - max(prediction.logits), abs=1e-5)
    bright = np.full((24, 32, 3), 255, np.uint8)  # the largest logit rises to 10, and the score falls to 0
    answer = classifier.classify(bright)
    assert (answer.label, round(answer.score, 4)) == (None, 0.0)
    assert classifier.answers(np.stack([bright, bright])).scores.shape == (2,)


def test_a_graph_without_the_score_of_its_contract_is_refused_and_so_is_one_with_a_score_that_it_lacks(
    tmp_path: Path,
) -> None:
    plain, with_score = draft_contract(), with_thresholds(draft_contract(), 3.0, 3.0, "known_score")
    for contract, make in ((plain, scored_graph), (with_score, colour_graph)):
        with pytest.raises(ContractError, match="its input and outputs are"):
            Classifier.load(write(tmp_path, contract, make(contract.metadata())))


@pytest.mark.parametrize("spoilt", ["no number", "another shape"])
def test_a_score_that_is_no_number_or_of_another_shape_is_an_error_and_no_answer(spoilt: str, tmp_path: Path) -> None:
    contract = with_thresholds(draft_contract(), 3.0, 3.0, "known_score")
    if spoilt == "no number":
        graph, message = scored_graph(contract.metadata(), shift=math.nan), "a known_score that is no number"
    else:
        model = onnx.load_model_from_string(scored_graph(contract.metadata()))
        model.graph.node[-1].input[1] = "logits"
        model.graph.output[-1].type.tensor_type.shape.dim.add().dim_param = "more"
        graph, message = model.SerializeToString(), r"found logits \(1, 3\) and scores \(1, 3\)"
    with pytest.raises(DeviceError, match=message):
        Classifier.load(write(tmp_path, contract, graph)).classify(picture(0))


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((1, 3, 8, 8), np.uint8),
        np.zeros((0, 8, 8, 3), np.uint8),
        np.zeros((1, 0, 8, 3), np.uint8),
        np.zeros((1, 101, 100, 3), np.uint8),
        np.zeros((1, 9, 100, 3), np.uint8),
        np.zeros((1, 100, 9, 3), np.uint8),
    ],
    ids=["float", "single", "planar", "no picture", "no pixels", "too large", "too wide", "too tall"],
)
def test_pictures_outside_the_contract_are_refused(images: np.ndarray, tmp_path: Path) -> None:
    classifier = Classifier.load(write(tmp_path, draft_contract()))
    with pytest.raises(ImageError, match="expected"):
        classifier.logits(images)


def test_an_error_about_a_file_names_it_once(tmp_path: Path) -> None:
    classifier = Classifier.load(write(tmp_path, draft_contract()))
    Image.new("RGB", (100, 9)).save(tmp_path / "wide.png")
    with pytest.raises(
        ImageError, match=r"^[^:]*wide\.png: 100 x 9 pixels; expected a longer side of at most 10 times"
    ):
        classifier.classify(tmp_path / "wide.png")


def test_another_file_under_the_graphs_name_is_refused(tmp_path: Path) -> None:
    write(tmp_path, draft_contract())
    graph = bytearray((tmp_path / "fp32.onnx").read_bytes())
    graph[-1] ^= 1
    (tmp_path / "fp32.onnx").write_bytes(graph)
    with pytest.raises(ContractError, match=r"fp32\.onnx: sha256 is"):
        Classifier.load(tmp_path)
    (tmp_path / "fp32.onnx").write_bytes(graph[:-1])
    with pytest.raises(ContractError, match=f"{len(graph) - 1} bytes; the contract says {len(graph)}"):
        Classifier.load(tmp_path)
    (tmp_path / "fp32.onnx").unlink()
    with pytest.raises(ContractError, match="No such file"):
        Classifier.load(tmp_path)


@pytest.mark.parametrize("key", ["contract_version", "contract_sha256", "class_names"])
def test_a_graph_whose_metadata_disagrees_is_refused(key: str, tmp_path: Path) -> None:
    contract = draft_contract()
    graph = colour_graph({**contract.metadata(), key: "another"})
    with pytest.raises(ContractError, match=f"its {key} is 'another'"):
        Classifier.load(write(tmp_path, contract, graph))


@pytest.mark.parametrize("text", [b"contract_version", b"image"])
def test_a_graph_whose_names_are_no_text_is_refused(text: bytes, tmp_path: Path) -> None:
    contract = draft_contract()
    graph = colour_graph(contract.metadata())
    assert graph.count(text)
    with pytest.raises(ContractError, match=r"fp32\.onnx: "):
        Classifier.load(write(tmp_path, contract, graph.replace(text, b"\xf2" + text[1:])))


def test_a_graph_for_other_pictures_is_refused(tmp_path: Path) -> None:
    contract = draft_contract()
    model = onnx.load_model_from_string(colour_graph(contract.metadata()))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    with pytest.raises(ContractError, match="its input and outputs are"):
        Classifier.load(write(tmp_path, contract, model.SerializeToString()))


def test_bytes_that_are_no_graph_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="onnxruntime cannot open it") as caught:
        Classifier.load(write(tmp_path, draft_contract(), b"no graph at all"))
    assert "\n" not in str(caught.value)


def test_weights_in_a_second_file_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = draft_contract()
    model = onnx.load_model_from_string(colour_graph(contract.metadata()))
    weights = model.graph.initializer[1]
    for folder in (tmp_path, tmp_path / "elsewhere"):
        folder.mkdir(exist_ok=True)
        (folder / "weights.bin").write_bytes(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="weights.bin")
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(ContractError, match="onnxruntime cannot open it"):
        Classifier.load(write(tmp_path, contract, model.SerializeToString()))


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    contract = draft_contract()
    classifier = Classifier.load(write(tmp_path, contract, colour_graph(contract.metadata(), scale=7e40)))
    with pytest.raises(DeviceError, match="finite numbers"):
        classifier.classify(picture(0))


def test_a_wrong_number_of_logits_is_refused(tmp_path: Path) -> None:
    contract = dataclasses.replace(draft_contract(), classes=("red", "green"))
    with pytest.raises(DeviceError, match=r"gave \(1, 3\) logits"):
        Classifier.load(write(tmp_path, contract)).classify(picture(0))


def test_an_unknown_variant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"contract\.json: variant 'int8': unknown; expected fp32"):
        Classifier.load(write(tmp_path, draft_contract()), variant="int8")


def test_without_fallback_the_first_provider_must_load(tmp_path: Path) -> None:
    providers = ("NoSuchExecutionProvider", "CPUExecutionProvider")
    strict = dataclasses.replace(draft_contract(), providers=providers, allow_fallback=False)
    with pytest.raises(ProviderError, match="NoSuchExecutionProvider does not load: onnxruntime"):
        Classifier.load(write(tmp_path, strict))
    lenient = dataclasses.replace(strict, allow_fallback=True)
    assert Classifier.load(write(tmp_path, lenient)).providers == ("CPUExecutionProvider",)


def test_no_provider_at_all_is_refused(tmp_path: Path) -> None:
    contract = dataclasses.replace(draft_contract(), providers=("NoSuchExecutionProvider",))
    with pytest.raises(DeviceError, match="the contract expects one of NoSuchExecutionProvider"):
        Classifier.load(write(tmp_path, contract))


def test_a_provider_that_does_not_load_makes_no_noise(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Classifier.load(write(tmp_path, draft_contract())).classify(picture(0))
    assert capfd.readouterr() == ("", "")
