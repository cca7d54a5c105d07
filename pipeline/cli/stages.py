"""The nine commands of the chain. Each imports its heavy libraries in its own body."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.base.errors import GateError
from pipeline.cli.context import current_project, done, project_for, say, section_of
from pipeline.cli.help import example
from pipeline.cli.paths import PATH


@click.command(
    epilog=example(
        "pipe extract",
        "pipe extract walk.mp4 --out frames/",
        "pipe extract --diagnose walk.mp4 --out sheet.png",
    )
)
@click.argument("videos", nargs=-1, type=PATH)
@click.option("--out", type=PATH, help="Folder for VIDEOS' frames [default: <stem>_frames/].")
@click.option("--diagnose", is_flag=True, help="Only describe VIDEOS and their damage; --out is a PNG contact sheet.")
def extract(videos: tuple[Path, ...], out: Path | None, diagnose: bool) -> None:
    """Decode recordings into frames.

    Reads the clips and photos in data/raw and writes data/frames/. With VIDEOS, reads only these files.
    """
    from pipeline.extract import stage
    from pipeline.extract.params import ExtractParams, PhotoLevels

    sample_bits = section_of("image", PhotoLevels).sample_bits
    if diagnose:
        _diagnose(videos, out, sample_bits)
        return
    if not videos:
        if out is not None:
            raise click.UsageError("--out goes with VIDEOS; the project's frames go to data/frames/")
        done(stage.extract(section_of("extract", ExtractParams), project_for("extract"), sample_bits), "extract")
        return
    if out is None and len(videos) > 1:
        raise click.UsageError("several VIDEOS need --out")
    folder = out or Path(f"{videos[0].stem}_frames")
    done(stage.extract_files(videos, folder, section_of("extract", ExtractParams), sample_bits), "extract VIDEOS")


def _diagnose(videos: tuple[Path, ...], out: Path | None, sample_bits: int | None) -> None:
    from pipeline.extract.params import ExtractParams
    from pipeline.tools import diagnose

    if not videos:
        raise click.UsageError("--diagnose needs VIDEOS")
    diagnoses = diagnose.diagnose(videos, section_of("extract", ExtractParams), out, sample_bits)
    for diagnosis in diagnoses:
        say(diagnosis.lines)
    diagnose.refuse_unusable(diagnoses)


@click.command(
    epilog=example(
        "pipe augment",
        "pipe augment --preview data/frames/flake/clip/000001.jpg --out sheet.png",
        "pipe augment --preview data/frames/flake/clip/000001.jpg --online --out views.png",
    )
)
@click.option("--preview", "frame", type=PATH, help="Only draw the copies of this picture.")
@click.option("--out", type=PATH, help="PNG file for the preview.")
@click.option("--online", is_flag=True, help="Draw random views of train.online in the preview, not copies.")
def augment(frame: Path | None, out: Path | None, *, online: bool) -> None:
    """Make augmented copies of the frames."""
    from pipeline.augment import stage
    from pipeline.augment.params import AugmentParams

    params = section_of("augment", AugmentParams)
    if frame is None and out is None and not online:
        done(stage.augment(params, project_for("augment")), "augment")
        return
    if frame is None or out is None:
        raise click.UsageError("--preview FRAME and --out SHEET.png go together, with or without --online")
    from pipeline.extract.params import ExtractParams

    if online:
        from pipeline.network.params import ImageParams
        from pipeline.tools.preview_views import preview_views
        from pipeline.train.params import TrainParams

        sections = (section_of("train", TrainParams), section_of("image", ImageParams))
        done(preview_views(frame, out, *sections, section_of("extract", ExtractParams)), "augment --preview --online")
        return
    from pipeline.tools.preview import preview

    done(preview(frame, out, params, section_of("extract", ExtractParams), current_project()), "augment --preview")


@click.command(epilog=example("pipe split", "pipe split --reshuffle"))
@click.option("--reshuffle", is_flag=True, help="Deal all clips anew. Earlier numbers cannot be compared then.")
def split(*, reshuffle: bool) -> None:
    """Assign every clip to training, validation or test as a whole.

    Clips keep their places when the data grow, in data/split.keep.csv.
    """
    from pipeline.split import stage
    from pipeline.split.params import SplitParams

    done(stage.split(section_of("split", SplitParams), project_for("split"), reshuffle=reshuffle), "split")


@click.command(epilog=example("pipe train"))
def train() -> None:
    """Train the network and write models/checkpoint.pt."""
    from pipeline.cli.launch import launch_processes
    from pipeline.network.params import ImageParams, ModelParams
    from pipeline.train import stage
    from pipeline.train.params import TrainParams

    launch_processes()
    sections = section_of("train", TrainParams), section_of("model", ModelParams), section_of("image", ImageParams)
    report = stage.train(*sections, project_for("train"))
    if report is not None:  # of several processes, only the first has a report
        done(report, "train")


@click.command(epilog=example("pipe evaluate"))
def evaluate() -> None:
    """Judge the checkpoint on the held-out frames."""
    from pipeline.evaluate import stage
    from pipeline.evaluate.params import EvaluateParams

    done(stage.evaluate(section_of("evaluate", EvaluateParams), project_for("evaluate")), "evaluate")


@click.command(epilog=example("pipe export"))
def export() -> None:
    """Write the checkpoint as ONNX graphs, and their contract."""
    from export.export import stage
    from export.export.params import ExportParams
    from export.graphs.params import ParityParams

    sections = section_of("export", ExportParams), section_of("parity", ParityParams)
    done(stage.export(*sections, project_for("export")), "export")


@click.command(epilog=example("pipe parity", "pipe parity --against opencv"))
@click.option("--record", is_flag=True, help="Exit 0 on a bad verdict too. The report has it, and bundle refuses.")
@click.option("--against", type=click.Choice(["pil", "opencv"]), help="Only measure what this library's resize costs.")
def parity(record: bool, against: str | None) -> None:
    """Compare the graphs with torch on every held-out frame.

    Exits 3 on a bad verdict.
    """
    if against is not None:
        from export.against.other_resize import compare_resize

        done(compare_resize(against, current_project()), "parity --against")
        return
    from export.graphs.params import ParityParams
    from export.parity import stage

    report = stage.parity(section_of("parity", ParityParams), project_for("parity"))
    if not report.passed and not record:
        raise GateError(report.headline)
    done(report, "parity")


@click.command(epilog=example("pipe report"))
def report() -> None:
    """Put every report on one page, reports/report.html."""
    from pipeline.report import stage

    done(stage.report(project_for("report")), "report")


@click.command(
    epilog=example("pipe bundle", "pipe bundle --against last_week.zip", "pipe bundle --sign ~/keys/bundles.pem")
)
@click.option("--against", "earlier", type=PATH, help="Then compare it with this earlier bundle.")
@click.option("--sign", "key", type=PATH, help="Sign it with this key; `pipe key new` makes one.")
def bundle(earlier: Path | None, key: Path | None) -> None:
    """Pack graphs, contract and runtime into dist/bundle.zip.

    Exits 3 when the graphs did not pass parity.
    """
    from export.bundle import stage

    if earlier is None:
        done(stage.bundle(project_for("bundle"), key), "bundle")
        return
    from export.against.earlier_bundle import compare, open_earlier_bundle

    with open_earlier_bundle(earlier, current_project()) as opened:  # first, since bundling may replace it
        say([stage.bundle(project_for("bundle"), key).headline])
        comparison = compare(opened, current_project())
    say(comparison.table.split("\n"))
    done(comparison, "bundle")


STAGES = (extract, augment, split, train, evaluate, export, parity, report, bundle)
