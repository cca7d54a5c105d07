"""Recordings: finds clips and photos, and reads photos. `runtime.clips` reads clips, here and on the device.

Imports `base` and `runtime`. Used by the stage `extract` and by tools that read clips.
"""
