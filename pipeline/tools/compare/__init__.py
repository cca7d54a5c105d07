"""`pipe compare`: tables and figures of experiments.

Reads DVC's experiments out of git and `recipes/`; writes `reports/compare/`. May import `tools/studies`.
"""
