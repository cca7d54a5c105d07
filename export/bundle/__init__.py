"""Stage `bundle`: graphs, contract, golden pictures, reports and the runtime become one zip.

Reads what the earlier stages wrote, and `runtime/`. Writes `dist/bundle.zip`, unless parity did not pass.
Imports `pipeline.base` and `runtime`.
"""
