"""The commands that add and correct recordings. Each imports its heavy libraries in its own body."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from pipeline.cli.context import current_project, done, section_of
from pipeline.cli.help import example
from pipeline.cli.paths import PATH

if TYPE_CHECKING:
    from pipeline.tools.adding.numbered_photos import Numbering


@click.command(
    epilog=example(
        "pipe add ~/film/IMG_0412.MOV ~/film/close_ups/ --label flake",
        "pipe add ~/phone2/IMG_0412.MOV --label flake --as phone2_IMG_0412",
        "pipe add ~/photos/carp/ --label carp --number",
        "pipe add --from-phone samples.zip",
    )
)
@click.argument("paths", nargs=-1, type=PATH)
@click.option("--label", help="The class that the recordings show.")
@click.option("--from-phone", "phone_zip", type=PATH, help="The samples of the phone's page.")
@click.option("--number", is_flag=True, help="Number the photos of the class, as JPEG: 0001.jpg, 0002.jpg …")
@click.option(
    "--as", "name", metavar="NAME", help="Another name for the one file, or a folder NAME for those of the one folder."
)
@click.option("--no-dvc", is_flag=True, help="Let DVC keep no second copy, as of a huge folder.")
def add(
    paths: tuple[Path, ...], label: str | None, phone_zip: Path | None, *, number: bool, name: str | None, no_dvc: bool
) -> None:
    """Copy videos, photos or folders of them into data/raw/LABEL/.

    DVC tracks data/raw in data/raw.dvc, so that older versions and colleagues get the recordings too.
    """
    if phone_zip is not None:
        from pipeline.tools.adding.from_phone import add_from_phone

        if paths or label is not None or number or name is not None:
            raise click.UsageError("--from-phone goes alone: its samples have their labels")
        done(add_from_phone(phone_zip, current_project(), no_dvc=no_dvc), "add")
        return
    if not paths or label is None:
        raise click.UsageError("name PATHS and their --label, or --from-phone ZIP")
    from pipeline.tools.adding.add import Renaming, add_and_track

    if name is not None and (number or len(paths) > 1):
        raise click.UsageError("--as goes with one PATH, and without --number")
    names = None if name is None else Renaming(name)
    done(add_and_track(paths, label, current_project(), _numbering() if number else names, no_dvc=no_dvc), "add")


def _numbering() -> Numbering:
    from pipeline.extract.params import ExtractParams, PhotoLevels
    from pipeline.tools.adding.numbered_photos import Numbering

    params = section_of("extract", ExtractParams)
    sample_bits = section_of("image", PhotoLevels).sample_bits
    return Numbering(round(params.max_megapixels * 1e6), params.jpeg_quality, sample_bits)


@click.command(epilog=example("pipe relabel data/raw/flake/IMG_0412.MOV --label spherical"))
@click.argument("sources", nargs=-1, required=True, type=PATH)
@click.option("--label", required=True, help="The class that the recordings show.")
def relabel(sources: tuple[Path, ...], label: str) -> None:
    """Give recordings in data/raw another class.

    Their lines in data/groups.csv follow. Clips are not decoded again.
    """
    from pipeline.tools.corrections.relabel import relabel as relabel_sources

    done(relabel_sources(sources, label, current_project(), _layout()), "relabel")


@click.command(epilog=example("pipe remove data/raw/flake/IMG_0412.MOV"))
@click.argument("sources", nargs=-1, required=True, type=PATH)
def remove(sources: tuple[Path, ...]) -> None:
    """Take recordings out of data/raw.

    Their files move to data/removed/, which no stage reads. Their lines in data/groups.csv go.
    """
    from pipeline.tools.corrections.remove import remove as remove_sources

    done(remove_sources(sources, current_project(), _layout()), "remove")


@click.command(epilog=example("pipe rename flake flake_graphite"))
@click.argument("label", metavar="CLASS")
@click.argument("new_label", metavar="NEW")
def rename(label: str, new_label: str) -> None:
    """Give a class another name.

    The lines of its recordings in data/groups.csv follow. Clips are not decoded again.
    """
    from pipeline.tools.corrections.rename import rename as rename_class

    done(rename_class(label, new_label, current_project(), _layout()), "rename")


def _layout() -> Literal["class", "split"]:
    from pipeline.extract.params import ExtractParams

    return section_of("extract", ExtractParams).layout


RECORDINGS = (add, relabel, remove, rename)
