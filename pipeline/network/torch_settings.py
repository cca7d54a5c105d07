"""What every stage that runs a network in torch sets first: exact float32, and memory that stays with the process."""

from __future__ import annotations

import ctypes
import sys

import torch

# Of glibc's malloc.h; Python's standard library has no names for them.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEPT_BYTES = 1 << 30  # the feature maps of most networks are smaller


def set_up_torch() -> None:
    """Set what holds for the whole process; a stage calls it before it runs a network."""
    forbid_tf32()
    keep_freed_memory()


def forbid_tf32() -> None:
    """Forbid TF32, so that float32 is float32 on a GPU too."""
    # The newer fp32_precision settings break torch.onnx.export where both run in one process.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def keep_freed_memory() -> None:
    """Let glibc keep up to 1 GiB that was freed, instead of giving it back to the system.

    The next batch then needs no new pages. By default each feature map of more than 32 MB comes from the system and
    goes back to it, in every layer of every batch. The system fills its pages with zeros each time, which takes a
    seventh to a sixth of a training on a processor (`benchmarks/freed_memory.py`). Other C libraries have no such
    setting, and nothing changes there.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
