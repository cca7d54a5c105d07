"""Extraction compared with its peers: `python benchmarks/extract.py [--quick] [--json]`; needs the extra `bench`.

First clips like those of a phone are drawn: 1080p and 4K, H.264 and HEVC, a keyframe each second, keyframes at odd
times, ten-second groups with B-frames, a variable rate. Then every program writes one frame per second as JPEG files.
Ours is the stage's own child process as `pipe extract` runs it: it decodes, measures sharpness, brightness and hash,
and writes. The peers are ffmpeg (`-vf fps=1`, and `-skip_frame nokey`, which gives the keyframes whatever their
times), OpenCV that reads everything, OpenCV that seeks, PyAV that decodes everything, and torchcodec. Each runs in a
fresh process. All run in turn, so that a busy machine slows all of them. A ratio is the peer's time divided by ours:
above 1, ours is faster. `processor_ratios` compare seconds of processors instead, which depend less on what else the
machine does. `every_frame` asks for all frames of a clip with 30 per second.

The rows `folder_10s` and `folder_30s` are folders of short clips. There ours is the whole command `pipe extract` in a
project without a cache. ffmpeg reads one clip after the other; `ffmpeg_keyframes_at_once` starts as many ffmpegs as
there are processors, each with one thread.

The rows of `fingerprints` say what the fingerprints of pictures and sound cost, for clips of 10 s with stereo sound.
One process decodes a clip with both, with pictures only and with neither in turn, many times. A ratio is the median
of the rounds' processor time with them, divided by that without.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from numpy.typing import NDArray

QUALITY = 95
# ffmpeg's best quality: its files are nine tenths as large as ours, and their luma is 0.7 to 2 dB closer to the decoded
# frames. With 2, which recipes name, its files are half as large, and 2 dB further from them.
FFMPEG_QUALITY = ("-qmin", "1", "-q:v", "1")
X265 = "log-level=error:scenecut=0:open-gop=0:keyint={g}:min-keyint={g}:bframes=0"
BITRATE = {1080: 17_000_000, 2160: 45_000_000}


@dataclass(frozen=True)
class Kind:
    """A clip to draw."""

    codec: str
    height: int = 1080
    group: int = 30  # frames from keyframe to keyframe
    b_frames: int = 0
    variable: bool = False  # whether every seventh frame comes late


KINDS = {
    "phone_h264": Kind("libx264"),
    "phone_hevc": Kind("libx265"),
    "odd_keyframes": Kind("libx264", group=37),
    "long_gop": Kind("libx264", group=300, b_frames=3),
    "variable_rate": Kind("libx264", variable=True),
    "phone_4k_h264": Kind("libx264", height=2160),
    "phone_4k_hevc": Kind("libx265", height=2160),
}
IN_QUICK = ("phone_h264", "phone_hevc", "long_gop")
WITH_SOUND = ("phone_h264", "phone_hevc", "long_gop")  # the clips whose fingerprints are timed
FOLDERS = {"folder_10s": (20, 10), "folder_30s": (8, 30)}  # clips, and seconds of each
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 clips of 4 s and 2 rounds instead of 7 of 30 s and 3")
    parser.add_argument("--folders", action="store_true", help="only the rows of folders")
    parser.add_argument("--fingerprints", action="store_true", help="only the rows of fingerprints")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--fingerprints-child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fingerprints_child:
        clip, rounds = arguments.fingerprints_child
        time_fingerprints(Path(clip), int(rounds))
        return
    if arguments.child:
        name, clip, out, rate = arguments.child
        CHILDREN[name](Path(clip), Path(out), float(rate))
        return
    seconds, rounds = (4, 2) if arguments.quick else (30, 3)
    with tempfile.TemporaryDirectory() as folder:
        kinds = IN_QUICK if arguments.quick else tuple(KINDS)
        kinds = () if arguments.folders or arguments.fingerprints else kinds
        folders = {} if arguments.quick or arguments.fingerprints else FOLDERS
        result = _result(Path(folder), kinds, folders, seconds, rounds)
        result["fingerprints"] = {} if arguments.folders else _fingerprints(Path(folder), quick=arguments.quick)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(result["machine"])
    for part in ("medians", "ratios", "processor_ratios", "fingerprints", "peak_megabytes", "not_run"):
        for name, value in result[part].items():
            print(f"{part[:-1] if part != 'not_run' else part:16} {name:40} {value}")


# Programs that run in a process of their own.


def ours(clip: Path, out: Path, frames_per_second: float) -> None:
    """The child process of `extract`."""
    from pipeline.extract.child import Outcome, Settings, decode_recordings
    from runtime.clips.decode_plan import Wanted

    settings = Settings(Wanted(frames_per_second), ".jpg", QUALITY, 200_000_000, 7200, os.cpu_count() or 1)
    (answer,) = decode_recordings([(str(clip), "clip")], str(out), settings.to_json(), {})
    outcome = Outcome.from_json(answer)
    if not outcome.pictures:
        raise SystemExit(outcome.error or outcome.damage)
    # The peak of this program alone: getrusage of a child includes the memory of its parent.
    status = Path("/proc/self/status")
    if status.exists():
        kilobytes = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]
        print(int(kilobytes) * 1024 / 1e6)


def time_fingerprints(clip: Path, rounds: int) -> None:
    """Print as JSON the ratios of processor time: with fingerprints of pictures, and of pictures and sound."""
    from pipeline.extract import child, sound
    from runtime.clips.decode_plan import Wanted

    class NoCollector(child.FingerprintCollector):
        def __call__(self, frame: av.VideoFrame, time_seconds: float) -> None:
            """Look at nothing."""

    variants: dict[str, tuple[Any, Any]] = {
        "neither": (NoCollector, lambda _: None),
        "pictures": (child.FingerprintCollector, lambda _: None),
        "pictures_and_sound": (child.FingerprintCollector, sound.sound_fingerprint),
    }
    settings = child.Settings(Wanted(1.0), ".jpg", QUALITY, 200_000_000, 7200, os.cpu_count() or 1).to_json()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name in sorted(variants, reverse=bool(number % 2)):
            child.FingerprintCollector, child.sound_fingerprint = variants[name]  # type: ignore[misc]
            with tempfile.TemporaryDirectory() as out:
                started = time.process_time()
                (answer,) = child.decode_recordings([(str(clip), "clip")], out, settings, {})
                if number:  # the first round warms the caches of files
                    seconds[name].append(time.process_time() - started)
            if bool(answer["sound"]) != (name == "pictures_and_sound"):
                raise SystemExit(f"{clip}: fingerprint of sound with {name}: {bool(answer['sound'])}")
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    print(json.dumps({name: round(medians[name] / medians["neither"], 3) for name in variants if name != "neither"}))


def opencv_read(clip: Path, out: Path, frames_per_second: float) -> None:
    """OpenCV, every frame read."""
    capture = cv2.VideoCapture(str(clip))
    step = max(1, round(capture.get(cv2.CAP_PROP_FPS) / frames_per_second))
    index = 0
    while capture.grab():
        if index % step == 0:
            cv2.imwrite(str(out / f"{index:06}.jpg"), capture.retrieve()[1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        index += 1


def opencv_seek(clip: Path, out: Path, frames_per_second: float) -> None:
    """OpenCV, seeking to each time."""
    capture = cv2.VideoCapture(str(clip))
    for k in range(10**6):
        capture.set(cv2.CAP_PROP_POS_MSEC, 1000 * k / frames_per_second)
        succeeded, pixels_hwc = capture.read()
        if not succeeded:
            return
        cv2.imwrite(str(out / f"{k:06}.jpg"), pixels_hwc, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def pyav(clip: Path, out: Path, frames_per_second: float) -> None:
    """PyAV, every frame decoded, with one thread per processor."""
    with av.open(str(clip)) as container:
        container.streams.video[0].thread_type = "AUTO"
        due = 0
        for index, frame in enumerate(container.decode(video=0)):
            if (frame.time or 0) * frames_per_second >= due:
                due += 1
                _write(frame.to_ndarray(format="bgr24"), out / f"{index:06}.jpg")


def torchcodec(clip: Path, out: Path, frames_per_second: float) -> None:
    """torchcodec, asked for the frame at each time."""
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(clip), dimension_order="NHWC", num_ffmpeg_threads=0)
    begin, end = decoder.metadata.begin_stream_seconds, decoder.metadata.end_stream_seconds
    times = np.arange(begin, end - 1e-3, 1 / frames_per_second)
    for k, time_seconds in enumerate(times):
        pixels_hwc = decoder.get_frame_played_at(float(time_seconds)).data.numpy()
        _write(cv2.cvtColor(pixels_hwc, cv2.COLOR_RGB2BGR), out / f"{k:06}.jpg")


def _write(pixels_hwc: NDArray[Any], path: Path) -> None:
    cv2.imwrite(str(path), pixels_hwc, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


CHILDREN: dict[str, Callable[[Path, Path, float], None]] = {
    "ours": ours, "opencv": opencv_read, "opencv_seek": opencv_seek, "pyav": pyav, "torchcodec": torchcodec,
}  # fmt: skip


# Measuring.


@dataclass(frozen=True)
class Task:
    """One program on one row."""

    row: str
    program: str
    commands: list[list[str]]
    at_once: int = 1  # commands that run side by side
    folder: Path | None = None  # where the commands run


@dataclass(frozen=True)
class Cost:
    """What one run of a program took."""

    seconds: float
    processor_seconds: float
    megabytes: float  # at the peak; 0 where the program does not say


def _result(
    folder: Path, kinds: tuple[str, ...], folders: dict[str, tuple[int, int]], seconds: int, rounds: int
) -> dict[str, Any]:
    programs, missing = _programs()
    out = folder / "out"
    tasks = []
    for name in kinds:
        clip = _draw(folder / f"{name}.mp4", KINDS[name], seconds)
        tasks += [Task(name, program, [_command(program, programs, clip, out, 1)]) for program in programs]
        if name == "phone_h264":
            every = [program for program in ("ours", "ffmpeg") if program in programs]
            tasks += [Task("every_frame", program, [_command(program, programs, clip, out, 1000)]) for program in every]
    for name, (n_clips, length) in folders.items():
        clip = _draw(folder / f"{name}.mp4", KINDS["phone_h264"], length)
        tasks += _folder_tasks(name, _project(folder / name, clip, n_clips), programs, out)
    costs: dict[tuple[str, str], list[Cost]] = {}
    for _ in range(rounds):
        for task in tasks:
            if f"{task.program} on {task.row}" in missing:
                continue
            try:
                cost = _run(task, out)
            except subprocess.CalledProcessError as error:
                missing[f"{task.program} on {task.row}"] = (
                    error.stderr.decode(errors="replace").strip().splitlines()[-1]
                )
                continue
            print(f"{task.row} {task.program}: {cost.seconds:.2f} s", file=sys.stderr, flush=True)
            costs.setdefault((task.row, task.program), []).append(cost)
    medians = {key: statistics.median(cost.seconds for cost in each) for key, each in costs.items()}
    processor = {key: statistics.median(cost.processor_seconds for cost in each) for key, each in costs.items()}
    peaks = {row: max(cost.megabytes for cost in each) for (row, program), each in costs.items() if program == "ours"}
    machine = f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    return {
        "machine": f"{machine}, PyAV {av.__version__}, OpenCV {cv2.__version__}",
        "data": f"clips of {seconds} s, 30 frames per second, {rounds} rounds",
        "medians": {f"{row}_{program}_seconds": round(value, 2) for (row, program), value in medians.items()},
        "ratios": _ratios(medians),
        "processor_ratios": _ratios(processor),
        "peak_megabytes": {row: round(peak) for row, peak in peaks.items() if peak},
        "not_run": missing,
    }


def _fingerprints(folder: Path, *, quick: bool) -> dict[str, float]:
    """The ratios of `time_fingerprints` for each clip, by row and kind."""
    ratios = {}
    for row in WITH_SOUND[:1] if quick else WITH_SOUND:
        clip = _draw(folder / f"{row}_sound.mp4", KINDS[row], 4 if quick else 10, sound=True)
        command = [sys.executable, __file__, "--fingerprints-child", str(clip), "5" if quick else "15"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        said = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment).stdout
        ratios |= {f"{row}_{name}": ratio for name, ratio in json.loads(said).items()}
    return ratios


def _ratios(values: dict[tuple[str, str], float]) -> dict[str, float]:
    return {
        f"{row}_vs_{program}": round(value / values[row, "ours"], 2)
        for (row, program), value in values.items()
        if program != "ours" and (row, "ours") in values
    }


def _programs() -> tuple[dict[str, list[str]], dict[str, str]]:
    """The command of each installed program up to its clip, and why others are missing."""
    programs = {name: [sys.executable, __file__, "--child", name] for name in CHILDREN}
    missing = {}
    if importlib.util.find_spec("torchcodec") is None:
        missing["torchcodec"] = "not installed"
        del programs["torchcodec"]
    if importlib.util.find_spec("imageio_ffmpeg"):
        import imageio_ffmpeg

        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin"]
        programs |= {"ffmpeg": command, "ffmpeg_keyframes": [*command, "-skip_frame", "nokey"]}
    else:
        missing["ffmpeg"] = "not installed: imageio-ffmpeg"
    return programs, missing


def _command(program: str, programs: dict[str, list[str]], clip: Path, out: Path, rate: float) -> list[str]:
    command = programs[program]
    if not program.startswith("ffmpeg"):
        return [*command, str(clip), str(out), str(rate)]
    chosen = ["-vf", f"fps={rate:g}"] if program == "ffmpeg" and rate == 1 else ["-fps_mode", "passthrough"]
    return [*command, "-i", str(clip), *chosen, *FFMPEG_QUALITY, str(out / f"{clip.stem}_%06d.jpg")]


def _project(folder: Path, clip: Path, n_clips: int) -> Path:
    """A project whose clips are copies of one, each with other bytes at its end: equal clips would be decoded once."""
    for number in range(n_clips):
        copy = folder / "data" / "raw" / "ab"[number % 2] / f"{number:03}.mp4"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(clip.read_bytes() + struct.pack(">I4sI", 12, b"free", number))  # a box that players skip
    shutil.copy(ROOT / "params.yaml", folder)
    return folder


def _folder_tasks(row: str, project: Path, programs: dict[str, list[str]], out: Path) -> list[Task]:
    clips = sorted((project / "data" / "raw").rglob("*.mp4"))
    tasks = [Task(row, "ours", [[sys.executable, "-m", "pipeline", "extract"]], folder=project)]
    tasks += [
        Task(row, program, [_command(program, programs, clip, out, 1) for clip in clips])
        for program in ("ffmpeg", "ffmpeg_keyframes")
        if program in programs
    ]
    if "ffmpeg_keyframes" in programs:
        single = programs | {"ffmpeg_keyframes": [*programs["ffmpeg_keyframes"], "-threads", "1"]}
        commands = [_command("ffmpeg_keyframes", single, clip, out, 1) for clip in clips]
        tasks.append(Task(row, "ffmpeg_keyframes_at_once", commands, at_once=os.cpu_count() or 1))
    return tasks


def _run(task: Task, out: Path) -> Cost:
    """Run the commands of a task. The files that they wrote are removed."""
    out.mkdir()
    made = [out]
    if task.folder:
        made += [task.folder / name for name in (".cache", "data/frames", "reports")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def call(command: list[str]) -> bytes:
        return subprocess.run(command, capture_output=True, check=True, cwd=task.folder, env=environment).stdout

    before, started = os.times(), time.perf_counter()
    try:
        with ThreadPoolExecutor(task.at_once) as pool:
            said = list(pool.map(call, task.commands))
        elapsed, after = time.perf_counter() - started, os.times()
        if not any(path for folder in made for path in folder.rglob("*.jpg")):
            raise SystemExit(f"{task.program} wrote no frame of {task.row}")
    finally:
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(elapsed, used, float(said[0] or 0) if task.program == "ours" and not task.folder else 0)


# Drawing.


def _draw(path: Path, kind: Kind, seconds: int, *, sound: bool = False) -> Path:
    width = kind.height * 16 // 9
    with av.open(str(path), "w") as container:
        stream = container.add_stream(kind.codec, rate=30, options=_options(kind))
        stream.width, stream.height, stream.pix_fmt = width, kind.height, "yuv420p"
        stream.bit_rate = BITRATE[kind.height]
        stream.codec_context.time_base = Fraction(1, 90_000)
        stream.codec_context.colorspace, stream.codec_context.color_range = 1, 1
        if sound:
            container.mux(_noise(container, seconds))
        for index, pixels_hwc in enumerate(_pan(width, kind.height, 30 * seconds)):
            frame = av.VideoFrame.from_ndarray(pixels_hwc, format="rgb24")
            late = 1000 * (kind.variable and index % 7 == 0)
            frame.pts, frame.time_base = 3000 * index + late, Fraction(1, 90_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _noise(container: OutputContainer, seconds: int) -> list[Packet]:
    """The packets of a new track: stereo noise that swells, 128 kbit/s as a phone writes it."""
    stream = container.add_stream("aac", rate=48_000)
    stream.layout, stream.bit_rate = "stereo", 128_000
    swelling = np.abs(np.sin(np.arange(48_000 * seconds) / 9000))
    samples = np.random.default_rng(0).normal(0, 0.1, (2, 48_000 * seconds)) * swelling
    frame = av.AudioFrame.from_ndarray(samples.astype(np.float32), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts = 48_000, 0
    return [*stream.encode(frame), *stream.encode(None)]


def _options(kind: Kind) -> dict[str, str]:
    if kind.codec == "libx265":
        return {"preset": "ultrafast", "x265-params": X265.format(g=kind.group)}
    group = str(kind.group)
    return {"preset": "veryfast", "g": group, "keyint_min": group, "sc_threshold": "0", "bf": str(kind.b_frames)}


def _pan(width: int, height: int, n_frames: int) -> Iterator[NDArray[np.uint8]]:
    """Frames of a camera that pans over photographs, with the noise of a sensor."""
    import skimage.data

    sides = (width * 6 // 5, height * 6 // 5)
    names = ("coffee", "rocket", "astronaut")  # CC0 or public domain, in scikit-image
    photographs = [cv2.resize(getattr(skimage.data, name)(), sides, interpolation=cv2.INTER_CUBIC) for name in names]
    noise = np.random.default_rng(0).normal(0, 3, (height + 64, width + 64, 1)).astype(np.int8).repeat(3, axis=2)
    for index in range(n_frames):
        left = int(width / 10 * (1 + np.sin(index / 40)))
        top = int(height / 10 * (1 + np.cos(index / 50)))
        shift = index * 17 % 64
        picture = photographs[index // 150 % len(names)][top : top + height, left : left + width]
        grain = noise[shift : shift + height, shift : shift + width]
        yield np.asarray(cv2.add(picture, grain, dtype=cv2.CV_8U), dtype=np.uint8)


if __name__ == "__main__":
    main()
