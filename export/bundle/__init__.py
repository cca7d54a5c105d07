"""Stage `bundle`: graphs, contract, golden pictures, reports and the runtime become one zip.

Reads what the earlier stages wrote, and `runtime/`. Writes `dist/bundle.zip`, unless parity did not pass. Where it is
given a key, signs the bundle.
Imports `pipeline.base` and `runtime`.
"""
