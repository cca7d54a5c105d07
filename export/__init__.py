"""From the checkpoint to the bundle: the stages `export`, `parity` and `bundle`.

Each stage has its room. `graphs` holds what export and parity share, `against` the comparisons on request.
"""
