"""Recordings and photos: finding, opening and decoding them, and turning what was decoded into upright 8-bit RGB.

Imports `base` and `runtime`. Used by the stage `extract` and by tools that read clips.
"""
