"""Stage `extract`: recordings become frames with true presentation times, screened.

Reads `data/raw/`. Writes `data/frames/`, `data/frames.csv` and `reports/extract.json`.
Imports `base`, `media` and `runtime`.
"""
