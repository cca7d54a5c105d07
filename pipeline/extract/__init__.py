"""Stage `extract`: turns recordings into frames with true presentation times, and screens the frames.

Reads `data/raw/`. Writes `data/frames/`, `data/frames.csv`, `data/fingerprints/` and `reports/extract.json`.
Imports `base`, `media` and `runtime`.
"""
