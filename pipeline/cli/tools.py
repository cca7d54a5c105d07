"""The commands that are no stage, by section of the help. Each imports its heavy libraries in its own body."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.base.errors import PipeError
from pipeline.cli.context import current_project, done, say, section_of
from pipeline.cli.help import example
from pipeline.cli.paths import PATH


@click.command(epilog=example("pipe init materials"))
@click.argument("folder", metavar="DIR", type=PATH)
def init(folder: Path) -> None:
    """Make a project in the new or empty folder DIR.

    The project has git, DVC, the chain and params.yaml, and none of the toolchain's code.
    """
    from pipeline.tools.project.init import init as make_project

    done(make_project(folder), "init", folder=str(folder))


@click.command(epilog=example("pipe upgrade"))
def upgrade() -> None:
    """Take the installed version over, and name what runs again.

    Writes toolchain.lock, and brings dvc.yaml to this version unless you edited it.
    """
    from pipeline.tools.project.upgrade import upgrade as upgrade_project

    done(upgrade_project(current_project()), "upgrade")


@click.command(epilog=example("pipe demo"))
def demo() -> None:
    """Film demo clips, run the chain, and classify with the bundle.

    The clips come from a virtual camera. The project's data/raw must be empty. Outside a project, the demo makes one.
    """
    from pipeline.tools.demo.demo import demo as run_demo

    done(run_demo(current_project()), "demo")


@click.command(epilog=example("pipe recipe", "pipe recipe demo"))
@click.argument("name", required=False)
def recipe(name: str | None) -> None:
    """Write recipe NAME into params.yaml; without NAME, list all."""
    from pipeline.tools.studies.recipe import apply_recipe, list_recipes

    if name is None:
        say(list_recipes(current_project()))
        return
    done(apply_recipe(name, current_project()), "recipe")


@click.command(
    epilog=example(
        "pipe study graphite", "pipe study graphite --row VGG16 --seeds 3", "pipe study graphite --small --jobs 2"
    )
)
@click.argument("name")
@click.option("--row", "rows", multiple=True, help="Run only this row; may be given several times.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, help="Runs of each row, with train.seed 0, 1, 2 …")
@click.option("--small", is_flag=True, help="Try every row on few small pictures; the numbers mean nothing.")
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, help="Rows at a time; from 2 on in copies of the project."
)
def study(name: str, rows: tuple[str, ...], seeds: int, small: bool, jobs: int) -> None:
    """Run every row of recipe NAME as a DVC experiment.

    params.yaml is afterwards as it was before.
    """
    from pipeline.tools.studies.study import study as run_study

    report = run_study(name, rows, seeds, current_project(), small=small, jobs=jobs)
    done(report, "study", name=f"{name} --small" if small else name)


@click.command(epilog=example("pipe compare graphite", "pipe compare"))
@click.argument("name", required=False)
@click.option("--small", is_flag=True, help="Compare the runs of `pipe study NAME --small`.")
def compare(name: str | None, small: bool) -> None:
    """Put the experiments of study NAME into a table and figures.

    Without NAME, writes a table of all experiments.
    """
    from pipeline.tools.compare.compare import compare_all, compare_study

    if name is None and small:
        raise click.UsageError("name the study that --small belongs to")
    project = current_project()
    done(compare_all(project) if name is None else compare_study(name, project, small=small), "compare")


@click.command(
    epilog=example(
        "pipe predict photo.jpg walk.mp4",
        "pipe predict photos/ --csv answers.csv --montage sheet.png",
        "pipe predict photo.jpg --bundle dist/bundle.zip",
    )
)
@click.argument("paths", nargs=-1, required=True, type=PATH)
@click.option("--bundle", type=PATH, help="A zip or folder [default: the project's graph].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "csv_path", type=PATH, help="Also write the answers to a CSV file.")
@click.option("--montage", type=PATH, help="Also draw the classified pictures, a PNG file.")
@click.option("--plot", type=PATH, help="Also draw every clip's timeline, a PNG file.")
def predict(
    paths: tuple[Path, ...],
    bundle: Path | None,
    as_json: bool,
    csv_path: Path | None,
    montage: Path | None,
    plot: Path | None,
) -> None:
    """Classify photos, clips, and folders of them."""
    import sys

    from pipeline.base.files import check_output
    from pipeline.base.progress import warn
    from pipeline.draw.sheets import check_png
    from pipeline.extract.params import ExtractParams
    from pipeline.tools.predict import answers as told
    from pipeline.tools.predict import predict as prediction
    from pipeline.tools.predict.montage import write_montage
    from pipeline.tools.predict.timeline import write_timelines
    from runtime.schema import printable

    for sheet in filter(None, (montage, plot)):
        check_png(sheet)
    outputs = [path for path in (csv_path, montage, plot) if path is not None]
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise click.UsageError("--csv, --montage and --plot name one file; expected another for each")
    files = prediction.files_of(paths)
    for path in outputs:
        check_output(path, files)
    params = section_of("extract", ExtractParams)
    with prediction.open_classifier(current_project(), bundle) as named:
        classifier = named.classifier
        warn(named.headline)
        answers = prediction.predict(files, classifier, params)
        try:
            if as_json:
                click.echo(printable(told.to_json(answers), getattr(sys.stdout, "encoding", None)))
            else:
                say(told.to_lines(answers))
        finally:  # the reader of standard output may have ended early
            if csv_path is not None:
                told.write_csv(answers, csv_path)
            if montage is not None:
                write_montage(answers, montage, classifier, params)
    if plot is not None and (advice := write_timelines(answers, plot)):
        click.echo(f"warning: {plot}: {advice}", err=True)
    told.refuse_failures(answers)


@click.command(
    epilog=example("pipe explain photo.jpg", "pipe explain --filters features.10", "pipe explain photo.jpg --out why/")
)
@click.argument("images", nargs=-1, type=PATH)
@click.option("--filters", multiple=True, metavar="LAYER[:N[-M]]", help="Draw what filters of a convolution look for.")
@click.option("--out", type=PATH, help="Folder for the pictures [default: reports/explain/].")
def explain(images: tuple[Path, ...], filters: tuple[str, ...], out: Path | None) -> None:
    """Draw why the network answers as it does on IMAGES.

    Draws evidence (Grad-CAM) and activation maps of IMAGES, and the patterns that filters respond to.
    """
    from pipeline.extract.params import ExtractParams
    from pipeline.tools.explain.explain import explain as draw

    if not images and not filters:
        raise click.UsageError("name IMAGES, or a convolution with --filters")
    max_megapixels = section_of("extract", ExtractParams).max_megapixels
    done(draw(images, filters, out, round(max_megapixels * 1e6), current_project()), "explain")


@click.command(epilog=example("pipe dataset"))
@click.option("--out", type=PATH, help="Folder for the sheets [default: reports/dataset/].")
def dataset(out: Path | None) -> None:
    """Count the frames and draw contact sheets, before you train.

    Prints counts, sizes and brightness, and draws a contact sheet of every class.
    """
    from pipeline.tools.dataset import dataset as describe_dataset

    report = describe_dataset(current_project(), out)
    say(report.lines)
    done(report, "dataset")


@click.command(epilog=example("pipe status"))
def status() -> None:
    """Say what the project holds, what is stale, and what to do next."""
    from pipeline.extract.params import ExtractParams
    from pipeline.tools.status.status import status as look_at_project

    report = look_at_project(current_project(), section_of("extract", ExtractParams).layout)
    say([*report.lines, f"{report.headline}; next: {report.next_command}"])  # what is next depends on what it found


@click.command(epilog=example("pipe clean --dry-run", "pipe clean"))
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def clean(*, dry_run: bool) -> None:
    """Delete from .cache and DVC's cache what is not in use.

    What a commit, an experiment or a stash needs stays, and so do recordings, frames and models.
    """
    from pipeline.tools.clean.clean import clean as delete_unused

    report = delete_unused(current_project(), dry_run=dry_run)
    say(report.lines)
    if dry_run and report.waste:
        done(report, "clean --dry-run")
        return
    done(report, "clean")


@click.command(epilog=example("pipe doctor"))
def doctor() -> None:
    """Check this machine: Python, libraries, providers, disk."""
    from pipeline.tools.doctor import examine

    report = examine(current_project())
    say(map(str, report.checks))
    if report.failed:
        raise PipeError(f"doctor: {', '.join(report.failed)}: see the lines marked fail above")
    done(report, "doctor")


@click.command(
    epilog=example(
        "pipe phone --ort onnxruntime-web-1.30.0.tgz",
        "pipe phone --ort onnxruntime-web-1.30.0.tgz --single-file",
        "pipe phone --serve",
    )
)
@click.option("--bundle", type=PATH, help="A bundle's zip [default: dist/bundle.zip].")
@click.option("--ort", type=PATH, help="The package of onnxruntime-web, as `npm pack` writes it.")
@click.option("--out", type=PATH, help="Folder or file to write [default: dist/phone/].")
@click.option("--single-file", "single", is_flag=True, help="Write one HTML file, dist/phone.html, for no server.")
@click.option(
    "--serve", "is_served", is_flag=True, help="Serve the page in the local network; with --ort, make it first."
)
def phone(bundle: Path | None, ort: Path | None, out: Path | None, *, single: bool, is_served: bool) -> None:
    """Make a page that classifies in a phone's browser.

    The page checks itself before its first answer, and nothing leaves it.
    """
    from export.phone.folder import folder_of
    from export.phone.folder import phone as write_page

    if single and is_served:
        raise click.UsageError("--single-file needs no server")
    if is_served and ort is None and bundle is None:
        _serve(folder_of(current_project(), out), current_project().bundle_zip)
        return
    report = write_page(current_project(), bundle, ort, out, single=single)
    if is_served:
        say([report.headline])
        _serve(report.path, None)
    elif single:
        done(report, "phone --single-file")
    else:
        done(report, "phone")


def _serve(folder: Path, bundle_zip: Path | None) -> None:
    from export.phone.serve import serve

    serve(folder, bundle_zip)


@click.group(epilog=example("pipe key new ~/keys/bundles.pem", "pipe key export ~/keys/bundles.pem"))
def key() -> None:
    """Make a key that signs bundles, and a verifier for the device.

    `pipe bundle --sign KEY` signs the bundle. The verifier tells a device who made it, before it is unpacked.
    """


@key.command("new", epilog=example("pipe key new ~/keys/bundles.pem"))
@click.argument("path", metavar="KEY", type=PATH)
def key_new(path: Path) -> None:
    """Write a new private key into the file KEY.

    Only its owner may read the file. An existing file is never overwritten.
    """
    from pipeline.tools.key import new_key

    done(new_key(path), "key new", key=str(path))


@key.command("export", epilog=example("pipe key export ~/keys/bundles.pem"))
@click.argument("path", metavar="KEY", type=PATH)
def key_export(path: Path) -> None:
    """Write dist/verify_bundle.py, which holds the public half of KEY."""
    from pipeline.tools.key import export_verifier

    done(export_verifier(path, current_project()), "key export", key=str(path))


LOOK = (status, dataset, predict, explain)
STUDIES = (recipe, study, compare)
START = (init, upgrade, doctor, clean, demo)
PHONE = (phone,)
SIGN = (key,)
