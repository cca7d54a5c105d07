"""Classify pictures: the graph computes logits, and the contract says what they mean."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.answers import KNOWN_SCORE, Answers, joined, probabilities_of
from runtime.contract import Contract
from runtime.errors import ContractError, DeviceError, ImageError
from runtime.images import read_image
from runtime.session import Opening, failures, open_session
from runtime.verdict import Thresholds

CONTRACT = "contract.json"
DEFAULT_OPENING = Opening()
_PIXELS = "uint8 RGB pixels (height, width, 3)"


@dataclass(frozen=True)
class Prediction:
    """The answer for one picture."""

    label: str | None  # None: none of the classes, by the contract's threshold
    probability: float  # of the most probable class
    probabilities: dict[str, float]  # by class, in the order of the logits; they add up to 1
    logits: tuple[float, ...]  # of the graph, before the temperature
    score: float  # high where the picture shows one of the classes; the threshold is for it


class Classifier:
    """A graph that was checked against its contract, and answers for pictures.

    Attributes:
        contract: the contract.
        contract_path: the file that the contract was read from.
        graphs: the folder of the graphs; another process can open the same graph with this and `contract_path`.
        variant: the graph in use, one of the contract's variants.
        providers: onnxruntime's providers that really loaded, in order of preference.
    """

    def __init__(
        self, contract_path: Path, graphs: Path, variant: str | None = None, opening: Opening = DEFAULT_OPENING
    ) -> None:
        """Open a graph whose contract lies elsewhere, as in a project: `models/contract.json` and `models/onnx/`.

        Args:
            contract_path: the contract's file.
            graphs: the folder that holds the contract's graphs.
            variant: name of the graph to open; None for the one that the contract recommends.
            opening: how to open the graph, where not as the contract says.

        Raises:
            ContractError: the contract is invalid, the graph disagrees with it, or there is no such variant.
            DeviceError: onnxruntime is missing.
            ProviderError: none of the allowed providers works here; the message names what is missing.
        """
        self.contract_path, self.graphs = contract_path, graphs
        self.contract = Contract.read(contract_path)
        try:
            self.variant = self.contract.variant(self.contract.recommended if variant is None else variant)
        except ValueError as error:
            raise ContractError(f"{contract_path}: {error}") from error
        self._session: Any = open_session(self.contract, self.variant, graphs, opening)
        self.providers: tuple[str, ...] = tuple(self._session.get_providers())
        has_score = self.contract.unknown_score == KNOWN_SCORE
        self._outputs = [self.contract.output.name, *([KNOWN_SCORE] if has_score else [])]
        # Some networks export with a batch of one only.
        self._takes_one = self._session.get_inputs()[0].shape[:1] == [1]

    @classmethod
    def load(
        cls, folder: str | Path = ".", variant: str | None = None, opening: Opening = DEFAULT_OPENING
    ) -> Classifier:
        """Open a graph of an unpacked bundle.

        Args:
            folder: the unpacked bundle.
            variant: name of the graph to open; None for the one that the contract recommends.
            opening: how to open the graph, where not as the contract says.

        Raises:
            DeviceError: as the constructor.
        """
        return cls(Path(folder) / CONTRACT, Path(folder), variant, opening)

    def logits(self, images_nhwc: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits (batch, classes) of pictures, as `answers` does.

        Raises:
            ImageError, DeviceError: as `answers`.
        """
        return self.answers(images_nhwc).logits

    def answers(self, images_nhwc: NDArray[np.uint8]) -> Answers:
        """Run the graph on uint8 RGB pictures (batch, height, width, 3) of one size.

        Raises:
            ImageError: the dtype or shape is wrong, there is no picture, or it is outside the contract's bounds.
            DeviceError: onnxruntime failed, or a logit or score is not a finite number.
        """
        if images_nhwc.dtype != np.uint8 or images_nhwc.ndim != 4 or images_nhwc.shape[3] != 3:
            described = f"{images_nhwc.dtype} {images_nhwc.shape}"
            raise ImageError(f"pictures are {described}; expected uint8 (batch, height, width, 3)")
        self._check_bounds(images_nhwc.shape)
        images = np.ascontiguousarray(images_nhwc)
        batches = np.split(images, len(images)) if self._takes_one else [images]
        try:
            answers = joined([self._run(batch) for batch in batches])
        except failures() as error:
            raise DeviceError(f"{self.variant.file}: onnxruntime failed ({error})") from error
        expected = (len(images_nhwc), len(self.contract.classes))
        shape = answers.logits.shape
        if shape != expected or not np.isfinite(answers.logits).all():
            raise DeviceError(f"{self.variant.file}: gave {shape} logits; expected {expected} finite numbers")
        if not np.isfinite(answers.scores).all():
            raise DeviceError(f"{self.variant.file}: gave a {KNOWN_SCORE} that is no number; expected finite numbers")
        return answers

    def _run(self, images_nhwc: NDArray[np.uint8]) -> Answers:
        """Run one batch; onnxruntime's outputs need not have the shapes that the graph states."""
        outputs = self._session.run(self._outputs, {self.contract.input.name: images_nhwc})
        try:
            return Answers.of_outputs(outputs)
        except ValueError as error:
            raise DeviceError(f"{self.variant.file}: {error}") from error

    def classify(self, picture: str | os.PathLike[str] | bytes | NDArray[np.uint8]) -> Prediction:
        """Classify one picture: a file, the bytes of a file, or upright uint8 RGB pixels (height, width, 3).

        Raises:
            ImageError: `picture` is none of these, the file cannot be read, or the picture is outside the contract's
                bounds.
            DeviceError: as `logits`.
        """
        if isinstance(picture, np.ndarray):
            if picture.dtype != np.uint8 or picture.shape[2:] != (3,):
                raise ImageError(f"the picture is {picture.dtype} {picture.shape}; expected {_PIXELS}")
            return self._classify(picture)
        pixels_hwc = self.read(picture)
        try:
            return self._classify(pixels_hwc)
        except ImageError as error:
            raise ImageError(f"{_name_of(picture)}: {error}") from error

    def read(self, picture: str | os.PathLike[str] | bytes) -> NDArray[np.uint8]:
        """Read a picture from a file, or from the bytes of a file, within the contract's bounds.

        Raises:
            ImageError: `picture` is neither, the file cannot be read, or it has too many pixels.
        """
        if not isinstance(picture, (str, os.PathLike, bytes)):
            kind = f"{type(picture).__module__}.{type(picture).__qualname__}".removeprefix("builtins.")
            raise ImageError(f"the picture is a {kind}; expected a path, the bytes of a picture file, or {_PIXELS}")
        content = picture if isinstance(picture, bytes) else None
        return read_image(
            Path(_name_of(picture)),
            max_pixels=self.contract.max_pixels,
            content=content,
            sample_bits=self.contract.sample_bits,
        )

    def _classify(self, pixels_hwc: NDArray[np.uint8]) -> Prediction:
        answers = self.answers(pixels_hwc[np.newaxis])
        return self.judge(answers.logits[0], float(answers.scores[0]))

    def judge(self, logits: NDArray[np.float32], score: float) -> Prediction:
        """Turn what the graph says about one picture into an answer, by the contract's temperature and threshold.

        Args:
            logits: (classes,).
            score: what the threshold is for.
        """
        shares = probabilities_of(logits, self.contract.temperature)
        threshold, best = self.variant.unknown_threshold, int(logits.argmax())
        is_known = threshold is None or score >= threshold
        return Prediction(
            label=self.contract.classes[best] if is_known else None,
            probability=float(shares[best]),
            probabilities=dict(zip(self.contract.classes, shares.tolist(), strict=True)),
            logits=tuple(logits.tolist()),
            score=score,
        )

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds of the graph in use."""
        return Thresholds(self.variant.unknown_threshold, self.variant.unknown_threshold_clip)

    def end_profile(self) -> Path:
        """Stop the profile that the opening started, and return its file."""
        return Path(self._session.end_profiling())

    def _check_bounds(self, shape: tuple[int, ...]) -> None:
        batch, height, width, _ = shape
        if min(batch, height, width) == 0:
            raise ImageError(f"{batch} pictures of {width} x {height} pixels; expected at least one of each")
        if height * width > self.contract.max_pixels:
            raise ImageError(f"{width} x {height} pixels; expected at most {self.contract.max_pixels} in all")
        if max(height, width) > self.contract.max_aspect * min(height, width):
            raise ImageError(
                f"{width} x {height} pixels; expected a longer side of at most {self.contract.max_aspect:g} times"
                " the shorter"
            )


def _name_of(picture: str | os.PathLike[str] | bytes) -> str:
    """Return what messages call a picture: its path, or the number of its bytes."""
    return f"{len(picture)} bytes" if isinstance(picture, bytes) else os.fspath(picture)
