"""What export and parity share: ONNX preprocessing, graphs in onnxruntime, torch's answers, and the gates.

Imports `pipeline.base`, `pipeline.network` and `runtime`. Holds the section `parity` of `params.yaml`.
"""
