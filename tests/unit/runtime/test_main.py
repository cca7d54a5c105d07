"""The device's command line, run from the unpacked bundle by a Python that has nothing else."""

from __future__ import annotations

import ast
import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import runtime
from runtime.__main__ import main
from runtime.archive import bundle_id
from runtime.bench import Latency, VariantBench
from runtime.images import FORMATS
from runtime.session import onnxruntime, open_session
from tests.support.bare_environment import bare_environment
from tests.support.tiny_bundle import CLASSES, ROOT, picture, rewrite_sums, write_json

# Runs the bundle as on a device: without this checkout, and without the libraries that training needs.
ON_A_DEVICE = """
import os, sys
ALLOWED = {"runtime", "numpy", "onnxruntime", "PIL"} | sys.stdlib_module_names
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "timm", "onnx", "pipeline", "export", "cv2", "av"}:
            raise ImportError(f"{name} is not on this device")
sys.meta_path.insert(0, Blocker())
sys.path.insert(0, os.getcwd())
import runtime.__main__
assert runtime.__file__.startswith(os.getcwd()), runtime.__file__
code = runtime.__main__.main(sys.argv[1:])
"""
NO_TORCH = "sys.meta_path.insert(0, Blocker())"
LAST_LINE = "sys.exit(code)\n"


def on_device(
    folder: Path,
    *arguments: str | Path,
    program: str = ON_A_DEVICE + LAST_LINE,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command of the bundle in a fresh process; the caller checks the exit code."""
    if environment is None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, "-P", "-c", program, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def without_times(printed: str) -> str:
    """Remove the values of the runtime's JSON that differ in every run."""
    return re.sub(r'("median_ms": )[\d.e-]+|("time_shares": )\{[^}]*\}', r"\1\2", printed)


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Run a command in this process; return exit code, output and errors."""
    code = main(list(map(str, arguments)))
    return code, *capsys.readouterr()


def test_an_unpacked_bundle_needs_nothing_but_itself(folder: Path) -> None:
    finished = on_device(folder, "selfcheck", "--json")
    assert finished.stderr == ""
    assert finished.returncode == 0
    assert json.loads(finished.stdout)["passed"] is True
    # A second time, with the caches that the first left behind.
    assert on_device(folder, "selfcheck").returncode == 0


def test_the_device_writes_nothing_into_the_home_folder(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = bare_environment(home)
    for command in (("selfcheck",), ("classify", "golden")):
        assert on_device(folder, *command, environment=environment).returncode == 0
    assert list(home.rglob("*")) == []
    if tuple(int(part) for part in onnxruntime().__version__.split(".")[:2]) >= (1, 29):
        # The negative control: what the library writes if nobody switches it off.
        subprocess.run([sys.executable, "-c", "import onnxruntime"], env=environment, check=True, capture_output=True)
        assert list(home.rglob("*")) != []


@pytest.mark.slow
def test_torch_beside_the_bundle_changes_no_answer(folder: Path) -> None:
    assert ON_A_DEVICE.count(NO_TORCH) == 1
    programs = (ON_A_DEVICE, ON_A_DEVICE.replace(NO_TORCH, "import torch") + "assert 'torch' in sys.modules\n")
    both = "if code == 0:\n    code = runtime.__main__.main(['selfcheck', '--json'])\n"
    command = ("classify", "--json", "golden")
    alone, beside = (on_device(folder, *command, program=each + both + LAST_LINE) for each in programs)
    assert (alone.returncode, beside.returncode, beside.stderr) == (0, 0, alone.stderr)
    assert without_times(alone.stdout) == without_times(beside.stdout)
    # Only the times are removed before the comparison.
    assert "max_abs_logit_difference" in without_times(alone.stdout)
    assert without_times(alone.stdout) != without_times(beside.stdout.replace('"probability": 0.', '"probability": 1.'))


def test_a_missing_onnxruntime_is_reported_in_one_line(folder: Path) -> None:
    program = ON_A_DEVICE.replace('"torch", ', '"torch", "onnxruntime", ') + LAST_LINE
    finished = on_device(folder, "selfcheck", program=program)
    assert finished.returncode == 1
    assert finished.stderr.startswith("runtime: onnxruntime cannot be imported")
    assert len(finished.stderr.splitlines()) == 1


def test_the_runtime_is_light_to_import(folder: Path) -> None:
    program = ON_A_DEVICE.replace("import runtime.__main__", "import runtime") + LAST_LINE
    program = program.split("code = ")[0] + "print(sorted(name for name in sys.modules if '.' not in name))"
    loaded = on_device(folder, program=program).stdout
    assert "'runtime'" in loaded
    assert not [name for name in ("numpy", "onnxruntime", "PIL", "argparse") if f"'{name}'" in loaded]


@pytest.mark.parametrize("path", sorted((ROOT / "runtime").rglob("*.py")), ids=lambda path: path.name)
def test_the_code_speaks_the_oldest_python_that_is_promised(path: Path) -> None:
    assert ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10)) is not None  # does not raise


def test_the_example_of_the_readme_works(folder: Path) -> None:
    """Copy the lines, and put a photo where they expect it."""
    readme = (folder / "README.md").read_text(encoding="utf-8")
    example = readme.split("```python\n")[1].split("```")[0]
    Image.fromarray(picture(1)).save(folder.parent / "photo.jpg")
    finished = on_device(folder, program=ON_A_DEVICE.partition("import runtime")[0] + example)
    assert finished.stderr == ""
    assert finished.stdout.startswith("green 0.9")


def test_the_bundle_around_the_code_is_the_default(folder: Path, tmp_path: Path) -> None:
    Image.fromarray(picture(0)).save(tmp_path / "photo.png")
    program = ON_A_DEVICE.replace("os.getcwd()", repr(str(folder))) + LAST_LINE
    finished = on_device(tmp_path, "classify", "photo.png", program=program)
    assert finished.stdout == " 96.2%  red  photo.png\n"


def test_a_file_name_with_terminal_escapes_is_printed_escaped(
    pristine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "\x1b[2J99%  safe\n.png"
    Image.fromarray(picture(0)).save(tmp_path / "picture.png")
    (tmp_path / "picture.png").rename(tmp_path / name)
    for path in (tmp_path / name, tmp_path / f"none{name}"):
        _, out, err = run(capsys, "classify", "--bundle", pristine, path)
        assert "\x1b" not in out + err
        assert "\\u001b[2J99%" in out + err
        assert (out + err).count("\n") == (1 if path.exists() else 2)


def test_classify_takes_files_and_folders(pristine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inner = tmp_path / "photos" / "inner"
    inner.mkdir(parents=True)
    paths = [tmp_path / "first.png", tmp_path / "photos" / "b.JPG", inner / "c.webp"]
    for index, path in enumerate(paths):
        Image.fromarray(picture(index)).save(path, format="PNG")
    (inner / "notes.txt").write_text("not looked at")
    code, out, err = run(capsys, "classify", "--bundle", pristine, "--json", paths[0], tmp_path / "photos")
    answers: list[dict[str, Any]] = json.loads(out)
    assert (code, err) == (0, "")
    assert [(answer["path"], answer["label"]) for answer in answers] == list(zip(map(str, paths), CLASSES, strict=True))
    assert list(answers[0]) == ["path", "label", "probability", "probabilities", "logits", "score", "bundle_id"]


def test_a_bad_picture_among_good_ones_is_reported_and_the_others_are_classified(
    pristine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    Image.fromarray(picture(2)).save(tmp_path / "b.png")
    code, out, err = run(capsys, "classify", "--bundle", pristine, tmp_path)
    assert code == 1
    assert "蓝色" in out
    assert err.splitlines()[0].startswith(f"runtime: {tmp_path / 'a.jpg'}: not a picture")
    assert err.splitlines()[1] == "runtime: 1 of 2 pictures could not be classified"
    code, out, err = run(capsys, "classify", "--bundle", pristine, "--json", tmp_path)
    assert [list(answer)[1] for answer in json.loads(out)] == ["error", "label"]


def test_of_a_folder_litter_is_skipped_and_a_linked_folder_is_named(
    pristine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    for name in (
        "b/2.png",
        "1.png",
        "@eaDir/1.png/thumb.jpg",
        "__MACOSX/1.png",
        "._1.png",
        ".hidden/3.png",
        "Thumbs.db",
    ):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(1)).save(photos / name, format="PNG")
    elsewhere.mkdir()
    Image.fromarray(picture(1)).save(elsewhere / "4.png")
    (photos / "card").symlink_to(elsewhere)
    (photos / "5.png").symlink_to(elsewhere / "4.png")
    code, out, err = run(capsys, "classify", "--bundle", pristine, "--json", photos)
    assert [answer["path"] for answer in json.loads(out)] == [
        str(photos / name) for name in ("1.png", "5.png", "b/2.png")
    ]
    assert code == 0
    assert err == f"runtime: {photos / 'card'}: a link to a folder, which is not followed; name it as a PATH too\n"


def test_a_folder_without_pictures_is_reported_and_the_other_paths_are_answered(
    pristine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    Image.fromarray(picture(1)).save(tmp_path / "a.png")
    code, out, err = run(capsys, "classify", "--bundle", pristine, "--json", tmp_path / "empty", tmp_path / "a.png")
    assert code == 1
    assert "no picture in this folder" in err
    assert [list(answer)[1] for answer in json.loads(out)] == ["error", "label"]


def test_a_path_that_cannot_be_looked_at_costs_no_other_its_answer(
    pristine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, closed = tmp_path / "photos", tmp_path / "photos" / "closed"
    closed.mkdir(parents=True)
    (photos / "nothing.jpg").symlink_to(tmp_path / "nowhere.jpg")
    for path in (tmp_path / "a.png", photos / "b.png", closed / "c.png"):
        Image.fromarray(picture(1)).save(path)
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if Path(path) == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    paths = ["", tmp_path / f"{'a' * 300}.png", tmp_path / "a.png", photos]
    code, out, err = run(capsys, "classify", "--bundle", pristine, "--json", *paths)
    answers = {answer["path"]: answer.get("error", "answered") for answer in json.loads(out)}
    reasons = {
        "": "an empty PATH",
        str(paths[1]): "File name too long",
        str(paths[2]): "answered",
        str(photos / "b.png"): "answered",
        str(photos / "nothing.jpg"): "No such file",
        str(closed): "Permission denied",
    }
    assert list(answers) == list(reasons)
    assert [reason in answers[path] for path, reason in reasons.items()] == [True] * 6
    assert code == 1
    assert err.splitlines()[-1] == "runtime: 4 of 6 pictures could not be classified"


def test_an_empty_name_of_a_variant_is_refused(pristine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "classify", "--bundle", pristine, "--variant", "", pristine / "golden")
    assert (code, err.count("\n"), "variant '': unknown; expected" in err) == (1, 1, True)


def test_an_error_never_stands_among_the_json(pristine: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    Image.fromarray(picture(1)).save(tmp_path / "b.png")
    for redirection in ("2>&-", "2>/dev/full"):
        command = f'"{sys.executable}" -m runtime classify --bundle "$1" --json "$2" {redirection}'
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        finished = subprocess.run(
            ["sh", "-c", command, "sh", pristine, tmp_path],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            check=False,
        )
        assert finished.returncode == 1
        assert [list(answer)[1] for answer in json.loads(finished.stdout)] == ["error", "label"]


def start_classify(pristine: Path, *arguments: str | Path, folder: Path = ROOT) -> subprocess.Popen[bytes]:
    """Start the command with pipes on all three sides."""
    command = [sys.executable, "-m", "runtime", "classify", "--bundle", pristine, *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    return subprocess.Popen(list(map(str, command)), cwd=folder, env=environment, **pipes)


def test_a_line_of_json_appears_as_soon_as_its_picture_is_answered(pristine: Path, tmp_path: Path) -> None:
    """The second picture is sent only after the first one's line has arrived."""
    Image.fromarray(picture(0)).save(tmp_path / "é.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    Image.fromarray(picture(2)).save(tmp_path / "c.png")
    paths = [tmp_path / "é.png", tmp_path / "b.png", "-"]
    with start_classify(pristine, "--jsonl", *paths) as process:
        assert process.stdout is not None
        first, second = (json.loads(process.stdout.readline()) for _ in range(2))
        out, err = process.communicate((tmp_path / "c.png").read_bytes())
    (third,) = map(json.loads, out.splitlines())
    assert [answer["path"] for answer in (first, second, third)] == list(map(str, paths))
    assert (first["label"], third["label"]) == ("red", "蓝色")
    assert second["error"].endswith("b.png: not a picture that can be read; expected one of " + ", ".join(FORMATS))
    assert process.returncode == 1
    assert err.decode().splitlines() == [
        f"runtime: {second['error']}",
        "runtime: 1 of 3 pictures could not be classified",
    ]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "0 bytes: not a picture"),
        (b"no picture", "10 bytes: not a picture"),
        (b"\x89PNG" + bytes(20 * 2**20), "more than 16857216 bytes; expected a picture of at most 10000 pixels"),
    ],
    ids=["empty", "no picture", "too much"],
)
def test_a_standard_input_that_is_no_picture_is_reported(
    content: bytes, line: str, pristine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    code, out, err = run(capsys, "classify", "--bundle", pristine, "-")
    assert (code, out) == (1, "")
    assert err.startswith(f"runtime: standard input: {line}")
    assert len(err.splitlines()) == 2


@pytest.mark.parametrize(
    ("redirection", "problem"), [("<&-", "closed"), ("0>/dev/null", "cannot be read (Bad file descriptor)")]
)
def test_a_standard_input_that_cannot_be_read_is_reported(redirection: str, problem: str, pristine: Path) -> None:
    command = f"{sys.executable} -m runtime classify --bundle '{pristine}' - {redirection}"
    finished = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 1
    assert finished.stderr.startswith(f"runtime: standard input: {problem}; expected the bytes of a picture\n")


def test_a_file_called_minus_is_read_by_its_path(pristine: Path, tmp_path: Path) -> None:
    Image.fromarray(picture(1)).save(tmp_path / "-", format="PNG")
    with start_classify(pristine, "./-", folder=tmp_path) as process:
        out, err = process.communicate(b"not looked at")
    assert (process.returncode, out, err) == (0, b" 95.9%  green  -\n", b"")


def test_classify_uses_as_many_threads_as_asked(
    pristine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    monkeypatch.setattr("runtime.classifier.open_session", lambda *given: opened.append(given) or open_session(*given))
    for threads in ("3", None):
        picked = ["--threads", threads] if threads else []
        assert run(capsys, "classify", "--bundle", pristine, *picked, pristine / "golden" / "000.jpg")[0] == 0
    assert [opening.threads for *_, opening in opened] == [3, None]


def test_info_and_bench_speak_in_lines_and_in_json(pristine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["info"], ["bench", "--repeats", "2"]):
        code, out, err = run(capsys, *command, "--bundle", pristine)
        assert (code, err) == (0, "")
        assert "CPUExecutionProvider" in out
        code, out, err = run(capsys, *command, "--bundle", pristine, "--json")
        assert (code, err) == (0, "")
        assert isinstance(json.loads(out), dict)


def test_every_command_names_the_bundle(pristine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = bundle_id(pristine)
    for command in ("info", "selfcheck"):
        assert f"bundle_id: {name}\n" in run(capsys, command, "--bundle", pristine)[1]
        assert json.loads(run(capsys, command, "--bundle", pristine, "--json")[1])["bundle_id"] == name
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    answers = json.loads(run(capsys, "classify", "--bundle", pristine, "--json", tmp_path)[1])
    assert [answer["bundle_id"] for answer in answers] == [name, name]


def test_a_folder_without_a_list_answers_without_a_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "SHA256SUMS").unlink()
    code, out, _ = run(capsys, "classify", "--bundle", folder, "--json", folder / "golden" / "000.jpg")
    assert (code, json.loads(out)[0]["bundle_id"]) == (0, None)


def test_selfcheck_exits_3_when_the_numbers_differ(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "golden" / "golden.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["logits"]["fp32"][0][0] += 1
    write_json(path, values)
    rewrite_sums(folder)
    code, out, err = run(capsys, "selfcheck", "--bundle", folder)
    assert code == 3
    assert out.endswith("selfcheck failed\n")
    failure = "fp32 on CPUExecutionProvider: logits differ by 1; expected at most 0.00495"
    assert err == f"runtime: {failure}; use --variant int8, which holds here\n"
    code, out, _ = run(capsys, "selfcheck", "--bundle", folder, "--json")
    assert code == 3
    assert json.loads(out)["passed"] is False


def test_selfcheck_exits_0_and_warns_when_the_numbers_of_another_variant_differ(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "golden" / "golden.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["logits"]["int8"][0][0] += 1
    write_json(path, values)
    rewrite_sums(folder)
    code, out, err = run(capsys, "selfcheck", "--bundle", folder)
    assert code == 0
    assert out.endswith("selfcheck passed\n")
    failure = "int8 on CPUExecutionProvider: logits differ by 1; expected at most 0.00495"
    assert err == f"runtime: warning: {failure}; do not use it here\n"
    code, out, err = run(capsys, "selfcheck", "--bundle", folder, "--json")
    report = json.loads(out)
    assert (code, report["passed"], report["recommended"], report["holding"]) == (0, True, "fp32", ["fp32"])
    assert err.startswith("runtime: warning: int8 on ")


def test_selfcheck_exits_3_where_no_variant_holds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "golden" / "golden.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    for name in ("fp32", "int8"):
        values["logits"][name][0][0] += 1
    write_json(path, values)
    rewrite_sums(folder)
    code, _, err = run(capsys, "selfcheck", "--bundle", folder)
    assert code == 3
    warning, error = err.splitlines()
    assert warning.startswith("runtime: warning: int8 on ")
    assert error.startswith("runtime: fp32 on ")
    assert error.endswith("; no other variant holds here")


def test_selfcheck_exits_3_where_no_picture_can_be_decoded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (folder / "golden").glob("*.jpg"):
        path.write_bytes(b"\xff\xd8\xff")
    rewrite_sums(folder)
    code, out, err = run(capsys, "selfcheck", "--bundle", folder)
    assert (code, len(err.splitlines())) == (3, 1)
    assert err.startswith("runtime: the decoder reads none of 3 golden pictures; the first: ")
    assert out.endswith("selfcheck failed\n")


def test_litter_in_a_folder_is_no_picture(pristine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(picture(2)).save(tmp_path / "a.png")
    (tmp_path / "@eaDir" / "a.png").mkdir(parents=True)
    for name in ("._a.png", "Thumbs.db", "@eaDir/a.png/small.jpg"):
        (tmp_path / name).write_bytes(b"no picture")
    code, out, err = run(capsys, "classify", "--bundle", pristine, "--json", tmp_path)
    assert (code, err, len(json.loads(out))) == (0, "", 1)


def test_heic_in_a_folder_is_named(pristine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(picture(2)).save(tmp_path / "a.png")
    for name in ("b.HEIC", "c.jpg"):  # the second one has the wrong suffix, as some programs export it
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(12))
    code, _, err = run(capsys, "classify", "--bundle", pristine, tmp_path)
    assert code == 1
    assert err.splitlines() == [
        f"runtime: {tmp_path / 'b.HEIC'}: HEIC, which is not read here; convert it to JPEG first",
        f"runtime: {tmp_path / 'c.jpg'}: HEIC, which is not read here; convert it to JPEG first",
        "runtime: 2 of 3 pictures could not be classified",
    ]


def test_bench_names_a_graph_that_is_faster_here(
    pristine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(_: Path, name: str, *__: object) -> VariantBench:
        latency = Latency(1.0, {"fp32": 13.9, "int8": 10.2}[name], 15.0, 9)
        return VariantBench(name, ("CPUExecutionProvider",), 1.0, latency, latency, None)

    monkeypatch.setattr("runtime.bench._bench_in_own_process", measured)
    code, out, _ = run(capsys, "bench", "--bundle", pristine)
    assert code == 0
    assert out.splitlines()[-1] == (
        "int8 is faster here than fp32, the recommended one: 10.20 ms against 13.90 ms; use --variant int8."
        " fp32 was chosen by its time on Test Processor 1"
    )
    code, out, _ = run(capsys, "bench", "--bundle", pristine, "--json")
    assert json.loads(out)["faster_than_recommended"] == "int8"
    code, out, _ = run(capsys, "bench", "--bundle", pristine, "--json", "--variant", "fp32")
    assert json.loads(out)["faster_than_recommended"] is None


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such a name")
def test_a_bundle_in_a_folder_whose_name_is_not_utf_8_works(
    pristine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    shutil.copytree(pristine, folder)
    finished = on_device(folder, "selfcheck")
    assert (finished.returncode, finished.stderr) == (0, "")
    for command in (
        ["info"],
        ["bench", "--repeats", "1", "--variant", "fp32"],
        ["classify", "--json", folder / "golden"],
    ):
        code, out, err = run(capsys, *command, "--bundle", folder)
        assert (code, err) == (0, "")
    answers = json.loads(out)
    assert [answer["path"] for answer in answers] == [str(path) for path in sorted((folder / "golden").glob("*.jpg"))]


def test_without_pillow_and_opencv_there_is_one_line(folder: Path) -> None:
    without = ON_A_DEVICE.replace("import os, sys", "import importlib.util, os, sys").replace(
        "import runtime.__main__",
        "find_spec = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name in ('PIL', 'cv2') else find_spec(name, *rest)\n"
        "import runtime.__main__",
    )
    for command in (["classify", "golden"], ["selfcheck"]):
        finished = on_device(folder, *command, program=without + LAST_LINE)
        assert finished.returncode == 1
        assert finished.stderr == (
            "runtime: neither Pillow nor OpenCV is installed, so no picture can be read; pip install Pillow\n"
        )


OLD_PYTHON = """
import runpy, sys
sys.version_info = (3, 6, 9, "final", 0)
sys.argv = ["-m", "selfcheck"]  # as `python -m runtime selfcheck` has it while it imports the package
sys.path.insert(0, "")
runpy.run_module("runtime", run_name="__main__", alter_sys=False)
"""


def test_an_old_python_gets_one_line(folder: Path) -> None:
    finished = on_device(folder, program=OLD_PYTHON)
    assert finished.returncode == 1
    assert finished.stderr == "runtime: Python 3.6 runs here; expected 3.10 or newer\n"
    as_library = on_device(
        folder, program=OLD_PYTHON.split("sys.argv", maxsplit=1)[0] + "sys.path.insert(0, '')\nimport runtime"
    )
    assert as_library.stderr.endswith("ImportError: runtime: Python 3.6 runs here; expected 3.10 or newer\n")


def test_this_python_does_not_get_that_line(folder: Path) -> None:
    finished = on_device(folder, program=OLD_PYTHON.replace('sys.version_info = (3, 6, 9, "final", 0)', ""))
    assert "Python" not in finished.stderr
    assert sys.version_info >= runtime.OLDEST_PYTHON


def test_the_file_that_python_reads_first_is_one_that_old_pythons_can_parse() -> None:
    text = (ROOT / "runtime" / "__init__.py").read_text(encoding="utf-8")
    assert ast.parse(text, feature_version=(3, 6)) is not None  # does not raise
    assert "__future__" not in text  # `annotations` is an error before 3.7
    with pytest.raises(SyntaxError):  # the negative control
        ast.parse("match 1:\n    case 1: pass\n", feature_version=(3, 6))


def test_selfcheck_exits_1_when_a_byte_differs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[100] ^= 1
    (folder / "model.onnx").write_bytes(data)
    code, out, err = run(capsys, "selfcheck", "--bundle", folder)
    assert (code, out) == (1, "")
    assert err.endswith("'model.onnx' has been changed; unpack the bundle anew\n")
    assert len(err.splitlines()) == 1


def test_selfcheck_reports_another_decoder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(folder / "golden" / "000.jpg")
    Image.new("RGB", (9, 9)).save(folder / "golden" / "001.jpg")
    rewrite_sums(folder)
    code, out, _ = run(capsys, "selfcheck", "--bundle", folder)
    assert code == 0
    assert "decoder: 1 of 3 pictures decode to exactly the pixels of the build" in out
    assert "  001: decodes to (9, 9, 3); expected (24, 32, 3)" in out


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_json_is_json_whatever_the_output_can_write(encoding: str, pristine: Path, tmp_path: Path) -> None:
    path = tmp_path / "é😀.png"
    Image.fromarray(picture(2)).save(path)
    command = [sys.executable, "-m", "runtime", "classify", "--json", "--bundle", pristine, path]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    (answer,) = json.loads(finished.stdout.decode("utf-8"))
    assert (answer["path"], answer["label"]) == (str(path), "蓝色")


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["train"],
        ["classify"], ["classify", "a.png", "--threads", "0"], ["classify", "a.png", "--json", "--jsonl"],
        ["bench", "--repeats", "0"], ["bench", "--threads", "99999999999"],
    ],
)  # fmt: skip
def test_wrong_usage_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["selfcheck"], ["info"], ["bench"], ["classify", "photo.jpg"]):
        code, _, err = run(capsys, *command, "--bundle", tmp_path)
        assert code == 1
        assert len(err.splitlines()) == 1


def test_ctrl_c_exits_130(pristine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("runtime.__main__.selfcheck", interrupted)
    assert run(capsys, "selfcheck", "--bundle", pristine) == (130, "", "runtime: interrupted\n")


@pytest.mark.parametrize(
    ("redirection", "code", "errors"),
    [("| true", 1, ""), (">/dev/full", 1, "runtime: output: No space left on device\n"), (">&-", 0, "")],
)
def test_an_output_that_takes_nothing_is_no_crash(redirection: str, code: int, errors: str, pristine: Path) -> None:
    command = f"set -o pipefail; {sys.executable} -m runtime info --bundle '{pristine}' {redirection}"
    finished = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (code, errors)
