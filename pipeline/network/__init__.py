"""The network: architectures, backbones, heads, the one preprocessing, inference, and the checkpoint.

Imports `base` and `runtime`. Holds the sections `model` and `image` of `params.yaml`.
"""
