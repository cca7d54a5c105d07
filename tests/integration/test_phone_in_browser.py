"""The phone's page in a real browser, in short: it answers as the runtime, and refuses a changed graph.

`tests/trials/phone_in_browser.py` has the long form. Skipped without chromium, and where npm's registry cannot be
reached.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.bundle.stage import bundle
from export.phone.folder import phone
from runtime.classifier import Classifier
from tests.support.examples import NotHereError
from tests.support.phone_page import PhoneBrowser, fetch_package, serving
from tests.support.tiny_bundle import draft_contract, picture, scored_graph, with_thresholds, write_project
from tests.trials.phone_in_browser import LOGITS, REFUSED, STILL_ANSWERED


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page beside the project that it is made from."""
    folder = tmp_path_factory.mktemp("phone")
    try:
        package = fetch_package(folder)
    except NotHereError as error:
        pytest.skip(str(error))
    contract = with_thresholds(draft_contract("fp32"), 0.5, 0.4, "known_score")
    project = write_project(folder / "project", contract, scored_graph)
    bundle(project)
    phone(project, None, package, folder / "page", single=False)
    return folder / "page"


@pytest.fixture(scope="module")
def browser() -> Iterator[PhoneBrowser]:
    """Chromium without a camera."""
    try:
        started = PhoneBrowser()
    except NotHereError as error:
        pytest.skip(str(error))
    with started:
        yield started


def test_the_page_answers_as_the_runtime_and_asks_nobody_else(browser: PhoneBrowser, page: Path) -> None:
    pictures = [picture(colour, height, width) for colour, height, width in ((0, 24, 32), (1, 31, 17), (2, 40, 40))]
    names = [f"frame{number}.png" for number in range(len(pictures))]
    for name, pixels in zip(names, pictures, strict=True):
        Image.fromarray(pixels).save(page / name)
    browser.be_narrow()
    with serving(page) as address:
        browser.open(address)
        browser.until("return document.getElementById('line').innerText.includes('No live camera')")
        browser.give_file(page / names[0])
        browser.until(STILL_ANSWERED)
        label, spoken = browser.text("#label"), browser.text("#spoken")
        is_wide = browser.run("return document.documentElement.scrollWidth > window.innerWidth")
        answers = browser.run(LOGITS, "page", names)
        outside = [url for url in browser.requests() if not url.startswith((address, "blob:"))]
    project = page.with_name("project")
    classifier = Classifier(project / "models" / "contract.json", project / "models" / "onnx")
    expected = [classifier.answers(pixels[np.newaxis]) for pixels in pictures]
    assert np.allclose([answer["logits"] for answer in answers], [each.logits[0] for each in expected], atol=1e-4)
    assert np.allclose([answer["score"] for answer in answers], [each.scores[0] for each in expected], atol=1e-4)
    assert (label, spoken.split(",")[0]) == (classifier.classify(pictures[0]).label, label)
    assert (outside, is_wide) == ([], False)
    assert [message for message in browser.messages() if "SEVERE" in message] == []


def test_a_flipped_byte_in_the_graph_is_refused_and_nothing_is_offered(browser: PhoneBrowser, page: Path) -> None:
    graph = page / json.loads((page / "page.json").read_text(encoding="utf-8"))["graph"]
    sound = graph.read_bytes()
    graph.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    with serving(page) as address:
        browser.open(address)
        shown = browser.text()
    graph.write_bytes(sound)
    assert REFUSED in shown
    assert f"model/{graph.name} is not the file that this page was made with" in shown
    assert not browser.run("return !document.getElementById('actions').hidden")
