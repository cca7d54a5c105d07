"""Stage `augment`: frames become mirrored, turned and warped copies.

Reads `data/frames/` and `data/frames.csv`. Writes `data/augmented/` and `data/augmented.csv`.
Imports `base` and `runtime`.
"""
