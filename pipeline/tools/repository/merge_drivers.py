"""The programs that merge what `.gitattributes` names. Git takes none from a repository, so each clone sets them up."""

from __future__ import annotations

# By the name of the driver: the command, as `git config merge.<name>.driver` takes it.
MERGE_DRIVERS = {
    "dvc": "dvc git-hook merge-driver --ancestor %O --our %A --their %B",  # as `dvc install` sets it
    "ours": "true",
}


def setup_lines() -> dict[str, str]:
    """The line of a shell that sets each driver up, by the key of git's configuration."""
    quoted = {name: f'"{command}"' if " " in command else command for name, command in MERGE_DRIVERS.items()}
    return {f"merge.{name}.driver": f"git config merge.{name}.driver {command}" for name, command in quoted.items()}
