"""Write `reports/report.html`: every report on one page, in one file that needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, UndefinedError
from markupsafe import Markup

from pipeline.base.errors import DataError
from pipeline.base.files import exclusive, read_json, replacing_file
from pipeline.base.leakage import DIVIDING_PROTOCOLS
from pipeline.base.progress import warn
from pipeline.base.project import Project
from pipeline.base.report_digest import hashes_of, seal_page
from pipeline.base.words import counted
from pipeline.report.explanations import Explanations, explanations_of
from pipeline.report.inline_images import data_uris
from pipeline.report.json_values import FORMS, JsonValue, dotted_path, leaves, plain, render, render_setting

EXPLANATIONS_SHOWN = 24
PICTURES = (
    "classes.jpg", "curves.png", "confusion.png", "roc.png", "reliability.png", "per_class.png", "features.png",
    "montage.jpg", "mistakes.jpg", "least_sure.jpg",
)  # fmt: skip
_IMAGE = Markup('<figure><img src="{}" alt="{}"><figcaption>{}</figcaption></figure>')

Reports = Mapping[str, JsonValue]  # by the names that the template uses


@dataclass(frozen=True)
class HtmlReport:
    """What the command prints about the page."""

    verdict: str

    @property
    def headline(self) -> str:
        """One line: the verdict and the page."""
        return f"{self.verdict}; reports/report.html"


@exclusive("pipe report")
def report(project: Project) -> HtmlReport:
    """Write the page; it is written also when parity failed. Explanations of another network are left out.

    Class and file names are hostile input. The template escapes every value, and every value that it shows carries the
    pointer to where it was read.

    Raises:
        DataError: a report that the page shows is missing or broken, or was written by another version.
    """
    made_from = hashes_of((*_paths(project).values(), *_pictures_of_stages(project)), project)
    reports = {name: _read(path, project) for name, path in _paths(project).items()}
    try:
        explanations = explanations_of(plain(reports["evaluate"]["checkpoint_sha256"]), project)
        made_from |= hashes_of(explanations.shown[:EXPLANATIONS_SHOWN], project)
        page = seal_page(_page(reports, explanations, project), made_from)
        verdict = _verdict(reports)
    except (UndefinedError, LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"{project.report_html}: a report that it shows is not as its stage writes it ({error}); run `dvc repro`"
        ) from error
    if explanations.n_left_out:
        pictures = counted(explanations.n_left_out, "picture")
        warn(f"pipe: {project.explanations}: {pictures} not of this network, left out; run `pipe explain` again")
    with replacing_file(project.report_html) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
    return HtmlReport(verdict)


def _paths(project: Project) -> dict[str, Path]:
    """The reports that the template shows, by the names that it uses."""
    return {
        "extract": project.extract_json,
        "split": project.split_json,
        "train": project.train_reports / "metrics.json",
        "network": project.train_reports / "network.json",
        "provenance": project.train_reports / "provenance.json",
        "evaluate": project.evaluate_json,
        "pictures": project.plots / "pictures.json",
        "export": project.export_json,
        "parity": project.parity_json,
        "contract": project.contract_json,
    }


def _read(path: Path, project: Project) -> JsonValue:
    return JsonValue(read_json(path), f"{project.relative(path)}#")


def _page(reports: Reports, explanations: Explanations, project: Project) -> str:
    pictures = (*_pictures_of_stages(project), *explanations.shown[:EXPLANATIONS_SHOWN])
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            **reports,
            drawn={project.relative(path): path for path in pictures},
            explanations=explanations.shown[:EXPLANATIONS_SHOWN],
            explanations_left_out=explanations.n_left_out > 0,
            picture=_figures(pictures),
            tested_on=_tested_on(reports),
            held_out=_held_out(reports),
            by_folds=_by_folds(reports),
            device=_as_device(reports),
            weakest=_weakest(reports["evaluate"]),
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipeline.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: (lambda value, form=form: render(value, form)) for name, form in FORMS.items()}
    environment.filters |= {"leaves": leaves, "dotted_path": dotted_path, "setting": render_setting}
    environment.tests["known"] = lambda value: plain(value) is not None
    environment.tests["positive"] = lambda value: plain(value) > 0
    return environment


def _pictures_of_stages(project: Project) -> list[Path]:
    """The pictures of evaluate, split and parity that exist."""
    paths = [*(project.plots / name for name in PICTURES), project.near_duplicates_png, project.flips_png]
    return [path for path in paths if path.is_file()]


def _figures(paths: Sequence[Path]) -> Any:
    """A function for the template that shows one of the pictures with a caption."""
    uris: Mapping[Path, str] = data_uris(paths)

    def picture(path: Path, caption: str) -> Markup:
        return _IMAGE.format(uris[path], caption, caption)

    return picture


def _tested_on(reports: Reports) -> str:
    """The word for the groups of this data set."""
    extract, evaluation = reports["extract"], reports["evaluate"]
    if not extract["n_photos"]:
        return "clips"
    if extract["n_clips"]:
        return "clips and photos"
    return "photos" if evaluation["n_groups"] == evaluation["n_frames"] else "groups of photos"


def _by_folds(reports: Reports) -> bool:
    """Whether each clip was judged by a head that had not learned from it."""
    return bool(plain(reports["evaluate"]["estimate"]) == "folds")


def _as_device(reports: Reports) -> JsonValue:
    """The clips as the graph that the device gets answers them; as float32 would where no graph may ship."""
    of_graph: JsonValue = reports["parity"]["as_device"]
    in_float32: JsonValue = reports["evaluate"]["as_device"]
    return in_float32 if plain(of_graph) is None else of_graph


def _held_out(reports: Reports) -> str:
    """The words for the groups that were tested on; where the split divides clips, no clip is held out."""
    tested_on = _tested_on(reports)
    if _by_folds(reports):
        return tested_on
    is_divided = plain(reports["evaluate"]["protocol"]) in DIVIDING_PROTOCOLS
    return f"{tested_on} with held-out frames" if is_divided else f"held-out {tested_on}"


def _weakest(evaluation: JsonValue) -> int | None:
    """The number of the class with the smallest share of right groups; None where all groups are right."""

    def share(class_number: int) -> float:
        of_class = evaluation["per_class"][evaluation["classes"][class_number]]
        n_right, n_groups = plain(of_class["groups_right"]), plain(of_class["groups"])
        return float(n_right / n_groups) if n_groups else 1.0

    weakest = min(range(len(evaluation["classes"])), key=share)
    return weakest if share(weakest) < 1 else None


def _verdict(reports: Reports) -> str:
    """The verdict of the page in one line: the groups that are right, what to expect, and parity."""
    evaluation, tested_on, device = reports["evaluate"], _tested_on(reports), _as_device(reports)
    low, high = (FORMS["percent"](plain(end)) for end in device["right_ci95"])
    out_of_fold = " out of fold" if _by_folds(reports) else ""
    refused = f", {device['refused']} refused" if plain(device["refused"]) else ""
    result = f"{device['right']} of {device['n_clips']} {_held_out(reports)} right{out_of_fold}{refused}"
    expectation = f"on new {tested_on} of this kind expect between {low} and {high}"
    caveat = f" (optimistic: {evaluation['optimistic']})" if evaluation["optimistic"] else ""
    is_same = reports["parity"]["passed"]
    verdict = "the device computes what was trained" if is_same else "NOT fit to ship: the parity check failed"
    return f"{result}; {expectation}{caveat}; {verdict}"
