"""`pipe explain`: draw why the checkpoint answers as it does.

Reads `models/checkpoint.pt` and photos; writes `reports/explain/`, or the folder that `--out` names.
"""
