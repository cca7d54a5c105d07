"""Share a project over SSH and over S3, with real servers on this machine: push, clone, pull, and nothing left to run.

    python -m tests.trials.remotes DIR

Needs Debian's package openssh-server, and the network for pip: DVC's packages for both, and moto, which speaks S3, go
into an environment of DIR alone.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import shutil
import site
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

from tests.support.team_project import commit, git, name_person, team_project

_PACKAGES = ("dvc-ssh", "dvc-s3", "moto[server]")
_DEADLINE_SECONDS = 60.0
_SSHD_CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/id.pub
PasswordAuthentication no
StrictModes no
UsePAM no
PidFile none
Subsystem sftp internal-sftp
"""
N_CLIPS, CLIP_BYTES = 20, 1_000_000


def environment_with_remotes(folder: Path) -> Path:
    """Make an environment that has this one's packages, and DVC's for SSH and S3; its Python."""
    python = folder / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
        (packages / "parent.pth").write_text("\n".join(site.getsitepackages()), encoding="utf-8")
        subprocess.run([str(python), "-m", "pip", "install", "-qq", *_PACKAGES], check=True)
    return python


@contextlib.contextmanager
def serving(command: list[str], port: int, log: Path) -> Iterator[None]:
    """Run a server until the block ends; the block begins when the server listens."""
    with log.open("w", encoding="utf-8") as output, subprocess.Popen(command, stdout=output, stderr=output) as server:
        try:
            wait_for(port, server, log)
            yield
        finally:
            server.terminate()


def wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until something listens on a port.

    Raises:
        SystemExit: the server ended, or a minute has passed.
    """
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise SystemExit(f"the server on port {port} does not listen: {log.read_text(encoding='utf-8')}")


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def over_ssh(folder: Path, _: Path) -> Iterator[list[str]]:
    """Serve a folder by sshd; the commands that make it the remote."""
    for name in ("host_key", "id"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    port = free_port()
    (folder / "sshd_config").write_text(_SSHD_CONFIG.format(port=port, folder=folder), encoding="utf-8")
    Path("/run/sshd").mkdir(exist_ok=True)
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/bin") or "sshd"
    with serving([sshd, "-D", "-e", "-f", str(folder / "sshd_config")], port, folder / "sshd.log"):
        yield [
            f"dvc remote add --default store ssh://{getpass.getuser()}@127.0.0.1:{port}{folder}/store",
            f"dvc remote modify --local store keyfile {folder}/id",
        ]


@contextlib.contextmanager
def over_s3(folder: Path, python: Path) -> Iterator[list[str]]:
    """Serve a bucket by moto; the commands that make it the remote."""
    port = free_port()
    with serving([str(python.with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)], port, folder / "moto.log"):
        connection = HTTPConnection("127.0.0.1", port)
        connection.request("PUT", "/bucket")
        connection.getresponse().close()
        yield [
            "dvc remote add --default store s3://bucket/recordings",
            f"dvc remote modify store endpointurl http://127.0.0.1:{port}",
            "dvc remote modify --local store access_key_id tried",
            "dvc remote modify --local store secret_access_key tried",
        ]


def type_line(project: Path, line: str, python: Path) -> str:
    """Run a line of git, `dvc` or `pipe`, the latter two by the trial's own environment; what it printed.

    Raises:
        SystemExit: it failed.
    """
    words = shlex.split(line)
    modules = {"dvc": "dvc", "pipe": "pipeline"}
    command = [str(python), "-m", modules[words[0]], *words[1:]] if words[0] in modules else words
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    finished = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise SystemExit(f"{line}: {finished.stdout}{finished.stderr}")
    return finished.stdout


def share(folder: Path, setup: list[str], python: Path) -> dict[str, float]:
    """Push a project to the remote, clone it, pull; the seconds of each.

    Raises:
        SystemExit: a command failed, or the clone differs.
    """
    ann, bob = team_project(folder / "ann"), folder / "bob"
    film = folder / "film"
    film.mkdir()
    for number in range(N_CLIPS):  # text, since the stages that stand for the chain read it
        (film / f"{number}.mp4").write_text(os.urandom(CLIP_BYTES // 2).hex(), encoding="ascii")
    for line in [f"pipe add {film} --label flake", "dvc repro", *setup]:
        type_line(ann.root, line, python)
    commit(ann.root, "Share")
    seconds = {"push": timed(ann.root, "dvc push", python)}
    git(folder, "clone", "--quiet", "ann", "bob")
    name_person(bob)
    for line in (line for line in setup if "--local" in line):  # keys are not in git
        type_line(bob, line, python)
    seconds["pull"] = timed(bob, "dvc pull", python)
    if "Running stage" in type_line(bob, "dvc repro", python) or git(bob, "status", "--porcelain"):
        raise SystemExit("the clone changed")
    for path in (path for path in ann.raw.rglob("*") if path.is_file()):
        if (bob / path.relative_to(ann.root)).read_bytes() != path.read_bytes():
            raise SystemExit(f"{path}: differs in the clone")
    return seconds


def timed(project: Path, line: str, python: Path) -> float:
    """Run a line; how many seconds it took."""
    started = time.monotonic()
    type_line(project, line, python)
    return time.monotonic() - started


def main() -> None:
    """Share a project by both servers, and print the seconds."""
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    python = environment_with_remotes(folder)
    for name, serve in (("ssh", over_ssh), ("s3", over_s3)):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
        with serve(folder / name, python) as setup:
            seconds = share(folder / name, setup, python)
        shown = ", ".join(f"{what} {taken:.1f} s" for what, taken in seconds.items())
        print(f"{name}: {N_CLIPS} clips of {CLIP_BYTES / 1e6:.0f} MB: {shown}")


if __name__ == "__main__":
    main()
