"""`pipe recipe` and `pipe study`: recipes, and their rows run as DVC experiments.

Reads `recipes/` and DVC's experiments in git; writes `params.yaml` and new experiments.
"""
