"""Every report on one page that can be handed on: `reports/report.html`, one file, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, UndefinedError
from markupsafe import Markup

from pipeline.base.errors import DataError
from pipeline.base.files import read_json, replacing_file
from pipeline.base.project import Project
from pipeline.report.inline_images import data_uris
from pipeline.report.json_values import FORMS, Pointed, leaves, place_of, plain_of, setting, shown

EXPLANATIONS_SHOWN = 24
PICTURES = (
    "classes.jpg", "curves.png", "confusion.png", "roc.png", "reliability.png", "per_class.png", "features.png",
    "montage.jpg", "mistakes.jpg", "least_sure.jpg",
)  # fmt: skip
_IMAGE = Markup('<figure><img src="{}" alt="{}"><figcaption>{}</figcaption></figure>')


@dataclass(frozen=True)
class HtmlReport:
    """Where the page lies and what its first sentence says."""

    verdict: str

    @property
    def headline(self) -> str:
        """One line: the verdict and the page."""
        return f"{self.verdict}; reports/report.html"


def report(project: Project) -> HtmlReport:
    """Write the page; it is built also when parity said no.

    Class and file names are hostile input: the template escapes everything, and every value that it shows carries the
    pointer to where it was read.

    Raises:
        DataError: a report that it shows is missing or broken, or is not what this version's stages write.
    """
    read = {name: _pointed(path, project) for name, path in _reports(project).items()}
    try:
        page = _page(read, project)
        said = _verdict(read["evaluate"], read["parity"], _tested_on(read["extract"], read["evaluate"]))
    except (UndefinedError, LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"{project.report_html}: a report that it shows is not as its stage writes it ({error}); run `dvc repro`"
        ) from error
    with replacing_file(project.report_html) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
    return HtmlReport(said)


def _page(read: Mapping[str, Pointed], project: Project) -> str:
    drawn = _pictures(project)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            **read,
            drawn=drawn,
            explanations=[path for path in drawn.values() if path.parent == project.explanations],
            picture=_inlined(list(drawn.values())),
            tested_on=_tested_on(read["extract"], read["evaluate"]),
            weakest=_weakest(read["evaluate"]),
            beats_baselines=_beats_baselines(read["evaluate"]),
        )
    )


def _reports(project: Project) -> dict[str, Path]:
    """What the template shows, by the names that it uses."""
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


def _pointed(path: Path, project: Project) -> Pointed:
    return Pointed(read_json(path), f"{project.relative(path)}#")


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipeline.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: (lambda value, form=form: shown(value, form)) for name, form in FORMS.items()}
    environment.filters |= {"leaves": leaves, "place": place_of, "setting": setting}
    environment.tests["known"] = lambda value: plain_of(value) is not None
    return environment


def _pictures(project: Project) -> dict[str, Path]:
    """Those that there are, by their names: what evaluate, split and parity drew, and what `pipe explain` did."""
    known = [*(project.plots / name for name in PICTURES), project.near_duplicates_png, project.flips_png]
    # The evidence first, then in the order of their names.
    names = project.explanations.glob("*.png")
    explained = sorted(names, key=lambda path: (not path.stem.startswith("evidence"), path.stem))
    return {project.relative(path): path for path in (*known, *explained[:EXPLANATIONS_SHOWN]) if path.is_file()}


def _inlined(paths: Sequence[Path]) -> Any:
    uris: Mapping[Path, str] = data_uris(paths)

    def picture(path: Path, caption: str) -> Markup:
        return _IMAGE.format(uris[path], caption, caption)

    return picture


def _tested_on(extract: Pointed, evaluation: Pointed) -> str:
    """What a group is here, in a word."""
    if not extract["n_photos"]:
        return "clips"
    if extract["n_clips"]:
        return "clips and photos"
    return "photos" if evaluation["n_groups"] == evaluation["n_frames"] else "groups of photos"


def _weakest(evaluation: Pointed) -> int | None:
    """The number of the class with the smallest share of right clips; None where all of them are right."""

    def share(number: int) -> float:
        of_class = evaluation["per_class"][evaluation["classes"][number]]
        right, groups = plain_of(of_class["groups_right"]), plain_of(of_class["groups"])
        return float(right / groups) if groups else 1.0

    weakest = min(range(len(evaluation["classes"])), key=share)
    return weakest if share(weakest) < 1 else None


def _beats_baselines(evaluation: Pointed) -> bool:
    """Whether even the lower end of the headline's interval is above what needs no training."""
    known = (plain_of(evaluation[name]) for name in ("baseline_majority", "baseline_knn"))
    return bool(plain_of(evaluation["group_top1_ci95"][0]) > max(value for value in known if value is not None))


def _verdict(evaluation: Pointed, parity: Pointed, tested_on: str) -> str:
    low, high = (FORMS["percent"](plain_of(end)) for end in evaluation["group_top1_ci95"])
    said = f"{evaluation['groups_right']} of {evaluation['n_groups']} held-out {tested_on} right"
    sure = f"on new {tested_on} of this kind expect between {low} and {high}"
    caveat = f" (optimistic: {evaluation['optimistic']})" if evaluation["optimistic"] else ""
    device = "the device computes what was trained" if parity["passed"] else "NOT fit to ship: parity said no"
    return f"{said}; {sure}{caveat}; {device}"
