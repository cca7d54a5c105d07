"""The commands of `pipe` that are no stage; what is heavy is imported in the body of the command that needs it."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.base.errors import PipeError
from pipeline.cli.context import done, here, section_of


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--label", required=True, help="The class that they show.")
def add(paths: tuple[Path, ...], label: str) -> None:
    """Copy videos, photos or folders of them into data/raw/LABEL/."""
    from pipeline.tools.add import add as add_paths

    done(add_paths(paths, label, here()))


@click.command()
def demo() -> None:
    """Make demo clips, run the whole chain on them and classify from the finished bundle."""
    from pipeline.tools.demo import demo as run_demo

    run_demo(here())


@click.command()
@click.argument("name", required=False)
def recipe(name: str | None) -> None:
    """Write recipe NAME into params.yaml; without NAME, list the recipes."""
    from pipeline.tools.studies.recipe import apply_recipe, list_recipes

    if name is None:
        for line in list_recipes(here()):
            click.echo(line)
        return
    done(apply_recipe(name, here()))


@click.command()
@click.argument("name")
@click.option("--row", "rows", multiple=True, help="Only this row; may be given several times.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, help="Runs of each row, with train.seed 0, 1, 2 …")
def study(name: str, rows: tuple[str, ...], seeds: int) -> None:
    """Run every row of recipe NAME as a DVC experiment; params.yaml stays as it is."""
    from pipeline.tools.studies.study import study as run_study

    done(run_study(name, rows, seeds, here()))


@click.command()
@click.argument("name", required=False)
def compare(name: str | None) -> None:
    """Table and figures of study NAME's experiments; without NAME, a table of all experiments."""
    from pipeline.tools.compare.compare import compare_all, compare_study

    done(compare_all(here()) if name is None else compare_study(name, here()))


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--bundle", type=click.Path(path_type=Path), help="A zip or folder [default: the project's graph].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "csv_path", type=click.Path(path_type=Path), help="Also write a CSV file.")
@click.option("--montage", type=click.Path(path_type=Path), help="Also draw what was classified, a PNG file.")
@click.option("--plot", type=click.Path(path_type=Path), help="Also draw every clip's timeline, a PNG file.")
def predict(
    paths: tuple[Path, ...],
    bundle: Path | None,
    as_json: bool,
    csv_path: Path | None,
    montage: Path | None,
    plot: Path | None,
) -> None:
    """Classify images, folders and videos."""
    import sys

    from pipeline.draw.sheets import check_png
    from pipeline.extract.params import ExtractParams
    from pipeline.tools.predict import answers as told
    from pipeline.tools.predict import predict as prediction
    from pipeline.tools.predict.montage import write_montage
    from pipeline.tools.predict.timeline import write_timelines
    from runtime.schema import printable

    for sheet in filter(None, (montage, plot)):
        check_png(sheet)
    params = section_of("extract", ExtractParams)
    with prediction.open_classifier(here(), bundle) as classifier:
        answers = prediction.predict(paths, classifier, params)
        if as_json:
            click.echo(printable(told.to_json(answers), getattr(sys.stdout, "encoding", None)))
        else:
            click.echo("\n".join(told.to_lines(answers)))
        if csv_path is not None:
            told.write_csv(answers, csv_path)
        if montage is not None:
            write_montage(answers, montage, classifier, params)
    if plot is not None:
        write_timelines(answers, plot)
    told.refuse_failures(answers)


@click.command()
@click.argument("images", nargs=-1, type=click.Path(path_type=Path))
@click.option("--filters", multiple=True, metavar="LAYER[:N[-M]]", help="Draw what filters of a convolution look for.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the pictures [default: reports/explain/].")
def explain(images: tuple[Path, ...], filters: tuple[str, ...], out: Path | None) -> None:
    """Draw why the checkpoint answers as it does on IMAGES: evidence, activation maps; and what filters look for."""
    from pipeline.extract.params import ExtractParams
    from pipeline.tools.explain.explain import explain as draw

    if not images and not filters:
        raise click.UsageError("name IMAGES, or a convolution with --filters")
    max_megapixels = section_of("extract", ExtractParams).max_megapixels
    done(draw(images, filters, out, round(max_megapixels * 1e6), here()))


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the sheets [default: reports/dataset/].")
def dataset(out: Path | None) -> None:
    """Look at the data before you train: counts, sizes, brightness, and a contact sheet of every class."""
    from pipeline.tools.dataset import dataset as survey

    surveyed = survey(here(), out)
    click.echo("\n".join(surveyed.lines))
    done(surveyed)


@click.command()
def doctor() -> None:
    """Look at this machine: Python, torch, onnxruntime and its providers, DVC, disk."""
    from pipeline.tools.doctor import examine

    findings = examine()
    for finding in findings:
        click.echo(finding)
    failed = [finding.name for finding in findings if finding.level == "fail"]
    if failed:
        raise PipeError(f"doctor: {', '.join(failed)}: see the lines marked fail above")


TOOLS = (add, demo, recipe, study, compare, predict, explain, dataset, doctor)
