"""What stages of several kinds share: paths, files, manifest, errors, frames, child processes, parallel work.

Imports `runtime` only. Every stage depends on this room, so a change here reruns everything: it stays small.
"""
