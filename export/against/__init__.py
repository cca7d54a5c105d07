"""Comparisons on request: with another library's resize, and with an earlier bundle.

Imports `export.graphs`, `pipeline.base`, `pipeline.network` and `runtime`.
"""
