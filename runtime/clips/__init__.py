"""Reading of clips: opens and decodes them, and turns frames into upright 8-bit RGB. Built on PyAV.

The stage `extract` and the device read clips by this code, so that a frame has the same pixels on both.
"""
