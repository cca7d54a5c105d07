"""`pipe init` and `pipe upgrade`: a project of its own, without the toolchain's code.

Writes `dvc.yaml`, `toolchain.lock` and the other files of a project. `toolchain.lock` says which code made its results.
"""
