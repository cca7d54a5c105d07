"""The command `pipe`: one command per stage; what is heavy is imported in the body of the command that needs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from pipeline import door
from pipeline.errors import GateError, PipeError

if TYPE_CHECKING:
    from pipeline.files import Project
    from pipeline.params import SectionType


class Report(Protocol):
    """What every stage gives back."""

    @property
    def headline(self) -> str:
        """One line: what was made, and where it is."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show a traceback where something goes wrong.")
@click.version_option(package_name="clip2edge", prog_name="pipe")
def cli(debug: bool) -> None:  # read at the door, before click parses
    """Turn phone clips into an image classifier on an edge device, with a number you can believe.

    Put clips or photos into data/raw/<class>/ (or use `pipe add`), then run `dvc repro`; or run the stages one by one:
    extract, augment, split, train, evaluate, export, parity, report, bundle.
    """


@cli.command()
@click.argument("videos", nargs=-1, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder for VIDEOS' frames [default: <stem>_frames/].")
@click.option("--explain", is_flag=True, help="Say what VIDEOS are instead; --out is then a PNG file for their frames.")
def extract(videos: tuple[Path, ...], out: Path | None, explain: bool) -> None:
    """Recordings to frames: of the project's data/raw, or of VIDEOS alone."""
    from pipeline import extract as stage
    from pipeline.extraction import ExtractParams

    if explain:
        _explain(videos, out)
        return
    if not videos:
        if out is not None:
            raise click.UsageError("--out goes with VIDEOS; the project's frames go to data/frames/")
        _done(stage.extract(_section("extract", ExtractParams), _project()))
        return
    if out is None and len(videos) > 1:
        raise click.UsageError("several VIDEOS need --out")
    folder = out or Path(f"{videos[0].stem}_frames")
    _done(stage.extract_files(videos, folder, _section("extract", ExtractParams)))


@cli.command()
@click.option(
    "--preview", "frame", type=click.Path(path_type=Path), help="Draw this picture's copies on a sheet instead."
)
@click.option("--out", type=click.Path(path_type=Path), help="The sheet, a PNG file.")
def augment(frame: Path | None, out: Path | None) -> None:
    """Frames to augmented copies."""
    from pipeline import augment as stage
    from pipeline.extraction import ExtractParams
    from pipeline.params import AugmentParams

    params = _section("augment", AugmentParams)
    if frame is None and out is None:
        _done(stage.augment(params, _project()))
        return
    if frame is None or out is None:
        raise click.UsageError("--preview FRAME and --out SHEET.png go together")
    from pipeline.preview import preview

    _done(preview(frame, out, params, _section("extract", ExtractParams), _project()))


@cli.command()
@click.option("--freeze", is_flag=True, help="Pin the present split's groups to their sides, in data/split.keep.csv.")
def split(freeze: bool) -> None:
    """Every clip to training, validation or test, as a whole."""
    from pipeline import split as stage
    from pipeline.params import SplitParams

    if freeze:
        _done(stage.freeze(_project()))
        return
    _done(stage.split(_section("split", SplitParams), _project()))


@cli.command()
def train() -> None:
    """Fit the network; writes models/checkpoint.pt."""
    from pipeline import train as stage
    from pipeline.fitting import TrainParams
    from pipeline.modelling import ImageParams, ModelParams

    sections = _section("train", TrainParams), _section("model", ModelParams), _section("image", ImageParams)
    report = stage.train(*sections, _project())
    if report is not None:  # one process of several speaks
        _done(report)


@cli.command()
def evaluate() -> None:
    """Judge the checkpoint on the held-out frames."""
    from pipeline import evaluate as stage
    from pipeline.params import EvaluateParams

    _done(stage.evaluate(_section("evaluate", EvaluateParams), _project()))


@cli.command()
def export() -> None:
    """Checkpoint to ONNX graphs and the contract with the device."""
    from export import export as stage
    from pipeline.params import ExportParams, ParityParams

    _done(stage.export(_section("export", ExportParams), _section("parity", ParityParams), _project()))


@cli.command()
@click.option("--record", is_flag=True, help="Exit 0 on a bad verdict too; the report records it and bundle refuses.")
@click.option("--against", type=click.Choice(["pil", "opencv"]), help="Say what this library's resize would cost.")
def parity(record: bool, against: str | None) -> None:
    """Compare the graphs with torch on every held-out frame; exits 3 on a bad verdict."""
    if against is not None:
        from export.against import against as compare_with

        _done(compare_with(against, _project()))
        return
    from export import parity as stage
    from pipeline.params import ParityParams

    report = stage.parity(_section("parity", ParityParams), _project())
    if not report.passed and not record:
        raise GateError(report.headline)
    _done(report)


@cli.command()
def report() -> None:
    """Every report on one page, reports/report.html."""
    from pipeline import report as stage

    _done(stage.report(_project()))


@cli.command()
def bundle() -> None:
    """Graphs, contract and runtime to dist/bundle.zip; exits 3 when parity said no."""
    from export import bundle as stage

    _done(stage.bundle(_project()))


@cli.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--label", required=True, help="The class that they show.")
def add(paths: tuple[Path, ...], label: str) -> None:
    """Copy videos, photos or folders of them into data/raw/LABEL/."""
    from pipeline.add import add as add_paths

    _done(add_paths(paths, label, _project()))


@cli.command()
def demo() -> None:
    """Make demo clips, run the whole chain on them and classify from the finished bundle."""
    from pipeline.demo import demo as run_demo

    run_demo(_project())


@cli.command()
@click.argument("name", required=False)
def recipe(name: str | None) -> None:
    """Write recipe NAME into params.yaml; without NAME, list the recipes."""
    from pipeline.recipe import apply_recipe, list_recipes

    if name is None:
        for line in list_recipes(_project()):
            click.echo(line)
        return
    _done(apply_recipe(name, _project()))


@cli.command()
@click.argument("name")
@click.option("--row", "rows", multiple=True, help="Only this row; may be given several times.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, help="Runs of each row, with train.seed 0, 1, 2 …")
def study(name: str, rows: tuple[str, ...], seeds: int) -> None:
    """Run every row of recipe NAME as a DVC experiment; params.yaml stays as it is."""
    from pipeline.study import study as run_study

    _done(run_study(name, rows, seeds, _project()))


@cli.command()
@click.argument("name", required=False)
def compare(name: str | None) -> None:
    """Table and figures of study NAME's experiments; without NAME, a table of all experiments."""
    from pipeline.compare import compare_all, compare_study

    _done(compare_all(_project()) if name is None else compare_study(name, _project()))


@cli.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--bundle", type=click.Path(path_type=Path), help="A zip or folder [default: the project's graph].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "csv_path", type=click.Path(path_type=Path), help="Also write a CSV file.")
def predict(paths: tuple[Path, ...], bundle: Path | None, as_json: bool, csv_path: Path | None) -> None:
    """Classify images, folders and videos."""
    import json

    from pipeline import predict as prediction
    from pipeline.extraction import ExtractParams

    with prediction.opened(_project(), bundle) as classifier:
        answers = prediction.predict(paths, classifier, _section("extract", ExtractParams))
    if csv_path is not None:
        prediction.write_csv(answers, csv_path)
    if as_json:
        click.echo(json.dumps(prediction.as_json(answers), ensure_ascii=False, indent=2))
    else:
        click.echo("\n".join(prediction.as_lines(answers)))
    prediction.refuse_failures(answers)


@cli.command()
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the sheets [default: reports/dataset/].")
def dataset(out: Path | None) -> None:
    """Look at the data before you train: counts, sizes, brightness, and a contact sheet of every class."""
    from pipeline.dataset import dataset as survey

    surveyed = survey(_project(), out)
    click.echo("\n".join(surveyed.lines))
    _done(surveyed)


@cli.command()
def doctor() -> None:
    """Look at this machine: Python, torch, onnxruntime and its providers, DVC, disk."""
    from pipeline.doctor import examine

    findings = examine()
    for finding in findings:
        click.echo(finding)
    failed = [finding.name for finding in findings if finding.level == "fail"]
    if failed:
        raise PipeError(f"doctor: {', '.join(failed)}: see the lines marked fail above")


def main() -> None:
    """Run the command line and leave with its exit code."""
    door.interrupt_outside_imports()
    door.leave(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command; gives its exit code."""
    return door.run(cli, arguments)


def _explain(videos: tuple[Path, ...], out: Path | None) -> None:
    from pipeline import diagnosis
    from pipeline.extraction import ExtractParams

    if not videos:
        raise click.UsageError("--explain needs VIDEOS")
    findings = diagnosis.diagnose(videos, _section("extract", ExtractParams), out)
    for finding in findings:
        click.echo("\n".join(finding.lines))
    diagnosis.refuse_unusable(findings)


def _project() -> Project:
    from pipeline.files import Project

    return Project(Path.cwd())


def _section(name: str, section: type[SectionType]) -> SectionType:
    """The stage's own section of the project's params; outside a project, of the defaults."""
    from pipeline.params import params_path, read_section

    return read_section(params_path(_project()), name, section)


def _done(report: Report) -> None:
    click.echo(report.headline)
