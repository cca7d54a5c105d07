"""Stage `train`: fits the network, or only its head on cached features of a frozen backbone.

Reads the frames, the augmented copies and `data/split.csv`. Writes `models/checkpoint.pt` and `reports/train/`.
Imports `base`, `network` and `runtime`.
"""
