"""`pipe predict`: classify photos, folders and clips with the project's graph or with a bundle's.

Reads `models/contract.json`, its graphs, and the files to classify; writes what `--csv`, `--montage`, `--plot` name.
"""
