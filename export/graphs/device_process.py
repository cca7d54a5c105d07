"""The ways from a frame's pixels to logits that are held against torch: a device, a compiler, another provider."""

from __future__ import annotations

# What a device lacks: with None in sys.modules an import of it fails.
AS_ON_A_DEVICE = """
import runpy, sys
for name in ("torch", "torchvision", "timm", "pipeline", "export"):
    sys.modules[name] = None
runpy.run_module("runtime", run_name="__main__", alter_sys=True)
"""
