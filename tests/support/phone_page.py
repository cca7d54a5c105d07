"""The page of `pipe phone` in tests: its package, a server for it, and a browser with a camera that shows a file."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from export.phone.onnxruntime_web import COMMAND, PACKAGE
from tests.support.examples import NotHereError
from tests.support.tiny_bundle import ROOT

PAGE = ROOT / "export" / "phone" / "page"
_PHONE = (390, 844)  # width and height in pixels
_SECONDS = 120
_SOFTWARE_WEBGPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")


def fetch_package(folder: Path) -> Path:
    """Let npm write onnxruntime-web's package into a folder, unless it lies there.

    Raises:
        NotHereError: npm is not installed, or its registry cannot be reached.
    """
    package = folder / PACKAGE
    if package.is_file():
        return package
    if shutil.which("npm") is None:
        raise NotHereError("npm is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    command = [*COMMAND.split(), "--fetch-retries=0", "--prefer-offline"]
    try:
        finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise NotHereError(f"npm did not fetch {PACKAGE} within {_SECONDS} s") from error
    if finished.returncode != 0:
        raise NotHereError(f"npm cannot fetch {PACKAGE}: {finished.stderr.strip().splitlines()[-1:]}")
    return package


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing about requests."""


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Say nothing about browsers that are closed while they load."""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder on localhost, which browsers take for secure; yield its address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://localhost:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def write_camera_film(path: Path, pictures: list[NDArray[np.uint8]], seconds: int = 4) -> Path:
    """Write what the browser's camera shows, an MJPEG in a loop: each picture (height, width, 3) for some seconds."""
    height, width, _ = pictures[0].shape
    with av.open(str(path), "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        stream.options = {"qmin": "1", "qmax": "3"}
        for picture_hwc in np.repeat(np.stack(pictures), 10 * seconds, axis=0):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture_hwc, format="rgb24")))
        container.mux(stream.encode())
    return path


class PhoneBrowser:
    """Headless Chromium that allows the camera, and shows a film there."""

    def __init__(self, film: Path | None = None, *, downloads: Path | None = None, webgpu: bool = False) -> None:
        """Start the browser.

        Args:
            film: what the camera shows; None: there is no camera.
            downloads: where files are saved.
            webgpu: with WebGPU, which SwiftShader computes on the processor.

        Raises:
            NotHereError: Chromium or its driver is not installed.
        """
        program, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if program is None or driver is None:
            raise NotHereError("no browser: install Debian's packages chromium and chromium-driver")
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = program
        camera = ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={film}"] if film else []
        for argument in (
            "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", "--lang=en",
            "--use-fake-ui-for-media-stream", *camera, *(_SOFTWARE_WEBGPU if webgpu else ["--disable-gpu"]),
        ):  # fmt: skip
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        if downloads is not None:
            options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(driver))
        self.driver.set_script_timeout(60)

    def __enter__(self) -> PhoneBrowser:
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.quit()

    def be_narrow(self) -> None:
        """Show pages in the window of a phone."""
        width, height = _PHONE
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def before_load(self, script: str) -> None:
        """Run a script before every page from now on, such as one that takes a part of the browser away."""
        self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})

    def open(self, address: str) -> None:
        """Open a page and wait until it has checked itself, with either result."""
        self.driver.get(address)
        self.until("return !document.getElementById('actions').hidden || document.querySelector('#answer.refused')")

    def until(self, script: str, seconds: float = 60) -> Any:
        """Wait until a script returns something true, and return that."""
        from selenium.webdriver.support.ui import WebDriverWait

        def done(driver: Any) -> Any:
            return driver.execute_script(script)

        try:
            return WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(done)
        except Exception as error:
            raise AssertionError(f"{script}: not within {seconds} s; the page: {self.text()!r}") from error

    def text(self, part: str = "body") -> str:
        """The visible text of an element."""
        return str(self.driver.execute_script(f"return document.querySelector({json.dumps(part)}).innerText"))

    def press(self, part: str) -> None:
        """Press a button as a person does."""
        self.driver.find_element("css selector", part).click()

    def drag(self, part: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Draw a stroke over an element.

        Args:
            part: the element.
            start, end: x and y, as shares of the element's sides.
        """
        from selenium.webdriver import ActionChains

        element = self.driver.find_element("css selector", part)
        places = [
            [round((place[side] - 0.5) * element.size[name]) for side, name in enumerate(("width", "height"))]
            for place in (start, end)
        ]
        stroke = ActionChains(self.driver).move_to_element_with_offset(element, *places[0]).click_and_hold()
        stroke.move_to_element_with_offset(element, *places[1]).release().perform()

    def go_past_warning(self) -> None:
        """Go on behind Chromium's warning of a certificate, as a person can."""
        self.driver.find_element("tag name", "body").send_keys("thisisunsafe")

    def give_file(self, path: Path) -> None:
        """Choose a file in the page's own dialog for files."""
        self.driver.find_element("id", "file-input").send_keys(str(path))

    def run(self, script: str, *arguments: object) -> Any:
        """Run the body of an async function in the page, and return what it returns."""
        body = f"const done = arguments[arguments.length - 1]; (async (...given) => {{ {script} }})(...arguments)"
        result = self.driver.execute_async_script(
            f"{body}.then((value) => done({{ value }}), (error) => done({{ error: String(error.key ?? error) }}))",
            *arguments,
        )
        if "error" in result:
            raise AssertionError(result["error"])
        return result.get("value")

    def requests(self) -> list[str]:
        """The addresses that pages have asked for since the last call, of this browser's own network log."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def messages(self) -> list[str]:
        """The messages of the console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


def renew_hash(page: Path, name: str) -> None:
    """Let page.json name the present content of a file, as somebody would who changes both."""
    import hashlib

    about = json.loads((page / "page.json").read_text(encoding="utf-8"))
    about["files"][name] = hashlib.sha256((page / name).read_bytes()).hexdigest()
    (page / "page.json").write_text(json.dumps(about), encoding="utf-8")


class ServedPage:
    """`pipe phone --serve` on a free port, in a process of its own."""

    PROGRAM = """
import sys
from pathlib import Path
from export.phone import serve
serve.PORT = int(sys.argv[2])
serve.serve(Path(sys.argv[1]))
"""

    def __init__(self, folder: Path) -> None:
        """Start it, and wait until it has told its address."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [sys.executable, "-c", self.PROGRAM, str(folder), str(port)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.lines: list[str] = []
        while not self.lines or "fingerprint" not in self.lines[-1]:
            self.lines.append(self.process.stdout.readline())
            assert self.lines[-1], self.process.stderr.read() if self.process.stderr else ""
        self.fingerprint = self.process.stdout.readline().strip()
        self.address = self.lines[0].split(" is at ")[1].split(" ")[0]
        self.port = port

    def __enter__(self) -> ServedPage:
        return self

    def __exit__(self, *_: object) -> None:
        """End it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=60)
