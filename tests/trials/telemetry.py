"""Runs the chain, the device's commands and DVC where every address is this machine, and lists whom they call.

python -m tests.trials.telemetry [--work build/telemetry]

Needs root and iproute2. In a network namespace of its own all addresses are routed to the loopback interface. So a call
really begins: its first packet leaves the program and is then refused. A raw socket on the interface sees the packet,
whatever library, process or system call sent it. Packets to 127.0.0.0/8 and ::1 stay inside the machine and do not
count; questions for a name always count. A command has ended when the last process that it started has ended, also a
daemon. Each command gets an empty home folder, and an environment that names no build server.

Ends with 1 if a command of ours calls, or if one of the planted callers is missed.
"""

from __future__ import annotations

import argparse
import ctypes
import ipaddress
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.bare_environment import bare_environment
from tests.support.command import ROOT

_INSIDE = "--inside"
_PR_SET_CHILD_SUBREAPER = 36
_EVERY_PROTOCOL, _IPV4, _IPV6 = 3, 0x0800, 0x86DD
_ETHERNET_BYTES, _TCP, _UDP, _NAMES_PORT = 14, 6, 17, 53
_SYN_ACK, _SYN = 0x12, 0x02
_LAST = ("192.0.2.254", 9)  # where the listener's own last packet goes
_HOLD_SECONDS = 20  # onnxruntime sends some seconds after it was loaded

PLANTED = {
    "a connection": "import socket; socket.socket().connect_ex(('192.0.2.1', 443))",
    "a connection by IPv6": "import socket; socket.socket(socket.AF_INET6).connect_ex(('2001:db8::1', 443))",
    "a datagram": "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 4433))",
    "a question for a name": "import socket\ntry: socket.getaddrinfo('example.org', 443)\nexcept OSError: pass",
    "a daemon": """
import os, socket
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while os.path.exists(f"/proc/{os.getsid(0)}"):  # until its parent has ended
            pass
        socket.socket().connect_ex(("192.0.2.1", 443))
    else:
        os._exit(0)
""",
}
PLAIN_ONNXRUNTIME = f"""
import onnxruntime, time
session = onnxruntime.InferenceSession("model_fp32.onnx", providers=["CPUExecutionProvider"])
time.sleep({_HOLD_SECONDS})
"""
OUR_CLASSIFIER = f"""
import time
from runtime import Classifier
Classifier.load(".").classify("golden/000.jpg")
time.sleep({_HOLD_SECONDS})
"""


@dataclass(frozen=True)
class Command:
    """A program that is watched."""

    name: str
    arguments: Sequence[str]
    folder: Path
    is_planted: bool = False  # it calls, and must be seen


class Listener:
    """Collects where the packets on the loopback interface go that would leave the machine."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERY_PROTOCOL))
        self._socket.bind(("lo", 0))
        self._called: dict[str, None] = {}
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        last = f"{_LAST[0]} port {_LAST[1]}"
        while (target := target_of(self._socket.recv(65536))) != last:
            if target:
                self._called[target] = None

    def stop(self) -> list[str]:
        """Send a last packet, wait until it is seen, and return whom the packets before it went to."""
        with socket.socket(type=socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", _LAST)
        self._thread.join()
        self._socket.close()
        return list(self._called)


def target_of(packet: bytes) -> str | None:
    """Return the address and port that a packet calls, or the name that it asks for; None for all other packets."""
    kind, data = int.from_bytes(packet[12:14], "big"), packet[_ETHERNET_BYTES:]
    if kind == _IPV4:
        protocol, target, data = data[9], ipaddress.ip_address(data[16:20]), data[4 * (data[0] & 15) :]
    elif kind == _IPV6:
        protocol, target, data = data[6], ipaddress.ip_address(data[24:40]), data[40:]
    else:
        return None
    port = int.from_bytes(data[2:4], "big")
    is_call = protocol == _UDP or (protocol == _TCP and data[13] & _SYN_ACK == _SYN)
    if is_call and port == _NAMES_PORT:
        return f"name {_name_asked_for(data[8:])}" if protocol == _UDP else f"name server {target}"
    return f"{target} port {port}" if is_call and not target.is_loopback else None


def _name_asked_for(question: bytes) -> str:
    """Read the name in a DNS question: parts, each behind its length."""
    parts, at = [], 12
    while at < len(question) and question[at]:
        parts.append(question[at + 1 : at + 1 + question[at]].decode("ascii", "replace"))
        at += 1 + question[at]
    return ".".join(parts)


def route_every_address_to_this_machine() -> None:
    """Set up the namespace's loopback interface."""
    for command in ("link set lo up", "route add local default dev lo", "-6 route add local default dev lo"):
        subprocess.run(["ip", *command.split()], check=True)


def whom_it_calls(command: Command, work: Path) -> tuple[list[str], int]:
    """Run a command and every process that it starts to their ends. Return whom they called, and the exit code."""
    home = work / "home"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    environment = bare_environment(home)
    if "dvc" in command.arguments:
        # The program that sends DVC's analytics lies beside a module called `types`. Where Python has not loaded its
        # own one yet, that program ends with an import error and calls nobody. A safe path keeps its folder out.
        environment |= {"PYTHONPATH": str(command.folder), "PYTHONSAFEPATH": "1"}
    listener = Listener()
    with (work / "output.log").open("a", encoding="utf-8") as log:
        log.write(f"== {command.name}\n")
        log.flush()
        finished = subprocess.run(
            [sys.executable, *command.arguments],
            cwd=command.folder,
            env=environment,
            stdout=log,
            stderr=log,
            check=False,
        )
    _wait_for_orphans()
    return listener.stop(), finished.returncode


def _wait_for_orphans() -> None:
    """Wait for processes whose parents have ended; the system makes them children of this process."""
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def planted_callers(work: Path) -> list[Command]:
    """Return programs that call, each in another way, among them onnxruntime and DVC as they come."""
    callers = [Command(f"planted: {name}", ("-c", program), work, True) for name, program in PLANTED.items()]
    repository = work / "repository"
    repository.mkdir()
    subprocess.run(["git", "init", "--quiet", repository], check=True)
    return [
        *callers,
        Command("planted: onnxruntime as it comes", ("-c", PLAIN_ONNXRUNTIME), bundle_of(work), True),
        Command("planted: DVC as it comes", ("-m", "dvc", "init"), repository, True),
    ]


def ours(work: Path) -> list[Command]:
    """Return the commands that must call nobody; the first one makes the project that the others use."""
    project, bundle = work / "project", bundle_of(work)
    pipe = [
        ("demo",), ("export",), ("parity",), ("report",), ("doctor",), ("predict", "dist/bundle/golden"),
        ("explain", "dist/bundle/golden/000.jpg"), ("dataset",),
    ]  # fmt: skip
    dvc = [("status",), ("metrics", "show"), ("exp", "show", "--no-pager"), ("plots", "show"), ("repro",)]
    clip = "../../data/raw/brick/clip_1.mp4"
    device = [("selfcheck",), ("classify", "golden"), ("video", clip), ("bench", "--repeats", "1"), ("info",)]
    return [
        *(Command(f"pipe {' '.join(each)}", ("-m", "pipeline", *each), project) for each in pipe),
        *(Command(f"dvc {' '.join(each)}", ("-m", "dvc", *each), project) for each in dvc),
        *(Command(f"device: {' '.join(each)}", ("-m", "runtime", *each), bundle) for each in device),
        Command(f"device: classify, then {_HOLD_SECONDS} seconds more", ("-c", OUR_CLASSIFIER), bundle),
    ]


def bundle_of(work: Path) -> Path:
    """Return the folder of the demo's unpacked bundle."""
    return work / "project" / "dist" / "bundle"


def trial(work: Path, report: Callable[[str], None]) -> int:
    """Watch our commands and the planted callers; return the exit code."""
    route_every_address_to_this_machine()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    subprocess.run(["git", "clone", "--quiet", ROOT, work / "project"], check=True)
    report("| command | calls |\n|---|---|")
    wrong = 0
    for command in (*ours(work), *planted_callers(work)):
        called, exit_code = whom_it_calls(command, work)
        is_wrong = bool(called) != command.is_planted or (exit_code != 0 and not command.is_planted)
        wrong += is_wrong
        remark = f" (ended with {exit_code})" if exit_code and not command.is_planted else ""
        report(f"| {command.name} | {', '.join(called) or 'nobody'}{remark} |{' <- wrong' if is_wrong else ''}")
    return 1 if wrong else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the trial in a network namespace of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, default=Path("build/telemetry"), help="folder that is made anew")
    parser.add_argument(_INSIDE, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    work = options.work.resolve()
    if options.inside:
        return trial(work, lambda line: print(line, flush=True))
    if os.geteuid() != 0 or shutil.which("ip") is None:
        sys.exit("this trial needs root, and `ip` of iproute2, for a network namespace")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    again = [sys.executable, "-m", "tests.trials.telemetry", "--work", str(work), _INSIDE]
    return subprocess.run(["unshare", "--net", *again], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
