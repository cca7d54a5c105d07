"""A small project with every report that the page shows, and a reader of the values on a page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np

from pipeline.base.files import read_json, write_json
from pipeline.base.project import Project
from pipeline.base.report_digest import hashes_of, write_report
from pipeline.draw.sheets import write_png
from tests.support.small_project import COLOURS

HOSTILE = '<script>document.title = "owned"</script><img src="x.png" onerror="document.title = 1">'


def with_data_reports(project: Project) -> Project:
    """Write the reports of extract and split for the small project, with a hostile name in them."""
    clip = {"source": f"data/raw/red/{HOSTILE}.mp4", "warnings": ["5 of 10 frames promised"]}
    params = {"layout": "class", "frames_per_second": 1.0, "start_seconds": 0.0, "end_seconds": None}
    extracted = {
        "n_frames": 40,
        "n_clips": 10,
        "n_photos": 0,
        "clips": [clip],
        "ignored": ["notes.txt"],
        "params": params,
    }
    write_json(project.extract_json, extracted)
    counts = {name: {"frames": 4, "dropped": 1, "augmented": 16, "groups": 1} for name in COLOURS}
    leakage = {
        "exact_duplicates": [],
        "label_conflicts": [],
        "near_duplicates": {"pictures": 40, "proposed": 3, "confirmed": 2, "across_sides": 0, "pairs": []},
        "clip_copies": {
            "clips": 5,
            "without_fingerprint": 1,
            "proposed": 4,
            "confirmed": 2,
            "across_sides": 0,
            "pairs": [],
        },
        "same_clip_within_seconds": None,
        "same_clip_within_seconds_reason": "whole clips are on one side",
    }
    split = {
        "protocol": "grouped", "optimistic": None, "balance": None,
        "asked": {"ratio": "8:2", "val": 0.2, "hold_out": None},
        "counts": dict.fromkeys(("train", "val", "test"), counts), "leakage": leakage,
        "joined": {"groups": 0, "recordings": 0, "photos": 0, "photos_unconfirmed": 0, "left_apart": [], "listed": []},
    }  # fmt: skip
    write_json(project.split_json, split)
    return project


def add_explanations(project: Project, *names: str, width: int = 30) -> None:
    """Write grey pictures into `reports/explain/`, and note the project's checkpoint as `pipe explain` does.

    Args:
        project: the project.
        names: of the pictures, without `.png`.
        width: in pixels.
    """
    paths = [project.explanations / f"{name}.png" for name in names]
    for path in paths:
        write_png(np.full((20, width, 3), 90, np.uint8), path)
    made_from = hashes_of([project.checkpoint], project)
    write_report(project.explain_json, {}, made_from=made_from, wrote=hashes_of(paths, project))


def rename_class(project: Project, old: str, new: str) -> None:
    """Give a class another name in every report.

    Args:
        project: the project.
        old: the name in the reports.
        new: the name that replaces it.
    """
    for path in (project.extract_json, project.split_json, project.evaluate_json, project.contract_json):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(json.dumps(old, ensure_ascii=False), json.dumps(new)), encoding="utf-8")


class Page(HTMLParser):
    """The values on a page with their pointers, and the text outside the values."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.values: list[tuple[str, str]] = []
        self.outside: list[str] = []
        self._pointer: str | None = None
        self._quiet = ""  # the element whose text is ignored: a style, or the name of a setting
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if "data-json" in dict(attrs):
            self._pointer = dict(attrs)["data-json"]
            self.values.append((self._pointer or "", ""))
        if tag in ("style", "title") or dict(attrs).get("class") == "name":
            self._quiet = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == "span":
            self._pointer = None
        if tag == self._quiet:
            self._quiet = ""

    def handle_data(self, data: str) -> None:
        if self._pointer is not None:
            pointer, text = self.values[-1]
            self.values[-1] = (pointer, text + data)
        elif not self._quiet:
            self.outside.append(data)


def pointed_at(project: Project, pointer: str) -> Any:
    """The value in the file: RFC 6901."""
    file, _, inside = pointer.partition("#")
    value = read_json(project.root / file)
    for step in inside.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        value = value[int(key) if isinstance(value, list) else key]
    return value


def says(text: str, value: Any) -> bool:
    """Whether the text shows the value: texts must be equal, numbers to the last digit that is shown."""
    if value is None or isinstance(value, bool):
        return text in {None: ("not known", "null"), True: ("yes",), False: ("no",)}[value]
    if isinstance(value, str):
        return text == value
    match = re.fullmatch(r"(-?[\d,]+)(\.\d+)?(e[+-]\d+)?(%| MB| ms)?", text)
    if match is None:
        return False
    whole, decimals, power, unit = (part or "" for part in match.groups())
    scale = {"%": 0.01, " MB": 1e6}.get(unit, 1.0) * 10.0 ** int(power[1:] or 0)
    shown = float(whole.replace(",", "") + decimals) * scale
    step = scale * 10.0 ** -max(len(decimals) - 1, 0)
    return abs(shown - value) <= step * (0.5 + 1e-9)
