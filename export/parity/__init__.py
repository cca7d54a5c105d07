"""Stage `parity`: compares every graph with torch on every held-out frame.

Reads the frames, `data/split.csv`, the checkpoint, the graphs and the contract. Writes `reports/parity.json`,
`reports/flips.csv`, `reports/flips.png` and `models/golden/`.
Imports `export.graphs`, `pipeline.base`, `pipeline.draw`, `pipeline.network` and `runtime`.
"""
