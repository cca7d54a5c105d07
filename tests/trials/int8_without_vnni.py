"""Trial of int8 on an emulated x86 processor without VNNI: the exact kernels hold, and the usual ones overflow.

python -m tests.trials.int8_without_vnni    needs qemu-x86_64 (Debian's qemu-user); 4 seconds

/proc/cpuinfo is the host's under qemu-user, so the look-up of the flag is replaced; the kernels are those of the
emulated processor. A network that overflows as planted must be seen as wrong without the exact kernels.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.unit.graphs.test_runner import ACTIVATIONS, is_exact, overflowing_graph

ROOT = Path(__file__).parents[2]
PROCESSOR = "Haswell"  # AVX2 and no VNNI
# Only numpy and the device's code: torch would take minutes to import in emulation.
CHILD = """
import json, sys
import numpy as np
from runtime import session

library, logits = session.onnxruntime(), {}
for may_overflow in (True, False):
    session._int8_may_overflow = lambda: may_overflow
    options = session.session_options(library, threads=1)
    opened = library.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    (values,) = opened.run(None, {"input": np.array(json.loads(sys.argv[2]), np.float32)})
    logits["exact" if may_overflow else "usual"] = values.tolist()
print(json.dumps(logits))
"""


def main() -> int:
    """Run the trial; return 0 when both kinds of kernels gave what is expected, else 1."""
    emulator = shutil.which("qemu-x86_64")
    if emulator is None:
        print("not run: qemu-x86_64 is not installed (apt install qemu-user)")
        return 0
    with tempfile.TemporaryDirectory(prefix="trial-") as folder:
        path = Path(folder) / "overflowing.onnx"
        path.write_bytes(overflowing_graph().SerializeToString())
        command = [
            emulator,
            "-cpu",
            PROCESSOR,
            sys.executable,
            "-c",
            CHILD,
            str(path),
            json.dumps(ACTIVATIONS.tolist()),
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        finished = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    logits = {kind: np.array(values) for kind, values in json.loads(finished.stdout).items()}
    holds = {"exact": is_exact(logits["exact"]), "usual": is_exact(logits["usual"])}
    print(
        f"on an emulated {PROCESSOR}: exact kernels {logits['exact'].tolist()}, usual ones {logits['usual'].tolist()}"
    )
    if holds == {"exact": True, "usual": False}:
        print("passed: the exact kernels hold, and the planted overflow is seen without them")
        return 0
    print(f"failed: found {holds}; expected exact kernels that hold and usual ones that overflow")
    return 1


if __name__ == "__main__":
    sys.exit(main())
