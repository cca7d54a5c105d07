"""The gates of `params.yaml`'s section `parity`, with numbers that tests can rely on."""

from __future__ import annotations

from export.graphs.params import Fp16Gate, Fp32Gate, Int8Gate, ParityParams

GATES = ParityParams(
    fp32=Fp32Gate(max_logit_difference=3e-4, flip_margin=1e-3),
    fp16=Fp16Gate(max_flips=0.001),
    int8=Int8Gate(max_top1_drop=0.01, max_worst_class_drop=0.02, min_class_frames=10),
    golden_frames=8,
    golden_max_side=512,
)
