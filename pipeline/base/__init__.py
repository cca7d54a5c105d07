"""What stages of several kinds share: paths, files, manifest, errors, frames, child processes, parallel work.

It imports `runtime` only. Every stage depends on this room, and a change here reruns all of them: keep the room small.
"""
