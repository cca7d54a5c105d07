"""Stage `evaluate`: judges the checkpoint on held-out frames, per frame and per clip, with intervals.

Reads the frames, `data/split.csv`, `reports/split.json`, `reports/train/` and the checkpoint. Writes
`reports/evaluate.json`, `reports/metrics.json`, `reports/predictions.csv` and `reports/plots/`.
Imports `base`, `draw`, `network` and `runtime`.
"""
