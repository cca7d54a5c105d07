"""Every report on one page that can be handed on: `reports/report.html`, one file, no network."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.errors import DataError
from pipeline.files import Project, read_json, replacing_file

MISTAKES_SHOWN = 20


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

    Class and file names are hostile input: the template escapes everything.

    Raises:
        DataError: a report that it shows is missing or broken.
    """
    evaluation = read_json(project.evaluate_json)
    parity = read_json(project.parity_json)
    verdict = _verdict(evaluation, parity)
    environment = Environment(loader=PackageLoader("pipeline", "."), autoescape=True, undefined=StrictUndefined)
    environment.filters["percent"] = _percent
    page = environment.get_template("report.html.j2").render(
        verdict=verdict,
        extract=read_json(project.extract_json),
        split=read_json(project.split_json),
        train=read_json(project.train_reports / "metrics.json"),
        evaluate=evaluation,
        export=read_json(project.export_json),
        parity=parity,
        contract=read_json(project.contract_json),
        mistakes=_mistakes(project),
    )
    with replacing_file(project.report_html) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
    return HtmlReport(verdict)


def _verdict(evaluation: dict[str, Any], parity: dict[str, Any]) -> str:
    low, high = evaluation["group_top1_ci95"]
    said = f"{evaluation['groups_right']} of {evaluation['n_groups']} held-out clips right"
    sure = f"on new clips of this kind expect between {_percent(low)} and {_percent(high)}"
    caveat = f" (optimistic: {evaluation['optimistic']})" if evaluation["optimistic"] else ""
    device = "the device computes what was trained" if parity["passed"] else "NOT fit to ship: parity said no"
    return f"{said}; {sure}{caveat}; {device}"


def _mistakes(project: Project) -> list[dict[str, str]]:
    """The held-out frames that were wrong, most confident first."""
    try:
        with project.predictions_csv.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise DataError(f"{project.predictions_csv}: missing; run `pipe evaluate`") from error
    wrong = [row for row in rows if row["predicted"] != row["label"]]
    return sorted(wrong, key=lambda row: -float(row["confidence"]))[:MISTAKES_SHOWN]


def _percent(share: float | None) -> str:
    return "not known" if share is None else f"{share:.1%}"
