"""The program that runs `runtime` in a process of its own as a device would: without torch and without our stages."""

from __future__ import annotations

# `python -c AS_ON_A_DEVICE classify …` is `python -m runtime classify …` on a device: Python refuses to import a module
# whose entry in sys.modules is None.
AS_ON_A_DEVICE = """
import runpy, sys
for name in ("torch", "torchvision", "timm", "pipeline", "export"):
    sys.modules[name] = None
runpy.run_module("runtime", run_name="__main__", alter_sys=True)
"""
