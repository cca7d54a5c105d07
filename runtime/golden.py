"""The golden pictures of a bundle: their pixels, and what the graphs said where the bundle was built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from runtime import schema
from runtime.errors import BundleError

GOLDEN = "golden"
GOLDEN_JSON = "golden.json"
# What numpy raises on damaged headers, found by mutating real ones.
_NPY_ERRORS = (
    OSError, ValueError, EOFError, SyntaxError, TokenError, TypeError, LookupError, OverflowError, MemoryError,
    RecursionError,
)  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """One golden picture."""

    name: str
    label: str  # the class that the person gave it
    image: str  # file name of the encoded picture
    pixels: str  # file name of the pixels decoded at build time: .npy, (height, width, 3) uint8 RGB
    height: int
    width: int

    def __post_init__(self) -> None:
        for file in (self.image, self.pixels):
            if not file.replace(".", "").isalnum() or not file.isascii():
                raise ValueError(f"image or pixels: found {file[:80]!r}; expected a plain file name")


@dataclass(frozen=True)
class Golden:
    """The whole of `golden/golden.json`."""

    samples: tuple[Sample, ...]
    logits: dict[str, tuple[tuple[float, ...], ...]]  # keys: variants and `torch`; values: (samples, classes)
    scores: dict[str, tuple[float, ...]]  # by variant, the known scores (samples,); empty where graphs have none

    def __post_init__(self) -> None:
        if not self.samples:
            raise ValueError("samples: found none; expected at least one")
        for name, rows in self.logits.items():
            if len(rows) != len(self.samples) or len({len(row) for row in rows}) != 1:
                raise ValueError(f"logits.{name}: found {len(rows)} rows; expected {len(self.samples)} of one length")
        for name, scores in self.scores.items():
            if len(scores) != len(self.samples):
                raise ValueError(f"scores.{name}: found {len(scores)} numbers; expected {len(self.samples)}")

    @classmethod
    def read(cls, folder: Path) -> Golden:
        """Read the list in the golden folder; the bundle's hashes must have been checked before.

        Raises:
            BundleError: the list is missing or invalid.
        """
        path = folder / GOLDEN_JSON
        try:
            values = schema.load_json(path)
            if isinstance(values, dict):
                values.setdefault("scores", {})  # earlier bundles have none
            return schema.parse(cls, values)
        except ValueError as error:
            raise BundleError(f"{path}: {error}") from error

    def expected(self, variant: str, n_classes: int) -> NDArray[np.float64]:
        """Return the logits (samples, classes) that a variant gave where the bundle was built.

        Raises:
            BundleError: the list has no logits of this variant, or not one per class.
        """
        rows = np.array(self.logits.get(variant, ()), np.float64)
        if rows.shape != (len(self.samples), n_classes) or np.abs(rows).max() > np.finfo(np.float32).max:
            raise BundleError(
                f"{GOLDEN_JSON}: logits of {variant!r} are {rows.shape}; expected one row of {n_classes} float32 each"
            )
        return rows

    def expected_scores(self, variant: str) -> NDArray[np.float64]:
        """Return the known scores (samples,) that a variant gave where the bundle was built.

        Raises:
            BundleError: the list has no scores of this variant.
        """
        scores = self.scores.get(variant)
        if scores is None:
            raise BundleError(f"{GOLDEN_JSON}: no scores of {variant!r}; expected one for each picture")
        return np.array(scores, np.float64)


def read_pixels(folder: Path, sample: Sample) -> NDArray[np.uint8]:
    """Read a sample's pixels as they were decoded where the bundle was built: (height, width, 3) uint8 RGB.

    Raises:
        BundleError: the file does not hold such an array.
    """
    path = folder / sample.pixels
    try:
        # A mapped file takes no memory for a header that states too much. np.load would also open a zip.
        pixels = open_memmap(path, mode="r")
    except _NPY_ERRORS as error:
        raise BundleError(f"{path}: cannot be read ({error})") from error
    expected = (sample.height, sample.width, 3)
    if pixels.shape != expected or pixels.dtype != np.uint8:
        raise BundleError(f"{path}: not an array of uint8 {expected}, as {GOLDEN_JSON} says")
    return np.array(pixels)
