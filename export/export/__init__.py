"""Stage `export`: the checkpoint becomes ONNX graphs and the contract with the device.

Reads the checkpoint, `data/split.csv` and its frames. Writes `models/onnx/`, `models/contract.json` and
`reports/export.json`.
Imports `export.graphs`, `pipeline.base`, `pipeline.network` and `runtime`.
"""
