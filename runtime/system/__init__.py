"""What the operating system brings along: kinds of files, litter, processes and their folders, terminals, processors.

Reads and writes no file of the bundle, and imports nothing of `runtime`.
"""
