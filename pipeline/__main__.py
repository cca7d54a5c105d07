"""`python -m pipeline` is `pipe`. `dvc.yaml` uses it, so that a copy of the project runs its own code."""

from pipeline.cli.main import main

main()
