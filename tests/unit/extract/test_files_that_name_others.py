"""A recording that names another file makes extract open no other file."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from pipeline.base.errors import DataError
from pipeline.extract.stage import extract_files
from tests.support.extraction import extract_params
from tests.support.media import write_clip


class Canary:
    """Watches whether a file is opened, by any process."""

    def __init__(self, path: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._watch = self._libc.inotify_init1(os.O_NONBLOCK)
        assert self._libc.inotify_add_watch(self._watch, os.fsencode(path), 0x20) >= 0  # IN_OPEN

    def was_opened(self) -> bool:
        try:
            return len(os.read(self._watch, 4096)) >= struct.calcsize("iIII")
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._watch)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    """Watches `canary.mp4`, a clip."""
    if sys.platform != "linux":
        pytest.skip("inotify is Linux's")
    watching = Canary(write_clip(tmp_path / "canary.mp4", n_frames=3))
    yield watching
    watching.close()


LIARS = {
    "ffconcat": "ffconcat version 1.0\nfile canary.mp4\n",
    "HLS": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\ncanary.mp4\n#EXT-X-ENDLIST\n",
    "DASH": '<?xml version="1.0"?>\n<MPD type="static"><Period><AdaptationSet><Representation id="0">'
    "<BaseURL>canary.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>\n",
    "VobSub": "# VobSub index file, v7\nsize: 64x48\nid: en, index: 0\nfile: canary.mp4\n",
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=file:canary.mp4\nm=video 1 RTP/AVP 96\n",
}


@pytest.mark.parametrize("kind", LIARS)
def test_a_file_that_names_another_is_refused_and_opens_none(canary: Canary, tmp_path: Path, kind: str) -> None:
    liar = tmp_path / "liar.mp4"
    liar.write_text(LIARS[kind], encoding="utf-8")
    with pytest.raises(DataError, match=r"liar\.mp4: its content is not MP4, MOV"):
        extract_files([liar], tmp_path / "out", extract_params())
    assert not canary.was_opened()
    assert not (tmp_path / "out").exists()


def test_the_canary_sings_where_a_demuxer_follows_a_name(canary: Canary, tmp_path: Path) -> None:
    liar = tmp_path / "liar.mp4"
    liar.write_text(LIARS["ffconcat"], encoding="utf-8")
    with av.open(str(liar)) as container:  # what extract would do if it let FFmpeg guess
        next(container.decode(video=0))
    assert canary.was_opened()
