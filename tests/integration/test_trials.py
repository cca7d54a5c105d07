"""The parts of the long trials that decide: whom a packet calls, which end is a fault, a bundle cut to few pictures.

The trials themselves are `tests/trials/telemetry.py`, `full_disks.py` and `arm.py`; they need root.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from export.bundle.stage import bundle
from runtime.archive import unpack
from runtime.selfcheck import selfcheck
from tests.support.tiny_bundle import draft_contract, write_project
from tests.trials.arm import PROCESSORS, Processor, System, keep_pictures, plant_fault, trial
from tests.trials.full_disks import fault_of, table
from tests.trials.telemetry import target_of

SYN, SYN_ACK, RESET = 0x02, 0x12, 0x14
QUESTION = bytes(4) + b"\0\1" + bytes(6) + b"\x06mobile\x06events\0\0\1\0\1"


def packet(target: str, protocol: int, port: int, content: bytes) -> bytes:
    """A packet as a raw socket sees it: Ethernet's header, that of IP with the target, and the ports."""
    address = ipaddress.ip_address(target)
    ports = (40000).to_bytes(2, "big") + port.to_bytes(2, "big")
    if address.version == 4:
        header = b"\x45" + bytes(8) + bytes([protocol]) + bytes(6) + address.packed
        return bytes(12) + b"\x08\x00" + header + ports + content
    return bytes(12) + b"\x86\xdd\x60" + bytes(5) + bytes([protocol]) + bytes(17) + address.packed + ports + content


def tcp(flags: int) -> bytes:
    return bytes(9) + bytes([flags]) + bytes(6)


@pytest.mark.parametrize(
    ("seen", "called"),
    [
        (packet("192.0.2.1", 6, 443, tcp(SYN)), "192.0.2.1 port 443"),
        (packet("2001:db8::1", 6, 443, tcp(SYN)), "2001:db8::1 port 443"),
        (packet("224.0.0.251", 17, 5353, bytes(8)), "224.0.0.251 port 5353"),
        (packet("192.0.2.53", 17, 53, bytes(4) + QUESTION), "name mobile.events"),
        (packet("127.0.0.53", 17, 53, bytes(4) + QUESTION), "name mobile.events"),  # a server here asks further
        (packet("127.0.0.1", 6, 443, tcp(SYN)), None),
        (packet("::1", 6, 443, tcp(SYN)), None),
        (packet("192.0.2.1", 6, 40000, tcp(RESET)), None),
        (packet("192.0.2.1", 6, 40000, tcp(SYN_ACK)), None),
        (packet("192.0.2.1", 1, 0, bytes(16)), None),  # a refusal of the system's
        (bytes(12) + b"\x08\x06" + bytes(40), None),
    ],
)
def test_a_packet_calls_an_address_or_asks_for_a_name(seen: bytes, called: str | None) -> None:
    assert target_of(seen) == called


FULL = "pipe: split: data/split.csv: the disk is full: found 0 bytes free; expected more than 1,024 bytes"


@pytest.mark.parametrize(
    ("code", "lines", "changed", "fault"),
    [
        (0, [], False, ""),
        (1, [FULL], False, ""),
        (1, [FULL, FULL], False, "2 lines"),
        (1, [], False, "0 lines"),
        (1, ["pipe: No space left on device"], False, "a line without numbers"),
        (1, [FULL], True, "an output changed or vanished"),
        (3, [FULL], False, "exit code 3"),
        (70, [FULL], False, "exit code 70"),
        (-7, [], False, "exit code -7"),
    ],
)
def test_the_trial_of_full_disks_knows_a_bad_end(code: int, lines: list[str], changed: bool, fault: str) -> None:
    assert fault_of(code, lines, changed=changed) == fault


def test_the_trial_of_full_disks_counts_by_stage() -> None:
    runs = [{"stage": "train", "code": code, "bad": bad} for code, bad in ((0, ""), (1, ""), (-7, "exit code -7"))]
    rows = table([*runs, {"stage": "split", "code": None, "bad": "did not end"}]).splitlines()
    assert rows[4:6] == ["| split | 1 | 0 | 1 |", "| train | 3 | 2 | 1 |"]
    assert rows[-1] == "| all | 4 | 2 | 2 |"


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    project = write_project(tmp_path / "project", draft_contract("fp32", "int8"))
    bundle(project)
    unpack(project.bundle_zip, tmp_path / "unpacked")
    return tmp_path / "unpacked"


def test_a_bundle_cut_to_two_pictures_is_whole_and_a_planted_fault_fails_it(unpacked: Path) -> None:
    assert selfcheck(unpacked).n_samples == 3
    keep_pictures(unpacked, 2)
    report = selfcheck(unpacked)
    assert (report.passed, report.n_samples) == (True, 2)
    labels = [sample["label"] for sample in json.loads((unpacked / "golden" / "golden.json").read_text())["samples"]]
    assert set(Counter(labels).values()) == {1}
    plant_fault(unpacked)
    report = selfcheck(unpacked)
    assert [check.passed for check in report.variants] == [False, False]


class ThisMachine(System):
    """Runs the bundle's commands here instead of on an emulated processor."""

    def run(self, processor: Processor, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "runtime", *arguments]
        return subprocess.run(command, cwd=self.bundle, capture_output=True, text=True, check=False)


def test_the_trial_of_processors_passes_a_sound_bundle_and_fails_another(
    unpacked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unpacked.rename(unpacked.with_name("bundle"))
    system = ThisMachine(unpacked.parent)
    assert trial(system, PROCESSORS[:1]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0::4] for line in lines[2:4]] == [["| cortex-a72", "passed |"]] * 2
    assert lines[4:] == ["cortex-a72: classify gave the build's label for 3 of 3 files", "a planted fault was refused"]
    assert trial(system, PROCESSORS[:1]) == 1  # the fault is still in it


def test_every_emulated_processor_is_described_as_linux_does() -> None:
    for processor in PROCESSORS:
        blocks = processor.cpuinfo(2).strip().split("\n\n")
        described = [dict(line.split("\t: ") for line in block.splitlines() if "\t: " in line) for block in blocks]
        assert [values["processor"] for values in described] == ["0", "1"]
        assert {"asimd", "crc32"} <= set(described[0]["Features"].split())
    half_precision = {processor.name for processor in PROCESSORS if "asimdhp" in processor.features.split()}
    assert half_precision == {"cortex-a76", "max"}
