"""Stage `bundle`: graphs, contract, golden pictures, reports and the runtime become one zip.

Reads what the stages before it wrote, and `runtime/`. Writes `dist/bundle.zip`; refuses when parity said no.
Imports `pipeline.base` and `runtime`.
"""
