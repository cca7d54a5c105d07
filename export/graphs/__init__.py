"""What export and parity share: the ONNX preprocessing, graphs in onnxruntime, torch's logits, and the gates.

Imports `pipeline.base`, `pipeline.network` and `runtime`. Holds the section `parity` of `params.yaml`.
"""
