"""The nine commands that are stages of the chain. Each imports what is heavy in its own body."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.base.errors import GateError
from pipeline.cli.context import done, here, section_of


@click.command()
@click.argument("videos", nargs=-1, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder for VIDEOS' frames [default: <stem>_frames/].")
@click.option("--explain", is_flag=True, help="Say what VIDEOS are instead; --out is then a PNG file for their frames.")
def extract(videos: tuple[Path, ...], out: Path | None, explain: bool) -> None:
    """Recordings to frames: of the project's data/raw, or of VIDEOS alone."""
    from pipeline.extract import stage
    from pipeline.extract.params import ExtractParams

    if explain:
        _explain(videos, out)
        return
    if not videos:
        if out is not None:
            raise click.UsageError("--out goes with VIDEOS; the project's frames go to data/frames/")
        done(stage.extract(section_of("extract", ExtractParams), here()))
        return
    if out is None and len(videos) > 1:
        raise click.UsageError("several VIDEOS need --out")
    folder = out or Path(f"{videos[0].stem}_frames")
    done(stage.extract_files(videos, folder, section_of("extract", ExtractParams)))


@click.command()
@click.option(
    "--preview", "frame", type=click.Path(path_type=Path), help="Draw this picture's copies on a sheet instead."
)
@click.option("--out", type=click.Path(path_type=Path), help="The sheet, a PNG file.")
def augment(frame: Path | None, out: Path | None) -> None:
    """Frames to augmented copies."""
    from pipeline.augment import stage
    from pipeline.augment.params import AugmentParams
    from pipeline.extract.params import ExtractParams

    params = section_of("augment", AugmentParams)
    if frame is None and out is None:
        done(stage.augment(params, here()))
        return
    if frame is None or out is None:
        raise click.UsageError("--preview FRAME and --out SHEET.png go together")
    from pipeline.tools.preview import preview

    done(preview(frame, out, params, section_of("extract", ExtractParams), here()))


@click.command()
@click.option("--freeze", is_flag=True, help="Pin the present split's groups to their sides, in data/split.keep.csv.")
def split(freeze: bool) -> None:
    """Every clip to training, validation or test, as a whole."""
    from pipeline.split import stage
    from pipeline.split.params import SplitParams

    if freeze:
        done(stage.freeze(here()))
        return
    done(stage.split(section_of("split", SplitParams), here()))


@click.command()
def train() -> None:
    """Fit the network; writes models/checkpoint.pt."""
    from pipeline.network.params import ImageParams, ModelParams
    from pipeline.train import stage
    from pipeline.train.params import TrainParams

    sections = section_of("train", TrainParams), section_of("model", ModelParams), section_of("image", ImageParams)
    report = stage.train(*sections, here())
    if report is not None:  # one process of several speaks
        done(report)


@click.command()
def evaluate() -> None:
    """Judge the checkpoint on the held-out frames."""
    from pipeline.evaluate import stage
    from pipeline.evaluate.params import EvaluateParams

    done(stage.evaluate(section_of("evaluate", EvaluateParams), here()))


@click.command()
def export() -> None:
    """Checkpoint to ONNX graphs and the contract with the device."""
    from export.export import stage
    from export.export.params import ExportParams
    from export.graphs.params import ParityParams

    done(stage.export(section_of("export", ExportParams), section_of("parity", ParityParams), here()))


@click.command()
@click.option("--record", is_flag=True, help="Exit 0 on a bad verdict too; the report records it and bundle refuses.")
@click.option("--against", type=click.Choice(["pil", "opencv"]), help="Say what this library's resize would cost.")
def parity(record: bool, against: str | None) -> None:
    """Compare the graphs with torch on every held-out frame; exits 3 on a bad verdict."""
    if against is not None:
        from export.against.other_resize import compare_resize

        done(compare_resize(against, here()))
        return
    from export.graphs.params import ParityParams
    from export.parity import stage

    report = stage.parity(section_of("parity", ParityParams), here())
    if not report.passed and not record:
        raise GateError(report.headline)
    done(report)


@click.command()
def report() -> None:
    """Every report on one page, reports/report.html."""
    from pipeline.report import stage

    done(stage.report(here()))


@click.command()
@click.option("--against", "earlier", type=click.Path(path_type=Path), help="Then compare it with this earlier bundle.")
def bundle(earlier: Path | None) -> None:
    """Graphs, contract and runtime to dist/bundle.zip; exits 3 when parity said no."""
    from export.bundle import stage

    if earlier is None:
        done(stage.bundle(here()))
        return
    from export.against.earlier_bundle import compare, open_earlier_bundle

    with open_earlier_bundle(earlier, here()) as opened:  # before, since it may be the one that is replaced
        done(stage.bundle(here()))
        found = compare(opened, here())
    click.echo(found.table)
    done(found)


def _explain(videos: tuple[Path, ...], out: Path | None) -> None:
    from pipeline.extract.params import ExtractParams
    from pipeline.tools import diagnose

    if not videos:
        raise click.UsageError("--explain needs VIDEOS")
    findings = diagnose.diagnose(videos, section_of("extract", ExtractParams), out)
    for finding in findings:
        click.echo("\n".join(finding.lines))
    diagnose.refuse_unusable(findings)


STAGES = (extract, augment, split, train, evaluate, export, parity, report, bundle)
