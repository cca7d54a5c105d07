"""The page in a real browser: it asks for nothing, runs nothing and fits a phone. Skipped without chromium."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.base.project import Project
from pipeline.report.stage import report
from tests.support.report_project import HOSTILE, add_explanations, rename_class, with_data_reports

PHONE, DESK = (390, 844), (1280, 900)  # pixels


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium that logs its console messages and its requests."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no browser: install Debian's packages chromium and chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield started
    started.quit()


def _open(browser: Any, page: Path, size: tuple[int, int], scheme: str = "light") -> tuple[list[str], list[str]]:
    """Show a page; returns its requests for anything outside the file, and the messages of the console."""
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(page.as_uri())
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    requests = [url for url in asked if url != page.as_uri() and not url.startswith("data:")]
    return requests, [entry["message"] for entry in browser.get_log("browser")]


def _overflows(browser: Any) -> bool:
    return bool(browser.execute_script("return document.documentElement.scrollWidth > window.innerWidth"))


def _brightness(browser: Any, path: Path) -> float:
    """The mean of the page's upper left corner, 0 to 255, in a screenshot that is saved."""
    browser.save_screenshot(str(path))
    with Image.open(path) as picture:
        assert picture.size[0] >= PHONE[0]
        return float(np.asarray(picture.convert("L"))[:8, :8].mean())


@pytest.fixture(scope="module")
def page(_exported: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a project with a hostile class and an explanation."""
    folder = tmp_path_factory.mktemp("page")
    project = Project(
        Path(shutil.copytree(_exported.root, folder / "project", ignore=shutil.ignore_patterns("*.onnx")))
    )
    rename_class(with_data_reports(project), "red", HOSTILE)
    add_explanations(project, "wide", width=2000)
    report(project)
    return project.report_html


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_the_page_asks_for_nothing_says_nothing_runs_nothing_and_fits(
    browser: Any, page: Path, size: tuple[int, int], tmp_path: Path
) -> None:
    requests, messages = _open(browser, page, size)
    assert (requests, messages) == ([], [])
    assert browser.title == "What this classifier will do"
    assert HOSTILE in browser.find_element("tag name", "body").text
    assert browser.execute_script("return [...document.images].every(image => image.naturalWidth > 0)")
    assert len(browser.find_elements("tag name", "img")) == 12
    assert not _overflows(browser)
    assert _brightness(browser, tmp_path / "page.png") > 200


def test_the_page_is_dark_where_the_reader_wants_it_dark(browser: Any, page: Path, tmp_path: Path) -> None:
    _open(browser, page, PHONE, "dark")
    assert _brightness(browser, tmp_path / "page.png") < 60


def test_the_page_can_be_printed(browser: Any, page: Path) -> None:
    _open(browser, page, DESK, "dark")
    printed = browser.execute_cdp_cmd("Page.printToPDF", {})["data"]
    assert len(printed) > 20_000
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    nav = "return getComputedStyle(document.querySelector('nav')).display"
    assert browser.execute_script(nav) == "none"


def test_a_page_that_does_all_this_is_caught(browser: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        '<title>bad</title><img src="http://127.0.0.1:9/x.png"><div style="width: 3000px">wide</div>'
        f"<p>{HOSTILE}</p><script>console.error('from the console')</script>"
    )
    requests, messages = _open(browser, bad, PHONE)
    assert "http://127.0.0.1:9/x.png" in requests
    assert any("from the console" in message for message in messages)
    assert browser.title != "bad"
    assert _overflows(browser)


def test_a_name_that_came_through_unescaped_could_still_not_run(browser: Any, page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    broken = page.with_name("broken.html")
    broken.write_text(html.replace("&lt;", "<").replace("&gt;", ">").replace("&#34;", '"'), encoding="utf-8")
    _, messages = _open(browser, broken, DESK)
    assert any("Content Security Policy" in message for message in messages)
    assert browser.title == "What this classifier will do"
