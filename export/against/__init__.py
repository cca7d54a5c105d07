"""Comparisons on request: of the graph with another library's resize, and of a bundle with an earlier one.

Imports `export.graphs`, `pipeline.base`, `pipeline.network` and `runtime`.
"""
