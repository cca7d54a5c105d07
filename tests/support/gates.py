"""The gates of `params.yaml`'s section `parity`, and a graph's judgement by them, with numbers that tests rely on."""

from __future__ import annotations

from export.graphs.gates import Judgement
from export.graphs.params import Fp16Gate, Fp32Gate, Int8Gate, ParityParams

GATES = ParityParams(
    fp32=Fp32Gate(max_logit_difference=3e-4, flip_margin=1e-3),
    fp16=Fp16Gate(max_flips=0.001),
    int8=Int8Gate(max_top1_drop=0.01, max_worst_class_drop=0.02, min_class_frames=10),
    golden_frames=8,
    golden_max_side=512,
)

PASSING = Judgement(
    n_samples=16,
    max_abs_logit_difference=5e-07,
    logit_range=0.875,
    top1_agreement=1.0,
    flips=0,
    flips_outside_margin=0,
    top1=0.5,
    top1_drop=0.0,
    worst_class_drop=0.0,
    unknown=0,
    unknown_flips=0,
    verdict="passed",
    reasons=(),
)
