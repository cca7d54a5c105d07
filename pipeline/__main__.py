"""`python -m pipeline` is `pipe`; `dvc.yaml` uses it, so that a copy of the project runs the code that lies in it."""

from pipeline.cli.main import main

main()
