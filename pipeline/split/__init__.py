"""Stage `split`: every group of frames goes to train, validation or test as a whole.

Reads `data/frames.csv`, `data/fingerprints/`, `data/augmented.csv`, `data/groups.csv` and `data/split.keep.csv`, and
the frames for near duplicates. Writes `data/split.csv`, `reports/split.json` and `reports/near_duplicates.png`, and
adds new recordings to `data/split.keep.csv`. Imports `base`, `draw` and `runtime`.
"""
