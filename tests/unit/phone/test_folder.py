"""The page's folder: what it holds, and what `pipe phone` refuses."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from export.bundle.stage import bundle
from export.phone import onnxruntime_web
from export.phone.folder import phone
from export.phone.onnxruntime_web import COMMAND, FILES, WEBGPU_FILES, read_package
from export.phone.page_files import chosen_variant, content_policy
from pipeline.base.errors import DataError, DiskFullError
from pipeline.base.project import Project
from runtime.answers import ROUNDING_OF_SCORES, SCORE_RANGE
from runtime.archive import bundle_id, unpack
from runtime.contract import Contract
from runtime.errors import BundleError
from tests.support.command import run_pipe
from tests.support.phone_webgpu import resizing_bundle
from tests.support.tiny_bundle import draft_contract, scored_graph, with_thresholds, write_project


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a bundle of int8 and fp32 graphs that give a known score."""
    contract = with_thresholds(draft_contract("fp32", "int8"), 0.5, 0.4, "known_score")
    project = write_project(tmp_path_factory.mktemp("phone") / "project", contract, scored_graph)
    bundle(project)
    return project


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in the form of npm's, with other files; its hash is the expected one."""
    path = tmp_path / "onnxruntime-web.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name in (*FILES, *WEBGPU_FILES):
            content = f"content of {name}".encode()
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(onnxruntime_web, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_holds_the_page_the_graph_and_what_it_is_checked_with(
    bundled: Project, package: Path, tmp_path: Path
) -> None:
    report = phone(bundled, None, package, tmp_path / "out", single=False)
    unpack(bundled.bundle_zip, tmp_path / "bundle")
    files = files_below(tmp_path / "out")
    assert (report.n_files, report.bytes) == (len(files), sum(map(len, files.values())))
    about = json.loads(files["page.json"])
    assert about["bundle_id"] == bundle_id(tmp_path / "bundle")
    assert (about["variant"], about["graph"]) == ("int8", "model/model_int8.onnx")
    assert files["model/model_int8.onnx"] == (tmp_path / "bundle" / "model_int8.onnx").read_bytes()
    assert files["model/contract.json"] == (tmp_path / "bundle" / "contract.json").read_bytes()
    assert {name: hashlib.sha256(files[name]).hexdigest() for name in about["files"]} == about["files"]
    assert set(about["files"]) == {name for name in files if name.split("/")[0] in ("ort", "model", "golden")}
    golden = json.loads((tmp_path / "bundle" / "golden" / "golden.json").read_text(encoding="utf-8"))
    for sample, listed in zip(golden["samples"], about["golden"], strict=True):
        pixels = np.load(tmp_path / "bundle" / "golden" / sample["pixels"])
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(files[listed["pixels"]]))), pixels)
        assert listed["pixels_sha256"] == hashlib.sha256(pixels.tobytes()).hexdigest()
        assert files[listed["image"]] == (tmp_path / "bundle" / "golden" / sample["image"]).read_bytes()
    assert [sample["logits"] for sample in about["golden"]] == golden["logits"]["int8"]
    assert [sample["score"] for sample in about["golden"]] == golden["scores"]["int8"]
    contract = Contract.read(tmp_path / "bundle" / "contract.json")
    variant = next(each for each in contract.variants if each.name == "int8")
    assert about["allowed_logit"] == variant.golden_tolerance * np.ptp(golden["logits"]["int8"])
    assert about["allowed_score"] == max(variant.golden_tolerance * SCORE_RANGE, ROUNDING_OF_SCORES)
    assert b"Permission is hereby granted" in files["NOTICES.md"]
    assert b"Apache License" in files["LICENSE.txt"]
    assert len(files["ThirdPartyNotices.txt"]) > 100_000


def test_the_service_worker_keeps_every_file_and_knows_another_build(
    bundled: Project, package: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        phone(bundled, None, package, tmp_path / name, single=False)
    one, two = files_below(tmp_path / "one"), files_below(tmp_path / "two")
    assert one == two  # the same bundle gives the same bytes
    first_line = one["sw.js"].decode().split("\n")[0]
    build = json.loads(first_line.removeprefix("const BUILD = ").removesuffix(";"))
    assert build["later"] == {}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in one.items() if name != "sw.js"}
    assert build["files"] == hashes | {"./": hashes["index.html"]}
    assert build["policy"] == content_policy(one["index.html"])
    other = write_project(tmp_path / "other", draft_contract("fp32"))
    bundle(other)
    phone(other, None, package, tmp_path / "two", single=False)
    assert build["id"] not in files_below(tmp_path / "two")["sw.js"].decode()


def test_only_a_page_of_a_float_graph_has_webgpu_whose_files_are_kept_once_they_are_asked_for(
    bundled: Project, package: Path, tmp_path: Path
) -> None:
    names = [f"ort/{name}" for name in WEBGPU_FILES]
    of_float = resizing_bundle(tmp_path / "float", "fp32")
    phone(bundled, of_float, package, tmp_path / "page", single=False)
    files = files_below(tmp_path / "page")
    about = json.loads(files["page.json"])
    hashes = {name: hashlib.sha256(files[name]).hexdigest() for name in names}
    assert about["webgpu"]["files"] == hashes
    assert "preprocess/low_columns" in about["webgpu"]["cpu_nodes"]
    build = json.loads(files["sw.js"].decode().split("\n")[0].removeprefix("const BUILD = ").removesuffix(";"))
    assert build["later"] == hashes
    assert not set(names) & {*build["files"], *about["files"]}
    of_int8 = phone_files(bundled, package, tmp_path)
    assert json.loads(of_int8["page.json"])["webgpu"] is None
    assert not set(names) & set(of_int8)
    phone(bundled, of_float, package, tmp_path / "page.html", single=True)
    assert 'id="file:ort/ort.jspi' not in (tmp_path / "page.html").read_text(encoding="utf-8")


WORKER = """
import { readFileSync } from "node:fs";
const { worker, folder, fault } = JSON.parse(readFileSync(0, "utf8"));
const kept = new Map();
const listeners = {};
const addEventListener = (name, does) => { listeners[name] = does; };
const scope = { registration: { scope: "https://host/" }, addEventListener };
const caches = {
  open: async (name) => {
    kept.set(name, kept.get(name) ?? new Map());
    const put = async (file, response) => kept.get(name).set(file, await response.text());
    const match = async ({ url }) => {
      const text = kept.get(name).get(url.slice(scope.registration.scope.length));
      return text === undefined ? undefined : new Response(text);
    };
    return { put, match };
  },
  delete: async (name) => kept.delete(name),
};
class Request { constructor(name) { this.name = name; } }
const fetch = async ({ name, url }) => {
  if (url) return new Response("of the network");
  if (name === fault.missing) return new Response("", { status: 404 });
  if (name === fault.ofAnotherBuild) return new Response("of another build");
  return new Response(readFileSync(`${folder}/${name === "./" ? "index.html" : name}`));
};
new Function("self", "caches", "fetch", "Request", readFileSync(worker, "utf8"))(scope, caches, fetch, Request);
let finished;
listeners.install({ waitUntil: (promise) => { finished = promise; } });
const problem = await finished.then(() => null, (error) => error.message);
const files = [...kept.values()].map((cache) => [...cache.keys()]);
let answered;
const ask = (name) => listeners.fetch({
  request: { method: "GET", url: `https://host/${name}` },
  respondWith: (promise) => { answered = promise; },
});
if (fault.later) ask(fault.later);
const later = await answered?.then((response) => response.text());
const isKept = [...kept.values()].some((cache) => cache.has(fault.later));
console.log(JSON.stringify({ problem, kept: files, later, isKept }));
"""


def installed(page: Path, fault: dict[str, str]) -> dict[str, Any]:
    """What the service worker of a page keeps, and what it gives for a file that is asked for later."""
    script = page.with_name("install.mjs")
    script.write_text(WORKER)
    values = {"worker": str(page / "sw.js"), "folder": str(page), "fault": fault}
    command = ["node", str(script)]
    finished = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    result: dict[str, Any] = json.loads(finished.stdout)
    return result


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_a_file_of_webgpu_is_kept_when_it_is_asked_for_and_of_another_build_it_is_not(
    package: Path, tmp_path: Path
) -> None:
    project = write_project(tmp_path / "float", draft_contract("fp32"))
    bundle(project)
    phone(project, None, package, tmp_path / "out", single=False)
    later = "ort/ort.jspi.min.mjs"
    unasked, asked = installed(tmp_path / "out", {}), installed(tmp_path / "out", {"later": later})
    assert later not in unasked["kept"][0]
    assert (asked["later"], asked["isKept"]) == ("content of ort.jspi.min.mjs", True)
    other = installed(tmp_path / "out", {"later": later, "ofAnotherBuild": later})
    assert (other["later"], other["isKept"]) == ("of the network", False)


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ({}, None),
        ({"ofAnotherBuild": "app.js"}, "app.js: not a file of this build"),
        ({"missing": "page.json"}, "page.json: status 404"),
    ],
)
def test_the_service_worker_keeps_one_whole_build_or_nothing(
    fault: dict[str, str], problem: str | None, bundled: Project, package: Path, tmp_path: Path
) -> None:
    phone(bundled, None, package, tmp_path / "out", single=False)
    result = installed(tmp_path / "out", fault)
    assert result["problem"] == problem
    files = {"./", *files_below(tmp_path / "out")} - {"sw.js"}
    assert [set(cache) for cache in result["kept"]] == ([] if fault else [files])


def test_the_policy_lets_no_inline_script_run_and_nothing_leave(
    bundled: Project, package: Path, tmp_path: Path
) -> None:
    phone(bundled, None, package, tmp_path / "out", single=False)
    index = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    policy = dict(part.split(" ", 1) for part in content_policy(index.encode()).split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert policy["connect-src"] == "'self'"
    assert "unsafe-inline" not in index
    assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", index)
    assert not re.search(r"https?:", index)


def test_one_file_holds_everything_and_runs_only_its_own_script(
    bundled: Project, package: Path, tmp_path: Path
) -> None:
    report = phone(bundled, None, package, tmp_path / "page.html", single=True)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert (report.n_files, report.bytes) == (1, len(page.encode()))
    assert "unsafe-inline" not in page
    assert not re.search(r'(?:src|href)="', page.split("<body>")[0])
    about = json.loads(phone_files(bundled, package, tmp_path)["page.json"])
    assert {f'id="file:{name}"' for name in about["files"]} <= set(re.findall(r'id="file:[^"]+"', page))


def phone_files(bundled: Project, package: Path, tmp_path: Path) -> dict[str, bytes]:
    phone(bundled, None, package, tmp_path / "folder", single=False)
    return files_below(tmp_path / "folder")


def test_without_the_package_one_line_shows_how_to_get_it(bundled: Project) -> None:
    finished = run_pipe(bundled.root, "phone")
    assert finished.returncode == 1
    assert finished.stderr.strip().count("\n") == 0
    assert COMMAND in finished.stderr
    assert not (bundled.root / "dist" / "phone").exists()


def test_one_file_is_not_served_and_a_page_that_is_not_there_neither(bundled: Project, tmp_path: Path) -> None:
    both = run_pipe(bundled.root, "phone", "--single-file", "--serve")
    assert (both.returncode, "--single-file needs no server" in both.stderr) == (2, True)
    absent = run_pipe(tmp_path, "phone", "--serve")
    assert absent.returncode == 1
    assert "no page; expected one to serve; run `pipe phone --ort PACKAGE` first" in absent.stderr


def test_another_package_is_refused_and_the_earlier_page_stays(bundled: Project, package: Path, tmp_path: Path) -> None:
    phone(bundled, None, package, tmp_path / "out", single=False)
    before = files_below(tmp_path / "out")
    content = bytearray(package.read_bytes())
    content[len(content) // 2] ^= 1
    package.write_bytes(content)
    with pytest.raises(DataError, match=r"onnxruntime-web\.tgz: sha256 is [0-9a-f]{64}; expected [0-9a-f]{64}"):
        phone(bundled, None, package, tmp_path / "out", single=False)
    assert files_below(tmp_path / "out") == before
    with pytest.raises(DataError, match=r"absent\.tgz: cannot be read"):
        read_package(tmp_path / "absent.tgz")


def test_a_folder_of_other_files_is_not_replaced(bundled: Project, package: Path, tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "mine.mp4").write_text("mine")
    with pytest.raises(DataError, match=r"films: holds mine\.mp4, no file of a page"):
        phone(bundled, None, package, tmp_path / "films", single=False)
    with pytest.raises(DataError, match="films: a folder; expected the name of a file"):
        phone(bundled, None, package, tmp_path / "films", single=True)
    assert files_below(tmp_path / "films") == {"mine.mp4": b"mine"}


def test_a_file_that_somebody_put_into_a_page_stays(bundled: Project, package: Path, tmp_path: Path) -> None:
    page = tmp_path / "out"
    phone(bundled, None, package, page, single=False)
    phone(bundled, None, package, page, single=False)  # an earlier page alone is replaced
    for name in ("ort/notes.txt", "mine/"):
        (page / name).mkdir() if name.endswith("/") else (page / name).write_text("mine")
        with pytest.raises(DataError, match=f"out: holds {name.removesuffix('/')}, no file of a page"):
            phone(bundled, None, package, page, single=False)
        (page / name).rmdir() if name.endswith("/") else (page / name).unlink()


def test_a_photo_is_not_replaced_by_a_page_of_one_file(bundled: Project, package: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"a photo")
    with pytest.raises(DataError, match=r"photo\.jpg: expected a name that ends with \.html"):
        phone(bundled, None, package, photo, single=True)
    assert photo.read_bytes() == b"a photo"


def test_a_package_that_never_ends_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "package.tgz")
    for path in (tmp_path / "package.tgz", Path("/dev/zero")):
        with pytest.raises(DataError, match=r"cannot be read \((a named pipe|a device); expected a file\)"):
            read_package(path)


def test_a_page_appears_whole_or_not_at_all(
    bundled: Project, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone(bundled, None, package, tmp_path / "out", single=False)
    before = files_below(tmp_path / "out")
    write_bytes = Path.write_bytes

    def full(self: Path, content: bytes) -> int:
        if self.name == "page.json":
            raise OSError(28, "No space left on device", str(self))
        return write_bytes(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DiskFullError, match="out: the disk is full"):
        phone(bundled, None, package, tmp_path / "out", single=False)
    monkeypatch.undo()
    assert files_below(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")] == []


def test_a_missing_or_damaged_bundle_is_refused(bundled: Project, package: Path, tmp_path: Path) -> None:
    empty = Project(tmp_path / "empty")
    with pytest.raises(DataError, match=r"bundle\.zip: missing; run `pipe bundle`"):
        phone(empty, None, package, None, single=False)
    content = bytearray(bundled.bundle_zip.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(content)
    with pytest.raises(BundleError, match=r"damaged\.zip"):
        phone(bundled, damaged, package, tmp_path / "out", single=False)
    assert not (tmp_path / "out").exists()


def test_int8_is_taken_first_then_fp32_then_what_the_contract_recommends() -> None:
    def chosen(*names: str) -> str:
        return chosen_variant(draft_contract(*names)).name

    assert (chosen("fp32", "fp16", "int8"), chosen("fp16", "fp32"), chosen("fp16")) == ("int8", "fp32", "fp16")


def test_a_contract_of_an_earlier_version_is_refused(package: Path, tmp_path: Path) -> None:
    contract = dataclasses.replace(draft_contract("fp32"), format_version=2)
    project = write_project(tmp_path / "project", contract)
    bundle(project)
    with pytest.raises(DataError, match=r"contract\.json: found version 2; expected 3"):
        phone(project, None, package, None, single=False)
