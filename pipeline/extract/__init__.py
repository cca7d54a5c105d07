"""Stage `extract`: turns recordings into frames with true presentation times, and screens the frames.

Reads `data/raw/`. Writes `data/frames/`, `data/frames.csv` and `reports/extract.json`.
Imports `base`, `media` and `runtime`.
"""
