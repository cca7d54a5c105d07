"""The files of the page: its modules, the graph and what the page checks itself with, by their names in the folder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from export.phone.onnxruntime_web import FILES, VERSION, WEBGPU_FILES
from export.phone.resize_nodes import nodes_to_resize
from pipeline.base.errors import DataError
from runtime.answers import KNOWN_SCORE, ROUNDING_OF_SCORES, SCORE_RANGE
from runtime.archive import bundle_id
from runtime.classifier import CONTRACT
from runtime.contract import Contract, Variant
from runtime.golden import GOLDEN, Golden, read_pixels

PAGE_JSON = "page.json"
INDEX = "index.html"
SERVICE_WORKER = "sw.js"
_SOURCES = Path(__file__).with_name("page")
_PREFERRED = ("int8", "fp32")  # int8 is the smallest download; browsers compute fp16 on no faster path than fp32
_FLOAT = ("fp32", "fp16")  # WebGPU is for these: it computes int8 in float, less exactly than the processor
_OLDEST_CONTRACT = 3  # earlier ones lack the thresholds of a variant
_POLICY = re.compile(r'http-equiv="Content-Security-Policy" content="([^"]+)"')


def page_files(bundle: Path, ort_files: dict[str, bytes], *, single: bool) -> dict[str, bytes]:
    """Return the content of every file of the page by its name, such as `model/contract.json`.

    Args:
        bundle: an unpacked bundle whose hashes have been checked.
        ort_files: the files of onnxruntime-web.
        single: the files are for one HTML file, which has no WebGPU, to stay small.

    Raises:
        ContractError, BundleError: a part of the bundle is invalid.
        DataError: the contract is of an earlier version than the page reads.
    """
    contract = Contract.read(bundle / CONTRACT)
    if contract.format_version < _OLDEST_CONTRACT:
        raise DataError(
            f"{CONTRACT}: found version {contract.format_version}; expected {_OLDEST_CONTRACT}; run `dvc repro` again"
        )
    variant = chosen_variant(contract)
    graph = f"model/{variant.file}"
    pictures, golden = _golden(bundle, contract, variant)
    logits = [logit for sample in golden for logit in sample["logits"]]
    may_use_webgpu = variant.precision in _FLOAT and not single
    on_webgpu = {name: ort_files[name] for name in _in_ort(WEBGPU_FILES) if may_use_webgpu}
    checked = {
        **{name: ort_files[name] for name in _in_ort(FILES)},
        graph: (bundle / variant.file).read_bytes(),
        f"model/{CONTRACT}": (bundle / CONTRACT).read_bytes(),
        **pictures,
    }
    page = sources()
    about = {
        "format_version": 1,
        "bundle_id": bundle_id(bundle),
        "variant": variant.name,
        "graph": graph,
        "onnxruntime_web": VERSION,
        "languages": sorted(name.split(".")[1] for name in page if name.startswith("strings.")),
        "files": _hashes(checked),
        # Files that only browsers with WebGPU ask for, and the nodes that are computed on the processor there.
        "webgpu": {"files": _hashes(on_webgpu), "cpu_nodes": nodes_to_resize(checked[graph])} if on_webgpu else None,
        "golden": golden,
        # How far apart numbers may be, by the rules of runtime/selfcheck.py: shares of the ranges of logits and scores.
        "allowed_logit": variant.golden_tolerance * (max(logits) - min(logits)),
        "allowed_score": max(variant.golden_tolerance * SCORE_RANGE, ROUNDING_OF_SCORES),
    }
    return {**page, **checked, **on_webgpu, PAGE_JSON: _json_bytes(about)}


def chosen_variant(contract: Contract) -> Variant:
    """Return the graph for the page: int8, else fp32, else the one that the contract recommends."""
    variants = {variant.name: variant for variant in contract.variants}
    return variants[next((name for name in _PREFERRED if name in variants), contract.recommended)]


def sources() -> dict[str, bytes]:
    """Return the page's own files, as they lie in `page/`."""
    return {path.name: path.read_bytes() for path in sorted(_SOURCES.iterdir()) if path.is_file()}


def content_policy(index: bytes) -> str:
    """Return the content security policy that a page states."""
    found = _POLICY.search(index.decode())
    if found is None:
        raise ValueError(f"{INDEX}: no content security policy")
    return found[1]


def sha256(content: bytes) -> str:
    """Return the sha256 in hex."""
    return hashlib.sha256(content).hexdigest()


def _golden(bundle: Path, contract: Contract, variant: Variant) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """Return each golden picture as it was encoded and as a PNG of its pixels, and what the graph says of it."""
    folder = bundle / GOLDEN
    golden = Golden.read(folder)
    logits = golden.expected(variant.name, len(contract.classes)).tolist()
    has_scores = contract.unknown_score == KNOWN_SCORE
    scores = golden.expected_scores(variant.name).tolist() if has_scores else [None] * len(logits)
    files: dict[str, bytes] = {}
    samples: list[dict[str, Any]] = []
    for sample, row, score in zip(golden.samples, logits, scores, strict=True):
        pixels_hwc = read_pixels(folder, sample)
        png = BytesIO()
        Image.fromarray(pixels_hwc).save(png, "PNG")
        # A name of its own, since the encoded picture may be a PNG too.
        image, pixels = f"{GOLDEN}/{sample.image}", f"{GOLDEN}/{Path(sample.pixels).stem}.pixels.png"
        files |= {image: (folder / sample.image).read_bytes(), pixels: png.getvalue()}
        samples.append(
            {
                "name": sample.name,
                "image": image,
                "pixels": pixels,
                "pixels_sha256": sha256(pixels_hwc.tobytes()),
                "logits": row,
                "score": score,
            }
        )
    return files, samples


def _in_ort(names: Iterable[str]) -> list[str]:
    return [f"ort/{name}" for name in names]


def _hashes(files: dict[str, bytes]) -> dict[str, str]:
    return {name: sha256(content) for name, content in files.items()}


def _json_bytes(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()
