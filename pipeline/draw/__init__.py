"""Pictures for people: sheets of frames in a grid, and the common look of charts.

Imports `base` and `runtime`.
"""
