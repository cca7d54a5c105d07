"""Recordings: finds, opens and decodes clips and photos, and turns decoded pictures into upright 8-bit RGB.

Imports `base` and `runtime`. Used by the stage `extract` and by tools that read clips.
"""
